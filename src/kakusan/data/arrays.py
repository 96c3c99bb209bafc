"""Arrays as data: .npy and .npz files, and how any array becomes a data set.

`data.layout` says which axis is which, `data.values` what the numbers mean. Nothing pickled is ever loaded.
"""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kakusan.config.settings import DataSettings, Layout
from kakusan.data.conditions import PairColumn, vector_column
from kakusan.data.dataset import Dataset, Progress
from kakusan.data.labels import Classes, classes_if, classes_of
from kakusan.data.layout import CHANNELS_FIRST, axes_of
from kakusan.data.missing import missing_in, read_as_conditions
from kakusan.data.space import kind_of
from kakusan.data.units import Levels, Real, Units
from kakusan.data.values import Numbers, numbers_of
from kakusan.errors import DataError, printable

IMAGE_NAMES = ("images", "x", "x_train")
LABEL_NAMES = ("labels", "y", "y_train")
LEVELS_NAME = "levels"
VECTORS_NAME, VECTOR_NAMES, PAIRS_NAME = "vectors", "vector_names", "conditions"
NAMED = 10
ZIP = b"PK"


@dataclass(frozen=True, eq=False)
class Found:
    """The content of a file, before it is judged."""

    images: NDArray[Any]
    name: str
    labels: NDArray[Any] | None = None
    labels_key: str | None = None
    levels: int | None = None
    vectors: NDArray[Any] | None = None
    vector_names: tuple[str, ...] | None = None
    pairs: NDArray[Any] | None = None
    """Images that belong to them."""
    others: tuple[str, ...] = ()
    """Arrays in it that are not used."""


def read_array_file(path: Path, options: DataSettings, progress: Progress) -> Dataset:
    """A .npy file (memory-mapped) or a .npz file: `images`, `x`, `x_train` or its first array of at least two axes."""
    found = _found(path, options)
    progress(1, 1)
    images = as_images(found.images, found.name, options, found.levels)
    count = len(images.numbers.images)
    classes = classes_if(options.labels, lambda: classes_of(found.labels, count, path.name))
    unused = found.others if classes or found.labels_key is None else (found.labels_key, *found.others)
    if found.levels is not None and isinstance(images.numbers.units, Real):
        unused = (*unused, LEVELS_NAME)
    more = {VECTORS_NAME: "--data.vectors", PAIRS_NAME: "--data.pairs"}
    notes = tuple(f"there are `{key}`, not learned: {more[key]} learns them" for key in unused if key in more)
    unused = tuple(key for key in unused if key not in (*more, VECTOR_NAMES))
    notes = (_on_unused(found.name, unused), *notes) if unused else notes
    dataset = dataset_of(images, path, classes, notes)
    return with_conditions(dataset, options, found.vectors, found.pairs, vector_names=found.vector_names)


def with_conditions(
    dataset: Dataset,
    options: DataSettings,
    vectors: ArrayLike | None,
    pairs: NDArray[Any] | None,
    *,
    vector_names: Sequence[str] | None = None,
) -> Dataset:
    """The data set with vectors and images for its samples, as far as they are asked for."""
    count, name = len(dataset), dataset.name
    if options.vectors and vectors is not None:
        dataset = replace(dataset, vectors=vector_column(vectors, count, name, vector_names))
    if options.pairs and pairs is not None:
        layout: Layout = CHANNELS_FIRST if options.layout == CHANNELS_FIRST else "auto"
        own = DataSettings(kind=kind_of(dataset.shape), layout=layout)
        levels = _shared_levels(pairs, dataset.units)
        with read_as_conditions():
            numbers = as_images(pairs, f"`{PAIRS_NAME}` of {name}", own, levels).numbers
        dataset = replace(
            dataset, pairs=PairColumn(numbers.images, numbers.units, f"`{PAIRS_NAME}` of {name}")
        )
    return dataset


def _shared_levels(pairs: NDArray[Any], units: Units) -> int | None:
    """The levels of the samples, where the images that belong to them have no others."""
    if not isinstance(units, Levels) or pairs.dtype != np.uint8:
        return None
    return units.levels if not pairs.size or int(pairs.max()) < units.levels else None


def _on_unused(name: str, unused: tuple[str, ...]) -> str:
    more = f" and {len(unused) - NAMED} more" if len(unused) > NAMED else ""
    by_name = name.partition(" of ")[0] in IMAGE_NAMES or set(unused) <= {*LABEL_NAMES, LEVELS_NAME}
    how = "" if by_name else "; an array called `images` is read first"
    return f"read: {name}; not used: {', '.join(map(printable, unused[:NAMED]))}{more}{how}"


def _found(path: Path, options: DataSettings) -> Found:
    try:
        with path.open("rb") as file:
            if file.read(len(ZIP)) == ZIP:
                file.seek(0)
                return _found_in_archive(np.load(file, allow_pickle=False), path.name, options)
        return Found(np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)), printable(path.name))
    except ValueError as error:
        raise refusal(path, error) from error
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def refusal(path: Path, error: ValueError) -> DataError:
    """Errors, in the words of kakusan, for what NumPy says of object arrays, of strange files and of damaged ones."""
    if "Object arrays" in str(error) or "Python objects" in str(error):
        return DataError(
            f"{path} holds pickled Python objects, which are never loaded: they could run any code",
            "store plain arrays: numpy.savez(path, images=numpy.stack(images))",
        )
    if "pickled" in str(error):
        return DataError(f"{path} is not a file of NumPy, whatever its name says")
    if "mmap length" in str(error):
        return DataError(f"{path} is cut short: it holds fewer bytes than its header says")
    return DataError(f"{path} cannot be read: {error}")


