"""Conditions of the samples of a data set: numbers that describe each, and an image that belongs to each.

Both are stored as they were found; a batch of them is encoded on the way to the network, by forms that the run keeps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.nn import functional as F

from kakusan.data.missing import NO_MASK
from kakusan.data.units import Units, units_from_state
from kakusan.errors import DataError, printable
from kakusan.shapes import Samples, Vectors

MOST_NUMBERS = 4096
"""Numbers of a vector, at most."""
CONSTANT = 1e-6
"""Deviation in place of 0 for a number that is the same for all samples: any other value is far from it."""
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
"""PyTorch's name for linear interpolation, by dimensions."""


@dataclass(frozen=True)
class VectorForm:
    """The numbers of a vector: their names, and how each is standardized, value = mean + scale * x."""

    names: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]

    def encode(self, values: NDArray[np.float64]) -> Vectors:
        """(n, k) in their own units to mean 0 and deviation 1, float32."""
        x = (values - np.array(self.mean)) / np.array(self.scale)
        return torch.from_numpy(x.astype(np.float32))

    def decode(self, vectors: Vectors) -> NDArray[np.float64]:
        """Back in their own units, float64."""
        values: NDArray[np.float64] = vectors.cpu().double().numpy() * np.array(self.scale) + np.array(
            self.mean
        )
        return values

    def to_state(self) -> dict[str, Any]:
        return {"names": list(self.names), "mean": list(self.mean), "scale": list(self.scale)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "VectorForm":
        """The inverse. Raises KeyError, TypeError or ValueError for what is none."""
        names, mean, scale = (tuple(state[name]) for name in ("names", "mean", "scale"))
        found = cls(tuple(map(str, names)), tuple(map(float, mean)), tuple(map(float, scale)))
        if not 0 < len(found.names) == len(found.mean) == len(found.scale) or not min(found.scale) > 0:
            raise ValueError("a vector needs a name, a mean and a positive scale for each of its numbers")
        return found


@dataclass(frozen=True, eq=False)
class VectorColumn:
    """A vector for each sample: float64 (n, k), in their own units."""

    values: NDArray[np.float64]
    form: VectorForm

    def encoded(self, indices: NDArray[np.int64]) -> Vectors:
        """The vectors of some samples, standardized."""
        return self.form.encode(self.values[indices])


@dataclass(frozen=True)
class PairForm:
    """The images that belong to the samples: the shape of one, (channels, ...), and what its values mean."""

    shape: tuple[int, ...]
    units: Units

    def to_state(self) -> dict[str, Any]:
        return {"shape": list(self.shape), "units": self.units.to_state()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "PairForm":
        """The inverse. Raises KeyError, TypeError or ValueError for what is none."""
        return cls(tuple(map(int, state["shape"])), units_from_state(state["units"]))


@dataclass(frozen=True, eq=False)
class PairColumn:
    """An image for each sample, channels last, (n, ..., channels), of any size."""

    images: NDArray[Any]
    units: Units
    name: str
    """The name of their source."""

    @property
    def form(self) -> PairForm:
        *size, channels = self.images.shape[1:]
        return PairForm((channels, *size), self.units)

    def encoded(
        self, indices: NDArray[np.int64], size: tuple[int, ...], mirrored: NDArray[np.bool_] | None = None
    ) -> Samples:
        """The images of some samples, mirrored where these are, scaled to the size of the samples."""
        images = np.ascontiguousarray(self.images[indices])
        if mirrored is not None and mirrored.any():
            images[mirrored] = np.flip(images[mirrored], axis=-2)
        return fitted(self.units.encode(images), size)


def fitted(x: Samples, size: tuple[int, ...]) -> Samples:
    """Scaled to a size: by the mean over areas where a side shrinks, else by linear interpolation."""
    sides = tuple(x.shape[2:])
    if sides == tuple(size):
        return x
    if any(new < old for new, old in zip(size, sides, strict=True)):
        return F.interpolate(x, size, mode="area")
    return F.interpolate(x, size, mode=LINEAR[len(size)], align_corners=False)


def vector_column(
    values: ArrayLike, count: int, where: str, names: Sequence[str] | None = None
) -> VectorColumn:
    """Vectors of an array (n, k) or (n,). Raises DataError where they are not numbers, one row for each sample."""
    given = np.asarray(values)
    array = given[:, None] if given.ndim == 1 else given
    if array.dtype.kind not in "iufb" or array.ndim != 2:
        raise DataError(
            f"the vectors in {where} are {array.dtype} of shape {array.shape}: numbers (n, k) are needed"
        )
    if len(array) != count:
        raise DataError(f"{where} has {count:,} samples and {len(array):,} vectors: one for each is needed")
    if not 1 <= array.shape[1] <= MOST_NUMBERS:
        raise DataError(
            f"a vector in {where} has {array.shape[1]:,} numbers: 1 to {MOST_NUMBERS:,} are taken"
        )
    numbers = array.astype(np.float64)
    known = tuple(map(printable, names)) if names is not None else tuple(map(str, range(numbers.shape[1])))
    if len(known) != numbers.shape[1] or len(set(known)) != len(known):
        raise DataError(
            f"{where} names {len(known)} numbers for vectors of {numbers.shape[1]}: each needs a name of its own"
        )
    if len(bad := np.argwhere(~np.isfinite(numbers))):
        row, column = bad[0]
        raise DataError(
            f"{len(np.unique(bad[:, 0])):,} vectors in {where} hold values that are not finite: {known[column]} of the"
            f" {row + 1}. sample is {numbers[row, column]}",
            *_without_gaps(given.ndim, len(array) - len(np.unique(bad[:, 0]))),
        )
    deviation = numbers.std(0)
    form = VectorForm(
        names=known,
        mean=tuple(numbers.mean(0).tolist()),
        scale=tuple(np.where(deviation > 0, deviation, CONSTANT).tolist()),
    )
    return VectorColumn(numbers, form)


def _without_gaps(axes: int, whole: int) -> tuple[str, ...]:
    """Advice where vectors lack numbers. axes: of their array; whole: how many lack none."""
    rows = "numpy.isfinite(vectors)" + ".all(axis=1)" * (axes > 1)
    leaving_out = f"without such samples: whole = {rows}; vectors, images = vectors[whole], images[whole]"
    filled = "numpy.where(mask, vectors, vectors.mean(axis=0, where=mask))"
    return (
        NO_MASK,
        *([leaving_out] if whole > 1 else []),
        f"filled with the mean: mask = numpy.isfinite(vectors); vectors = {filled}; one more number, 1 where the"
        " value was there, tells the network",
    )


def in_form(column: VectorColumn, form: VectorForm, where: str) -> VectorColumn:
    """The vectors by the names, in the order and with the standardization of a run. Raises DataError for others."""
    if set(column.form.names) != set(form.names):
        raise DataError(
            f"{where} has numbers called {', '.join(column.form.names[:20])}, and the run has learned"
            f" {', '.join(form.names[:20])}"
        )
    order = [column.form.names.index(name) for name in form.names]
    return replace(column, values=column.values[:, order], form=form)
