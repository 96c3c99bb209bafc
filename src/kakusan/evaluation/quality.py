"""Distances of a run's samples from real images, each beside the same figure of real images at the same count."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kakusan.data.asking import EACH, class_number
from kakusan.data.dataset import Progress, silent
from kakusan.data.space import noun_of
from kakusan.data.units import Units
from kakusan.errors import SettingsError
from kakusan.evaluation.distances import Features, kernel_distance, support
from kakusan.evaluation.features import FeatureMap, from_file
from kakusan.evaluation.metrics import feature_moments, frechet, frechet_distance
from kakusan.evaluation.moments import centre_of
from kakusan.evaluation.options import DistanceOptions
from kakusan.evaluation.references import (
    RealImages,
    Sides,
    Statistics,
    condition_like,
    labels_like,
    of_class,
    sides_of,
)
from kakusan.evaluation.shipped import Says, features_for
from kakusan.evaluation.spectra import log_spectral_distance, shells_of
from kakusan.evaluation.summaries import Summary, View
from kakusan.run import Loaded, Run
from kakusan.run.sampling import sampler_as_json
from kakusan.samplers import Sampler, name_of, sample
from kakusan.samplers.base import AnyModel
from kakusan.shapes import Condition, Samples
from kakusan.statistics.student import student_quantile
from kakusan.training.guide import Guidance
from kakusan.training.prepare import Prepared

FIGURES = {
    "frechet": ("Fréchet distance", "lower"),
    "kernel": ("kernel distance (KID)", "lower"),
    "precision": ("precision", "higher"),
    "recall": ("recall", "higher"),
    "density": ("density", "higher"),
    "coverage": ("coverage", "higher"),
    "spectrum": ("distance of spectra, dB", "lower"),
}
"""Their names for a reader, and which is better. All but the spectrum's are of features."""


@dataclass(frozen=True, eq=False)
class Quality:
    """All figures, and what they are of."""

    about: dict[str, Any]
    by_seed: tuple[dict[str, float], ...]
    """Figures of the samples of each seed."""
    real: dict[str, float] | None
    """Of as many real images, which are none of the reference; None where there are none."""
    moments: Mapping[str, list[dict[str, Any]]]
    """Of the samples of all seeds, the reference and the other real images: for each channel its moments."""
    spectra: Mapping[str, Any]
    """The frequencies, and the power of each of these; empty where samples have no spectrum."""
    statistics: Statistics | None
    """Of the features of the reference; None where they are not known, or it is statistics itself."""

    @property
    def figures(self) -> dict[str, dict[str, float | None]]:
        """By name: the mean over seeds, the deviation of a seed, half of the 95 % interval of the mean, by Student's t,
        and the figure of real images. The interval is of the draw of samples; all else stays the same."""
        found: dict[str, dict[str, float | None]] = {}
        for name in self.by_seed[0]:
            values = [seed[name] for seed in self.by_seed]
            found[name] = {
                "mean": float(np.mean(values)),
                **spread_of(values),
                "real": None if self.real is None else self.real[name],
            }
        return found

    def __repr__(self) -> str:
        known = {name: FIGURES[name][0] for name in FIGURES if name in self.by_seed[0]}
        words = ", ".join(f"{word} {self.figures[name]['mean']:.4g}" for name, word in known.items())
        return f"<Quality of {self.about['run']}, {self.about['count']:,} samples: {words or 'moments'}>"

    def as_json(self) -> dict[str, Any]:
        return {
            "about": self.about,
            "figures": self.figures,
            "by_seed": list(self.by_seed),
            "real": self.real,
            "moments": dict(self.moments),
            "spectra": dict(self.spectra),
        }


def spread_of(values: Sequence[float]) -> dict[str, float | None]:
    """The deviation, and half of the 95 % interval of the mean, by Student's t; of one value none is known."""
    if len(values) < 2:
        return {"deviation": None, "half_width_95": None}
    deviation = float(np.std(values, ddof=1))
    reach = student_quantile(len(values) - 1) * deviation / np.sqrt(len(values))
    return {"deviation": deviation, "half_width_95": float(reach)}


def figures_of(samples: Features, reference: Features | Statistics) -> dict[str, float]:
    """All distances between two sets of features; of the mean and covariance of one the Fréchet distance alone."""
    if isinstance(reference, Statistics):
        moments = feature_moments(samples)
        return {"frechet": frechet_distance(*moments, reference.mean, reference.covariance)}
    kernel, where = kernel_distance(samples, reference), support(samples, reference)
    return {
        "frechet": frechet(samples, reference),
        "kernel": kernel.value,
        "kernel_standard_error": kernel.standard_error,
        **vars(where),
    }


