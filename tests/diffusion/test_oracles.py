"""Exact denoisers against brute force (quadrature, Bayes by automatic differentiation), and samplers against them."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kakusan.api import sample
from kakusan.diffusion import oracles
from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.forward import q_marginal, q_posterior
from kakusan.diffusion.model import Model, p_step
from kakusan.diffusion.oracles import FiniteSetOracle, GaussianOracle, MixtureOracle, Oracle
from kakusan.diffusion.schedules import Cosine, Linear, NoiseSchedule
from kakusan.diffusion.tables import SCHEDULES
from kakusan.diffusion.variances import Analytic
from kakusan.errors import SettingsError
from kakusan.samplers import Ancestral, State
from kakusan.shapes import times_like

F = torch.float64
ROUNDING = 1e-9
"""Of float64 formulas that divide by 1 - alpha_bar >= 1e-7 once: 1e-16 times a few thousand operations over 1e-7."""


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F)


def covariance_of(size: int, seed: int = 0, *, rank: int | None = None) -> Tensor:
    """Symmetric, with eigenvalues of order 1 and, below the rank, 0."""
    root = values(size, size if rank is None else rank, seed=seed)
    return root @ root.T / size


@st.composite
def schedules(draw: st.DrawFn, fewest: int = 1) -> NoiseSchedule:
    return SCHEDULES[draw(st.sampled_from(sorted(SCHEDULES)))](T=draw(st.integers(fewest, 4000)))


@st.composite
def moments(draw: st.DrawFn) -> tuple[NoiseSchedule, float]:
    """A schedule and a time, whole or not."""
    schedule = draw(schedules())
    return schedule, draw(st.integers(1, schedule.T) | st.floats(0.01, schedule.T))


shapes = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))


def kinds(schedule: NoiseSchedule, shape: tuple[int, int, int] = (1, 2, 2), k: int = 3) -> list[Oracle]:
    """One oracle of each kind, and of each way to write a covariance."""
    D = math.prod(shape)
    means, shares = values(k, *shape), torch.arange(1, k + 1, dtype=F)
    full = torch.stack([covariance_of(D, seed) for seed in range(k)])
    each = values(k, *shape, seed=5).square() + 0.01
    return [
        GaussianOracle(schedule, 0.3, 0.25),
        GaussianOracle(schedule, means[0], each[0]),
        GaussianOracle(schedule, means[0], covariance_of(D, rank=max(1, D // 2))),
        MixtureOracle(schedule, shares, means, torch.linspace(0.02, 1.5, k, dtype=F)),
        MixtureOracle(schedule, shares, means, each),
        MixtureOracle(schedule, shares, means, full),
        FiniteSetOracle(schedule, means),
    ]


# Bayes, done another way


@pytest.mark.parametrize("t", [1.0, 2.5, 40.0, 300.0, 1000.0])
def test_in_one_dimension_the_guess_is_the_posterior_mean_by_quadrature(t: float) -> None:
    weights, means, spreads = (
        torch.tensor(v, dtype=F) for v in ([0.2, 0.5, 0.3], [-1.0, 0.2, 1.1], [0.04, 0.1, 0.3])
    )
    schedule = Linear()
    oracle = MixtureOracle(schedule, weights, means.view(3, 1, 1, 1), spreads)
    alpha_bar = float(schedule.alpha_bar_at(torch.tensor([t], dtype=F)))
    x_0 = torch.linspace(-6, 6, 60_001, dtype=F)  # steps of 2e-4; b at t = 1 is 0.01
    prior = (
        (-(x_0[:, None] - means).square() / (2 * spreads)).exp() / (2 * math.pi * spreads).sqrt() @ weights
    )
    x_t = torch.tensor([-2.0, -0.4, 0.3, 1.7], dtype=F)
    away = x_t[:, None] - math.sqrt(alpha_bar) * x_0
    joint = prior * (-away.square() / (2 - 2 * alpha_bar)).exp() / math.sqrt(2 * math.pi * (1 - alpha_bar))
    evidence = torch.trapezoid(joint, x_0)
    images = x_t.view(4, 1, 1, 1)
    guess = oracle.predict(images, times_like(t, images)).x_0.flatten()
    # the trapezoid rule on smooth laws is exact to rounding once a step is a tenth of the narrowest width
    assert torch.allclose(guess, torch.trapezoid(joint * x_0, x_0) / evidence, rtol=0, atol=1e-11)
    density = oracle.log_density(images, times_like(t, images))
    assert torch.allclose(density, evidence.log(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("t", [30.0, 200.5, 900.0])
def test_in_two_dimensions_the_guess_is_the_posterior_mean_by_quadrature(t: float) -> None:
    schedule = Linear()
    means = torch.tensor([[-0.5, 0.7], [0.9, -0.2]], dtype=F)
    full = torch.tensor([[[0.5, 0.3], [0.3, 0.4]], [[0.2, -0.1], [-0.1, 0.3]]], dtype=F)
    gaussian = GaussianOracle(schedule, means[0].view(2, 1, 1), full[0])
    mixture = MixtureOracle(schedule, torch.tensor([1.0, 3.0]), means.view(2, 2, 1, 1), full)
    axis = torch.linspace(-6, 6, 401, dtype=F)  # steps of 0.03; b at t = 30 is 0.12, the narrowest axis 0.3
    x_0 = torch.cartesian_prod(axis, axis)
    laws = [torch.distributions.MultivariateNormal(m, c) for m, c in zip(means, full, strict=True)]
    densities = [law.log_prob(x_0).exp() for law in laws]  # type: ignore[no-untyped-call]
    x_t = torch.tensor([0.4, -0.9], dtype=F)
    alpha_bar = float(schedule.alpha_bar_at(torch.tensor([t], dtype=F)))
    likelihood = (-(x_t - math.sqrt(alpha_bar) * x_0).square().sum(1) / (2 - 2 * alpha_bar)).exp()
    for oracle, prior in ((gaussian, densities[0]), (mixture, densities[0] + 3 * densities[1])):
        joint = prior * likelihood
        expected = (joint[:, None] * x_0).sum(0) / joint.sum()
        guess = oracle.predict(x_t.view(1, 2, 1, 1), torch.tensor([t], dtype=F)).x_0.flatten()
        assert torch.allclose(guess, expected, rtol=0, atol=1e-11)  # as above: exact to rounding


@given(moments(), shapes)
def test_bayes_by_automatic_differentiation_gives_the_guess(
    moment: tuple[NoiseSchedule, float], shape: tuple[int, int, int]
) -> None:
    """Tweedie: sqrt(alpha_bar) x_0_hat = x_t + (1 - alpha_bar) grad log q(x_t), also where alpha_bar is nearly 0."""
    schedule, t = moment
    for oracle in kinds(schedule, shape):
        x_t = values(5, *shape, seed=7).requires_grad_()
        times = times_like(t, x_t)
        (gradient,) = torch.autograd.grad(oracle.log_density(x_t, times).sum(), x_t)
        alpha_bar = schedule.alpha_bar_at(times).view(-1, 1, 1, 1)
        guess = oracle.predict(x_t.detach(), times)
        expected = x_t.detach() + (1 - alpha_bar) * gradient
        assert torch.allclose(alpha_bar.sqrt() * guess.x_0, expected, rtol=0, atol=ROUNDING)
        # eps is x_t - a x_0_hat over sqrt(1 - alpha_bar) >= 3e-4
        assert torch.allclose(guess.eps, -(1 - alpha_bar).sqrt() * gradient, rtol=0, atol=ROUNDING / 1e-3)


@given(moments(), shapes)
def test_the_guess_and_its_eps_make_up_x_t(
    moment: tuple[NoiseSchedule, float], shape: tuple[int, int, int]
) -> None:
    schedule, t = moment
    for oracle in kinds(schedule, shape):
        x_t = values(3, *shape, seed=8)
        guess = oracle.predict(x_t, times_like(t, x_t))
        again = q_marginal(schedule, guess.x_0, times_like(t, x_t)).reparametrize(guess.eps)
        assert torch.allclose(again, x_t, rtol=0, atol=1e-12)  # Eq. (2), a few roundings of numbers below 100


# One oracle by way of another


def same(left: Oracle, right: Oracle, shape: tuple[int, int, int], t: float) -> None:
    x_t = values(4, *shape, seed=9)
    times = times_like(t, x_t)
    a, b = left.predict(x_t, times), right.predict(x_t, times)
    assert torch.allclose(a.x_0, b.x_0, rtol=0, atol=ROUNDING)
    densities = left.log_density(x_t, times), right.log_density(x_t, times)
    assert torch.allclose(*densities, rtol=1e-12, atol=ROUNDING)


@given(moments(), shapes)
def test_a_mixture_of_one_is_a_gaussian_and_all_ways_to_write_a_covariance_agree(
    moment: tuple[NoiseSchedule, float], shape: tuple[int, int, int]
) -> None:
    schedule, t = moment
    D = math.prod(shape)
    mean, each, one = values(*shape), values(*shape, seed=1).square(), torch.ones(1, dtype=F)
    full, flat = covariance_of(D), torch.full(shape, 0.3, dtype=F)
    pairs: list[tuple[Oracle, Oracle]] = [
        (GaussianOracle(schedule, mean, full), MixtureOracle(schedule, one, mean[None], full[None])),
        (GaussianOracle(schedule, mean, each), MixtureOracle(schedule, 7 * one, mean[None], each[None])),
        (GaussianOracle(schedule, mean, 0.3), MixtureOracle(schedule, one, mean[None], 0.3 * one)),
        (GaussianOracle(schedule, mean, each), GaussianOracle(schedule, mean, each.flatten().diag())),
        (GaussianOracle(schedule, mean, 0.3), GaussianOracle(schedule, mean, flat)),
        (GaussianOracle(schedule, 1, 0.3), GaussianOracle(schedule, 1, 0.3 * torch.eye(D, dtype=F))),
    ]
    for left, right in pairs:
        same(left, right, shape, t)


@given(moments(), shapes, st.integers(1, 9))
def test_a_mixture_without_any_spread_is_a_finite_set(
    moment: tuple[NoiseSchedule, float], shape: tuple[int, int, int], n: int
) -> None:
    schedule, t = moment
    images = values(n, *shape)
    finite = FiniteSetOracle(schedule, images)
    same(finite, MixtureOracle(schedule, torch.ones(n), images, torch.zeros(n)), shape, t)
    full = torch.zeros(n, math.prod(shape), math.prod(shape))
    same(finite, MixtureOracle(schedule, torch.ones(n), images, full), shape, t)


@given(moments(), st.integers(0, 1000))
def test_turning_the_data_turns_the_guess(moment: tuple[NoiseSchedule, float], seed: int) -> None:
    schedule, t = moment
    turn: Tensor = torch.linalg.qr(values(4, 4, seed=seed)).Q

    def turned(x: Tensor) -> Tensor:
        return (x.flatten(1) @ turn.T).view_as(x)

    means, full = values(3, 1, 2, 2), torch.stack([covariance_of(4, k) for k in range(3)])
    pairs: list[tuple[Oracle, Oracle]] = [
        (FiniteSetOracle(schedule, means), FiniteSetOracle(schedule, turned(means))),
        (
            MixtureOracle(schedule, torch.ones(3), means, full),
            MixtureOracle(schedule, torch.ones(3), turned(means), turn @ full @ turn.T),
        ),
        (
            GaussianOracle(schedule, means[0], full[0]),
            GaussianOracle(schedule, turned(means[:1])[0], turn @ full[0] @ turn.T),
        ),
    ]
    x_t = values(5, 1, 2, 2, seed=4)
    for oracle, other in pairs:
        guess = turned(oracle.predict(x_t, times_like(t, x_t)).x_0)
        assert torch.allclose(
            guess, other.predict(turned(x_t), times_like(t, x_t)).x_0, rtol=0, atol=ROUNDING
        )


@given(moments(), st.permutations(range(6)))
def test_the_order_of_images_does_not_matter_and_that_of_values_is_kept(
    moment: tuple[NoiseSchedule, float], order: list[int]
) -> None:
    schedule, t = moment
    images, x_t = values(6, 1, 2, 3), values(4, 1, 2, 3, seed=1)
    oracle = FiniteSetOracle(schedule, images)
    same(oracle, FiniteSetOracle(schedule, images[order]), (1, 2, 3), t)

    def moved(x: Tensor) -> Tensor:
        return x.flatten(1)[:, order].view(x.shape)

    guess = FiniteSetOracle(schedule, moved(images)).predict(moved(x_t), times_like(t, x_t)).x_0
    assert torch.allclose(guess, moved(oracle.predict(x_t, times_like(t, x_t)).x_0), rtol=0, atol=ROUNDING)


# The finite set


def test_a_large_set_passes_by_in_blocks_and_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    images, x_t = values(500, 1, 4, 4), values(20, 1, 4, 4, seed=1)
    oracle = FiniteSetOracle(Linear(), images.float())
    for t in (1.0, 500.0):
        whole = oracle.predict(x_t, times_like(t, x_t)).x_0
        density = oracle.log_density(x_t, times_like(t, x_t))
        for working in (1, 20_000):  # one image a block, and about twenty
            monkeypatch.setattr(oracles, "WORKING_BYTES", working)
            assert torch.allclose(oracle.predict(x_t, times_like(t, x_t)).x_0, whole, rtol=0, atol=ROUNDING)
            assert torch.allclose(oracle.log_density(x_t, times_like(t, x_t)), density, rtol=1e-12, atol=0)
        monkeypatch.undo()


def test_of_two_images_nearly_as_far_each_has_its_right_weight() -> None:
    """They differ in one of 784 values, so their odds follow from that value alone."""
    schedule = Linear()
    a, b_squared = math.sqrt(float(schedule.alpha_bar[1])), 1 - float(schedule.alpha_bar[1])
    base = values(1, 1, 28, 28).clamp(-1, 1)
    low, high = base.clone(), base.clone()
    low[..., 14, 14], high[..., 14, 14] = -0.02, 0.03
    oracle = FiniteSetOracle(schedule, torch.cat([low, high, -base]))
    for where in (-0.01, 0.004, 0.005, 0.0051, 0.02):
        x_t = a * base + 0.01 * values(1, 1, 28, 28, seed=2)
        x_t[..., 14, 14] = a * where
        odds = a * 0.05 * (a * where - a * 0.005) / b_squared
        weight = 1 / (1 + math.exp(-odds))
        guess = oracle.predict(x_t, times_like(1, x_t)).x_0
        # products of 784 values are right to 1e-13; over 1 - alpha_bar = 1e-4 that is 1e-9 in the exponent
        assert float(guess[..., 14, 14]) == pytest.approx(weight * 0.03 - (1 - weight) * 0.02, abs=1e-9)


@pytest.mark.parametrize("t", [1e-3, 0.1, 1.0])
def test_at_tiny_noise_the_guess_is_the_image_itself(t: float) -> None:
    images = values(50, 1, 4, 4)
    schedule = Linear()
    x_t = q_marginal(schedule, images, times_like(t, images)).reparametrize(values(50, 1, 4, 4, seed=1))
    guess = FiniteSetOracle(schedule, images).predict(x_t, times_like(t, images))
    assert torch.equal(guess.x_0, images)  # the second nearest has a weight below exp(-1000), which is 0


@pytest.mark.parametrize("schedule", [Linear(T=50), Cosine(T=50)], ids=repr)
@pytest.mark.parametrize("t", [2, 17, 49])
def test_a_target_that_knows_x_0_teaches_the_mean_of_the_true_step(schedule: NoiseSchedule, t: int) -> None:
    """E|mu~ - mu|^2 = E|mu~ - m|^2 + |m - mu|^2 given x_t, by sums over all images, with m the mean of the exact model.

    So of all mu the mean of q(x_{t-1} | x_t) has the least error, which is what x_t leaves open.
    """
    images, x_t = values(5, 1, 2, 2), values(1, 1, 2, 2, seed=1)
    at, before = (torch.full((5,), float(time), dtype=F) for time in (t, t - 1))
    oracle, each = FiniteSetOracle(schedule, images), x_t.expand(5, -1, -1, -1)
    behind = q_marginal(schedule, images, at).log_density(each).sum((1, 2, 3)).softmax(0)  # q(x_0 | x_t)
    targets = q_posterior(schedule, each, images, at, before).mean
    m = p_step(oracle, x_t, at[:1], before[:1]).mean

    def error(mu: Tensor) -> Tensor:
        return behind @ (targets - mu).square().sum((1, 2, 3))

    assert torch.tensordot(behind, targets, 1).allclose(m[0], atol=ROUNDING)
    for mu in (m + 0.1, values(1, 1, 2, 2, seed=2)):
        assert error(mu).isclose(error(m) + (m - mu).square().sum(), rtol=ROUNDING)
        assert error(mu) > error(m)


@pytest.mark.parametrize("kind", range(len(kinds(Linear()))))
@pytest.mark.parametrize("t", [1, 260, 1000])
def test_the_best_guess_of_the_noise_is_the_score(kind: int, t: int) -> None:
    """grad log q(x_t) = -E[eps | x_t] / sqrt(1 - alpha_bar_t), and (13) is a step along it."""
    schedule = Linear()
    oracle = kinds(schedule)[kind]
    x_t = values(3, *oracle.shape).requires_grad_()
    at = times_like(t, x_t)
    (score,) = torch.autograd.grad(oracle.log_density(x_t, at).sum(), x_t)
    b = (1 - schedule.alpha_bar[t]).sqrt()
    with torch.no_grad():
        assert oracle.predict(x_t, at).eps.allclose(
            -b * score, atol=1e-7
        )  # at t = 1 two numbers of 1e4 cancel
        step = (x_t + schedule.beta[t] * score) / schedule.alpha[t].sqrt()
        assert p_step(oracle, x_t, at, at - 1).mean.allclose(step, atol=1e-7)


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, 5, 6])
def test_in_pure_noise_the_guess_is_the_mean_and_all_is_noise(kind: int) -> None:
    oracle = kinds(Linear(T=10, beta_T=1.0))[kind]
    x_t = values(3, 1, 2, 2, seed=3)
    guess = oracle.predict(x_t, times_like(10, x_t))
    shares = torch.arange(1, 4, dtype=F).view(3, 1, 1, 1) / 6
    mixture, finite = (shares * values(3, 1, 2, 2)).sum(0), values(3, 1, 2, 2).mean(0)
    first = values(3, 1, 2, 2)[0]
    mean = (torch.full((1, 2, 2), 0.3, dtype=F), first, first, mixture, mixture, mixture, finite)[kind]
    assert torch.equal(guess.eps, x_t)
    assert torch.allclose(guess.x_0, mean.expand(3, 1, 2, 2), rtol=0, atol=1e-14)


def test_float32_images_get_what_float64_says_rounded_once() -> None:
    x_t = values(5, 1, 2, 2).float()
    for oracle in kinds(Cosine()):
        for t in (1.0, 17.3, 1000.0):
            rounded, exact = (oracle.predict(x, times_like(t, x)) for x in (x_t, x_t.double()))
            assert torch.equal(rounded.x_0, exact.x_0.float())
            assert torch.equal(rounded.eps, exact.eps.float())


# Densities, entropy, errors, samples


@pytest.mark.parametrize("D", [1, 2, 5])
def test_densities_and_entropy_are_those_of_torch(D: int) -> None:
    mean, full, x = values(2, D), torch.stack([covariance_of(D, k) for k in (0, 1)]), values(6, D, seed=2)
    parts = torch.distributions.MultivariateNormal(mean, full)
    weights = torch.distributions.Categorical(torch.tensor([0.25, 0.75], dtype=F))
    mixture = torch.distributions.MixtureSameFamily(weights, parts)
    images, means = x.view(6, D, 1, 1), mean.view(2, D, 1, 1)
    ours = MixtureOracle(Linear(), torch.tensor([1, 3]), means, full)
    log_prob: Callable[[Tensor], Tensor] = mixture.log_prob
    # sums of D squares over eigenvalues that may be 1e-3: 1e-13 relative leaves two digits
    assert torch.allclose(ours.log_density(images), log_prob(x), rtol=1e-11, atol=1e-11)
    gaussian = GaussianOracle(Linear(), means[1], full[1])
    alone = torch.distributions.MultivariateNormal(mean[1], full[1])
    assert gaussian.entropy == pytest.approx(float(alone.entropy()), abs=1e-11)  # type: ignore[no-untyped-call]
    assert GaussianOracle(Linear(), 0.0, 0.04).entropy == pytest.approx(
        0.5 * math.log(0.08 * math.pi * math.e)
    )


def test_data_on_points_or_planes_have_a_density_only_with_noise() -> None:
    flat = covariance_of(4, rank=3)
    x = values(2, 1, 2, 2)
    for oracle in (
        GaussianOracle(Linear(), 0.0, flat),
        GaussianOracle(Linear(), 0.0, 0.0),
        MixtureOracle(Linear(), torch.ones(2), values(2, 1, 2, 2), torch.tensor([0.0, 1.0])),
        FiniteSetOracle(Linear(), values(3, 1, 2, 2)),
    ):
        with pytest.raises(SettingsError, match="no density"):
            oracle.log_density(x)
        assert oracle.log_density(x, times_like(1, x)).isfinite().all()
    assert GaussianOracle(Linear(), 0.0, flat).entropy == -math.inf


@given(schedules())
@settings(max_examples=30)
def test_errors_are_the_mean_squared_errors_of_the_guess(schedule: NoiseSchedule) -> None:
    """Points +-sqrt(2 D) along each axis of x_0 and of eps average a quadratic exactly (degree 3 in 2 D dimensions)."""
    D = 3
    full, mean = covariance_of(D), values(D)
    oracle = GaussianOracle(schedule, mean.view(D, 1, 1), full)
    axes = torch.cat([torch.eye(2 * D, dtype=F), -torch.eye(2 * D, dtype=F)]) * math.sqrt(2 * D)
    x_0 = (mean + axes[:, :D] @ torch.linalg.cholesky(full).T).view(-1, D, 1, 1)
    table = oracle.errors()
    assert len(table) == schedule.T + 1
    assert float(table[0]) == 0
    for t in {1, (schedule.T + 1) // 2, schedule.T}:
        times = times_like(t, x_0)
        x_t = q_marginal(schedule, x_0, times).reparametrize(axes[:, D:].reshape(-1, D, 1, 1))
        error = (oracle.predict(x_t, times).x_0 - x_0).square().mean()
        assert float(table[t]) == pytest.approx(float(error), rel=1e-10)  # a few roundings
    assert (table.diff() > 0).all()  # the more noise, the less is known
    assert float(table[-1]) < float(full.diagonal().mean())


def test_image_k_of_a_seed_is_the_same_whatever_the_count() -> None:
    for oracle in kinds(Linear(), (3, 4, 4)):
        many = oracle.sample(150, seed=5)
        assert many.dtype == F
        for count in (1, 64, 65, 149):
            assert torch.equal(oracle.sample(count, seed=5), many[:count])  # to the last bit
        assert not torch.equal(oracle.sample(150, seed=6), many)
    assert GaussianOracle(Linear(), 0.0, covariance_of(6)).sample(2).shape == (2, 6, 1, 1)


def test_samples_have_the_law_that_the_oracle_knows() -> None:
    """Seed 0, 20,000 images: 8 moments, each within 4.5 standard errors (false alarm 5e-5 in all)."""
    n, D = 20_000, 3
    full, means = torch.stack([covariance_of(D, k) for k in (3, 4)]), values(2, D)
    oracle = MixtureOracle(Linear(), torch.tensor([1.0, 4.0]), means.view(2, D, 1, 1), full)
    x = oracle.sample(n).flatten(1)
    weights = torch.tensor([0.2, 0.8], dtype=F)
    mean = weights @ means
    spread = (weights[:, None, None] * (full + means[:, :, None] * means[:, None])).sum(0) - mean.outer(mean)
    assert ((x.mean(0) - mean).abs() < 4.5 * (spread.diagonal() / n).sqrt()).all()
    away = x - mean
    products = away[:, :, None] * away[:, None]
    assert ((products.mean(0) - spread).abs() < 4.5 * products.std(0) / math.sqrt(n)).all()
    alone = GaussianOracle(Linear(), means[0].view(D, 1, 1), full[0])
    surprise = -alone.log_density(alone.sample(n)) - alone.entropy  # (chi^2 - D) / 2, of variance D / 2
    assert abs(float(surprise.mean())) < 4.5 * math.sqrt(D / 2 / n)


def test_samples_of_a_finite_set_are_its_images_each_as_often() -> None:
    """9 images, 9,000 draws, seed 0: chi-square with 8 degrees of freedom, false alarm 1e-4 above 31.8."""
    images = values(9, 1, 2, 2)
    x = FiniteSetOracle(Linear(), images).sample(9000)
    counts = (x[:, None] == images).flatten(2).all(2).sum(0)
    assert int(counts.sum()) == 9000
    assert float((counts - 1000).square().sum() / 1000) < 31.8


def test_a_singular_gaussian_stays_on_its_plane() -> None:
    flat = covariance_of(4, rank=2)
    null = torch.linalg.eigh(flat).eigenvectors[:, :2]
    oracle = GaussianOracle(Linear(), values(1, 2, 2), flat)
    away = (oracle.sample(100) - values(1, 2, 2)).flatten(1)
    assert float((away @ null).abs().max()) < 1e-7  # rounding of an eigenvalue, at most 1e-15, under the root
    x_t = values(5, 1, 2, 2, seed=3)
    guess = oracle.predict(x_t, times_like(300, x_t)).x_0 - values(1, 2, 2)
    assert float((guess.flatten(1) @ null).abs().max()) < 1e-12


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda s: GaussianOracle(s, 0.0, -1.0), "below 0"),
        (lambda s: GaussianOracle(s, math.nan, 1.0), "not finite"),
        (lambda s: GaussianOracle(s, 0.0, torch.tensor([[1.0, 2.0], [2.0, 1.0]])), "below 0"),
        (lambda s: GaussianOracle(s, 0.0, torch.tensor([[1.0, 0.5], [0.4, 1.0]])), "symmetric"),
        (lambda s: GaussianOracle(s, 0.0, torch.full((2, 2), math.inf)), "finite"),
        (lambda s: GaussianOracle(s, 0.0, torch.ones(2, 3)), "square"),
        (lambda s: GaussianOracle(s, torch.zeros(1, 2, 2), torch.eye(3)), "do not fit"),
        (lambda s: GaussianOracle(s, torch.zeros(1, 2, 2), torch.ones(4, 1, 1)), "do not fit"),
        (lambda s: Model(GaussianOracle(s), "fixed-huge"), "unknown variance"),
        (lambda s: Model(GaussianOracle(s), sigma_1="0"), "unknown name"),
        (lambda s: MixtureOracle(s, torch.ones(2), torch.zeros(3, 1, 1, 1), torch.ones(3)), "k Gaussians"),
        (lambda s: MixtureOracle(s, torch.ones(2), torch.zeros(2), torch.ones(2)), "k Gaussians"),
        (
            lambda s: MixtureOracle(s, torch.tensor([0.0, 1]), torch.zeros(2, 1, 1, 1), torch.ones(2)),
            "k Gaussians",
        ),
        (lambda s: MixtureOracle(s, torch.ones(2), torch.zeros(2, 1, 1, 1), -torch.ones(2)), "below 0"),
        (lambda s: FiniteSetOracle(s, torch.zeros(3)), "not \\(3,\\)"),
        (lambda s: FiniteSetOracle(s, torch.zeros(0, 1, 4, 4)), "not \\(0, 1, 4, 4\\)"),
        (lambda s: GaussianOracle(s).sample(0), "at least 1"),
    ],
)
def test_what_is_no_law_is_refused(make: Callable[[NoiseSchedule], object], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        make(Linear(T=5))


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="images of 1 values, but the data of this oracle have 4"):
        GaussianOracle(Linear(), torch.zeros(1, 2, 2)).predict(
            torch.zeros(1, 1, 1, 1), torch.ones(1, dtype=F)
        )


def test_rounding_of_a_covariance_computed_in_float32_is_forgiven() -> None:
    root = values(50, 10).float()
    oracle = GaussianOracle(Linear(), 0.0, root @ root.T)  # eigenvalues of 0 come out as -1e-6
    assert oracle.predict(values(2, 50, 1, 1), torch.ones(2, dtype=F)).x_0.isfinite().all()


# Ancestral sampling, whose law is known exactly where the data are Gaussian: every step is linear

MEAN, DEVIATION = 0.4, 0.5
VARIANCES = ("fixed-small", "fixed-large", "analytic")


def gaussian(schedule: NoiseSchedule, variance: str) -> Model[GaussianOracle]:
    oracle = GaussianOracle(schedule, MEAN, DEVIATION**2)
    return Model(oracle, Analytic(oracle.errors()) if variance == "analytic" else variance, "beta_1")


def probed(model: Model[Denoiser]) -> tuple[list[float], list[float], list[float]]:
    """Slope, offset and variance of p_theta(x_{t-1} | x_t) for t = 1, ..., T, from two points."""
    t = torch.arange(1, model.path.T + 1, dtype=F)
    zero = torch.zeros(len(t), 1, 1, 1, dtype=F)
    low, high = p_step(model, zero, t, t - 1), p_step(model, zero + 1, t, t - 1)
    fresh = low.variance.expand(len(t), 1, 1, 1)
    return (high.mean - low.mean).flatten().tolist(), low.mean.flatten().tolist(), fresh.flatten().tolist()


def propagated(model: Model[Denoiser]) -> tuple[float, float]:
    """Mean and variance of p_theta(x_0), by the code's own maps."""
    mean, spread = 0.0, 1.0
    for slope, offset, fresh in reversed(list(zip(*probed(model), strict=True))):
        mean, spread = offset + slope * mean, slope**2 * spread + fresh
    return mean, spread


