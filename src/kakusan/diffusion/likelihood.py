"""The variational bound: how many bits it takes to write an image down, and at which noise level. Eqs. (9) to (11).

-log p_theta(x_0) <= E_q[L_T + sum_{t=2..T} L_{t-1} + L_0]. The three kinds of terms are three functions; the term of
step t is L_{t-1} for t >= 2 and L_0 for t = 1. Terms are in nats for each pixel value, float64; results are in bits
per dimension. The bound is a property of the whole model: the variance, sigma_1 and the clipping of x_0 belong to
it, and stand in the result.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.forward import q_marginal, q_posterior
from kakusan.diffusion.gaussians import Gaussian, Nats, double
from kakusan.diffusion.model import Model, as_model, p_given
from kakusan.diffusion.paths import Path
from kakusan.diffusion.prediction import Prediction
from kakusan.diffusion.variances import variance_named
from kakusan.errors import DataError, SettingsError
from kakusan.randomness import Purpose, normals, uniforms
from kakusan.shapes import Condition, Samples, Times, mean_by_sample, per_sample, times_like
from kakusan.statistics.student import student_quantile

BITS = 1 / math.log(2)
"""Bits a nat."""
PAIRS = 256
"""(image, t) pairs that the denoiser sees at a time: always as many, so that no image depends on its neighbours."""
GROUP = 1024
"""Pairs after which the next images begin, at the earliest."""
FEWEST_TERMS = 3
FLOAT32_BYTES = 4


def prior_term(path: Path, x_0: Samples) -> Nats:
    """L_T = KL(q(x_T | x_0) || N(0, a_T^2 + b_T^2)): what is left of x_0 at the last noise level.

    No parameters of the network; of a learned schedule those of its end.
    """
    T, x_0 = times_like(path.T, x_0), double(x_0)
    start = Gaussian(torch.zeros_like(x_0), per_sample(path.scale_at(T).square(), x_0))
    return q_marginal(path, x_0, T).kl(start)


def step_term(model: Model[Denoiser], guess: Prediction, x_t: Samples, x_0: Samples, t: Times) -> Nats:
    """L_{t-1} = KL(q(x_{t-1} | x_t, x_0) || p_theta(x_{t-1} | x_t)), for t >= 2."""
    x_t, x_0 = double(x_t), double(x_0)
    posterior = q_posterior(model.path, x_t, x_0, t, t - 1)
    return posterior.kl(p_given(model, guess.double(), x_t, t, t - 1))


def decoder_term(model: Model[Denoiser], guess: Prediction, x_1: Samples, x_0: Samples) -> Nats:
    """L_0 = -log p_theta(x_0 | x_1): the mass of each level's bin, or the density where the data are real."""
    t = torch.ones(len(x_0), dtype=torch.float64)
    law = p_given(model, guess.double(), double(x_1), t, t - 1)
    return -(law.log_density(x_0) if model.levels is None else law.log_mass(x_0, model.levels))


def terms(
    model: Model[Denoiser],
    guess: Prediction,
    x_t: Samples,
    x_0: Samples,
    t: Times,
    mask: Samples | None = None,
) -> Float64[Tensor, " batch"]:
    """The term of each image's own step: L_{t-1} for t >= 2, L_0 for t = 1. Bits/dim, with gradients.

    mask: 1 where a value is there; bits/dim are over those, which is exact as long as the law of a step is a product.
    """
    t = t.cpu()  # it is there already: which rows are which is known without a wait
    ends, steps = (t == 1).nonzero()[:, 0], (t != 1).nonzero()[:, 0]
    parts = []
    if len(ends):
        there = ends.to(x_t.device)
        parts.append(decoder_term(model, guess.rows(there), x_t[there], x_0[there]))
    if len(steps):
        there = steps.to(x_t.device)
        parts.append(step_term(model, guess.rows(there), x_t[there], x_0[there], t[steps]))
    nats = torch.cat(parts)[torch.cat([ends, steps]).argsort().to(parts[0].device)]
    return mean_by_sample(nats, mask) * BITS


