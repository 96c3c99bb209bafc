"""The Gaussian against closed forms."""

import math

import pytest
import torch

from kakusan.diffusion.gaussians import Gaussian, log_normal_interval


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


def test_a_mass_below_every_number_has_the_logarithm_minus_infinity() -> None:
    low, high = (
        torch.tensor(edges, dtype=torch.float64) for edges in ([-1e200, 1e190, -9.0], [-1e190, 1e200, 9.0])
    )
    masses = log_normal_interval(low, high)
    assert masses[:2].tolist() == [-math.inf, -math.inf]
    assert float(masses[2]) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("variance", [0.0, 1e-320, 1e-40])
def test_a_mean_on_the_edge_of_two_bins_halves_the_mass_however_small_the_variance(variance: float) -> None:
    x = torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1)
    assert law(0.0, variance).log_mass(x, 2).flatten().tolist() == pytest.approx([-math.log(2)] * 2)
