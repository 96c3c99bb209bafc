"""The cost of a distillation: the distance of few calls from real samples, beside that of the run it began from."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kakusan.data.dataset import Progress, silent
from kakusan.data.space import noun_of
from kakusan.errors import RunError
from kakusan.evaluation.metrics import frechet
from kakusan.evaluation.options import DistanceOptions
from kakusan.evaluation.quality import in_units, steps_of
from kakusan.evaluation.references import RealImages, condition_like, labels_like, within
from kakusan.evaluation.shipped import Says, features_for
from kakusan.run import Run
from kakusan.samplers import Consistency, Sampler, name_of, sample
from kakusan.shapes import Condition, Samples

COUNT = 500
"""Samples of each, at the most: 2,500 times as many calls as there are calls in a walk are a minute on a CPU."""


@dataclass(frozen=True)
class Cost:
    """Fréchet distances, by what was sampled, and what they depend on."""

    distances: dict[str, float]
    """By words such as "digits, sa-solver, 10 calls"; the lowest that can be hoped for is that of real samples."""
    about: dict[str, Any]

    def words(self) -> str:
        """In a sentence."""
        shown = "; ".join(f"{name}: {value:.3g}" for name, value in self.distances.items())
        of = f"{self.about['count']:,} {self.about['noun']} each, in the features of {self.about['features']}"
        return f"Fréchet distance from training {self.about['noun']} ({of}): {shown}"

    def as_json(self) -> dict[str, Any]:
        return {"about": self.about, "distances": self.distances}


def cost_of(run: Run, says: Says = lambda _, __: None, reading: Progress = silent) -> Cost:
    """The distances of a distilled run in one and in two calls, of its parent in its usual ones, and of real samples.

    One seed each, on the run's data. The parent is left out where it has gone. Raises SettingsError where there are too
    few samples to be compared with, or some of their values are missing; DataError and RunError where the data are not
    here.
    """
    prepared = run.prepared(reading)
    dataset = prepared.dataset
    sides, features = (
        within(dataset, prepared.split, DistanceOptions(count=COUNT)),
        features_for(prepared, says),
    )
    assert isinstance(sides.reference, RealImages)
    reference = features(sides.reference.x_0)
    found = {}
    if sides.others is not None:
        found[f"real ({sides.others.name})"] = frechet(features(sides.others.x_0), reference)
    labels = labels_like(sides.reference, prepared, sides.count)
    for name, of, sampler in _compared(run):
        theirs = labels if of.data.class_names == dataset.class_names else None
        x_0 = _samples(of, sampler, condition_like(of, theirs, None), sides.count, name, says)
        found[name] = frechet(features(in_units(x_0, of.data.units, dataset.units)), reference)
    about = {"run": run.folder.name, "step": run.files.steps[-1], "count": sides.count, "seed": 0}
    return Cost(found, about | {"features": features.name, "noun": noun_of(dataset.shape).many})


def _compared(run: Run) -> Iterator[tuple[str, Run, Sampler]]:
    """Names, runs and samplers: what it was before, in its usual calls, and what it is now, in one call and in two."""
    try:
        parent = type(run).open(Path(run.files.data["weights_from"]["run"]))
        sampler = parent.sampler()
        yield f"{parent.folder.name}, {name_of(sampler)}, {steps_of(sampler)} calls", parent, sampler
    except (KeyError, RunError):  # its parent has gone, and is not compared
        pass
    for calls in (1, 2):
        yield f"{run.folder.name}, {calls} call{'s' * (calls > 1)}", run, Consistency(steps=calls)


def _samples(
    run: Run, sampler: Sampler, condition: Condition | None, count: int, name: str, says: Says
) -> Samples:
    loaded = run.load()
    request = run.request(loaded, condition, count=count, seed=0)
    return sample(loaded.model, sampler, request, lambda share, _: says(share, name), keep_on="cpu")
