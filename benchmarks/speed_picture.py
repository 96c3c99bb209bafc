"""The picture of speed beside diffusers, docs/speed.png: what `tables.py` draws from the same figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from measuring import Figures

OURS, SHIPPED, TUNED = "#b5402c", "#c5c8ce", "#8a8f98"
COLOURS = {"kakusan": OURS, "shipped": SHIPPED, "tuned": TUNED}
NAMES = {"kakusan": "kakusan", "shipped": "diffusers, as shipped", "tuned": "diffusers, tuned"}
LIMIT = "#2f6f8f"
SIZE, DPI = (11, 4.6), 150
TEXT = 11
WORKS = {"step": "training step", "forward": "forward"}
SHOWN_ON_GPU = 2
"""Networks."""


@dataclass(frozen=True)
class Panel:
    """Bars of one network and one kind of work."""

    title: str
    unit: str
    values: Mapping[str, float]
    """By the words of `NAMES`."""
    limit: float | None = None
    """Drawn beside them, where they are times: no less can be reached."""


def write_picture(figures: Mapping[str, Figures], path: Path) -> None:
    """A column for each work on the CPU and one for the GPU, as far as they were measured; PNG."""
    columns = [
        *(on_cpu(figures["versus_diffusers"], work) for work in WORKS if "versus_diffusers" in figures),
        *([on_gpu(figures["gpu"])] if "gpu" in figures else []),
    ]
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots(max(map(len, columns)), len(columns), squeeze=False)
    for column, panels in enumerate(columns):
        for row, axis in enumerate(axes[:, column]):
            if row < len(panels):
                draw(axis, panels[row], named=column == 0)
            else:
                axis.set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, facecolor="white")


def on_cpu(figures: Figures, work: str) -> list[Panel]:
    """Milliseconds an image, the largest network first."""
    found = sorted(figures.values(), key=lambda each: -int(each["parameters"]))
    return [
        Panel(
            title=f"{WORKS[work]}, {in_millions(each)}, CPU",
            unit="ms an image: less is faster",
            values={
                word: 1000 * median(each["seconds"][work], word) / each["batch_size"] for word in COLOURS
            },
            limit=1000 * each["flop"][work] / each["limit"][work] / each["batch_size"],
        )
        for each in found
    ]


def on_gpu(figures: Figures) -> list[Panel]:
    """Images a second in training, the largest network first."""
    cases = [case for case in figures.values() if isinstance(case, dict) and "training_seconds" in case]
    return [
        Panel(
            title=f"training, {in_millions(case)}, {figures['device'].removeprefix('NVIDIA ')}",
            unit="images/s: more is faster",
            values={word: case["batch_size"] / median(case["training_seconds"], word) for word in COLOURS},
        )
        for case in sorted(cases, key=lambda case: -int(case["parameters"]))[:SHOWN_ON_GPU]
    ]


def in_millions(case: Figures) -> str:
    """35.7 M, 32x32."""
    return f"{case['parameters'] / 1e6:.1f} M, {'x'.join(map(str, case['shape'][1:]))}"


def median(contenders: Mapping[str, Mapping[str, float]], word: str) -> float:
    """Seconds of the first contender whose name has this word."""
    return next(spread["median"] for name, spread in contenders.items() if word in name)


def draw(axis: Any, panel: Panel, *, named: bool) -> None:
    """The bars, each with its value; their names on the left, or nothing."""
    places = range(len(panel.values))
    values: Sequence[float] = list(panel.values.values())
    axis.barh(places, values, color=[COLOURS[word] for word in panel.values], height=0.72)
    for place, value in zip(places, values, strict=True):
        axis.text(value, place, f" {digits(value)}", va="center", ha="left", fontsize=TEXT)
    if panel.limit is not None:
        axis.axvline(panel.limit, color=LIMIT, linewidth=1.4, linestyle="--")
        axis.text(panel.limit, -0.62, " 3x3 convolutions alone", color=LIMIT, fontsize=TEXT - 2, va="bottom")
    axis.set_ylim(len(values) - 0.45, -1.05)
    axis.set_xlim(0, 1.3 * max(values))
    axis.set_yticks(places, [NAMES[word] for word in panel.values] if named else [], fontsize=TEXT)
    axis.set_xticks([])
    axis.tick_params(axis="y", length=0)
    axis.set_title(f"{panel.title}\n{panel.unit}", fontsize=TEXT, loc="left")
    axis.spines[["top", "right", "bottom"]].set_visible(False)


def digits(value: float) -> str:
    """Three digits or more, thousands apart."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
