"""A rounding is counted once: against the truncated normal, finite sets by enumeration, and the misfit of the truth."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from kakusan import Cosine
from kakusan.diffusion.oracles import FiniteSetOracle, GaussianOracle
from kakusan.errors import SettingsError
from kakusan.operators import Clip, Down, Identity, Linear, Magnitude, Matrix, Quantize, composed, stacked
from kakusan.posterior import (
    DAPS,
    MMPS,
    SMC,
    DiffPIR,
    Exact,
    Gaussian,
    Gibbs,
    Measurement,
    Method,
    Restoration,
    Student,
    fitted_noise,
    posterior,
    restore,
)
from kakusan.posterior.misfit import misfit
from kakusan.posterior.noise import Unknown

LENGTH = 2000


def of_a_set(values: list[float], y: float, sigma: float) -> list[float]:
    """Weights of the images of a set, each a single value, rounded to whole numbers."""
    images = torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)
    measurement = Measurement(Quantize(1.0), torch.full((1, 1, 1), y, dtype=torch.float64), sigma, (1, 1))
    found: list[float] = posterior(FiniteSetOracle(Cosine(), images), measurement).weights.tolist()
    return found


def test_images_of_a_finite_set_weigh_by_the_noise_about_their_rounded_values() -> None:
    """And without noise by the cell alone: 0.3 and -0.4 are 0, and 0.6 is not."""
    values = [0.2, 0.9, 2.0]
    nats = [-((0.6 - k) ** 2) / 2 / 0.3**2 for k in (0, 1, 2)]
    expected = [math.exp(each) / sum(map(math.exp, nats)) for each in nats]
    assert of_a_set(values, 0.6, 0.3) == pytest.approx(expected, rel=1e-9)
    assert expected == pytest.approx([0.248, 0.752, 0.00003], abs=5e-4)
    assert of_a_set([0.3, -0.4, 0.6], 0.0, 0.0) == [0.5, 0.5, 0.0]
    with pytest.raises(SettingsError, match="no image"):
        of_a_set([0.3, -0.4, 0.6], 5.0, 0.0)


@pytest.mark.parametrize(
    "method",
    [MMPS(), Gibbs(particles=1), SMC(particles=8), DAPS()],
    ids=lambda method: type(method).__name__.lower(),
)
def test_a_rounded_normal_has_about_the_moments_of_the_truncated_normal(method: Method) -> None:
    """x ~ N(0, 1), rounded to 1: in 0.5 to 1.5, mean 0.921, deviation 0.277. The Gaussian in place of the rounding has
    0.923 and 0.277; 2,000 samples know them to 0.006 and 0.004, and methods are off by up to 0.02."""
    oracle = GaussianOracle(Cosine(), torch.zeros(1, 1), 1.0)
    measurement = Measurement(Quantize(1.0), torch.ones(1, 1, 1), 0.0, (1, 1))
    request = Restoration(count=2000, micro_batch=8192, dtype=torch.float64)
    x = restore(oracle, measurement, method, request).flatten()
    grid = torch.linspace(0.5, 1.5, 10_001, dtype=torch.float64)
    weights = (-grid.square() / 2).softmax(0)
    mean = float(weights @ grid)
    deviation = float((weights @ grid.square() - mean**2).sqrt())
    assert (mean, deviation) == pytest.approx((0.921, 0.277), abs=5e-4)
    assert float(x.mean()) == pytest.approx(mean, abs=0.04)
    assert float(x.std()) == pytest.approx(deviation, abs=0.025)


def rounded(sigma: float, seed: int = 0) -> tuple[Measurement, Tensor]:
    """x of deviation 3 steps, rounded, with noise."""
    generator = np.random.default_rng(seed)
    x = torch.from_numpy(3 * generator.standard_normal((1, 1, LENGTH)))
    y = x.round() + sigma * torch.from_numpy(generator.standard_normal((1, 1, LENGTH)))
    return Measurement(Quantize(1.0), y, sigma, (1, LENGTH)), x


@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.3, 2.0])
def test_the_misfit_of_the_truth_is_1_whatever_the_noise_beside_the_rounding(sigma: float) -> None:
    """Four errors of a mean of 2,000 squares, whose variance is 2 at the most."""
    measurement, x = rounded(sigma)
    found = misfit(measurement, x[:, None])
    assert found.degrees.tolist() == [[LENGTH]]
    assert found.reduced[0, 0] == pytest.approx(1, abs=4 * (2 / LENGTH) ** 0.5)
    assert found.words == ""


def test_gaussian_noise_has_the_variance_of_the_rounding_about_the_unrounded_value() -> None:
    measurement = Measurement(Quantize(0.6), torch.full((1, 1, 4), 0.6, dtype=torch.float64), 0.1, (1, 4))
    x = torch.full((1, 1, 4), 0.4, dtype=torch.float64)
    assert measurement.is_linear
    assert measurement.variance(x).flatten().tolist() == pytest.approx([0.01 + 0.03] * 4)
    assert measurement.residual(x).flatten().tolist() == pytest.approx([0.2] * 4)
    expected = -2 * math.log(2 * math.pi * 0.04) - 4 * 0.04 / (2 * 0.04)
    assert float(measurement.log_likelihood(x)) == pytest.approx(expected)
    alone = -2 * math.log(2 * math.pi * 0.01)  # 0.4 is rounded to 0.6, which is y
    assert float(measurement.log_likelihood_rounded(x)) == pytest.approx(alone)


def test_noise_without_room_for_a_rounding_is_about_the_rounded_value() -> None:
    law = Student(0.3, 3.0)
    measurement = Measurement(Quantize(1.0), torch.full((1, 1, 4), 1.2, dtype=torch.float64), law, (1, 4))
    x = torch.full((1, 1, 4), 0.7, dtype=torch.float64)
    assert measurement.residual(x).flatten().tolist() == pytest.approx([0.2] * 4)
    y, one = torch.full((4,), 1.2, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    expected = float(law.log_density(y, one).sum())
    assert float(measurement.log_likelihood(x)) == pytest.approx(expected)
    assert float(measurement.log_likelihood_rounded(x)) == pytest.approx(expected)


def test_the_unrounded_operator_is_all_but_the_last_rounding() -> None:
    x = torch.linspace(-3, 3, 8, dtype=torch.float64).view(1, 1, 8)
    down, clip = Down(2), Clip(-1.0, 1.0)
    assert (Quantize(1.0) @ down).unrounded(x).equal(down(x))
    assert isinstance((Quantize(1.0) @ down).unrounded, Linear)
    assert (Quantize(1.0) @ clip).unrounded(x).equal(clip(x))
    both = stacked(Quantize(1.0), down)
    assert both.unrounded(x).equal(stacked(Identity(), down)(x))
    assert isinstance(both.unrounded, Linear)
    for unchanged in (down, clip, Magnitude(), composed(down, Quantize(1.0)), stacked(down, clip)):
        assert unchanged.unrounded is unchanged


def test_exact_values_beside_rounded_ones_are_kept() -> None:
    """The first value is known to the last digit, and all values to a rounding."""
    first = Matrix(torch.tensor([[1.0, 0, 0]]))
    y = torch.tensor([[1.0, 0.0, -1.0, 0.9]])
    oracle = GaussianOracle(Cosine(), torch.zeros(1, 3), 1.0)
    measurement = Measurement(stacked(Quantize(1.0), first), y, 0.0, (1, 3))
    for method in (MMPS(), DiffPIR(), Gibbs(particles=2, iterations=8)):
        x = restore(oracle, measurement, method, Restoration(count=4))
        assert x[0, :, 0, 0].tolist() == pytest.approx([0.9] * 4, abs=1e-5)


def test_a_rounded_normal_has_no_exact_posterior_among_gaussians() -> None:
    oracle = GaussianOracle(Cosine(), torch.zeros(1, 1), 1.0)
    with pytest.raises(SettingsError, match="linear"):
        restore(oracle, Measurement(Quantize(1.0), torch.ones(1, 1, 1), 0.1, (1, 1)), Exact())


def test_unknown_noise_beside_a_rounding_is_found_without_it() -> None:
    """x is smooth, of deviation 2 steps; three standard errors, and 5 % for the steps of the method."""
    place = torch.arange(64, dtype=torch.float64)
    bell = 4 * torch.exp(-((place[:, None] - place) / 6).square() / 2) + 1e-4 * torch.eye(64).double()
    oracle = GaussianOracle(Cosine(), torch.zeros(1, 64), bell)
    x = oracle.drawn(0, torch.arange(4)).view(4, 1, 64)
    y = torch.from_numpy(Gaussian(0.4).draw(x.round().numpy(), np.random.default_rng(1)))
    found = fitted_noise(oracle, Measurement(Quantize(1.0), y, Unknown(), (1, 64)), MMPS())
    assert abs(found.sigma - 0.4) < 3 * found.error * (1 + 1 / 12 / 0.16) + 0.02
