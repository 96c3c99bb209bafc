"""The identities of the forward process: (1) composed is (3), Bayes' rule (6) gives (7), which is (8) and (13)."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kakusan.diffusion.forward import (
    posterior_mean_from_eps,
    posterior_variance,
    q_marginal,
    q_posterior,
    q_step,
    step_variance,
)
from kakusan.diffusion.gaussians import Gaussian
from kakusan.diffusion.model import Model, p_step
from kakusan.diffusion.oracles import MixtureOracle
from kakusan.diffusion.schedules import Linear, NoiseSchedule
from kakusan.diffusion.tables import SCHEDULES
from kakusan.samplers import Ancestral, State


def image(value: float) -> Tensor:
    return torch.full((1, 1, 1, 1), value, dtype=torch.float64)


def time(t: float) -> Tensor:
    return torch.tensor([t], dtype=torch.float64)


schedules_and_times = st.tuples(st.sampled_from(sorted(SCHEDULES)), st.integers(2, 4000), st.data())


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("T", [1, 2, 50, 1000])
def test_steps_of_equation_1_compose_to_equation_3(name: str, T: int) -> None:
    schedule = SCHEDULES[name](T=T)
    mean, variance = image(1.7), torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    for t in range(1, T + 1):
        step = q_step(schedule, mean, time(t))
        variance = (1 - schedule.beta[t]) * variance + step.variance
        mean = step.mean
        jump = q_marginal(schedule, image(1.7), time(t))
        assert float((mean - jump.mean).abs()) < 1e-12
        assert float((variance - jump.variance).abs()) < 1e-12


@pytest.mark.parametrize("t", [0.0, 0.5, 1.9, 11.0, -1.0])
def test_a_step_of_noise_ends_at_a_whole_time(t: float) -> None:
    with pytest.raises(ValueError, match="whole time"):
        q_step(Linear(T=10), torch.zeros(1, 1, 1, 1), time(t))


def _log(law: Gaussian, x: Tensor) -> float:
    return float(law.log_density(x))


@given(st.sampled_from(sorted(SCHEDULES)), st.integers(2, 4000), st.data())
def test_bayes_rule_holds_at_every_point(name: str, T: int, data: st.DataObject) -> None:
    schedule = SCHEDULES[name](T=T)
    t = data.draw(st.integers(2, T))
    x_0, x_s, x_t = (image(data.draw(st.floats(-3, 3))) for _ in range(3))
    posterior = q_posterior(schedule, x_t, x_0, time(t), time(t - 1))
    left = _log(posterior, x_s) + _log(q_marginal(schedule, x_0, time(t)), x_t)
    right = _log(q_step(schedule, x_s, time(t)), x_t) + _log(q_marginal(schedule, x_0, time(t - 1)), x_s)
    rounding = 100 * torch.finfo(torch.float64).eps / float(1 - schedule.alpha_bar[t - 1])  # of 1 - alpha_bar
    assert left == pytest.approx(right, rel=max(1e-9, rounding), abs=1e-9)  # narrow laws reach 1e7 nats


@given(st.sampled_from(sorted(SCHEDULES)), st.integers(3, 1000), st.data())
def test_the_posterior_of_a_longer_step_is_that_of_its_parts(name: str, T: int, data: st.DataObject) -> None:
    """q(x_s | x_t, x_0) must be q(x_s | x_m, x_0) averaged over q(x_m | x_t, x_0), for s < m < t."""
    schedule = SCHEDULES[name](T=T)
    s, m, t = sorted(data.draw(st.lists(st.integers(1, T), min_size=3, max_size=3, unique=True)))
    x_0, x_t = image(0.8), image(-0.3)
    far = q_posterior(schedule, x_t, x_0, time(t), time(m))
    near = q_posterior(schedule, far.mean, x_0, time(m), time(s))
    slope = q_posterior(schedule, image(1.0), image(0.0), time(m), time(s)).mean
    direct = q_posterior(schedule, x_t, x_0, time(t), time(s))
    assert float(near.mean) == pytest.approx(float(direct.mean), abs=1e-10)
    assert float(near.variance + slope.square() * far.variance) == pytest.approx(
        float(direct.variance), abs=1e-10
    )


@given(st.sampled_from(sorted(SCHEDULES)), st.integers(1, 1000), st.data())
def test_the_forms_7_and_8_of_the_mean_agree(name: str, T: int, data: st.DataObject) -> None:
    schedule: NoiseSchedule = SCHEDULES[name](T=T)
    t = data.draw(st.integers(1, T))
    s = data.draw(st.integers(0, t - 1))
    x_0, eps = image(data.draw(st.floats(-1, 1))), image(data.draw(st.floats(-3, 3)))
    a, b = schedule.at(time(t))
    x_t = a * x_0 + b * eps
    by_x_0 = q_posterior(schedule, x_t, x_0, time(t), time(s)).mean
    by_eps = posterior_mean_from_eps(schedule, x_t, eps, time(t), time(s))
    # (8) divides by sqrt(alpha), which may be as small as a, and alpha = 1 - beta is rounded by 1e-16
    tolerance = 1e-11 / float(a) + 1e-15 / float(a) ** 2
    assert float((by_x_0 - by_eps).abs()) < tolerance


@given(st.sampled_from(sorted(SCHEDULES)), st.integers(1, 4000), st.floats(-4, 4), st.data())
def test_a_step_of_the_sampler_is_13_and_its_mean_is_7_and_8_at_the_guess(
    name: str, T: int, value: float, data: st.DataObject
) -> None:
    schedule, x_t = SCHEDULES[name](T=T), image(value)
    t = data.draw(st.integers(1, T))
    to = time(t), time(t - 1)
    means = torch.tensor([-0.8, 0.5], dtype=torch.float64).view(2, 1, 1, 1)
    oracle = MixtureOracle(schedule, torch.tensor([1.0, 2.0]), means, torch.tensor([0.1, 0.3]))
    guess = oracle.predict(x_t, to[0])
    by_x_0 = q_posterior(schedule, x_t, guess.x_0, *to).mean
    by_eps = posterior_mean_from_eps(schedule, x_t, guess.eps, *to)
    beta, alpha_bar = float(schedule.beta[t]), float(schedule.alpha_bar[t])
    written = (value - beta / math.sqrt(1 - alpha_bar) * float(guess.eps)) / math.sqrt(1 - beta)
    still = Ancestral().step(Model(oracle), State(x_t), *to, lambda _=0: image(0.0)).x
    moved = Ancestral().step(Model(oracle), State(x_t), *to, lambda _=0: image(1.5)).x
    # (8) divides a difference of numbers below 10, each right to 1e-15 / sqrt(1 - alpha_bar), by sqrt(alpha)
    tolerance = 1e-13 / math.sqrt((1 - beta) * (1 - alpha_bar))
    for mean in (by_x_0, by_eps, p_step(oracle, x_t, *to).mean, still):
        assert float(mean) == pytest.approx(written, abs=tolerance)
    noise = math.sqrt(beta) * 1.5 if t > 1 else 0.0  # z = 0 at t = 1
    assert float(moved) == pytest.approx(written + noise, abs=tolerance + 1e-12)


def test_one_step_variances_are_beta_and_beta_tilde() -> None:
    schedule = Linear()
    t = torch.arange(2, 1001).double()
    assert torch.allclose(step_variance(schedule, t, t - 1).flatten(), schedule.beta[2:], rtol=1e-11, atol=0)
    alpha_bar = schedule.alpha_bar
    expected = (1 - alpha_bar[1:-1]) / (1 - alpha_bar[2:]) * schedule.beta[2:]
    assert torch.allclose(posterior_variance(schedule, t, t - 1).flatten(), expected, rtol=1e-11, atol=0)


def test_at_the_data_the_posterior_is_the_data() -> None:
    law = q_posterior(Linear(), image(0.5), image(-0.2), time(1), time(0))
    assert float(law.mean) == pytest.approx(-0.2, abs=1e-12)
    assert float(law.variance) == 0


def test_small_times_keep_their_noise_in_float32() -> None:
    """Coefficients in half precision would round alpha_bar to 1 here, and no noise would be added."""
    x_0 = torch.zeros(1000, 1, 1, 1)
    noise = torch.ones(1000, 1, 1, 1)
    schedule = Linear()
    x_t = q_marginal(schedule, x_0, torch.arange(1, 1001).double()).reparametrize(noise)
    expected = (1 - schedule.alpha_bar[1:]).sqrt()
    assert torch.allclose(x_t.flatten().double(), expected, rtol=1e-7, atol=0)  # one float32 rounding


def test_times_between_whole_numbers_are_welcome() -> None:
    law = q_posterior(Linear(), image(0.5), image(-0.2), time(10.5), time(3.25))
    assert float(law.variance) > 0
