"""The importance-weighted bound: between the bound and the likelihood of the chain, in closed form for Gaussians."""

import math

import pytest
import torch
from torch import Tensor

from kakusan.diffusion.forward import posterior_weights
from kakusan.diffusion.likelihood import BITS, variational_bound
from kakusan.diffusion.model import Model
from kakusan.diffusion.oracles import GaussianOracle, MixtureOracle
from kakusan.diffusion.paths import EDM, Path
from kakusan.diffusion.prediction import Prediction
from kakusan.diffusion.schedules import Cosine, Linear
from kakusan.diffusion.variances import Analytic
from kakusan.diffusion.weighted import WeightedBound, weighted_bound
from kakusan.errors import DataError, SettingsError
from kakusan.shapes import Condition

F = torch.float64


def chain(path: Path, values: int = 2) -> Model[GaussianOracle]:
    return Model(GaussianOracle(path, torch.zeros(values, 1, 1, dtype=F), 0.25))


def variance_of_the_chain(model: Model[GaussianOracle]) -> float:
    """Of x_0, one value: each step multiplies with its weights and the slope of the guess, and adds sigma^2."""
    path = model.path
    T = torch.tensor([path.T], dtype=F)
    variance = float(path.scale_at(T).square())
    zero, one = torch.zeros(1, 1, dtype=F), torch.ones(1, 1, dtype=F)
    for step in range(path.T, 0, -1):
        t, s = torch.tensor([float(step)], dtype=F), torch.tensor([step - 1.0], dtype=F)
        of_x_t, of_x_0 = posterior_weights(path, t, s)
        slope = float(GaussianOracle(path, 0, 0.25).predict(one, t).x_0)
        gain = float(of_x_t) + float(of_x_0) * slope
        variance = gain**2 * variance + float(model.variance_of(Prediction(zero, zero), t, s))
    return variance


@pytest.mark.parametrize("path", [Linear(T=3), Cosine(T=4), EDM(T=3, sigma_min=0.1, sigma_max=20)])
def test_it_falls_from_the_bound_to_the_likelihood_of_the_chain(path: Path) -> None:
    model = chain(path, 1)
    x_0 = model.denoiser.sample(30, seed=1)
    variance = variance_of_the_chain(model)
    nats = 0.5 * (x_0.flatten().square() / variance + math.log(2 * math.pi * variance))
    exact = float(nats.mean()) * BITS
    found = weighted_bound(model, x_0, 64)
    groups = [WeightedBound(each, found.values) for each in found.weights.chunk(8, dim=1)]
    eight = torch.stack([group.total for group in groups]).mean(0)
    assert (found.single > eight).all()  # by Jensen, of the same weights
    assert (eight > found.total).all()
    assert found.mean == pytest.approx(exact, abs=0.05)  # the bias of 64 walks is about 1 / 64
    assert (found.effective > 5).all()
    assert (WeightedBound(found.weights[:, :1], found.values).effective == 1).all()


def test_one_walk_is_the_bound() -> None:
    """The same expectation with other draws: within 4 standard errors of the difference, sample by sample."""
    model = chain(Linear(T=12))
    x_0 = model.denoiser.sample(100, seed=2)
    found, bound = weighted_bound(model, x_0, 3), variational_bound(model, x_0)
    apart = found.single - bound.total
    assert abs(float(apart.mean())) < 4 * float(apart.std()) / math.sqrt(len(apart))


def test_of_an_exact_reverse_chain_every_walk_has_the_same_weight() -> None:
    """With the right variance the steps are q(x_s | x_t) itself: log w is log q(x_0), but for x_T being no N(0, 1)."""
    oracle = chain(Linear(T=10)).denoiser
    x_0 = oracle.sample(20)
    found = weighted_bound(Model(oracle, Analytic(oracle.errors())), x_0, 2)
    exact = -oracle.log_density(x_0) * BITS / 2
    assert found.single.tolist() == pytest.approx(exact.tolist(), abs=1e-3)
    assert float(found.weights.std(1).max()) < 1e-3


def test_a_sample_has_the_same_bound_in_any_company() -> None:
    oracle = MixtureOracle(Cosine(T=8), torch.ones(2), torch.randn(2, 3, 1, 1), torch.tensor([0.1, 0.2]))
    x_0 = oracle.sample(40)
    whole = weighted_bound(oracle, x_0, 3, seed=4)
    part = weighted_bound(oracle, x_0[[35, 2]], 3, seed=4, numbers=[35, 2])
    assert part.total.tolist() == pytest.approx(whole.total[[35, 2]].tolist(), rel=1e-12)


def test_a_mask_leaves_out_what_is_not_there() -> None:
    """Values are independent here, so those that are there have the bound that they have alone."""
    model, mask = chain(Linear(T=6)), torch.ones(5, 2, 1, 1)
    mask[:, 1] = 0
    x_0 = model.denoiser.sample(5)
    found = weighted_bound(model, x_0, 2, condition=Condition(mask=mask))
    other = x_0.clone()
    other[:, 1] = 7
    assert torch.equal(found.total, weighted_bound(model, other, 2, condition=Condition(mask=mask)).total)
    assert (found.values == 1).all()


def test_levels_have_masses() -> None:
    model = Model(chain(Linear(T=8)).denoiser, levels=5)
    x_0 = torch.tensor([[-1.0, 0.5], [0, 1]], dtype=F).view(2, 2, 1, 1)
    found: Tensor = weighted_bound(model, x_0, 2).total
    assert (found > 0).all()
    with pytest.raises(DataError, match="none of the 5 levels"):
        weighted_bound(model, x_0 + 0.1, 2)
    with pytest.raises(SettingsError, match="1 sample or more"):
        weighted_bound(model, x_0, 0)
