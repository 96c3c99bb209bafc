"""What needs no learning, against the exact denoisers of the Gaussians that it knows; and the parts of 1..T."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from kakusan.data import DATASETS, split
from kakusan.diffusion.denoiser import NetworkDenoiser
from kakusan.diffusion.model import Model
from kakusan.diffusion.oracles import GaussianOracle
from kakusan.diffusion.schedules import Cosine
from kakusan.training.knowledge import MEAN, NETWORK, SPECTRUM, WHITE, levels_of, part_edges, untaught
from kakusan.training.losses import NetworkModel, Simple

PATH = Cosine(T=100)
DIGITS = DATASETS["digits"].load()


def silent(x_t: Tensor, *_: object) -> Tensor:
    return torch.zeros_like(x_t)


def model(predicts: str = "v") -> NetworkModel:
    return Model(NetworkDenoiser(silent, PATH, predicts))


@pytest.mark.parametrize("predicts", ["v", "eps", "x_0"])
def test_white_noise_is_the_exact_denoiser_of_independent_values(predicts: str) -> None:
    torch.manual_seed(0)
    x_0 = 0.3 + 0.5 * torch.randn(64, 2, 4, 4)
    x_0[:, 1] *= 2
    known, _ = untaught(model(predicts), x_0)
    variance = (x_0 - x_0.mean((0, 2, 3), keepdim=True)).square().mean((0, 2, 3), keepdim=True)[0]
    mean = x_0.mean((0, 2, 3), keepdim=True)[0].expand(2, 4, 4)
    oracle = GaussianOracle(PATH, mean, variance.expand(2, 4, 4))
    t = torch.tensor([1.0, 30.0, 60.0, 90.0], dtype=torch.float64)
    x_t = torch.randn(4, 2, 4, 4)
    ours, truth = (each.predict(x_t, t).x_0 for each in (known[WHITE].denoiser, oracle))
    assert ours.allclose(truth, atol=1e-4)  # float32, and eps is divided by a at t = 90


def test_the_mean_image_is_guessed_whatever_is_seen() -> None:
    torch.manual_seed(0)
    x_0 = torch.randn(64, 1, 4, 4)
    known, _ = untaught(model(), x_0)
    t = torch.tensor([1.0, 99.0], dtype=torch.float64)
    guess = known[MEAN].denoiser.predict(torch.randn(2, 1, 4, 4), t).x_0
    assert guess.allclose(x_0.mean(0).expand(2, 1, 4, 4), atol=1e-4)


def test_points_have_a_spread_for_each_coordinate() -> None:
    torch.manual_seed(0)
    known, power = untaught(model(), torch.randn(500, 2) * torch.tensor([1.0, 3.0]))
    assert power.shape == (2,)
    t = torch.full((1,), 50.0, dtype=torch.float64)
    white, spectrum = (known[name].denoiser.predict(torch.ones(1, 2), t).x_0 for name in (WHITE, SPECTRUM))
    assert white.allclose(spectrum)


def test_a_network_that_always_says_0_is_no_better_than_what_needs_no_learning() -> None:
    levels = levels_of(model(), Simple(), DIGITS, split(len(DIGITS), 200, 0), torch.device("cpu"))
    assert [(level.first, level.last) for level in levels][::9] == [(1, 10), (91, 100)]
    assert all(level.is_no_better for level in levels[:9])
    for level in levels:
        assert level.losses[SPECTRUM] <= 1.05 * level.losses[WHITE]
        assert level.difference == pytest.approx(level.losses[NETWORK] - level.losses[level.best])
        assert 0 <= level.explained <= 1
    assert levels[0].explained > levels[5].explained > levels[9].explained


@pytest.mark.parametrize("T", [1, 3, 10, 25, 1000])
def test_the_parts_cover_all_times_once(T: int) -> None:
    edges = part_edges(T)
    assert (edges[0], edges[-1], len(edges) - 1) == (0, T, min(10, T))
    assert all(a < b for a, b in pairwise(edges))
