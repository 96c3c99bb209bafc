"""Mixtures and finite sets: the exact posterior beside brute force, and methods that converge to it."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kakusan.diffusion.oracles import FiniteSetOracle, GaussianOracle, MixtureOracle
from kakusan.diffusion.schedules import Cosine
from kakusan.errors import SettingsError
from kakusan.operators import Mask, Operator
from kakusan.operators.matrix import Matrix
from kakusan.posterior import MMPS, SMC, Exact, Gibbs, Measurement, Method, Restoration, posterior, restore
from kakusan.posterior.noise import Student
from kakusan.shapes import Condition
from kakusan.statistics.fits import straight_line

CHI_SQUARE = 10.83
"""Of one degree of freedom: a right method is beyond it once in 1,000."""


def two_modes(sigma: float = 0.8) -> tuple[MixtureOracle, Measurement]:
    """Modes at (-1, -1) and (1, 1); the first value, measured with much noise, makes one likelier."""
    means = torch.tensor([[[-1.0, -1.0]], [[1.0, 1.0]]], dtype=torch.float64)
    covariances = torch.tensor([0.04, 0.09], dtype=torch.float64)
    oracle = MixtureOracle(Cosine(), torch.tensor([1.0, 2.0]), means, covariances)
    y = torch.tensor([[-0.4]], dtype=torch.float64)
    return oracle, Measurement(Matrix(torch.tensor([[1.0, 0.0]])), y, sigma, (1, 2))


def share_of_first(method: Method, count: int, seed: int = 0) -> float:
    x = restore(
        *two_modes(), method, Restoration(count=count, seed=seed, micro_batch=8192, dtype=torch.float64)
    )
    return float((x.sum((2, 3)) < 0).double().mean())


def test_the_exact_posterior_is_that_of_quadrature() -> None:
    oracle, measurement = two_modes()
    grid = torch.linspace(-4, 4, 801, dtype=torch.float64)
    x = torch.cartesian_prod(grid, grid)[:, None]
    nats = oracle.log_density(x) + measurement.log_likelihood(x)
    weights, rows = nats.softmax(0), x[:, 0]
    mean = weights @ rows
    law = posterior(oracle, measurement)
    torch.testing.assert_close(law.mean, mean, rtol=0, atol=1e-9)
    away = rows - mean
    torch.testing.assert_close(law.covariance, (weights[:, None] * away).T @ away, rtol=0, atol=1e-9)


def test_exact_draws_have_the_law_of_the_posterior() -> None:
    law = posterior(*two_modes())
    x = restore(*two_modes(), Exact(), Restoration(count=20_000, dtype=torch.float64))[0, :, 0]
    error = law.covariance.diagonal().sqrt() / math.sqrt(len(x))
    assert ((x.mean(0) - law.mean).abs() < 4 * error).all()
    torch.testing.assert_close(torch.cov(x.T), law.covariance, rtol=0.05, atol=0)


@pytest.mark.parametrize(
    "method", [Exact(), SMC(particles=16, steps=40), Gibbs()], ids=["exact", "smc", "gibbs"]
)
def test_modes_have_their_weights(method: Method) -> None:
    """Chi-square of 600 samples; false alarm in one of 1,000."""
    count, weight = 600, float(posterior(*two_modes()).weights[0])
    off = count * (share_of_first(method, count) - weight)
    assert off**2 / (count * weight * (1 - weight)) < CHI_SQUARE


@pytest.mark.parametrize(
    "method",
    [SMC(steps=40, solver_steps=1), Gibbs(iterations=8, prior_steps=6)],
    ids=["smc", "gibbs"],
)
def test_particles_converge_to_the_posterior(method: SMC | Gibbs) -> None:
    """The bias of a mode's weight falls as one over the particles. Few steps of all else make it large enough to be
    seen, 0.02 to 0.16: of 8,000 samples the share is known to 0.0055, and the slope of four points to about 0.2."""
    weight = float(posterior(*two_modes()).weights[0])
    particles = (1, 2, 4, 8)
    off = [abs(share_of_first(replace(method, particles=K), 8000) - weight) for K in particles]
    line = straight_line([math.log(K) for K in particles], [math.log(each) for each in off])
    assert -1.4 < line.slope < -0.6, off


class Last(Operator):
    """The square of the sum: no linear operator."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(1).sum(1, keepdim=True).square()


