"""Noise laws: densities of mass 1, moments of their draws, the Gaussians in their place; and unknown noise, found."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kakusan import Cosine
from kakusan.diffusion.oracles import GaussianOracle
from kakusan.errors import SettingsError
from kakusan.operators import Clip, Linear, Mask, Operator, gaussian_blur
from kakusan.posterior import (
    MMPS,
    Gaussian,
    Measurement,
    Noise,
    Poisson,
    Restoration,
    Student,
    Unknown,
    fitted_noise,
)
from kakusan.samplers import DDIM

COUNT = 200_000


def drawn(law: Noise, exact: float) -> np.ndarray[Any, Any]:
    return law.draw(np.full(COUNT, exact), np.random.default_rng(0))


@pytest.mark.parametrize("law", [Gaussian(0.7), Student(0.5, 3.0), Student(2.0, 1.0)], ids=repr)
def test_a_density_has_mass_1_and_is_that_of_its_draws(law: Noise) -> None:
    """Over y = 1 + tan(u), so that heavy tails count; shares of draws within a few bounds, to 5 deviations of them."""
    u = (torch.arange(200_001, dtype=torch.float64) + 0.5) / 200_001 * math.pi - math.pi / 2
    y = 1 + u.tan()
    mass = law.log_density(y, torch.ones_like(y)).exp() * (1 + u.tan().square()) * math.pi / 200_001
    assert float(mass.sum()) == pytest.approx(1, abs=1e-4)
    draws = drawn(law, 1.0)
    for bound in (-1.0, 0.5, 1.0, 2.0, 4.0):
        share = float(mass[y < bound].sum())
        assert abs(float((draws < bound).mean()) - share) < 5 * math.sqrt(share * (1 - share) / COUNT) + 1e-4


def test_counts_have_the_law_of_poisson() -> None:
    law, exact = Poisson(0.25), 1.3
    y = torch.arange(200, dtype=torch.float64) * 0.25
    mass = law.log_density(y, torch.full_like(y, exact)).exp() * 0.25  # a density of y, on a grid of 0.25
    assert float(mass.sum()) == pytest.approx(1, abs=1e-12)
    assert float((mass * y).sum()) == pytest.approx(exact, abs=1e-12)
    variance = float((mass * (y - exact).square()).sum())
    assert variance == pytest.approx(float(law.variance(y, torch.full_like(y, exact))[0]), abs=1e-12)
    draws = drawn(law, exact)
    assert float(draws.mean()) == pytest.approx(exact, abs=5 * math.sqrt(variance / COUNT))
    assert float(draws.var()) == pytest.approx(variance, rel=0.02)
    assert np.allclose(draws / 0.25, np.rint(draws / 0.25))


def test_expected_counts_below_0_are_0_and_the_likelihood_leads_back() -> None:
    law = Poisson(2.0)
    assert law.draw(np.full(5, -3.0), np.random.default_rng(0)).tolist() == [0.0] * 5
    predicted = torch.tensor([-4.0, -0.5, 0.0, 0.001, 0.0019, 3.0], dtype=torch.float64, requires_grad=True)
    y = torch.full((6,), 6.0, dtype=torch.float64)
    nats = law.log_density(y, predicted)
    (slope,) = torch.autograd.grad(nats.sum(), predicted)
    assert nats.isfinite().all()
    assert (nats.diff() > 0).all()
    assert (slope > 0).all()
    none = law.log_density(
        torch.zeros(3, dtype=torch.float64), torch.tensor([-5.0, -1.0, 0.0], dtype=torch.float64)
    )
    assert none.tolist() == [-math.log(2)] * 3
    assert (law.variance(y, predicted) >= 4).all()


def test_an_outlier_has_the_variance_that_expectation_maximization_gives_it() -> None:
    """Student's t is N(0, s^2 / w) with w ~ Gamma(dof / 2, rate dof / 2): the inverse of E[w | r], by quadrature.

    And its gradient is that of the Gaussian in its place.
    """
    law, dof, scale = Student(0.5, 4.0), 4.0, 0.5
    w = torch.linspace(1e-4, 40, 400_001, dtype=torch.float64)
    for r in (0.0, 0.4, 3.0):
        weight = w.pow(dof / 2 - 1 + 0.5) * torch.exp(-w * (dof / 2 + r**2 / scale**2 / 2))
        expected = scale**2 * float(weight.sum() / (w * weight).sum())
        at = torch.tensor([r], dtype=torch.float64, requires_grad=True)
        zero = torch.zeros(1, dtype=torch.float64)
        variance = float(law.variance(zero - at.detach(), at.detach()))
        assert variance == pytest.approx(expected, rel=1e-5)
        (slope,) = torch.autograd.grad(law.log_density(zero, at).sum(), at)
        assert float(slope) == pytest.approx(-r / variance, rel=1e-12)


def test_a_gaussian_takes_a_number_a_map_or_a_diagonal_covariance() -> None:
    y, sigma = torch.zeros(2, 3, dtype=torch.float64), torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    for law in (Gaussian(sigma), Gaussian.of_variance(sigma.square())):
        assert law.variance(y, y).tolist() == [[0.0, 1.0, 4.0]] * 2
        drawn_ = law.draw(np.zeros((4, 3)), np.random.default_rng(0))
        assert (drawn_[:, 0] == 0).all()
    with pytest.raises(SettingsError, match=r"map of noise of shape \(3,\)"):
        Measurement(Mask(torch.ones(4, dtype=torch.bool)), torch.zeros(1, 1, 4), Gaussian(sigma), (1, 4))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Gaussian(-1.0), "at least 0"),
        (lambda: Gaussian(math.inf), "finite"),
        (lambda: Poisson(0.0), "gain"),
        (lambda: Student(0.0, 1.0), "above 0"),
        (lambda: Student(1.0, math.nan), "above 0"),
        (lambda: measured(Poisson(1.0), -1.0), "below 0"),
        (lambda: fitted_noise(None, measured(Unknown(), 0.0), MMPS(), Restoration(count=1)), "at least 2"),  # type: ignore[arg-type]
        (lambda: measured(Unknown(), 0.0).variance(torch.zeros(1, 1, 4)), "not known"),
    ],
)
def test_what_is_no_noise_is_one_clear_error(make: Any, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        make()


def measured(law: Noise, value: float) -> Measurement:
    y = torch.full((1, 1, 4), value)
    y[0, 0, 0] = math.nan  # not measured, so not refused
    return Measurement(Mask(torch.ones(4, dtype=torch.bool)), y, law, (1, 4))


# unknown noise: a smooth Gaussian process, for which moment matching is exact up to its steps

LENGTH = 64


def smooth() -> Tensor:
    place = torch.arange(LENGTH, dtype=torch.float64)
    bell = torch.exp(-((place[:, None] - place) / 6).square() / 2)
    return bell + 1e-4 * torch.eye(LENGTH, dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.1, 0.5])
@pytest.mark.parametrize(
    "operator",
    [Mask(torch.arange(LENGTH) % 2 == 0), gaussian_blur(2.0, 1)],
    ids=["half the values", "blur"],
)
def test_unknown_noise_is_found_within_its_error_and_a_twentieth(operator: Linear, sigma: float) -> None:
    """Three standard errors as stated, and 5 % for the 30 steps of the method."""
    oracle = GaussianOracle(Cosine(), torch.zeros(1, LENGTH), smooth())
    x = oracle.drawn(0, torch.arange(4)).view(4, 1, LENGTH)
    y = torch.from_numpy(Gaussian(sigma).draw(operator(x).numpy(), np.random.default_rng(1)))
    method = MMPS(sampler=DDIM(steps=30, eta=1.0), solver_steps=20)
    found = fitted_noise(oracle, Measurement(operator, y, Unknown(), (1, LENGTH)), method)
    assert found.is_settled
    assert abs(found.sigma - sigma) < 3 * found.error + 0.05 * sigma
    assert found.error < 0.1 * sigma
    assert f"noise of deviation {found.sigma:.3g} +- " in found.words


def test_noise_that_the_samples_cannot_tell_from_the_signal_is_said_to_be_so() -> None:
    """Every second value, and noise of a twentieth of the deviation, 0.01, by which neighbours differ anyway."""
    operator = Mask(torch.arange(LENGTH) % 2 == 0)
    oracle = GaussianOracle(Cosine(), torch.zeros(1, LENGTH), smooth())
    x = oracle.drawn(0, torch.arange(2)).view(2, 1, LENGTH)
    y = torch.from_numpy(Gaussian(0.0005).draw(operator(x).numpy(), np.random.default_rng(1)))
    found = fitted_noise(oracle, Measurement(operator, y, Unknown(), (1, LENGTH)), MMPS())
    assert not found.is_settled
    assert "say how large it is" in found.words


# predictions in float32 beside an offset many times the scale, as of pressures: 101325 +- 0.01

OFFSET, SCALE = 101_325.0, 0.01


@pytest.mark.parametrize(
    ("operator", "law"),
    [
        (Mask(torch.ones(6, dtype=torch.bool)), Student(0.1 * SCALE, 3.0)),
        (Clip(OFFSET - SCALE, OFFSET + SCALE), Gaussian(0.1 * SCALE)),
        (Clip(OFFSET - SCALE, OFFSET + SCALE), Student(0.1 * SCALE, 3.0)),
    ],
    ids=["outliers", "clipped", "clipped, with outliers"],
)
def test_an_offset_costs_no_detail_in_float32(operator: Operator, law: Noise) -> None:
    """Residual, variance, derivative and likelihood as in float64, to the rounding of x itself."""
    x = torch.linspace(-1.6, 1.7, 6).view(1, 1, 6)
    y = operator(OFFSET + SCALE * x.double()) + 0.1 * SCALE * torch.tensor([1.0, -2, 0.5, 9, 0, -1]).double()
    measurement = Measurement(operator, y, law, (1, 6), SCALE, OFFSET)
    wide, near = x.double(), {"rtol": 1e-4, "atol": 1e-7 * SCALE}
    for of in (measurement.residual, measurement.variance, measurement.log_likelihood):
        torch.testing.assert_close(of(x).double(), of(wide), **near)  # type: ignore[arg-type]
    ones = torch.ones_like(x)
    for name in ("apply", "adjoint"):
        narrow = getattr(measurement.derivative(x), name)(ones)
        assert narrow.dtype == torch.float32
        torch.testing.assert_close(
            narrow.double(), getattr(measurement.derivative(wide), name)(ones.double())
        )
    assert measurement.residual(x).dtype == measurement.variance(x).dtype == torch.float32


def test_a_fit_stops_where_a_method_fails_and_takes_the_last_noise_under_which_it_did_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exact y; samples of y with the noise that is said, down to 0.1, below which they are 5 away."""

    def draw(_: Any, asked: Measurement, *__: Any) -> Tensor:
        noise = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 8, 1, LENGTH)))
        assert isinstance(asked.noise, float)
        return asked.y[:, None] + (0.95 * asked.noise * noise if asked.noise > 0.1 else 5 + 0 * noise)

    monkeypatch.setattr("kakusan.posterior.fitting.restore", draw)
    y = torch.linspace(-1, 1, LENGTH, dtype=torch.float64).view(1, 1, LENGTH)
    every = Mask(torch.ones(LENGTH, dtype=torch.bool))
    found = fitted_noise(None, Measurement(every, y, Unknown(), (1, LENGTH)), MMPS())  # type: ignore[arg-type]
    assert found.is_bound
    assert not found.is_settled
    assert found.sigma == found.guesses[-2]
    assert found.sigma > 0.1 >= found.guesses[-1]
    assert "or less" in found.words
    assert "say how large it is, 0 where y is exact" in found.words
