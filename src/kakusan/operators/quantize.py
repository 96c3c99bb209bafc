"""Values are rounded to steps: a converter of few bits."""

import math
from dataclasses import dataclass

from torch import Tensor

from kakusan.errors import SettingsError
from kakusan.operators.base import LinearMap, Measured, Operator
from kakusan.operators.identity import Identity
from kakusan.shapes import Samples


@dataclass(frozen=True)
class Quantize(Operator):
    """y = the nearest multiple of `step`, of the shape of x; its derivative is taken as 1 (straight through).

    The derivative of a staircase says nothing. So y is taken for the unrounded value with noise of variance step^2 / 12
    (Bennett 1948), which holds where the values spread over several steps. step: in the units of what is rounded.
    Raises SettingsError for one that is not above 0.
    """

    step: float

    def __post_init__(self) -> None:
        if not 0 < self.step < math.inf:
            raise SettingsError(f"the step of a rounding is above 0, not {self.step:g}")

    def __call__(self, x: Samples) -> Measured:
        return x + ((x / self.step).round() * self.step - x).detach()

    def rounding(self, shape: tuple[int, ...]) -> float | Tensor:
        del shape
        return self.step**2 / 12

    @property
    def unrounded(self) -> Operator:
        return Identity()

    def derivative(self, x: Samples) -> LinearMap:
        del x
        return LinearMap(lambda v: v, lambda w: w)
