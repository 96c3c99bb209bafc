"""The bound: against closed forms for Gaussian data, against quadrature elsewhere, and its identities (9) to (11)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise, product
from typing import Any

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import kakusan as kk
from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.forward import posterior_variance, q_marginal, q_step, step_variance
from kakusan.diffusion.gaussians import Gaussian
from kakusan.diffusion.likelihood import (
    BITS,
    VariationalBound,
    bounds,
    check_levels,
    concatenated,
    decoder_term,
    pair_terms,
    prior_term,
    step_term,
    strata,
    terms,
    variational_bound,
)
from kakusan.diffusion.model import Model, p_step
from kakusan.diffusion.oracles import FiniteSetOracle, GaussianOracle, MixtureOracle
from kakusan.diffusion.parametrizations import eps_from_x_0
from kakusan.diffusion.prediction import Prediction
from kakusan.diffusion.schedules import Cosine, Linear, NoiseSchedule, twin
from kakusan.diffusion.tables import SCHEDULES
from kakusan.diffusion.variances import SIGMA_1, Analytic, LearnedRange, variance_named
from kakusan.errors import DataError, SettingsError
from kakusan.randomness import Purpose, normals
from kakusan.shapes import Condition, Samples, Times, times_like

F = torch.float64


def column(*numbers: float) -> Tensor:
    """Images of one value."""
    return torch.tensor(numbers, dtype=F).view(-1, 1, 1, 1)


@st.composite
def schedules(draw: st.DrawFn, fewest: int = 1) -> NoiseSchedule:
    return SCHEDULES[draw(st.sampled_from(sorted(SCHEDULES)))](T=draw(st.integers(fewest, 4000)))


@dataclass(frozen=True)
class WavyDenoiser(Denoiser):
    """Right about nothing, and smooth: what is exact for it is exact for any network."""

    path: NoiseSchedule

    def predict(self, x_t: Samples, t: Times, condition: Condition | None = None) -> Prediction:
        shift: Tensor | int = 0
        if condition is not None:
            assert condition.label is not None
            shift = condition.label.view(-1, 1, 1, 1)
        x_0 = 0.7 * torch.sin(1.3 * x_t + 0.2 * t.view(-1, 1, 1, 1) + shift)
        return Prediction(x_0, eps_from_x_0(x_0, x_t, *self.path.at(t)), torch.sigmoid(x_t))


def wavy(path: NoiseSchedule, variance: str = "fixed-large", **others: Any) -> Model[Denoiser]:
    """A model of it."""
    return Model(WavyDenoiser(path), variance, **others)


# Gaussian data: what the bound costs beyond the entropy, in closed form

CHOICES = ("fixed-small", "fixed-large", "analytic")


def gaussian(
    schedule: NoiseSchedule, mean: float, deviation: float, variance: str, sigma_1: str
) -> Model[GaussianOracle]:
    oracle = GaussianOracle(schedule, mean, deviation**2)
    return Model(oracle, Analytic(oracle.errors()) if variance == "analytic" else variance, sigma_1)


def excess(model: Model[GaussianOracle], mean: float, deviation: float) -> float:
    """E[bound] - entropy in nats, exactly: every term is quadratic in x_0 and in eps.

    The average of such a polynomial over a Gaussian is that over the two points one deviation from its mean.
    """
    T = model.path.T
    x_0, eps = (torch.tensor(v, dtype=F) for v in zip(*product((-1, 1), (-1, 1)), strict=True))
    x_0, eps = ((v.repeat(T)).view(-1, 1, 1, 1) for v in (mean + deviation * x_0, eps))
    t = torch.arange(1, T + 1, dtype=F).repeat_interleave(4)
    bits, _ = pair_terms(model, x_0, t, eps)
    nats = bits.sum() / 4 / BITS + prior_term(model.path, x_0[:4]).mean()
    return float(nats) - model.denoiser.entropy


def rounding(schedule: NoiseSchedule) -> float:
    """Relative error of the formulas on both sides, where 1 - alpha_bar_1 = beta_1 is a difference of numbers near 1:
    some hundredths of 1e-9 for most schedules, and 3e-9 where the learned one begins, at 2e-6."""
    return 20 * torch.finfo(F).eps / float(schedule.beta[1])


def kl_of_variances(variance: float, other: float) -> float:
    return 0.5 * (variance / other - 1 - math.log(variance / other))


def marginal_gap(schedule: NoiseSchedule, mean: float, deviation: float) -> float:
    """KL(q(x_T) || N(0, 1)) of the marginal of x_T."""
    alpha_bar: float = math.prod(1 - beta for beta in schedule.betas().tolist())
    spread = alpha_bar * deviation**2 + 1 - alpha_bar
    return kl_of_variances(spread, 1) + 0.5 * alpha_bar * mean**2


def expected_excess(
    schedule: NoiseSchedule, mean: float, deviation: float, variance: str, sigma_1: str
) -> float:
    """KL(q(x_T) || p(x_T)) + sum_t E KL(q(x_{t-1} | x_t) || p_theta(x_{t-1} | x_t)).

    The true reverse step is Gaussian, its mean is that of p_theta, and its variance is
    v_t = Var(x_{t-1} | x_t) = S_{t-1} beta_t / S_t with S_t = Var(x_t).
    """
    beta = [0.0, *schedule.betas().tolist()]
    alpha_bar = np.cumprod(1 - np.array(beta)).tolist()
    S = [A * deviation**2 + 1 - A for A in alpha_bar]
    tilde = [0.0] + [
        (1 - before) / (1 - A) * b for before, A, b in zip(alpha_bar, alpha_bar[1:], beta[1:], strict=False)
    ]
    total = marginal_gap(schedule, mean, deviation)
    for t in range(1, schedule.T + 1):
        v = S[t - 1] * beta[t] / S[t]
        sigma_squared = {"fixed-small": tilde[t], "fixed-large": beta[t], "analytic": v}[variance]
        if t == 1 and variance != "analytic":
            sigma_squared = tilde[2] if sigma_1 == "beta~_2" and schedule.T > 1 else beta[1]
        total += kl_of_variances(v, sigma_squared)
    return total


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("T", [1, 2, 5, 100, 1000])
@pytest.mark.parametrize("variance", CHOICES)
@pytest.mark.parametrize("sigma_1", SIGMA_1)
def test_on_gaussian_data_the_bound_exceeds_the_entropy_by_its_closed_form(
    name: str, T: int, variance: str, sigma_1: str
) -> None:
    schedule, mean, deviation = SCHEDULES[name](T=T), 0.3, 0.5
    measured = excess(gaussian(schedule, mean, deviation, variance, sigma_1), mean, deviation)
    # T terms of order 1, each right to 1e-13
    expected = expected_excess(schedule, mean, deviation, variance, sigma_1)
    assert measured == pytest.approx(expected, abs=1e-10 + rounding(schedule) * abs(expected))


@given(
    schedules(),
    st.floats(-2, 2),
    st.floats(0.05, 3),
    st.sampled_from(CHOICES),
    st.sampled_from(sorted(SIGMA_1)),
)
@settings(max_examples=60)
def test_so_it_does_for_any_schedule_and_any_gaussian(
    schedule: NoiseSchedule, mean: float, deviation: float, variance: str, sigma_1: str
) -> None:
    measured = excess(gaussian(schedule, mean, deviation, variance, sigma_1), mean, deviation)
    expected = expected_excess(schedule, mean, deviation, variance, sigma_1)
    # a wrong variance may make terms of some hundreds, and T is up to 4000
    assert measured == pytest.approx(expected, rel=1e-9 + rounding(schedule), abs=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("T", [1, 2, 5, 100, 1000])
def test_with_the_best_variance_only_the_gap_at_x_T_remains(name: str, T: int) -> None:
    schedule = SCHEDULES[name](T=T)
    measured = excess(gaussian(schedule, 0.3, 0.5, "analytic", "beta~_2"), 0.3, 0.5)
    assert measured == pytest.approx(marginal_gap(schedule, 0.3, 0.5), abs=1e-10)


@pytest.mark.parametrize("T", [1, 3, 40])
def test_of_a_full_covariance_one_variance_for_all_axes_costs_what_it_must(T: int) -> None:
    """sum_t (D log sigma_t^2 - log det V_t) / 2 with sigma_t^2 = tr V_t / D, and V_t = Var(x_{t-1} | x_t)."""
    D, schedule = 3, Cosine(T=T)
    root = torch.randn(D, D, generator=torch.Generator().manual_seed(0), dtype=F)
    full, mean, eye = root @ root.T / D, torch.tensor([0.3, -0.2, 0.5], dtype=F), torch.eye(D, dtype=F)
    oracle = GaussianOracle(schedule, mean.view(D, 1, 1), full)
    model = Model(oracle, Analytic(oracle.errors()))
    # points +- sqrt(2 D) along each axis of x_0 and of eps average a quadratic in 2 D dimensions exactly
    axes = torch.cat([torch.eye(2 * D, dtype=F), -torch.eye(2 * D, dtype=F)]) * math.sqrt(2 * D)
    x_0 = (mean + axes[:, :D] @ torch.linalg.cholesky(full).T).view(-1, D, 1, 1)
    nats = prior_term(schedule, x_0).sum() / len(x_0)
    for t in range(1, T + 1):
        bits, _ = pair_terms(model, x_0, times_like(t, x_0), axes[:, D:].reshape(-1, D, 1, 1))
        nats = nats + bits.mean() * D / BITS
    S = [A * full + (1 - A) * eye for A in schedule.alpha_bar]
    expected = 0.5 * (S[T].trace() + schedule.alpha_bar[T] * mean.square().sum() - D - S[T].logdet())
    for t in range(1, T + 1):
        V = schedule.beta[t] * S[t - 1] @ torch.linalg.inv(S[t])
        expected = expected + 0.5 * (D * (V.trace() / D).log() - V.logdet())
    # inverses and determinants of condition below 1000
    assert float(nats) - oracle.entropy == pytest.approx(float(expected), abs=1e-10)


# Mixtures: the gap by quadrature, and by sampling


def mixture(schedule: NoiseSchedule, D: int, variance: str = "fixed-large") -> Model[MixtureOracle]:
    """Two Gaussians on a line, or three in a plane, of mean and variance near 0 and 1."""
    if D == 1:
        weights, means, spreads = [0.3, 0.7], [[-1.1], [0.5]], [0.09, 0.16]
    else:
        weights, means, spreads = [0.2, 0.3, 0.5], [[-0.9, -0.6], [0.9, -0.5], [0.2, 0.8]], [0.1, 0.2, 0.15]
    w, m, v = (torch.tensor(numbers, dtype=F) for numbers in (weights, means, spreads))
    return Model(MixtureOracle(schedule, w, m.view(-1, D, 1, 1), v), variance, "beta_1")


@dataclass(frozen=True)
class Gap:
    """In nats an image: E[bound] - entropy, and the part of it that is the gap at x_T."""

    total: float
    at_x_T: float


def gap_of(model: Model[MixtureOracle], spacing: float) -> Gap:
    """E[bound] + E log q(x_0) by quadrature: x_t on a grid, and given x_t and the component x_0 is Gaussian.

    Terms are quadratic in x_0, so points +- sqrt(D) deviations along each axis average them exactly. On the grid the
    trapezoid rule is exact up to exp(-2 pi d / spacing), d the distance to the next pole of a responsibility.
    """
    oracle, schedule = model.denoiser, twin(model.path)
    (D, _, _), k = oracle.shape, len(oracle.weights)
    w, m, v = oracle.weights, oracle.means.flatten(1), oracle.covariances
    axis = torch.arange(-6, 6 + spacing / 2, spacing, dtype=F)
    grid, cell = torch.cartesian_prod(*[axis] * D).view(-1, D), spacing**D
    signs = torch.cat([torch.eye(D, dtype=F), -torch.eye(D, dtype=F)]) * math.sqrt(D)

    def law(t: int) -> tuple[Tensor, Tensor]:
        images = grid.view(-1, D, 1, 1)
        log_q = oracle.log_density(images, times_like(t, images)) if t else oracle.log_density(images)
        return log_q, log_q.exp() * cell

    log_q, mass = law(0)
    total = float(mass @ log_q)
    for t in range(1, schedule.T + 1):
        alpha_bar = float(schedule.alpha_bar[t])
        log_q, mass = law(t)
        x_t, mass = grid[log_q > -40], mass[log_q > -40]  # the rest weighs 1e-15
        a, spread = math.sqrt(alpha_bar), alpha_bar * v + 1 - alpha_bar
        away = x_t[:, None] - a * m
        odds = w.log() - D / 2 * spread.log() - away.square().sum(2) / (2 * spread)
        centre = m + away * (a * v / spread)[:, None]
        x_0 = centre[:, :, None] + signs * (v * (1 - alpha_bar) / spread).sqrt()[:, None, None]
        eps = ((x_t[:, None, None] - a * x_0) / math.sqrt(1 - alpha_bar)).reshape(-1, D, 1, 1)
        bits, _ = pair_terms(model, x_0.reshape(-1, D, 1, 1), times_like(t, eps), eps)
        total += float(mass @ (odds.softmax(1) * bits.view(len(x_t), k, -1).mean(2)).sum(1)) * D / BITS
    log_q, mass = law(schedule.T)
    normal = -0.5 * (grid.square() + math.log(2 * math.pi)).sum(1)
    A, square = float(schedule.alpha_bar[-1]), float(w @ (m.square().sum(1) + D * v))
    L_T = 0.5 * (A * square - D * A - D * math.log1p(-A))
    return Gap(total + L_T, float(mass @ (log_q - normal)))


@pytest.mark.parametrize("name", SCHEDULES)
def test_on_a_mixture_the_gap_is_positive_and_falls_as_one_over_T(name: str) -> None:
    """By quadrature, right to 1e-9. T (gap - gap at x_T) = c - d/T + ...: its changes halve when T doubles."""
    counts = (25, 50, 100, 200)
    gaps = [gap_of(mixture(SCHEDULES[name](T=T), 1), 0.05) for T in counts]
    steps = [gap.total - gap.at_x_T for gap in gaps]
    assert min(steps) > 0
    # first order: 2 less what the next order takes, up to 6 % at T = 25 and half of that each time T doubles
    for T, (coarse, fine) in zip(counts, pairwise(steps), strict=False):
        assert coarse / fine == pytest.approx(2, abs=0.15 * 25 / T)
    scaled = [T * gap for T, gap in zip(counts, steps, strict=True)]
    changes = [after - before for before, after in pairwise(scaled)]
    assert all(1.5 < first / second < 2.5 for first, second in pairwise(changes))


def test_in_two_dimensions_too() -> None:
    gaps = [gap_of(mixture(Linear(T=T), 2), 0.25) for T in (25, 50)]  # right to 1e-4 at this spacing
    coarse, fine = (gap.total - gap.at_x_T for gap in gaps)
    assert coarse / fine == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(("D", "n"), [(1, 1000), (2, 1000)])
def test_sampled_bounds_lie_above_the_log_density_by_just_that_gap(D: int, n: int) -> None:
    """T = 50, data of seed 1, noise of seed 2; 4 standard errors, false alarm 6e-5 each."""
    model = mixture(Linear(T=50), D)
    oracle = model.denoiser
    x_0 = oracle.sample(n, seed=1)
    over = variational_bound(model, x_0, seed=2).total * D / BITS + oracle.log_density(x_0)
    error = float(over.std()) / math.sqrt(n)
    assert float(over.mean()) > -4 * error
    assert abs(float(over.mean()) - gap_of(model, 0.05 if D == 1 else 0.25).total) < 4 * error


# The identities (9), (10) and (11), on a chain of three steps

CHAIN = Linear(T=3, beta_1=0.2, beta_T=0.5)


def nodes(count: int) -> tuple[Tensor, Tensor]:
    """Points and weights of Gauss and Hermite: the mean of f(z) over standard normal z."""
    z, w = np.polynomial.hermite_e.hermegauss(count)
    return torch.from_numpy(z), torch.from_numpy(w / w.sum())


def log_normal(x: Tensor) -> Tensor:
    return -0.5 * (x.square() + math.log(2 * math.pi))


def log_ratio(denoiser: Model[Denoiser], x_0: float, count: int) -> tuple[Tensor, Tensor]:
    """log p_theta(x_{0:3}) - log q(x_{1:3} | x_0) on a product of Gauss-Hermite rules for eps_1..3, and the weights."""
    z, w = nodes(count)
    z_1, z_2, z_3 = (grid.reshape(-1, 1, 1, 1) for grid in torch.meshgrid(z, z, z, indexing="ij"))
    weight = (w[:, None, None] * w[:, None] * w).flatten()
    states = [torch.full_like(z_1, x_0)]
    log_q = torch.zeros_like(z_1)
    for t, noise in enumerate((z_1, z_2, z_3), start=1):
        law = q_step(twin(denoiser.path), states[-1], times_like(t, z_1))
        states.append(law.reparametrize(noise))
        log_q = log_q + law.log_density(states[-1])
    log_p = log_normal(states[3])
    for t in (3, 2, 1):
        step = p_step(denoiser, states[t], times_like(t, z_1), times_like(t - 1, z_1))
        log_p = log_p + step.log_density(states[t - 1])
    return (log_p - log_q).flatten(), weight


def expanded(denoiser: Model[Denoiser], x_0: float) -> float:
    """L_T + L_2 + L_1 + L_0 from the code's three functions, x_t by Gauss and Hermite. Eq. (11)."""
    z, w = nodes(40)
    noise = z.view(-1, 1, 1, 1)
    data = torch.full_like(noise, x_0)
    total = float(prior_term(denoiser.path, data)[0])
    for t in (1, 2, 3):
        times = times_like(t, data)
        x_t = q_marginal(denoiser.path, data, times).reparametrize(noise)
        guess = denoiser.predict(x_t, times)
        term = (
            decoder_term(denoiser, guess, x_t, data)
            if t == 1
            else step_term(denoiser, guess, x_t, data, times)
        )
        total += float(w @ term.flatten())
    return total


