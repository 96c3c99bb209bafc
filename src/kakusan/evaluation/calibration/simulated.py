"""Calibration of a run: held-out x, a simulated measurement of each, samples given it, and the truth beside them."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kakusan.data import Dataset
from kakusan.data.space import noun_of
from kakusan.data.units import Levels, Units, scale_and_mean
from kakusan.diffusion.denoiser import Denoiser
from kakusan.errors import NumbersError, SettingsError
from kakusan.evaluation.calibration.judged import Judged, judge, plain, ratio
from kakusan.evaluation.options import CalibrationOptions
from kakusan.evaluation.quality import in_units
from kakusan.operators import Operator
from kakusan.posterior import Gaussian, Measurement, Method, Noise, Restoration, restored
from kakusan.posterior.misfit import Misfit, misfit
from kakusan.posterior.score import posterior_score
from kakusan.randomness import Purpose, normals, require_seed
from kakusan.run import Loaded, Run
from kakusan.run.restoring import UNGUIDED, in_words, method_as_json
from kakusan.samplers.walk import SeededNoise
from kakusan.shapes import Samples, by_row
from kakusan.statistics.clusters import Estimate, mean_of, of_sums
from kakusan.statistics.stein import Stein, stein_discrepancy
from kakusan.storage.figures import finite
from kakusan.training.guide import Guidance
from kakusan.training.validation import spread

UNFIT = "do not take the spread for an error bar yet, since the misfit of the samples is not that of noise"
"""In place of a yes."""
Says = Callable[[float, str], None]

SCORED_AT = 0.1
"""sigma, in the network's units, at which samples are compared with the score.

Not less, though errors below it are out of sight: on exact Gaussians a smaller one shows no wrong spread either (see
`kakusan.statistics.stein`), and errors of a network weigh more there. A bias of its eps of 0.1 makes the discrepancy of
64 values 1.1 to 1.2 times that of exact samples at 0.1, and 1.2 to 3 times at 0.01.
"""
SHOWN = "shifts of samples beyond sigma; of many values not their spread"
"""Of the discrepancy: the errors that it shows."""
SAME = 1e-5
"""Values that differ by less, in the network's units, are kept exactly, but for float32."""
PROBES, SMALL = 4, 1e-6
"""Random values in the place of missing ones, and the share of the largest change below which y does not follow."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """A calibration that was done: `calibrate` makes one."""

    about: dict[str, Any]
    """All that it takes to do it again, as plain values."""
    judged: Judged
    misfit: Misfit
    steins: tuple[Stein, ...]
    """Kernel Stein discrepancies, of the first few images."""
    measurement: Measurement
    truth: Samples
    """Held-out x, (n, channels, *space), in the network's units; nan where a value is missing."""
    samples: Samples
    """(n, count, channels, *space), likewise."""

    @property
    def reduced(self) -> Estimate:
        """Chi-square of what is left of y by degree of freedom, over the images; 1 of exact samples."""
        return mean_of(self.misfit.reduced.mean(1))

    @property
    def stein(self) -> Estimate:
        """Kernel Stein discrepancy in those of exact samples, over the images: root of the ratio of mean squares."""
        sums = np.array([[each.value**2, each.reference**2] for each in self.steins]).reshape(-1, 2)
        return of_sums(lambda s: float(np.sqrt(s[0] / s[1])), sums) if len(sums) else Estimate(float("nan"))

    @property
    def words(self) -> tuple[str, ...]:
        """The verdict first, in sentences."""
        found = [self.judged.verdict(UNFIT if self.misfit.words else ""), *self.judged.remarks]
        if self.misfit.words:
            found.append(self.misfit.words)
        elif self.reduced.high < 1:
            found.append(
                "samples lie nearer to what was measured than its noise allows: the chi-square by degree of freedom is"
                f" {ratio(self.reduced)}"
            )
        if self.steins and self.stein.low > 1:
            found.append(
                f"the kernel Stein discrepancy is {self.stein.value:.2f} times that of exact samples of the posterior"
            )
        return tuple(found)

    @property
    def rows(self) -> tuple[tuple[str, str, str], ...]:
        """A table: name, figure, and the figure of exact samples."""
        about = self.about
        stein = [
            (
                "kernel Stein discrepancy / that of exact samples",
                plain(self.stein),
                "1, of any spread",
            )
        ]
        return (
            *self.judged.rows,
            ("chi-square of the misfit by degree of freedom", plain(self.reduced), "1"),
            *(stein if self.steins else []),
            ("network calls a sample", _calls(about), ""),
            *(
                [("effective particles, mean of the least", f"{about['effective_particles']:.1f}", "")]
                if about["effective_particles"] is not None
                else []
            ),
            ("seconds a sample", f"{about['seconds_per_sample']:.3g}", ""),
        )

    def as_json(self) -> dict[str, Any]:
        """All figures and what they are of, as plain values."""
        record = {
            **self.about,
            **self.judged.as_json(),
            "misfit": {
                **self.reduced.as_json(),
                "chi_square": self.misfit.chi_square.tolist(),
                "degrees": self.misfit.degrees.tolist(),
                "p": self.misfit.p.tolist(),
            },
            "stein": {
                **self.stein.as_json(),
                "sigma": SCORED_AT,
                "shows": SHOWN,
                "kernel": "(c^2 + |x - y|^2)^(-1/2), c the median distance",
                "images": [each.as_json() for each in self.steins],
            },
            "words": list(self.words),
        }
        return dict(finite(record))


