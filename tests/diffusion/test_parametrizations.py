"""eps, x_0 and v are three views of one guess."""

import pytest
import torch

from kakusan.diffusion.parametrizations import PARAMETRIZATIONS, amplitudes, clip_x_0
from kakusan.diffusion.schedules import Linear


def parts(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    x_0, eps = torch.randn(2, 999, 1, 2, 2, generator=generator, dtype=dtype)
    a, b = amplitudes(Linear(), torch.arange(1, 1000).double(), x_0)
    return x_0, eps, a, b


@pytest.mark.parametrize("name", PARAMETRIZATIONS)
def test_the_guess_undoes_the_target(name: str) -> None:
    x_0, eps, a, b = parts()
    parametrization = PARAMETRIZATIONS[name]
    guessed_x_0, guessed_eps = parametrization.guess(
        parametrization.target(x_0, eps, a, b), a * x_0 + b * eps, a, b
    )
    assert torch.allclose(guessed_x_0, x_0, atol=1e-12)  # eps divides by a >= 0.006, x_0 by b >= 0.01
    assert torch.allclose(guessed_eps, eps, atol=1e-12)


@pytest.mark.parametrize("name", PARAMETRIZATIONS)
def test_the_two_views_of_any_output_agree_with_equation_2(name: str) -> None:
    x_0, eps, a, b = parts()
    x_t = a * x_0 + b * eps
    guessed_x_0, guessed_eps = PARAMETRIZATIONS[name].guess(torch.ones_like(x_t), x_t, a, b)
    assert torch.allclose(a * guessed_x_0 + b * guessed_eps, x_t, atol=1e-12)


def test_clipping_re_derives_eps() -> None:
    x_0, eps, a, b = parts()
    x_t = a * x_0 + b * eps
    clipped, derived = clip_x_0(x_0, x_t, a, b, 1.0)
    assert float(clipped.abs().max()) <= 1
    assert torch.allclose(a * clipped + b * derived, x_t, atol=1e-12)
    inside = (x_0.abs() <= 1).expand_as(x_0)
    assert torch.allclose(derived[inside], eps[inside], atol=1e-10)
