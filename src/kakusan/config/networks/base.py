"""The common part of the options of every network, and the rules by which they answer "auto".

They import no torch until a network is built, so that --help answers at once: the import takes more than a second.
"""

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, ClassVar, Self, TypeVar

import tyro

from kakusan.config.facts import DataFacts, Size
from kakusan.config.section import AUTO, Auto, Range, Section, answered, defaults

if TYPE_CHECKING:
    from torch import nn

    from kakusan.networks.interface import Interface

MOST_LEVELS, WIDEST = 16, 65_536
"""Upper limits of a network: its levels, and the channels of one."""
FOLDED_SHARE = 0.5
"""Of the channels of a position, at most so many values may be folded into it: what passes through fewer channels
keeps its noise (photographs in patches of 4, 48 values through 32 channels: noise after 2,000 steps)."""
SEEN = ((30, 0.0), (300, 0.1), (math.inf, 0.2))
"""Epochs up to which a dropout suffices."""

Other = TypeVar("Other", bound="NetworkOptions")


@dataclass(frozen=True)
class NetworkOptions(Section):
    """The network, of a kind that follows from the data. auto: by the size of the images, the device and the length of
    the training."""

    title: ClassVar[str] = "network"
    dimensions: ClassVar[tuple[int, ...]] = ()
    """Dimensions of the samples that this kind is for: 0 for points, 1 for signals, 2 for images, 3 for volumes."""
    predicts: ClassVar[str | None] = None
    """The target of the prediction that this kind is made for; None: any."""
    loss: ClassVar[str | None] = None
    """The loss that goes with this target; None: the usual one."""
    rows_are_independent: ClassVar[bool] = False
    """Whether threads may take parts of a batch through the network at once: see `kakusan.config.parallel`."""

    kind: Annotated[str, tyro.conf.arg(metavar="KIND")] = AUTO
    """unet or transformer for signals, images and volumes, mlp for points; auto: unet or mlp, or the one that has the
    options that are given. Each has options of its own: --network.kind KIND --help."""
    width: Annotated[int | Auto, Range(1, WIDEST)] = "auto"
    """Channels at the first level, or of all layers."""
    null_label: bool = True
    """With classes: a further label for no class at all."""

    @classmethod
    def names(cls) -> frozenset[str]:
        """The names of its options."""
        return frozenset(each.name for each in fields(cls))

    def __post_init__(self) -> None:
        super().__post_init__()
        own = defaults(self._type)["kind"]
        if self.kind not in (own, AUTO):
            raise ValueError(f"these are options of {own}, not of {self.kind}")
        object.__setattr__(self, "kind", own)  # "auto" is answered by the type

    def turned_into(self, kind: type[Other]) -> Other:
        """Another kind with the options that all kinds have."""
        return kind(width=self.width, null_label=self.null_label)

    @property
    def replaced(self) -> frozenset[str]:
        """Options that another one stands in the place of."""
        return frozenset()

    # What "auto" comes to

    def sizes(self, facts: DataFacts) -> tuple[Size, ...]:  # noqa: ARG002
        """The sizes to choose from, the smallest first; a training gets the last one it has enough steps for."""
        return (Size(0, 0, folded=False, steps=0),)

    def resolved(self, facts: DataFacts, size: Size, device: str) -> Self:  # noqa: ARG002
        """The same without any "auto", save for what depends on the epochs. The data fit: `dimensions`."""
        return self

    def seen_for(self, epochs: float) -> Self:  # noqa: ARG002
        """The same without what depends on how often each image is seen."""
        return self

    def values_at_a_position(self, shape: tuple[int, ...]) -> int:
        """Values at a position of a sample of this shape, (channels, ...): those of a patch, folded into channels."""
        channels, *sides = shape
        values: int = channels * answered(getattr(self, "patch", 1)) ** len(sides)
        return values

    def passes_noise(self, shape: tuple[int, ...]) -> bool:  # noqa: ARG002
        """Whether noise gets through the network to its output, as all targets but x_0 ask, since they are part noise.

        Noise of n values fills n dimensions and needs as many channels; images lie near a surface of few dimensions and
        need far fewer (Li & He 2025: eps and v fail where a patch has as many values as a token has channels, 768, and
        not where it has 48). shape: (channels, ...) of a sample; every "auto" is answered.
        """
        return True

    @property
    def usual_rate(self) -> float:
        """AdamW's step in a training of no great length."""
        raise NotImplementedError

    def build(self, of: "Interface") -> "nn.Module":
        """The network, with its first weights. Raises SettingsError for options that do not go together."""
        raise NotImplementedError


def carries_noise(channels: int, values: int) -> bool:
    """Whether so many channels are enough for noise of so many values."""
    return values <= FOLDED_SHARE * channels


def usual_dropout(epochs: float) -> float:
    """More, the more often each image is seen; none where that is a few times."""
    return next(dropout for most, dropout in SEEN if epochs <= most)
