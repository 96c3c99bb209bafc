"""Distances of a run's samples from real images, each beside the same figure of real images at the same count."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kakusan.config.settings import CONSISTENCY
from kakusan.data.batches import Split
from kakusan.data.dataset import Progress, silent
from kakusan.data.space import noun_of
from kakusan.errors import SettingsError
from kakusan.evaluation.distances import DENSE_NEIGHBOURS, kernel_distance, support
from kakusan.evaluation.features import FeatureMap, features_of, from_file
from kakusan.evaluation.metrics import frechet
from kakusan.evaluation.options import DistanceOptions
from kakusan.run import Loaded, Run
from kakusan.samplers import Sampler, sample, sampler_named
from kakusan.shapes import Samples
from kakusan.training.prepare import Prepared
from kakusan.training.validation import spread

Says = Callable[[float, str], None]
"""Called with the share that is done of a piece of the work, and its name."""

USUAL = "ddim"


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


@dataclass(frozen=True)
class Real:
    """Real images: those that samples are compared with, and others that take the place of samples."""

    name: str
    reference: NDArray[np.int64]
    other_name: str
    others: NDArray[np.int64]
    """Empty where the other split has too few."""
    count: int
    """Samples, and other images: figures depend on their number."""

    @classmethod
    def of(cls, split: Split, options: DistanceOptions) -> "Real":
        """Raises SettingsError where there are too few to be compared with."""
        parts = {"training": split.training, "held-out": split.held_out}
        reference = parts.pop(options.reference)
        ((name, others),) = parts.items()
        if len(reference) <= DENSE_NEIGHBOURS:
            raise SettingsError(
                f"there are {len(reference)} {options.reference} images, too few to be compared with",
                *(
                    ["to compare with training images: --reference training"]
                    * (options.reference == "held-out")
                ),
            )
        few = len(others) <= DENSE_NEIGHBOURS
        count = options.count if few else min(options.count, len(others))
        chosen = spread(reference, options.reference_count)
        return cls(options.reference, chosen, name, others[:0] if few else spread(others, count), count)


def measure_quality(
    run: Run, options: DistanceOptions, says: Says = lambda _, __: None, reading: Progress = silent
) -> Quality:
    """Sample the run, with `seeds` seeds, and compare with the reference; real images of the other split do the same.

    Raises SettingsError where there are too few real images, or some of their values are missing; DataError, RunError
    where the data are not here.
    """
    prepared = run.prepared(reading)
    dataset = prepared.dataset
    if dataset.masked:
        raise SettingsError("samples with missing values have no features: there is no distance between them")
    real = Real.of(prepared.split, options)
    features = _features(prepared, options, says)
    reference = features(dataset.x_0(real.reference))
    of_real = figures_of(features(dataset.x_0(real.others)), reference) if len(real.others) else None
    sampler = _sampler(run, options)
    loaded = run.load(device=options.device)
    found = [
        figures_of(features(x), reference) for x in _samples(run, loaded, sampler, real.count, options, says)
    ]
    about = {
        "run": run.folder.name, "step": loaded.step, "count": real.count, "asked_for": options.count,
        "seeds": options.seeds, "seed": options.seed, "sampler": type(sampler).__name__, "steps": sampler.steps,
        "features": features.name, "of": features.words, "reference": real.name,
        "reference_count": len(real.reference), "real": real.other_name,
        "noun": noun_of(dataset.shape).many,
    }  # fmt: skip
    return Quality(about, tuple(found), of_real)


def _features(prepared: Prepared, options: DistanceOptions, says: Says) -> FeatureMap:
    if options.features is not None:
        return from_file(options.features)
    return features_of(
        prepared.dataset, prepared.split.training, lambda done, of: says(done / of, "features")
    )


def _sampler(run: Run, options: DistanceOptions) -> Sampler:
    """As `kakusan sample` has it, spaced as the run says."""
    process = run.settings.process
    name = options.sampler or (CONSISTENCY if run.settings.is_distilled else USUAL)
    return sampler_named(name, process.T, steps=options.steps).spaced(process.spacing)


def _samples(
    run: Run, loaded: Loaded, sampler: Sampler, count: int, options: DistanceOptions, says: Says
) -> Iterator[Samples]:
    """Those of each seed; levels as they are saved."""
    units: Any = run.data.units
    condition = run.condition()
    for number in range(options.seeds):
        request = run.request(loaded, condition, count=count, seed=options.seed + number)

        def tell(share: float, _: str, number: int = number) -> None:
            says((number + share) / options.seeds, "samples")

        yield units.encode(units.decode(sample(loaded.model, sampler, request, tell, keep_on="cpu")))
