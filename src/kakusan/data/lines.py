"""Signals as line plots: one cell a sample, all its channels in it, each in a colour of its own.

All cells of a picture have one vertical scale, which holds 99.8% of the values; what lies beyond is cut at the cell's
edge. It is in the units of the data where the channels have about the same, else in the network's, in which every
channel is centred and scaled. A thin line marks 0. The ground is nearly transparent: the picture suits light and dark
pages. Of more than 6 channels the first 6 are drawn.

A line is the Minkowski sum of the graph with a disc, computed column by column, so that its edge is smooth and no
sample of a long signal is lost between two columns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kakusan.data.canvas import (
    GAP,
    Cells,
    OneChannel,
    Series,
    as_picture,
    followed,
    mosaic,
    square_columns,
)
from kakusan.data.units import Levels, Units, channels_last, of_channel
from kakusan.shapes import Samples

Floats = NDArray[np.float64]
Colour = tuple[int, int, int]
Layer = tuple[tuple[int, int, int, float], Floats]
"""Colour and opacity, and the share of each pixel that is covered."""

PALETTE: tuple[Colour, ...] = (
    (79, 127, 181),
    (207, 90, 62),
    (72, 153, 104),
    (201, 142, 38),
    (142, 107, 184),
    (46, 157, 170),
)
"""Colours that are seen on white and on black; one for each of the first channels."""
GROUND = (128, 128, 128, 0.10)
"""Colour and opacity of a cell."""
ZERO = (128, 128, 128, 0.55)
"""The line at 0."""
WIDTH, HEIGHT = 200, 80
"""A cell in pixels."""
STILL = 140
"""Width of a cell of a film strip, and of a film."""
FILMED, FILM_COLUMNS = 8, 2
"""Signals that a film shows, and how many of them side by side."""
STROKE = 1.5
"""Width of a line in pixels."""
FINE = 4
"""Columns in which a line is computed for each column of pixels."""
MARGIN = 0.06
"""Share of the height, above and below the values."""
SHOWN = 0.998
"""Share of the values that a scale holds."""
NOISE_SHOWN = 2.5
"""Range of noise that is shown, beyond which it is cut, in the network's units."""
MOST_NOISE = 3.0
"""So many times as wide as the clearer end of a strip, its scale is no longer that of the noise."""
ALIKE = 4.0
"""Channels whose ranges span less than so many times the narrowest have one scale, in the units of the data."""
IN_A_CHANNEL = 12
"""Signals that are drawn of a channel by itself."""
INSET = 3
"""Pixels beside the first and the last value."""

Limits = tuple[float, float]
"""The values at the lower and the upper edge of a cell."""


