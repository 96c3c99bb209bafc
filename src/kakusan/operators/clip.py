"""Values beyond a range are lost: the saturation of a sensor."""

from dataclasses import dataclass

from kakusan.errors import SettingsError
from kakusan.operators.base import LinearMap, Measured, Operator
from kakusan.shapes import Samples


@dataclass(frozen=True)
class Clip(Operator):
    """y = x within [low, high], and the nearer end beyond, of the shape of x; the derivative is 0 beyond.

    low, high: in the units of what is clipped; infinite where nothing ends. Raises SettingsError for an empty range.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise SettingsError(f"a range goes from low to high, not from {self.low:g} to {self.high:g}")

    def __call__(self, x: Samples) -> Measured:
        return x.clamp(self.low, self.high)

    def derivative(self, x: Samples) -> LinearMap:
        inside = ((x >= self.low) & (x <= self.high)).to(x)
        return LinearMap(lambda v: v * inside, lambda w: w * inside)
