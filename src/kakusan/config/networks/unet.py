"""The options of the U-Net, `kakusan.networks.unet`, and what their "auto" comes to.

The figures behind the constants stand in benchmarks/README.md ("The automatic choice").
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from kakusan.config.facts import DataFacts, Size
from kakusan.config.networks.base import (
    FOLDED_SHARE,
    MOST_LEVELS,
    WIDEST,
    NetworkOptions,
    carries_noise,
    usual_dropout,
)
from kakusan.config.section import Auto, Range, answered, given
from kakusan.errors import SettingsError

if TYPE_CHECKING:
    from torch import nn

    from kakusan.networks.interface import Interface

FINEST = 8
"""Pixels: the lowest level of a U-Net is about this high and wide."""
ATTENDED = 256
"""Positions: levels with no more of them have attention (16 x 16, as Ho et al.)."""
MOST_PADDING = 2.0
"""Levels are left out until padding makes an image at most this much larger."""
POSITIONS = {"cpu": 32 * 32}
POSITIONS_ELSEWHERE = 64 * 64
"""Positions of the first level; larger images are folded into patches."""
FEWEST_POSITIONS = 12 * 12
"""Positions of the first level, at least, where it is folded further: smaller images lose too much."""
GROUP = 16
"""Channels of a normalization's group: fewer are slow on a CPU in bf16."""
RATE, RATE_WIDTH = 3e-3, 32
"""AdamW's step for a network of this width; it falls as 1 / width."""

LADDER = (
    Size(32, 1, folded=True, steps=0),
    Size(32, 1, folded=False, steps=2_500),
    Size(48, 1, folded=False, steps=5_000),
    Size(64, 1, folded=False, steps=8_000),
    Size(64, 2, folded=False, steps=16_000),
    Size(96, 2, folded=False, steps=32_000),
    Size(128, 2, folded=False, steps=64_000),
    Size(192, 2, folded=False, steps=128_000),
)
"""From the smallest up: a training gets the last one that it has enough steps for. Measured is where the first two
are equal (Fashion-MNIST: 1,900 steps of the second); the others follow it, about double for double the work."""
UNFOLDED = tuple(size for size in LADDER if not size.folded)
MOST_POWER = 16
"""Of Fourier features, either way: beyond it, float32 has no phases left."""
FEW_IMAGES = 500
"""Fewer than these get the smallest network: a larger one memorizes them sooner, and nothing more."""