def between(law: Gaussian, grid: Tensor) -> Tensor:
    """The log density of each law of the batch at each point of the grid."""
    n = len(grid)
    return law.log_density(grid.view(1, 1, 1, n).expand(n, 1, 1, n)).view(n, n)


def reverse_step(denoiser: Model[Denoiser], x_t: Tensor, t: int) -> Gaussian:
    return p_step(denoiser, x_t, times_like(t, x_t), times_like(t - 1, x_t))


def log_evidence(denoiser: Model[Denoiser], x_0: float) -> float:
    """log p_theta(x_0): the chain (4) carried from x_3 to x_1 on a grid, then to x_0."""
    h = 0.04  # a tenth of the narrowest step: exact to rounding
    grid = torch.arange(-9, 9, h, dtype=F).view(-1, 1, 1, 1)
    density = log_normal(grid).flatten().exp()
    for t in (3, 2):
        density = h * density @ between(reverse_step(denoiser, grid, t), grid).exp()
    last = reverse_step(denoiser, grid, 1).log_density(torch.full_like(grid, x_0))
    return math.log(h * float(density @ last.flatten().exp()))


def chain_divergence(denoiser: Model[Denoiser], x_0: float) -> float:
    """KL(q(x_{1:3} | x_0) || p_theta(x_{1:3} | x_0)), on a grid over [x_1, x_2, x_3] where p sums to 1."""
    h = 0.15
    grid = torch.arange(-6.6, 6.6, h, dtype=F).view(-1, 1, 1, 1)
    data = torch.full_like(grid, x_0)
    q_1, q_2, q_3 = (
        between(q_step(twin(denoiser.path), start, times_like(t, grid)), grid)
        for t, start in ((1, data), (2, grid), (3, grid))
    )
    p_1, p_2 = (between(reverse_step(denoiser, grid, t), grid).T for t in (2, 3))
    p_0 = reverse_step(denoiser, grid, 1).log_density(data).flatten()
    log_q = q_1[0][:, None, None] + q_2[:, :, None] + q_3
    log_p = p_0[:, None, None] + p_1[:, :, None] + p_2 + log_normal(grid).flatten()
    log_p = log_p - (log_p.exp().sum() * h**3).log()
    return float((log_q.exp() * (log_q - log_p)).sum() * h**3)


