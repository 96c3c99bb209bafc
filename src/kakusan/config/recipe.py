"""What "auto" comes to in the network and the recipe: rules of the data, the device and the steps. No clock.

The figures behind the constants stand in benchmarks/README.md ("The automatic choice").
"""

import math
from dataclasses import dataclass, replace
from typing import Any

from kakusan.config.settings import Layout, NetworkSettings, TrainingSettings
from kakusan.errors import SettingsError

TRANSFORMER = "transformer"
"""The kind of network that predicts x_0, and by its loss, unless another target is chosen."""

FINEST = 8
"""Pixels: the lowest level of a U-Net is about this high and wide."""
ATTENDED = 256
"""Positions: levels with no more of them have attention (16 x 16, as Ho et al.)."""
MOST_PADDING = 2.0
"""Levels are left out until padding makes an image at most this much larger."""
POSITIONS = {"cpu": 32 * 32}
POSITIONS_ELSEWHERE = 64 * 64
"""Positions of the first level; larger images are folded into patches."""
FOLDED_SHARE = 0.5
"""Of the first level's channels, at most so many values may be folded into a position: what passes through fewer
channels keeps its noise (photographs in patches of 4, 48 values through 32 channels: noise after 2,000 steps)."""
TOKENS = {"cpu": 8 * 8}
TOKENS_ELSEWHERE = 16 * 16
"""Patches of a transformer: its patch is the smallest power of two that leaves no more (Li & He 2025 have 16 x 16)."""
LARGEST_PATCH = 64
TOKEN_WIDTH, TRANSFORMER_BLOCKS = 6, 6
"""A transformer's width and blocks, in units of those of the U-Net in its place: 192 and 6 in the smallest, 768 and 12
in the sixth, which is the base size of the papers."""
HEAD_WIDTH = 64
FEWEST_POSITIONS = 12 * 12
"""Of the first level, where it is folded further: smaller images lose too much."""
GROUP = 16
"""Channels of a normalization's group: fewer are slow on a CPU in bf16."""

BATCH = {"cpu": 64}
BATCH_ELSEWHERE = 128
POINTS_BATCH = 256
RATE, RATE_WIDTH = 3e-3, 32
"""AdamW's step for a U-Net of this width; it falls as 1 / width."""
POINTS_RATE = 2e-3
TOKEN_RATE_WIDTH = 192
"""Of a transformer that has this step."""
LONG = 10_000
"""Steps; in longer trainings the rate falls as the square root of their number."""
LOWEST_RATE = 2e-4
FINE_TUNING = 0.3
"""Of the rate, where the weights are trained already."""
WARM_SHARE, LONGEST_WARMUP = 20, 500
EMA_SHARE, SLOWEST_EMA = 10, 0.9999
SEEN = ((30, 0.0), (300, 0.1), (math.inf, 0.2))
"""Epochs up to which a dropout suffices."""
POINTS_WIDTH = 128


@dataclass(frozen=True)
class DataFacts:
    """What the rules want to know of the data."""

    shape: tuple[int, ...]
    """(channels, ...) of a sample: (channels, height, width) of an image."""
    is_levels: bool
    count: int = 0
    """Images to train on."""
    layout: Layout | None = None
    """How the axes of an array were read; None for other data."""

    @property
    def is_points(self) -> bool:
        return len(self.shape) == 1


@dataclass(frozen=True)
class Size:
    """A size of U-Net, and how many steps of training it wants."""

    width: int
    blocks: int
    folded: bool
    """Whether pixels are folded twice as far as the device asks for: a quarter of the work."""
    steps: int


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
FEW_STEPS = 2_500
"""A U-Net hardly makes good samples after fewer."""
ENOUGH_STEPS = 3_000
"""Images whose size is ours to choose are halved where the time allows fewer."""
FEW_IMAGES = 500
"""Fewer than these get the smallest network: a larger one learns them by heart sooner, and nothing more."""


def resolve_network(network: NetworkSettings, size: Size, facts: DataFacts, device: str) -> NetworkSettings:
    """The same without any "auto", save for dropout. Raises SettingsError where it does not fit the data."""
    kind = ("mlp" if facts.is_points else "unet") if network.kind == "auto" else network.kind
    if (kind == "mlp") != facts.is_points:
        raise SettingsError(
            f"network.kind {kind} does not fit these data",
            "mlp is for points, unet and transformer for signals, images and volumes",
        )
    if kind == TRANSFORMER:
        network = _transformer(network, size, facts, device)
    patch = _patch(facts, device, size) if network.patch == "auto" else network.patch
    blocks = size.blocks if network.blocks == "auto" else network.blocks
    width = network.widths[0] if network.widths else network.width
    if width == "auto":
        width = POINTS_WIDTH if kind == "mlp" else size.width
    sides = tuple(math.ceil(side / patch) for side in facts.shape[1:])
    multipliers = (1,) * len(network.widths) or network.multipliers
    if multipliers == "auto":
        multipliers = (1,) + (2,) * (_halvings(sides) if sides else 1)
    attention = network.attention
    if attention == "auto":
        attention = tuple(
            level
            for level in range(1, len(multipliers))
            if math.prod(sides) / 2 ** (len(sides) * level) <= ATTENDED
        )
    groups = _groups(width) if network.groups == "auto" else network.groups
    return replace(
        network,
        kind=kind,
        width=width,
        blocks=blocks,
        multipliers=multipliers,
        attention=attention,
        groups=groups,
        patch=patch,
    )


