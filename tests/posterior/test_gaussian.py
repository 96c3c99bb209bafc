"""Gaussian data: the mean and the covariance of what methods draw, without sampling, beside the closed form."""

import math

import pytest
import torch
from impulses import law
from torch import Tensor

from kakusan.diffusion.oracles import GaussianOracle, MixtureOracle
from kakusan.diffusion.paths import EDM, FlowMatching, Path
from kakusan.diffusion.schedules import Cosine, Linear
from kakusan.operators.matrix import Matrix
from kakusan.posterior import (
    MMPS,
    SMC,
    Exact,
    Gaussian,
    Gibbs,
    Measurement,
    Method,
    Restoration,
    posterior,
    restore,
)
from kakusan.posterior.noise import Student
from kakusan.samplers import DDIM, DPMpp2M, DPMppSDE2M, Sampler, UniPC
from kakusan.statistics.fits import straight_line

PATHS = (Cosine(), Linear(), EDM(), FlowMatching())
D = 6
SIGMA = 0.2
DRAWS = 103
"""Of 100 steps: the start, each step, and two of the last one, for x and y."""


def covariance() -> Tensor:
    """Of full rank, with eigenvalues from 0.1 to 2."""
    axes = torch.linalg.qr(
        torch.randn(D, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    )[0]
    found: Tensor = axes @ torch.linspace(0.1, 2, D, dtype=torch.float64).diag() @ axes.T
    return found


def problem(path: Path, sigma: float = SIGMA) -> tuple[GaussianOracle, Measurement]:
    A = torch.randn(3, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64) / 2
    oracle = GaussianOracle(path, torch.full((1, D), 0.3), covariance())
    y = torch.tensor([[0.7, -0.4, 0.2]], dtype=torch.float64)
    return oracle, Measurement(Matrix(A), y, sigma, (1, D))


def off(path: Path, method: Method, draws: int) -> tuple[float, float]:
    """Errors of mean and covariance, as shares of the posterior's."""
    oracle, measurement = problem(path)
    mean, cov = law(oracle, measurement, method, draws)
    truth = posterior(oracle, measurement)
    scale = truth.covariance.trace().sqrt()
    return float((mean - truth.mean).norm() / scale), float(
        (cov - truth.covariance).norm() / truth.covariance.norm()
    )


def variances(path: Path, method: Method, draws: int, sigma: float) -> Tensor:
    """Of the samples, along all axes, in those of the posterior: a direction that is narrow counts like a wide one."""
    oracle, measurement = problem(path, sigma)
    whitening = torch.linalg.inv(torch.linalg.cholesky(posterior(oracle, measurement).covariance))
    found: Tensor = torch.linalg.eigvalsh(
        whitening @ law(oracle, measurement, method, draws)[1] @ whitening.T
    )
    return found


def linear(sampler: Sampler) -> MMPS:
    """Moment matching that is an affine function of the noise: its solver always goes on to the end."""
    return MMPS(sampler=sampler, tolerance=0.0)


@pytest.mark.parametrize("sampler", [DPMppSDE2M(steps=100), DPMpp2M(steps=100), UniPC(steps=100)], ids=repr)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
def test_moment_matching_is_within_2_percent_of_a_gaussian_posterior_in_100_steps(
    path: Path, sampler: Sampler
) -> None:
    mean, cov = off(path, linear(sampler), DRAWS)
    assert mean < 0.004
    assert cov < 0.01
    assert (variances(path, linear(sampler), DRAWS, SIGMA) - 1).abs().max() < 0.02


@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
def test_moment_matching_in_30_steps_is_nearer_with_a_sampler_of_second_order(path: Path) -> None:
    mean, cov = off(path, linear(DPMppSDE2M(steps=30)), DRAWS)
    assert mean < 0.004
    assert cov < 0.05
    assert 0.12 < off(path, linear(DDIM(steps=30)), DRAWS)[1] < 0.2


@pytest.mark.parametrize("sigma", [0.005, 0.02, 0.1])
@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
def test_moment_matching_loses_no_spread_however_narrow(path: Path, sigma: float) -> None:
    """y to 0.005: three directions as narrow as the least noise of the cosine schedule, 0.006, since the last step is a
    draw. One that goes to the mean leaves 40 % (linear) to 60 % (cosine) of their variance at 0.02."""
    found = variances(path, linear(DPMppSDE2M(steps=100)), DRAWS, sigma)
    assert (found - 1).abs().max() < 0.01


def test_moment_matching_as_it_is_by_default_has_the_mean_of_a_larger_problem() -> None:
    """32 values, 16 of them measured, where the solver ends early: 6,000 samples have a mean that is 0.013 off."""
    size = 32
    generator = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
    wide = axes @ torch.logspace(-2, 0.5, size, dtype=torch.float64).diag() @ axes.T
    A = torch.randn(16, size, generator=generator, dtype=torch.float64) / 2
    oracle = GaussianOracle(Cosine(), torch.zeros(1, size), wide)
    y = oracle.sample(1)[0] @ A.T
    measurement = Measurement(Matrix(A), y, 0.2, (1, size))
    truth = posterior(oracle, measurement)
    drawn = restore(oracle, measurement, MMPS(), Restoration(count=6000, micro_batch=6000))[0, :, 0].double()
    scale = truth.covariance.trace().sqrt()
    assert (drawn.mean(0) - truth.mean.flatten()).norm() / scale < 0.06
    assert abs(drawn.T.cov().trace() / truth.covariance.trace() - 1) < 0.05


def test_the_units_of_y_mean_nothing() -> None:
    """The same numbers in units of a thousandth, some of them, or as good as not measured."""
    oracle, measurement = problem(Cosine())
    request = Restoration(count=64, dtype=torch.float64)
    units = torch.tensor([[1.0, 1e-3, 1e6]], dtype=torch.float64)
    assert isinstance(measurement.operator, Matrix)
    scaled = Matrix(measurement.operator.matrix * units.T)
    again = Measurement(scaled, measurement.y * units, Gaussian(SIGMA * units[0]), (1, D))
    for method in (MMPS(), Gibbs(particles=2, iterations=10), SMC(particles=4, steps=10), Exact()):
        first, second = (restore(oracle, m, method, request) for m in (measurement, again))
        assert first.allclose(second, atol=1e-3)
    vague = Measurement(
        measurement.operator, measurement.y, Gaussian(SIGMA * torch.tensor([1, 1, 1e4])), (1, D)
    )
    missing = Measurement(
        measurement.operator, measurement.y.masked_fill(units == 1e6, math.nan), SIGMA, (1, D)
    )
    first, second = (restore(oracle, m, MMPS(), request) for m in (vague, missing))
    assert first.allclose(second, atol=1e-2)


def test_a_value_in_tiny_units_is_no_less_measured() -> None:
    """Two values of N(0, I) to a tenth, the first in units of 1e5: each has mean y / 1.01 and variance 0.01 / 1.01."""
    units = torch.tensor([1e5, 1.0], dtype=torch.float64)
    oracle = GaussianOracle(Cosine(), torch.zeros(1, 2), 1.0)
    measurement = Measurement(Matrix(units.diag()), units[None], Gaussian(0.1 * units), (1, 2))
    found = posterior(oracle, measurement)
    torch.testing.assert_close(found.mean, torch.full((2,), 1 / 1.01, dtype=torch.float64))
    torch.testing.assert_close(found.covariance, 0.01 / 1.01 * torch.eye(2, dtype=torch.float64))


def test_the_units_of_y_weigh_no_component_of_a_mixture() -> None:
    """Also where two exact values say the same."""
    means, spreads = torch.tensor([[[-1.0, 0.0]], [[1.0, 0.5]]]), torch.tensor([0.04, 0.3])
    oracle = MixtureOracle(Cosine(), torch.ones(2), means, spreads)
    A = torch.tensor([[1.0, 0], [1, 0], [0, 1]], dtype=torch.float64)
    y, sigma = torch.tensor([[0.1, 0.1, 0.3]], dtype=torch.float64), torch.tensor([0, 0, 0.2]).double()
    near = (y[0, 0] - means[:, 0, 0].double()).square() / spreads + spreads.log()
    wide = spreads.double() + 0.04
    far = (y[0, 2] - means[:, 0, 1].double()).square() / wide + wide.log()
    for units in (torch.ones(3), torch.tensor([1.0, 1e-3, 1e6])):
        given = Measurement(
            Matrix(A * units.double()[:, None]), y * units.double(), Gaussian(sigma * units.double()), (1, 2)
        )
        torch.testing.assert_close(posterior(oracle, given).weights, (-0.5 * (near + far)).softmax(0))


def test_the_rest_of_moment_matching_falls_with_the_square_of_the_steps() -> None:
    """By a second-order sampler; 1.7 rather than 2, since the last steps are not yet in the limit."""
    errors = [off(EDM(), linear(DPMpp2M(steps=n)), n + 1)[1] for n in (40, 80, 160)]
    line = straight_line([math.log(n) for n in (40, 80, 160)], [math.log(error) for error in errors])
    assert line.slope < -1.7


@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
def test_split_gibbs_comes_to_a_gaussian_posterior(path: Path) -> None:
    """In 60 iterations: what is left of the mean is the beginning of the chain, of the covariance the 3 % by which a
    prior step of 7 calls is off; half of it with 12."""
    mean, cov = off(path, Gibbs(particles=1, iterations=60, prior_steps=7), 2 + 3 * 60)
    assert mean < 0.05
    assert cov < 0.05
    assert off(path, Gibbs(particles=1, iterations=60, prior_steps=12), 2 + 3 * 60)[1] < 0.7 * cov


def test_iterations_of_gibbs_forget_their_beginning() -> None:
    """The law is stationary at the end: twice as many iterations leave less than 0.7 of the error of the mean."""
    few, many = (off(Cosine(), Gibbs(particles=1, iterations=n, falling=0.3), 2 + 3 * n)[0] for n in (30, 60))
    assert many < 0.7 * few


def of_two(sigma: float, path: Path) -> tuple[GaussianOracle, Measurement]:
    """Two values of correlation 0.9999, the first of them measured."""
    near = torch.tensor([[1.0, 0.9999], [0.9999, 1.0]], dtype=torch.float64)
    y = torch.full((1, 1), 0.5, dtype=torch.float64)
    A = Matrix(torch.tensor([[1.0, 0.0]]))
    return GaussianOracle(path, torch.zeros(1, 2), near), Measurement(A, y, sigma, (1, 2))


@pytest.mark.parametrize("sigma", [0.001, 0.005, 0.01, 0.02])
@pytest.mark.parametrize("path", [Cosine(), EDM()], ids=lambda path: type(path).__name__)
def test_gibbs_follows_a_noise_of_y_however_small(path: Path, sigma: float) -> None:
    """Of N(0, 1), without sampling: 3.4 % of the variance is the prior step's. A coupling that stays at 0.03 has 3.3 to
    900 times the variance."""
    oracle = GaussianOracle(path, torch.zeros(1, 1), 1.0)
    measurement = Measurement(Matrix(torch.eye(1)), torch.full((1, 1), 0.5), sigma, (1, 1))
    mean, cov = law(oracle, measurement, Gibbs(particles=1), 125)
    truth = posterior(oracle, measurement)
    assert abs(float(cov / truth.covariance) - 1) < 0.05
    assert abs(float((mean - truth.mean.flatten()) / truth.covariance.sqrt())) < 0.02


@pytest.mark.parametrize("sigma", [0.0, 0.005, 0.02])
def test_gibbs_keeps_a_neighbour_of_a_value_with_little_noise(sigma: float) -> None:
    """800 samples, whose variance is known to 5 %, and the mean to 0.035: four of these, and 5 % of the prior step. A
    coupling that stays at 0.03 has 2 to 5 times the variance."""
    oracle, measurement = of_two(sigma, EDM())
    request = Restoration(count=800, micro_batch=1 << 14, dtype=torch.float64)
    x, truth = restore(oracle, measurement, Gibbs(), request)[0, :, 0], posterior(oracle, measurement)
    assert 0.75 < float(x[:, 1].var() / truth.covariance[1, 1]) < 1.25
    away = (x[:, 1].mean() - truth.mean.flatten()[1]) / truth.covariance[1, 1].sqrt()
    assert abs(float(away)) < 0.15


@pytest.mark.parametrize("sigma", [0.005, 0.02])
def test_one_chain_of_gibbs_follows_a_small_noise_that_is_not_gaussian(sigma: float) -> None:
    """Student's t that is nearly Gaussian: the coupling adds a tenth of the variance, known to 4.5 % by 1,000
    samples. A coupling that stays at 0.03 has 3 to 37 times the variance."""
    oracle = GaussianOracle(EDM(), torch.zeros(1, 1), 1.0)
    y, A = torch.full((1, 1), 0.5, dtype=torch.float64), Matrix(torch.eye(1))
    measurement = Measurement(A, y, Student(sigma, 1e6), (1, 1))
    x = restore(oracle, measurement, Gibbs(), Restoration(count=1000, micro_batch=1000, dtype=torch.float64))
    truth = posterior(oracle, Measurement(A, y, sigma, (1, 1)))
    assert 0.85 < float(x.var() / truth.covariance) < 1.3
    assert abs(float((x.mean() - truth.mean.flatten()) / truth.covariance.sqrt())) < 0.2


def test_gibbs_warns_of_a_coupling_that_is_above_the_noise_of_y() -> None:
    measurement = of_two(0.01, Cosine())[1]
    assert not Gibbs().doubts(measurement, Cosine())
    assert not Gibbs(narrowest=0.005).doubts(measurement, Cosine())
    (words,) = Gibbs(narrowest=0.05).doubts(measurement, Cosine())
    assert "a deviation of 0.05" in words
    (words,) = Gibbs().doubts(measurement, Cosine(T=7))
    assert "least noise of the path" in words
