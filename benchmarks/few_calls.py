"""Distance against network calls: every sampler, where its steps lie, and Algorithm 2 in all T steps.

    python benchmarks/few_calls.py measure digits runs/digits >> few_calls.jsonl
    python benchmarks/few_calls.py measure garments runs/garments --methods "unipc:log-snr;ddim:trailing" --calls 5,10
    python benchmarks/few_calls.py show few_calls.jsonl
    python benchmarks/few_calls.py draw few_calls.jsonl docs/few-calls.png

The runs are those of the planned recipe: `kakusan train digits --minutes 2`, the same with kanji, and with the 60,000
training images of Fashion-MNIST for 7 minutes. A method is SAMPLER:SPACING, with options, as in unipc:log-snr:order=2;
"ancestral" alone is Algorithm 2. Seeds are the same for all methods, so that differences are paired. The distance is
Fréchet's to the training images, of as many samples as there are held-out ones (500 at most), whose own distance
stands beside it; digits and garments in the features of a classifier that nothing is trained against
(digits_quality.py, garment_features.py), kanji, which have no classes, in those that `kakusan evaluate --distance` has.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from digits_quality import trained_classifier
from garment_features import Judge, features
from matplotlib.figure import Figure
from measuring import Figures, leave, table
from numpy.typing import NDArray

from kakusan.config.machine import set_machine
from kakusan.data.builtin import digits
from kakusan.evaluation.features import features_of
from kakusan.evaluation.metrics import frechet
from kakusan.evaluation.options import TuneOptions
from kakusan.evaluation.plots import over_calls
from kakusan.evaluation.tuning import measure_errors, tune_times
from kakusan.run import Loaded, Run
from kakusan.samplers import SAMPLERS, Heun, Sampler, sample
from kakusan.samplers.auto import AUTO
from kakusan.samplers.karras import EDMSampler
from kakusan.samplers.spacings import ENTROPIC, TUNED
from kakusan.shapes import Samples
from kakusan.statistics.student import student_quantile
from kakusan.storage.times import TimesFile
from kakusan.training.prepare import Prepared
from kakusan.training.validation import spread

CALLS = (3, 5, 8, 10, 15, 20, 50)
SEEDS = (0, 1, 2)
MOST = 500
"""Samples of a seed."""
REFERENCE = 10_000
"""Training images, at most, that they are compared with."""
METHODS = (
    "auto:entropic",
    "auto:trailing",
    "unipc:entropic",
    "unipc:trailing",
    "dpmpp-2m:trailing",
    "ipndm:trailing",
    "ddim:trailing",
    "dpmpp-2m:log-snr",
    "adams-bashforth:log-snr",
)
ALL, REAL = "ancestral", "real"
COLOURS = (
    "#b5402c",
    "#d77fa1",
    "#6b2d1c",
    "#d98a3a",
    "#2f6f8f",
    "#5b8c3a",
    "#8a5aa8",
    "#c58a1b",
    "#3f4a56",
    "#9aa0a8",
)
DPI = 130

Features = Callable[[Samples], NDArray[np.float64]]
"""Of samples in [-1, 1]."""


def method(words: str, calls: int, run: Run) -> Sampler:
    """The sampler of these words that calls the network so often for a sample, or once less where it calls twice."""
    name, _, rest = words.partition(":")
    spacing, *options = rest.split(":")
    given = {key: json.loads(value) for key, value in (option.split("=") for option in options)}
    if spacing == TUNED:
        tune_times(run, TuneOptions(calls=(calls,), sampler=name))
        return run.sampler(name, steps=f"tuned:{calls}", **given)
    if spacing == ENTROPIC or name == AUTO:
        return run.sampler(name, steps=calls, spacing=spacing, **given)
    kind = SAMPLERS[name]
    steps = (calls + 1) // 2 if issubclass(kind, Heun | EDMSampler) else calls
    return kind(steps=steps, spacing=spacing or None, **given)


def features_for(data: str, prepared: Prepared) -> Features:
    """What samples of these data are judged by."""
    if data == "digits":
        labels, rows = digits().labels, prepared.split.training
        assert labels is not None
        classifier = trained_classifier(prepared.dataset.x_0(rows), torch.from_numpy(labels[rows]).long())
        return lambda samples: classifier.features(samples).astype(np.float64)
    if data == "garments":
        judge = Judge.of().classifier
        return lambda samples: features(judge, samples)
    return features_of(prepared.dataset, prepared.split.training)


@dataclass(frozen=True)
class Subject:
    """A run, what its samples are judged by, and the real images."""

    data: str
    run: Run
    loaded: Loaded
    of: Features
    reference: NDArray[np.float64]
    real: NDArray[np.float64]

    @classmethod
    def opened(cls, data: str, folder: Path, most: int = MOST) -> "Subject":
        run = Run.open(folder)
        set_machine(replace(run.settings.machine, threads=1, workers=1))  # other work may run beside
        prepared = run.prepared()
        if TimesFile(folder).errors() is None:
            measure_errors(run, TuneOptions())
        of = features_for(data, prepared)
        training = spread(prepared.split.training, REFERENCE)
        held_out = spread(prepared.split.held_out, most)
        return cls(
            data,
            run,
            run.load(),
            of,
            of(prepared.dataset.x_0(training)),
            of(prepared.dataset.x_0(held_out)),
        )

    @property
    def count(self) -> int:
        return len(self.real)

    def distance(self, sampler: Sampler, seed: int) -> float:
        request = self.run.request(self.loaded, self.run.condition(), count=self.count, seed=seed)
        x = sample(self.loaded.model, sampler, request, keep_on="cpu")
        return frechet(self.of(self._rounded(x)), self.reference)

    def _rounded(self, x: Samples) -> Samples:
        """Samples as they would be saved."""
        units: Any = self.run.data.units
        again: Samples = units.encode(units.decode(x))
        return again


def measured(
    subject: Subject, methods: Sequence[str], calls: Sequence[int], seeds: Sequence[int]
) -> Iterator[Figures]:
    """A line for each method, number of calls and seed, and one for real images."""
    common = {"data": subject.data, "count": subject.count, "step": subject.loaded.step}
    yield {**common, "method": REAL, "frechet": frechet(subject.real, subject.reference)}
    for words in methods:
        for number in (subject.loaded.model.path.T,) if words == ALL else calls:
            sampler = method(words, number, subject.run)
            for seed in seeds:
                begun = time.perf_counter()
                distance = subject.distance(sampler, seed)
                yield {
                    **common,
                    "method": words,
                    "calls": number,
                    "seed": seed,
                    "frechet": distance,
                    "seconds": round(time.perf_counter() - begun, 2),
                }


def shown(lines: Iterable[Figures]) -> str:
    """A table for each data set: mean over `SEEDS`, and half of their range; below it, paired, all seeds shared."""
    listed = list(lines)
    return "\n\n".join(
        _table([line for line in listed if line["data"] == data]) for data in _names(listed, "data")
    )


def read(path: Path) -> list[Figures]:
    """Lines of figures."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _names(lines: Sequence[Figures], key: str) -> list[Any]:
    return list(dict.fromkeys(line[key] for line in lines if key in line))


