"""All parametrizations are views of one guess, on any path."""

import pytest
import torch

from kakusan.diffusion.parametrizations import clip_x_0
from kakusan.diffusion.paths import EDM, FlowMatching, Path
from kakusan.diffusion.schedules import Linear
from kakusan.diffusion.tables import PARAMETRIZATIONS
from kakusan.shapes import scaled

PATHS: tuple[Path, ...] = (Linear(), FlowMatching(), EDM())
ON_PATHS = pytest.mark.parametrize("path", PATHS, ids=["schedule", "flow", "edm"])
SPACES = ((), (5,), (2, 2), (2, 3, 2))


def parts(path: Path, space: tuple[int, ...] = (2, 2)) -> tuple[torch.Tensor, ...]:
    """x_0, eps, x_t, a and b at every t but the last."""
    generator = torch.Generator().manual_seed(0)
    x_0, eps = torch.randn(2, 999, 2, *space, generator=generator, dtype=torch.float64)
    a, b = path.at(torch.arange(1, 1000).double())
    return x_0, eps, scaled(a, x_0) + scaled(b, eps), a, b


@ON_PATHS
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", PARAMETRIZATIONS)
def test_the_guess_undoes_the_target(name: str, space: tuple[int, ...], path: Path) -> None:
    x_0, eps, x_t, a, b = parts(path, space)
    parametrization = PARAMETRIZATIONS[name]
    guess = parametrization.guess(parametrization.target(x_0, eps, a, b), x_t, a, b)
    # x_0 divides by a >= 0.001, eps by b >= 0.001, numbers up to 300
    assert torch.allclose(guess[0], x_0, atol=3e-10)
    assert torch.allclose(guess[1], eps, atol=3e-10)


@ON_PATHS
@pytest.mark.parametrize("name", PARAMETRIZATIONS)
def test_the_two_views_of_any_output_agree_with_equation_2(name: str, path: Path) -> None:
    _, _, x_t, a, b = parts(path)
    x_0, eps = PARAMETRIZATIONS[name].guess(torch.ones_like(x_t), x_t, a, b)
    assert torch.allclose(scaled(a, x_0) + scaled(b, eps), x_t, rtol=1e-12, atol=1e-12)


@ON_PATHS
@pytest.mark.parametrize("name", PARAMETRIZATIONS)
def test_the_gain_is_how_far_x_0_moves_with_the_output(name: str, path: Path) -> None:
    _, _, x_t, a, b = parts(path)
    low, high = (
        PARAMETRIZATIONS[name].guess(torch.full_like(x_t, word), x_t, a, b)[0] for word in (0.0, 1.0)
    )
    moved = (high - low).abs().flatten(1).mean(1)
    assert torch.allclose(moved, PARAMETRIZATIONS[name].gain(a, b), rtol=1e-9)


def test_each_target_is_that_of_its_paper() -> None:
    x_0, eps, _, a, b = parts(Linear())
    expected = {"eps": eps, "x_0": x_0, "v": scaled(a, eps) - scaled(b, x_0), "flow": eps - x_0}
    for name, target in expected.items():
        assert torch.allclose(PARAMETRIZATIONS[name].target(x_0, eps, a, b), target, atol=1e-14)


def test_edm_is_the_preconditioning_of_karras_et_al() -> None:
    """D(x; sigma) = c_skip x + c_out F, table 1, sigma_data = 0.5."""
    _, _, x_t, a, b = parts(EDM())
    output = torch.sin(x_t)
    c_skip, c_out = 0.25 / (b.square() + 0.25), b * 0.5 / (b.square() + 0.25).sqrt()
    x_0, _ = PARAMETRIZATIONS["edm"].guess(output, x_t, a, b)
    assert torch.allclose(x_0, scaled(c_skip, x_t) + scaled(c_out, output), rtol=1e-12, atol=1e-12)


@ON_PATHS
def test_clipping_re_derives_eps(path: Path) -> None:
    x_0, eps, x_t, a, b = parts(path)
    clipped, derived = clip_x_0(x_0, x_t, a, b, 1.0)
    assert float(clipped.abs().max()) <= 1
    assert torch.allclose(scaled(a, clipped) + scaled(b, derived), x_t, rtol=1e-12, atol=1e-12)
    inside = x_0.abs() <= 1
    assert torch.allclose(derived[inside], eps[inside], atol=3e-10)