@dataclass(frozen=True, eq=False)
class Target:
    """The reference of a distance, as it is seen."""

    features: Features | Statistics | None
    summary: Summary | None
    """None where its images are not known."""

    @classmethod
    def of(cls, reference: RealImages | Statistics, view: View) -> "Target":
        """Raises SettingsError where statistics are of other features."""
        if isinstance(reference, RealImages):
            summary = view.of(reference.x_0)
            return cls(summary.features, summary)
        return cls(reference, None)

    def figures(self, seen: Summary) -> dict[str, float]:
        """The distances of other images from it, as far as they have any."""
        found: dict[str, float] = {}
        if seen.features is not None and self.features is not None:
            found |= figures_of(seen.features, self.features)
        ours, theirs = seen.spectrum, None if self.summary is None else self.summary.spectrum
        if ours is not None and theirs is not None:
            found["spectrum"] = log_spectral_distance(ours.power, theirs.power)
        return found


@dataclass(frozen=True, eq=False)
class Asked:
    """The samples that are asked for: of which condition, and under which guidance."""

    guidance: Guidance | None
    condition: Mapping[str, Any]
    """label, vector, image and mask, as `Run.condition` has them."""
    only: int | None
    """The class of all of them, where they have one that was named."""

    @classmethod
    def of(cls, run: Run, options: DistanceOptions) -> "Asked":
        """Raises SettingsError for what the run has not learned."""
        guidance = None
        if options.guidance is not None:
            details = (options.guidance_interval, options.guidance_rescale or 0.0, options.guide)
            guidance = Guidance(options.guidance, *details)
        guidance, label = run.composed(guidance, options.label)
        is_one = label not in (None, EACH)
        only = class_number(str(label), run.data, run.folder) if is_one else None
        condition = {
            "label": label, "vector": options.vector, "image": options.condition, "mask": options.mask
        }  # fmt: skip
        return cls(guidance, condition, only)

    def as_json(self, options: DistanceOptions) -> dict[str, Any]:
        """What differs from the usual samples."""
        names = ("label", "vector", "condition", "mask")
        given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
        return given | ({} if self.guidance is None else {"guidance": self.guidance.as_json()})


def _given_in_words(about: Mapping[str, Any]) -> str:
    """The condition and the guidance of samples; empty where they are as usual."""
    names = (name for name in ("label", "vector", "condition", "mask") if name in about)
    parts = [f"{name} {Path(about[name]).name}" for name in names]  # of a file its name alone
    parts += [f"guidance {about['guidance']['weight']:g}"] if "guidance" in about else []
    return "".join(f", {part}" for part in parts)


def words_of(about: Mapping[str, Any]) -> str:
    """The record of a measurement in sentences."""
    seeds, noun = about["seeds"], about["noun"]
    count = f"{about['reference_count']:,} " if about["reference_count"] else ""
    if about["reference_is"] == "images":
        reference = f"from {count}{about['reference']} {noun}"
    else:
        reference = f"from the statistics {about['reference']}" + f", of {count}{noun}" * bool(count)
    features = f"; in the features of {about['of']} ({about['features']})" if about["features"] else ""
    interval = ", ± the 95 % interval of their mean" if seeds > 1 else ""
    walk = f"{about['sampler']}, {about['steps'] or 'all'} steps{_given_in_words(about)}"
    return (
        f"{reference}{features}; {walk}; averaged weights of step"
        f" {about['step']:,}; {seeds} seed{'s' * (seeds > 1)}{interval}. All figures depend on the count. Moments: ±"
        " the standard error; the kurtosis is that beyond a normal law's."
    )


def measure_quality(
    run: Run,
    options: DistanceOptions,
    says: Says = lambda _, __: None,
    reading: Progress = silent,
    *,
    sampler: Sampler | None = None,
) -> Quality:
    """Sample the run, with `seeds` seeds, and compare with the reference; other real images do the same.

    sampler: in place of the one that the options name. Where values are missing, no network knows features: then the
    moments alone. Raises SettingsError where there are too few real images, or features or statistics do not fit;
    DataError, RunError where the data are not here.
    """
    prepared = run.prepared(reading)
    asked = Asked.of(run, options)
    sides = sides_of(run, of_class(prepared, asked.only), options, reading)
    _check_gaps(prepared, sides, options)
    if sampler is None:
        sampler = run.sampler(options.sampler, steps=options.steps, spacing=options.spacing, at=options.times)
    loaded = run.load(device=options.device)
    sampler.times(loaded.model.path)  # what cannot be is refused before features are learned
    labels = labels_like(sides.reference, prepared, sides.count)
    condition = condition_like(run, labels, asked.guidance, **asked.condition)
    draw = Draw(run, run.guided(loaded, asked.guidance), sampler, condition)
    features = None if prepared.dataset.masked else _features(prepared, options, says)
    view = View(features, _centre(sides, prepared), run.data.units, _told(options, says))
    if features is not None and isinstance(sides.reference, Statistics):
        sides.reference.check(features, features(prepared.dataset.x_0([0])).shape[1])
    target = Target.of(sides.reference, view)
    real = None if sides.others is None else view.of(sides.others.x_0)
    seen = [view.of(x) for x in draw.samples(loaded, sides.count, options, says)]
    summaries = {"samples": Summary.joined(seen), "real": real, "reference": target.summary}
    return Quality(
        _about(run, loaded, sampler, options, features, sides) | asked.as_json(options),
        tuple(target.figures(each) for each in seen),
        None if real is None else target.figures(real),
        {name: view.moments(each).as_json() for name, each in summaries.items() if each is not None},
        _spectra(run.data.shape, summaries),
        _statistics(target, sides, features),
    )


