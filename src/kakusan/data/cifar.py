"""CIFAR-10 in its binary version: records of a label byte and 3 x 32 x 32 bytes, one colour after another.

Source: A. Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kakusan.config.settings import DataSettings
from kakusan.data.arrays import ArrayImages, dataset_of
from kakusan.data.dataset import Dataset, Progress
from kakusan.data.labels import Classes
from kakusan.data.values import numbers_of
from kakusan.errors import DataError

SIDE, COLOURS, CLASSES = 32, 3, 10
RECORD = 1 + COLOURS * SIDE * SIDE
TRAINING_SET = "data_batch_*.bin"
NAMES_FILE = "batches.meta.txt"


def is_cifar_file(path: Path) -> bool:
    """Whether a file has the size and the first label of CIFAR-10's binary version."""
    size = path.stat().st_size
    if path.suffix != ".bin" or size == 0 or size % RECORD:
        return False
    with path.open("rb") as file:
        return file.read(1)[0] < CLASSES


def is_cifar_folder(folder: Path) -> bool:
    return bool(_training_set(folder))


def _training_set(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob(TRAINING_SET) if file.is_file())


def is_pickled_cifar(path: Path) -> bool:
    """Whether this is a folder or file of CIFAR-10's version for Python, which is made of pickles."""
    batch = path / "data_batch_1" if path.is_dir() else path
    return batch.is_file() and batch.suffix == "" and batch.name.startswith(("data_batch_", "test_batch"))


def refuse_pickled_cifar(path: Path, _: DataSettings, __: Progress) -> Dataset:
    raise DataError(
        f"{path} is the Python version of CIFAR-10, made of pickles, which are never loaded",
        "a pickle can run any code",
        "take the binary version, cifar-10-binary.tar.gz, from https://www.cs.toronto.edu/~kriz/cifar.html",
    )


def read_cifar(path: Path, options: DataSettings, progress: Progress) -> Dataset:
    """One .bin file, or the training set of a folder that holds data_batch_1.bin and its siblings."""
    files = _training_set(path) if path.is_dir() else [path]
    records = []
    for number, file in enumerate(files):
        records.append(_records(file))
        progress(number + 1, len(files))
    table = np.concatenate(records)
    planes = table[:, 1:].reshape(-1, COLOURS, SIDE, SIDE)
    images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    folder = path if path.is_dir() else path.parent
    classes = Classes(table[:, 0].astype(np.int64), _class_names(folder))
    numbers = numbers_of(images, path.name, options)
    return dataset_of(ArrayImages(numbers), path, classes)


def _records(file: Path) -> NDArray[np.uint8]:
    content = np.fromfile(file, np.uint8)
    if len(content) == 0 or len(content) % RECORD:
        raise DataError(
            f"{file} is cut off or not of CIFAR-10: {len(content)} bytes are no multiple of {RECORD}"
        )
    records: NDArray[Any] = content.reshape(-1, RECORD)
    if records[:, 0].max() >= CLASSES:
        raise DataError(
            f"{file} is not of CIFAR-10: it has the label {records[:, 0].max()}, and labels are 0..9"
        )
    return records


def _class_names(folder: Path) -> tuple[str, ...]:
    names = folder / NAMES_FILE
    words = names.read_text(encoding="utf-8", errors="replace").split() if names.is_file() else []
    return tuple(words) if len(words) == CLASSES else tuple(map(str, range(CLASSES)))
