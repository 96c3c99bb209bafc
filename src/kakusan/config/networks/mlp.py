"""The options of the network for points, `kakusan.networks.mlp`."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from kakusan.config.facts import DataFacts, Size
from kakusan.config.networks.base import NetworkOptions
from kakusan.config.section import Range, answered
from kakusan.errors import SettingsError

if TYPE_CHECKING:
    from torch import nn

    from kakusan.networks.interface import Interface

WIDTH = 128
RATE = 2e-3


@dataclass(frozen=True)
class MLPOptions(NetworkOptions):
    """The network, a multilayer perceptron of residual blocks, for points. auto: always the same."""

    dimensions: ClassVar[tuple[int, ...]] = (0,)

    kind: str = "mlp"
    depth: Annotated[int, Range(1, 64)] = 3
    """Residual blocks."""

    def resolved(self, facts: DataFacts, size: Size, device: str) -> Self:  # noqa: ARG002
        return replace(self, width=WIDTH) if self.width == "auto" else self

    @property
    def usual_rate(self) -> float:
        return RATE

    def build(self, of: "Interface") -> "nn.Module":
        from kakusan.networks import PointMLP

        if of.image_channels:
            raise SettingsError("points come with classes, vectors and masks, not with images")
        return PointMLP(
            channels=of.channels,
            out_channels=of.out_channels,
            classes=of.classes,
            numbers=of.numbers,
            mask_channels=of.mask_channels,
            null_label=self.null_label,
            width=answered(self.width),
            depth=self.depth,
        )
