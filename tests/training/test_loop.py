"""Algorithm 1, step by step."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from kakusan.config.settings import TrainingSettings
from kakusan.diffusion.denoiser import NetworkDenoiser
from kakusan.diffusion.model import Model
from kakusan.diffusion.schedules import Linear
from kakusan.errors import NumbersError, SettingsError
from kakusan.randomness import Purpose, normals
from kakusan.shapes import Condition
from kakusan.training.ema import EMA
from kakusan.training.loop import fit, new_state
from kakusan.training.losses import Simple
from kakusan.training.rates import DECAYS, learning_rate
from kakusan.training.step import TrainState, train_step
from kakusan.training.tables import LOSSES
from kakusan.training.timesteps import TIMES, TimeSampler

RECIPE = TrainingSettings(
    steps=8,
    batch_size=12,
    accumulation=1,
    times="uniform",
    optimizer="adamw",
    learning_rate=1e-2,
    warmup=0,
    decay="constant",
    weight_decay=0.0,
    betas=(0.9, 0.999),
    clip_norm=1.0,
    ema=0.9,
    seed=0,
)


class Affine(nn.Module):
    """The smallest network with a gradient: two numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.5))
        self.offset = nn.Parameter(torch.tensor(0.1))

    def forward(self, x_t: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:  # noqa: ARG002
        out: Tensor = self.gain * x_t + self.offset
        return out


@dataclass(frozen=True)
class Pictures:
    """The same image everywhere, except for one bad step."""

    bad_step: int = -1

    def at(self, step: int, start: int = 0, count: int | None = None) -> "Pictures.Batch":  # noqa: ARG002
        x_0 = torch.linspace(-1, 1, 4).view(1, 1, 2, 2).expand(count or 12, 1, 2, 2)
        return Pictures.Batch(x_0 * math.nan if step == self.bad_step else x_0, None)

    @dataclass
    class Batch:
        x_0: Tensor
        condition: Condition | None


def fresh(recipe: TrainingSettings = RECIPE, predicts: str = "eps") -> TrainState:
    network = Affine()
    return new_state(
        Model(NetworkDenoiser(network, Linear(T=100), predicts=predicts)),
        network,
        recipe,
        torch.device("cpu"),
    )


def test_the_simple_loss_is_the_mean_squared_error_of_the_noise() -> None:
    state = fresh()
    x_0, t = torch.ones(3, 1, 2, 2) * 0.5, torch.tensor([1.0, 50.0, 100.0]).double()
    noise = normals(0, Purpose.NOISE, 0, torch.arange(3), (1, 2, 2))
    a = Linear(T=100).alpha_bar[t.long()].sqrt().view(3, 1, 1, 1).float()
    b = (1 - Linear(T=100).alpha_bar[t.long()]).sqrt().view(3, 1, 1, 1).float()
    expected = ((0.5 * (a * x_0 + b * noise) + 0.1 - noise) ** 2).mean((1, 2, 3))
    assert torch.allclose(Simple().per_image(state.model, x_0, t, noise), expected, atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("predicts", ["eps", "x_0", "v"])
def test_every_loss_is_one_finite_number_an_image_with_a_gradient(loss: Simple, predicts: str) -> None:
    state = fresh(predicts=predicts)
    t = torch.tensor([1.0, 100.0]).double()
    losses = loss.per_image(state.model, torch.zeros(2, 1, 2, 2), t, torch.ones(2, 1, 2, 2))
    assert losses.shape == (2,)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.isfinite() for p in state.network.parameters())


@pytest.mark.parametrize("parts", [2, 3, 12])
def test_accumulation_is_the_same_step_in_less_memory(parts: int) -> None:
    whole, split = fresh(), fresh()
    for _ in range(5):
        train_step(whole, Pictures(), Simple(), RECIPE)
        train_step(split, Pictures(), Simple(), replace(RECIPE, accumulation=parts))
    for a, b in zip(whole.network.parameters(), split.network.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)  # sums in another order


def test_an_uneven_split_is_refused() -> None:
    with pytest.raises(SettingsError, match="split evenly"):
        fresh(replace(RECIPE, accumulation=5))


def test_a_step_is_clipped_adamw_by_the_textbook() -> None:
    """First step of AdamW: lr * g / (|g| + eps), whatever the clipping; the second shows the clipped moments."""
    recipe = replace(RECIPE, clip_norm=0.01, weight_decay=0.1)
    state, reference = fresh(recipe), Affine()
    adamw = torch.optim.AdamW(reference.parameters(), lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
    denoiser = Model(NetworkDenoiser(reference, Linear(T=100)))
    for step in range(3):
        slots = torch.arange(12)
        t, _ = TIMES["uniform"](100).draw(0, step, slots, 12)
        noise = normals(0, Purpose.NOISE, step, slots, (1, 2, 2))
        adamw.zero_grad()
        Simple().per_image(denoiser, Pictures().at(step).x_0, t, noise).mean().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(reference.parameters(), 0.01)
        adamw.step()
        train_step(state, Pictures(), Simple(), recipe)
    for ours, theirs in zip(state.network.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("name", DECAYS)
def test_the_rate_rises_over_the_warm_up_and_ends_where_it_should(name: str) -> None:
    recipe = replace(RECIPE, steps=1000, warmup=100, decay=name, learning_rate=1.0)
    assert learning_rate(recipe, 0) == pytest.approx(0.01)
    assert learning_rate(recipe, 99) > 0.9
    assert learning_rate(recipe, 1000) == pytest.approx(1.0 if name == "constant" else 0.0, abs=1e-12)
    assert learning_rate(replace(recipe, accumulation=4), 500) == learning_rate(recipe, 500)


def test_the_average_follows_its_formula() -> None:
    network = Affine()
    ema, expected = EMA(network, 0.5), 0.5
    for n, value in enumerate((1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0)):
        with torch.no_grad():
            network.gain.fill_(value)
        ema.update(n)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
    assert float(ema.state()["gain"]) == pytest.approx(expected, rel=1e-6)


def test_numbers_that_are_not_finite_change_nothing_and_are_told_at_the_log_line() -> None:
    state = fresh()
    weights: list[list[float]] = []
    with pytest.raises(NumbersError, match="step 3"):  # noqa: PT012
        for report in fit(state, Pictures(bad_step=2), Simple(), RECIPE, log_every=4):
            weights.append([float(p.detach()) for p in state.network.parameters()])
            assert report.step < 4
    assert int(state.first_bad) == 2
    assert [float(p.detach()) for p in state.network.parameters()] == weights[
        1
    ]  # as after the last good step
    assert len(weights) == 3
    assert all(float(value).is_integer() for value in (s["step"] for s in state.optimizer.state.values()))
    assert {float(slot["step"]) for slot in state.optimizer.state.values()} == {2.0}


def test_the_log_line_holds_the_means_since_the_last_one() -> None:
    state = fresh()
    lines = [
        report.metrics for report in fit(state, Pictures(), Simple(), RECIPE, log_every=4) if report.metrics
    ]
    assert [line["step"] for line in lines] == [4, 8]
    for line in lines:
        by_t = [loss for loss in line["loss_by_t"] if loss is not None]
        assert len(line["loss_by_t"]) == 10
        assert min(by_t) <= line["loss"] <= max(by_t)
        assert line["gradient_norm"] > 0


def test_learning_lowers_the_loss() -> None:
    recipe = replace(RECIPE, steps=200)
    lines = [report.metrics for report in fit(fresh(recipe), Pictures(), Simple(), recipe, log_every=50)]
    losses = [line["loss"] for line in lines if line]
    assert losses[-1] < 0.85 * losses[0]


def test_where_the_optimizer_cannot_scale_the_step_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metal's fused AdamW heeds neither scale nor flag; the other way, tried on this device, must agree."""
    recipe = replace(RECIPE, clip_norm=0.01)
    fused, plain = fresh(recipe), fresh(recipe)
    for step in range(4):
        monkeypatch.setattr("kakusan.training.step.SCALING_DEVICES", ("cpu",))
        train_step(fused, Pictures(bad_step=3), Simple(), recipe)
        monkeypatch.setattr("kakusan.training.step.SCALING_DEVICES", ())
        train_step(plain, Pictures(bad_step=3), Simple(), recipe)
        assert (int(plain.first_bad) >= 0) == (step == 3)
    for a, b in zip(fused.network.parameters(), plain.network.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-6)
        assert b.isfinite()


class Scripted(TimeSampler):
    """Times with weights, as one that learns gives them, and a record of all it was asked and told."""

    learns = True

    def __init__(self, T: int) -> None:
        super().__init__(T)
        self.told: list[tuple[Tensor, Tensor] | str] = []

    def draw(
        self,
        seed: int,  # noqa: ARG002
        step: int | Tensor,  # noqa: ARG002
        slots: Tensor,
        batch_size: int,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor | None]:
        self.told.append("draw")
        return 1 + (7.0 * slots.double()) % self.T, 0.5 + slots.double() / 4

    def learn(self, t: Tensor, losses: Tensor) -> None:
        self.told.append((t, losses))


def test_weights_of_losses_reach_the_gradient_and_the_figures() -> None:
    recipe = replace(RECIPE, clip_norm=1e9)
    state = fresh(recipe)
    state.times = Scripted(100)
    slots = torch.arange(12)
    t, weights = state.times.draw(0, 0, slots, 12)
    assert weights is not None
    noise = normals(0, Purpose.NOISE, 0, slots, (1, 2, 2))
    losses = Simple().per_image(state.model, Pictures().at(0).x_0, t, noise)
    expected = torch.autograd.grad((losses * weights).mean(), list(state.network.parameters()))
    train_step(state, Pictures(), Simple(), recipe)
    for parameter, gradient in zip(state.network.parameters(), expected, strict=True):
        moment = state.optimizer.state[parameter]["exp_avg"]
        assert torch.allclose(moment, (1 - recipe.betas[0]) * gradient, rtol=1e-5)  # float32
    assert float(state.tally.loss.sum()) == pytest.approx((losses * weights).sum().item(), rel=1e-6)
    assert float(state.tally.count.sum()) == pytest.approx(float(weights.sum()), rel=1e-6)


def test_a_sampler_of_t_learns_once_a_step_after_all_draws_from_losses_without_weights() -> None:
    recipe = replace(RECIPE, accumulation=2)
    state = fresh(recipe)
    state.times = times = Scripted(100)
    train_step(state, Pictures(), Simple(), recipe)
    assert [told if isinstance(told, str) else "learn" for told in times.told] == [
        "draw",
        "draw",
        "learn",
        "learn",
    ]
    before = fresh(recipe)
    for told, start in zip(times.told[2:], (0, 6), strict=True):
        assert not isinstance(told, str)
        t, losses = told
        slots = torch.arange(start, start + 6)
        noise = normals(0, Purpose.NOISE, 0, slots, (1, 2, 2))
        assert torch.equal(t, times.draw(0, 0, slots, 12)[0])
        assert torch.allclose(
            losses, Simple().per_image(before.model, Pictures().at(0, start, 6).x_0, t, noise)
        )


def test_a_sampler_of_t_learns_nothing_from_numbers_that_are_not_finite_nor_after_them() -> None:
    state = fresh()
    state.times = times = Scripted(100)
    for _ in range(4):
        train_step(state, Pictures(bad_step=2), Simple(), RECIPE)
    assert sum(not isinstance(told, str) for told in times.told) == 2
