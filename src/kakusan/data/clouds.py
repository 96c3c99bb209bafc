"""Points in the plane as scatter plots on a transparent ground: a picture shows all of them at once."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kakusan.data.canvas import GAP, Series, mosaic
from kakusan.data.units import Units
from kakusan.errors import DataError
from kakusan.shapes import Samples

CLOUD = 480
"""Side of a scatter plot in pixels."""
STILL = 160
"""Side of one of a film strip."""
FILMED = 320
"""Side of one of a film."""


@dataclass(frozen=True)
class Clouds:
    """The view of points, (n, 2), or (n, 2, 1, 1) as older runs have them."""

    samples: ClassVar[int] = 2000
    shown: ClassVar[int] = 2000
    followed: ClassVar[int] = 2000
    moments: ClassVar[int] = 12
    shaded: ClassVar[bool] = False

    def grid(
        self,
        x: Samples,
        units: Units,
        columns: int | None = None,  # noqa: ARG002
        scale: int | None = None,  # noqa: ARG002
        gap: int = GAP,  # noqa: ARG002
    ) -> Image.Image:
        """One scatter plot of all points."""
        return scatter(x, units)

    def film_strip(
        self,
        rows: Sequence[Samples],
        units: Units,
        scale: int | None = None,  # noqa: ARG002
        gap: int = GAP,  # noqa: ARG002
    ) -> Image.Image:
        """One point through time in each row."""
        return cloud_strip([[still[None] for still in row] for row in rows], units)

    def walk_strip(self, rows: Series, units: Units, one: int) -> Image.Image:  # noqa: ARG002
        """The whole cloud at each time."""
        return cloud_strip(rows, units)

    def filmed(self, shape: Sequence[int]) -> int:  # noqa: ARG002
        """The whole cloud."""
        return self.followed

    def film(self, rows: Series, units: Units) -> Iterator[tuple[Image.Image, ...]]:
        """The whole cloud at each time, on the axes of the first series."""
        limits = _limits([units.decode(batch) for batch in rows[0]])
        for batches in zip(*rows, strict=True):
            yield tuple(_scatter(units.decode(batch), limits, FILMED) for batch in batches)

    def each(self, x: Samples, units: Units) -> list[Image.Image]:
        """One plot for each point, all on the same axes."""
        values = units.decode(x)
        limits = _limits([values])
        return [_scatter(point, limits, STILL) for point in values]

    def channel(self, x: Samples, units: Units, channel: int) -> None:
        """A coordinate by itself is no picture."""


def cloud_strip(rows: Series, units: Units, *, size: int = STILL) -> Image.Image:
    """The film strip of points: each still is a whole cloud, (n, 2).

    All are on the axes of the first row; the first guesses of x_0 may lie far outside and are cut.
    """
    if not rows or not rows[0] or len({len(row) for row in rows}) != 1:
        raise DataError("a film strip needs rows of equal length")
    limits = _limits([units.decode(still) for still in rows[0]])
    stills = [np.asarray(_scatter(units.decode(still), limits, size)) for row in rows for still in row]
    return mosaic(np.stack(stills), len(rows[0]), GAP)


def scatter(x: Samples, units: Units, *, size: int = CLOUD) -> Image.Image:
    """Points (n, 2) in the units of the data, on a transparent ground."""
    values = units.decode(x)
    return _scatter(values, _limits([values]), size)


def _limits(clouds: Sequence[NDArray[Any]]) -> tuple[NDArray[np.float64], float]:
    """Centre and half-width of a square that shows nearly all points; a few strays may fall outside."""
    points = _whole(np.concatenate([cloud.reshape(-1, 2) for cloud in clouds]).astype(np.float64))
    if not len(points):
        return np.zeros(2), 1.0
    low, high = np.quantile(points, [0.001, 0.999], axis=0)
    return (low + high) / 2, max(float((high - low).max()) * 0.55, 1e-6)


def _whole(points: NDArray[Any]) -> NDArray[Any]:
    """The points of which no coordinate is missing: others have no place in the plane."""
    whole: NDArray[Any] = points[~np.isnan(points).any(axis=1)]
    return whole


def _scatter(values: NDArray[Any], limits: tuple[NDArray[np.float64], float], size: int) -> Image.Image:
    from matplotlib.figure import Figure

    (x, y), half = limits
    figure = Figure(figsize=(size / 100, size / 100), dpi=100, facecolor="none")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set(xlim=(x - half, x + half), ylim=(y - half, y + half))
    points = _whole(np.reshape(values, (-1, 2)))
    alpha = float(np.clip(40 / np.sqrt(max(1, len(points))), 0.25, 0.9))
    axes.scatter(points[:, 0], points[:, 1], s=size / 60, color="#4f7fb5", alpha=alpha, linewidths=0)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return Image.open(buffer).convert("RGBA")
