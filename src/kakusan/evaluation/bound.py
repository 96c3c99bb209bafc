"""The variational bound of a run on training and held-out images, and where the bits go.

The gap between the two is what memorizing looks like; so is a network whose guesses come near to those of
`FiniteSetOracle`, the optimal denoiser of the training set (the memorizer).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kakusan.config.machine import environment
from kakusan.data import Dataset
from kakusan.data.dataset import Progress, silent
from kakusan.data.units import Levels, Real, Units
from kakusan.diffusion.flow import ExactLikelihood
from kakusan.diffusion.likelihood import VariationalBound, concatenated
from kakusan.diffusion.oracles import FiniteSetOracle
from kakusan.diffusion.variances import Analytic, FixedLarge, variance_named
from kakusan.diffusion.weighted import WeightedBound
from kakusan.errors import KakusanError, SettingsError, quoted
from kakusan.evaluation.likelihoods import (
    about_likelihoods,
    exact_of,
    figures_of,
    require_flow,
    weighted_of,
)
from kakusan.evaluation.options import BoundOptions
from kakusan.evaluation.others import as_of_run
from kakusan.run import Loaded, Run
from kakusan.shapes import mean_by_sample
from kakusan.storage.run_folder import RunFolder
from kakusan.training.prepare import Prepared
from kakusan.training.validation import bounds_of, condition_of, distances_between, mean_errors, spread

Floats = NDArray[np.float64]

NO_MEANS = (
    "bits/dim are those of a denoiser, and after `kakusan distill` guesses are ends of trajectories, not means:"
    " these figures say nothing of its samples; what does: kakusan evaluate {run} --distance"
)
FOR_ANALYTIC = 128
"""Training images from which the analytic variance is estimated."""
COMPARED_TIMES = 20
COMPARED_IMAGES = 64
MOST_VALUES = 1 << 28
"""Values of a training set that is compared with: 1 GiB."""


@dataclass(frozen=True, eq=False)
class Part:
    """Some images of one split, and their bound."""

    name: str
    dataset: Dataset
    numbers: NDArray[np.int64]
    """Places in the data set."""
    bound: VariationalBound
    near: dict[int, float]
    """t -> root mean square distance of the guesses from those of the memorizer, in the network's units."""
    weighted: WeightedBound | None = None
    """The importance-weighted bound, where it was asked for."""
    exact: ExactLikelihood | None = None
    """The likelihood by the probability flow, where it was asked for."""

    @property
    def spent(self) -> Floats:
        """Bits/dim that the term of each t = 1..T adds to the mean total, estimated where not all were measured."""
        return _sums(self.bound, (self.bound.bits * self.bound.weight).numpy()) / len(self.numbers)

    @property
    def bits_by_t(self) -> Floats:
        """The mean term at each t = 1..T; nan where none was measured."""
        return self._mean(self.bound.bits.numpy())

    @property
    def distortion(self) -> Floats:
        """Root mean squared error of the guess of x_0 at each t = 1..T, in the network's units; nan likewise."""
        return np.sqrt(self._mean(self.bound.squared_error.numpy()))

    def distortion_at(self, t: int) -> float:
        """The same at one t, between its neighbours where it was not measured."""
        known = np.flatnonzero(np.isfinite(self.distortion))
        return float(np.interp(t - 1, known, self.distortion[known]))

    @property
    def rate(self) -> Floats:
        """Bits/dim spent once x_t is known, t = 0..T (Ho et al. 2020, section 4.3)."""
        later = np.cumsum(self.spent[::-1])[::-1]
        return float(self.bound.L_T.mean()) + np.append(later, 0.0)

    def _mean(self, values: Floats) -> Floats:
        count = _sums(self.bound, np.ones_like(values))
        return np.where(count > 0, _sums(self.bound, values) / np.maximum(count, 1), np.nan)


