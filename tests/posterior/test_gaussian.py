"""Gaussian data: the mean and the covariance of what methods draw, without sampling, beside the closed form."""

import math

import pytest
import torch
from impulses import law
from torch import Tensor

from kakusan.diffusion.oracles import GaussianOracle
from kakusan.diffusion.paths import EDM, FlowMatching, Path
from kakusan.diffusion.schedules import Cosine, Linear
from kakusan.operators.matrix import Matrix
from kakusan.posterior import MMPS, Gibbs, Measurement, Method, posterior
from kakusan.samplers import DPMpp2M, DPMppSDE2M, Sampler, UniPC
from kakusan.statistics.fits import straight_line

PATHS = (Cosine(), Linear(), EDM(), FlowMatching())
D = 6
SIGMA = 0.2


def covariance() -> Tensor:
    """Of full rank, with eigenvalues from 0.1 to 2."""
    axes = torch.linalg.qr(
        torch.randn(D, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    )[0]
    found: Tensor = axes @ torch.linspace(0.1, 2, D, dtype=torch.float64).diag() @ axes.T
    return found


def problem(path: Path) -> tuple[GaussianOracle, Measurement]:
    A = torch.randn(3, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64) / 2
    oracle = GaussianOracle(path, torch.full((1, D), 0.3), covariance())
    y = torch.tensor([[0.7, -0.4, 0.2]], dtype=torch.float64)
    return oracle, Measurement(Matrix(A), y, SIGMA, (1, D))


def off(path: Path, method: Method, draws: int) -> tuple[float, float]:
    """Errors of mean and covariance, as shares of the posterior's."""
    oracle, measurement = problem(path)
    mean, cov = law(oracle, measurement, method, draws)
    truth = posterior(oracle, measurement)
    scale = truth.covariance.trace().sqrt()
    return float((mean - truth.mean).norm() / scale), float(
        (cov - truth.covariance).norm() / truth.covariance.norm()
    )


@pytest.mark.parametrize("sampler", [DPMppSDE2M(steps=100), DPMpp2M(steps=100), UniPC(steps=100)], ids=repr)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
def test_moment_matching_is_within_2_percent_of_a_gaussian_posterior_in_100_steps(
    path: Path, sampler: Sampler
) -> None:
    mean, cov = off(path, MMPS(sampler=sampler, solver_steps=8), 101)
    assert mean < 0.02
    assert cov < 0.02


def test_the_rest_of_moment_matching_falls_with_the_square_of_the_steps() -> None:
    """By a second-order sampler; 1.7 rather than 2, since the last steps are not yet in the limit."""
    errors = [off(EDM(), MMPS(sampler=DPMpp2M(steps=n), solver_steps=8), n + 1)[1] for n in (40, 80, 160)]
    line = straight_line([math.log(n) for n in (40, 80, 160)], [math.log(error) for error in errors])
    assert line.slope < -1.7


@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
def test_split_gibbs_comes_to_a_gaussian_posterior(path: Path) -> None:
    """In 60 turns: what is left of the mean is the beginning of the chain, of the covariance the 3 % by which a prior
    step of 7 calls is off; half of it with 12."""
    mean, cov = off(path, Gibbs(iterations=60), 2 + 3 * 60)
    assert mean < 0.05
    assert cov < 0.05
    assert off(path, Gibbs(iterations=60, prior_steps=12), 2 + 3 * 60)[1] < 0.7 * cov


def test_turns_of_gibbs_forget_their_beginning() -> None:
    """The law is stationary at the end: twice as many turns leave less than 0.7 of the error of the mean."""
    few, many = (off(Cosine(), Gibbs(iterations=n, falling=0.3), 2 + 3 * n)[0] for n in (30, 60))
    assert many < 0.7 * few
