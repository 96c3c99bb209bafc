"""Times of few-step walks for one run: tuned by endpoints, or errors by time for entropic ones. Both are stored."""

from collections.abc import Callable

import torch
from torch import Tensor

from kakusan.data.dataset import Progress, silent
from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.forward import q_marginal
from kakusan.diffusion.model import Model
from kakusan.diffusion.paths import Path, ends_in_pure_noise
from kakusan.errors import SettingsError
from kakusan.evaluation.options import TuneOptions
from kakusan.randomness import Purpose, normals
from kakusan.run import Loaded, Run
from kakusan.samplers import SAMPLERS, Sampler, SeededNoise
from kakusan.samplers.karras import EDMSampler
from kakusan.samplers.tuning import Endpoints, most_walks, tune
from kakusan.shapes import Condition, Samples, Times, times_like
from kakusan.storage.times import ErrorsByTime, TimesFile, TunedTimes
from kakusan.training.validation import spread

SERIES = 1 << 40
"""Number of the first image whose noise is used: far from those that anybody samples."""
PLACES = 40
"""Times at which errors are measured, even in the log-SNR."""

Says = Callable[[float, str], None]


def tune_times(run: Run, options: TuneOptions, says: Says = lambda _, __: None) -> list[TunedTimes]:
    """Tune a run's times for each number of calls, and store them in the run.

    says: called with the share that is done, and words. Raises SettingsError for samplers whose endpoints are chance,
    and for more calls than T.
    """
    loaded = run.load(device=options.device, precision="fp32")
    samplers = [run.sampler(options.sampler, steps=calls, spacing="trailing") for calls in options.calls]
    for sampler in samplers:
        _require_no_chance(sampler)
        sampler.times(loaded.model.path)  # more than T are refused before the first is tuned
    endpoints = _endpoints(run, loaded, options)
    found = []
    for number, sampler in enumerate(samplers):
        calls = len(sampler.times(loaded.model.path)) - 1

        def tell(walks: int, words: str, number: int = number, calls: int = calls) -> None:
            share = min(walks / most_walks(calls), 1)
            says((number + share) / len(samplers), f"{calls} calls, {words}")

        best = tune(sampler, endpoints, tell)
        name = next(name for name, kind in SAMPLERS.items() if kind is type(sampler))
        times = TunedTimes(name, {}, calls, best.at, loaded.step, best.error, best.before, options.count)
        TimesFile(run.folder).add(times)
        found.append(times)
    return found


def _require_no_chance(sampler: Sampler) -> None:
    if (
        isinstance(sampler, EDMSampler)
        or getattr(sampler, "eta", False)
        or type(sampler) is SAMPLERS["ancestral"]
    ):
        raise SettingsError(
            "a sampler that draws noise at each step ends elsewhere each time: its times cannot be tuned",
            "such as unipc, dpmpp-2m, ipndm or ddim can",
        )


def _endpoints(run: Run, loaded: Loaded, options: TuneOptions) -> Endpoints:
    indices = torch.arange(options.count, device=loaded.device) + SERIES
    condition = run.condition()
    given = None if condition is None else condition.to(loaded.device).rows(indices % len(condition))
    return Endpoints(loaded.model, SeededNoise(options.seed, indices, run.data.shape), given)


def measure_errors(
    run: Run, options: TuneOptions, says: Says = lambda _, __: None, reading: Progress = silent
) -> ErrorsByTime:
    """Measure the errors of a run's predictions of x_0 by time, on held-out samples, and store them in the run.

    Raises DataError, RunError where the data are not here.
    """
    loaded, prepared = run.load(device=options.device), run.prepared(reading)
    if prepared.dataset.masked:
        raise SettingsError("samples with missing values have no errors by time", "take another spacing")
    split = prepared.split
    chosen = spread(split.held_out if len(split.held_out) else split.training, options.count)
    x_0, condition = prepared.dataset.x_0(chosen).to(loaded.device), prepared.dataset.condition(chosen)
    given = None if condition is None else condition.to(loaded.device)
    times = even_times(loaded.model.path)
    errors = []
    for place, t in enumerate(times.tolist()):
        noise = normals(
            options.seed, Purpose.WALK, place, torch.arange(len(x_0), device=loaded.device), run.data.shape
        )
        errors.append(_error(loaded.model, x_0, noise, t, given))
        says((place + 1) / len(times), f"errors at t = {t:.0f}")
    found = ErrorsByTime(tuple(times.tolist()), tuple(torch.stack(errors).tolist()), loaded.step, len(chosen))
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
def _error(
    model: Model[Denoiser], x_0: Samples, noise: Samples, t: float, condition: Condition | None
) -> Tensor:
    """Mean square error of the predictions of x_0 from x_t."""
    at = times_like(t, x_0)
    x_t = q_marginal(model.path, x_0, at).reparametrize(noise)
    return (model.predict(x_t, at, condition).x_0 - x_0).square().mean().double()