def _calls(about: dict[str, Any]) -> str:
    backward = about["backward_per_sample"]
    return f"{about['calls_per_sample']:,.0f}" + (f", and {backward:,.0f} backward" if backward else "")


def calibrate(
    run: Run,
    operator: Operator,
    noise: Noise | float | int,
    method: Method,
    options: CalibrationOptions | None = None,
    progress: Says = lambda _, __: None,
) -> Calibration:
    """Held-out x of a run, a simulated measurement of each, samples given it: does their spread hold the truth?

    noise: its law, or the deviation of Gaussian noise, in the units of y. Nothing is written. Levels are judged as they
    are saved. Samples of conditional models are given the condition of their x. progress: (share, words), from 0 to 1.
    Raises SettingsError where nothing was held out, or method and operator do not fit; DataError, RunError where the
    data are not here; NumbersError for samples that are not finite.
    """
    options = options or CalibrationOptions()
    require_seed(options.seed)
    run.require_means()
    dataset, numbers = _held_out(run, options.images)
    loaded = run.load(weights=options.weights, device=options.device, precision=options.precision)
    model = run.guided(loaded, None if options.guidance is None else Guidance(options.guidance), UNGUIDED)
    truth, condition = dataset.with_gaps(numbers), dataset.condition(numbers)
    law = noise if isinstance(noise, Noise) else Gaussian(noise)
    measurement = simulated(truth, operator, law, run.data.units, options.seed, numbers)
    request = Restoration(
        count=options.count,
        seed=options.seed,
        condition=condition,
        micro_batch=loaded.settings.machine.micro_batch,
        device=loaded.device,
    )
    begun = time.perf_counter()
    found = restored(model, measurement, method, request, lambda share, at: progress(0.9 * share, at))
    samples = found.samples
    if bad := int((~samples.isfinite()).flatten(2).any(2).sum()):
        raise NumbersError(
            f"{bad:,} of {samples.shape[0] * samples.shape[1]:,} samples hold values that are not finite",
            "take more steps, or another method",
        )
    about = _about(run, loaded, operator, law, method, options) | {
        "images": len(numbers),
        "numbers": numbers.tolist(),
        "seconds_per_sample": (time.perf_counter() - begun) / (len(numbers) * options.count),
        "calls_per_sample": found.calls,
        "backward_per_sample": found.backward,
        "effective_particles": None if found.effective is None else float(found.effective.mean()),
    }
    steins = []
    for k in range(min(options.scored, len(numbers))):
        progress(0.9 + 0.1 * k / options.scored, "the score of the posterior")
        steins.append(_stein(model.denoiser, measurement, samples[k], request, k))
    there = samples if condition is None or condition.mask is None else _with_gaps(samples, truth)
    return Calibration(
        about,
        _judged(there, truth, run.data.units, options.seed),
        misfit(measurement, samples),
        tuple(steins),
        measurement,
        truth,
        there,
    )