def truth(schedule: NoiseSchedule) -> tuple[list[float], list[float]]:
    """alpha_bar_t, and S_t = Var(x_t) = alpha_bar_t DEVIATION^2 + 1 - alpha_bar_t, t = 0, ..., T."""
    alpha_bar = [1.0]
    for beta in schedule.betas().tolist():
        alpha_bar.append(alpha_bar[-1] * (1 - beta))
    return alpha_bar, [s * DEVIATION**2 + 1 - s for s in alpha_bar]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("T", [1, 2, 10, 1000])
def test_each_step_is_the_true_regression_of_x_s_on_x_t(name: str, T: int) -> None:
    """E[x_{t-1} | x_t] has the slope Cov / Var = sqrt(alpha_t) S_{t-1} / S_t and passes through both means."""
    schedule = SCHEDULES[name](T=T)
    alpha_bar, S = truth(schedule)
    slopes, offsets, fresh = probed(gaussian(schedule, "analytic"))
    for t in range(1, T + 1):
        slope = math.sqrt(alpha_bar[t] / alpha_bar[t - 1]) * S[t - 1] / S[t]
        # p_step rounds at 1e-16 and divides by 1 - alpha_bar >= 1e-4 and by S >= 1/4
        assert slopes[t - 1] == pytest.approx(slope, abs=1e-10)
        offset = MEAN * (math.sqrt(alpha_bar[t - 1]) - slope * math.sqrt(alpha_bar[t]))
        assert offsets[t - 1] == pytest.approx(offset, abs=1e-10)
        beta = 1 - alpha_bar[t] / alpha_bar[t - 1]
        assert fresh[t - 1] == pytest.approx(S[t - 1] * beta / S[t], abs=1e-10)  # Var(x_{t-1} | x_t)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("T", [1, 3, 50, 1000])
