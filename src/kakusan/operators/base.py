"""The interface of operators: y = A(x), what is measured of a sample, in the units of the data.

x has the shape of samples, (batch, channels, *space), and y any shape (batch, ...). An operator looks at each sample by
itself. Linear ones have an adjoint; of all others methods take the derivative at a point, which is linear.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from kakusan.errors import SettingsError
from kakusan.shapes import Samples

Measured: TypeAlias = Float[Tensor, "batch *measured"]
"""The measured values of each sample; complex numbers are two real ones."""

Held = TypeVar("Held")


@dataclass(frozen=True, eq=False)
class LinearMap:
    """A linear operator on samples of one shape, or the derivative of an operator at one point of each sample."""

    apply: Callable[[Samples], Measured]
    adjoint: Callable[[Measured], Samples]


class Operator(ABC):
    """y = A(x). One of your own defines `__call__`, of differentiable operations; its derivative is found by autograd.

    `A @ B` is A after B.
    """

    @abstractmethod
    def __call__(self, x: Samples) -> Measured:
        """A(x) for each sample, in the type and on the device of x. Raises SettingsError where x does not fit."""

    def measured_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Of y, for samples of this shape, (channels, *space). Raises SettingsError for samples that do not fit."""
        return tuple(self(torch.zeros(1, *shape)).shape[1:])

    def is_measured(self, shape: tuple[int, ...]) -> Tensor | None:
        """The values of y that are measured at all, booleans of `measured_shape`; None: all of them."""
        del shape
        return None

    def rounding(self, shape: tuple[int, ...]) -> float | Tensor:
        """Variance of the operator's own rounding about `unrounded`: a number, or one for each value of y.

        0 where it does not round. Only the last operator's counts: what rounds before another one is taken as exact.
        """
        del shape
        return 0.0

    @property
    def unrounded(self) -> "Operator":
        """The operator without its last rounding: y = unrounded(x) + rounding error + noise. Itself where it does not
        round; one that overrides `rounding` overrides this too."""
        return self

    def derivative(self, x: Samples) -> LinearMap:
        """A'(x): how y changes with x, at each of these samples; both ways by autograd."""
        with torch.enable_grad():
            at, y = self._followed(x)
            any_w = torch.zeros_like(y, requires_grad=True)
            (of_any,) = torch.autograd.grad(y, at, any_w, create_graph=True, materialize_grads=True)

        def adjoint(w: Measured) -> Samples:
            (of_x,) = torch.autograd.grad(y, at, w, retain_graph=True, materialize_grads=True)
            return of_x

        def apply(v: Samples) -> Measured:
            """A' v as the derivative of w -> A'^T w: two passes backwards, for which every operation is made."""
            (change,) = torch.autograd.grad(of_any, any_w, v, retain_graph=True, materialize_grads=True)
            return change

        return LinearMap(apply, adjoint)

    def _followed(self, x: Samples) -> tuple[Samples, Measured]:
        """x as a leaf of a graph that leads to A(x). Raises SettingsError where autograd cannot follow the operator."""
        at = x.detach().requires_grad_()
        y = self(at)
        if not y.requires_grad:
            raise SettingsError(
                f"{type(self).__name__} does not depend on the samples by operations that autograd can follow",
                "torch operations can be followed; numbers, arrays of NumPy and comparisons cannot",
            )
        return at, y

    def __matmul__(self, inner: "Operator") -> "Operator":
        from kakusan.operators.combined import composed

        return composed(self, inner)


class Linear(Operator):
    """An operator with A(u + v) = A(u) + A(v), and its adjoint: <A x, y> = <x, A^T y>.

    One of your own defines `__call__`, and `adjoint` where it knows one that is faster than that of autograd.
    """

    def adjoint(self, y: Measured, shape: tuple[int, ...]) -> Samples:
        """A^T y, of samples of this shape, (channels, *space)."""
        with torch.enable_grad():
            at, values = self._followed(y.new_zeros(len(y), *shape))
            (of_x,) = torch.autograd.grad(values, at, y)
        return of_x

    def derivative(self, x: Samples) -> LinearMap:
        """The operator itself, wherever it is asked."""
        shape = tuple(x.shape[1:])
        return LinearMap(self, lambda y: self.adjoint(y, shape))


class Kept(Generic[Held]):
    """Arrays of an operator, made once for each type and device that they are asked for, not at each product.

    make: gives them for a tensor of that type, on that device.
    """

    def __init__(self, make: Callable[[Tensor], Held]) -> None:
        self._make = make
        self._made: dict[tuple[torch.dtype, torch.device], Held] = {}

    def like(self, x: Tensor) -> Held:
        """The arrays in the type and on the device of x."""
        key = (x.dtype, x.device)
        if key not in self._made:
            with torch.inference_mode(False):  # else a later backward pass could not use them
                self._made[key] = self._make(x)
        return self._made[key]


def require_space(x: Samples, operator: str, dimensions: tuple[int, ...] = (1, 2, 3)) -> None:
    """Raises SettingsError where samples have another number of dimensions than an operator is for."""
    words = " or ".join(map(str, dimensions))
    require_fit(x.ndim - 2 in dimensions, operator, f"is for samples of {words} dimensions", x)


def require_fit(fits: bool, operator: str, needs: str, x: Samples) -> None:
    """Raises SettingsError where samples are not what an operator is for."""
    if not fits:
        raise SettingsError(f"{operator} {needs}, and the samples have shape {tuple(x.shape[1:])}")


def axes_of(x: Tensor) -> tuple[int, ...]:
    """The axes of space of a batch."""
    return tuple(range(2, x.ndim))
