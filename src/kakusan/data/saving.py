"""Samples on disk: a grid, a folder of pictures, or an array in the data's own units."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kakusan.config.settings import Layout
from kakusan.data.rendering import encode_png, grid, numbered, pairs_grid, save_folder
from kakusan.data.shades import shaded
from kakusan.data.space import IMAGES, noun_of
from kakusan.data.units import Levels, Units, channels_last
from kakusan.errors import SettingsError
from kakusan.shapes import Samples
from kakusan.storage import durable


@dataclass(frozen=True)
class Output:
    """The output of samples: NAME.png a grid, NAME.npz an array, else a folder of PNG files by number (images only)."""

    path: Path
    numbers: range
    """Of the samples, in the series of their seed."""
    raw: bool = False
    """Keep the network's units (arrays only)."""
    overwrite: bool = False
    layout: Layout = "auto"
    """Axes of an array; auto: the channels last."""

    def check(self, shape: Sequence[int]) -> None:
        """Raises SettingsError for what cannot be written, or would replace something, RunError for a place where
        nothing can be written. Requested before the work.

        shape: of one sample, (channels, ...), of any rank.
        """
        ending = self.path.suffix
        if ending not in ("", ".png", ".npz"):
            raise SettingsError(f"samples are not written as {ending}", "name a .png, an .npz or a folder")
        if self.raw and ending != ".npz":
            raise SettingsError(
                "raw keeps the network's units, which a picture cannot", "name an .npz: --out samples.npz"
            )
        noun = noun_of(shape)
        if not ending and (noun is not IMAGES or shape[0] not in (1, 3)):
            what = f"{shape[0]} channels" if noun is IMAGES else noun.many
            raise SettingsError(
                f"{what} make no PNG files",
                "name an .npz for an array, or a .png for a picture: --out samples.npz",
            )
        if ending == ".npz" and self.layout == "single-channel" and shape[0] != 1:
            raise _several_channels(shape[0])
        if not self.overwrite:
            self._refuse_to_overwrite()
        first = self.path if ending else numbered(self.path, range(1))[0]
        durable.require_place(first, sidecar(self.path))

    def _refuse_to_overwrite(self) -> None:
        files = [self.path] if self.path.suffix or self.path.is_file() else numbered(self.path, self.numbers)
        there = next((file for file in files if file.exists()), None)
        if there is not None:
            raise SettingsError(f"{there} is there already", "name another --out, or say --overwrite")

    def save(
        self,
        x_0: Samples,
        units: Units,
        about: Mapping[str, Any],
        *,
        columns: int | None = None,
        given: tuple[Samples, Units] | None = None,
    ) -> None:
        """Write the samples, and beside them, as JSON, how they were made.

        Levels are rounded to the nearest and held to their range, which `Units.outside` counts. columns: of a grid.
        given: the images that the samples were given in turn, which a grid shows above them.
        """
        beside = {sidecar(self.path): (json.dumps(about, indent=2) + "\n").encode()}
        with durable.os_errors_as_run_errors(f"cannot write {self.path}", self.path.parent):
            durable.make_folders(self.path.parent)
            if not self.path.suffix:
                first, images = self.numbers.start, shaded(x_0, units)
                save_folder(images, self.path, first=first, overwrite=self.overwrite, beside=beside)
                return
            png = self.path.suffix == ".png"
            picture = pairs_grid(*given, x_0, units) if given else grid(x_0, units, columns=columns)
            content = encode_png(picture) if png else self._npz(x_0, units)
            durable.atomic_writes([(self.path, content), *beside.items()])

    def _npz(self, x_0: Samples, units: Units) -> bytes:
        values = channels_last(x_0) if self.raw else units.decode(x_0)
        arrays: dict[str, Any] = {"images": in_layout(values, self.layout)}
        if isinstance(units, Levels) and not self.raw:
            arrays["levels"] = np.array(units.levels)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        return buffer.getvalue()

    @property
    def others(self) -> int:
        """The number of numbered images in the folder beside these."""
        if self.path.suffix or not self.path.is_dir():
            return 0
        ours = {file.name for file in numbered(self.path, self.numbers)}
        return sum(1 for file in self.path.glob("[0-9]*.png") if file.name not in ours)


def free_output(folder: Path, name: str = "sample") -> Path:
    """The next picture in this folder that is not there yet: sample-1.png, sample-2.png, ..."""
    return next(path for i in count(1) if not (path := folder / f"{name}-{i}.png").exists())


def sidecar(out: Path) -> Path:
    """The path of the file that says how an output was made."""
    return out.with_name(out.name + ".json")


def in_layout(array: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """An array with its channels last, (n, ..., channels), with its axes as an array file of this layout has them.

    channels-first: (n, channels, ...); single-channel: (n, ...), without the axis; channels-last and auto: as it is.
    Points, (n, 2), have one order of axes only. Raises SettingsError where several channels would be a single one.
    """
    if layout == "channels-first":
        return np.ascontiguousarray(np.moveaxis(array, -1, 1))
    if layout == "single-channel":
        if array.shape[-1] != 1:
            raise _several_channels(array.shape[-1])
        return array[..., 0]
    return array


def _several_channels(count: int) -> SettingsError:
    return SettingsError(
        f"an array of {count} channels has no single-channel layout", "name channels-last or channels-first"
    )
