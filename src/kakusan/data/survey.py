"""What is in there: a data set looked at from all sides, before anyone trains on it."""

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kakusan.data.builtin import DATASETS
from kakusan.data.dataset import Dataset, Progress, chunks, silent
from kakusan.data.folder import read_and_scan_folder, read_folder
from kakusan.data.opening import DEFAULTS, as_asked, load, reader_of
from kakusan.data.options import DataOptions
from kakusan.data.scan import Scan

GROUPS_LISTED = 100


@dataclass(frozen=True, eq=False)
class Files:
    """What the files of a folder are before they are decoded, counted."""

    sizes: Counter[tuple[int, int]]
    """(width, height), upright."""
    modes: Counter[str]
    """Pillow's names: L, RGB, P, ..."""
    formats: Counter[str]
    conversions: Counter[str]
    """What was done to how many images, in words."""
    ignored: int


@dataclass(frozen=True, eq=False)
class Survey:
    """The findings. Values, means and deviations are in the data's own units, one for each channel."""

    dataset: Dataset
    files: Files | None
    """None for what is not a folder of images."""
    value_range: tuple[float, float]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    classes: dict[str, int]
    """Images of each class, whether or not classes were asked for; empty where there are none."""
    duplicates: tuple[tuple[int, ...], ...]
    """Groups of indices whose images are the same in every value."""

    def name_of(self, index: int) -> str:
        """An image's caption, or its number."""
        return self.dataset.captions[index] if self.dataset.captions else str(index)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        dataset = self.dataset
        channels, height, width = dataset.shape
        return {
            "name": dataset.name,
            "source": dataset.source,
            "images": len(dataset),
            "height": height,
            "width": width,
            "channels": channels,
            "dtype": str(dataset.images.dtype),
            "units": dataset.units.to_state(),
            "range": list(self.value_range),
            "mean": list(self.mean),
            "deviation": list(self.deviation),
            "classes": self.classes,
            "reserved": [self.name_of(index) for index in dataset.reserved],
            "duplicates": sum(len(group) - 1 for group in self.duplicates),
            "duplicate_groups": [
                [self.name_of(i) for i in group] for group in self.duplicates[:GROUPS_LISTED]
            ],
            "bad": [{"name": file.name, "reason": file.reason} for file in dataset.bad_files],
            "files": None if self.files is None else _files_to_dict(self.files),
            "notes": list(dataset.notes),
            "fingerprint": dataset.fingerprint,
        }


def survey(source: str | Path, options: DataOptions = DEFAULTS, progress: Progress = silent) -> Survey:
    """Open data as `open_data` does, and look at them. Raises what it raises."""
    dataset, files = _opened(source, options, progress)
    mean, deviation = _moments(dataset.images)
    return Survey(
        dataset=as_asked(dataset, options),
        files=files,
        value_range=_range(dataset.images),
        mean=mean,
        deviation=deviation,
        classes=_classes(dataset),
        duplicates=_duplicates(dataset.images),
    )


def _opened(source: str | Path, options: DataOptions, progress: Progress) -> tuple[Dataset, Files | None]:
    path = Path(source).expanduser()
    if source in DATASETS or reader_of(path) is not read_folder:
        return load(source, options, progress), None
    dataset, found = read_and_scan_folder(path, options, progress)
    return dataset, _files(found, (dataset.images.shape[2], dataset.images.shape[1]))


def _files(found: Scan, size: tuple[int, int]) -> Files:
    sizes = Counter((header.width, header.height) for header in found.headers)
    conversions = Counter(name for header in found.headers for name in header.conversions)
    if scaled := len(found.headers) - sizes[size]:
        conversions["scaled and cropped to {}x{}".format(*size)] = scaled
    return Files(
        sizes=sizes,
        modes=Counter(header.mode for header in found.headers),
        formats=Counter(header.format for header in found.headers),
        conversions=conversions,
        ignored=found.ignored,
    )


def _files_to_dict(files: Files) -> dict[str, Any]:
    return {
        "sizes": {f"{width}x{height}": count for (width, height), count in files.sizes.most_common()},
        "modes": dict(files.modes.most_common()),
        "formats": dict(files.formats.most_common()),
        "conversions": dict(files.conversions.most_common()),
        "ignored": files.ignored,
    }


def _range(images: NDArray[Any]) -> tuple[float, float]:
    parts = chunks(images)
    return float(min(part.min() for part in parts)), float(max(part.max() for part in parts))


def _moments(images: NDArray[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel, in float64 and in two passes, so that nothing cancels."""
    per_channel = images[..., 0].size
    mean = sum(part.sum((0, 1, 2), dtype=np.float64) for part in chunks(images)) / per_channel
    squares = sum(np.square(part - mean).sum((0, 1, 2)) for part in chunks(images))
    return tuple(mean.tolist()), tuple(np.sqrt(squares / per_channel).tolist())


def _classes(dataset: Dataset) -> dict[str, int]:
    if dataset.labels is None:
        return {}
    counts = np.bincount(dataset.labels, minlength=dataset.classes).tolist()
    return dict(zip(dataset.class_names, counts, strict=True))


def _duplicates(images: NDArray[Any]) -> tuple[tuple[int, ...], ...]:
    groups: defaultdict[bytes, list[int]] = defaultdict(list)
    for index, image in enumerate(images):
        groups[hashlib.sha256(np.ascontiguousarray(image).data).digest()].append(index)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)
