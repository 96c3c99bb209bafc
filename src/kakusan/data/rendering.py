"""Images as pictures: grids, film strips, files. Everything here is for the eye.

One channel is shown grey and three in colour; any other number is shown as grey panels, the channels side by
side. The gaps are black. Small images are magnified by an integer with hard edges: a pixel stays a pixel.
Points, (n, 2, 1, 1), are shown as a scatter plot on a transparent ground.
"""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from kakusan.data.units import Levels, Units
from kakusan.errors import DataError, SettingsError
from kakusan.shapes import Samples
from kakusan.storage import durable

CELL = 64
"""Small images are magnified up to this many pixels on their longer side."""
GAP = 8
CLOUD = 480
"""Side of a scatter plot in pixels."""


def grid(
    x: Samples, units: Units, *, columns: int | None = None, scale: int | None = None, gap: int = GAP
) -> Image.Image:
    """Images side by side, row by row, nearly as many rows as columns; values rounded as `units` says.

    `scale` None magnifies small images until they measure about 64 pixels.
    """
    if not len(x):
        raise DataError("there are no images to show")
    if _are_points(x):
        return scatter(x, units)
    columns = columns or int(np.ceil(np.sqrt(len(x))))
    return _mosaic(_magnify(_panels(units.to_bytes(x)), scale), columns, gap)


def film_strip(
    rows: Sequence[Samples], units: Units, *, scale: int | None = None, gap: int = GAP
) -> Image.Image:
    """One row for each series of images through time (x_t above, the guess of x_0 below), times in columns.

    Shades are not rounded to the levels of the data: what is between noise and image is on no level.
    """
    if not rows or not len(rows[0]) or len({row.shape for row in rows}) != 1:
        raise DataError(f"a film strip needs rows of one shape, not {[tuple(row.shape) for row in rows]}")
    shades = Levels(256) if isinstance(units, Levels) else units
    cells = _panels(np.concatenate([shades.to_bytes(row) for row in rows]))
    return _mosaic(_magnify(cells, scale), len(rows[0]), gap)


def cloud_strip(rows: Sequence[Sequence[Samples]], units: Units, *, size: int = 160) -> Image.Image:
    """The film strip of points: each still is a whole cloud, (n, 2, 1, 1).

    All are on the axes of the first row; the first guesses of x_0 may lie far outside and are cut.
    """
    if not rows or not rows[0] or len({len(row) for row in rows}) != 1:
        raise DataError("a film strip needs rows of equal length")
    limits = _limits([units.decode(still) for still in rows[0]])
    stills = [np.asarray(_scatter(units.decode(still), limits, size)) for row in rows for still in row]
    return _mosaic(np.stack(stills), len(rows[0]), GAP)


def scatter(x: Samples, units: Units, *, size: int = CLOUD) -> Image.Image:
    """Points (n, 2, 1, 1) in the units of the data, on a transparent ground."""
    values = units.decode(x)
    return _scatter(values, _limits([values]), size)


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


def _are_points(x: Samples) -> bool:
    return x.ndim == 2 or tuple(x.shape[1:]) == (2, 1, 1)


def _panels(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, height, width, any channels) to grey or colour: channels other than 1 or 3 go side by side."""
    n, height, width, channels = images.shape
    if channels in (1, 3):
        return images
    return images.transpose(0, 1, 3, 2).reshape(n, height, channels * width, 1)


def _magnify(cells: NDArray[np.uint8], scale: int | None) -> NDArray[np.uint8]:
    """Each pixel repeated `scale` times both ways."""
    scale = scale or max(1, CELL // max(cells.shape[1:3]))
    return cells.repeat(scale, axis=1).repeat(scale, axis=2)


def _mosaic(cells: NDArray[np.uint8], columns: int, gap: int) -> Image.Image:
    """Cells row by row; what no cell covers is black, or transparent where the cells have alpha."""
    n, height, width, channels = cells.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    canvas = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), dtype=np.uint8)
    for index, cell in enumerate(cells):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        canvas[top : top + height, left : left + width] = cell
    return Image.fromarray(canvas.squeeze(2) if channels == 1 else canvas)


def _limits(clouds: Sequence[NDArray[Any]]) -> tuple[NDArray[np.float64], float]:
    """Centre and half-width of a square that shows nearly all points; a few strays may fall outside."""
    points = np.concatenate([cloud.reshape(-1, 2) for cloud in clouds]).astype(np.float64)
    low, high = np.quantile(points, [0.001, 0.999], axis=0)
    return (low + high) / 2, max(float((high - low).max()) * 0.55, 1e-6)


def _scatter(values: NDArray[Any], limits: tuple[NDArray[np.float64], float], size: int) -> Image.Image:
    from matplotlib.figure import Figure

    (x, y), half = limits
    figure = Figure(figsize=(size / 100, size / 100), dpi=100, facecolor="none")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set(xlim=(x - half, x + half), ylim=(y - half, y + half))
    points = torch.as_tensor(values).reshape(-1, 2).numpy()
    alpha = float(np.clip(40 / np.sqrt(len(points)), 0.25, 0.9))
    axes.scatter(points[:, 0], points[:, 1], s=size / 60, color="#4f7fb5", alpha=alpha, linewidths=0)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return Image.open(buffer).convert("RGBA")