def _found_in_archive(stored: Any, name: str, options: DataSettings) -> Found:
    apart = {*LABEL_NAMES, LEVELS_NAME, VECTORS_NAME, VECTOR_NAMES, PAIRS_NAME}
    candidates = [key for key in IMAGE_NAMES if key in stored.files]
    candidates += [key for key in stored.files if key not in apart]
    if not candidates:
        raise DataError(
            f"{name} holds no array of images", f"arrays in it: {', '.join(stored.files) or 'none'}"
        )
    key, images = _first_images(stored, candidates)
    labels_key = next((key for key in LABEL_NAMES if key in stored.files), None)
    return Found(
        images=images,
        name=f"{printable(key)} of {printable(name)}",
        labels=_labels_in(stored, labels_key, options),
        labels_key=labels_key,
        levels=_levels_in(stored[LEVELS_NAME], name) if LEVELS_NAME in stored.files else None,
        vectors=stored[VECTORS_NAME] if VECTORS_NAME in stored.files and options.vectors else None,
        vector_names=_names_in(stored) if options.vectors else None,
        pairs=stored[PAIRS_NAME] if PAIRS_NAME in stored.files and options.pairs else None,
        others=tuple(o for o in stored.files if o not in (key, labels_key, LEVELS_NAME, *_asked(options))),
    )


def _first_images(stored: Any, candidates: list[str]) -> tuple[str, NDArray[Any]]:
    """An array of a usual name, else the first of most axes, else the first: the error will name it."""
    if candidates[0] in IMAGE_NAMES:
        return candidates[0], stored[candidates[0]]
    arrays = {key: array for key in candidates if (array := _plain(stored, key)) is not None}
    if not arrays:
        return candidates[0], stored[candidates[0]]
    key = max(arrays, key=lambda name: min(arrays[name].ndim, 4))  # the first of them
    return key, arrays[key]


def _plain(stored: Any, key: str) -> NDArray[Any] | None:
    """An array of the archive, but for pickled objects, which are not opened."""
    try:
        array: NDArray[Any] = stored[key]
    except ValueError:
        return None
    return array


def _labels_in(stored: Any, key: str | None, options: DataSettings) -> NDArray[Any] | None:
    if key is None:
        return None
    try:
        labels: NDArray[Any] = stored[key]
    except ValueError:  # pickled words, which do not matter to whoever wants only the images
        if options.labels:
            raise
        return None
    return labels


def _asked(options: DataSettings) -> tuple[str, ...]:
    """The names of further arrays that are asked for."""
    vectors = (VECTORS_NAME, VECTOR_NAMES) if options.vectors else ()
    return (*vectors, PAIRS_NAME) if options.pairs else vectors


def _names_in(stored: Any) -> tuple[str, ...] | None:
    return tuple(map(str, stored[VECTOR_NAMES].ravel())) if VECTOR_NAMES in stored.files else None


def _levels_in(value: NDArray[Any], name: str) -> int:
    if value.size != 1 or value.dtype.kind not in "iu" or not 2 <= int(value.item()) <= 256:
        raise DataError(f"`{LEVELS_NAME}` in {name} is not one whole number from 2 to 256")
    return int(value.item())


@dataclass(frozen=True, eq=False)
class ArrayImages:
    """Images (n, height, width, channels) of an array, and how its axes and its values were read."""

    numbers: Numbers
    layout: Layout | None = None
    """None where the format leaves no choice."""
    notes: tuple[str, ...] = ()
    """Notes on the axes, and on missing values."""
    masked: bool = False
    """Whether values are missing (nan)."""


def as_images(
    array: NDArray[Any], name: str, options: DataSettings, levels: int | None = None
) -> ArrayImages:
    """Read the axes by `data.layout`, the values by `data.values`. Raises DataError for what is no images."""
    axes = axes_of(array.shape, name, options, is_float=array.dtype.kind == "f")
    images = axes.reading.apply(array)
    if len(images) < 2 or 0 in images.shape:
        raise DataError(f"{name} has shape {array.shape}: at least 2 images with at least 1 pixel are needed")
    lacks = missing_in(images, name, axes.reading, array.ndim, options)
    numbers = numbers_of(images, name, options, levels, masked=lacks.masked)
    return ArrayImages(numbers, axes.reading.layout, (*axes.notes, *lacks.notes), lacks.masked)


def dataset_of(
    found: ArrayImages, path: Path, classes: Classes | None, notes: tuple[str, ...] = ()
) -> Dataset:
    """A data set of the images of a file."""
    return Dataset(
        name=path.resolve().name,
        images=found.numbers.images,
        units=found.numbers.units,
        labels=None if classes is None else classes.labels,
        class_names=() if classes is None else classes.names,
        captions=(),
        source=str(path.resolve()),
        notes=(*notes, *found.notes, *found.numbers.notes),
        layout=found.layout,
        masked=found.masked,
    )
