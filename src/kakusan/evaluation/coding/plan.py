"""A plan: at which few times the chain stands, and how wrong guesses are there. Measured, then chosen by length.

A step from t to s with the variance of `Calibrated` costs 1/2 log2(1 + (SNR_s - SNR_t) e_t) bits a value, where e_t
is the error of the guess: it depends on its two ends alone. So the times with the least sum are found exactly, for
each number of steps, by dynamic programming (Watson et al. 2021). Steps too are paid for, in bytes of the file and
in seconds.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.forward import posterior_variance, posterior_weights, q_marginal
from kakusan.diffusion.gaussians import Gaussian
from kakusan.diffusion.likelihood import BITS, prior_term
from kakusan.diffusion.model import Model
from kakusan.diffusion.prediction import Prediction
from kakusan.evaluation.coding.calibration import (
    GROUPINGS,
    Calibrated,
    Grouping,
    decoded,
    encoded,
    group_errors,
)
from kakusan.randomness import Purpose, normals
from kakusan.shapes import Samples, times_like

MEASURED_TIMES = 36
MEASURED_IMAGES = 128
MOST_STEPS = 40
WORTH = 0.005
"""A longer chain has to save such a share of the file."""
BYTES_A_TIME = 2
ROWS = 32
SEED = 0

Costs = Float64[Tensor, "times times"]


@dataclass(frozen=True)
class Plan:
    """The times of a chain, rising, the variance of its steps, and the bits a value that both promise."""

    variance: Calibrated
    bits: float

    @property
    def times(self) -> tuple[int, ...]:
        return self.variance.times


def planned(
    model: Model[Denoiser],
    x_0: Samples,
    values: int,
    *,
    steps: int | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> Plan:
    """The plan with the fewest bytes for so many values like these, or that of so many steps.

    x_0: the images or some of them, in the network's units. Fewer steps are taken where more save less than 0.5 %.
    """
    times = measured_times(model.path.T)
    guesses = []
    for place, t in enumerate(times):
        guesses.append(_guess(model, x_0, t))
        progress((place + 1) / len(times))
    start = float(prior_term(model.path, x_0).mean()) * BITS
    found = []
    for number, grouping in enumerate(GROUPINGS):
        codes = [_codes(guess, x_0, grouping, model.levels or 2) for guess in guesses]
        costs = step_costs(model, times, guesses, x_0, grouping, codes)
        for bits, places in best_chains(costs, MOST_STEPS if steps is None else steps):
            chosen = tuple(times[place] for place in places)
            variance = Calibrated(chosen, number, tuple(codes[place] for place in places))
            found.append(Plan(variance, bits + start))
    if steps is not None:
        longest = max(len(plan.times) for plan in found)
        found = [plan for plan in found if len(plan.times) == longest]
    enough = (1 + WORTH) * min(_bytes(plan, values) for plan in found)
    good = [plan for plan in found if _bytes(plan, values) <= enough]
    return min(good, key=lambda plan: (len(plan.times), _bytes(plan, values)))


def measured_times(T: int) -> list[int]:
    """Half of them even in t, and half in log t, from 1 to T: errors change fast where there is little noise."""
    half = MEASURED_TIMES // 2
    even = (1 + (T - 1) * i / (half - 1) for i in range(half))
    growing = (T ** (i / (half - 1)) for i in range(half))
    return sorted({round(t) for t in (*even, *growing)})


def step_costs(
    model: Model[Denoiser],
    times: Sequence[int],
    guesses: Sequence[Prediction],
    x_0: Samples,
    grouping: Grouping,
    codes: Sequence[bytes],
) -> Costs:
    """Bits a value of the steps from each time (rows) to each earlier one (columns); column 0 are those to the data.

    inf where a step would lead to no earlier time. One row and column more than there are times, for t = 0.
    """
    costs = torch.full((len(times) + 1, len(times) + 1), math.inf, dtype=torch.float64)
    for row, t in enumerate(times, 1):
        guess, error = guesses[row - 1], decoded(codes[row - 1])
        true, share = group_errors(guess, x_0, grouping)
        costs[row, 0] = _to_the_data(model, guess, x_0, error[grouping.of(guess)])
        if row > 1:
            ends = torch.tensor(times[: row - 1], dtype=torch.float64)
            starts = torch.full_like(ends, t)
            gain = posterior_weights(model.path, starts, ends)[1].square()
            gain = (gain / posterior_variance(model.path, starts, ends))[:, None]
            bits = (1 + gain * error).log() + (1 + gain * true) / (1 + gain * error) - 1
            costs[row, 1:row] = (0.5 * BITS * share * bits).sum(1)
    return costs


def best_chains(costs: Costs, most: int) -> list[tuple[float, list[int]]]:
    """The least cost of a walk from the last row to column 0 in 1, ..., most steps, and its rows less 1, rising.

    Exact, by dynamic programming over the number of steps (Watson et al. 2021, section 3.1).
    """
    last = len(costs) - 1
    least, before, found = costs[:, 0], [], []
    for steps in range(1, min(most, last) + 1):
        if steps > 1:
            least, where = (costs + least).min(1)
            before.append(where)
        places = [last]
        for where in reversed(before):
            places.append(int(where[places[-1]]))
        if math.isfinite(least[last]):
            found.append((float(least[last]), [place - 1 for place in reversed(places)]))
    return found


def _codes(guess: Prediction, x_0: Samples, grouping: Grouping, levels: int) -> bytes:
    """Those of the errors, as if one value more in each group were wrong by a level: images to come may be."""
    errors, share = group_errors(guess, x_0, grouping)
    count = share * x_0.numel()
    return encoded(((errors * count + (2 / (levels - 1)) ** 2) / (count + 1)).tolist())


def _bytes(plan: Plan, values: int) -> float:
    """Of a file: its values, and its steps."""
    return values * plan.bits / 8 + sum(BYTES_A_TIME + len(codes) for codes in plan.variance.codes)


@torch.no_grad()
def _guess(model: Model[Denoiser], x_0: Samples, t: int) -> Prediction:
    noise = normals(SEED, Purpose.EVALUATION_NOISE, t, torch.arange(len(x_0)), tuple(x_0.shape[1:]))
    x_t = q_marginal(model.path, x_0, times_like(t, x_0)).reparametrize(noise.to(x_0))
    parts = [model.predict(part, times_like(t, part)) for part in torch.split(x_t, ROWS)]
    fractions = [part.fraction for part in parts if part.fraction is not None]
    x_0_hat, eps = torch.cat([part.x_0 for part in parts]), torch.cat([part.eps for part in parts])
    return Prediction(x_0_hat, eps, torch.cat(fractions) if fractions else None)


def _to_the_data(model: Model[Denoiser], guess: Prediction, x_0: Samples, error: Tensor) -> float:
    """Bits a value of x_0 under the guess with its error: what the last step costs."""
    assert model.levels is not None
    return float(-Gaussian(guess.x_0.double(), error).log_mass(x_0, model.levels).mean()) * BITS
