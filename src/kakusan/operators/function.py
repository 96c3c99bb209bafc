"""Any function of yours as an operator: a simulator, a chain of operations, a network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, overload

import torch

from kakusan.errors import SettingsError
from kakusan.operators.base import Linear, Measured, Operator
from kakusan.shapes import Samples

Measuring: TypeAlias = Callable[[Samples], Measured]
TORCH_ALONE = "it is of torch operations alone, which autograd can follow: those of NumPy cannot be"
LOOSE = 1e-3
"""Of the values themselves: float32 keeps sums to 1e-6, and what is not linear is farther off."""


@dataclass(frozen=True, eq=False)
class Function(Operator):
    """y = of(x), for a batch of samples in the units of the data, with derivatives by autograd. `function` makes one.

    of: torch operations, (batch, channels, *space) -> (batch, ...) or (batch,), each sample by itself. Raises
    SettingsError where it gives something else.
    """

    of: Measuring

    def __call__(self, x: Samples) -> Measured:
        y = self._of(x)
        if not isinstance(y, torch.Tensor) or not y.is_floating_point() or not y.ndim or len(y) != len(x):
            given = (
                f"{y.dtype} of shape {tuple(y.shape)}" if isinstance(y, torch.Tensor) else type(y).__name__
            )
            raise SettingsError(
                f"the function of a measurement gives {given} of samples {tuple(x.shape)}",
                "it gives real numbers, (batch, ...), for a batch; torch.view_as_real makes two of a complex one",
                TORCH_ALONE,
            )
        return y

    def _of(self, x: Samples) -> Measured:
        """Raises SettingsError where the function leaves torch, which would lose the derivative."""
        try:
            return self.of(x)
        except (RuntimeError, TypeError) as error:
            if "numpy" not in str(error).lower():
                raise  # a bug of the function's own
            raise SettingsError(f"the function of a measurement: {error}", TORCH_ALONE) from error


@dataclass(frozen=True, eq=False)
class LinearFunction(Function, Linear):
    """y = of(x), which is linear."""

    def measured_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Raises SettingsError where the function is not linear after all."""
        generator = torch.Generator().manual_seed(0)
        u, v = torch.randn(2, 1, *shape, generator=generator, dtype=torch.float64).float()
        at_u, at_v, at_sum = self(u), self(v), self(u - 2 * v)
        if not (at_sum - (at_u - 2 * at_v)).norm() <= LOOSE * (at_u.norm() + 2 * at_v.norm()):
            raise SettingsError(
                "the function of a measurement is said to be linear, and is not: A(u - 2 v) is not A(u) - 2 A(v)",
                "leave linear=True out, or its offset",
            )
        return tuple(at_u.shape[1:])


@overload
def function(of: Measuring, *, linear: Literal[True]) -> LinearFunction: ...
@overload
def function(of: Measuring, *, linear: bool = False) -> Function: ...
def function(of: Measuring, *, linear: bool = False) -> Function:
    """An operator of any function. linear: it has A(u + v) = A(u) + A(v), which is checked where it is first used."""
    return LinearFunction(of) if linear else Function(of)
