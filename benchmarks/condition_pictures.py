"""The pictures of conditions.py: samples beside the figures that were measured on them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

SAMPLES, OTHER, REAL = "#b5402c", "#2f6f8f", "#8a8f98"
DPI = 110
COLUMNS = 10
ROWS_OF_PAIRS, SHOWN_MEMBERS = 8, 4


def of_classes(
    path: Path,
    rows: Mapping[str, Mapping[str, float]],
    weights: Sequence[float],
    shown: NDArray[np.uint8],
    shown_weight: float,
) -> None:
    """A column of samples for each class; their share of the asked class and their distance by guidance."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.25, 1, 1))
    _sheet(left, sheet(shown, COLUMNS, most=16))
    left.set_title(f"the first samples at guidance {shown_weight:g}", fontsize=10)
    of = [rows[f"guidance {weight:g}"] for weight in weights]
    _curve(middle, weights[1:], [100 * row["asked class"] for row in of[1:]])
    middle.axhline(100 * rows["held-out images"]["asked class"], color=REAL, linestyle="--")
    middle.set_title("% that show the class asked for", fontsize=10)
    middle.text(weights[-1], 100 * rows["held-out images"]["asked class"], "real, held out", **_beside())
    _curve(right, weights, [row["Fréchet distance"] for row in of])
    right.axhline(rows["training images"]["Fréchet distance"], color=REAL, linestyle="--")
    right.text(weights[-1], rows["training images"]["Fréchet distance"], "training images", **_beside())
    right.set_title("Fréchet distance to held-out images", fontsize=10)
    right.set_ylim(0)
    _saved(figure, path)


def of_vectors(
    path: Path,
    names: Sequence[str],
    asked: NDArray[np.float64],
    found: Mapping[float, NDArray[np.float64]],
    shown: NDArray[np.uint8],
) -> None:
    """A net of samples, the first number to the right and the second downwards; asked against measured."""
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    left, *others = figure.subplots(1, 1 + len(names))
    _sheet(left, sheet(shown, int(len(shown) ** 0.5), most=16))
    left.set_title(f"{names[0]} to the right, {names[1]} downwards", fontsize=10)
    for k, (axis, name) in enumerate(zip(others, names, strict=True)):
        for (weight, values), colour in zip(found.items(), (OTHER, SAMPLES), strict=False):
            r = np.corrcoef(asked[:, k], values[:, k])[0, 1]
            label = f"guidance {weight:g}: r = {r:.3f}"
            axis.plot(asked[:, k], values[:, k], ".", color=colour, markersize=3, alpha=0.6, label=label)
        ends = [asked[:, k].min(), asked[:, k].max()]
        axis.plot(ends, ends, color=REAL, linewidth=1, zorder=0)
        axis.set(xlabel=f"{name}, asked for", ylabel=f"{name}, measured")
        axis.legend(frameon=False, fontsize=8, markerscale=3)
        _plain(axis)
    _saved(figure, path)


def of_pairs(
    path: Path,
    given: NDArray[np.uint8],
    smooth: NDArray[np.float64],
    members: NDArray[np.float64],
    truth: NDArray[np.uint8],
) -> None:
    """A row for each of the first pairs: given, bicubic, four samples, the mean of all, the truth."""
    times = truth.shape[1] // given.shape[1]
    large = given.repeat(times, 1).repeat(times, 2)
    columns = [large, smooth, *members[:SHOWN_MEMBERS], members.mean(0), truth]
    heads = ["given", "bicubic", *(["a sample"] * SHOWN_MEMBERS), f"mean of {len(members)}", "truth"]
    cells = np.stack(columns, 1)[:ROWS_OF_PAIRS]
    figure = Figure(figsize=(7.2, 0.9 * len(cells) + 0.4), layout="constrained")
    axis = figure.subplots()
    whole = sheet(cells.reshape(-1, *truth.shape[1:]), len(columns), most=255)
    _sheet(axis, whole)
    width = whole.shape[1] / len(columns)
    for k, head in enumerate(heads):
        axis.text((k + 0.5) * width, -2, head, ha="center", va="bottom", fontsize=9)
    _saved(figure, path)


def sheet(images: NDArray[Any], columns: int, most: float) -> NDArray[np.float64]:
    """Images side by side, row by row, from 0 to 1; white between them."""
    rows = -(-len(images) // columns)
    height, width = images.shape[1:]
    whole = np.ones((rows * (height + 1) - 1, columns * (width + 1) - 1))
    for k, image in enumerate(images):
        top, left = (k // columns) * (height + 1), (k % columns) * (width + 1)
        whole[top : top + height, left : left + width] = image / most
    return whole


def _sheet(axis: Any, whole: NDArray[np.float64]) -> None:
    axis.imshow(whole, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_axis_off()


def _curve(axis: Any, weights: Sequence[float], values: Sequence[float]) -> None:
    axis.plot(weights, values, "o-", color=SAMPLES, markersize=4)
    axis.set(xlabel="weight of guidance")
    _plain(axis)


def _plain(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25, linewidth=0.6)


def _beside() -> dict[str, Any]:
    """How a line is called: above its right end."""
    return {"color": REAL, "fontsize": 8, "ha": "right", "va": "bottom"}


def _saved(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=DPI, facecolor="white")