def telling_times(parts: Sequence[Part]) -> tuple[int, int]:
    """The first and last t at which x_t neither shows x_0 nor hides it: where nearness to the memorizer is informative.

    The error of the guess of images that were not trained on, where there are such, is 20 to 60 % of that at T.
    """
    errors = parts[-1].distortion
    known = np.flatnonzero(np.isfinite(errors))
    share = errors[known] / max(errors[known[-1]], 1e-300)
    inside = known[(share >= 0.2) & (share <= 0.6)]
    if not len(inside):
        return 1, parts[-1].bound.T
    return int(inside[0]) + 1, int(inside[-1]) + 1


def _sums(bound: VariationalBound, values: Floats) -> Floats:
    """Sums over the images at each t = 1..T."""
    sums = np.bincount(bound.t.numpy().ravel() - 1, values.ravel(), minlength=bound.T)
    return sums.astype(np.float64)


@dataclass(frozen=True, eq=False)
class BoundReport:
    """The bound of some parts of the data, and all that the figures depend on."""

    parts: tuple[Part, ...]
    about: dict[str, Any]
    units: Units

    def __repr__(self) -> str:
        bits = (f"{part.name} {float(part.bound.total.mean()):.4g} bits/dim" for part in self.parts)
        return f"<BoundReport at step {self.about['step']}: {', '.join(bits)}>"

    @property
    def scale(self) -> float:
        """From the network's units to levels (0..levels-1); for real data 1."""
        return (self.units.levels - 1) / 2 if isinstance(self.units, Levels) else 1.0

    def as_json(self) -> dict[str, Any]:
        """The report as plain numbers; by t = 1..T where nothing else is said."""
        return {**self.about, "parts": {part.name: _figures(part, self.scale) for part in self.parts}}


def measure_bound(
    run: Run,
    options: BoundOptions,
    *,
    other: Dataset | None = None,
    reading: Progress = silent,
    progress: Callable[[float, str], None] = lambda _, __: None,
) -> BoundReport:
    """The bound on the images of a run, or on others. Nothing is written but an analytic variance that is estimated.

    other: images in memory, in place of those that options.data names. reading: called while files are read, progress
    with the share that is done and the name of the work, each of which goes from 0 to 1.
    Raises DataError where the data do not fit the network, RunError where the run's own have changed,
    SettingsError where there is nothing to measure.
    """
    if run.settings.is_distilled:
        run.warnings.append(NO_MEANS.format(run=quoted(run.folder)))
    source = options.data if other is None else other
    is_analytic = options.variance == Analytic.name
    try:
        prepared = run.prepared(reading)
    except KakusanError:
        if source is None or is_analytic:
            raise
        prepared = None  # the run's own images have gone, and are not needed for others
    loaded = run.load(
        weights=options.weights,
        device=options.device,
        precision=options.precision,
        variance=None if is_analytic else options.variance,
        sigma_1=options.sigma_1,
        clip=None if options.clip is None else options.clip == "yes",
    )
    chosen = _chosen(run, prepared, source, options, reading)
    if is_analytic:
        assert prepared is not None
        estimate_analytic(run.files, loaded, prepared, progress)
        loaded = run.with_analytic_variance(loaded)
    parts, device = [], torch.device(loaded.device)
    if options.exact:
        for _, dataset, _ in chosen:
            require_flow(loaded, dataset)
    for name, dataset, numbers in chosen:
        bounds = bounds_of(loaded.model, dataset, numbers, device, terms=options.terms, seed=options.seed)
        bound = _joined(bounds, len(numbers), f"the bound of {name} images", progress)
        parts.append(_closer(loaded, Part(name, dataset, numbers, bound, {}), options, progress))
    about = _about(run, loaded, source, options) | _on_missing(chosen, run.data.units, prepared)
    about |= about_likelihoods(loaded, options, int(np.prod(run.data.shape)))
    if options.memorizer and prepared is not None and _is_comparable(prepared):
        parts = _compared(loaded, memorizer(loaded, prepared), parts, progress)
    return BoundReport(tuple(parts), about, run.data.units)