def _transformer(network: NetworkSettings, size: Size, facts: DataFacts, device: str) -> NetworkSettings:
    """The same with a width, blocks, heads and a patch for a transformer."""
    width = TOKEN_WIDTH * size.width if network.width == "auto" else network.width
    head_width = network.head_width
    if not head_width and network.heads == NetworkSettings().heads:
        head_width = math.gcd(width, HEAD_WIDTH)
    return replace(
        network,
        width=width,
        blocks=TRANSFORMER_BLOCKS * size.blocks if network.blocks == "auto" else network.blocks,
        head_width=head_width,
        patch=_token_patch(facts, device) if network.patch == "auto" else network.patch,
    )


def _token_patch(facts: DataFacts, device: str) -> int:
    """The smallest patch, a power of two and no larger than the shorter side, that leaves few enough tokens."""
    _, *sides = facts.shape
    most, patch = TOKENS.get(device, TOKENS_ELSEWHERE), 1
    while math.prod(math.ceil(side / patch) for side in sides) > most and 2 * patch <= min(
        *sides, LARGEST_PATCH
    ):
        patch *= 2
    return patch


def passes_noise(network: NetworkSettings, shape: tuple[int, ...]) -> bool:
    """Whether noise gets through the network to its output, as all targets but x_0 ask, since they are part noise.

    Noise of n values fills n dimensions and needs as many channels; images lie near a surface of few dimensions and
    need far fewer (Li & He 2025: eps and v fail where a patch has as many values as a token has channels, 768, and
    not where it has 48). The limit is `FOLDED_SHARE` of the channels, of a token or of a U-Net's first level; through
    a bottleneck nothing passes that is wider. shape: (channels, ...) of a sample.
    """
    assert network.width != "auto"
    assert network.patch != "auto"
    channels, *sides = shape
    values: int = channels * network.patch ** len(sides)
    carried = network.widths[0] if network.widths else network.width
    if network.kind == TRANSFORMER and 0 < network.bottleneck < min(values, carried):
        return False
    return values <= FOLDED_SHARE * carried


def _groups(width: int) -> int:
    """As many as there may be with 16 channels each, and 32 at the most."""
    return next(n for n in range(min(32, max(1, width // GROUP)), 0, -1) if width % n == 0)


def _patch(facts: DataFacts, device: str, size: Size) -> int:
    """The smallest patch, a power of two, that leaves few enough positions; the next one for folded sizes.

    Only as far as the channels carry it, and the shorter side.
    """
    if facts.is_points:
        return 1
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
    """How often the longest side is halved down to about 8, while padding does not enlarge the sample by much."""
    wanted = max(1, math.ceil(math.log2(max(*sides, FINEST) / FINEST)))
    return next(n for n in range(wanted, -1, -1) if _padded(sides, n) <= MOST_PADDING * math.prod(sides))


def _padded(sides: tuple[int, ...], halvings: int) -> int:
    return math.prod(math.ceil(side / 2**halvings) * 2**halvings for side in sides)


def resolve_batch(training: TrainingSettings, facts: DataFacts, device: str) -> TrainingSettings:
    """The same with a size of the batch."""
    batch = training.batch_size
    if batch == "auto":
        batch = POINTS_BATCH if facts.is_points else BATCH.get(device, BATCH_ELSEWHERE)
    return replace(training, batch_size=batch)


def resolve_recipe(
    training: TrainingSettings, network: NetworkSettings, *, fine_tuning: bool = False
) -> TrainingSettings:
    """The same without any "auto" in rate, warm-up and average; steps and the network are known."""
    steps = training.steps
    assert steps != "auto"
    answers: dict[str, Any] = {}
    if training.learning_rate == "auto":
        answers["learning_rate"] = _rate(steps, network) * (FINE_TUNING if fine_tuning else 1)
    if training.warmup == "auto":
        answers["warmup"] = usual_warmup(steps)
    if training.ema == "auto":
        answers["ema"] = _rounded(min(SLOWEST_EMA, max(0.0, 1 - EMA_SHARE / max(steps, 1))))
    return replace(training, **answers)


def usual_warmup(steps: int) -> int:
    """A twentieth of the steps, and 500 at most."""
    return min(LONGEST_WARMUP, steps // WARM_SHARE)


def _rate(steps: int, network: NetworkSettings) -> float:
    assert network.width != "auto"
    of_width = TOKEN_RATE_WIDTH if network.kind == TRANSFORMER else RATE_WIDTH
    full = POINTS_RATE if network.kind == "mlp" else RATE * of_width / network.width
    return float(f"{max(LOWEST_RATE, min(full, RATE) * min(1.0, (LONG / max(steps, 1)) ** 0.5)):.2g}")


def _rounded(decay: float) -> float:
    """To two digits of its distance from 1: 0.9984."""
    return 1 - float(f"{1 - decay:.2g}")


def resolve_dropout(network: NetworkSettings, epochs: float) -> NetworkSettings:
    """The same with a dropout: none where each image is seen a few times."""
    if network.dropout != "auto":
        return network
    enough = next(dropout for most, dropout in SEEN if epochs <= most)
    return replace(network, dropout=0.0 if network.kind == "mlp" else enough)
