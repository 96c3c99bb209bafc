"""Operators made of operators: one after the other, and side by side."""

from dataclasses import dataclass
from math import prod
from typing import overload

import torch
from torch import Tensor

from kakusan.errors import SettingsError
from kakusan.operators.base import Linear, LinearMap, Measured, Operator
from kakusan.shapes import Samples, by_row


@dataclass(frozen=True, eq=False)
class Composed(Operator):
    """y = A(B(x)): outer after inner. `composed` makes one, linear where both are."""

    outer: Operator
    inner: Operator

    def __call__(self, x: Samples) -> Measured:
        return self.outer(self.inner(x))

    def is_measured(self, shape: tuple[int, ...]) -> Tensor | None:
        return self.outer.is_measured(self.inner.measured_shape(shape))

    def rounding(self, shape: tuple[int, ...]) -> float | Tensor:
        return self.outer.rounding(self.inner.measured_shape(shape))

    @property
    def unrounded(self) -> Operator:
        outer = self.outer.unrounded
        return self if outer is self.outer else composed(outer, self.inner)

    def derivative(self, x: Samples) -> LinearMap:
        inner, outer = self.inner.derivative(x), self.outer.derivative(self.inner(x).detach())
        return LinearMap(lambda v: outer.apply(inner.apply(v)), lambda w: inner.adjoint(outer.adjoint(w)))


@dataclass(frozen=True, eq=False)
class ComposedLinear(Composed, Linear):
    """A(B(x)) of two linear operators."""

    outer: Linear
    inner: Linear

    def adjoint(self, y: Measured, shape: tuple[int, ...]) -> Samples:
        between = self.inner.measured_shape(shape)
        return self.inner.adjoint(self.outer.adjoint(y, between), shape)


@overload
def composed(outer: Linear, inner: Linear) -> Linear: ...
@overload
def composed(outer: Operator, inner: Operator) -> Operator: ...
def composed(outer: Operator, inner: Operator) -> Operator:
    """A after B."""
    if isinstance(outer, Linear) and isinstance(inner, Linear):
        return ComposedLinear(outer, inner)
    return Composed(outer, inner)


@dataclass(frozen=True, eq=False)
class Stacked(Operator):
    """Several measurements of the same x: y is the values of all of them, (batch, values), one after the other.

    `stacked` makes one, linear where all parts are.
    """

    parts: tuple[Operator, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise SettingsError("a stack of operators has at least one")

    def __call__(self, x: Samples) -> Measured:
        return torch.cat([by_row(part(x)) for part in self.parts], dim=1)

    def is_measured(self, shape: tuple[int, ...]) -> Tensor:
        found = [(part.is_measured(shape), part.measured_shape(shape)) for part in self.parts]
        return torch.cat(
            [
                torch.ones(prod(size), dtype=torch.bool) if kept is None else kept.flatten()
                for kept, size in found
            ]
        )

    def rounding(self, shape: tuple[int, ...]) -> Tensor:
        each = zip(self.parts, self._shapes(shape), strict=True)
        found = [torch.as_tensor(part.rounding(shape)).double().expand(size).flatten() for part, size in each]
        return torch.cat(found)

    @property
    def unrounded(self) -> Operator:
        parts = [part.unrounded for part in self.parts]
        is_same = all(one is other for one, other in zip(parts, self.parts, strict=True))
        return self if is_same else stacked(*parts)

    def derivative(self, x: Samples) -> LinearMap:
        maps, sizes = [part.derivative(x) for part in self.parts], self._shapes(tuple(x.shape[1:]))

        def adjoint(w: Measured) -> Samples:
            return torch.stack([m.adjoint(y) for m, y in zip(maps, _split(w, sizes), strict=True)]).sum(0)

        return LinearMap(lambda v: torch.cat([by_row(m.apply(v)) for m in maps], dim=1), adjoint)

    def _shapes(self, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        return [part.measured_shape(shape) for part in self.parts]


@dataclass(frozen=True, eq=False)
class StackedLinear(Stacked, Linear):
    """Several linear measurements of the same x."""

    parts: tuple[Linear, ...]

    def adjoint(self, y: Measured, shape: tuple[int, ...]) -> Samples:
        each = zip(self.parts, _split(y, self._shapes(shape)), strict=True)
        return torch.stack([part.adjoint(its, shape) for part, its in each]).sum(0)


@overload
def stacked(*parts: Linear) -> Linear: ...
@overload
def stacked(*parts: Operator) -> Operator: ...
def stacked(*parts: Operator) -> Operator:
    """Several operators side by side."""
    linear = tuple(part for part in parts if isinstance(part, Linear))
    return StackedLinear(linear) if len(linear) == len(parts) else Stacked(parts)


def _split(y: Measured, shapes: list[tuple[int, ...]]) -> list[Measured]:
    """The values of a stack by its parts, each in its shape."""
    parts = torch.split(y, [prod(shape) for shape in shapes], dim=1)
    return [part.reshape(len(y), *shape) for part, shape in zip(parts, shapes, strict=True)]
