"""From what a user names to a data set."""

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from kakusan.config.settings import DataSettings
from kakusan.data.arrays import read_array_file
from kakusan.data.builtin import DATASETS
from kakusan.data.cifar import (
    is_cifar_file,
    is_cifar_folder,
    is_pickled_cifar,
    read_cifar,
    refuse_pickled_cifar,
)
from kakusan.data.conditions import CONSTANT, PairColumn
from kakusan.data.dataset import Dataset, Progress, silent
from kakusan.data.folder import read_folder
from kakusan.data.idx import is_idx, read_idx_file, training_set_in
from kakusan.data.memory import InMemory, dataset_in_memory
from kakusan.data.missing import read_as_conditions
from kakusan.data.scan import SIZE_ADVICE
from kakusan.data.space import kind_of, size_in_words
from kakusan.errors import DataError, SettingsError, printable

Reader: TypeAlias = Callable[[Path, DataSettings, Progress], Dataset]

DEFAULTS = DataSettings()
NAMED = 5
PACKED = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")


def open_data(
    source: str | Path | InMemory,
    options: DataSettings = DEFAULTS,
    progress: Progress = silent,
    *,
    labels: ArrayLike | None = None,
    vectors: ArrayLike | None = None,
    conditions: NDArray[Any] | torch.Tensor | None = None,
    write_cache: bool = True,
) -> Dataset:
    """The data set that a built-in name, a folder or a file stands for (a built-in name comes first), or that of an
    array (n, height, width, channels), (n, height, width) or (n, 2), or of a tensor (n, channels, height, width).

    options: how to read them (`options.source` is not looked at). labels, vectors, conditions: with an array, the
    class of each image, numbers (n, k) that describe it, an image that belongs to it.
    write_cache: whether a cache that the options name is made where it is missing or stale, and not only read.
    Raises DataError for what cannot be read, SettingsError for options that do not fit the data.
    """
    if isinstance(source, str | Path):
        if not labels is vectors is conditions is None:
            raise SettingsError(
                "labels, vectors and conditions are given with an array",
                "a file or folder brings its own: data.labels, data.vectors, data.pairs",
            )
        return as_asked(load(source, options, progress, write_cache=write_cache), options, progress)
    options = replace(
        options,
        labels=options.labels or labels is not None,
        vectors=options.vectors or vectors is not None,
        pairs=options.pairs or conditions is not None,
    )
    return as_asked(dataset_in_memory(source, options, labels, vectors, conditions), options, progress)


def load(
    source: str | Path, options: DataSettings, progress: Progress, *, write_cache: bool = True
) -> Dataset:
    """As `open_data`, but with classes wherever there are any, asked for or not."""
    if isinstance(source, str) and source in DATASETS:
        dataset = DATASETS[source].load()
        if Path(source).is_dir():
            note = f"{source} is the data set that ships with kakusan; the folder here is ./{source}"
            dataset = replace(dataset, notes=(*dataset.notes, note))
        return dataset
    path = Path(source).expanduser()
    try:
        reader = reader_of(path)
        if reader is read_folder:
            return read_folder(path, options, progress, write_cache=write_cache)
        return reader(path, options, progress)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise DataError(
            f"{path} does not fit in memory", "a .npy file of uint8 is read piece by piece"
        ) from error


def as_asked(dataset: Dataset, options: DataSettings, progress: Progress = silent) -> Dataset:
    """With the conditions that were asked for and no others; and the shape that was asked for, or an error."""
    _check_shape(dataset, options)
    dataset = _paired(dataset, options, progress) if options.condition_from else dataset
    if options.vectors and dataset.vectors is None:
        raise DataError(
            f"{dataset.name} has no vectors",
            "of an .npz they are its array `vectors`, of a folder a CSV file in it or beside it (file name, numbers)",
        )
    if options.pairs and dataset.pairs is None:
        raise DataError(
            f"{dataset.name} has no images that belong to its samples",
            "of an .npz they are its array `conditions`; of another folder: --data.condition-from DIR",
        )
    dataset = replace(
        dataset,
        vectors=dataset.vectors if options.vectors else None,
        pairs=dataset.pairs if options.pairs or options.condition_from else None,
        notes=(*dataset.notes, *_on_pairs(dataset, options)),
    )
    if not options.labels:
        notes = (*dataset.notes, *_on_classes(dataset))
        return replace(dataset, labels=None, class_names=(), notes=notes)
    if dataset.labels is None:
        raise DataError(f"{dataset.name} has no classes", "leave --data.labels out")
    return dataset