@pytest.mark.parametrize(
    "operator", [Last(), Mask(torch.tensor([[True, False, True]]))], ids=["square", "mask"]
)
@pytest.mark.parametrize("noise", [0.5, Student(0.3, 3.0)], ids=["gauss", "student"])
def test_a_finite_set_is_enumerated_for_any_operator_and_any_noise(operator: Operator, noise: object) -> None:
    images = torch.randn(50, 1, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    measurement = Measurement(operator, operator(images[:1]) + 0.1, noise, (1, 3))  # type: ignore[arg-type]
    law = posterior(FiniteSetOracle(Cosine(), images), measurement)
    one_by_one = torch.stack([measurement.log_likelihood(image[None])[0] for image in images])
    torch.testing.assert_close(law.weights, one_by_one.exp() / one_by_one.exp().sum())
    x = restore(FiniteSetOracle(Cosine(), images), measurement, Exact(), Restoration(count=20))
    assert all(torch.isclose(each, images.float()).all((1, 2)).any() for each in x[0])


def test_a_posterior_is_that_of_the_first_y_and_condition() -> None:
    images = torch.tensor([-1.0, 1.0], dtype=torch.float64).view(2, 1, 1)
    whole = Mask(torch.ones(1, dtype=torch.bool))
    y = torch.tensor([0.8, -0.9], dtype=torch.float64).view(2, 1, 1)
    both = Measurement(whole, y, 0.7, (1, 1))
    alone = Measurement(whole, y[:1], 0.7, (1, 1))
    mixture = MixtureOracle(Cosine(), torch.ones(2), images, torch.full((2,), 0.3))
    for oracle in (FiniteSetOracle(Cosine(), images), mixture, GaussianOracle(Cosine(), images[0], 0.5)):
        first, expected = posterior(oracle, both), posterior(oracle, alone)
        torch.testing.assert_close(first.weights, expected.weights, rtol=0, atol=0)
        torch.testing.assert_close(first.mean, expected.mean, rtol=0, atol=0)
        torch.testing.assert_close(first.covariance, expected.covariance, rtol=0, atol=0)
    labels = Condition(label=torch.tensor([1, 0]))
    given = posterior(mixture, both, labels).mean
    assert given.equal(posterior(mixture, alone, Condition(label=torch.tensor([1]))).mean)


def test_gaussians_have_no_closed_form_beyond_linear_operators_and_gaussian_noise() -> None:
    oracle = GaussianOracle(Cosine(), torch.zeros(1, 3), 1.0)
    with pytest.raises(SettingsError, match="smc"):
        posterior(oracle, Measurement(Last(), torch.ones(1, 1), 0.1, (1, 3)))


def test_moment_matching_is_biased_for_mixtures_and_by_how_much() -> None:
    """Its known limit: p(x_0 | x_t) is no Gaussian where modes part. Stated in the table of docs/restore.md."""
    weight = float(posterior(*two_modes()).weights[0])
    assert abs(share_of_first(MMPS(), 2000) - weight) < 0.15


def test_gibbs_keeps_what_is_narrower_than_the_noise_of_y() -> None:
    """Data of deviation 0.1 seen with noise of 2: the coupling ends at 0.1 and not at 1.4, whose last call would leave
    half of the variance. 4,000 samples know a variance to 2 %."""
    oracle = GaussianOracle(Cosine(), torch.zeros(1, 1), 0.1**2)
    measurement = Measurement(Matrix(torch.eye(1)), torch.ones(1, 1, dtype=torch.float64), 2.0, (1, 1))
    request = Restoration(count=4000, micro_batch=8192, dtype=torch.float64)
    x = restore(oracle, measurement, Gibbs(particles=1), request)
    assert 0.88 < float(x.var()) / 0.1**2 < 1.06
