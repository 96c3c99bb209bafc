"""The importance-weighted bound (Burda, Grosse & Salakhutdinov 2016) over the chain: tighter the more samples it has.

A walk x_T, ..., x_1 from q(x_1..T | x_0) has the weight w = p_theta(x_0..T) / q(x_1..T | x_0), whose mean is
p_theta(x_0). So -log of the mean of K weights is, on average, an upper bound of -log p_theta(x_0); with K = 1 it is the
bound of Eq. (11), and with K + 1 no larger than with K. It is the likelihood of the chain itself, with its variances,
sigma_1 and clipping, to which it goes as K grows: slowly where weights differ by many nats, as they do for images.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.forward import q_marginal, q_posterior
from kakusan.diffusion.gaussians import Gaussian, Nats, double
from kakusan.diffusion.likelihood import BITS, check_levels, decoder_term
from kakusan.diffusion.model import Model, as_model, p_given
from kakusan.errors import SettingsError
from kakusan.randomness import Purpose, normals
from kakusan.shapes import Condition, Samples, Times, per_sample, times_like

ROWS = 32
"""Samples that walk together."""


@dataclass(frozen=True)
class WeightedBound:
    """-log of the mean weight, by the weights of K walks of each sample, in bits/dim."""

    weights: Float64[Tensor, "batch samples"]
    """log2 w / values, where values are those of a sample, or those of it that are there."""
    values: Float64[Tensor, " batch"]

    @property
    def total(self) -> Float64[Tensor, " batch"]:
        """The bound of each sample from all K walks."""
        nats = self.weights * self.values[:, None] / BITS
        mean = nats.logsumexp(1) - math.log(nats.shape[1])
        return -mean * BITS / self.values

    @property
    def single(self) -> Float64[Tensor, " batch"]:
        """The bound with K = 1, the mean over the K walks: that of Eq. (11), from as many of its draws."""
        return -self.weights.mean(1)

    @property
    def effective(self) -> Float64[Tensor, " batch"]:
        """Effective number of walks, 1 to K (Kong 1992): near 1, a larger K would still help."""
        share = (self.weights * self.values[:, None] / BITS).softmax(1)
        return 1 / share.square().sum(1)

    @property
    def mean(self) -> float:
        """Bits/dim over all samples."""
        return float(self.total.mean())

    @property
    def mean_standard_error(self) -> float:
        """Of the mean, over samples and their walks. nan for a single sample."""
        return float(self.total.std() / len(self.total) ** 0.5) if len(self.total) > 1 else math.nan


def weighted_bound(
    model: Model[Denoiser] | Denoiser,
    x_0: Samples,
    samples: int,
    *,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
    condition: Condition | None = None,
) -> WeightedBound:
    """The bound of each sample from so many walks, T network calls each.

    numbers: of the samples, as of `variational_bound`: a walk is a function of (seed, number, k). A condition's mask
    leaves out the values that are not there. Raises DataError where the data should be levels and are not,
    SettingsError for less than 1 walk.
    """
    return joined_weights(list(weighted_bounds(model, x_0, samples, seed, numbers, condition)))


def weighted_bounds(
    model: Model[Denoiser] | Denoiser,
    x_0: Samples,
    samples: int,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
    condition: Condition | None = None,
) -> Iterator[WeightedBound]:
    """`weighted_bound` in parts, 32 samples at a time."""
    model = as_model(model)
    if samples < 1:
        raise SettingsError(f"an importance-weighted bound has 1 sample or more, not {samples}")
    if model.levels is not None:
        check_levels(x_0, model.levels)
    known = torch.arange(len(x_0)) if numbers is None else torch.as_tensor(numbers, dtype=torch.int64)
    for start in range(0, len(x_0), ROWS):
        part = slice(start, start + ROWS)
        given = None if condition is None else condition.rows(part)
        walks = [_walk(model, x_0[part], seed, known[part], k, given) for k in range(samples)]
        yield _of_walks(walks, x_0[part], given)


def joined_weights(parts: Sequence[WeightedBound]) -> WeightedBound:
    """The bound of all the samples of the parts."""
    return WeightedBound(
        torch.cat([part.weights for part in parts]), torch.cat([part.values for part in parts])
    )


def _of_walks(
    walks: list[Float64[Tensor, " batch"]], x_0: Samples, condition: Condition | None
) -> WeightedBound:
    values = _summed(torch.ones_like(double(x_0)), condition)
    return WeightedBound(torch.stack(walks, 1) * BITS / values[:, None], values)


@torch.no_grad()
def _walk(
    model: Model[Denoiser],
    x_0: Samples,
    seed: int,
    numbers: Int64[Tensor, " batch"],
    k: int,
    condition: Condition | None,
) -> Float64[Tensor, " batch"]:
    """log w of the k-th walk of each sample, in nats: from x_T to x_1, each step q(x_s | x_t, x_0)."""
    path, data = model.path, double(x_0)
    T = times_like(path.T, x_0)

    def noise(t: int) -> Samples:
        drawn = normals(
            seed, Purpose.CHAIN, k * (path.T + 1) + t, numbers.to(x_0.device), tuple(x_0.shape[1:])
        )
        return double(drawn)

    q = q_marginal(path, data, T)
    x_t = q.reparametrize(noise(path.T))
    start = Gaussian(torch.zeros_like(data), per_sample(path.scale_at(T).square(), data))
    log_w = start.log_density(x_t) - q.log_density(x_t)
    for t in range(path.T, 1, -1):
        now = times_like(t, x_0)
        q = q_posterior(path, x_t, data, now, now - 1)
        x_s = q.reparametrize(noise(t - 1))
        log_w += _log_p(model, x_0, x_t, now, condition).log_density(x_s) - q.log_density(x_s)
        x_t = x_s
    one = times_like(1, x_0)
    guess = model.predict(x_t.to(x_0), one, condition)
    return _summed(log_w - decoder_term(model, guess, x_t, x_0), condition)


def _log_p(
    model: Model[Denoiser], x_0: Samples, x_t: Samples, t: Times, condition: Condition | None
) -> Gaussian:
    """p_theta(x_{t-1} | x_t) in float64; the denoiser is asked in the type of x_0."""
    guess = model.predict(x_t.to(x_0), t, condition)
    return p_given(model, guess.double(), x_t, t, t - 1)


def _summed(nats: Nats, condition: Condition | None) -> Float64[Tensor, " batch"]:
    """The sum over the values of each sample, or over those that are there."""
    mask = None if condition is None else condition.mask
    there = nats if mask is None else nats * mask.to(nats)
    return there.flatten(1).sum(1).cpu()
