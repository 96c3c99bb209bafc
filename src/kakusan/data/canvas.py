"""The canvas of all pictures: cells row by row, small ones magnified."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from kakusan.errors import DataError
from kakusan.shapes import Samples

CELL = 64
"""Small images are magnified up to this many pixels on their longer side."""
GAP = 8
"""Pixels between cells."""

MISSING = (70, 96, 138)
"""The colour of values that are missing, a greyish blue: neither a shade of grey nor like the black between cells."""

Cells = NDArray[np.uint8]
"""(n, height, width, channels): 1 is grey, 3 colour, 4 colour with alpha."""
Series = Sequence[Sequence[Samples]]
"""Rows of stills; each still is a batch at one time, the same samples in each."""


@dataclass(frozen=True)
class OneChannel:
    """One channel of a few samples by itself, and the values, in the units of the data, at the ends of what is seen."""

    picture: Image.Image
    low: float
    """Black, or the lower edge."""
    high: float
    """White, or the upper edge."""


def mosaic(cells: Cells, columns: int, gap: int = GAP) -> Image.Image:
    """Cells row by row; what no cell covers is black, or transparent where the cells have alpha."""
    n, height, width, channels = cells.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    canvas = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), dtype=np.uint8)
    for index, cell in enumerate(cells):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        canvas[top : top + height, left : left + width] = cell
    return as_picture(canvas)


def as_picture(cell: NDArray[np.uint8]) -> Image.Image:
    """One cell (height, width, channels) as a picture of its own."""
    return Image.fromarray(cell.squeeze(2) if cell.shape[2] == 1 else cell)


def magnify(cells: Cells, scale: int | None) -> Cells:
    """Each pixel repeated `scale` times both ways; None: until a cell measures about 64 pixels."""
    scale = scale or max(1, CELL // max(cells.shape[1:3]))
    return cells.repeat(scale, axis=1).repeat(scale, axis=2)


def marked(cells: Cells, gone: NDArray[np.bool_]) -> Cells:
    """Cells (n, height, width, 1 or 3) in the colour of missing values where one is gone, (n, height, width, channels).

    As they are where nothing is.
    """
    if not gone.any():
        return cells
    colour: Cells = np.where(gone.any(axis=-1, keepdims=True), np.array(MISSING, dtype=np.uint8), cells)
    return colour


def square_columns(count: int, height: int, width: int) -> int:
    """The number of columns with which the picture of so many cells of this size is about as wide as high."""
    return max(1, round(float(np.sqrt(count * (height + GAP) / (width + GAP)))))


def check_rows(rows: Sequence[Samples]) -> None:
    """Raises DataError for what makes no film strip."""
    if not rows or not len(rows[0]) or len({row.shape for row in rows}) != 1:
        raise DataError(f"a film strip needs rows of one shape, not {[tuple(row.shape) for row in rows]}")


def followed(rows: Series, one: int) -> list[Samples]:
    """The sample of this number through the stills of each row: (times, channels, ...)."""
    return [torch.stack([still[one] for still in row]) for row in rows]