def _table(lines: Sequence[Figures]) -> str:
    calls = sorted({line["calls"] for line in lines if "calls" in line and line["method"] != ALL})
    by_name = {name: [line for line in lines if line["method"] == name] for name in _names(lines, "method")}
    rows = [
        [name, *(_mean([line for line in of if line["calls"] == number]) for number in calls)]
        for name, of in by_name.items()
        if name not in (REAL, ALL)
    ]
    header = [f"{lines[0]['data']}, {lines[0]['count']} samples", *map(str, calls)]
    notes = [f"as many held-out images: {_mean(by_name[REAL])}"]
    if ALL in by_name:
        notes.append(f"ancestral, all {by_name[ALL][0]['calls']:,} calls: {_mean(by_name[ALL])}")
        notes += [_against_all(by_name, number) for number in (5, 8, 10)]
    return table(header, rows) + "\n\n" + "; ".join(notes)


def _against_all(by_name: dict[str, list[Figures]], calls: int) -> str:
    """The first method beside Algorithm 2, seed by seed: mean relative difference, and its 95 % interval."""
    goal = {line["seed"]: line["frechet"] for line in by_name[ALL]}
    ours = {line["seed"]: line["frechet"] for line in by_name[METHODS[0]] if line["calls"] == calls}
    seeds = sorted(goal.keys() & ours.keys())
    off = np.array([ours[seed] - goal[seed] for seed in seeds]) / np.mean([goal[seed] for seed in seeds])
    words = f"{METHODS[0]} in {calls} against it: {off.mean():+.0%}"
    if len(seeds) < 2:
        return words
    reach = student_quantile(len(seeds) - 1) * off.std(ddof=1) / len(seeds) ** 0.5
    return (
        f"{words} ({off.mean() - reach:+.0%} to {off.mean() + reach:+.0%}: 95 %, {len(seeds)} seeds, paired)"
    )