@dataclass(frozen=True)
class Lines:
    """The view of signals, (n, channels, length)."""

    samples: ClassVar[int] = 64
    shown: ClassVar[int] = 40
    followed: ClassVar[int] = 1
    moments: ClassVar[int] = 6
    shaded: ClassVar[bool] = False

    def grid(
        self, x: Samples, units: Units, columns: int | None = None, scale: int | None = None, gap: int = GAP
    ) -> Image.Image:
        """Signals row by row in about a square; scale: of a cell of 200x80 pixels."""
        values = plotted(x, units)
        cells = plots(values, limits_of(values), WIDTH * (scale or 1), HEIGHT * (scale or 1))
        return mosaic(cells, columns or square_columns(len(x), HEIGHT, WIDTH), gap)

    def film_strip(
        self, rows: Sequence[Samples], units: Units, scale: int | None = None, gap: int = GAP
    ) -> Image.Image:
        """One row for each series (times, channels, length), all on the scale of the first row.

        Where noise is many times as large as signals (a path of growing deviation), on the scale of the signals.
        """
        values = [plotted(row, units, rounded=False) for row in rows]
        limits = _limits_of_strip(values[0], units)
        cells = plots(np.concatenate(values), limits, STILL * (scale or 1), HEIGHT * (scale or 1))
        return mosaic(cells, len(rows[0]), gap)

    def walk_strip(self, rows: Series, units: Units, one: int) -> Image.Image:
        """The signal of this number at each time."""
        return self.film_strip(followed(rows, one), units)

    def filmed(self, shape: Sequence[int]) -> int:  # noqa: ARG002
        """A few signals, two side by side."""
        return FILMED

    def film(self, rows: Series, units: Units) -> Iterator[tuple[Image.Image, ...]]:
        """Grids of signals, on the scale of a film strip of the first series."""
        first = np.stack([plotted(batch, units, rounded=False) for batch in rows[0]])
        limits = _limits_of_strip(first, units)
        for batches in zip(*rows, strict=True):
            values = (plotted(batch, units, rounded=False) for batch in batches)
            yield tuple(mosaic(plots(each, limits, STILL), FILM_COLUMNS) for each in values)

    def each(self, x: Samples, units: Units) -> list[Image.Image]:
        """One plot for each signal, all on the same scale."""
        values = plotted(x, units)
        return [as_picture(cell) for cell in plots(values, limits_of(values))]

    def channel(self, x: Samples, units: Units, channel: int) -> OneChannel:
        """One channel, in the colour that it has among the others."""
        values = plotted(x[:IN_A_CHANNEL, channel : channel + 1], of_channel(units, channel))
        limits = limits_of(values)
        colour = PALETTE[channel % len(PALETTE)]
        return OneChannel(mosaic(plots(values, limits, colours=(colour,)), IN_A_CHANNEL // 3), *limits)


def plotted(x: Samples, units: Units, *, rounded: bool = True) -> Floats:
    """The values that are drawn, (n, at most 6 channels, length), float64.

    rounded: to the levels of the data; what is between noise and signal is on no level, and beyond their range.
    """
    x = x.detach().cpu().double()
    if isinstance(units, Levels) and not rounded:
        values = channels_last((x + 1) * ((units.levels - 1) / 2))
    else:
        values = units.decode(x) if have_one_scale(units) else channels_last(x)
    return np.moveaxis(np.asarray(values, dtype=np.float64), -1, 1)[:, : len(PALETTE)]


def have_one_scale(units: Units) -> bool:
    """Whether the channels have ranges that can be drawn in the units of the data together."""
    if isinstance(units, Levels):
        return True
    mean, scale = np.array(units.mean[: len(PALETTE)]), np.array(units.scale[: len(PALETTE)])
    return bool(np.max(mean + scale) - np.min(mean - scale) < ALIKE * 2 * scale.min())


def limits_of(values: Floats) -> Limits:
    """The edges between which nearly all values lie, with a margin; around a constant, which is then in the middle."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return -1.0, 1.0
    low, high = np.quantile(finite, [(1 - SHOWN) / 2, (1 + SHOWN) / 2])
    centre = (low + high) / 2
    half = (high - low) / 2 * (1 + 2 * MARGIN) or max(abs(centre), 1.0)
    return float(centre - half), float(centre + half)


def _limits_of_strip(row: Floats, units: Units) -> Limits:
    every = limits_of(row)
    low, high = min((limits_of(row[0]), limits_of(row[-1])), key=_width)
    if _width(every) <= MOST_NOISE * (high - low):
        return every
    least, most = _noise_in(units)
    return min(low, least), max(high, most)


def _width(limits: Limits) -> float:
    return limits[1] - limits[0]


def _noise_in(units: Units) -> Limits:
    """Standard normal noise in the units that are drawn."""
    if isinstance(units, Levels):
        half = (units.levels - 1) / 2
        return half * (1 - NOISE_SHOWN), half * (1 + NOISE_SHOWN)
    if not have_one_scale(units):
        return -NOISE_SHOWN, NOISE_SHOWN
    ends = [(m - NOISE_SHOWN * s, m + NOISE_SHOWN * s) for m, s in zip(units.mean, units.scale, strict=True)]
    return min(low for low, _ in ends), max(high for _, high in ends)


def plots(
    values: Floats,
    limits: Limits,
    width: int = WIDTH,
    height: int = HEIGHT,
    colours: Sequence[Colour] = PALETTE,
) -> Cells:
    """One cell (height, width, 4) for each signal, (n, channels, length); of more channels than colours the first."""
    return np.stack([_over(_layers(signal, limits, (height, width), colours)) for signal in values])


def _layers(signal: Floats, limits: Limits, size: tuple[int, int], colours: Sequence[Colour]) -> list[Layer]:
    """The ground, the line at 0, and the lines of the channels."""
    height, width = size
    low, high = limits
    layers: list[Layer] = [(GROUND, np.ones(size))]
    if low < 0 < high:
        at = np.zeros(size)
        at[min(height - 1, int(high / (high - low) * height)), INSET : width - INSET] = 1
        layers.append((ZERO, at))
    with np.errstate(invalid="ignore"):  # what is not finite leaves a gap
        rows = (high - signal) / (high - low) * height
        lines = [stroke(y, width, height) for _, y in zip(colours, rows, strict=False)]
    return layers + [((*colour, 1.0), line) for colour, line in zip(colours, lines, strict=False)]


def stroke(y: Floats, width: int, height: int) -> Floats:
    """The share of each pixel, (height, width), that a line through these rows covers; y counts from the upper edge."""
    low, high = (np.pad(edge, FINE * INSET, constant_values=np.nan) for edge in _extents(y, width))
    radius, reach = STROKE / 2, int(STROKE / 2 * FINE)
    top, bottom = np.full(len(low), np.inf), np.full(len(low), -np.inf)
    for shift in range(-reach, reach + 1):  # a disc at every point: its height at this distance
        half = np.sqrt(radius**2 - (shift / FINE) ** 2)
        top, bottom = np.fmin(top, np.roll(low, shift) - half), np.fmax(bottom, np.roll(high, shift) + half)
    pixel = np.arange(height)[:, None]
    covered = np.clip(np.minimum(bottom, pixel + 1) - np.maximum(top, pixel), 0, 1)
    share: Floats = covered.reshape(height, width, FINE).mean(2)
    return share


def _extents(y: Floats, width: int) -> tuple[Floats, Floats]:
    """The lowest and highest row of the graph in each fine column between the insets."""
    columns = FINE * (width - 2 * INSET)
    places = np.linspace(0, columns, len(y))
    at = np.interp(np.arange(columns + 1), places, y)
    low, high = np.minimum(at[:-1], at[1:]), np.maximum(at[:-1], at[1:])
    column = np.minimum(places.astype(np.int64), columns - 1)
    np.fmin.at(low, column, y)  # values between the edges of a column
    np.fmax.at(high, column, y)
    return low, high


def _over(layers: Sequence[Layer]) -> NDArray[np.uint8]:
    """Layers of (colour and opacity, cover), each over those before it, as (height, width, 4) with straight alpha."""
    height, width = layers[0][1].shape
    colours, alpha = np.zeros((height, width, 3)), np.zeros((height, width, 1))
    for (*colour, opacity), cover in layers:
        share = opacity * cover[..., None]
        colours = share * np.array(colour) + (1 - share) * colours
        alpha = share + (1 - share) * alpha
    cell: NDArray[np.uint8] = np.rint(np.concatenate([colours / alpha, 255 * alpha], 2)).astype(np.uint8)
    return cell
