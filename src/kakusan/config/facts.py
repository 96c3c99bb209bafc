"""The facts that the rules behind "auto" depend on: the data, and the size of network that a training affords."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

Layout: TypeAlias = Literal["auto", "channels-last", "channels-first", "single-channel"]
"""The channel axis of an array: last, (n, h, w, c); first, (n, c, h, w); or none, (n, h, w)."""
Kind: TypeAlias = Literal["points", "signal", "image", "volume"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""The space of a sample, by its number of axes beside the channels: 0 to 3."""

SpacingName: TypeAlias = Literal[
    "trailing", "leading", "linspace", "quadratic", "log-snr", "karras", "entropic"
]
"""Where the steps of a walk lie, by name: `kakusan.samplers.spacings` has them."""

USUAL_METHOD = "mmps"
"""The method of `kakusan.posterior.METHODS` that restores where none is named."""


@dataclass(frozen=True)
class DataFacts:
    """The properties of the data that the rules behind "auto" depend on."""

    shape: tuple[int, ...]
    """(channels, ...) of a sample: (channels, height, width) of an image."""
    is_levels: bool
    count: int = 0
    """Images to train on."""
    layout: Layout | None = None
    """The reading of an array's axes; None for other data."""

    @property
    def dimensions(self) -> int:
        """Axes beside the channels."""
        return len(self.shape) - 1

    @property
    def is_points(self) -> bool:
        return self.dimensions == 0


@dataclass(frozen=True)
class Size:
    """A size of network, and the number of training steps that it needs."""

    width: int
    blocks: int
    folded: bool
    """Whether pixels are folded twice as far as the device asks for: a quarter of the work."""
    steps: int
