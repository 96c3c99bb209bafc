"""The picture of a comparison: the same seeds in a row, a column for each way; below, figures against calls."""

import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from kakusan.data.rendering import each, grid
from kakusan.data.space import POINTS, noun_of
from kakusan.evaluation.comparison import Comparison, Outcome
from kakusan.evaluation.plots import DPI, over_calls, plain

CELL = 0.62
"""Inches of a sample."""
LABEL = 0.75
"""Inches of a column's name."""
CHARTS = 3.1
"""Inches of the charts."""
COLOURS = ("#b5402c", "#2f6f8f", "#5b8c3a", "#8a5aa8", "#c58a1b", "#3f4a56", "#d16ba5", "#6b6b2f")
REAL = "#8a8f98"


def comparison_png(found: Comparison) -> bytes:
    """Samples, and two charts over the number of calls, as PNG."""
    columns = [*found.fine, *found.outcomes]
    pictures = [_pictures(outcome) for outcome in columns]
    rows = max(map(len, pictures))
    width, height = max(9.0, CELL * len(columns) + 1), CELL * rows + LABEL
    figure = Figure(figsize=(width, height + CHARTS), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[height, CHARTS])
    samples, charts = parts
    _draw_samples(samples, columns, pictures, rows)
    titles = {"frechet": "Fréchet distance", "from_fine": "difference from the fine walk"}
    known = [name for name in titles if any(getattr(one, name) for one in found.outcomes)]
    for axis, name in zip(charts.subplots(1, max(len(known), 1), squeeze=False)[0], known, strict=False):
        _chart(axis, found, name, titles[name], found.real if name == "frechet" else None)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    return buffer.getvalue()


def _pictures(outcome: Outcome) -> list[Image.Image]:
    """One for each sample; of points the whole cloud."""
    units = outcome.way.run.data.units
    if noun_of(outcome.shown.shape[1:]) is POINTS:
        return [grid(outcome.shown, units)]
    return each(outcome.shown, units)


def _draw_samples(figure: Any, columns: list[Outcome], pictures: list[list[Image.Image]], rows: int) -> None:
    axes = figure.subplots(rows, len(columns), squeeze=False)
    for number, (outcome, ones) in enumerate(zip(columns, pictures, strict=True)):
        axes[0, number].set_title(_heading(outcome, columns), fontsize=7)
        for row, picture in enumerate(ones):
            axes[row, number].imshow(np.asarray(picture), cmap="gray", interpolation="nearest")
    for axis in axes.flat:
        axis.set_axis_off()


def _heading(outcome: Outcome, columns: list[Outcome]) -> str:
    """The name of a column, in which only what differs is said."""
    way = outcome.way
    lines = [*plain(way.name).split(", "), f"{way.steps} steps"]
    if len({each.way.guidance for each in columns}) > 1:
        lines.insert(0, f"guidance {way.guidance:g}")
    if len({each.way.run.folder for each in columns}) > 1:
        lines.insert(0, plain(_run_name(outcome, columns)))
    return "\n".join(lines)


def _run_name(outcome: Outcome, among: Sequence[Outcome]) -> str:
    """The name of its folder, or the whole path where another has the same name."""
    folder = outcome.way.run.folder
    same = {each.way.run.folder for each in among if each.way.run.folder.name == folder.name}
    return str(folder) if len(same) > 1 else folder.name


def series(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """Ways that differ in their number of steps alone, by what they have in common."""
    listed = list(outcomes)
    several_runs = len({each.way.run.folder for each in listed}) > 1
    found: dict[str, list[Outcome]] = {}
    for outcome in listed:
        way = outcome.way
        name = f"{_run_name(outcome, listed)}, " * several_runs + way.name
        name += "" if way.guidance is None else f", guidance {way.guidance:g}"
        found.setdefault(name, []).append(outcome)
    return found


def _chart(axis: Any, found: Comparison, figure: str, title: str, real: float | None) -> None:
    for number, (name, ones) in enumerate(series(found.outcomes).items()):
        points = sorted((one.way.calls, getattr(one, figure)) for one in ones if getattr(one, figure))
        if not points:
            continue
        colour = COLOURS[number % len(COLOURS)]
        axis.plot(*zip(*points, strict=True), marker="o", markersize=3, color=colour, label=plain(name))
    if real is not None:
        axis.axhline(real, color=REAL, linewidth=1, linestyle="--", label=f"real ({found.about['real']})")
    calls = sorted({one.way.calls for one in found.outcomes})
    over_calls(axis, calls, title)
    axis.legend(frameon=False, fontsize=7)
