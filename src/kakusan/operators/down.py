"""Fewer pixels: the mean over blocks, as a coarser detector or model has them."""

from dataclasses import dataclass

from kakusan.errors import SettingsError
from kakusan.operators.base import Linear, Measured, require_fit, require_space
from kakusan.shapes import Samples


@dataclass(frozen=True)
class Down(Linear):
    """y = the mean over blocks of pixels (average pooling), (channels, *space / factor).

    factor: pixels of a block along all axes, or along each. Raises SettingsError for a factor below 1, and for samples
    whose sides it does not divide.
    """

    factor: int | tuple[int, ...]

    def __post_init__(self) -> None:
        factors = (self.factor,) if isinstance(self.factor, int) else self.factor
        if not factors or min(factors) < 1:
            raise SettingsError(
                f"a factor of down-sampling is a whole number of at least 1, not {self.factor}"
            )

    def __call__(self, x: Samples) -> Measured:
        for axis, factor in enumerate(self._factors(x), start=2):
            x = x.reshape(*x.shape[:axis], -1, factor, *x.shape[axis + 1 :]).mean(axis + 1)
        return x

    def adjoint(self, y: Measured, shape: tuple[int, ...]) -> Samples:
        for axis, factor in enumerate(self._factors(y.new_empty(1, *shape)), start=2):
            y = y.repeat_interleave(factor, axis) / factor
        return y

    def _factors(self, x: Samples) -> tuple[int, ...]:
        require_space(x, "down-sampling")
        factors = (self.factor,) * (x.ndim - 2) if isinstance(self.factor, int) else self.factor
        fits = len(factors) == x.ndim - 2 and not any(
            side % f for side, f in zip(x.shape[2:], factors, strict=True)
        )
        require_fit(fits, f"down-sampling by {self.factor}", "is for samples whose sides it divides", x)
        return factors
