"""Guidance against the closed form of Gaussians, whose guided score is linear; and what is exact: weights 0 and 1."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from kakusan.diffusion.denoiser import Denoiser, NetworkDenoiser
from kakusan.diffusion.guidance import Guided
from kakusan.diffusion.model import Model
from kakusan.diffusion.oracles import GaussianOracle
from kakusan.diffusion.parametrizations import eps_from_x_0
from kakusan.diffusion.paths import EDM, FlowMatching, Path
from kakusan.diffusion.prediction import Prediction
from kakusan.diffusion.schedules import Linear
from kakusan.errors import SettingsError
from kakusan.networks import UNet
from kakusan.samplers import DDIM, SeededNoise, walk
from kakusan.shapes import Condition, Samples, Times, scaled, times_like

F = torch.float64
PATHS: tuple[Path, ...] = (Linear(T=100), FlowMatching(100), EDM(100))
MEANS, SPREAD = torch.tensor([-0.6, 0.1, 0.9], dtype=F), 0.04
LABELS = torch.tensor([0, 1, 2, 1])
NAMED = Condition(label=LABELS)


@dataclass(frozen=True)
class Classes(Denoiser):
    """x_0 of class c is N(MEANS[c], SPREAD); without a class, N(0, 1), which is not their mixture: a weak model."""

    path: Path

    def predict(self, x_t: Samples, t: Times, condition: Condition | None = None) -> Prediction:
        labels = torch.zeros(len(x_t), dtype=torch.int64)
        dropped = torch.full((len(x_t),), condition is None)
        if condition is not None:
            assert condition.label is not None
            labels = condition.label
            dropped = dropped if condition.dropped is None else condition.dropped
        mean = torch.where(dropped, 0.0, MEANS[labels])
        variance = torch.full(labels.shape, SPREAD, dtype=F).masked_fill(dropped, 1.0)
        a, b = self.path.at(t)
        gain = a * variance / (a.square() * variance + b.square())
        x_0 = scaled(1 - gain * a, scaled(mean, torch.ones_like(x_t))) + scaled(gain, x_t)
        return Prediction(x_0, eps_from_x_0(x_0, x_t, a, b))


def x_t() -> Tensor:
    return torch.randn(4, 1, 3, generator=torch.Generator().manual_seed(0), dtype=F)


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize("weight", [-0.5, 0.3, 1.5, 4.0])
def test_the_guided_score_of_gaussians_is_the_closed_form(path: Path, weight: float) -> None:
    """grad log of q(x | c)^w q(x)^(1 - w): with precisions p and means m it is w p_c (m_c - x) + (1 - w) p (m - x)."""
    x, t = x_t(), times_like(40, x_t())
    guess = Guided(Classes(path), weight).predict(x, t, NAMED)
    a, b = (float(part[0]) for part in path.at(t))
    score = -guess.eps / b
    named = (a * MEANS[LABELS].view(-1, 1, 1) - x) / (a**2 * SPREAD + b**2)
    free = -x / (a**2 + b**2)
    assert torch.allclose(score, weight * named + (1 - weight) * free, rtol=1e-9, atol=1e-11)
    assert torch.allclose(a * guess.x_0 + b * guess.eps, x, rtol=1e-9, atol=1e-11)


def test_weight_1_is_the_conditional_model_and_0_the_unconditional_one_exactly() -> None:
    network = UNet(channels=1, width=16, multipliers=(1,), blocks=1, attention=(), classes=3, groups=1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1)
    of = NetworkDenoiser(network.eval(), Linear(T=50), "v")
    x, t = torch.randn(4, 1, 8, 8), torch.full((4,), 20.0, dtype=F)
    with torch.no_grad():
        assert Guided(of, 1.0).predict(x, t, NAMED).x_0.equal(of.predict(x, t, NAMED).x_0)
        assert Guided(of, 0.0).predict(x, t, NAMED).x_0.equal(of.predict(x, t).x_0)
        both = Guided(of, 2.0).predict(x, t, NAMED)
        named, free = of.predict(x, t, NAMED), of.predict(x, t)
    assert torch.allclose(both.x_0, 2 * named.x_0 - free.x_0, atol=1e-5)
    assert not both.x_0.equal(named.x_0)


def test_both_sides_are_asked_in_one_call() -> None:
    calls = []

    @dataclass(frozen=True)
    class Counting(Classes):
        def predict(self, x_t: Samples, t: Times, condition: Condition | None = None) -> Prediction:
            calls.append(len(x_t))
            return super().predict(x_t, t, condition)

    Guided(Counting(Linear()), 3.0).predict(x_t(), times_like(9, x_t()), NAMED)
    assert calls == [8]


def test_outside_of_the_interval_there_is_no_guidance() -> None:
    of, x = Classes(Linear(T=100)), x_t()
    guided = Guided(of, 3.0, interval=(20, 60))
    t = torch.tensor([10.0, 20, 60, 61], dtype=F)
    found, named = guided.predict(x, t, NAMED), of.predict(x, t, NAMED)
    always = Guided(of, 3.0).predict(x, t, NAMED)
    assert torch.allclose(found.x_0[[0, 3]], named.x_0[[0, 3]], atol=1e-12)
    assert found.x_0[[1, 2]].equal(always.x_0[[1, 2]])


def test_rescaled_guidance_has_the_deviation_of_the_named_prediction() -> None:
    of, x, t = Classes(Linear(T=100)), x_t(), times_like(30, x_t())
    found, named = Guided(of, 5.0, rescale=1.0).predict(x, t, NAMED), of.predict(x, t, NAMED)
    assert torch.allclose(found.x_0.flatten(1).std(1), named.x_0.flatten(1).std(1), rtol=1e-12)
    a, b = of.path.at(t)
    assert torch.allclose(scaled(a, found.x_0) + scaled(b, found.eps), x, rtol=1e-9, atol=1e-12)


def test_autoguidance_goes_away_from_another_denoiser_and_needs_no_condition() -> None:
    strong, weak = GaussianOracle(Linear(T=100), 0.3, 0.04), GaussianOracle(Linear(T=100), 0.0, 1.0)
    x, t = x_t(), times_like(30, x_t())
    found = Guided(strong, 1.7, weak).predict(x, t)
    expected = 1.7 * strong.predict(x, t).x_0 - 0.7 * weak.predict(x, t).x_0
    assert torch.allclose(found.x_0, expected, atol=1e-12)


def test_the_model_clips_after_guidance() -> None:
    model = Model(Guided(Classes(Linear(T=100)), 8.0), clip=1.0)
    x, t = x_t(), times_like(50, x_t())
    assert float(model.denoiser.predict(x, t, NAMED).x_0.abs().max()) > 1
    assert float(model.predict(x, t, NAMED).x_0.abs().max()) <= 1
    *_, end = walk(DDIM(steps=5), model, SeededNoise(0, torch.arange(4), (1, 3)), NAMED)
    assert float(end.x.abs().max()) <= 1 + 1e-6


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"weight": float("nan")}, "finite"),
        ({"weight": 2.0, "interval": (5.0, 1.0)}, "from a low to a high"),
        ({"weight": 2.0, "rescale": 1.5}, "0 to 1"),
    ],
)
def test_what_is_no_guidance_is_refused(options: dict[str, float], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        Guided(Classes(Linear()), **options)  # type: ignore[arg-type]


def test_without_a_condition_there_is_nothing_to_be_guided_to() -> None:
    with pytest.raises(SettingsError, match="needs a condition"):
        Guided(Classes(Linear()), 2.0).predict(x_t(), times_like(5, x_t()))