@dataclass(frozen=True)
class VariationalBound:
    """The bound of some images, term by term, in bits/dim, and the model whose bound it is.

    Each image has its own list of times t (all of 1..T in order, or a stratified subset that contains t = 1);
    a term stands for as many as its weight says.
    """

    t: Int64[Tensor, "batch terms"]
    weight: Float64[Tensor, "batch terms"]
    sampling_variance: Float64[Tensor, "batch terms"]
    """A term's share of what its stratum adds to the variance of the total by not being measured whole."""
    bits: Float64[Tensor, "batch terms"]
    """L_{t-1} for t >= 2, L_0 for t = 1, not weighted."""
    squared_error: Float64[Tensor, "batch terms"]
    """Squared error of the guess of x_0 at t, mean over the pixel values, in the network's units."""
    L_T: Float64[Tensor, " batch"]
    T: int
    variance: str
    sigma_1: str
    clip: float | None
    levels: int | None

    @property
    def L_0(self) -> Float64[Tensor, " batch"]:
        """The decoder's term."""
        return self.bits[self.t == 1]

    @property
    def L_steps(self) -> Float64[Tensor, " batch"]:
        """The sum of L_{t-1} over t = 2..T, or its unbiased estimate."""
        return (self.bits * self.weight).masked_fill(self.t == 1, 0).sum(1)

    @property
    def total(self) -> Float64[Tensor, " batch"]:
        """The bound of each image. Negative where densities are higher than 1."""
        return self.L_T + self.L_steps + self.L_0

    @property
    def standard_error(self) -> Float64[Tensor, " batch"]:
        """Standard error of each total, for the terms that were not measured; 0 where all were."""
        return self.sampling_variance.sum(1).sqrt()

    @property
    def half_width_95(self) -> Float64[Tensor, " batch"]:
        """Half the width of a 95 % interval of each total, for the terms that were not measured; 0 where all were.

        Student's t with the degrees of freedom of Welch and Satterthwaite, since most strata hold two draws each and a
        standard error from few terms is itself uncertain. It holds for 86 to 97 % of images from 8 terms on (1.96
        standard errors: 71 to 88 %); for fewer, where a term at small t may make most of a total, for 50 to 70 %.
        """
        parts, degrees = self.sampling_variance, []
        for start, n in _columns(strata(self.T, max(self.t.shape[1], FEWEST_TERMS))):
            degrees.append(parts[:, start : start + n].sum(1).square() / max(n - 1, 1))
        freedom = self.standard_error**4 / torch.stack(degrees).sum(0).clamp(min=1e-300)
        factors = [student_quantile(each) for each in freedom.tolist()]
        return self.standard_error * torch.tensor(factors, dtype=torch.float64)

    @property
    def mean(self) -> float:
        """Bits/dim over all images."""
        return float(self.total.mean())

    @property
    def mean_standard_error(self) -> float:
        """Standard error of the mean, over images and over the terms that were not measured. nan for a single image."""
        return float(self.total.std() / len(self.total) ** 0.5) if len(self.total) > 1 else math.nan


def variational_bound(
    model: Model[Denoiser] | Denoiser,
    x_0: Samples,
    *,
    terms: int | None = None,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
    condition: Condition | None = None,
) -> VariationalBound:
    """L_T, L_{t-1} for t = 2..T and L_0 of each image, in bits/dim. Eq. (11).

    model: or a denoiser, with the usual variance, unclipped, for real data. x_0: in the network's units.
    terms: how many of the T terms to measure for each image, at least 3 (None: all);
    they are L_0 and a stratified draw of the others, and the total stays unbiased. The expectation over x_t is
    taken with one draw for each image and term, a function of (seed, the image's number, t): numbers are
    0, 1, ... unless given, and the bound of an image is independent of the rest of the batch.
    Raises DataError where the data should be levels and are not, SettingsError for fewer than 3 terms.
    """
    return concatenated(list(bounds(model, x_0, terms, seed, numbers, condition)))


