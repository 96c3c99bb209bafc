"""The other side of a distance: real images, or the mean and covariance of their features in a file of pytorch-fid."""

import io
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kakusan.data.batches import Split
from kakusan.data.dataset import Dataset, Progress
from kakusan.errors import DataError, NumbersError, SettingsError
from kakusan.evaluation.distances import DENSE_NEIGHBOURS
from kakusan.evaluation.features import FeatureMap
from kakusan.evaluation.metrics import feature_moments
from kakusan.evaluation.options import DistanceOptions
from kakusan.evaluation.others import as_of_run
from kakusan.randomness import Purpose, permutation
from kakusan.run import Run
from kakusan.shapes import Condition, Labels, Samples
from kakusan.training.guide import Guidance
from kakusan.training.prepare import Prepared
from kakusan.training.validation import spread

TRAINING, HELD_OUT = "training", "held-out"
MEAN, COVARIANCE, FEATURES, SHA256, COUNT = "mu", "sigma", "features", "features_sha256", "count"
"""Arrays of a file of statistics; pytorch-fid has the first two, and passes over the others."""
LARGEST = 4 << 30
"""Bytes of a covariance: of 23,000 features."""
SYMMETRIC = 1e-6
"""Asymmetry of a covariance, as a share of its largest entry, that float32 may have left."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Statistics:
    """Mean (d,) and covariance (d, d) of features: all that a Fréchet distance needs of images."""

    mean: Floats
    covariance: Floats
    name: str
    features: str = ""
    """The name of the features, which ends in the first digits of their hash; empty where it is not known."""
    sha256: str = ""
    """Of the network of the features, in hexadecimal digits; empty where it is not known."""
    count: int | None = None
    """Images that they are of; None where it is not known."""

    @classmethod
    def of(cls, rows: NDArray[Any], name: str, features: str, sha256: str = "") -> "Statistics":
        """Those of features (n, d), in float64, with n - 1 below the line. Raises DataError for n < 2."""
        return cls(*feature_moments(rows), name, features, sha256, len(rows))

    def as_npz(self) -> bytes:
        """A file that pytorch-fid reads."""
        buffer = io.BytesIO()
        about = {
            FEATURES: np.array(self.features),
            SHA256: np.array(self.sha256),
            COUNT: np.array(self.count or 0),
        }
        arrays: dict[str, Any] = {MEAN: self.mean, COVARIANCE: self.covariance, **about}
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def read(cls, path: Path) -> "Statistics":
        """From a file of pytorch-fid, or ours. Raises DataError where it is damaged, or holds other shapes.

        Nothing pickled is loaded. Raises NumbersError for values that are not finite.
        """
        try:
            _check_sizes(path)
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                mean, covariance = (np.asarray(stored[key], dtype=np.float64) for key in (MEAN, COVARIANCE))
                features, sha256 = (
                    str(stored[key]) if key in stored.files else "" for key in (FEATURES, SHA256)
                )
                count = _count(stored[COUNT]) if COUNT in stored.files else None
        except (*UNREADABLE, KeyError) as error:
            raise DataError(f"the statistics {path} cannot be read: {error}") from error
        if mean.ndim != 1 or not len(mean) or covariance.shape != (len(mean), len(mean)):
            raise DataError(
                f"the statistics {path} have the shapes {mean.shape} and {covariance.shape}",
                f"`{MEAN}` is (d,) and `{COVARIANCE}` (d, d)",
            )
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise NumbersError(f"the statistics {path} hold values that are not finite")
        if np.abs(covariance - covariance.T).max() > SYMMETRIC * np.abs(covariance).max():
            raise DataError(f"`{COVARIANCE}` of {path} is not symmetric: it is no covariance")
        return cls(mean, covariance, path.name, features, sha256, count)

    def check(self, features: FeatureMap, length: int) -> None:
        """Raises SettingsError where they are of other features than these, by their hash, whatever they are called."""
        advice = "features names a network: the one that the statistics were made with"
        if not self._may_be_of(features):
            raise SettingsError(
                f"the statistics {self.name} are of the features {self.features!r}, not of {features.name!r}",
                advice,
            )
        if len(self.mean) != length:
            raise SettingsError(
                f"the statistics {self.name} are of {len(self.mean)} features, and {features.name} makes {length}",
                advice,
            )

    def _may_be_of(self, features: FeatureMap) -> bool:
        """By the whole hash where both are known, else by the digits of it that end the name; yes where none is."""
        if self.sha256 and features.sha256:
            return self.sha256 == features.sha256
        return not self.features or self.features.split()[-1:] == features.name.split()[-1:]


UNREADABLE = (
    OSError, ValueError, TypeError, EOFError, OverflowError, MemoryError, NotImplementedError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip
"""Errors of an .npz that is damaged, or not what it says."""


def _check_sizes(path: Path) -> None:
    """Raises ValueError for arrays larger than any covariance, before they are unpacked."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.filename.removesuffix(".npy") in (MEAN, COVARIANCE) and entry.file_size > LARGEST:
                raise ValueError(f"{entry.filename} has {entry.file_size:,} bytes")


def _count(stored: NDArray[Any]) -> int | None:
    """A number of images; None for 0. Raises ValueError for what is none."""
    count = float(stored)
    if not (count >= 0 and count.is_integer()):
        raise ValueError(f"`{COUNT}` is {count:g}, and no number of images")
    return int(count) or None


