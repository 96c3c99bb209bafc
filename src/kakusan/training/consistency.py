"""Consistency tuning: a trained denoiser becomes a model of one to four calls (Geng et al. 2024, "Consistency Models
Made Easy").

A consistency function f(x_t, t) says where the trajectory of the probability flow through x_t ends at t = 0 (Song et
al. 2023, "Consistency Models"), where a denoiser says the mean of all samples that x_t may come from. A denoiser is
tuned into one by asking it at t for what it says itself a little earlier, at r < t, of the same sample with the same
noise, and at r = 0 for the sample itself. At first r is so much earlier that this is little else than denoising; then
the two times come together, and what is learned at little noise is handed on to more.

All is measured in sigma = b / a, the noise beside a sample of size 1, so it is the same on every path.
"""

from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float64
from torch import Tensor

from kakusan.diffusion.forward import q_marginal
from kakusan.diffusion.paths import Path
from kakusan.networks.dropout import repeating
from kakusan.shapes import Coefficients, Condition, Samples, Times, mean_by_sample, moved, per_sample
from kakusan.training.losses import Loss, NetworkModel, PerExample

WIDER = 8.0
"""Gaps are up to 1 + 8/2 times as wide where there is little noise, and guesses hardly change (their k = 8, b = 1)."""
LEAST_NOISE = 0.01
"""Noise between t and r below which a loss weighs no more: what is left there is rounding."""

Table: TypeAlias = Float64[Tensor, " entries"]


def sigmas(path: Path) -> Table:
    """sigma = b / a at t = 0, ..., T, rising; where no data are left at T, twice that before, since it is infinite."""
    a, b = path.at(torch.arange(path.T + 1, dtype=torch.float64))
    found = b / a
    if not found[-1].isfinite():
        found[-1] = 2 * found[-2].clamp(min=0.5)  # of T = 1, there is none before
    return found


def sigma_at(table: Table, t: Times) -> Coefficients:
    """sigma at any time, on straight lines between whole ones."""
    below = t.floor().long()
    return torch.lerp(table[below], table[t.ceil().long()], t - below)


def earlier(table: Table, t: Times, gap: float) -> Times:
    """The time r < t with sigma_r = sigma_t (1 - gap (1 + 8 / (1 + e^sigma_t))); 0, the data, where it is below t = 1.

    table: `sigmas` of the path, between whose entries r lies on straight lines, as `sigma_at` has it.
    """
    at_t = sigma_at(table, t)
    at_r = at_t * (1 - gap * (1 + WIDER * torch.sigmoid(-at_t))).clamp(min=0)
    below = (torch.searchsorted(table, at_r, right=True) - 1).clamp(max=len(table) - 2)
    r = below + (at_r - table[below]) / (table[below + 1] - table[below])
    return torch.where(r < 1, 0.0, r)


@dataclass(frozen=True)
class ConsistencyAt(Loss):
    """The distance of the guess at t from that at an earlier r, over the noise between: sigma_t - sigma_r.

    The guess at r learns nothing, and both drop the same features, so that dropout does not tell them apart. The
    distance is the root mean square over the values of a sample, Pseudo-Huber's with the scale `smoothing`.
    """

    gap: float
    smoothing: float
    repeats = False  # dropout goes back, which no CUDA graph does
    needs_variance = False
    is_of_means = False

    def per_image(
        self,
        model: NetworkModel,
        x_0: Samples,
        t: Times,
        noise: Samples,
        condition: Condition | None = None,
    ) -> PerExample:
        table = sigmas(model.path)
        r = earlier(table, t, self.gap)
        guess, target = _both(model, x_0, (t, r), noise, condition)
        error = mean_by_sample((guess - target).square(), None if condition is None else condition.mask)
        distance = (error + self.smoothing**2).sqrt() - self.smoothing
        between = (sigma_at(table, t) - sigma_at(table, r)).clamp(min=LEAST_NOISE)
        return distance / moved(between, distance)


def _both(
    model: NetworkModel,
    x_0: Samples,
    times: tuple[Times, Times],
    noise: Samples,
    condition: Condition | None,
) -> tuple[Samples, Samples]:
    """The guess at t and, without gradients, the one at r: the sample itself where r is 0."""
    t, r = times
    with repeating(x_0.device) as again:
        guess = _guess(model, x_0, t, noise, condition)
        again()
        with torch.no_grad():
            target = _guess(model, x_0, r.clamp(min=1), noise, condition)
    is_data = moved(per_sample((r == 0).double(), x_0), x_0) == 1
    return guess, torch.where(is_data, x_0, target)


def _guess(
    model: NetworkModel, x_0: Samples, t: Times, noise: Samples, condition: Condition | None
) -> Samples:
    """Of x_0, as the network has it: unclipped, so that all of it has a gradient."""
    x_t = q_marginal(model.path, x_0, t).reparametrize(noise)
    return model.denoiser.predict(x_t, t, condition).x_0


@dataclass(frozen=True)
class Consistency(Loss):
    """The distance of two guesses of x_0 at two noise levels, which come together on the way (Geng et al. 2024).

    The gap, as a share of the noise, falls from `first_gap` to `last_gap` evenly in its logarithm. Where it is measured
    rather than trained, it has the last gap.
    """

    first_gap: float = 0.5
    last_gap: float = 1 / 64
    smoothing: float = 0.001
    repeats = False
    needs_variance = False
    is_of_means = False

    def at(self, progress: float) -> ConsistencyAt:
        gap = self.first_gap * (self.last_gap / self.first_gap) ** progress
        return ConsistencyAt(gap, self.smoothing)

    def per_image(
        self,
        model: NetworkModel,
        x_0: Samples,
        t: Times,
        noise: Samples,
        condition: Condition | None = None,
    ) -> PerExample:
        return self.at(1.0).per_image(model, x_0, t, noise, condition)
