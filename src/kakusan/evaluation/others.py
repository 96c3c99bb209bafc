"""Other data than those of a run, read as these were."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kakusan.config.settings import DataSettings
from kakusan.data import Dataset, open_data
from kakusan.data.dataset import Progress
from kakusan.data.units import Levels, Units
from kakusan.errors import DataError, KakusanError
from kakusan.run import Run


def as_of_run(run: Run, data: Path | Dataset, progress: Progress, *, bare: bool = False) -> Dataset:
    """Other images than those of this run, in its units, and their classes by its numbers.

    bare: without classes, vectors and images that belong to them, which then need not be there.
    Raises DataError where they are of another shape or kind, or have classes that the run has not learned.
    """
    options = run.settings.data
    if bare:
        options = replace(options, labels=False, vectors=False, pairs=False, condition_from="")
    is_folder = isinstance(data, Path) and data.is_dir()
    other = _opened(data, options if is_folder else replace(options, size="auto"), progress)
    path = other.name if isinstance(data, Dataset) else data
    if other.shape != run.data.shape:
        raise DataError(
            f"the images of {path} are {_size(other.shape)}, those of {run.folder} {_size(run.data.shape)}"
        )
    if type(other.units) is not type(run.data.units) or (
        isinstance(other.units, Levels) and other.units != run.data.units
    ):
        raise DataError(
            f"the images of {path} are {_kind(other.units)}, those of {run.folder} {_kind(run.data.units)}",
            "an .npz says how many levels its uint8 `images` have in an entry `levels`",
        )
    if other.masked and not run.data.masked:
        raise DataError(
            f"values of {path} are missing, and {run.folder} was trained on data without missing values",
            "fill them in, or train with --data.missing mask on data that have some",
        )
    return replace(other, units=run.data.units, labels=_labels_as_learned(other, run.data.class_names))


def _opened(data: Path | Dataset, options: DataSettings, progress: Progress) -> Dataset:
    """In the run's layout where it fits, else in their own, and with their classes where there are any.

    Images without classes are measured under the null label.
    """
    source = data if isinstance(data, Dataset) else str(data)
    ways = [options, *([] if options.layout == "auto" else [replace(options, layout="auto")])]
    ways += [replace(way, labels=False) for way in ways if way.labels]
    for way in ways[:-1]:
        try:
            return open_data(source, way, progress, write_cache=False)
        except KakusanError:
            continue
    return open_data(source, ways[-1], progress, write_cache=False)


def _labels_as_learned(other: Dataset, learned: tuple[str, ...]) -> NDArray[np.int64] | None:
    """The classes of other images by the numbers that the run gave to their names."""
    if other.labels is None or not learned:
        return None
    if unknown := sorted(set(other.class_names) - set(learned)):
        raise DataError(
            f"{other.name} has a class {unknown[0]!r} that the run has not learned",
            f"it has learned: {', '.join(learned[:20])}",
        )
    numbers = np.array([learned.index(name) for name in other.class_names], dtype=np.int64)
    mapped: NDArray[np.int64] = numbers[other.labels]
    return mapped


def _size(shape: tuple[int, ...]) -> str:
    channels, *size = shape
    return f"{'x'.join(map(str, size)) or 'points'} with {channels} channel{'s' * (channels > 1)}"


def _kind(units: Units) -> str:
    return f"of {units.levels} levels" if isinstance(units, Levels) else "real numbers"