def _paired(dataset: Dataset, options: DataSettings, progress: Progress) -> Dataset:
    """With the images of another folder, by their names, or of an array, by their order."""
    with read_as_conditions():
        other = load(options.condition_from, DataSettings(bad_share=options.bad_share), progress)
    if len(other.shape) != len(dataset.shape):
        raise DataError(
            f"{other.name} holds {kind_of(other.shape)}s, and {dataset.name} {kind_of(dataset.shape)}s",
            "conditions are of the same kind as the samples",
        )
    if dataset.captions and other.captions:
        images = other.gather(np.array(_places(dataset, other), dtype=np.int64))
    elif len(other) == len(dataset):
        images = other.images
    else:
        raise DataError(
            f"{other.name} has {len(other):,} images for {len(dataset):,} of {dataset.name}",
            "without names they belong together by their order: as many are needed",
        )
    notes = (f"conditions from {other.name}: {note.removesuffix(SIZE_ADVICE)}" for note in other.notes)
    return replace(dataset, notes=(*dataset.notes, *notes), pairs=PairColumn(images, other.units, other.name))


def _places(dataset: Dataset, other: Dataset) -> list[int]:
    """The position of the image that belongs to each sample: the same name, or the same but for its ending."""
    by_name = {name: place for place, name in enumerate(other.captions)}
    by_stem = {str(PurePath(name).with_suffix("")): place for name, place in by_name.items()}
    places = [
        by_name.get(name, by_stem.get(str(PurePath(name).with_suffix("")))) for name in dataset.captions
    ]
    if lacking := [name for name, place in zip(dataset.captions, places, strict=True) if place is None]:
        raise DataError(
            f"{other.name} has no image for {len(lacking):,} of {len(dataset):,} of {dataset.name}:"
            f" {', '.join(lacking[:NAMED])}",
            "images that belong together have the same name in the two folders",
        )
    return [place for place in places if place is not None]


def _on_pairs(dataset: Dataset, options: DataSettings) -> Iterator[str]:
    """Notes on images that belong to samples: another size is scaled; and on numbers, which flips do not mirror."""
    if dataset.pairs is not None and dataset.pairs.form.shape[1:] != dataset.shape[1:]:
        theirs, ours = (size_in_words(shape) for shape in (dataset.pairs.form.shape, dataset.shape))
        yield f"conditions from {dataset.pairs.name}: {theirs}, scaled to the size of the samples ({ours})"
    if dataset.vectors is not None and options.vectors:
        for name, scale in zip(dataset.vectors.form.names, dataset.vectors.form.scale, strict=True):
            if scale == CONSTANT:
                yield f"{name} is the same for all samples: nothing is learned from it"
    if options.vectors and options.flip:
        yield "half of the images are mirrored (--data.flip), and the numbers that describe them are not"


def _on_classes(dataset: Dataset) -> tuple[str, ...]:
    """A note on classes that were not asked for."""
    if dataset.labels is None:
        return ()
    names = ", ".join(printable(name, 30) for name in dataset.class_names[:NAMED])
    more = ", ..." if dataset.classes > NAMED else ""
    return (f"there are {dataset.classes} classes ({names}{more}), not learned: --data.labels learns them",)


