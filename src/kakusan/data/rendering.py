"""Samples as pictures: grids, film strips, files. Everything here is for the eye.

Points are shown as a scatter plot (`clouds`), signals as line plots (`lines`), images and slices of volumes as shades
(`shades`): `VIEWS` says which, and only here is it asked. The gaps between cells are black, or transparent.
"""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kakusan.data.canvas import GAP as GAP
from kakusan.data.canvas import OneChannel, Series, check_rows
from kakusan.data.clouds import Clouds
from kakusan.data.lines import Lines
from kakusan.data.shades import Pictures, Slices
from kakusan.data.space import IMAGES, POINTS, SIGNALS, VOLUMES, Noun, noun_of
from kakusan.data.units import Units
from kakusan.errors import DataError, SettingsError
from kakusan.shapes import Samples
from kakusan.storage import durable


class View(Protocol):
    """The drawing of samples of one kind, and the numbers of them that make a good picture."""

    samples: ClassVar[int]
    """To be drawn of a run for its report."""
    shown: ClassVar[int]
    """Of these, in one grid."""
    followed: ClassVar[int]
    """Samples that a film strip shows at each time: one, or a whole cloud."""
    moments: ClassVar[int]
    """Times in a film strip."""
    shaded: ClassVar[bool]
    """Whether values are shades, from black to white, rather than heights."""

    def grid(
        self, x: Samples, units: Units, columns: int | None = None, scale: int | None = None, gap: int = GAP
    ) -> Image.Image:
        """All samples, row by row."""

    def film_strip(
        self, rows: Sequence[Samples], units: Units, scale: int | None = None, gap: int = GAP
    ) -> Image.Image:
        """One row for each series of one sample through time, (times, channels, ...)."""

    def walk_strip(self, rows: Series, units: Units, one: int) -> Image.Image:
        """One row for each series of batches; of each batch the sample of this number, or the whole cloud."""

    def filmed(self, shape: Sequence[int]) -> int:
        """Samples of this shape that a film shows at once."""

    def film(self, rows: Series, units: Units) -> Iterator[tuple[Image.Image, ...]]:
        """At each time a grid for each series of batches, all on the scale of the first."""

    def each(self, x: Samples, units: Units) -> list[Image.Image]:
        """One picture for each sample, comparable with each other."""

    def channel(self, x: Samples, units: Units, channel: int) -> OneChannel | None:
        """One channel of a few of these samples by itself; None where that is no picture."""


VIEWS: dict[Noun, View] = {POINTS: Clouds(), SIGNALS: Lines(), IMAGES: Pictures(), VOLUMES: Slices()}


def view_of(shape: Sequence[int]) -> View:
    """The view of samples of this shape, (channels, ...). Raises DataError for a rank without one."""
    return VIEWS[noun_of(shape)]


def grid(
    x: Samples, units: Units, *, columns: int | None = None, scale: int | None = None, gap: int = GAP
) -> Image.Image:
    """Samples side by side, row by row, in about a square; values rounded as `units` says.

    columns: of cells; points have one plot. scale: None magnifies small images until they measure about 64 pixels.
    Of signals with more than 6 channels the first 6 are drawn; of volumes at most 8 slices. Raises DataError for none.
    """
    if not len(x):
        raise DataError(f"there are no {noun_of(x.shape[1:]).many} to show")
    return view_of(x.shape[1:]).grid(x, units, columns, scale, gap)


BAND = 12
"""Conditions side by side at the most."""


def pairs_grid(given: Samples, given_units: Units, x: Samples, units: Units) -> Image.Image:
    """Conditions in a row, and below each the samples that were given it, sample k the (k mod m)-th of m conditions.

    given: (m, channels, ...). More than 12 conditions make several such bands.
    """
    if len(given) == 1:  # a column would be long and thin: the samples in about a square below it
        return _stacked([grid(given, given_units, columns=1), grid(x, units)])
    m = min(len(given), len(x))
    bands = []
    for start in range(0, m, BAND):
        shown = range(start, min(start + BAND, m))
        numbers = [k + row for row in range(0, len(x), len(given)) for k in shown if k + row < len(x)]
        bands += [
            grid(given[list(shown)], given_units, columns=len(shown)),
            grid(x[numbers], units, columns=len(shown)),
        ]
    return _stacked(bands)