def _mean(lines: Sequence[Figures]) -> str:
    """Over the seeds that all methods have, so that they can be compared."""
    values = [line["frechet"] for line in lines if line.get("seed", SEEDS[0]) in SEEDS]
    if not values:
        return ""
    error = f" ± {(max(values) - min(values)) / 2:.2g}" if len(values) > 1 else ""
    return f"{np.mean(values):.3g}{error}"


def draw(lines: Sequence[Figures], path: Path) -> None:
    """A chart for each data set: distance against calls, with Algorithm 2 and real images as lines."""
    names = _names(lines, "data")
    figure = Figure(figsize=(3.9 * len(names), 3.6), layout="constrained")
    for axis, data in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        of = [line for line in lines if line["data"] == data]
        for number, name in enumerate(METHODS):
            calls = sorted({line["calls"] for line in of if line["method"] == name})
            means = [
                np.mean(
                    [
                        line["frechet"]
                        for line in of
                        if line["method"] == name and line["calls"] == each and line["seed"] in SEEDS
                    ]
                )
                for each in calls
            ]
            style = {
                "marker": "o",
                "markersize": 3,
                "color": COLOURS[number],
                "linewidth": 2 if number == 0 else 1,
            }
            axis.plot(calls, means, label=name, **style)
        for name, words, colour in (
            (ALL, "ancestral, 1,000", "#222222"),
            (REAL, "held-out images", "#8a8f98"),
        ):
            values = [
                line["frechet"]
                for line in of
                if line["method"] == name and line.get("seed", SEEDS[0]) in SEEDS
            ]
            axis.axhline(float(np.mean(values)), color=colour, linestyle="--", linewidth=1, label=words)
        over_calls(axis, CALLS, f"{data}: Fréchet distance")
    figure.axes[0].legend(frameon=False, fontsize=7)
    figure.savefig(path, dpi=DPI, facecolor="white")


def main(arguments: Sequence[str]) -> int:
    """Measure, or show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    measure = commands.add_parser("measure")
    measure.add_argument("data", choices=("digits", "kanji", "garments"))
    measure.add_argument("run", type=Path)
    measure.add_argument("--methods", default=";".join((*METHODS, ALL)), help="separated by semicolons")
    measure.add_argument("--calls", default=",".join(map(str, CALLS)))
    measure.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    measure.add_argument("--count", type=int, default=MOST)
    commands.add_parser("show").add_argument("lines", type=Path)
    drawing = commands.add_parser("draw")
    drawing.add_argument("lines", type=Path)
    drawing.add_argument("out", type=Path)
    given = parser.parse_args(arguments)
    if given.command == "show":
        print(shown(read(given.lines)))
        return 0
    if given.command == "draw":
        draw(read(given.lines), given.out)
        return 0
    numbers = [[int(number) for number in each.split(",")] for each in (given.calls, given.seeds)]
    for line in measured(
        Subject.opened(given.data, given.run, given.count), given.methods.split(";"), *numbers
    ):
        print(json.dumps(line), flush=True)
        print(line, file=sys.stderr)
    return 0


if __name__ == "__main__":
    leave(main)
