"""The best steps of a run: its errors and decoders at all times, measured once, and what so many steps cost in bits."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kakusan.data.dataset import Progress, silent
from kakusan.diffusion.best_steps import best_steps, cost_of
from kakusan.diffusion.forward import q_marginal
from kakusan.diffusion.gaussians import double
from kakusan.diffusion.likelihood import BITS
from kakusan.diffusion.model import p_given
from kakusan.diffusion.variances import LearnedRange, variance_named
from kakusan.errors import SettingsError
from kakusan.evaluation.options import TuneOptions
from kakusan.randomness import Purpose, normals
from kakusan.run import Loaded, Run
from kakusan.run.choosing import costs_of_steps
from kakusan.samplers.spacings import trailing
from kakusan.shapes import times_like
from kakusan.storage.times import StepErrors, TimesFile
from kakusan.training.prepare import Prepared
from kakusan.training.validation import condition_of, spread

Says = Callable[[float, str], None]


@dataclass(frozen=True)
class Best:
    """The times of so many steps, and the bound beside that of even ones."""

    steps: int
    at: tuple[int, ...]
    bits: float
    """Bits/dim of the steps, all but L_T."""
    trailing: float
    """The same of as many even steps, as `--spacing trailing` has them."""


def find_best_steps(
    run: Run, options: TuneOptions, says: Says = lambda _, __: None, reading: Progress = silent
) -> list[Best]:
    """The best times for each number of steps in options.best; what they follow from is measured and stored.

    Raises SettingsError for distilled runs, missing values, a learned variance and more steps than T, DataError and
    RunError where the data are not here.
    """
    T = run.settings.process.T
    if max(options.best, default=0) > T:
        raise SettingsError(f"{max(options.best)} steps do not fit into T = {T} times")
    found = measure_step_errors(run, options, says, reading)
    costs = costs_of_steps(run, found)
    path = run.load(device=options.device).model.path
    best = [best_steps(costs, steps) for steps in options.best]
    even = [cost_of(costs, tuple(trailing(path, steps))) for steps in options.best]
    return [Best(len(each.at), each.at, each.bits, usual) for each, usual in zip(best, even, strict=True)]


def measure_step_errors(
    run: Run, options: TuneOptions, says: Says = lambda _, __: None, reading: Progress = silent
) -> StepErrors:
    """The errors of a run's predictions of x_0, and what a step from there to the data costs, at all T times."""
    if run.settings.is_distilled:
        raise SettingsError(f"{run.folder} was distilled to a few calls, and its guesses are no means")
    loaded = run.load(device=options.device, precision="fp32")
    if isinstance(variance_named(loaded.model.variance), LearnedRange):
        raise SettingsError(
            "best steps follow from errors by time, and a learned variance from more than these",
            "tune times: --calls",
        )
    prepared = run.prepared(reading)
    if prepared.dataset.masked:
        raise SettingsError("best steps are not found for samples with missing values")
    split = prepared.split
    chosen = spread(split.held_out if len(split.held_out) else split.training, options.count)
    errors, decoders, T = [], [], loaded.model.path.T
    for t in range(1, T + 1):
        error, decoder = _at(loaded, prepared, chosen, t, options.seed)
        errors.append(error)
        decoders += [] if decoder is None else [decoder]
        says(t / T, f"errors at t = {t}")
    name = variance_named(loaded.model.variance).name
    found = StepErrors(tuple(errors), tuple(decoders), name, loaded.step, len(chosen))
    TimesFile(run.folder).keep_step_errors(found)
    return found


@torch.no_grad()
def _at(
    loaded: Loaded, prepared: Prepared, chosen: NDArray[np.int64], t: int, seed: int
) -> tuple[float, float | None]:
    """Mean square error of the guess at t, and -log2 p(x_0 | x_t) of levels, both per value."""
    model, device = loaded.model, torch.device(loaded.device)
    squares: list[Tensor] = []
    nats: list[Tensor] = []
    for rows in np.array_split(chosen, -(-len(chosen) // loaded.settings.machine.micro_batch)):
        x_0 = prepared.dataset.x_0(rows).to(device)
        at = times_like(t, x_0)
        # the same noise at each t: errors are smooth in t, and no time is chosen for its luck
        noise = normals(seed, Purpose.EVALUATION, 0, torch.from_numpy(rows).to(device), tuple(x_0.shape[1:]))
        x_t = q_marginal(model.path, x_0, at).reparametrize(noise)
        guess = model.predict(x_t, at, condition_of(prepared.dataset, rows, device)).double()
        squares.append((guess.x_0 - double(x_0)).square().flatten(1).mean(1).cpu())
        if model.levels is not None:
            law = p_given(model, guess, double(x_t), at, torch.zeros_like(at))
            nats.append(-law.log_mass(x_0, model.levels).flatten(1).mean(1).cpu())
    decoder = float(torch.cat(nats).mean()) * BITS if nats else None
    return float(torch.cat(squares).mean()), decoder
