"""Any function of yours as an operator: a simulator, a chain of operations, a network."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, overload

import torch

from kakusan.errors import SettingsError
from kakusan.operators.base import Linear, Measured, Operator
from kakusan.shapes import Samples

Measuring: TypeAlias = Callable[[Samples], Measured]
TORCH_ALONE = "it is of torch operations alone, which autograd can follow: those of NumPy cannot be"
OF_FLOAT32 = "samples come in float64, and function(..., dtype=torch.float32) calls it in float32"
WORD = re.compile("[a-z]+")
LOOSE = 1e-3
"""Of the values themselves: float32 keeps sums to 1e-6, and what is not linear is farther off."""


@dataclass(frozen=True, eq=False)
class Function(Operator):
    """y = of(x), for a batch of samples in the units of the data, with derivatives by autograd. `function` makes one.

    of: torch operations, (batch, channels, *space) -> (batch, ...) or (batch,), each sample by itself. Raises
    SettingsError where it gives something else. dtype: of the samples that it is called with; None: of the parameters
    of a `torch.nn.Module`, and of other functions the type in which samples come, float64 for the most part. y comes
    back in the type of the samples, with a gradient where they have one: parameters get none.
    """

    of: Measuring
    dtype: torch.dtype | None = None

    def __call__(self, x: Samples) -> Measured:
        y = self._of(x.to(**self._place(x)))
        if not isinstance(y, torch.Tensor) or not y.is_floating_point() or not y.ndim or len(y) != len(x):
            given = (
                f"{y.dtype} of shape {tuple(y.shape)}" if isinstance(y, torch.Tensor) else type(y).__name__
            )
            raise SettingsError(
                f"the function of a measurement gives {given} of samples {tuple(x.shape)}",
                "it gives real numbers, (batch, ...), for a batch; torch.view_as_real makes two of a complex one",
                TORCH_ALONE,
            )
        return (y if x.requires_grad else y.detach()).to(x)

    def _place(self, x: Samples) -> dict[str, Any]:
        """Type and device that the function is called in."""
        given = self.of.parameters() if isinstance(self.of, torch.nn.Module) else ()
        first = next((each for each in given if each.is_floating_point()), x)
        return {"dtype": self.dtype or first.dtype, "device": first.device}

    def _of(self, x: Samples) -> Measured:
        """Raises SettingsError where the function leaves torch, which loses the derivative, or has another dtype."""
        try:
            return self.of(x)
        except (RuntimeError, TypeError) as error:
            if x.dtype == torch.float64 and {"double", "float"} <= set(WORD.findall(str(error).lower())):
                raise SettingsError(f"the function of a measurement: {error}", OF_FLOAT32) from error
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
def function(of: Measuring, *, linear: Literal[True], dtype: torch.dtype | None = None) -> LinearFunction: ...
@overload
def function(of: Measuring, *, linear: bool = False, dtype: torch.dtype | None = None) -> Function: ...
def function(of: Measuring, *, linear: bool = False, dtype: torch.dtype | None = None) -> Function:
    """An operator of any function. linear: it has A(u + v) = A(u) + A(v), which is checked where it is first used.

    dtype: of the samples that the function is called with, as a network in it may need; a `torch.nn.Module` by itself
    is called in the type of its parameters.
    """
    return LinearFunction(of, dtype) if linear else Function(of, dtype)
