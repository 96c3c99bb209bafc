"""The picture of a comparison: the same seeds in a row, a column for each way; below, figures against calls."""

import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kakusan.data.rendering import each
from kakusan.data.space import POINTS, noun_of
from kakusan.evaluation.comparison import Comparison, Outcome
from kakusan.evaluation.plots import DPI, over_calls, plain

CELL = 0.8
"""Inches of a sample, and of its column's name; of signals, which are wide, for their height."""
CLOUD = 2.2
"""Inches of a cloud of points."""
LABEL = 0.75
"""Inches of a column's name."""
WIDTH, CHARTS = 9.0, 3.1
"""Inches of the charts."""
COLOURS = ("#b5402c", "#2f6f8f", "#5b8c3a", "#8a5aa8", "#c58a1b", "#3f4a56", "#d16ba5", "#6b6b2f")
REAL = "#8a8f98"


def comparison_png(found: Comparison) -> bytes:
    """Samples, and two charts over the number of calls, as PNG."""
    columns = [*found.fine, *found.outcomes]
    cells = _cells(columns)
    rows, (across, down) = max(map(len, cells)), _inches(columns[0], cells[0][0])
    wide, height = across * len(columns), down * rows + LABEL
    width = max(WIDTH, wide)
    figure = Figure(figsize=(width, height + CHARTS), layout="constrained")
    above, charts = _split(figure, 2, 1, height_ratios=[height, CHARTS])
    margin = max((width - wide) / 2, 1e-3)
    _, samples, _ = _split(above, 1, 3, width_ratios=[margin, wide, margin])
    _draw_samples(samples, columns, cells)
    titles = {"frechet": "Fréchet distance", "from_fine": "difference from the fine walk"}
    known = [name for name in titles if any(getattr(one, name) for one in found.outcomes)]
    for axis, name in zip(charts.subplots(1, max(len(known), 1), squeeze=False)[0], known, strict=False):
        _chart(axis, found, name, titles[name], found.real if name == "frechet" else None)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    return buffer.getvalue()


def _split(figure: Any, rows: int, columns: int, **ratios: Any) -> Any:
    """Parts of a figure, each laid out by itself."""
    return figure.subfigures(rows, columns, wspace=0, hspace=0, **ratios)


def _cells(columns: Sequence[Outcome]) -> list[list[NDArray[Any]]]:
    """Of each column the pictures of its samples; of points the whole cloud, (n, 2)."""
    return [_of_column(outcome) for outcome in columns]


def _of_column(outcome: Outcome) -> list[NDArray[Any]]:
    units = outcome.way.run.data.units
    if _is_of_points(outcome):
        return [np.asarray(units.decode(outcome.shown)).reshape(-1, 2)]
    return [np.asarray(picture) for picture in each(outcome.shown, units)]


def _is_of_points(outcome: Outcome) -> bool:
    return noun_of(outcome.shown.shape[1:]) is POINTS


def _inches(outcome: Outcome, cell: NDArray[Any]) -> tuple[float, float]:
    """Width and height of a cell."""
    if _is_of_points(outcome):
        return CLOUD, CLOUD
    height, width = cell.shape[:2]
    return CELL * max(1.0, width / height), CELL * max(1.0, height / width)


def _draw_samples(figure: Any, columns: Sequence[Outcome], cells: Sequence[Sequence[NDArray[Any]]]) -> None:
    axes = figure.subplots(max(map(len, cells)), len(columns), squeeze=False)
    ends = _ends([column[0] for column in cells]) if _is_of_points(columns[0]) else None
    for number, (outcome, column) in enumerate(zip(columns, cells, strict=True)):
        axes[0, number].set_title(_heading(outcome, columns), fontsize=7)
        for row, cell in enumerate(column):
            if ends is None:
                axes[row, number].imshow(cell, cmap="gray", interpolation="nearest")
            else:
                axes[row, number].scatter(*cell.T, s=4, linewidths=0, color=COLOURS[1])
                axes[row, number].set(xlim=ends[0], ylim=ends[1], aspect="equal")
    for axis in axes.flat:
        axis.set_axis_off()


def _ends(clouds: Sequence[NDArray[Any]]) -> list[tuple[float, float]]:
    """The same for all clouds: of each axis from where to where they reach, and a little beyond."""
    points = np.concatenate(clouds)
    low, high = np.nanmin(points, 0), np.nanmax(points, 0)
    beyond = 0.05 * (high - low) + 1e-9
    return [*zip((low - beyond).tolist(), (high + beyond).tolist(), strict=True)]


def _heading(outcome: Outcome, columns: Sequence[Outcome]) -> str:
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
        known = [
            (one.way.calls, of) for one in ones if (of := getattr(one, figure)) is not None and of.mean > 0
        ]
        if not known:
            continue
        known.sort(key=lambda pair: pair[0])
        calls, means = [pair[0] for pair in known], [pair[1].mean for pair in known]
        axis.errorbar(
            calls, means, [pair[1].half_width or 0.0 for pair in known], color=COLOURS[number % len(COLOURS)],
            marker="o", markersize=3, capsize=2, elinewidth=0.8, label=plain(name),
        )  # fmt: skip
    if real is not None:
        axis.axhline(real, color=REAL, linewidth=1, linestyle="--", label=f"real ({found.about['real']})")
    over_calls(axis, sorted({one.way.calls for one in found.outcomes}), title)
    axis.legend(frameon=False, fontsize=7)