def bounds(
    model: Model[Denoiser] | Denoiser,
    x_0: Samples,
    terms: int | None = None,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
    condition: Condition | None = None,
) -> Iterator[VariationalBound]:
    """`variational_bound` in parts, a few images at a time."""
    model = as_model(model)
    T = model.path.T
    _check_lengths(x_0, numbers, condition)
    x_0 = x_0.float() if x_0.element_size() < FLOAT32_BYTES else x_0
    if terms is not None and terms < min(FEWEST_TERMS, T):
        raise SettingsError(f"a bound from {terms} terms has no standard error", "take 3 or more")
    if model.levels is not None:
        check_levels(x_0, model.levels)
    count = T if terms is None else min(terms, T)
    known = torch.arange(len(x_0)) if numbers is None else torch.as_tensor(numbers, dtype=torch.int64)
    size = -(-GROUP // count)
    for start in range(0, len(x_0), size):
        part = slice(start, start + size)
        given = None if condition is None else condition.rows(part)
        yield _measured(model, x_0[part], known[part], count, seed, given)


def _check_lengths(x_0: Samples, numbers: Sequence[int] | None, condition: Condition | None) -> None:
    """Raises ValueError where numbers or condition have not one row for each image, or the images are no floats."""
    if not x_0.is_floating_point():
        raise ValueError(f"x_0 is in the network's units, floats, not {x_0.dtype}: Levels.encode gives them")
    for name, given in (("numbers", numbers), ("condition", condition)):
        if given is not None and len(given) != len(x_0):
            raise ValueError(f"{len(given)} {name} do not fit {len(x_0)} images")


def concatenated(parts: Sequence[VariationalBound]) -> VariationalBound:
    """The bound of all the images of the parts. Raises ValueError where there are none."""
    if not parts:
        raise ValueError("there is no bound of no images")
    columns = {f.name: [getattr(part, f.name) for part in parts] for f in fields(VariationalBound)}
    joined: dict[str, Any] = {name: torch.cat(c) for name, c in columns.items() if isinstance(c[0], Tensor)}
    return replace(parts[0], **joined)


def check_levels(x_0: Samples, levels: int) -> None:
    """Raises DataError where a value is none of the levels."""
    level = (double(x_0) + 1) * ((levels - 1) / 2)
    wrong = (
        ~((level - level.round()).abs() <= 1e-3) | (level < -1e-3) | (level > levels - 1 + 1e-3)
    )  # nan is wrong
    if wrong.any():
        raise DataError(
            f"{float(x_0[wrong.to(x_0.device)][0]):.6g} is none of the {levels} levels from -1 to 1",
            "data of levels must be mapped so that 0 is -1 and the last level is 1 (Levels.encode)",
        )


def strata(T: int, count: int) -> list[tuple[int, int, int]]:
    """The terms that are measured, as (first t, last t, how many): t = 1, then parts of 2..T that widen with t.

    Most bits are spent at small t. Two draws a part, so that the spread within it shows, and three in the last where
    that makes the count.
    """
    if count >= T:
        return [(1, 1, 1)] + [(2, T, T - 1)] * (T > 1)
    parts = (count - 1) // 2
    edges = [max(2 + (T - 1) * i**3 // parts**3, 2 + 2 * i) for i in range(parts + 1)]
    draws = [2] * (parts - 1) + [count - 1 - 2 * (parts - 1)]
    layout = [(low, high - 1, n) for (low, high), n in zip(pairwise(edges), draws, strict=True)]
    return [(1, 1, 1), *layout]


def _columns(layout: list[tuple[int, int, int]]) -> Iterator[tuple[int, int]]:
    """The first column of each stratum's terms, and their number."""
    start = 0
    for _, _, n in layout:
        yield start, n
        start += n


def _measured(
    model: Model[Denoiser],
    x_0: Samples,
    numbers: Int64[Tensor, " batch"],
    count: int,
    seed: int,
    condition: Condition | None,
) -> VariationalBound:
    schedule = model.path
    layout = strata(schedule.T, count)
    t = _times(layout, seed, numbers, schedule.T)
    bits, errors = _all_terms(model, x_0, t, numbers, seed, condition)
    weights = [torch.full((n,), (high - low + 1) / n, dtype=torch.float64) for low, high, n in layout]
    return VariationalBound(
        t=t,
        weight=torch.cat(weights).expand(t.shape),
        sampling_variance=_sampling_variance(bits, layout),
        bits=bits,
        squared_error=errors,
        L_T=mean_by_sample(prior_term(schedule, x_0.detach()), _mask(condition)).cpu() * BITS,
        T=schedule.T,
        variance=variance_named(model.variance).name,
        sigma_1=model.sigma_1,
        clip=model.clip,
        levels=model.levels,
    )


def _times(
    layout: list[tuple[int, int, int]], seed: int, numbers: Int64[Tensor, " batch"], T: int
) -> Int64[Tensor, "batch terms"]:
    """Without replacement within a stratum: those with the smallest of T random keys; in rising order."""
    keys = uniforms(seed, Purpose.EVALUATION_TIMES, 0, numbers, T)
    columns = [low + keys[:, low - 1 : high].argsort(1)[:, :n].sort(1).values for low, high, n in layout]
    return torch.cat(columns, 1)


def _sampling_variance(
    bits: Float64[Tensor, "batch terms"], layout: list[tuple[int, int, int]]
) -> Float64[Tensor, "batch terms"]:
    """size^2 (1 - n/size) s^2 / n for a stratum with n of its terms measured (Cochran 1977, chapter 5)."""
    columns = []
    for (low, high, n), (start, _) in zip(layout, _columns(layout), strict=True):
        size, drawn = high - low + 1, bits[:, start : start + n]
        spread = drawn.var(1, keepdim=True) if n > 1 else torch.zeros(len(bits), 1, dtype=torch.float64)
        columns.append((size**2 * (1 - n / size) / n**2 * spread).expand(-1, n))
    return torch.cat(columns, 1)


@torch.no_grad()
def _all_terms(
    model: Model[Denoiser],
    x_0: Samples,
    t: Int64[Tensor, "batch terms"],
    numbers: Int64[Tensor, " batch"],
    seed: int,
    condition: Condition | None,
) -> tuple[Float64[Tensor, "batch terms"], Float64[Tensor, "batch terms"]]:
    """Bits and squared errors of all pairs (image, t), in micro-batches of one shape; the last is filled up."""
    noise = torch.cat([_noise(seed, int(number), t[row], x_0) for row, number in enumerate(numbers)])
    image = torch.arange(len(x_0)).repeat_interleave(t.shape[1])
    bits, errors = torch.empty(t.numel(), dtype=torch.float64), torch.empty(t.numel(), dtype=torch.float64)
    for start in range(0, t.numel(), PAIRS):
        stop = min(start + PAIRS, t.numel())
        pairs = torch.arange(start, start + PAIRS).clamp(max=t.numel() - 1)
        rows = image[pairs].to(x_0.device)
        given = None if condition is None else condition.rows(rows)
        there = pairs.to(x_0.device)
        measured = pair_terms(model, x_0[rows], t.flatten()[pairs].double(), noise[there], given)
        bits[start:stop], errors[start:stop] = (column[: stop - start].cpu() for column in measured)
    return bits.view(t.shape), errors.view(t.shape)


def _noise(
    seed: int, number: int, t: Int64[Tensor, " terms"], x_0: Samples
) -> Float[Tensor, "terms channels *space"]:
    """The eps of one image at each of its times."""
    return normals(seed, Purpose.EVALUATION_NOISE, number, t.to(x_0.device), tuple(x_0.shape[1:])).to(x_0)


def pair_terms(
    model: Model[Denoiser], x_0: Samples, t: Times, noise: Samples, condition: Condition | None = None
) -> tuple[Float64[Tensor, " batch"], Float64[Tensor, " batch"]]:
    """The terms in bits/dim and the squared errors of the guess of x_0, with this noise in x_t."""
    x_t = q_marginal(model.path, x_0, t).reparametrize(noise)
    guess = model.predict(x_t, t, condition)
    mask = _mask(condition)
    error = mean_by_sample((double(guess.x_0) - double(x_0)).square(), mask)
    return terms(model, guess, x_t, x_0, t, mask), error


def _mask(condition: Condition | None) -> Samples | None:
    return None if condition is None else condition.mask
