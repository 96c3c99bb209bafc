"""Samples given a measurement, by networks that were trained: accuracy, error bars and time of each method.

    python benchmarks/restoring.py fields fields.npy             4,000 smooth random fields, of which a run is trained
    python benchmarks/restoring.py measure kanji runs/kanji >> restoring.jsonl
    python benchmarks/restoring.py measure garments runs/garments --methods mmps,diffpir,dps:steps=1000 --tasks down \\
        --images 32 --count 10 >> restoring.jsonl
    python benchmarks/restoring.py show restoring.jsonl
    python benchmarks/restoring.py draw runs/kanji runs/garments runs/fields --out docs/restore.png

The runs: `kakusan train kanji --preset demo --minutes 4`, Fashion-MNIST for 7 minutes (1,141 steps) or 48 (2,616),
`kakusan train fields.npy --minutes 4`. x that were held out are measured, restored, and set beside the samples
(`kakusan restore RUN --calibrate`), 8 of them and 19 samples of each unless `--images` and `--count` say otherwise: of
each task and method the PSNR of the mean, the fair CRPS, the coverage of 90 % intervals, calls and time of a sample.
Measurements are the same for all methods, so that their CRPS are compared in pairs.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from measuring import Figures, leave, table
from numpy.typing import NDArray

from kakusan.config.machine import set_machine
from kakusan.data.measuring import operator_named
from kakusan.data.units import Levels
from kakusan.evaluation.calibration import calibrate
from kakusan.evaluation.calibration.simulated import simulated
from kakusan.evaluation.options import CalibrationOptions
from kakusan.posterior import Method
from kakusan.run import Run
from kakusan.run.noise import noise_named
from kakusan.statistics.clusters import mean_of

TASKS: dict[str, dict[str, tuple[str, str]]] = {
    "kanji": {"left half hidden": ("mask:hide-left", "1%"), "right half hidden": ("mask:hide-right", "1%")},
    "garments": {
        "4x down-sampled": ("down:4", "2%"),
        "blurred, 1.5 pixels": ("gauss:1.5", "2%"),
        "90 % missing": ("mask:random:0.9", "2%"),
    },
    "fields": {
        "4x down-sampled": ("down:4", "5%"),
        "90 % missing": ("mask:random:0.9", "5%"),
        "a quarter of the frequencies": ("fourier:4", "5%"),
    },
}
SHOWN, DRAWN, DPI = 8, 32, 130
"""Samples in a row of the picture, and those of which mean and deviation are."""
FIRST = "mmps"
"""The method that others are compared with."""
METHODS = (FIRST, "mmps:steps=10", "diffpir", "gibbs", "dps")
LEVEL = 0.9
"""Of the intervals; samples that are too few have their widest ones in place of it."""
SIDE, FIELDS, SLOPE, SKEW = 24, 4_000, 3.5, 0.6


def fields() -> NDArray[np.float32]:
    """Smooth positive fields, (n, side, side): exp(skew g), where g is Gaussian of a spectrum that falls as a power."""
    generator = np.random.default_rng(0)
    rows, columns = np.meshgrid(np.fft.fftfreq(2 * SIDE), np.fft.rfftfreq(2 * SIDE), indexing="ij")
    power = np.hypot(rows, columns)
    power[0, 0] = 1.0
    filter_ = power ** (-SLOPE / 2)
    filter_[0, 0] = 0.0
    white = np.fft.rfft2(generator.standard_normal((FIELDS, 2 * SIDE, 2 * SIDE)))
    smooth = np.fft.irfft2(white * filter_, s=(2 * SIDE, 2 * SIDE))
    wide = smooth / smooth.std()
    fields_: NDArray[np.float32] = np.exp(SKEW * wide[:, :SIDE, :SIDE]).astype(np.float32)
    return fields_


def method_of(run: Run, words: str) -> Method:
    """mmps, or mmps:steps=10:solver_steps=5."""
    name, *options = words.split(":")
    pairs = (option.partition("=") for option in options)
    given: Any = {key: int(value) if value.isdecimal() else float(value) for key, _, value in pairs}
    return run.method(name, **given)


def measured(
    data: str, run: Run, methods: list[str], tasks: list[str], options: CalibrationOptions
) -> Iterator[Any]:
    """A line of figures for each task and method."""
    for task, (operator, noise) in TASKS[data].items():
        if tasks and not any(word in task for word in tasks):
            continue
        of = operator_named(operator, run.data.shape)
        law = noise_named(noise, run.data.units, of.measured_shape(run.data.shape))
        for words in methods:
            found = calibrate(run, of, law, method_of(run, words), options)
            judged, coverage = found.judged, found.judged.ranks.coverage(LEVEL)
            yield {
                "data": data,
                "task": task,
                "operator": operator,
                "noise": noise,
                "method": words,
                "images": options.images,
                "count": options.count,
                "psnr": judged.psnr.value,
                "crps": judged.scores.fair_crps.value,
                "crps_error": half(judged.scores.fair_crps),
                "crps_of_each": [round(each, 6) for each in judged.scores.each],
                "coverage": coverage.share.value,
                "coverage_low": coverage.share.low,
                "coverage_high": coverage.share.high,
                "level": coverage.level,
                "spread_skill": judged.scores.spread_skill.value,
                "misfit": found.reduced.value,
                "calls": found.about["calls_per_sample"],
                "backward": found.about["backward_per_sample"],
                "seconds": found.about["seconds_per_sample"],
                "step": found.about["step"],
                "unit": judged.unit,
            }


def draw(runs: dict[str, Run]) -> Figure:
    """A row for each task: what was measured, the truth, the mean, the deviation, and samples; of held-out x."""
    rows = [(data, task) for data in runs for task in TASKS[data]]
    figure = Figure(figsize=(0.62 * (4 + SHOWN) + 1.6, 0.68 * len(rows) + 0.3), dpi=DPI, facecolor="#fcf9f2")
    axes = figure.subplots(len(rows), 4 + SHOWN, squeeze=False)
    for place, (data, task) in zip(axes, rows, strict=True):
        _row(place, runs[data], data, task)
        place[0].set_ylabel(fill(task, 18), rotation=0, ha="right", va="center", fontsize=7)
    for place, words in zip(axes[0], ("measured", "truth", "mean", "deviation", "samples"), strict=False):
        place.set_title(words, fontsize=7)
    figure.subplots_adjust(left=0.15, right=0.995, top=0.94, bottom=0.01, wspace=0.06, hspace=0.06)
    return figure


def _row(axes: Any, run: Run, data: str, task: str) -> None:
    operator, noise = TASKS[data][task]
    prepared = run.prepared()
    held_out = prepared.split.held_out
    reserved = [k for k in prepared.dataset.reserved if k in held_out]  # the glyphs of the package's name
    number = np.array([reserved[0] if reserved else held_out[len(held_out) // 2]])
    of = operator_named(operator, run.data.shape)
    law = noise_named(noise, run.data.units, of.measured_shape(run.data.shape))
    x = prepared.dataset.x_0(number)
    asked = simulated(x, of, law, run.data.units, 0, number)
    y = asked.y[0].masked_fill(~asked.known[0], float("nan"))
    y = y.roll([n // 2 for n in y.shape[1:]], (1, 2)).abs().log() if operator.startswith("fourier") else y
    found = run.restore(np.moveaxis(asked.y.numpy(), 1, -1), of, law, count=DRAWN)
    truth, samples = (
        asked.data(x)[0, 0].numpy(),
        asked.data(found.samples[0])[:, 0].clamp(*_range(run)).numpy(),
    )
    low, high = float(truth.min()), float(truth.max())
    _show(axes[0], y[0].numpy())
    for place, picture in zip(
        [*axes[1:3], *axes[4:]], [truth, samples.mean(0), *samples[:SHOWN]], strict=True
    ):
        _show(place, picture, low, high)
    _show(axes[3], samples.std(0), 0, float(samples.std(0).max()), "magma")


def _range(run: Run) -> tuple[float, float]:
    """In which values of the data lie."""
    units = run.data.units
    return (0.0, units.levels - 1.0) if isinstance(units, Levels) else (-np.inf, np.inf)


def _show(
    axes: Any, picture: Any, low: float | None = None, high: float | None = None, colours: str = "gray"
) -> None:
    axes.imshow(picture, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    axes.set_facecolor("#46618a")
    axes.set_xticks([])
    axes.set_yticks([])


def half(estimate: Any) -> float:
    """The half width of an interval."""
    return float(estimate.high - estimate.low) / 2


def beside(line: Figures, lines: Sequence[Figures]) -> str:
    """The CRPS less that of `FIRST` on the same x, in pairs, with the half width of a 95 % interval."""
    same = ("data", "task", "images", "count", "step")
    firsts = [of for of in lines if of["method"] == FIRST and all(of[key] == line[key] for key in same)]
    if (
        line["method"] == FIRST
        or not firsts
        or "crps_of_each" not in line
        or "crps_of_each" not in firsts[-1]
    ):
        return ""
    apart = mean_of(np.array(line["crps_of_each"]) - np.array(firsts[-1]["crps_of_each"]))
    return f"{apart.value:+.2g} ± {half(apart):.1g}"


def held(line: Figures) -> str:
    """The share of truths in the intervals, and their level where few samples have none of 90 %."""
    share = f"{100 * line['coverage']:.0f} % ({100 * line['coverage_low']:.0f} to {100 * line['coverage_high']:.0f})"
    return share if line["level"] == LEVEL else f"{share} of {100 * line['level']:.0f}"


def show(lines: list[dict[str, Any]]) -> str:
    """A table of tasks and methods."""
    head = [
        "data",
        "task",
        "x",
        "method",
        "calls",
        "s / sample",
        "PSNR, dB",
        "CRPS",
        "more than mmps",
        "90 % intervals hold",
        "misfit",
    ]
    rows = [
        [
            line["data"],
            line["task"],
            str(line["images"]),
            line["method"],
            f"{line['calls']:.0f}" + (f" + {line['backward']:.0f} back" if line["backward"] else ""),
            f"{line['seconds']:.3f}",
            f"{line['psnr']:.2f}",
            f"{line['crps']:.4g} ± {line['crps_error']:.1g}",
            beside(line, lines),
            held(line),
            f"{line['misfit']:.2f}",
        ]
        for line in lines
    ]
    return table(head, rows)


def main(arguments: Sequence[str]) -> int:
    """Measure, or show what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    verbs = parser.add_subparsers(dest="verb", required=True)
    making = verbs.add_parser("fields")
    making.add_argument("out", type=Path)
    measuring = verbs.add_parser("measure")
    measuring.add_argument("data", choices=TASKS)
    measuring.add_argument("run", type=Path)
    measuring.add_argument("--methods", default=",".join(METHODS))
    measuring.add_argument("--tasks", default="", help="words of those wanted, with commas")
    measuring.add_argument("--images", type=int, default=8)
    measuring.add_argument("--count", type=int, default=19)
    drawing = verbs.add_parser("draw")
    drawing.add_argument("runs", type=Path, nargs=len(TASKS), metavar="RUN", help=", ".join(TASKS))
    drawing.add_argument("--out", type=Path, default=Path("docs/restore.png"))
    showing = verbs.add_parser("show")
    showing.add_argument("lines", type=Path)
    asked = parser.parse_args(arguments)
    if asked.verb == "fields":
        np.save(asked.out, fields())
        return 0
    if asked.verb == "draw":
        draw({name: Run.open(run) for name, run in zip(TASKS, asked.runs, strict=True)}).savefig(asked.out)
        return 0
    if asked.verb == "show":
        print(show([json.loads(line) for line in asked.lines.read_text("utf-8").splitlines()]))
        return 0
    run = Run.open(asked.run)
    set_machine(run.settings.machine)
    options = CalibrationOptions(images=asked.images, count=asked.count, scored=0)
    words = [word for word in asked.tasks.split(",") if word]
    for line in measured(asked.data, run, asked.methods.split(","), words, options):
        print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    leave(main)
