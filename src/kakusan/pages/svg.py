"""Just enough drawing for charts within a page: two scales, a frame, lines, dots, stairs.

The elements carry classes, and the page's style sheet colours them, in light and in dark. There are no ids,
so any number of charts can stand on one page, and the same numbers always give the same text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WIDE = 370
"""The width of a chart in its own units, about that of a phone: its text is as large there as on a desk."""
_TOP, _BELOW, _RIGHT = 8, 42, 20  # margins; the left one fits the numbers of the axis
_BUCKETS = 400  # a line of more points keeps the lowest and highest of each bucket


@dataclass(frozen=True)
class Scale:
    """From the numbers of one axis to 0..1, linear or logarithmic."""

    low: float
    high: float
    log: bool = False

    def at(self, values: Floats) -> Floats:
        """0 at `low`, 1 at `high`."""
        if self.log:
            return np.asarray(np.log(values / self.low) / np.log(self.high / self.low))
        return (values - self.low) / (self.high - self.low)

    def ticks(self, about: int) -> list[float]:
        """Round numbers within the scale, `about` as many or fewer."""
        candidates = _round_logarithmic(self) if self.log else _round_even(self)
        return min(candidates, key=lambda ticks: (len(ticks) > about, abs(len(ticks) - about)))


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A chart's scales and size. Its methods draw marks, `close` puts them into the finished chart."""

    x: Scale
    y: Scale
    x_name: str
    y_text: Callable[[float], str] = "{:g}".format
    height: float = 236
    width: float = WIDE

    def line(self, x: Floats, y: Floats, style: str) -> str:
        """A line through the points, broken where a value is not finite."""
        kept = _worth_drawing(y)
        return f'<path class="line {style}" d="{_path(self._px(x[kept]), self._py(y[kept]))}"/>'

    def stairs(self, edges: Floats, values: Floats, style: str) -> str:
        """A level for each interval between two edges; a gap where it is not finite."""
        x, y = np.repeat(edges, 2)[1:-1], np.repeat(values, 2)
        return f'<path class="line {style}" d="{_path(self._px(x), self._py(y))}"/>'

    def bars(self, edges: Floats, values: Floats, style: str) -> str:
        """Stairs filled down to the axis."""
        x, y = self._px(np.repeat(edges, 2)), self._py(np.pad(np.repeat(values, 2), 1))
        return f'<path class="area {style}" d="{_path(x, y)}Z"/>'

    def ribbon(self, x: Floats, low: Floats, high: Floats, style: str) -> str:
        """What lies between two lines, which are finite, filled."""
        there, back = self._px(x), self._px(x)[::-1]
        outline = _path(np.append(there, back), np.append(self._py(low), self._py(high)[::-1]))
        return f'<path class="area {style}" d="{outline}Z"/>'

    def dots(self, x: Floats, y: Floats, style: str, words: Sequence[str]) -> str:
        """Dots that say their words when pointed at."""
        return "".join(
            f'<circle class="dot {style}" cx="{px:.1f}" cy="{py:.1f}" r="3">'
            f"<title>{escape(word)}</title></circle>"
            for px, py, word in zip(self._px(x), self._py(y), words, strict=True)
        )

    def band(self, low: float, high: float, word: str) -> str:
        """A shaded stretch of x with a word in it and a dashed line at its high end."""
        start, end = self._px(np.array([low, high]))
        size = f'width="{end - start:.1f}" height="{self._floor - _TOP:g}"'
        shade = f'<rect class="band" x="{start:.1f}" y="{_TOP}" {size}/>'
        border = f'<path class="line dashed" d="M{end:.1f} {_TOP}V{self._floor:g}"/>'
        return shade + border + _text((start + end) / 2, _TOP + 16, word)

    def close(self, shows: str, *marks: str) -> str:
        """The chart as an element of a page; `shows` is for those who cannot see it."""
        head = f'<svg class="chart" viewBox="0 0 {self.width:g} {self.height:g}" role="img"'
        label = f' aria-label="{escape(shows)}">'
        return "".join([head, label, self._y_axis(), *marks, self._x_axis(), "</svg>"])

    @property
    def _floor(self) -> float:
        return self.height - _BELOW

    @property
    def _right(self) -> float:
        return self.width - _RIGHT

    @property
    def _left(self) -> float:
        return 12 + 6.2 * max(len(self.y_text(tick)) for tick in self._y_ticks())

    def _y_ticks(self) -> list[float]:
        return self.y.ticks(round(self.height / 40))

    def _px(self, x: Floats) -> Floats:
        return self._left + self.x.at(x) * (self._right - self._left)

    def _py(self, y: Floats) -> Floats:
        return self._floor - self.y.at(y) * (self._floor - _TOP)

    def _y_axis(self) -> str:
        ticks = self._y_ticks()
        return "".join(
            f'<path class="rule" d="M{self._left:.1f} {y:.1f}H{self._right:g}"/>'
            + _text(self._left - 7, y + 3.7, self.y_text(tick), anchor="end")
            for tick, y in zip(ticks, self._py(np.array(ticks)), strict=True)
        )

    def _x_axis(self) -> str:
        ticks = self.x.ticks(round(self.width / 60))
        numbers = "".join(
            _text(x, self._floor + 17, f"{tick:,.10g}")
            for tick, x in zip(ticks, self._px(np.array(ticks)), strict=True)
        )
        return numbers + _text((self._left + self._right) / 2, self.height - 6, self.x_name)


def _text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _path(x: Floats, y: Floats) -> str:
    """Move to the first point of each finite stretch and draw lines to the others."""
    parts, pen = [], "M"
    for px, py, drawn in zip(x, y, np.isfinite(x) & np.isfinite(y), strict=True):
        if drawn:
            parts.append(f"{pen}{px:.1f} {py:.1f}")
        pen = "L" if drawn else "M"
    return "".join(parts)


def _worth_drawing(y: Floats) -> NDArray[np.int64]:
    """Places of the points that a chart of this width can show: the extremes of each bucket."""
    finite = np.flatnonzero(np.isfinite(y))
    if len(finite) <= 2 * _BUCKETS:
        return np.arange(len(y))
    buckets = np.array_split(finite, _BUCKETS)
    return np.unique([place for b in buckets for place in (b[y[b].argmin()], b[y[b].argmax()])])


def _round_even(scale: Scale) -> list[list[float]]:
    """Steps of 1, 2 or 5 times a power of ten."""
    size = np.floor(np.log10(scale.high - scale.low))
    steps = [m * 10.0**e for e in (size - 2, size - 1, size) for m in (1, 2, 5)]
    return [_multiples(step, scale) for step in steps]


def _multiples(step: float, scale: Scale) -> list[float]:
    slack = 1e-9 * (scale.high - scale.low)
    first, last = np.ceil((scale.low - slack) / step), np.floor((scale.high + slack) / step)
    return [float(f"{n * step:.12g}") for n in np.arange(first, last + 1) + 0.0] if last - first < 100 else []


def _round_logarithmic(scale: Scale) -> list[list[float]]:
    """1, or 1 and 3, or 1, 2 and 5 times each power of ten, or even numbers where there is little room."""
    powers = np.arange(np.floor(np.log10(scale.low)), np.ceil(np.log10(scale.high)) + 1)
    grids = [[float(f"{m}e{int(p)}") for p in powers for m in ms] for ms in ((1,), (1, 3), (1, 2, 5))]
    inside = [[tick for tick in grid if scale.low <= tick <= scale.high] for grid in grids]
    return [*inside, *(_round_even(scale) if len(inside[-1]) < 2 else [])]
