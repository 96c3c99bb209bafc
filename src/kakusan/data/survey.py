"""A survey of a data set: its content looked at from all sides, before a training on it."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kakusan.config.settings import DataSettings
from kakusan.data.builtin import DATASETS
from kakusan.data.dataset import Dataset, Progress, silent
from kakusan.data.folder import read_and_scan_folder, read_folder
from kakusan.data.scan import Scan
from kakusan.data.sources import DEFAULTS, as_asked, load, reader_of
from kakusan.data.space import in_pixels, kind_of
from kakusan.errors import printable
from kakusan.statistics.moments import moments_of

GROUPS_LISTED = 100


@dataclass(frozen=True, eq=False)
class Files:
    """Counts of the files of a folder, before they are decoded."""

    sizes: Counter[tuple[int, int]]
    """(width, height), upright."""
    modes: Counter[str]
    """Pillow's names: L, RGB, P, ..."""
    formats: Counter[str]
    conversions: Counter[str]
    """Conversions, in words, and the number of images of each."""
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
        channels, *size = dataset.shape
        sides = dict(zip(("width", "height", "depth"), reversed(size), strict=False))
        return {
            "name": dataset.name,
            "source": dataset.source,
            "images": len(dataset),
            "kind": kind_of(dataset.shape),
            **dict(reversed(sides.items())),
            "channels": channels,
            "dtype": str(dataset.images.dtype),
            "layout": dataset.layout or None,
            "units": dataset.units.to_state(),
            "missing": dataset.missing,
            "range": list(self.value_range),
            "mean": list(self.mean),
            "deviation": list(self.deviation),
            "classes": self.classes,
            "vectors": None if dataset.vectors is None else dataset.vectors.form.to_state(),
            "pairs": None if dataset.pairs is None else dataset.pairs.form.to_state(),
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


def survey(source: str | Path, options: DataSettings = DEFAULTS, progress: Progress = silent) -> Survey:
    """Open data as `open_data` does, and look at them. Raises what it raises."""
    dataset, files = _opened(source, options, progress)
    moments = moments_of(dataset.images, skip_missing=dataset.masked)
    return Survey(
        dataset=as_asked(dataset, options, progress),
        files=files,
        value_range=(min(moments.low), max(moments.high)),
        mean=moments.mean,
        deviation=moments.deviation,
        classes=_classes(dataset),
        duplicates=duplicates_of(dataset),
    )


def _opened(source: str | Path, options: DataSettings, progress: Progress) -> tuple[Dataset, Files | None]:
    path = Path(source).expanduser()
    if source in DATASETS or reader_of(path) is not read_folder:
        return load(source, options, progress), None
    dataset, found = read_and_scan_folder(path, options, progress)
    return dataset, _files(found, dataset)


def _files(found: Scan, dataset: Dataset) -> Files:
    """Of the images that could be decoded, so that all counts agree."""
    decoded = set(dataset.captions)
    both = zip(found.files, found.headers, strict=True)
    headers = [header for file, header in both if printable(file.name) in decoded]
    height, width = dataset.shape[1:]
    size = (height, width)
    sizes = Counter((header.height, header.width) for header in headers)
    conversions = Counter(name for header in headers for name in header.conversions)
    if scaled := len(headers) - sizes[size]:
        conversions[f"scaled and cropped to {in_pixels(*size)}"] = scaled
    return Files(
        sizes=sizes,
        modes=Counter(header.mode for header in headers),
        formats=Counter(header.format for header in headers),
        conversions=conversions,
        ignored=found.ignored,
    )


def _files_to_dict(files: Files) -> dict[str, Any]:
    return {
        "sizes": {f"{height}x{width}": count for (height, width), count in files.sizes.most_common()},
        "modes": dict(files.modes.most_common()),
        "formats": dict(files.formats.most_common()),
        "conversions": dict(files.conversions.most_common()),
        "ignored": files.ignored,
    }


def _classes(dataset: Dataset) -> dict[str, int]:
    if dataset.labels is None:
        return {}
    counts = np.bincount(dataset.labels, minlength=dataset.classes).tolist()
    return dict(zip(dataset.class_names, counts, strict=True))


def duplicates_of(dataset: Dataset) -> tuple[tuple[int, ...], ...]:
    """Groups of images that are equal by value, as the split forms them."""
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for index, number in enumerate(dataset.hashes.tolist()):
        groups[number].append(index)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)
