"""Arrays as data: .npy and .npz files, and the rules by which any array becomes a data set.

uint8 is Levels; floats are Real and become float32. Shapes are (n, height, width, channels), (n, height,
width) and, for floats that are points, (n, 2). Nothing pickled is ever loaded.
"""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kakusan.data.dataset import Dataset, Progress, chunks
from kakusan.data.labels import Classes, classes_if, classes_of
from kakusan.data.options import DataOptions
from kakusan.errors import DataError, SettingsError
from kakusan.maths.units import Levels, Real, Units, real_fitted, real_from_range

IMAGE_NAMES = ("images", "x", "x_train")
LABEL_NAMES = ("labels", "y", "y_train")
LEVELS_NAME = "levels"
MOST_COLOURS = 4
ZIP = b"PK"


@dataclass(frozen=True, eq=False)
class Found:
    """What a file holds, before it is judged."""

    images: NDArray[Any]
    labels: NDArray[Any] | None = None
    levels: int | None = None


def read_array_file(path: Path, options: DataOptions, progress: Progress) -> Dataset:
    """A .npy file (memory-mapped) or a .npz file: `images`, `x`, `x_train` or its first array."""
    found = _found(path, options)
    progress(1, 1)
    images = as_images(found.images, path.name, options)
    classes = classes_if(options.labels, lambda: classes_of(found.labels, len(images), path.name))
    return dataset_of(images, path, options, levels=found.levels, classes=classes)


def _found(path: Path, options: DataOptions) -> Found:
    try:
        with path.open("rb") as file:
            if file.read(len(ZIP)) == ZIP:
                file.seek(0)
                return _found_in_archive(np.load(file, allow_pickle=False), path.name, options)
        return Found(np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)))
    except ValueError as error:
        raise _refusal(path, error) from error
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _refusal(path: Path, error: ValueError) -> DataError:
    """In our words what NumPy says of object arrays, of strange files and of damaged ones."""
    if "Object arrays" in str(error):
        return DataError(
            f"{path} holds pickled Python objects, which are never loaded: they could run any code",
            "store plain arrays: numpy.savez(path, images=numpy.stack(images))",
        )
    if "pickled" in str(error):
        return DataError(f"{path} is not a file of NumPy, whatever its name says")
    return DataError(f"{path} cannot be read: {error}")


def _found_in_archive(stored: Any, name: str, options: DataOptions) -> Found:
    apart = {*LABEL_NAMES, LEVELS_NAME}
    candidates = [key for key in IMAGE_NAMES if key in stored.files]
    candidates += [key for key in stored.files if key not in apart]
    if not candidates:
        raise DataError(
            f"{name} holds no array of images", f"arrays in it: {', '.join(stored.files) or 'none'}"
        )
    return Found(
        images=stored[candidates[0]],
        labels=_labels_in(stored, options),
        levels=_levels_in(stored[LEVELS_NAME], name) if LEVELS_NAME in stored.files else None,
    )


def _labels_in(stored: Any, options: DataOptions) -> NDArray[Any] | None:
    key = next((key for key in LABEL_NAMES if key in stored.files), None)
    if key is None:
        return None
    try:
        labels: NDArray[Any] = stored[key]
    except ValueError:  # pickled words, which do not matter to whoever wants only the images
        if options.labels:
            raise
        return None
    return labels


def _levels_in(value: NDArray[Any], name: str) -> int:
    if value.size != 1 or value.dtype.kind not in "iu" or not 2 <= int(value.item()) <= 256:
        raise DataError(f"`{LEVELS_NAME}` in {name} is not one whole number from 2 to 256")
    return int(value.item())


def as_images(array: NDArray[Any], name: str, options: DataOptions) -> NDArray[Any]:
    """The array as (n, height, width, channels) of uint8 or float32. Raises DataError for what is neither."""
    images = _with_four_axes(array, name)
    if len(images) < 2 or 0 in images.shape:
        raise DataError(f"{name} has shape {array.shape}: at least 2 images with at least 1 pixel are needed")
    _check_axes(images.shape, name, options)
    if images.dtype == bool:
        return images.astype(np.uint8)
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind == "f":
        return _as_float32(images, name)
    raise DataError(
        f"{name} holds {images.dtype}: uint8 (levels) or float (real values) is needed",
        "levels 0..255: array.astype(numpy.uint8); real values: array.astype(numpy.float32)",
    )


def _with_four_axes(array: NDArray[Any], name: str) -> NDArray[Any]:
    if array.ndim == 4:
        return array
    if array.ndim == 3:
        return array[..., None]
    if array.ndim == 2 and array.shape[1] == 2 and array.dtype.kind == "f":
        return array[:, None, None, :]
    raise DataError(
        f"{name} has shape {array.shape}: images are (n, height, width, channels) or (n, height, width)",
        "points in the plane are floats of shape (n, 2)",
    )


def _check_axes(shape: tuple[int, ...], name: str, options: DataOptions) -> None:
    """Catch channels that stand first, as in PyTorch, unless the number of channels was confirmed."""
    _, first, second, last = shape
    looks_channels_first = first in (1, 3) and last > MOST_COLOURS and second > MOST_COLOURS
    if looks_channels_first and options.channels != last:
        raise DataError(
            f"{name} has shape {shape}: its channels seem to stand before height and width",
            "put them last: array.transpose(0, 2, 3, 1)",
            f"if it is meant, say so: --data.channels {last}",
        )


def _as_float32(images: NDArray[Any], name: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and is found below
        converted = images.astype(np.float32, copy=False)
    start = 0
    for rows in chunks(converted):
        finite = np.isfinite(rows).all(axis=(1, 2, 3))
        if not finite.all():
            where = start + int(finite.argmin())
            raise DataError(
                f"{name} holds values that are not finite in float32: image {where} is the first",
                "leave such images out, or fill in their missing values",
            )
        start += len(rows)
    return converted


def dataset_of(
    images: NDArray[Any], path: Path, options: DataOptions, *, levels: int | None, classes: Classes | None
) -> Dataset:
    """A data set of the images of a file, in the units that its type, its own word and the options say."""
    units, notes = _units_of(images, path.name, options, levels)
    return Dataset(
        name=path.resolve().name,
        images=images,
        units=units,
        labels=None if classes is None else classes.labels,
        class_names=() if classes is None else classes.names,
        captions=(),
        source=str(path.resolve()),
        notes=notes,
    )


def _units_of(
    images: NDArray[Any], name: str, options: DataOptions, stored: int | None
) -> tuple[Units, tuple[str, ...]]:
    if images.dtype != np.uint8:
        if options.levels is not None:
            raise SettingsError(
                f"{name} holds floats, which have no levels", "leave --data.levels out, or store uint8"
            )
        return _real_of(images, options), ()
    if options.range is not None:
        raise SettingsError(
            f"{name} holds uint8, whose range is its levels", "leave --data.range out, or store floats"
        )
    levels, brightest = options.levels or stored or 256, max(int(rows.max()) for rows in chunks(images))
    if brightest >= levels:
        raise DataError(f"{name} holds the value {brightest}, outside of {levels} levels 0..{levels - 1}")
    if levels == 256 and brightest < 128 and not (options.levels or stored):
        return Levels(levels), (
            f"{name} uses only 0..{brightest} of 256 levels: --data.levels {brightest + 1} fits",
        )
    return Levels(levels), ()


def _real_of(images: NDArray[Any], options: DataOptions) -> Real:
    if options.range is not None:
        return real_from_range(*options.range, images.shape[-1])
    return real_fitted(images)
