"""A box of each sample is measured, the rest is not: the edge of a detector, one region of a map."""

from dataclasses import dataclass
from itertools import chain

from torch.nn import functional as F

from kakusan.errors import SettingsError
from kakusan.operators.base import Linear, Measured, require_fit
from kakusan.shapes import Samples


@dataclass(frozen=True)
class Crop(Linear):
    """y = the box from `start` on of this size, (channels, *size), of all channels.

    start, size: a whole number for each axis of space, in pixels. Raises SettingsError for a box without pixels, and
    for samples that do not hold it.
    """

    start: tuple[int, ...]
    size: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.start) != len(self.size) or not self.size or min(self.start) < 0 or min(self.size) < 1:
            raise SettingsError(
                f"a crop has a first pixel of at least 0 and a size of at least 1 for each axis, not {self.start} and"
                f" {self.size}"
            )

    def __call__(self, x: Samples) -> Measured:
        self._require(x)
        for axis, (begin, size) in enumerate(zip(self.start, self.size, strict=True), start=2):
            x = x.narrow(axis, begin, size)
        return x

    def adjoint(self, y: Measured, shape: tuple[int, ...]) -> Samples:
        margins = zip(self.start, self.size, shape[1:], strict=True)
        sides = [(begin, whole - begin - size) for begin, size, whole in margins]
        return F.pad(y, [*chain.from_iterable(reversed(sides))])  # torch counts the last axis first

    def _require(self, x: Samples) -> None:
        ends = tuple(begin + size for begin, size in zip(self.start, self.size, strict=True))
        fits = len(ends) == x.ndim - 2 and all(
            end <= side for end, side in zip(ends, x.shape[2:], strict=True)
        )
        require_fit(fits, f"a crop from {self.start} to {ends}", "is for samples that hold it", x)