def _check_shape(dataset: Dataset, options: DataSettings) -> None:
    channels, *size = dataset.shape
    wanted = options.height_and_width
    if wanted is not None and len(size) != 2 and wanted != (1, 1):  # as older versions had the size of points
        raise SettingsError(
            f"{dataset.name} holds no images, which have a height and a width", "leave --data.size out"
        )
    if wanted is not None and len(size) == 2 and wanted != tuple(size):
        raise SettingsError(
            f"{dataset.name} is {size[0]} high and {size[1]} wide, not {wanted[0]} high and {wanted[1]} wide",
            "only a folder of images is scaled; leave --data.size out",
        )
    if options.kind not in ("auto", kind_of(dataset.shape)):
        raise SettingsError(
            f"{dataset.name} holds {kind_of(dataset.shape)}s, not {options.kind}s".replace(
                "pointss", "points"
            ),
            "leave --data.kind out",
        )
    if options.channels not in ("auto", channels):
        raise SettingsError(f"{dataset.name} has {channels} channels, not {options.channels}")
    if dataset.name in DATASETS and not options.levels == options.range == "auto":
        raise SettingsError(f"{dataset.name} brings its own levels or range", "leave them out")
    if options.layout != "auto" and not dataset.layout:
        raise SettingsError(
            f"{dataset.name} is no array file: its layout is known", "leave --data.layout out"
        )


def reader_of(path: Path) -> Reader:
    """The reader of this folder or file. Raises DataError if there is none."""
    if not path.exists():
        raise _missing(path)
    if is_pickled_cifar(path):
        return refuse_pickled_cifar
    if not (path.is_dir() or path.is_file()):  # a pipe or a device may never end, or never begin
        raise DataError(
            f"{path} is neither a file nor a folder, but a pipe, a socket or a device",
            "write what it gives to a file, and name that",
        )
    return _reader_of_folder(path) if path.is_dir() else _reader_of_file(path)


def is_image_folder(source: str | Path) -> bool:
    """Whether this is a folder of pictures, which are brought to one size and as many channels as wanted."""
    path = Path(source).expanduser()
    return bool(source) and source not in DATASETS and path.is_dir() and reader_of(path) is read_folder


def _reader_of_folder(folder: Path) -> Reader:
    if (folder / "config.toml").is_file() and (folder / "data.json").is_file():
        raise DataError(f"{folder} is a run, not data", "its data stand in its config.toml: data.source")
    images = training_set_in(folder)
    if images is not None:
        name = folder.resolve().name
        return lambda _, options, progress: replace(read_idx_file(images, options, progress), name=name)
    return read_cifar if is_cifar_folder(folder) else read_folder


@dataclass(frozen=True)
class Format:
    """A format of data files: what it is called, whether a file is one, and who reads it."""

    called: str
    """As "read are ... " goes on."""
    recognizes: Callable[[Path], bool]
    read: Reader


READERS = (
    Format(".npy and .npz arrays", lambda path: path.suffix.lower() in (".npy", ".npz"), read_array_file),
    Format("IDX files", is_idx, read_idx_file),
    Format("CIFAR-10's binary files", is_cifar_file, read_cifar),
)
"""The first that recognizes a file reads it."""


def _reader_of_file(path: Path) -> Reader:
    for form in READERS:
        if form.recognizes(path):
            return form.read
    raise DataError(f"{path} is not data that can be read", *_advice_for(path))


def _advice_for(path: Path) -> tuple[str, ...]:
    if path.suffix.lower() in PACKED:
        return ("unpack it first, and name the folder",)
    *others, last = ("folders of images", *(form.called for form in READERS))
    return (
        f"read are {', '.join(others)} and {last}",
        f"a single image is not enough: its folder is {path.resolve().parent}",
    )


def _missing(path: Path) -> DataError:
    nearby = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
    names = [*DATASETS] if path.name == str(path) else []
    close = difflib.get_close_matches(path.name, names, n=1)
    close += [str(path.with_name(name)) for name in difflib.get_close_matches(path.name, nearby, n=2)]
    advice = [f"did you mean {' or '.join(close)}?"] if close else []
    return DataError(
        f"there is no file, folder or data set named {path}",
        *advice,
        f"built in are {', '.join(DATASETS)}; anything else is a folder or a file",
    )
