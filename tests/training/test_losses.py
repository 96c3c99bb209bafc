"""Losses against the bound they come from, each other, and finite differences."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from kakusan.diffusion.denoiser import NetworkDenoiser
from kakusan.diffusion.forward import q_marginal
from kakusan.diffusion.likelihood import BITS, pair_terms, step_term
from kakusan.diffusion.model import Model
from kakusan.diffusion.paths import EDM, FlowMatching, Path
from kakusan.diffusion.schedules import Cosine, Linear, NoiseSchedule, ZeroTerminalSNR
from kakusan.diffusion.tables import PARAMETRIZATIONS
from kakusan.errors import SettingsError
from kakusan.shapes import Condition, per_sample
from kakusan.training.losses import (
    Bound,
    Hybrid,
    Loss,
    MinSNR,
    Simple,
    Velocity,
    Weighted,
    eps_weight,
    x_0_weight,
)
from kakusan.training.tables import LOSSES, loss_for

T = 50
SHAPE = (1, 2, 2)


class Says(nn.Module):
    """A network of a few weights in float64, with a word about the variance or without, that heeds x_t and the time."""

    def __init__(self, words: int = 1) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.slope = nn.Parameter(torch.randn(words, 1, 2, 2, generator=generator, dtype=torch.float64) * 0.3)
        self.offset = nn.Parameter(
            torch.randn(words, 1, 2, 2, generator=generator, dtype=torch.float64) * 0.3
        )

    def forward(self, x_t: Tensor, time: Tensor, _: Tensor | None = None) -> Tensor:
        shift = (0.01 * time).view(-1, 1, 1, 1).to(x_t)
        return torch.cat(
            [torch.tanh(k * x_t + b + shift) for k, b in zip(self.slope, self.offset, strict=True)], 1
        )


class Exactly(NetworkDenoiser):
    """The denoiser without the rounding of its word to float32, for finite differences."""

    def output(
        self, x_t: Tensor, t: Tensor, condition: Condition | None = None
    ) -> tuple[Tensor, Tensor | None]:
        out = self.network(x_t, t - 1, condition)
        return out[:, :1], (out[:, 1:] + 1) / 2 if out.shape[1] > 1 else None


FOR_A_FIXED_VARIANCE = [name for name in LOSSES if name != "hybrid"]


def batch(T: int = T) -> tuple[Tensor, Tensor, Tensor]:
    """Eight images of levels, t from 1 to T, noise."""
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.randint(0, 17, (8, *SHAPE), generator=generator).double() / 8 - 1
    noise = torch.randn(8, *SHAPE, generator=generator, dtype=torch.float64)
    return x_0, torch.linspace(1, T, 8).round().double(), noise


def denoiser(
    words: int = 1, schedule: NoiseSchedule | None = None, predicts: str = "v", variance: str = "fixed-large"
) -> Model[Exactly]:
    exactly = Exactly(Says(words), schedule or Linear(T=T), predicts)
    return Model(exactly, "learned" if words == 2 else variance)


@pytest.mark.parametrize("sigma_1", ["beta~_2", "beta_1"])
@pytest.mark.parametrize("variance", ["fixed-large", "fixed-small"])
@pytest.mark.parametrize("predicts", PARAMETRIZATIONS)
def test_the_weighted_loss_is_the_bound_but_for_what_no_network_can_change(
    predicts: str, variance: str, sigma_1: str
) -> None:
    """Two networks: the difference of their bounds is that of their weighted losses, at every t, t = 1 included."""
    x_0, t, noise = batch()
    first = replace(denoiser(predicts=predicts, variance=variance), sigma_1=sigma_1)
    second = replace(first, denoiser=replace(first.denoiser, network=lambda x_t, *_: 0.3 * x_t))
    by_loss, by_bound = (
        torch.stack([measure(d, x_0, t, noise) for d in (first, second)])
        for measure in (Weighted().per_image, lambda *given: T * pair_terms(*given)[0])
    )
    assert torch.allclose(by_loss[0] - by_loss[1], by_bound[0] - by_bound[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("schedule", [Linear(T=T), Cosine(T=T)])
def test_the_weight_of_eps_is_that_of_x_0_seen_through_the_gain(schedule: NoiseSchedule) -> None:
    t = torch.arange(1, T + 1).double()
    variance = torch.full((T, 1, 1, 1), 0.01, dtype=torch.float64)
    alpha_bar = schedule.alpha_bar_at(t).view(-1, 1, 1, 1)
    gain = (1 - alpha_bar) / alpha_bar
    expected = x_0_weight(schedule, variance, t) * gain
    assert torch.allclose(eps_weight(schedule, variance, t), expected, rtol=1e-12)  # a dozen roundings


@pytest.mark.parametrize("predicts", ["eps", "x_0", "v"])
def test_simple_weighs_the_error_of_eps_as_the_page_says(predicts: str) -> None:
    """On the scale of eps: 1, 1 / SNR and 1 / alpha_bar; on that of x_0 each times SNR, by the parametrization."""
    schedule = Cosine(T=1000)
    alpha_bar = schedule.alpha_bar[1:]
    snr = alpha_bar / (1 - alpha_bar)
    of_eps = {"eps": torch.ones_like(snr), "x_0": 1 / snr, "v": 1 / alpha_bar}[predicts]
    of_x_0 = 1 / PARAMETRIZATIONS[predicts].gain(alpha_bar.sqrt(), (1 - alpha_bar).sqrt()).square()
    assert of_x_0.allclose(of_eps * snr, rtol=1e-9)
    assert (of_x_0 if predicts == "v" else of_eps).min() >= (0 if predicts == "x_0" else 1)
    if predicts == "v":
        assert of_eps.allclose(1 + 1 / snr, rtol=1e-9)
        assert of_x_0.allclose(snr + 1, rtol=1e-9)


def test_eq_12_at_known_numbers() -> None:
    """beta = 0.1, then 0.2; sigma^2 = beta: at t = 2 beta / (2 alpha (1 - alpha_bar)) = 0.2 / (2 * 0.8 * 0.28)."""
    schedule = Linear(T=2, beta_1=0.1, beta_T=0.2)
    weight = eps_weight(
        schedule, torch.tensor([[[[0.2]]]], dtype=torch.float64), torch.tensor([2.0]).double()
    )
    assert float(weight) == pytest.approx(0.2 / (2 * 0.8 * 0.28), rel=1e-14)


@pytest.mark.parametrize("loss", [Weighted(), Bound(), MinSNR(), Velocity()], ids=type)
@pytest.mark.parametrize("schedule", [Linear(T=T), Cosine(T=T)], ids=["linear", "cosine"])
def test_the_same_loss_in_eps_x_0_and_v_has_the_same_gradient_for_the_mean(
    loss: Loss, schedule: NoiseSchedule
) -> None:
    """The three words for one guess of x_0; the gradient of the loss with respect to that guess."""
    x_0, t, noise = batch()
    x_t = q_marginal(schedule, x_0, t).reparametrize(noise)
    a, b = (per_sample(part, x_t).to(x_t) for part in schedule.at(t))
    words = {
        "x_0": lambda guess: guess,
        "eps": lambda guess: (x_t - a * guess) / b,
        "v": lambda guess: (a * x_t - guess) / b,
    }
    values, gradients = [], []
    for predicts, word in words.items():
        guess = (0.7 * x_0 + 0.1).requires_grad_()
        said = word(guess)  # type: ignore[no-untyped-call]
        value = loss.per_image(
            Model(Exactly(lambda *_, said=said: said, schedule, predicts), "fixed-small"), x_0, t, noise
        )
        values.append(value.detach())
        gradients.append(torch.autograd.grad(value.sum(), guess)[0])
    for value, gradient in zip(values[1:], gradients[1:], strict=True):
        # float32 losses: 1e-6 of each; at large t eps is formed from x_t by a cancellation of two digits
        assert torch.allclose(value, values[0], rtol=1e-5)
        assert torch.allclose(gradient, gradients[0], rtol=1e-5, atol=1e-9)


def finite_difference(value: object, parameter: nn.Parameter, step: float = 1e-6) -> Tensor:
    """Central differences of a function of nothing with respect to each entry of a parameter."""
    assert callable(value)
    slopes = torch.zeros_like(parameter)
    for place in range(parameter.numel()):
        entry = parameter.data.view(-1)[place]
        before = float(entry)
        sides = []
        for shift in (step, -step):
            parameter.data.view(-1)[place] = before + shift
            with torch.no_grad():
                sides.append(float(value()))
        parameter.data.view(-1)[place] = before
        slopes.view(-1)[place] = (sides[0] - sides[1]) / (2 * step)
    return slopes


@pytest.mark.parametrize("levels", [None, 17])
@pytest.mark.parametrize("predicts", PARAMETRIZATIONS)
@pytest.mark.parametrize("name", [name for name in FOR_A_FIXED_VARIANCE if LOSSES[name].is_of_means])
def test_gradients_agree_with_finite_differences(name: str, predicts: str, levels: int | None) -> None:
    model = replace(denoiser(predicts=predicts), levels=levels)
    x_0, t, noise = batch()

    def value() -> Tensor:
        return LOSSES[name].per_image(model, x_0, t, noise).mean()

    parameters = list(model.denoiser.network.parameters())  # type: ignore[attr-defined]
    gradients = torch.autograd.grad(value(), parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        expected = finite_difference(value, parameter)
        # a step of 1e-6 leaves an error of about 1e-12 (curvature) + 1e-16 / 1e-6 (rounding) of the loss
        assert torch.allclose(gradient, expected, rtol=1e-6, atol=1e-7 * float(value().detach().abs()))


@pytest.mark.parametrize("levels", [None, 17])
def test_the_hybrid_teaches_the_mean_by_the_simple_part_and_the_variance_by_the_bound(
    levels: int | None,
) -> None:
    model = replace(denoiser(words=2), levels=levels)
    x_0, t, noise = batch()
    network = model.denoiser.network
    assert isinstance(network, Says)
    hybrid = Hybrid().per_image(model, x_0, t, noise).mean()
    gradient = torch.autograd.grad(hybrid, network.slope)[0]

    def simple() -> Tensor:
        return Simple().per_image(model, x_0, t, noise).mean()

    def bound() -> Tensor:
        return Bound().per_image(model, x_0, t, noise).mean()

    by_simple, by_bound = (finite_difference(part, network.slope) for part in (simple, bound))
    assert torch.allclose(gradient[0], by_simple[0], rtol=1e-5, atol=1e-9)  # the mean: no trace of the bound
    assert torch.allclose(gradient[1], 0.001 * by_bound[1], rtol=1e-5, atol=1e-9)  # the variance
    assert float(by_bound[0].abs().max()) > 1e-3  # which would have shown
    assert hybrid.item() == pytest.approx((simple() + 0.001 * bound()).item(), rel=1e-12)


def test_the_bound_as_a_loss_is_T_times_each_term() -> None:
    model = denoiser(words=2)
    x_0, t, noise = batch()
    x_t = q_marginal(model.path, x_0, t).reparametrize(noise)
    expected = step_term(model, model.predict(x_t, t), x_t, x_0, t)[1:].flatten(1).mean(1) * BITS * T
    assert torch.allclose(
        Bound().per_image(model, x_0, t, noise)[1:].double(), expected, rtol=1e-6
    )  # float32


@pytest.mark.parametrize("predicts", ["x_0", "v"])
@pytest.mark.parametrize("name", FOR_A_FIXED_VARIANCE)
def test_losses_are_finite_where_the_schedule_ends_in_pure_noise(name: str, predicts: str) -> None:
    model = denoiser(schedule=ZeroTerminalSNR(of=Linear(T=T)), predicts=predicts)
    x_0, _, noise = batch()
    t = torch.full((8,), float(T), dtype=torch.float64)
    value = LOSSES[name].per_image(model, x_0, t, noise)
    assert value.isfinite().all()
    parameters = list(model.denoiser.network.parameters())  # type: ignore[attr-defined]
    assert all(g.isfinite().all() for g in torch.autograd.grad(value.sum(), parameters))


def test_eps_is_refused_there_and_the_reason_said() -> None:
    with pytest.raises(SettingsError, match="division by zero"):
        denoiser(schedule=ZeroTerminalSNR(of=Linear(T=T)), predicts="eps")


def test_losses_and_variances_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(SettingsError, match="does not teach"):
        loss_for("simple", denoiser(words=2))
    with pytest.raises(SettingsError, match="fixed"):
        loss_for("hybrid", denoiser())
    assert loss_for("min-snr", denoiser(), gamma=3.0) == MinSNR(gamma=3.0)


def test_min_snr_warns_where_its_weight_at_T_is_zero() -> None:
    ends_in_noise = denoiser(schedule=ZeroTerminalSNR(of=Linear(T=T)))
    (warning,) = MinSNR().cautions(ends_in_noise)
    assert f"T = {T}" in warning
    assert MinSNR().cautions(denoiser()) == Simple().cautions(ends_in_noise) == ()


def test_min_snr_is_the_weight_of_its_paper() -> None:
    """min(SNR, gamma) / SNR for eps, / (SNR + 1) for v, times the error of the word (Hang et al. 2023, section 3.4)."""
    x_0, t, noise = batch()
    snr = model_snr(t)
    for predicts, divisor in (("eps", snr), ("x_0", torch.ones_like(snr)), ("v", snr + 1)):
        model = denoiser(predicts=predicts)
        expected = snr.clamp(max=5) / divisor * Simple().per_image(model, x_0, t, noise).double()
        assert torch.allclose(
            MinSNR().per_image(model, x_0, t, noise).double(), expected, rtol=1e-5
        )  # float32


@pytest.mark.parametrize("path", [Cosine(T=T), FlowMatching(T), EDM(T)], ids=type)
@pytest.mark.parametrize("predicts", ["x_0", "v", "edm"])  # eps is refused where a path ends in pure noise
def test_the_velocitys_loss_is_the_simple_loss_of_v_where_its_weight_is_not_held(
    path: Path, predicts: str
) -> None:
    """On the same guess of x_0; below b / a = 0.05 it is 400 times the squared error of x_0."""
    x_0, t, noise = batch()
    x_t = q_marginal(path, x_0, t).reparametrize(noise)
    guess = 0.7 * x_0 + 0.1
    a, b = path.at(t)
    eps = (x_t - per_sample(a, x_t) * guess) / per_sample(b, x_t)
    losses = {}
    for name, loss in (("v", Simple()), ("x_0", Simple()), (predicts, Velocity())):
        said = PARAMETRIZATIONS[name].target(guess, eps, a, b)
        model = Model(Exactly(lambda *_, said=said: said, path, name), "fixed-large")
        losses[type(loss), name] = loss.per_image(model, x_0, t, noise)
    held = 1 + (a / b).square() > 400
    expected = torch.where(held, 400 * losses[Simple, "x_0"], losses[Simple, "v"])
    assert torch.allclose(losses[Velocity, predicts], expected, rtol=1e-5)  # eps of x_t by a cancellation
    assert held.any()
    assert not held.all()


def model_snr(t: Tensor) -> Tensor:
    alpha_bar = Linear(T=T).alpha_bar[t.long()]
    return alpha_bar / (1 - alpha_bar)
