"""Few calls after `kakusan distill`: python benchmarks/distill.py RUN ..., runs on any data that are here.

Each run is distilled as usual (or stands as RUN-distilled already), and the Fréchet distance of its samples from
training images is put beside that of the run itself: in 2 to 50 calls, in 1,000 where that is asked for, and of as
many held-out images. The mean over the seeds, and their deviation.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Figures, leave, report, table

from kakusan.api import Run
from kakusan.evaluation.metrics import frechet
from kakusan.evaluation.options import DistanceOptions
from kakusan.evaluation.references import RealImages, within
from kakusan.evaluation.shipped import features_for
from kakusan.samplers import DDIM, Ancestral, Consistency, Sampler, UniPC, sample
from kakusan.shapes import Samples

CALLS = (1, 2, 3, 4)


def distilled(run: Run) -> Run:
    """RUN-distilled, made where it is not there."""
    folder = run.folder.with_name(f"{run.folder.name}-distilled")
    return Run.open(folder) if folder.exists() else run.distill(run=folder)


def compared(run: Run, new: Run, *, ancestral: bool) -> Iterator[tuple[str, Run, Sampler]]:
    """Names, runs and samplers."""
    yield "UniPC, 2 calls", run, UniPC(steps=2)
    yield "UniPC, 10 calls", run, UniPC(steps=10)
    yield "auto, 10 calls", run, run.sampler(steps=10)
    yield "DDIM, 50 calls", run, DDIM(steps=50)
    if ancestral:
        yield "ancestral, all calls", run, Ancestral()
    for calls in CALLS:
        yield f"distilled, {calls} call{'s' * (calls > 1)}", new, Consistency(steps=calls)


def drawn(run: Run, sampler: Sampler, count: int, seed: int) -> Samples:
    """As they are saved."""
    units: Any = run.data.units
    loaded = run.load()
    request = run.request(loaded, run.condition(), count=count, seed=seed)
    return units.encode(units.decode(sample(loaded.model, sampler, request, keep_on="cpu")))  # type: ignore[no-any-return]


def figures_of(run: Run, count: int, seeds: int, *, ancestral: bool) -> Figures:
    """The distances of one run."""
    prepared = run.prepared()
    sides, features = (
        within(prepared.dataset, prepared.split, DistanceOptions(count=count)),
        features_for(prepared),
    )
    assert isinstance(sides.reference, RealImages)
    assert sides.others is not None
    reference = features(sides.reference.x_0)
    rows: dict[str, list[float]] = {"held-out": [frechet(features(sides.others.x_0), reference)]}
    new = distilled(run)
    for name, of, sampler in compared(run, new, ancestral=ancestral):
        rows[name] = [
            frechet(features(drawn(of, sampler, sides.count, seed)), reference) for seed in range(seeds)
        ]
    steps = {"training": run.files.steps[-1], "distillation": new.files.steps[-1]}
    return {"run": run.folder.name, "count": sides.count, "steps": steps, "distances": rows}


def shown(figures: Figures) -> str:
    """A column for each run."""
    runs = figures["runs"]
    names = list(runs[0]["distances"])
    lines = [(name, *(_with_deviation(run["distances"][name]) for run in runs)) for name in names]
    steps = [f"{run['steps']['training']:,} + {run['steps']['distillation']:,}" for run in runs]
    lines.append(("steps", *steps))
    return table(("Fréchet distance", *(f"{run['run']} ({run['count']})" for run in runs)), lines)


def _with_deviation(values: Sequence[float]) -> str:
    mean = f"{np.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.2f}"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, metavar="RUN", nargs="+", help="folders of trained runs")
    parser.add_argument("--count", type=int, default=500, help="samples (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="of the samples (default: %(default)s)")
    parser.add_argument("--ancestral", action="store_true", help="all T calls, too, which takes long")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    found = [
        figures_of(Run.open(run), options.count, options.seeds, ancestral=options.ancestral)
        for run in options.runs
    ]
    figures: Figures = {"runs": found}
    return report(figures, shown(figures), as_json=options.json)


if __name__ == "__main__":
    leave(main)