@dataclass(frozen=True)
class UNetOptions(NetworkOptions):
    """The network, the U-Net of Ho et al. 2020, for signals, images and volumes. auto: by the size of the images, the
    device and the length of the training."""

    dimensions: ClassVar[tuple[int, ...]] = (1, 2, 3)
    rows_are_independent: ClassVar[bool] = True

    kind: str = "unet"
    multipliers: tuple[int, ...] | Auto = "auto"
    """Width of each level, in units of `width`; each level halves the resolution."""
    widths: tuple[int, ...] = ()
    """Channels of each level one by one, in place of `width` and `multipliers`."""
    blocks: Annotated[int | Auto, Range(1, 64)] = "auto"
    """Residual blocks a level (one more on the way up)."""
    attention: tuple[int, ...] | Auto = "auto"
    """Levels with attention, 0 being the full resolution."""
    up_attention: tuple[int, ...] | Literal["same"] = "same"
    """Levels with attention on the way up, where they are others."""
    middle: Literal["attention", "blocks", "none"] = "attention"
    """The part at the lowest resolution: blocks with attention, without it, or nothing."""
    middle_norm: bool = True
    """Normalize before the attention of the middle."""
    middle_scale: Annotated[float, Range(1e-6, 1e6)] = 1.0
    """Divisor of the residual sums of the middle."""
    heads: Annotated[int, Range(1, 1024)] = 1
    """Attention heads, which share the channels."""
    head_width: Annotated[int, Range(0, 65_536)] = 0
    """Channels of a head, and as many heads as fit; 0: `heads` decides."""
    groups: Annotated[int | Auto, Range(1, 65_536)] = "auto"
    """Groups of a normalization."""
    norm_eps: Annotated[float, Range(0, 1)] = 1e-6
    """Epsilon added to the variance in normalizations."""
    scale_shift: bool = False
    """The timestep embedding scales and shifts the second normalization of a block, rather than is added before it."""
    pad_all_sides: bool = False
    """Pad all sides before the resolution is halved, rather than the right and the bottom."""
    frequency_shift: Annotated[float, Range(-1e6, 1e6)] = 1.0
    """Frequency shift of the sinusoidal timestep embedding: 1 (Ho et al.), 0 (Vaswani et al.)."""
    cos_first: bool = False
    """Cosines before sines."""
    time_width: Annotated[int, Range(0, 1_048_576)] = 0
    """Width of the timestep embedding; 0: four times the first level's."""
    dropout: Annotated[float | Auto, Range(0, 0.99)] = "auto"
    """Dropout in the residual blocks; auto: more, the more often each image is seen."""
    patch: Annotated[int | Auto, Range(1, 64)] = "auto"
    """Side of the pixel squares that are folded into channels before the network and unfolded after it; auto: 1, or
    more where the images are too large for the device."""
    fourier_features: tuple[int, ...] = ()
    """Numbers n: the network sees sin and cos of 2^n pi x_t too (Kingma et al. 2021), for bits/dim of levels, which
    are half a turn apart at the largest n and a quarter at the next: 6 7 for 256 levels, 2 3 for the 17 of the
    digits."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, levels in (("multipliers", given(self.multipliers) or ()), ("widths", self.widths)):
            if len(levels) > MOST_LEVELS or max(levels, default=1) > WIDEST:
                raise SettingsError(f"network.{name} is at most {MOST_LEVELS} numbers of at most {WIDEST:,}")
        powers = self.fourier_features
        if len(set(powers)) != len(powers) or not all(-MOST_POWER <= n <= MOST_POWER for n in powers):
            raise SettingsError(
                f"network.fourier_features are different whole numbers n of at most {MOST_POWER}, for 2^n pi x_t,"
                f" not {', '.join(map(str, powers))}",
                "usual for 256 levels: 6 7",
            )

    @property
    def replaced(self) -> frozenset[str]:
        return frozenset({"width", "multipliers"} if self.widths else ())

    def sizes(self, facts: DataFacts) -> tuple[Size, ...]:
        """One where the width is given, the smallest where there are few images."""
        if self.width != "auto" or self.widths:
            return UNFOLDED[:1]
        return LADDER[:1] if facts.count < FEW_IMAGES else LADDER

    def resolved(self, facts: DataFacts, size: Size, device: str) -> Self:
        patch = _patch(facts, device, size) if self.patch == "auto" else self.patch
        width = self.widths[0] if self.widths else size.width if self.width == "auto" else self.width
        sides = tuple(math.ceil(side / patch) for side in facts.shape[1:])
        multipliers = (1,) * len(self.widths) or self.multipliers
        if multipliers == "auto":
            multipliers = (1,) + (2,) * _halvings(sides)
        attention = _attending(sides, len(multipliers)) if self.attention == "auto" else self.attention
        return replace(
            self,
            width=width,
            blocks=size.blocks if self.blocks == "auto" else self.blocks,
            multipliers=multipliers,
            attention=attention,
            groups=_groups(width) if self.groups == "auto" else self.groups,
            patch=patch,
        )

    def seen_for(self, epochs: float) -> Self:
        return replace(self, dropout=usual_dropout(epochs)) if self.dropout == "auto" else self

    @property
    def usual_rate(self) -> float:
        return RATE * RATE_WIDTH / answered(self.width)

    def passes_noise(self, shape: tuple[int, ...]) -> bool:
        first = self.widths[0] if self.widths else answered(self.width)
        return carries_noise(first, self.values_at_a_position(shape))

    def build(self, of: "Interface") -> "nn.Module":
        from kakusan.networks import UNet

        own = {name: value for name, value in asdict(self).items() if name != "kind"}
        return UNet(**asdict(of), **own)


def _attending(sides: tuple[int, ...], levels: int) -> tuple[int, ...]:
    """The levels below the first with few enough positions."""
    positions = (math.prod(sides) / 2 ** (len(sides) * level) for level in range(1, levels))
    return tuple(level for level, count in enumerate(positions, start=1) if count <= ATTENDED)


def _groups(width: int) -> int:
    """Groups of a normalization: as many as there may be with 16 channels each, and 32 at the most."""
    return next(n for n in range(min(32, max(1, width // GROUP)), 0, -1) if width % n == 0)


def _patch(facts: DataFacts, device: str, size: Size) -> int:
    """The smallest patch, a power of two, that leaves few enough positions; the next one for folded sizes.

    Only as far as the channels carry it, and the shorter side.
    """
    channels, *sides = facts.shape
    dimensions, positions = len(sides), math.prod(sides)
    carried = FOLDED_SHARE * size.width / channels
    most, patch = POSITIONS.get(device, POSITIONS_ELSEWHERE), 1

    def fits(patch: int) -> bool:
        return patch**dimensions <= carried and patch <= min(sides)

    while fits(2 * patch) and positions / patch**dimensions > most:
        patch *= 2
    can_fold = fits(2 * patch) and positions / (2 * patch) ** dimensions >= FEWEST_POSITIONS
    return 2 * patch if size.folded and can_fold else patch


def _halvings(sides: tuple[int, ...]) -> int:
    """Halvings of the longest side down to about 8, as long as padding does not enlarge the sample by much."""
    wanted = max(1, math.ceil(math.log2(max(*sides, FINEST) / FINEST)))
    return next(n for n in range(wanted, -1, -1) if _padded(sides, n) <= MOST_PADDING * math.prod(sides))


def _padded(sides: tuple[int, ...], halvings: int) -> int:
    return math.prod(math.ceil(side / 2**halvings) * 2**halvings for side in sides)