@pytest.mark.parametrize("x_0", [0.4, -1.3])
@pytest.mark.parametrize("sigma_1", SIGMA_1)
def test_the_expanded_bound_is_the_bound_and_what_it_adds_to_the_evidence_is_a_divergence(
    x_0: float, sigma_1: str
) -> None:
    """Eq. (11) is Eq. (9), for a denoiser that is right about nothing; all three sides by quadratures of their own."""
    denoiser = wavy(CHAIN, sigma_1=sigma_1)
    ratio, weight = log_ratio(denoiser, x_0, 24)
    bound = expanded(denoiser, x_0)
    # sines of a normal with 24 nodes: 2.6^48 / 48!, below rounding; grids exact to rounding
    assert bound == pytest.approx(-float(weight @ ratio), abs=1e-9)
    evidence = -log_evidence(denoiser, x_0)
    assert bound - evidence == pytest.approx(chain_divergence(denoiser, x_0), abs=1e-9)
    assert bound > evidence


def test_the_bound_from_the_cross_entropy_by_jensen_is_the_same() -> None:
    """Eq. (10): -E_q(x_0) log E_q[p(x_{0:3}) / q(x_{1:3} | x_0)] <= -E_q log p(x_{0:3}) / q(x_{1:3} | x_0) = L_VLB."""
    denoiser = wavy(CHAIN)
    data, law = nodes(7)
    points = (0.2 + 0.5 * data).tolist()
    cross_entropy = jensen = 0.0
    for share, x_0 in zip(law.tolist(), points, strict=True):
        ratio, weight = log_ratio(denoiser, x_0, 40)
        cross_entropy -= share * float((weight.log() + ratio).logsumexp(0))
        jensen -= share * float(weight @ ratio)
    # the ratio p / q is steep, so its mean converges slowly in the nodes: 1e-6 with 40
    evidence = -sum(
        share * log_evidence(denoiser, x_0) for share, x_0 in zip(law.tolist(), points, strict=True)
    )
    assert cross_entropy == pytest.approx(evidence, abs=1e-5)
    assert cross_entropy < jensen
    average = sum(share * expanded(denoiser, x_0) for share, x_0 in zip(law.tolist(), points, strict=True))
    assert jensen == pytest.approx(average, abs=1e-9)


