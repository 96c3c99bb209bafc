"""Images and volumes as shades: one channel grey, three in colour, a pixel a pixel.

Images with any other number of channels are shown as grey panels, the channels side by side. A volume is shown by a
few of its slices. The gaps are black, missing values a greyish blue. Small images are magnified by an integer with
hard edges.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from kakusan.data.canvas import (
    CELL,
    GAP,
    Cells,
    OneChannel,
    Series,
    as_picture,
    followed,
    magnify,
    marked,
    mosaic,
    square_columns,
)
from kakusan.data.units import Levels, Units, channels_last, of_channel
from kakusan.shapes import Samples

MOST_SLICES = 8
"""Slices of a volume that a cell shows."""
SLICE = CELL // 2
"""Small slices are magnified up to this many pixels on their longer side."""
IN_A_CHANNEL = 16
"""Images that are drawn of a channel by itself; half as many volumes."""
FILM_SIDE = 560
"""Pixels that a grid in a film measures at the most, where a single image does not measure more."""
FILM_COLUMNS = 4
"""Images side by side in a film at the most."""
SEAM = 2
"""Pixels between the slices of one volume."""

AnyByte = TypeVar("AnyByte", bound=np.generic)


@dataclass(frozen=True)
class Pictures:
    """The view of images, (n, channels, height, width)."""

    samples: ClassVar[int] = 64
    shown: ClassVar[int] = 64
    followed: ClassVar[int] = 1
    moments: ClassVar[int] = 12
    by_channel: ClassVar[bool] = True
    shaded: ClassVar[bool] = True

    def grid(
        self, x: Samples, units: Units, columns: int | None = None, scale: int | None = None, gap: int = GAP
    ) -> Image.Image:
        """Images row by row, nearly as many rows as columns."""
        columns = columns or int(np.ceil(np.sqrt(len(x))))
        return mosaic(magnify(shaded(x, units), scale), columns, gap)

    def film_strip(
        self, rows: Sequence[Samples], units: Units, scale: int | None = None, gap: int = GAP
    ) -> Image.Image:
        """One row for each series (times, channels, height, width)."""
        cells = shaded(torch.cat(list(rows)), _unrounded(units))
        return mosaic(magnify(cells, scale), len(rows[0]), gap)

    def walk_strip(self, rows: Series, units: Units, one: int) -> Image.Image:
        """The image of this number at each time."""
        return self.film_strip(followed(rows, one), units)

    def filmed(self, shape: Sequence[int]) -> int:
        """A square of images: 4 by 4 of small ones."""
        longer = max(shape[1:])
        side = longer * max(1, CELL // longer) + GAP
        return max(1, min(FILM_COLUMNS, (FILM_SIDE + GAP) // side)) ** 2

    def film(self, rows: Series, units: Units) -> Iterator[tuple[Image.Image, ...]]:
        """Grids as of samples; what is between noise and image is on no level, what is done on those of the data."""
        for i, batches in enumerate(zip(*rows, strict=True)):
            shown = units if i == len(rows[0]) - 1 else _unrounded(units)
            yield tuple(self.grid(batch, shown) for batch in batches)

    def each(self, x: Samples, units: Units) -> list[Image.Image]:
        """One picture for each image."""
        return [as_picture(cell) for cell in magnify(shaded(x, units), None)]

    def channel(self, x: Samples, units: Units, channel: int) -> OneChannel:
        """In shades of grey."""
        own = of_channel(units, channel)
        picture = self.grid(x[:IN_A_CHANNEL, channel : channel + 1], own, IN_A_CHANNEL // 2)
        return OneChannel(picture, *shade_ends(own))


@dataclass(frozen=True)
class Slices:
    """The view of volumes, (n, channels, depth, height, width): slices through the depth, channels below each other."""

    samples: ClassVar[int] = 64
    shown: ClassVar[int] = 32
    followed: ClassVar[int] = 1
    moments: ClassVar[int] = 12
    by_channel: ClassVar[bool] = True
    shaded: ClassVar[bool] = True

    def grid(
        self, x: Samples, units: Units, columns: int | None = None, scale: int | None = None, gap: int = GAP
    ) -> Image.Image:
        """One cell for each volume: at most 8 slices side by side, evenly spaced through the depth."""
        cells = _slices(_chosen(x), units, scale, SLICE)
        return mosaic(cells, columns or square_columns(len(x), *cells.shape[1:3]), gap)

    def film_strip(
        self, rows: Sequence[Samples], units: Units, scale: int | None = None, gap: int = GAP
    ) -> Image.Image:
        """One row for each series (times, channels, depth, height, width), by the middle slice."""
        cells = _slices(_middle(torch.cat(list(rows))), _unrounded(units), scale, CELL)
        return mosaic(cells, len(rows[0]), gap)

    def walk_strip(self, rows: Series, units: Units, one: int) -> Image.Image:
        """The middle slice of the volume of this number at each time."""
        return self.film_strip(followed(rows, one), units)

    def filmed(self, shape: Sequence[int]) -> int:  # noqa: ARG002
        """A few volumes, of which slices are shown."""
        return FILM_COLUMNS

    def film(self, rows: Series, units: Units) -> Iterator[tuple[Image.Image, ...]]:
        """Grids of slices, as `Pictures.film`."""
        for i, batches in enumerate(zip(*rows, strict=True)):
            shown = units if i == len(rows[0]) - 1 else _unrounded(units)
            yield tuple(self.grid(batch, shown) for batch in batches)

    def each(self, x: Samples, units: Units) -> list[Image.Image]:
        """One picture for each volume."""
        return [as_picture(cell) for cell in _slices(_chosen(x), units, None, SLICE)]

    def channel(self, x: Samples, units: Units, channel: int) -> OneChannel:
        """In shades of grey."""
        own = of_channel(units, channel)
        picture = self.grid(x[: IN_A_CHANNEL // 2, channel : channel + 1], own, 2)
        return OneChannel(picture, *shade_ends(own))


def shade_ends(units: Units) -> tuple[float, float]:
    """The values that are black and white, of the one channel that these units are of."""
    if isinstance(units, Levels):
        return 0.0, float(units.levels - 1)
    reach = units.shown * units.scale[0]
    return units.mean[0] - reach, units.mean[0] + reach


def evenly_spaced(depth: int) -> list[int]:
    """The slices of so deep a volume that are shown: the middles of at most 8 equal parts."""
    count = min(depth, MOST_SLICES)
    return [int((i + 0.5) * depth / count) for i in range(count)]


def _unrounded(units: Units) -> Units:
    """Units with 256 levels in place of the data's own, on which nothing between noise and image lies."""
    return Levels(256) if isinstance(units, Levels) else units


