"""Projections along parallel rays: computed tomography (Radon 1917).

A detector measures the integral over the strip of its width, and a pixel is a square of constant density: its
projection is a trapezoid, whose areas over the detectors are exact. Each angle so sees the whole mass of a sample.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from jaxtyping import Float64
from torch import Tensor

from kakusan.errors import SettingsError
from kakusan.operators.base import Kept, Linear, Measured, require_space
from kakusan.operators.sparse import Sparse, product, sparse
from kakusan.shapes import Samples

Doubles: TypeAlias = Float64[Tensor, "..."]
BINS = 3
"""Detectors that the projection of a pixel touches at most: it is at most sqrt(2) wide."""
BOX = 1e-7
"""Sides of a projected pixel below which its trapezoid is a box."""
AT_ONCE = 1 << 23
"""Entries of the matrix of some angles, 200 MB; if all fit, they are kept."""


@dataclass(frozen=True)
class Radon(Linear):
    """y[angle, detector] = the integral of x over the strip that the detector sees, (channels, angles, detectors).

    angles: in degrees: at 0 a detector sums over rows, so that it sees a column of pixels, at 90 over columns, from
    the top down. detectors: as wide as a pixel, centred on the sample; None: as many as its diagonal is long, so that
    nothing is lost: the sum over the detectors is the sum over the pixels.
    Raises SettingsError for no angles, and for samples that are no images.
    """

    angles: tuple[float, ...]
    detectors: int | None = None

    def __post_init__(self) -> None:
        if not self.angles or not all(map(math.isfinite, self.angles)):
            raise SettingsError("a Radon transform has at least one angle, in degrees, and finite ones only")
        if self.detectors is not None and self.detectors < 1:
            raise SettingsError(f"a Radon transform has at least 1 detector, not {self.detectors}")

    def measured_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        require_space(torch.empty(1, *shape), "a Radon transform", (2,))
        return shape[0], len(self.angles), self._bins(shape[1:])

    def __call__(self, x: Samples) -> Measured:
        channels, *rest = self.measured_shape(tuple(x.shape[1:]))
        pixels = x.flatten(2).flatten(0, 1)
        parts = [product(part, pixels) for part in self._matrices(x, x.shape[2:])]
        return torch.cat(parts, dim=1).reshape(len(x), channels, *rest)

    def adjoint(self, y: Measured, shape: tuple[int, ...]) -> Samples:
        rows, begin = y.flatten(2).flatten(0, 1), 0
        x = y.new_zeros(len(rows), math.prod(shape[1:]))
        for part in self._matrices(y, shape[1:]):
            end = begin + part.matrix.shape[0]
            x, begin = x + product(part.t(), rows[:, begin:end]), end
        return x.reshape(len(y), *shape)

    def _matrices(self, like: Tensor, sides: tuple[int, ...]) -> Iterator[Sparse]:
        """The matrices of some angles after another, in the type and on the device of a tensor."""
        at_once = max(1, AT_ONCE // (BINS * math.prod(sides)))
        if len(self.angles) <= at_once:
            if (kept := self._kept.get(tuple(sides))) is None:
                kept = self._kept[tuple(sides)] = Kept(lambda x: sparse(self._matrix(self.angles, sides), x))
            yield kept.like(like)
            return
        for begin in range(0, len(self.angles), at_once):
            yield sparse(self._matrix(self.angles[begin : begin + at_once], sides), like)

    def _matrix(self, angles: tuple[float, ...], sides: tuple[int, ...]) -> Tensor:
        """The areas of pixels over detectors, (angles detectors, pixels), sparse."""
        bins, pixels = self._bins(sides), math.prod(sides)
        first, areas = footprints(torch.tensor(angles, dtype=torch.float64), sides, bins)
        detector = first[..., None] + torch.arange(BINS)
        seen = (detector >= 0) & (detector < bins)
        row = detector + bins * torch.arange(len(angles))[:, None, None]
        column = torch.arange(pixels)[:, None].expand(row.shape)
        places = torch.stack([row[seen], column[seen]])
        size = (bins * len(angles), pixels)
        return torch.sparse_coo_tensor(places, areas[seen], size, check_invariants=False).coalesce()

    def _bins(self, sides: tuple[int, ...]) -> int:
        if self.detectors is not None:
            return self.detectors
        diagonal = math.ceil(math.hypot(*sides))
        return diagonal + (diagonal - sides[1]) % 2  # at 0 degrees a detector sees one column, not two halves

    @cached_property
    def _kept(self) -> dict[tuple[int, ...], Kept[Sparse]]:
        return {}


def even_angles(count: int) -> tuple[float, ...]:
    """So many angles in degrees, evenly over a half turn, from 0 on. Raises SettingsError for none."""
    if count < 1:
        raise SettingsError(f"a Radon transform has at least 1 angle, not {count}")
    return tuple(180 * k / count for k in range(count))


def footprints(angles: Doubles, sides: tuple[int, ...], bins: int) -> tuple[Tensor, Doubles]:
    """The first detector that each pixel touches, (angles, pixels), and its areas over that and the next ones."""
    radians = torch.deg2rad(angles)[:, None]
    cos, sin = radians.cos(), radians.sin()
    row, column = (torch.arange(side, dtype=torch.float64) - (side - 1) / 2 for side in sides)
    centre = cos * column.repeat(sides[0]) + sin * row.repeat_interleave(sides[1]) + bins / 2
    first = (centre - (cos.abs() + sin.abs()) / 2).floor()
    edges = first[..., None] + torch.arange(BINS + 1) - centre[..., None]
    below = share_below(edges, cos.abs()[..., None], sin.abs()[..., None])
    return first.long(), below.diff(dim=-1)


def share_below(u: Doubles, a: Doubles, b: Doubles) -> Doubles:
    """The share of a projected unit square below u from its centre; its sides have projections a and b.

    A box of width a convolved with one of width b; where one of them is 0, the other alone.
    """
    wide, thin = torch.maximum(a, b), torch.minimum(a, b)
    box = ((u + wide / 2) / wide).clamp(0, 1)
    safe = thin.clamp(min=BOX)
    outer, inner = (wide + safe) / 2, (wide - safe) / 2
    ramps = [(u + end).clamp(min=0).square() / 2 for end in (outer, inner, -inner, -outer)]
    trapezoid = ((ramps[0] - ramps[1]) - (ramps[2] - ramps[3])) / (wide * safe)
    return torch.where(thin < BOX, box, trapezoid.where(u < outer, torch.ones_like(u)))
