"""A set of images: one array, what its numbers mean, and where it comes from."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from kakusan.config.settings import Layout
from kakusan.data.conditions import PairColumn, VectorColumn
from kakusan.data.identity import hashes_of
from kakusan.data.space import is_points, legacy, noun_of
from kakusan.data.units import Levels, Real, Units
from kakusan.errors import printable
from kakusan.shapes import Condition, Samples, with_gaps
from kakusan.statistics.moments import chunks as chunks

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (done, total) while a folder is read. The total counts reading steps, two for each file."""


def silent(done: int, total: int) -> None:
    """A progress callback that does nothing."""


@dataclass(frozen=True)
class BadFile:
    """A file that ought to be an image and cannot be read."""

    name: str
    """Relative to the folder, and `printable`."""
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", printable(self.name))
        object.__setattr__(self, "reason", printable(self.reason))


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Samples, channels last: points (n, 2), signals (n, length, channels), images (n, height, width, channels),
    volumes (n, depth, height, width, channels); uint8 for Levels and any numbers for Real.

    The array may be a read-only memory map, and a view whose axes stand in another order in memory.
    """

    name: str
    images: NDArray[Any]
    units: Units
    labels: NDArray[np.int64] | None
    class_names: tuple[str, ...]
    """Empty without labels."""
    captions: tuple[str, ...]
    """One for each image: its character, or its file relative to the folder; empty where there are none."""
    source: str
    """Origin of the images: a sentence with the licence, or the resolved path."""
    reserved: tuple[int, ...] = ()
    """Indices that are held out of every training."""
    bad_files: tuple[BadFile, ...] = ()
    notes: tuple[str, ...] = ()
    """Notes on what was chosen or left out while reading, in sentences for the log."""
    layout: Layout | None = None
    """The reading of an array file's axes; None for other sources."""
    scaled: bool = False
    """Whether the images are brought to a size that was not asked for."""
    vectors: VectorColumn | None = None
    """Numbers that describe each sample."""
    pairs: PairColumn | None = None
    """An image that belongs to each sample."""
    masked: bool = False
    """Whether values are missing: those that are nan, where a sample's mask is 0."""

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        channels, *size = self.shape
        units = f"{self.units.levels} levels" if isinstance(self.units, Levels) else "real values"
        classes = f", {self.classes} classes" * bool(self.classes)
        form = f"{channels} channel{'s' * (channels > 1)}" + (
            f" of {'x'.join(map(str, size))}" if size else ""
        )
        return f"<Dataset {self.name}: {len(self):,} {noun_of(self.shape).many}, {form}, {units}{classes}>"

    @property
    def shape(self) -> tuple[int, ...]:
        """(channels, ...), as a network sees one sample."""
        _, *size, channels = self.images.shape
        return channels, *size

    @property
    def is_points(self) -> bool:
        return is_points(self.shape)

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """Hashes of the values of each image: equal images have equal ones, whatever else is in the data set."""
        return np.concatenate([hashes_of(rows) for rows in chunks(self.images)])

    @cached_property
    def rounded_hashes(self) -> NDArray[np.uint64]:
        """Hashes of the values in float32, which runs record: the type in which data come makes no difference."""
        if self.images.dtype == np.uint8:
            return self.hashes
        return np.concatenate([hashes_of(rows, rounded=True) for rows in chunks(self.images)])

    @property
    def is_conditional(self) -> bool:
        """Whether samples come with classes, vectors or images, from which one can be guided away."""
        return not (self.labels is None and self.vectors is None and self.pairs is None)

    @cached_property
    def missing(self) -> float:
        """The share of the values that are missing, 0 where none is masked."""
        if not self.masked:
            return 0.0
        return sum(int(np.isnan(rows).sum()) for rows in chunks(self.images)) / self.images.size

    def condition(
        self, indices: NDArray[np.int64], *, mirrored: NDArray[np.bool_] | None = None
    ) -> Condition | None:
        """The condition of these samples, as a network takes it: classes, vectors, images, and masks of the values that
        are there; None where there is nothing.

        mirrored: which of the samples are mirrored; the images that belong to them, and the masks, are, too.
        """
        _, *size = self.shape
        given = {
            "label": None if self.labels is None else torch.from_numpy(self.labels[indices]),
            "vector": None if self.vectors is None else self.vectors.encoded(indices),
            "image": None if self.pairs is None else self.pairs.encoded(indices, tuple(size), mirrored),
            "mask": self._mask(indices, mirrored) if self.masked else None,
        }
        return Condition(**given) if any(tensor is not None for tensor in given.values()) else None

    def _mask(self, indices: NDArray[np.int64], mirrored: NDArray[np.bool_] | None) -> Samples:
        """1 where a value of these samples is there, else 0."""
        there = ~np.isnan(self.gather(indices))
        if mirrored is not None and mirrored.any():
            there[mirrored] = np.flip(there[mirrored], axis=-2)
        return torch.from_numpy(there.astype(np.float32)).movedim(-1, 1)

    def mirrored(self) -> "Dataset":
        """Every image left to right, as a view."""
        return replace(self, images=np.flip(self.images, axis=-2))

    def x_0(self, indices: ArrayLike) -> Samples:
        """These images in the network's units: those of some numbers, of one, or where a mask is true."""
        places = np.atleast_1d(np.asarray(indices))
        return self.units.encode(self.gather(np.flatnonzero(places) if places.dtype == bool else places))

    def with_gaps(self, indices: NDArray[np.int64]) -> Samples:
        """`x_0` for the eye: nan where a value is missing."""
        return with_gaps(self.x_0(indices), self._mask(indices, None) if self.masked else None)

    def gather(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """A copy of these images, in memory of its own."""
        images = np.asarray(self.images)
        if not images.flags.c_contiguous:  # `take` would first copy all of them
            return np.ascontiguousarray(images[indices])
        rows: NDArray[Any] = np.take(images, indices, axis=0)
        return rows

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of shape, type, bytes and conditions: two data sets that train alike have the same."""
        return self._digest(self.images.dtype)

    def known_as(self, fingerprint: str) -> "Dataset | None":
        """These data with this fingerprint: as they are, or as float32, as all floats were kept once. Else None."""
        if fingerprint == self.fingerprint:
            return self
        is_wide = isinstance(self.units, Real) and self.images.dtype == np.float64
        if not is_wide or fingerprint != self._digest(np.dtype(np.float32)):
            return None
        return replace(self, images=self.images.astype(np.float32))

    def _digest(self, dtype: np.dtype[Any]) -> str:
        channels, *size = legacy(self.shape)
        digest = hashlib.sha256(f"{(len(self), *size, channels)} {dtype.str}".encode())
        for rows in chunks(self.images):
            with np.errstate(over="ignore"):
                digest.update(np.ascontiguousarray(rows, dtype).data)
        if self.labels is not None:
            digest.update(f"{self.class_names}".encode())
            digest.update(np.ascontiguousarray(self.labels).data)
        if self.vectors is not None:
            digest.update(f"{self.vectors.form.names}".encode())
            digest.update(np.ascontiguousarray(self.vectors.values).data)
        if self.pairs is not None:
            digest.update(f"{self.pairs.images.shape} {self.pairs.images.dtype.str}".encode())
            for rows in chunks(self.pairs.images):
                digest.update(np.ascontiguousarray(rows).data)
        return digest.hexdigest()