def _on_missing(
    chosen: Sequence[tuple[str, Dataset, NDArray[np.int64]]], units: Units, prepared: Prepared | None
) -> dict[str, Any]:
    """The record of missing values, if there are any: their share, and that the figures are over those that are there.

    So is the offset to the data's own units: the mean log2 of the scale, image by image, as the bound is.
    """
    masks = [
        condition.mask
        for _, dataset, numbers in chosen
        if (condition := dataset.condition(numbers)) is not None and condition.mask is not None
    ]
    said = {"by_heart": _NOT_BY_HEART} if prepared is not None and prepared.dataset.masked else {}
    if not masks:
        return dict(said)
    mask = torch.cat(masks)
    about: dict[str, Any] = {**said, "missing": 1 - float(mask.double().mean()), "per": "value that is there"}
    if isinstance(units, Real):
        offsets = torch.tensor(np.log2(units.scale)).view(1, -1, *[1] * (mask.ndim - 2))
        about["own_units_offset"] = float(mean_by_sample(offsets.expand(mask.shape), mask).mean())
    return about


_NOT_BY_HEART = (
    "not compared with a denoiser that knows the data by heart: of data with missing values there is none"
)


def _joined(
    bounds: Iterator[VariationalBound], count: int, what: str, progress: Callable[[float, str], None]
) -> VariationalBound:
    """The bound of so many images, measured in micro-batches."""
    measured: list[VariationalBound] = []
    for bound in bounds:
        measured.append(bound)
        progress(sum(len(b.t) for b in measured) / count, what)
    return concatenated(measured)


def _closer(
    loaded: Loaded, part: Part, options: BoundOptions, progress: Callable[[float, str], None]
) -> Part:
    """The same with the figures beside the bound that were asked for."""

    def says(share: float, what: str) -> None:
        progress(share, f"{what} of {part.name} images")

    if options.samples is not None:
        part = replace(part, weighted=weighted_of(loaded, part.dataset, part.numbers, options, says))
    if options.exact:
        part = replace(part, exact=exact_of(loaded, part.dataset, part.numbers, options, says))
    return part


def _compared(
    loaded: Loaded, oracle: FiniteSetOracle, parts: list[Part], progress: Callable[[float, str], None]
) -> list[Part]:
    """The parts with their distances from the memorizer."""
    times = compared_times(loaded.model.path.T)
    found: list[Part] = []
    for part in parts:
        near: dict[int, float] = {}
        for t in times:
            progress((len(found) + len(near) / len(times)) / len(parts), "how near to memorizing")
            near[t] = _distance(loaded, oracle, part, t)
        found.append(replace(part, near=near))
    return found


def _chosen(
    run: Run,
    prepared: Prepared | None,
    source: Path | Dataset | None,
    options: BoundOptions,
    progress: Progress,
) -> list[tuple[str, Dataset, NDArray[np.int64]]]:
    """The images to measure: some of each split, evenly spread, or of another source."""
    if source is not None:
        other = as_of_run(run, source, progress)
        return [(other.name, other, spread(np.arange(len(other)), options.images))]
    assert prepared is not None
    splits = {"training": prepared.split.training, "held-out": prepared.split.held_out}
    wanted = {name: part for name, part in splits.items() if options.split in ("both", name) and len(part)}
    if not wanted:
        raise SettingsError(
            f"{run.folder} held no images out", "ask for the split training, or name other data"
        )
    return [(name, prepared.dataset, spread(part, options.images)) for name, part in wanted.items()]


def estimate_analytic(
    run: RunFolder, loaded: Loaded, prepared: Prepared, progress: Callable[[float, str], None]
) -> None:
    """Estimate the errors of the guesses on training images, and store them in the run; once for given weights."""
    if run.analytic(loaded.analytic_key) is not None:
        return
    model = replace(loaded.model, variance=FixedLarge.name)
    numbers = spread(prepared.split.training, FOR_ANALYTIC)
    bounds = bounds_of(model, prepared.dataset, numbers, torch.device(loaded.device))
    errors = mean_errors(_joined(bounds, len(numbers), "the analytic variance", progress)).tolist()
    run.save_analytic(loaded.analytic_key, errors, {"training_images": len(numbers), "seed": 0})