@pytest.mark.parametrize("variance", VARIANCES)
def test_the_law_of_samples_misses_the_data_by_the_known_amount(name: str, T: int, variance: str) -> None:
    """g_t = sqrt(alpha_bar_t) s^2 / S_t is what is left in x_0 of a change in x_t: the product of the slopes below t.

    With v_t the true variance of a step, Var - s^2 = g_T^2 (1 - S_T) + sum_t g_{t-1}^2 (sigma_t^2 - v_t). The first is
    the gap at x_T, which every choice has and the best choice has alone.
    """
    schedule = SCHEDULES[name](T=T)
    alpha_bar, S = truth(schedule)
    g = [math.sqrt(s) * DEVIATION**2 / S_t for s, S_t in zip(alpha_bar, S, strict=True)]
    beta = [0.0, *schedule.betas().tolist()]
    best = [0.0] + [S[t - 1] * beta[t] / S[t] for t in range(1, T + 1)]
    tilde = [0.0, beta[1]] + [(1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]) * beta[t] for t in range(2, T + 1)]
    chosen = {"fixed-small": tilde, "fixed-large": beta, "analytic": best}[variance]
    gap = g[T] ** 2 * (1 - S[T])
    bias = sum(g[t - 1] ** 2 * (chosen[t] - best[t]) for t in range(1, T + 1))
    mean, spread = propagated(gaussian(schedule, variance))
    # a sum of T terms below 1, each right to 1e-12 as above
    assert mean - MEAN == pytest.approx(-g[T] * math.sqrt(alpha_bar[T]) * MEAN, abs=1e-10)
    assert spread - DEVIATION**2 == pytest.approx(gap + bias, abs=1e-10)
    assert variance != "analytic" or abs(bias) == 0
    assert variance != "fixed-large" or bias > 0  # beta is right for data of variance 1
    assert (
        variance != "fixed-small" or T < 50 or bias < 0
    )  # beta~ for data of variance 0; sigma_1 is beta_1 here