# The decoder: the mass of a level's bin


def grid_of(levels: int) -> Tensor:
    return torch.linspace(-1, 1, levels, dtype=F).view(-1, 1, 1, 1)


def log_masses(mean: float, variance: float, levels: int) -> Tensor:
    x = grid_of(levels)
    return Gaussian(torch.full_like(x, mean), torch.full_like(x, variance)).log_mass(x, levels).flatten()


@given(
    st.sampled_from([2, 17, 256]) | st.integers(2, 256),
    st.floats(-3, 3),
    st.floats(-18, 5),
)
def test_the_masses_of_all_levels_sum_to_one(levels: int, mean: float, log_variance: float) -> None:
    masses = log_masses(mean, math.exp(log_variance), levels)
    assert float(masses.exp().sum()) == pytest.approx(1, abs=1e-12)  # 256 roundings of numbers below 1
    assert (masses <= 0).all()


FAR = [
    (levels, mean, deviation)
    for levels in (2, 17, 256)
    for mean, deviation in (
        (0.0, 1.0),
        (0.3, 0.01),
        (-1.0, 0.004),
        (0.999, 0.1),
        (3.0, 0.02),
        (-40.0, 0.1),
        (7.0, 25.0),
        (-0.6, 0.0025),
    )
]


@pytest.mark.parametrize(("levels", "mean", "deviation"), FAR)
def test_the_far_tails_are_right_to_hundreds_of_deviations(
    levels: int, mean: float, deviation: float
) -> None:
    """Against 50 digits, for every level: 1e-10 of the logarithm, or 1e-10 where that is small."""
    masses = log_masses(mean, deviation**2, levels).tolist()
    with mpmath.workdps(50):
        sigma = mpmath.sqrt(mpmath.mpf(deviation**2))
        # differences of the smaller tails, at 50 digits and any exponent, down to exp(-80000)
        edges = [
            (mpmath.mpf(2 * k - 1) / (levels - 1) - 1 - mpmath.mpf(mean)) / sigma for k in range(levels + 1)
        ]
        edges[0], edges[-1] = -mpmath.inf, mpmath.inf
        for (low, high), mass in zip(pairwise(edges), masses, strict=True):
            left, right = (-high, -low) if low > 0 else (low, high)
            exact = float(mpmath.log(mpmath.ncdf(right) - mpmath.ncdf(left)))
            assert mass == pytest.approx(exact, rel=1e-10, abs=1e-10)


