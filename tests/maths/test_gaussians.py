"""The Gaussian against closed forms."""

import math

import pytest
import torch

from kakusan.maths.gaussians import Gaussian


def law(mean: float, variance: float) -> Gaussian:
    return Gaussian(torch.full((1, 1, 1, 1), mean), torch.full((1, 1, 1, 1), variance, dtype=torch.float64))


def test_a_law_does_not_diverge_from_itself() -> None:
    assert float(law(0.3, 2.0).kl(law(0.3, 2.0))) == 0


def test_the_divergence_is_the_textbook_formula() -> None:
    expected = 0.5 * (math.log(4 / 0.25) + 0.25 / 4 + 1.5**2 / 4 - 1)
    assert float(law(1.0, 0.25).kl(law(-0.5, 4.0))) == pytest.approx(expected, rel=1e-14)


def test_tiny_divergences_do_not_vanish() -> None:
    """Means one float32 unit apart under variance 1e-7: float32 arithmetic would lose the log's difference."""
    expected = 0.5 * (1e-6 - math.log1p(1e-6))
    assert float(law(0.0, 1e-7 * (1 + 1e-6)).kl(law(0.0, 1e-7))) == pytest.approx(expected, rel=1e-3)


def test_the_density_integrates_to_one() -> None:
    x = torch.linspace(-12, 14, 20_001, dtype=torch.float64).view(-1, 1, 1, 1)
    wide = Gaussian(
        torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.full((1, 1, 1, 1), 2.5, dtype=torch.float64)
    )
    density = wide.log_density(x).exp().flatten()
    assert float(torch.trapezoid(density, x.flatten())) == pytest.approx(1, abs=1e-12)


def test_reparametrizing_moves_and_scales_the_noise() -> None:
    noise = torch.tensor([-1.0, 0.0, 2.0]).view(3, 1, 1, 1)
    drawn = law(0.5, 9.0).reparametrize(noise)
    assert drawn.flatten().tolist() == [-2.5, 0.5, 6.5]
