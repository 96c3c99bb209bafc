"""A set of images: one array, what its numbers mean, and where it comes from."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kakusan.data.identity import hashes_of
from kakusan.maths.units import Units
from kakusan.shapes import Images

CHUNK_BYTES = 1 << 24

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (done, total) while a folder is read. The total counts reading steps, two for each file."""


def silent(done: int, total: int) -> None:
    """The progress that nobody watches."""


@dataclass(frozen=True)
class BadFile:
    """A file that ought to be an image and cannot be read."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images (n, height, width, channels), uint8 for Levels and float32 for Real; points are (n, 1, 1, 2).

    The array may be a read-only memory map.
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
    """Where the images come from: a sentence with the licence, or the resolved path."""
    reserved: tuple[int, ...] = ()
    """Indices that are held out of every training."""
    bad_files: tuple[BadFile, ...] = ()
    notes: tuple[str, ...] = ()
    """What was chosen or left out while reading, in sentences for the log."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width), as a network sees one image."""
        _, height, width, channels = self.images.shape
        return channels, height, width

    @property
    def is_points(self) -> bool:
        return self.shape == (2, 1, 1)

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """Of the values of each image: equal images have equal ones, whatever else is in the data set."""
        return np.concatenate([hashes_of(rows) for rows in chunks(self.images)])

    def x_0(self, indices: NDArray[np.int64]) -> Images:
        """These images in the network's units."""
        return self.units.encode(self.gather(indices))

    def gather(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """A copy of these images, in memory of its own."""
        rows: NDArray[Any] = np.take(np.asarray(self.images), indices, axis=0)
        return rows

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of shape, type, bytes and labels: two data sets that train alike have the same."""
        digest = hashlib.sha256(f"{self.images.shape} {self.images.dtype.str}".encode())
        for rows in chunks(self.images):
            digest.update(np.ascontiguousarray(rows).data)
        if self.labels is not None:
            digest.update(f"{self.class_names}".encode())
            digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()


def chunks(images: NDArray[Any]) -> list[NDArray[Any]]:
    """The same rows in views of a few megabytes, so that a pass over a memory map stays small in memory."""
    rows = max(1, CHUNK_BYTES * len(images) // max(1, images.nbytes))
    return [images[start : start + rows] for start in range(0, len(images), rows)]