def memorizer(loaded: Loaded, prepared: Prepared) -> FiniteSetOracle:
    """The exact denoiser of the training images."""
    images = prepared.dataset.x_0(prepared.split.training).to(loaded.device)
    if loaded.settings.data.flip:
        images = torch.cat([images, images.flip(3)])  # it was shown these, too
    return FiniteSetOracle(loaded.model.path, images)


def _is_comparable(prepared: Prepared) -> bool:
    """Whether the set fits into memory. With classes, the memorizer would be one set for each, as with masks."""
    if prepared.dataset.class_names or prepared.dataset.masked:
        return False
    return len(prepared.split.training) * int(np.prod(prepared.dataset.shape)) <= MOST_VALUES


def compared_times(T: int) -> list[int]:
    """About twenty times, evenly spread over 1..T."""
    return sorted({round(1 + (T - 1) * i / (COMPARED_TIMES - 1)) for i in range(COMPARED_TIMES)})


def _distance(loaded: Loaded, oracle: FiniteSetOracle, part: Part, t: int) -> float:
    numbers = spread(part.numbers, COMPARED_IMAGES)
    device = torch.device(loaded.device)
    x_0, condition = part.dataset.x_0(numbers).to(device), condition_of(part.dataset, numbers, device)
    apart = distances_between(loaded.model, oracle, x_0, t, numbers, condition)
    return float(apart.square().mean().sqrt())


def _about(run: Run, loaded: Loaded, source: Path | Dataset | None, options: BoundOptions) -> dict[str, Any]:
    """All that the figures depend on."""
    process, model = loaded.settings.process, loaded.model
    variance = variance_named(model.variance).name
    return {
        "run": str(run.folder),
        "step": loaded.step,
        "weights": options.weights,
        "data": source.name if isinstance(source, Dataset) else str(source or run.data.name),
        "T": process.T,
        "path": process.path,
        "schedule": process.schedule,
        "zero_terminal_snr": process.zero_terminal_snr,
        "predicts": process.predicts,
        "variance": variance,
        "sigma_1": "analytic" if variance == Analytic.name else model.sigma_1,
        "clip": model.clip,
        "levels": model.levels,
        "terms": options.terms if options.terms is not None and options.terms < process.T else "all",
        "seed": options.seed,
        "training_images": run.files.data["count"] - len(run.files.data["held_out"]),
        "hardly_learned": run.hardly_learned(loaded.step),
        "held_out_doubt": run.doubt,
        "unit_of_distortion": "levels" if model.levels else "the network's units",
        "own_units_offset": _offset(run.data.units),
        "precision": loaded.settings.machine.precision,
        "environment": environment(loaded.settings.machine),
    }


def _offset(units: Units) -> float:
    """The difference of bits/dim in the data's own units from those in the network's: the mean log2 of the scale."""
    return 0.0 if isinstance(units, Levels) else float(np.log2(units.scale).mean())


def _figures(part: Part, scale: float) -> dict[str, Any]:
    bound = part.bound
    return {
        "images": len(part.numbers),
        "bits_per_dim": bound.mean,
        "standard_error": bound.mean_standard_error,
        "L_T": float(bound.L_T.mean()),
        "L_steps": float(bound.L_steps.mean()),
        "L_0": float(bound.L_0.mean()),
        "terms_standard_error": float(bound.standard_error.square().sum().sqrt()) / len(part.numbers),
        "bits_by_t": part.bits_by_t.tolist(),
        "rate_from_t_0": part.rate.tolist(),
        "distortion": (part.distortion * scale).tolist(),
        "distance_from_memorizer": {str(t): value * scale for t, value in part.near.items()},
        **figures_of(part.weighted, part.exact),
    }
