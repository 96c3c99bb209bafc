"""Images to compress: read only where nothing of them is lost on the way, and with the names of their files."""

from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from kakusan.config.settings import DataSettings
from kakusan.data import Dataset, is_image_folder, open_data
from kakusan.data.dataset import Progress
from kakusan.data.scan import SCALED
from kakusan.data.space import size_in_words
from kakusan.data.units import Levels
from kakusan.errors import DataError, SettingsError
from kakusan.evaluation.coding.container import stays_inside
from kakusan.run import Run

BRIGHTEST = 255
CONVERTED = "converted: "


def images_of(
    run: Run, source: Path | Dataset, reading: Progress
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Images (n, channels, ...) as the levels of this run, and the names of their files, if they have some.

    Raises DataError where they are of another shape or kind, or not all that is in the files would be kept, and
    SettingsError where the run's network needs more than images.
    """
    units = _levels_of(run)
    is_folder = isinstance(source, Path) and is_image_folder(source)
    options = run.settings.data
    options = DataSettings(bad_share=0.0, cache="") if is_folder else _bare(options)
    dataset = (
        source if isinstance(source, Dataset) else open_data(str(source), options, reading, write_cache=False)
    )
    _check_whole(dataset)
    if dataset.shape != run.data.shape:
        raise DataError(
            f"{dataset.name} has samples of another size than those of {run.folder}:"
            f" {size_in_words(dataset.shape)}, not {size_in_words(run.data.shape)}"
        )
    images = np.moveaxis(np.asarray(dataset.images), -1, 1)
    levels = _from_bytes(images, units) if is_folder else images
    if not isinstance(dataset.units, Levels) or levels is None or int(levels.max(initial=0)) >= units.levels:
        raise DataError(
            f"{dataset.name} has other values than the {units.levels} levels of {run.folder}",
            f"whole numbers 0..{units.levels - 1}; in PNG files evenly spaced from 0 to 255",
        )
    names = dataset.captions if is_folder else ()
    targets(names, dataset.name)
    return np.ascontiguousarray(levels, dtype=np.uint8), names


def targets(names: tuple[str, ...], where: str) -> list[PurePosixPath]:
    """The PNG files that images of these names go to. Raises DataError where two would be one, or one is none."""
    paths = [PurePosixPath(name).with_suffix(".png") for name in names if stays_inside(name)]
    if len({str(path).casefold() for path in paths}) < len(names):
        odd = next((name for name in names if not stays_inside(name)), None)
        said = "two images whose names differ in their ending alone" if odd is None else f"a file named {odd}"
        raise DataError(f"{where} has {said}, which not every system can keep apart or have", "rename it")
    return paths


def _levels_of(run: Run) -> Levels:
    """The units of the run. Raises DataError, SettingsError where its model has no probability of an image alone."""
    units, data = run.data.units, run.data
    if not isinstance(units, Levels):
        raise DataError(
            f"{run.folder} was trained on real numbers, which no finite number of bits keeps",
            "compressed are images, and arrays of whole numbers 0..255",
        )
    if data.masked:
        raise DataError(f"{run.folder} was trained on data with missing values, which have no levels")
    if data.class_names and not getattr(run.settings.network, "null_label", True):
        raise SettingsError(f"the network of {run.folder} knows no image without its class")
    return units


def _bare(options: DataSettings) -> DataSettings:
    """How the arrays of a run are read, for others: in their own layout, without what belongs to them."""
    return DataSettings(levels=options.levels, range=options.range, kind=options.kind)


def _check_whole(dataset: Dataset) -> None:
    """Raises DataError where what was read is not all that is there."""
    lossy = [note for note in dataset.notes if SCALED in note or note.startswith(CONVERTED)]
    lossy += [f"{file.name}: {file.reason}" for file in dataset.bad_files[:1]]
    if lossy:
        raise DataError(f"{dataset.name} cannot be kept as it is", *lossy)


def _from_bytes(images: NDArray[np.uint8], units: Levels) -> NDArray[np.uint8] | None:
    """The levels that `Levels.to_bytes` shows as these bytes, or None where some show none."""
    table = np.full(BRIGHTEST + 1, BRIGHTEST, dtype=np.uint8)
    shown = np.rint(np.arange(units.levels) * (BRIGHTEST / (units.levels - 1))).astype(np.uint8)
    table[shown] = np.arange(units.levels)
    known = np.isin(np.arange(BRIGHTEST + 1), shown)
    return table[images] if known[images].all() else None
