"""Times of few-step walks for one run: tuned by endpoints, or errors by time for entropic ones. Both are stored."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float64
from numpy.typing import NDArray
from torch import Tensor

from kakusan.data.dataset import Progress, silent
from kakusan.diffusion.forward import q_marginal
from kakusan.diffusion.paths import Path, ends_in_pure_noise
from kakusan.errors import KakusanError, SettingsError
from kakusan.evaluation.options import TuneOptions
from kakusan.randomness import Purpose, normals
from kakusan.run import Loaded, Run
from kakusan.samplers import Sampler, SeededNoise, name_of
from kakusan.samplers.auto import BEST
from kakusan.samplers.tuning import Endpoints, most_walks, tune
from kakusan.shapes import Times
from kakusan.storage.times import ErrorsByTime, TimesFile, TunedTimes
from kakusan.training.prepare import Prepared
from kakusan.training.validation import spread

SERIES = 1 << 40
"""Number of the first image whose noise is used: far from those that anybody samples."""
REMEMBERED = 64
"""Samples of which errors are measured when a training ends."""
FEWEST_TIMES = 10
"""T below which times leave no choice."""
BETWEEN = 1_000
"""Times are told apart to such a part of a step in the noise that they get."""
PLACES = 32
"""Times at which errors are measured, even in the log-SNR."""

Says = Callable[[float, str], None]


def tune_times(run: Run, options: TuneOptions, says: Says = lambda _, __: None) -> list[TunedTimes]:
    """Tune a run's times for each number of calls, and store them in the run.

    says: called with the share that is done, and words. Raises SettingsError for samplers whose endpoints are chance,
    and for more calls than T.
    """
    _require_many_calls(run)
    loaded = run.load(device=options.device, precision="fp32")
    samplers = [
        _quiet(run.sampler(options.sampler, steps=calls, spacing="trailing")) for calls in options.calls
    ]
    for sampler in samplers:
        sampler.times(loaded.model.path)  # more than T are refused before the first is tuned
    endpoints = _endpoints(run, loaded, options)
    found = []
    for number, sampler in enumerate(samplers):
        calls = len(sampler.times(loaded.model.path)) - 1

        def tell(walks: int, words: str, number: int = number, calls: int = calls) -> None:
            share = min(walks / most_walks(calls), 1)
            says((number + share) / len(samplers), f"{calls} calls, {words}")

        best = tune(sampler, endpoints, tell)
        times = TunedTimes(
            name_of(sampler), {}, calls, best.at, loaded.step, best.error, best.before, options.count
        )
        TimesFile(run.folder).add(times)
        found.append(times)
    return found


def _quiet(sampler: Sampler) -> Sampler:
    """The automatic sampler without its noise: where its walks end is chance otherwise."""
    return replace(sampler, eta=0.0) if isinstance(sampler, BEST) else sampler


def _endpoints(run: Run, loaded: Loaded, options: TuneOptions) -> Endpoints:
    """Those of as many samples, in micro-batches as a sampling has them."""
    condition, size = run.condition(), loaded.settings.machine.micro_batch
    batches = []
    for indices in torch.split(torch.arange(options.count, device=loaded.device) + SERIES, size):
        given = None if condition is None else condition.to(loaded.device).rows(indices % len(condition))
        batches.append((SeededNoise(options.seed, indices, run.data.shape), given))
    return Endpoints(loaded.model, batches)


def _require_many_calls(run: Run) -> None:
    """Raises SettingsError for a distilled run, whose predictions are samples, and no means."""
    if run.settings.is_distilled:
        raise SettingsError(
            f"{run.folder} was distilled to a few calls, which have times of their own: there is nothing to tune",
            "tune the run that it came from",
        )


def measure_errors(
    run: Run,
    options: TuneOptions,
    says: Says = lambda _, __: None,
    reading: Progress = silent,
    prepared: Prepared | None = None,
) -> ErrorsByTime:
    """Measure the errors of a run's predictions of x_0 by time, on held-out samples, and store them in the run.

    prepared: its data, where they are open already. Raises SettingsError for distilled runs and missing values,
    DataError and RunError where the data are not here.
    """
    _require_many_calls(run)
    loaded = run.load(device=options.device)
    prepared = run.prepared(reading) if prepared is None else prepared
    if prepared.dataset.masked:
        raise SettingsError("samples with missing values have no errors by time", "take another spacing")
    split = prepared.split
    chosen = spread(split.held_out if len(split.held_out) else split.training, options.count)
    times = even_times(loaded.model.path)
    errors = _errors(loaded, prepared, chosen, times, options.seed, says)
    found = ErrorsByTime(tuple(times.tolist()), tuple(errors.tolist()), loaded.step, len(chosen))
    TimesFile(run.folder).keep_errors(found)
    return found


def even_times(path: Path) -> Times:
    """Times from T, or T - 1 where nothing of the data is left at T, to 1; even in the log-SNR."""
    start = path.T - 1 if ends_in_pure_noise(path) else path.T
    ends = torch.tensor([start, 1.0], dtype=torch.float64)
    first, last = path.half_log_snr(ends).tolist()
    inner = torch.linspace(first, last, PLACES, dtype=torch.float64)[1:-1]
    return torch.cat([ends[:1], path.time_at(inner), ends[1:]])


@torch.no_grad()
def _errors(
    loaded: Loaded, prepared: Prepared, chosen: NDArray[np.int64], times: Times, seed: int, says: Says
) -> Float64[Tensor, " times"]:
    """Mean square error of the predictions of x_0 from x_t of these images, at each of these times.

    Times share batches, since few images are held out where there are few.
    """
    model, squares = loaded.model, []
    places, numbers = (each.ravel() for each in np.indices((len(times), len(chosen))))
    for rows in np.array_split(
        np.arange(places.size), -(-places.size // loaded.settings.machine.micro_batch)
    ):
        says(float(rows[0]) / places.size, f"errors at t = {times[places[rows[0]]]:.0f}")
        images, at = chosen[numbers[rows]], times[torch.from_numpy(places[rows])]
        x_0, condition = prepared.dataset.x_0(images).to(loaded.device), prepared.dataset.condition(images)
        noise = torch.cat(
            [
                normals(
                    seed,
                    Purpose.WALK,
                    int(t * BETWEEN),
                    torch.from_numpy(images[(at == t).numpy()]).to(loaded.device),
                    tuple(x_0.shape[1:]),
                )
                for t in dict.fromkeys(at.tolist())
            ]
        )
        x_t = q_marginal(model.path, x_0, at).reparametrize(noise)
        guess = model.predict(x_t, at, None if condition is None else condition.to(loaded.device))
        squares.append((guess.x_0 - x_0).square().flatten(1).mean(1).cpu().double())
    return torch.cat(squares).view(len(times), len(chosen)).mean(1)


def remember_errors(run: Run, prepared: Prepared, says: Says = lambda _, __: None) -> None:
    """Measure the errors of a run's newest weights, for the times of its samples, unless that was done or cannot be.

    Not for distilled runs and missing values, nor where T is small or the folder cannot be written.
    """
    known, steps = TimesFile(run.folder).errors(), run.files.steps
    settings = run.settings
    if not steps or settings.is_distilled or run.data.masked or settings.process.T < FEWEST_TIMES:
        return
    if known is None or known.step != steps[-1]:
        with suppress(KakusanError):
            measure_errors(run, TuneOptions(count=REMEMBERED), says, prepared=prepared)
