"""From samples given y to their files: a folder of all, or one array or picture, each with its page and its record."""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from kakusan.data.measured import OBSERVED, in_files
from kakusan.data.rendering import encode_png, numbered
from kakusan.data.saving import in_layout
from kakusan.data.shades import shaded
from kakusan.data.space import IMAGES, POINTS, SIGNALS, noun_of
from kakusan.data.units import Levels
from kakusan.errors import SettingsError
from kakusan.evaluation.calibration import Calibration
from kakusan.pages.restore.gather import page_of, picture_of
from kakusan.pages.restore.maps import panels_of, shades_of
from kakusan.pages.restore.page import render
from kakusan.run import Posterior, Run
from kakusan.storage import durable
from kakusan.storage.figures import finite

File = tuple[Path, bytes]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Kept in the array of samples."""
PICTURES = {
    "Measured": "measured",
    "Truth": "truth",
    "Mean": "mean",
    "Deviation": "deviation",
    "Left of y": "left",
}
"""Pictures of the folder, by the titles that they have on the page."""
SAMPLES = f"samples/{8 * '[0-9]'}.png"
"""Pattern of the samples of one measurement as pictures."""


@dataclass(frozen=True)
class Places:
    """The files of a restoration, or of a calibration: a folder of all, or NAME.npz or NAME.png alone.

    The page and the record are always there.
    """

    path: Path
    overwrite: bool = False

    @classmethod
    def of(cls, run: Run, out: Path | None, *, overwrite: bool, name: str = "restored") -> "Places":
        """Where they go; by default into the next folder of RUN/restored.

        Raises SettingsError for what is there, RunError for a place where nothing can be written.
        """
        path = out or _free(run.folder / name)
        if path.suffix not in ("", ".npz", ".png"):
            raise SettingsError(
                f"samples are not written as {path.suffix}", "name a folder for all, an .npz or a .png"
            )
        places = cls(path, overwrite)
        there = next((file for file in (places.path, places.page, places.record) if file.exists()), None)
        if there is not None and not overwrite:
            raise SettingsError(f"{there} is there already", "name another --out, or say --overwrite")
        if places.is_folder and path.exists() and not places._is_replaceable:
            raise SettingsError(f"{path} holds something else than samples given y", "name another --out")
        durable.require_place(places.page, places.record, *([] if places.is_folder else [places.path]))
        return places

    @property
    def _is_replaceable(self) -> bool:
        """Whether this folder is empty, or holds what a restoration or a calibration wrote."""
        return self.path.is_dir() and (self.record.exists() or not any(self.path.iterdir()))

    @property
    def is_folder(self) -> bool:
        return not self.path.suffix

    @property
    def page(self) -> Path:
        return self.path / "page.html" if self.is_folder else self.path.with_suffix(".html")

    @property
    def record(self) -> Path:
        return self.path / "record.json" if self.is_folder else self.path.with_name(self.path.name + ".json")

    @property
    def paths(self) -> tuple[Path, Path]:
        """What to look at: the output, and its page."""
        return self.path, self.page

    def as_json(self) -> dict[str, str]:
        """The files by name."""
        return {"out": str(self.path), "page": str(self.page)}


def write_restored(
    found: Posterior, calibration: Calibration | None, places: Places, command: Sequence[str]
) -> None:
    """Write all files. command: the words of the line that makes the same again, for the page."""
    record = found.as_json() if calibration is None else calibration.as_json()
    files = [
        (places.page, render(page_of(found, calibration, command)).encode("utf-8", "backslashreplace")),
        (places.record, (json.dumps(finite(record), indent=1) + "\n").encode()),
        *_outputs(found, places),
    ]
    with durable.os_errors_as_run_errors(f"cannot write {places.path}", places.path.parent):
        for folder in {path.parent for path, _ in files}:
            durable.make_folders(folder)
        durable.atomic_writes(files)
        _remove_older_samples(places, {path for path, _ in files})


def _remove_older_samples(places: Places, written: set[Path]) -> None:
    """Pictures of an earlier restoration, which `--overwrite` replaces: they would pass for samples of this one."""
    if places.is_folder:
        older = {*places.path.glob(SAMPLES), *places.path.glob(f"[0-9][0-9][0-9][0-9]/{SAMPLES}")}
        for path in older - written:
            path.unlink()


def _outputs(found: Posterior, places: Places) -> Iterator[File]:
    if places.path.suffix == ".npz":
        yield places.path, arrays_of(found)
    elif places.path.suffix == ".png":
        yield places.path, encode_png(picture_of(found))
    else:
        yield places.path / "samples.npz", arrays_of(found)
        yield places.path / "grid.png", encode_png(picture_of(found))
        yield from _pictures(found, places.path)


def arrays_of(found: Posterior) -> bytes:
    """An .npz in the units and axes of the data: samples, mean, deviation and quantiles, (n, ...), and y.

    Without the axis of measurements where there is one alone: samples (count, ...), all others (...).
    """
    y = found.measurement.y.masked_fill(~found.measurement.known, float("nan"))
    arrays = {"samples": found.decode(), "mean": found.mean, "deviation": found.deviation}
    arrays |= {f"quantile_{round(100 * share):02d}": found.quantile(share) for share in QUANTILES}
    arrays[OBSERVED] = in_files(y.cpu(), found.layout)
    if found.truth is not None:
        arrays["truth"] = in_layout(found.units.decode(found.truth), found.layout)
    if len(y) == 1:
        arrays = {name: array[0] for name, array in arrays.items()}
    if isinstance(found.units, Levels):
        arrays["levels"] = np.array(found.units.levels)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _pictures(found: Posterior, folder: Path) -> Iterator[File]:
    """Of images: all samples, and the maps of the page, on one scale; of several measurements in folders by number."""
    shape, n = found.measurement.shape, len(found.measurement)
    if noun_of(shape) in (POINTS, SIGNALS):
        return
    for k in range(n):
        inside = folder / f"{k:04d}" if n > 1 else folder
        rows = found.measurement.rows(torch.tensor([k]))
        shades = shades_of(found.samples[k], found.truth_of(k), found.units)
        for panel in panels_of(rows, found.samples[k].cpu(), found.truth_of(k), found.units):
            if panel.title in PICTURES:
                yield inside / f"{PICTURES[panel.title]}.png", panel.png
        if noun_of(shape) is IMAGES and shape[0] in (1, 3):
            images = shaded(shades.of(found.samples[k].cpu()), shades.units)
            names = numbered(inside / "samples", range(len(images)))
            for path, image in zip(names, images, strict=True):
                yield path, encode_png(Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image))


def _free(folder: Path) -> Path:
    """The next folder in this one that is not there yet: 1, 2, ..."""
    return next(path for i in count(1) if not (path := folder / str(i)).exists())
