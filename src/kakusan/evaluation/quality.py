"""Distances of a run's samples from real images, each beside the same figure of real images at the same count."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kakusan.data.dataset import Progress, silent
from kakusan.errors import SettingsError
from kakusan.evaluation.distances import DENSE_NEIGHBOURS, kernel_distance, support
from kakusan.evaluation.features import features_of, from_file
from kakusan.evaluation.metrics import frechet
from kakusan.evaluation.options import DistanceOptions
from kakusan.run import Run, usual_sampler
from kakusan.samplers import Sampler, as_sampler, sample
from kakusan.training.validation import spread

Says = Callable[[float, str], None]
"""Called with the share that is done of a piece of the work, and its name."""


@dataclass(frozen=True)
class Quality:
    """All figures, and what they are of."""

    about: dict[str, Any]
    by_seed: tuple[dict[str, float], ...]
    """Figures of the samples of each seed."""
    real: dict[str, float] | None
    """Of as many real images, which are none of the reference; None where there are none."""

    @property
    def figures(self) -> dict[str, dict[str, float | None]]:
        """By name: the mean over seeds, its deviation, and the figure of real images."""
        names = self.by_seed[0]
        found: dict[str, dict[str, float | None]] = {}
        for name in names:
            values = [seed[name] for seed in self.by_seed]
            deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
            real = None if self.real is None else self.real[name]
            found[name] = {"mean": float(np.mean(values)), "deviation": deviation, "real": real}
        return found

    def as_json(self) -> dict[str, Any]:
        return {
            "about": self.about,
            "figures": self.figures,
            "by_seed": list(self.by_seed),
            "real": self.real,
        }


def figures_of(samples: NDArray[Any], reference: NDArray[Any]) -> dict[str, float]:
    """All distances between two sets of features."""
    kernel, where = kernel_distance(samples, reference), support(samples, reference)
    return {
        "frechet": frechet(samples, reference),
        "kernel": kernel.value,
        "kernel_standard_error": kernel.standard_error,
        **vars(where),
    }


def measure_quality(
    run: Run, options: DistanceOptions, says: Says = lambda _, __: None, reading: Progress = silent
) -> Quality:
    """Sample the run, with `seeds` seeds, and compare with the reference; real images of the other split do the same.

    Raises SettingsError where there are too few real images, DataError, RunError where the data are not here.
    """
    prepared = run.prepared(reading)
    dataset, split = prepared.dataset, prepared.split
    features = (
        features_of(dataset, split.training, lambda done, of: says(done / of, "features"))
        if options.features is None
        else from_file(options.features)
    )
    parts = {"training": split.training, "held-out": split.held_out}
    reference = parts.pop(options.reference)
    ((other_name, other),) = parts.items()
    if len(reference) <= DENSE_NEIGHBOURS:
        raise SettingsError(
            f"there are {len(reference)} {options.reference} images, too few to be compared with",
            *(["to compare with training images: --reference training"] * (options.reference == "held-out")),
        )
    count = options.count
    if len(other) > DENSE_NEIGHBOURS:
        count = min(count, len(other))  # figures depend on it: real images have to have the same
    reference = spread(reference, options.reference_count)
    of_reference = features(dataset.x_0(reference))
    real = (
        figures_of(features(dataset.x_0(spread(other, count))), of_reference) if len(other) >= count else None
    )
    loaded = run.load(device=options.device)
    process = run.settings.process
    sampler: Sampler = (
        usual_sampler(process) if options.sampler is None else as_sampler(options.sampler, process.T)
    )
    if options.steps is not None:
        sampler = replace(sampler, steps=options.steps)
    units: Any = dataset.units
    found = []
    for number in range(options.seeds):
        seed = options.seed + number
        request = run.request(loaded, run.condition(), count=count, seed=seed)

        def tell(share: float, _: str, number: int = number) -> None:
            says((number + share) / options.seeds, "samples")

        x = sample(loaded.model, sampler, request, tell, keep_on="cpu")
        x = units.encode(units.decode(x))  # rounded to levels, as they are saved
        found.append(figures_of(features(x), of_reference))
    about = {
        "run": run.folder.name, "step": loaded.step, "count": count, "seeds": options.seeds, "seed": options.seed,
        "sampler": type(sampler).__name__, "steps": sampler.steps, "features": features.name, "of": features.words,
        "reference": options.reference, "reference_count": len(reference), "real": other_name,
        "asked_for": options.count,
    }  # fmt: skip
    return Quality(about, tuple(found), real)