def is_statistics(path: Path) -> bool:
    """Whether this is a file of statistics, by the names of its arrays."""
    if path.suffix.lower() != ".npz" or not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return {f"{MEAN}.npy", f"{COVARIANCE}.npy"} <= set(archive.namelist())
    except UNREADABLE:
        return False


@dataclass(frozen=True, eq=False)
class RealImages:
    """Some images of a data set, and what they are called."""

    name: str
    dataset: Dataset
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.places)

    @property
    def x_0(self) -> Samples:
        """All of them, in the network's units; nan where a value is missing."""
        return self.dataset.with_gaps(self.places)


@dataclass(frozen=True, eq=False)
class Sides:
    """The reference of samples, and the real images that take the place of samples beside them."""

    reference: RealImages | Statistics
    others: RealImages | None
    """None of the reference; None where there are too few."""
    count: int
    """Samples, and other images: figures depend on their number."""


def of_class(prepared: Prepared, number: int | None) -> Prepared:
    """The images of one class alone; all of them where none is named, or their classes are not known."""
    labels, split = prepared.dataset.labels, prepared.split
    if number is None or labels is None:
        return prepared
    training, held_out = (part[labels[part] == number] for part in (split.training, split.held_out))
    return replace(prepared, split=Split(training, held_out))


def labels_like(reference: RealImages | Statistics, prepared: Prepared, count: int) -> Labels | None:
    """Classes for so many samples, each as often as in the reference, to within one; in a mixed order.

    Where the classes of the reference are not known they are those of the training images; None where they are not
    either.
    """
    dataset, places = prepared.dataset, prepared.split.training
    if isinstance(reference, RealImages) and reference.dataset.labels is not None:
        dataset, places = reference.dataset, reference.places
    if dataset.labels is None:
        return None
    known = np.sort(dataset.labels[places])
    even = known[((np.arange(count) + 0.5) / count * len(known)).astype(np.int64)]
    return torch.from_numpy(even[permutation(0, Purpose.EVALUATION, 0, count)])


def condition_like(
    run: Run, labels: Labels | None, guidance: Guidance | None, **asked: Any
) -> Condition | None:
    """The condition of samples that real images are compared with: as asked for, or as usual.

    Where each class would come in turn, for want of one that is asked for, they come as in `labels`, if there are any.
    asked: label, vector, image and mask, as `Run.condition` has them.
    """
    usual = run.condition(guidance=guidance, **asked)
    is_asked = any(value is not None for value in asked.values())
    if usual is None or usual.label is None or labels is None or run.data.has_examples or is_asked:
        return usual
    return replace(usual.rows(torch.arange(len(labels)) % len(usual)), label=labels)


def sides_of(run: Run, prepared: Prepared, options: DistanceOptions, reading: Progress) -> Sides:
    """Both sides as the options have them. Raises SettingsError where there are too few images, DataError where those
    that are named cannot be read, or are of another kind than those of the run."""
    if options.reference in (TRAINING, HELD_OUT):
        return within(prepared.dataset, prepared.split, options)
    path = Path(options.reference).expanduser()
    if not path.exists():
        raise SettingsError(
            f"there is no reference {options.reference}",
            f"it is {TRAINING}, {HELD_OUT}, a folder of images, an array file, or statistics of pytorch-fid (.npz)",
        )
    if is_statistics(path):
        return _beside(Statistics.read(path), prepared, options)
    dataset = as_of_run(run, path, reading, bare=True)
    _enough(len(dataset), str(path))
    chosen = RealImages(dataset.name, dataset, spread(np.arange(len(dataset)), options.reference_count))
    return _beside(chosen, prepared, options)


def within(dataset: Dataset, split: Split, options: DistanceOptions) -> Sides:
    """One split of the run's own images, beside the other. Raises SettingsError where it is too small."""
    parts = {TRAINING: split.training, HELD_OUT: split.held_out}
    reference = parts.pop(options.reference)
    ((name, others),) = parts.items()
    _enough(len(reference), options.reference)
    chosen = RealImages(options.reference, dataset, spread(reference, options.reference_count))
    return _with_others(chosen, RealImages(name, dataset, others), options)


def _enough(count: int, name: str) -> None:
    if count <= DENSE_NEIGHBOURS:
        raise SettingsError(
            f"there are {count} {name} images, too few to be compared with",
            *(["to compare with training images: reference training"] * (name == HELD_OUT)),
        )


def _beside(reference: RealImages | Statistics, prepared: Prepared, options: DistanceOptions) -> Sides:
    """Held-out images beside a reference from elsewhere, or training images where too few were held out."""
    dataset, split = prepared.dataset, prepared.split
    held_out, training = (
        RealImages(name, dataset, _new(dataset, places, reference))
        for name, places in ((HELD_OUT, split.held_out), (TRAINING, split.training))
    )
    return _with_others(reference, held_out if len(held_out) > DENSE_NEIGHBOURS else training, options)


def _new(
    dataset: Dataset, places: NDArray[np.int64], reference: RealImages | Statistics
) -> NDArray[np.int64]:
    """Those of the images that are none of the reference, as far as that can be known."""
    if isinstance(reference, Statistics):
        return places
    known = reference.dataset.rounded_hashes
    return places[~np.isin(dataset.rounded_hashes[places], known)]


def _with_others(reference: RealImages | Statistics, others: RealImages, options: DistanceOptions) -> Sides:
    if len(others) <= DENSE_NEIGHBOURS:
        return Sides(reference, None, options.count)
    count = min(options.count, len(others))
    return Sides(reference, RealImages(others.name, others.dataset, spread(others.places, count)), count)