def _stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """One above the other, in colour if one of them is; grey between the rows, or transparent if one of them is."""
    modes = {picture.mode for picture in pictures}
    mode = next((mode for mode in ("RGBA", "RGB") if mode in modes), "L")
    width = max(picture.width for picture in pictures)
    height = sum(picture.height for picture in pictures) + GAP * (len(pictures) - 1)
    between: dict[str, int | tuple[int, ...]] = {"L": 128, "RGB": (128, 128, 128), "RGBA": (0, 0, 0, 0)}
    sheet = Image.new(mode, (width, height), between[mode])
    top = 0
    for picture in pictures:
        sheet.paste(picture.convert(mode), (0, top))
        top += picture.height + GAP
    return sheet


def film_strip(
    rows: Sequence[Samples], units: Units, *, scale: int | None = None, gap: int = GAP
) -> Image.Image:
    """One row for each series of samples through time (x_t above, the guess of x_0 below), times in columns.

    Values are not rounded to the levels of the data: what is between noise and image is on no level. Of volumes the
    middle slice is shown. Raises DataError for rows of different shapes.
    """
    check_rows(rows)
    return view_of(rows[0].shape[1:]).film_strip(rows, units, scale, gap)


def walk_strip(rows: Series, units: Units, *, one: int = 0) -> Image.Image:
    """The film strip of a batch on its way: of points the whole cloud at each time, else the sample number `one`."""
    if not rows or not rows[0] or len({len(row) for row in rows}) != 1:
        raise DataError("a film strip needs rows of equal length")
    return view_of(rows[0][0].shape[1:]).walk_strip(rows, units, one)


def each(x: Samples, units: Units) -> list[Image.Image]:
    """One picture for each sample; signals have one scale, so that the pictures can be compared."""
    return view_of(x.shape[1:]).each(x, units)


def encode_png(image: Image.Image) -> bytes:
    """The bytes of a PNG file: the same image gives the same bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def save_folder(
    images: NDArray[np.uint8],
    folder: Path,
    *,
    first: int = 0,
    overwrite: bool = False,
    beside: Mapping[Path, bytes] = MappingProxyType({}),
) -> list[Path]:
    """Write bytes (n, height, width, 1 or 3), as `Units.to_bytes` gives them, to PNG files named by index.

    The first is `00000012.png` for `first=12`. A file that exists is an error, and then nothing is written at all;
    with `overwrite` it is replaced, once all pictures and the files `beside` them are on the disk. Pictures of other
    numbers stay: a folder may be added to.
    """
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        raise DataError(
            f"PNG files hold 1 or 3 channels, not images of shape {images.shape[1:]}",
            "to keep other images whole, write them as .npz",
        )
    paths = numbered(folder, range(first, first + len(images)))
    if not overwrite:
        _refuse_to_replace(paths)
    durable.make_folders(folder)
    durable.sweep_unfinished(folder, "*.png")
    durable.atomic_writes(_contents(paths, images, beside, overwrite=overwrite))
    return paths


def _contents(
    paths: Sequence[Path], images: NDArray[np.uint8], beside: Mapping[Path, bytes], *, overwrite: bool
) -> Iterator[tuple[Path, bytes]]:
    for path, image in zip(paths, images, strict=True):
        yield path, encode_png(Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image))
    yield from beside.items()
    if not overwrite:
        _refuse_to_replace(paths)  # another process may have come first


def _refuse_to_replace(paths: Iterable[Path]) -> None:
    taken = next((path for path in paths if path.exists()), None)
    if taken is not None:
        raise SettingsError(f"{taken} exists already", "choose another folder, or remove it first")


def numbered(folder: Path, numbers: range) -> list[Path]:
    """The files that images of these numbers go to."""
    return [folder / f"{number:08d}.png" for number in numbers]
