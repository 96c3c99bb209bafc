"""Classes: a number for each image and a name for each number."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kakusan.errors import DataError


@dataclass(frozen=True, eq=False)
class Classes:
    """labels[i] is the class of image i, and names[labels[i]] its name."""

    labels: NDArray[np.int64]
    names: tuple[str, ...]


def classes_if(asked: bool, read: Callable[[], Classes]) -> Classes | None:
    """The classes, or None where there are none; their absence is an error only if they are asked for."""
    try:
        return read()
    except DataError:
        if asked:
            raise
        return None


def classes_of(values: NDArray[Any] | None, count: int, where: str) -> Classes:
    """Classes from an array of whole numbers or words, one for each image, numbered in sorted order."""
    if values is None:
        raise DataError(
            f"{where} has no labels", "train without --data.labels, or store them as an array `labels`"
        )
    if values.shape != (count,):
        raise DataError(
            f"{where} has {count} images, but labels of shape {values.shape}: one for each image is needed"
        )
    if values.dtype.kind not in "iuU":
        raise DataError(f"the labels in {where} are {values.dtype}: whole numbers or words are needed")
    names, labels = np.unique(values, return_inverse=True)
    if len(names) < 2:
        raise DataError(f"all images in {where} have the same label: there is nothing to tell apart")
    return Classes(labels.astype(np.int64), tuple(map(str, names)))


def classes_of_folders(names: Sequence[str], where: str) -> Classes:
    """Classes from the first part of each file's relative path."""
    loose = [name for name in names if "/" not in name]
    if loose:
        raise DataError(
            f"{len(loose)} images lie directly in {where}, so they have no class: {loose[0]}",
            "give each class a subfolder, or train without --data.labels",
        )
    return classes_of(np.array([name.split("/", 1)[0] for name in names]), len(names), where)