@pytest.mark.parametrize("variance", VARIANCES)
def test_samples_have_the_mean_and_variance_of_the_exact_chain(variance: str) -> None:
    """T = 25, seed 0, 16,384 values: within 4.5 standard errors, false alarm 2e-5 in all.

    `Ancestral` ends at a mean, without the noise of the last step, so that its variance lacks sigma_1^2.
    """
    oracle = gaussian(Linear(T=25), variance)
    mean, spread = propagated(oracle)
    spread -= probed(oracle)[2][0]
    x = sample(oracle, Ancestral(), count=4096, shape=(1, 2, 2), seed=0, micro_batch=4096).double()
    n = x.numel()
    assert abs(float(x.mean()) - mean) < 4.5 * math.sqrt(spread / n)
    assert abs(float(x.var()) / spread - 1) < 4.5 * math.sqrt(2 / n)
    # and the test can fail: the biases of the fixed variances are many standard errors wide
    off = abs(DEVIATION**2 / spread - 1)
    assert variance == "analytic" or off > 10 * math.sqrt(2 / n)


class Silent:
    """Noise that is 0."""

    def __init__(self, like: Tensor) -> None:
        self.like = like

    def __call__(self, k: int = 0) -> Tensor:  # noqa: ARG002
        return torch.zeros_like(self.like)