def simulated(
    x: Samples, operator: Operator, noise: Noise, units: Units, seed: int, numbers: NDArray[np.int64]
) -> Measurement:
    """y = A(x) + noise of each x, in the network's units; the noise is a function of the seed and of the x's number.

    Where y depends on values of x that are missing (nan), it was not measured.
    """
    scale, mean = scale_and_mean(units)
    shape = tuple(x.shape[1:])
    asked = Measurement(operator, torch.zeros(1, *operator.measured_shape(shape)), noise, shape, scale, mean)
    exact = operator(asked.data(x.double().nan_to_num(0))).detach().numpy()
    drawn = [
        noise.draw(of_one, np.random.Generator(np.random.Philox(key=np.array([seed, number], np.uint64))))
        for of_one, number in zip(exact, numbers, strict=True)
    ]
    hidden = _on_missing(asked, x)
    return replace(asked, y=torch.from_numpy(np.stack(drawn)).masked_fill(hidden, float("nan")))


def _on_missing(asked: Measurement, x: Samples) -> Tensor:
    """The values of y that depend on values of x that are missing: those that change with them, but for rounding."""
    given = x.double().nan_to_num(0)
    gaps = x.isnan()
    exact = asked.predicted(given)
    hidden = torch.zeros_like(exact, dtype=torch.bool)
    if gaps.any():
        rows = torch.arange(len(x))
        for probe in range(PROBES):
            others = SeededNoise(probe, rows, asked.shape).start().double()
            change = (asked.predicted(given.where(~gaps, others)) - exact).abs()
            hidden |= change > SMALL * by_row(change).amax(1).view(-1, *[1] * (change.ndim - 1))
    return hidden


def _held_out(run: Run, images: int) -> tuple[Dataset, NDArray[np.int64]]:
    prepared = run.prepared()
    held_out = prepared.split.held_out
    if len(held_out) < 2:
        raise SettingsError(
            f"{run.folder} held {len(held_out)} {noun_of(run.data.shape).many} out, and a calibration needs 2 or more",
            "train with --data.held-out 0.1",
        )
    return prepared.dataset, spread(held_out, images)


def _with_gaps(samples: Samples, truth: Samples) -> Samples:
    return samples.masked_fill(truth.isnan()[:, None], float("nan"))


def _judged(samples: Samples, truth: Samples, units: Units, seed: int) -> Judged:
    """In the units of the data where all channels have the same, else in their deviations; levels as they are saved."""
    if isinstance(units, Levels):
        saved = in_units(samples.flatten(0, 1), units, units).view_as(samples)
        half = (units.levels - 1) / 2
        levels = ((x.double() + 1) * half for x in (saved, truth))
        rounded = (x.round() for x in levels)
        return judge(*rounded, peak=units.levels - 1, seed=seed, unit="levels")
    alike = len(set(units.scale)) == 1
    scale, unit = (units.scale[0], "the data's units") if alike else (1.0, "deviations of each channel")
    return judge(
        samples.double() * scale, truth.double() * scale, seed=seed, rounding=SAME * scale, unit=unit
    )


def _stein(
    denoiser: Denoiser, measurement: Measurement, samples: Samples, request: Restoration, k: int
) -> Stein:
    """The kernel Stein discrepancy of the samples of the k-th measurement, by themselves."""
    parts, size, seed = [], request.micro_batch, request.seed
    for begin in range(0, len(samples), size):
        x = samples[begin : begin + size].to(request.device)
        of = torch.full((len(x),), k)
        given = None if request.condition is None else request.condition.rows(of).to(request.device)
        there = 1 if given is None or given.mask is None else given.mask
        indices = (torch.arange(len(x)) + begin) | k << 32
        noise = normals(seed, Purpose.EVALUATION_NOISE, 0, indices.to(x.device), tuple(x.shape[1:]))
        rows = measurement.rows(of)
        pair = posterior_score(denoiser, rows, x, noise, SCORED_AT, given)
        parts.append([(values * there).cpu() for values in pair])
    z, scores = (torch.cat(column) for column in zip(*parts, strict=True))
    return stein_discrepancy(z, scores, seed=seed)


def _about(
    run: Run, loaded: Loaded, operator: Operator, noise: Noise, method: Method, options: CalibrationOptions
) -> dict[str, Any]:
    return {
        "run": run.folder.name,
        "step": loaded.step,
        "weights": loaded.weights,
        "data": run.data.name,
        "operator": in_words(operator),
        "noise": in_words(noise),
        **method_as_json(method),
        "count": options.count,
        "seed": options.seed,
        "guidance": options.guidance,
        "device": loaded.device,
        "precision": loaded.settings.machine.precision,
    }
