"""Storage of decoded images, block by block: in memory, or in a .npy file that is then memory-mapped."""

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.lib.format import write_array_header_1_0
from numpy.typing import NDArray

from kakusan.errors import DataError


class Rows(Protocol):
    """Takes images in their order; how many there will be is known only as an upper bound."""

    def append(self, images: NDArray[np.uint8]) -> None: ...

    def finish(self) -> NDArray[np.uint8]:
        """All images that were appended."""
        ...


class RowsInMemory:
    """Images in one array. Raises DataError if they do not fit."""

    def __init__(self, shape: tuple[int, int, int, int]) -> None:
        try:
            self._images = np.empty(shape, np.uint8)
        except MemoryError as error:
            raise DataError(
                f"{shape[0]} images of {shape[1]}x{shape[2]} do not fit in memory",
                "--data.cache FOLDER keeps them on disk; --data.size makes them smaller",
            ) from error
        self._count = 0

    def append(self, images: NDArray[np.uint8]) -> None:
        self._images[self._count : self._count + len(images)] = images
        self._count += len(images)

    def finish(self) -> NDArray[np.uint8]:
        return self._images[: self._count]


class RowsInFile:
    """Images in a .npy file, which appears under its name only when it is complete.

    Written front to back and not through a memory map, since a full disk kills a process that writes through a map.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int, int]) -> None:
        self._path, self._shape, self._count = path, shape, 0
        self._partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        self._file = self._partial.open("wb")
        self._write_header(shape[0])

    def append(self, images: NDArray[np.uint8]) -> None:
        self._file.write(np.ascontiguousarray(images).data)
        self._count += len(images)

    def finish(self) -> NDArray[np.uint8]:
        self._file.seek(0)
        self._write_header(self._count)  # of the same length: NumPy leaves room for a larger count
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._partial.replace(self._path)
        images: NDArray[np.uint8] = np.load(self._path, mmap_mode="r", allow_pickle=False)
        return images

    def _write_header(self, count: int) -> None:
        shape = (count, *self._shape[1:])
        about = {"descr": "|u1", "fortran_order": False, "shape": shape}
        write_array_header_1_0(self._file, about)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # on a full disk, closing fails as writing did
            self._file.close()
        self._partial.unlink(missing_ok=True)