def test_a_step_of_a_full_covariance_is_the_regression_along_each_axis() -> None:
    schedule, D = Cosine(T=20), 3
    full, mean = covariance_of(D), values(D)
    oracle = GaussianOracle(schedule, mean.view(D, 1, 1), full)
    for t, s in pairwise((20, 13, 12, 1)):
        at, to = (float(schedule.alpha_bar[i]) for i in (t, s))
        eye = torch.eye(D, dtype=F)
        var_t, var_s = (A * full + (1 - A) * eye for A in (at, to))
        slope = math.sqrt(at / to) * var_s @ torch.linalg.inv(var_t)
        x = torch.cat([torch.zeros(1, D, dtype=F), eye]).view(D + 1, D, 1, 1)
        step = Ancestral().step(Model(oracle), State(x), times_like(t, x), times_like(s, x), Silent(x)).x
        there = math.sqrt(to) * mean + (x.flatten(1) - math.sqrt(at) * mean) @ slope.T
        assert torch.allclose(
            step.flatten(1), there, rtol=0, atol=1e-11
        )  # an inverse of condition below 1000


# Ancestral sampling from a mixture

CENTRES = torch.tensor([[-0.9, -0.6], [0.9, -0.5], [0.2, 0.8]], dtype=F)
SHARES = torch.tensor([0.2, 0.3, 0.5], dtype=F)