def _about(
    run: Run,
    loaded: Loaded,
    sampler: Sampler,
    options: DistanceOptions,
    features: FeatureMap | None,
    sides: Sides,
) -> dict[str, Any]:
    of_images = isinstance(sides.reference, RealImages)
    return {
        "run": run.folder.name, "step": loaded.step, "count": sides.count, "asked_for": options.count,
        "seeds": options.seeds, "seed": options.seed, "sampler": name_of(sampler), "steps": steps_of(sampler),
        "walk": sampler_as_json(sampler), "weights": loaded.weights,
        "features": None if features is None else features.name, "of": None if features is None else features.words,
        "features_sha256": None if features is None else features.sha256,
        "reference": sides.reference.name, "reference_is": "images" if of_images else "statistics",
        "reference_count": len(sides.reference) if isinstance(sides.reference, RealImages) else sides.reference.count,
        "real": None if sides.others is None else sides.others.name,
        "noun": noun_of(run.data.shape).many,
    }  # fmt: skip


def _check_gaps(prepared: Prepared, sides: Sides, options: DistanceOptions) -> None:
    """Raises SettingsError for features of samples with gaps, which there are not."""
    if prepared.dataset.masked and (options.features is not None or isinstance(sides.reference, Statistics)):
        raise SettingsError(
            "samples with missing values have no features: their moments alone are compared",
            "leave the features out, and name images as the reference",
        )


def _centre(sides: Sides, prepared: Prepared) -> Any:
    """The mean of each channel of some real images."""
    images = sides.reference if isinstance(sides.reference, RealImages) else sides.others
    return centre_of(
        prepared.dataset.with_gaps(prepared.split.training[:1]) if images is None else images.x_0
    )


def _told(options: DistanceOptions, says: Says) -> Callable[[int, int], None]:
    """Progress of features, which a network of the user's may take long for, and ours do not."""
    return lambda done, of: says(done / of, "features") if options.features is not None else None


def _features(prepared: Prepared, options: DistanceOptions, says: Says) -> FeatureMap:
    if options.features is None:
        return features_for(prepared, says)
    return from_file(options.features, prepared.dataset.units)


def _spectra(shape: tuple[int, ...], summaries: Mapping[str, Summary | None]) -> dict[str, Any]:
    spectra = {name: each.spectrum for name, each in summaries.items() if each is not None}
    found = {name: spectrum.as_json() for name, spectrum in spectra.items() if spectrum is not None}
    return {"frequency": shells_of(tuple(shape[1:])).frequency.tolist(), **found} if found else {}


def _statistics(target: Target, sides: Sides, features: FeatureMap | None) -> Statistics | None:
    """Of the features of the reference; None where it is statistics itself."""
    if features is None or target.features is None or isinstance(target.features, Statistics):
        return None
    return Statistics.of(target.features, sides.reference.name, features.name, features.sha256)


def in_units(x: Samples, units: Units, target: Units) -> Samples:
    """Samples as they are saved, in the network's units of a run, in those of another; nan where there is no value."""
    values: Any = units.decode(x)
    again: Samples = target.encode(values)
    return again.masked_fill(x.isnan(), float("nan"))


def steps_of(sampler: Sampler) -> int | None:
    """Steps of its walks; None: all T."""
    return sampler.steps if sampler.at is None else len(sampler.at)


@dataclass(frozen=True, eq=False)
class Draw:
    """A way to sample: the model, under guidance where there is any, the sampler and the condition."""

    run: Run
    model: AnyModel
    sampler: Sampler
    condition: Condition | None

    def samples(self, loaded: Loaded, count: int, options: DistanceOptions, says: Says) -> Iterator[Samples]:
        """Those of each seed; levels as they are saved."""
        units: Any = self.run.data.units
        for number in range(options.seeds):
            request = self.run.request(loaded, self.condition, count=count, seed=options.seed + number)

            def tell(share: float, _: str, number: int = number) -> None:
                says((number + share) / options.seeds, "samples")

            x = sample(self.model, self.sampler, request, tell, keep_on="cpu")
            yield in_units(x, units, units)