def test_tails_of_hundreds_of_deviations_were_among_them() -> None:
    assert min(float(log_masses(mean, deviation**2, n).min()) for n, mean, deviation in FAR) < -0.5 * 390**2


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_the_gradient_of_the_mass_is_that_of_the_formula(levels: int) -> None:
    """By finite differences, all at once: both outer bins, inner ones, near and far, below and above the mean."""
    level = torch.tensor([0, levels - 1, levels // 2, 1, 0, levels - 1, levels // 3], dtype=F)
    x = (2 * level / (levels - 1) - 1).view(-1, 1, 1, 1)
    mean = column(-0.9, 0.8, 0.01, 0.7, 3.0, -3.0, 0.3).requires_grad_()
    variance = column(0.1, 0.2, 0.01, 0.05, 0.3, 0.3, 1.5).requires_grad_()

    def log_mass(mean: Tensor, variance: Tensor) -> Tensor:
        return Gaussian(mean, variance).log_mass(x, levels)

    assert torch.autograd.gradcheck(log_mass, (mean, variance), eps=1e-7, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("value", [0.01, -1.2, 1.125, math.inf, math.nan])
def test_data_of_levels_are_checked(value: float) -> None:
    with pytest.raises(DataError, match="none of the 17 levels"):
        variational_bound(wavy(Linear(T=3), levels=17), column(0.125, value))


@given(st.integers(2, 256))
def test_all_levels_pass_in_float32_too(levels: int) -> None:
    check_levels(grid_of(levels).float(), levels)


def test_of_images_learned_by_heart_the_bound_is_little_above_the_bits_of_their_number() -> None:
    """8 images of 4 x 4 values on 17 levels: their entropy is log2(8) / 16 bits/dim, and no bound lies below it."""
    level = torch.randint(0, 17, (8, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    images = level.double() / 8 - 1
    oracle = FiniteSetOracle(Linear(T=400), images)
    # beta~ is right where the data are points
    bound = variational_bound(Model(oracle, "fixed-small", levels=17), images.repeat(20, 1, 1, 1))
    assert bound.mean > 3 / 16 - 4 * bound.mean_standard_error
    assert bound.mean == pytest.approx(
        3 / 16, abs=0.01 + 4 * bound.mean_standard_error
    )  # the gap is 2 % at T = 400


# The prior, and schedules at their ends


@given(schedules(), st.lists(st.floats(-3, 3), min_size=1, max_size=5))
def test_the_prior_term_is_its_closed_form(schedule: NoiseSchedule, points: list[float]) -> None:
    alpha_bar = math.prod(1 - beta for beta in schedule.betas().tolist())
    expected = [0.5 * (alpha_bar * (x**2 - 1) - math.log1p(-alpha_bar)) for x in points]
    # T factors of alpha_bar, each rounded once: T 1e-16 relative
    assert prior_term(schedule, column(*points)).flatten().tolist() == pytest.approx(
        expected, rel=1e-11, abs=1e-15
    )


@pytest.mark.parametrize("T", [2, 3, 50])
def test_a_schedule_that_ends_in_pure_noise_has_a_finite_bound(T: int) -> None:
    schedule = Linear(T=T, beta_1=0.05, beta_T=1.0)
    for variance, sigma_1 in product(CHOICES, SIGMA_1):
        measured = excess(gaussian(schedule, 0.3, 0.5, variance, sigma_1), 0.3, 0.5)
        expected = expected_excess(schedule, 0.3, 0.5, variance, sigma_1)
        assert measured == pytest.approx(expected, abs=1e-10)  # T terms, as above; and nothing is left at x_T
    assert marginal_gap(schedule, 0.3, 0.5) == 0
    x_0 = mixture(schedule, 2).denoiser.sample(8)
    bound = variational_bound(mixture(schedule, 2), x_0)
    assert bound.total.isfinite().all()
    assert (bound.L_T == 0).all()


def test_a_chain_of_one_step_has_a_bound() -> None:
    """T = 1: L_T and L_0, and nothing between. Both by hand."""
    denoiser = wavy(Linear(T=1, beta_1=0.1))
    beta = 0.1
    x_0, noise = 0.3, float(normals(0, Purpose.EVALUATION_NOISE, 0, torch.tensor([1]), (1, 1, 1)))
    x_1 = math.sqrt(1 - beta) * x_0 + math.sqrt(beta) * noise
    L_0 = 0.5 * ((x_0 - 0.7 * math.sin(1.3 * x_1 + 0.2)) ** 2 / beta + math.log(2 * math.pi * beta))
    L_T = 0.5 * ((1 - beta) * (x_0**2 - 1) - math.log(beta))
    for count in (None, 1, 3):
        bound = variational_bound(denoiser, column(x_0), terms=count)
        assert bound.t.tolist() == [[1]]
        assert float(bound.L_0) == pytest.approx(L_0 * BITS, rel=1e-12)
        assert float(bound.L_T) == pytest.approx(L_T * BITS, rel=1e-12)
        assert float(bound.L_steps) == float(bound.standard_error) == 0
        assert bound.mean == pytest.approx((L_0 + L_T) * BITS, rel=1e-12)
        assert math.isnan(bound.mean_standard_error)


# Variances


@st.composite
def steps(draw: st.DrawFn) -> tuple[NoiseSchedule, Times, Times]:
    """A step from t to s < t, whole or not; s may be the data."""
    schedule = draw(schedules())
    t = draw(st.integers(1, schedule.T) | st.floats(0.02, schedule.T))
    s = draw(st.just(0.0) | st.floats(0.01, 0.99).map(lambda share: share * t))
    if isinstance(t, int) and draw(st.booleans()):
        s = float(draw(st.integers(0, t - 1)))
    return schedule, torch.tensor([t], dtype=F), torch.tensor([s], dtype=F)


def with_fraction(fraction: Samples) -> Prediction:
    """A prediction of which the fraction matters alone."""
    return Prediction(fraction, fraction, fraction)


@given(steps(), st.sampled_from(sorted(SIGMA_1)), st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_the_learned_range_reaches_from_the_small_variance_to_the_large(
    step: tuple[NoiseSchedule, Times, Times], sigma_1: str, inner: list[float]
) -> None:
    schedule, t, s = step
    fractions = torch.tensor([0.0, *sorted(inner), 1.0], dtype=F).view(1, 1, 1, -1)
    learned = LearnedRange().of(schedule, t, s, sigma_1, with_fraction(fractions)).flatten()
    small = variance_named("fixed-small").of(schedule, t, s, sigma_1, with_fraction(fractions))
    large = step_variance(schedule, t, s)
    assert float(small) > 0
    # exp(log x): 1e-16 times a logarithm below 30
    assert float(learned[0]) == pytest.approx(float(small), rel=1e-13)
    assert float(learned[-1]) == pytest.approx(float(large), rel=1e-13)
    slope = float(large.log() - small.log())  # sigma_1^2 = beta~_2 may lie above beta_1
    assert (learned.diff() * math.copysign(1, slope) >= -1e-13 * learned[1:]).all()


@given(schedules(), st.integers(0, 2**32), st.floats(0, 1))
def test_a_fraction_is_a_way_on_the_logarithm(schedule: NoiseSchedule, seed: int, fraction: float) -> None:
    t = torch.tensor([1 + seed % schedule.T], dtype=F)
    learned = LearnedRange().of(
        schedule, t, t - 1, "beta_1", with_fraction(torch.full((1, 1, 1, 1), fraction).double())
    )
    beta = float(step_variance(schedule, t, t - 1))
    tilde = float(posterior_variance(schedule, t, t - 1)) if t > 1 else beta
    assert float(learned) == pytest.approx(
        tilde ** (1 - fraction) * beta**fraction, rel=1e-6
    )  # fraction is a float32


@given(schedules())
def test_sigma_1_is_beta_1_or_beta_tilde_2(schedule: NoiseSchedule) -> None:
    one, two = (torch.tensor([t], dtype=F) for t in (1.0, 2.0))
    for name in ("fixed-small", "fixed-large"):
        variance = variance_named(name)
        assert float(
            variance.of(schedule, one, one - 1, "beta_1", with_fraction(torch.zeros(1, 1)))
        ) == pytest.approx(float(schedule.beta[1]), rel=1e-11)  # 1 - (1 - beta_1) / 1, of beta_1 >= 1e-5
        by_ho = float(variance.of(schedule, one, one - 1, "beta~_2", with_fraction(torch.zeros(1, 1))))
        if schedule.T > 1:
            assert by_ho == float(posterior_variance(schedule, two, one))
        else:
            assert by_ho == pytest.approx(float(schedule.beta[1]), rel=1e-11)


def test_a_variance_that_the_network_does_not_learn_or_that_is_unknown_is_an_error() -> None:
    x_0 = column(0.1)
    with pytest.raises(SettingsError, match="predicts no variance"):
        variational_bound(Model(GaussianOracle(Linear(T=3)), variance="learned"), x_0)
    with pytest.raises(SettingsError, match="unknown variance"):
        variance_named("fixed-huge")
    with pytest.raises(SettingsError, match="do not fit"):
        variational_bound(Model(GaussianOracle(Linear(T=3)), variance=Analytic(torch.zeros(3, dtype=F))), x_0)


# The bound from some of its terms


@given(st.integers(1, 4000), st.data())
def test_the_strata_cover_every_t_once_and_hold_what_is_drawn(T: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(min(3, T), T))
    layout = strata(T, count)
    assert sum(n for _, _, n in layout) == count
    assert [t for low, high, _ in layout for t in range(low, high + 1)] == list(range(1, T + 1))
    assert all(1 <= n <= high - low + 1 for low, high, n in layout)
    assert layout[0] == (1, 1, 1)
    if count < T:
        assert all(n >= 2 for _, _, n in layout[1:])  # so that the spread within it shows
        widths = [high - low for low, high, _ in layout[1:]]
        assert widths[0] <= widths[-1]


@given(st.integers(4, 400), st.data())
@settings(max_examples=40)
def test_the_times_drawn_are_those_of_the_strata_and_the_weights_count_them(
    T: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(3, min(T, 60)))
    bound = variational_bound(
        wavy(Linear(T=T)), column(0.3, -0.2), terms=count, seed=data.draw(st.integers(0, 99))
    )
    assert bound.t.shape == (2, count)
    assert (bound.t.diff(dim=1) > 0).all()
    start = 0
    for low, high, n in strata(T, count):
        drawn = bound.t[:, start : start + n]
        assert ((drawn >= low) & (drawn <= high)).all()
        assert torch.allclose(
            bound.weight[:, start : start + n].sum(1), torch.tensor(high - low + 1.0).double()
        )
        start += n


def test_fewer_than_three_terms_are_refused() -> None:
    with pytest.raises(SettingsError, match="take 3 or more"):
        variational_bound(wavy(Linear(T=10)), column(0.1), terms=2)


@cache
def repeated(count: int | None) -> VariationalBound:
    """The bound of one image under 1,500 numbers, seed 0, T = 40."""
    model = mixture(Linear(T=40), 2)
    return variational_bound(model, model.denoiser.sample(1, seed=4).expand(1500, 2, 1, 1), terms=count)


@pytest.mark.parametrize("count", [3, 8, 39])
def test_a_bound_from_some_terms_is_unbiased_and_knows_its_error(count: int) -> None:
    """Against the whole sum on the same noise, within 4 standard errors: false alarm 6e-5 each."""
    some, whole = repeated(count), repeated(None)
    assert torch.equal(
        some.bits, whole.bits.gather(1, some.t - 1)
    )  # the noise of a term depends on its t alone
    assert torch.equal(some.L_0, whole.L_0)
    assert (whole.standard_error == 0).all()
    error = some.total - whole.total
    n = len(error)
    assert abs(float(error.mean())) < 4 * float(error.std()) / math.sqrt(n)
    squares, claimed = error.square(), some.standard_error.square()
    difference = squares - claimed  # of mean 0: the variance is estimated without bias
    assert abs(float(difference.mean())) < 4 * float(difference.std()) / math.sqrt(n)
    # errors have long tails: a mean of 1,500 squares is right to 4 to 6 %, and this is four times as wide
    assert float(squares.mean() / claimed.mean()) == pytest.approx(1, abs=0.25)


def test_the_whole_bound_is_the_terms_of_its_noise() -> None:
    denoiser = wavy(Cosine(T=7))
    x_0 = torch.linspace(-1, 1, 24, dtype=F).view(2, 3, 2, 2)
    bound = variational_bound(denoiser, x_0, seed=5, numbers=[3, 11])
    t = torch.arange(1, 8)
    for row, number in enumerate((3, 11)):
        noise = normals(5, Purpose.EVALUATION_NOISE, number, t, (3, 2, 2)).double()
        bits, errors = pair_terms(denoiser, x_0[row].expand(7, 3, 2, 2), t.double(), noise)
        assert torch.allclose(bound.bits[row], bits, rtol=1e-13, atol=1e-15)
        assert torch.allclose(bound.squared_error[row], errors, rtol=1e-13, atol=0)
        assert float(bound.total[row]) == pytest.approx(float(bits.sum() + bound.L_T[row]), rel=1e-13)
    assert bound.mean == pytest.approx(float(bound.total.mean()))
    assert (bound.variance, bound.sigma_1, bound.clip, bound.levels, bound.T) == (
        "fixed-large",
        "beta~_2",
        None,
        None,
        7,
    )


def alone_and_in_company() -> Iterator[tuple[str, Model[Denoiser], Samples]]:
    shape = (2, 2, 2)
    root = torch.randn(8, 8, generator=torch.Generator().manual_seed(0), dtype=F)
    data = torch.randn(11, *shape, generator=torch.Generator().manual_seed(1), dtype=F)
    yield "wavy", wavy(Linear(T=30), "learned"), data
    yield "levels", wavy(Linear(T=30), levels=17), (data * 4).round().clamp(-8, 8) / 8
    yield "full covariance", Model(GaussianOracle(Linear(T=30), 0.1, root @ root.T)), data
    yield "finite set", Model(FiniteSetOracle(Linear(T=30), data)), data
    yield "float32", wavy(Linear(T=30)), data.float()


@pytest.mark.parametrize(
    ("denoiser", "x_0"), [pytest.param(d, x, id=name) for name, d, x in alone_and_in_company()]
)
@given(order=st.permutations(range(11)), count=st.sampled_from([None, 3, 8]), kept=st.integers(1, 11))
@settings(max_examples=8)
def test_an_image_has_the_same_bound_alone_and_in_any_company(
    denoiser: Model[Denoiser], x_0: Samples, order: list[int], count: int | None, kept: int
) -> None:
    whole = variational_bound(denoiser, x_0, terms=count, seed=3)
    chosen = order[:kept]
    part = variational_bound(denoiser, x_0[chosen], terms=count, seed=3, numbers=chosen)
    assert torch.equal(part.t, whole.t[chosen])
    for name in ("bits", "squared_error", "L_T", "total"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[chosen]), name  # to the last bit
    # how a variance is summed up may depend on the number of rows
    assert torch.allclose(part.standard_error, whole.standard_error[chosen], rtol=1e-14, atol=0)


def test_the_parts_of_a_long_measurement_are_the_whole() -> None:
    denoiser, x_0 = wavy(Linear(T=200)), torch.linspace(-1, 1, 20, dtype=F).view(20, 1, 1, 1)
    parts = list(bounds(denoiser, x_0, seed=1))
    assert len(parts) > 1
    assert torch.equal(concatenated(parts).total, variational_bound(denoiser, x_0, seed=1).total)
    with pytest.raises(ValueError, match="no images"):
        concatenated([])


def test_each_image_is_seen_with_its_own_label() -> None:
    denoiser, x_0 = wavy(Linear(T=40)), torch.linspace(-1, 1, 30, dtype=F).view(30, 1, 1, 1)
    labels = torch.arange(30) % 3
    mixed = variational_bound(denoiser, x_0, condition=Condition(label=labels))
    for label in range(3):
        pure = variational_bound(denoiser, x_0, condition=Condition(label=torch.full((30,), label)))
        assert torch.equal(mixed.total[labels == label], pure.total[labels == label])


def test_terms_come_in_the_order_of_the_batch_with_gradients() -> None:
    denoiser, t = wavy(Linear(T=9), "learned"), torch.tensor([3.0, 1, 9, 1, 2], dtype=F)
    x_0, x_t = column(0.1, -0.5, 0.4, 0.2, -0.3), column(0.3, -0.2, 1.4, 0.1, -0.8)

    def of_guess(x_0_hat: Tensor, fraction: Tensor) -> Tensor:
        return terms(denoiser, Prediction(x_0_hat, x_0_hat, fraction), x_t, x_0, t)

    guess = denoiser.predict(x_t, t)
    assert guess.fraction is not None
    each = [
        decoder_term(denoiser, guess.rows(k), x_t[k], x_0[k])
        if t[k] == 1
        else step_term(denoiser, guess.rows(k), x_t[k], x_0[k], t[k])
        for k in torch.arange(5).view(5, 1)
    ]
    together = terms(denoiser, guess, x_t, x_0, t)
    assert together.tolist() == pytest.approx([float(nats) * BITS for nats in each], rel=1e-13)
    inputs = guess.x_0.clone().requires_grad_(), guess.fraction.clone().requires_grad_()
    assert torch.autograd.gradcheck(of_guess, inputs)


@pytest.mark.parametrize("terms", [12, 30])
def test_an_interval_from_few_terms_holds_for_nine_in_ten_where_two_standard_errors_do_not(
    terms: int,
) -> None:
    """Two draws a stratum: the standard error is itself uncertain, and skewed."""
    moons = kk.open_data("two-moons")
    memory = FiniteSetOracle(kk.Cosine(T=200), moons.x_0(np.arange(200)))
    x_0 = moons.x_0(np.arange(3000, 3150))
    whole, some = variational_bound(memory, x_0).total, variational_bound(memory, x_0, terms=terms)
    missed = (some.total - whole).abs()
    assert 0.86 < float((missed <= some.half_width_95).double().mean()) <= 1
    assert float((missed <= 1.96 * some.standard_error).double().mean()) < 0.86


def test_where_all_terms_are_measured_the_interval_is_none() -> None:
    bound = variational_bound(GaussianOracle(kk.Linear(T=5)), torch.zeros(3, 1, 2, 2))
    assert bound.half_width_95.tolist() == [0, 0, 0]
