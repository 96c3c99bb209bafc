"""IDX files, the format of MNIST and Fashion-MNIST, also gzipped.

Two zero bytes, a type code, the number of axes, their lengths as 32-bit words, then the values: all
big-endian.
Source: Y. LeCun, "The MNIST database of handwritten digits".
"""

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kakusan.config.settings import DataSettings
from kakusan.data.arrays import as_images, dataset_of
from kakusan.data.dataset import Dataset, Progress
from kakusan.data.labels import Classes, classes_if, classes_of
from kakusan.errors import DataError, printable

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
TRAINING_SETS = tuple(f"train-images{dash}idx3-ubyte{gz}" for dash in "-." for gz in ("", ".gz"))
GZIP = b"\x1f\x8b"


def is_idx(path: Path) -> bool:
    """Whether a file begins like IDX."""
    try:
        with _open(path) as file:
            head = file.read(4)
    except (OSError, EOFError, zlib.error):
        return False
    return len(head) == 4 and head[:2] == b"\0\0" and head[2] in TYPES and 1 <= head[3] <= 4


def training_set_in(folder: Path) -> Path | None:
    """The file of training images of a folder that holds MNIST or a set of its kind."""
    return next((folder / name for name in TRAINING_SETS if (folder / name).is_file()), None)


def read_idx_file(path: Path, options: DataSettings, progress: Progress) -> Dataset:
    """Images of an IDX file, with the labels of the file of the same stem beside it."""
    values = _values(path)
    progress(1, 1)
    if values.ndim < 3:
        raise DataError(
            f"{path} holds {values.ndim}-dimensional values, not images",
            "name the file of images, such as train-images-idx3-ubyte; its labels are found beside it",
        )
    found = as_images(values.astype(values.dtype.newbyteorder("=")), printable(path.name), options)
    classes = classes_if(options.labels, lambda: _classes_beside(path, len(values)))
    return dataset_of(found, path, classes)


def _classes_beside(path: Path, count: int) -> Classes:
    stem = path.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    beside = [path.with_name(name) for name in (stem, f"{stem}.gz")]
    found = next((other for other in beside if other != path and other.is_file()), None)
    if found is None:
        raise DataError(f"no labels lie beside {path}", f"they are looked for in {stem} and {stem}.gz")
    return classes_of(_values(found), count, found.name)


def _values(path: Path) -> NDArray[Any]:
    try:
        with _open(path) as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if len(content) < 4 or content[2] not in TYPES:
        raise DataError(f"{path} is not an IDX file")
    dtype, axes = np.dtype(TYPES[content[2]]), content[3]
    shape = tuple(np.frombuffer(content[4 : 4 + 4 * axes], ">u4").tolist())
    body = content[4 + 4 * axes :]
    wanted = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if len(shape) != axes or len(body) != wanted:
        raise DataError(
            f"{path} is cut off or damaged: it promises {wanted} bytes of values and has {len(body)}",
            "fetch it again",
        )
    return np.frombuffer(body, dtype).reshape(shape)


def _open(path: Path) -> Any:
    with path.open("rb") as file:
        zipped = file.read(2) == GZIP
    return gzip.open(path) if zipped else path.open("rb")