def shaded(x: Samples, units: Units) -> Cells:
    """Images as grey or colour cells (n, height, width, 1 or 3), missing values (nan) in a colour of their own."""
    return marked(_panels(units.to_bytes(x)), _panels(_gone(x)))


def _gone(x: Samples) -> NDArray[np.bool_]:
    gone: NDArray[np.bool_] = channels_last(x.isnan())
    return gone


def _panels(images: NDArray[AnyByte]) -> NDArray[AnyByte]:
    """(n, height, width, any channels) to grey or colour: channels other than 1 or 3 go side by side."""
    n, height, width, channels = images.shape
    if channels in (1, 3):
        return images
    return images.transpose(0, 1, 3, 2).reshape(n, height, channels * width, 1)


def _chosen(x: Samples) -> Samples:
    """The slices that a cell shows, before they are made bytes: volumes may be large."""
    return x[:, :, evenly_spaced(x.shape[2])]


def _middle(x: Samples) -> Samples:
    """(n, channels, 1, height, width)."""
    middle = x.shape[2] // 2
    return x[:, :, middle : middle + 1]


def _slices(x: Samples, units: Units, scale: int | None, side: int) -> Cells:
    """The slices of volumes, missing values (nan) in a colour of their own."""
    cells, gone = _sliced(units.to_bytes(x), scale, side), _gone(x)
    return marked(cells, _sliced(gone.astype(np.uint8), scale, side) > 0) if gone.any() else cells


def _sliced(volumes: Cells, scale: int | None, side: int) -> Cells:
    """All slices (n, depth, height, width, channels) in grey cells, black seams between slices and between channels.

    side: in pixels, up to which small slices are magnified where no scale is given.
    """
    n, depth, height, width, channels = volumes.shape
    scale = scale or max(1, side // max(height, width))
    tall, wide = scale * height + SEAM, scale * width + SEAM
    cells = np.zeros((n, channels * tall - SEAM, depth * wide - SEAM, 1), dtype=np.uint8)
    for row in range(channels):
        for column in range(depth):
            top, left = row * tall, column * wide
            shown = magnify(volumes[:, column, ..., row : row + 1], scale)
            cells[:, top : top + scale * height, left : left + scale * width] = shown
    return cells