def shares_of_samples(shares: Tensor, n: int) -> Tensor:
    """How many samples are nearest to each centre. 0.1 wide and 1.4 apart, they are never mistaken."""
    oracle = MixtureOracle(Linear(T=100), shares, CENTRES.view(3, 2, 1, 1), torch.full((3,), 0.01))
    x = sample(oracle, Ancestral(), count=n, shape=(2, 1, 1), seed=0, micro_batch=2000).double().flatten(1)
    nearest = torch.cdist(x, CENTRES)
    assert float(nearest.min(1).values.max()) < 0.55  # 5 deviations and the discretization
    return nearest.argmin(1).bincount(minlength=3)


def chi_square(counts: Tensor, shares: Tensor) -> float:
    expected = counts.sum() * shares
    return float(((counts - expected).square() / expected).sum())


def test_samples_of_a_mixture_have_its_weights() -> None:
    """Seed 0, 4,000 samples. Chi-square with 2 degrees of freedom: above -2 log(1e-4) = 18.4 once in 10,000 seeds."""
    counts = shares_of_samples(SHARES, 4000)
    assert chi_square(counts, SHARES) < 18.4
    # and the test can fail: other weights, in the table or in the oracle, are rejected
    others = torch.tensor([0.25, 0.3, 0.45], dtype=F)
    assert chi_square(counts, others) > 18.4
    assert chi_square(shares_of_samples(others, 4000), SHARES) > 18.4
