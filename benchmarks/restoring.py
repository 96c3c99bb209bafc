"""Samples given a measurement, by networks that were trained: accuracy, error bars and time of each method.

    python benchmarks/restoring.py fields fields.npy             4,000 smooth random fields, of which a run is trained
    python benchmarks/restoring.py measure kanji runs/kanji >> restoring.jsonl
    python benchmarks/restoring.py measure garments runs/garments --methods mmps,dps:steps=1000 --tasks down >> ...
    python benchmarks/restoring.py show restoring.jsonl

The runs: `kakusan train kanji --minutes 2`, Fashion-MNIST for 7 minutes, `kakusan train fields.npy --minutes 4`. x that
were held out are measured, restored, and set beside the samples (`kakusan restore RUN --calibrate`): of each task and
method the PSNR of the mean, the fair CRPS, the coverage of 90 % intervals, calls and time of a sample. Measurements are
the same for all methods.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measuring import leave, table
from numpy.typing import NDArray

from kakusan.config.machine import set_machine
from kakusan.data.measuring import operator_named
from kakusan.evaluation.calibration import calibrate
from kakusan.evaluation.options import CalibrationOptions
from kakusan.posterior import Method
from kakusan.run import Run
from kakusan.run.noise import noise_named

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
METHODS = ("mmps", "mmps:steps=10", "diffpir", "gibbs", "dps")
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
            judged, coverage = found.judged, found.judged.ranks.coverage(0.9)
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


def half(estimate: Any) -> float:
    """The half width of an interval."""
    return float(estimate.high - estimate.low) / 2


def show(lines: list[dict[str, Any]]) -> str:
    """A table of tasks and methods."""
    head = [
        "data",
        "task",
        "method",
        "calls",
        "s / sample",
        "PSNR, dB",
        "CRPS",
        "90 % intervals hold",
        "misfit",
    ]
    rows = [
        [
            line["data"],
            line["task"],
            line["method"],
            f"{line['calls']:.0f}" + (f" + {line['backward']:.0f} back" if line["backward"] else ""),
            f"{line['seconds']:.3f}",
            f"{line['psnr']:.2f}",
            f"{line['crps']:.4g} ± {line['crps_error']:.1g}",
            f"{100 * line['coverage']:.0f} % ({100 * line['coverage_low']:.0f} to {100 * line['coverage_high']:.0f})",
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
    measuring.add_argument("--images", type=int, default=16)
    measuring.add_argument("--count", type=int, default=19)
    showing = verbs.add_parser("show")
    showing.add_argument("lines", type=Path)
    asked = parser.parse_args(arguments)
    if asked.verb == "fields":
        np.save(asked.out, fields())
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
