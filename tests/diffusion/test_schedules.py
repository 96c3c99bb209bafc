"""Every schedule keeps the contract; the known ones have their known values."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kakusan.diffusion.schedules import (
    BetweenEnds,
    Cosine,
    Given,
    Linear,
    NoiseSchedule,
    ScaledLinear,
    Sigmoid,
    SigmoidBetas,
    ZeroTerminalSNR,
)
from kakusan.diffusion.tables import SCHEDULES
from kakusan.errors import SettingsError

any_schedule = st.builds(
    lambda kind, T: SCHEDULES[kind](T=T), st.sampled_from(sorted(SCHEDULES)), st.integers(1, 4000)
)


@given(any_schedule)
def test_tables_have_T_plus_1_float64_entries_and_begin_with_the_data(schedule: NoiseSchedule) -> None:
    for table in (schedule.beta, schedule.alpha, schedule.alpha_bar):
        assert table.shape == (schedule.T + 1,)
        assert table.dtype == torch.float64
    assert schedule.alpha_bar[0] == 1
    assert schedule.beta[0] == 0


@given(any_schedule)
def test_the_signal_only_falls(schedule: NoiseSchedule) -> None:
    assert (schedule.alpha_bar.diff() < 0).all()
    assert schedule.alpha_bar[-1] >= 0
    assert ((schedule.beta[1:] > 0) & (schedule.beta[1:] <= 1)).all()


@given(any_schedule, st.data())
def test_between_whole_times_the_signal_lies_between_its_neighbours(
    schedule: NoiseSchedule, data: st.DataObject
) -> None:
    t = data.draw(st.floats(0, schedule.T))
    low = min(int(t), schedule.T - 1)
    value = float(schedule.alpha_bar_at(torch.tensor([t], dtype=torch.float64)))
    slack = 1e-14  # one rounding of a logit and back
    assert schedule.alpha_bar[low + 1] - slack <= value <= schedule.alpha_bar[low] + slack


@pytest.mark.parametrize("kind", [Linear, ScaledLinear, SigmoidBetas])
def test_the_sole_step_of_a_schedule_between_ends_is_its_last(kind: type[BetweenEnds]) -> None:
    assert float(kind(T=1).alpha_bar[-1]) < 0.004  # 1 - 0.999, and for the sigmoid 0.25 % more
    assert float(kind(T=1, beta_1=0.1).beta[-1]) == pytest.approx(0.1, abs=1e-15)
    assert float(kind(T=1, beta_1=0.1, beta_T=0.4).beta[-1]) == pytest.approx(0.4, abs=0.3 * 0.0025)


def test_about_as_much_noise_is_added_in_all_from_50_steps_on() -> None:
    nats = [-float(Linear(T=T).alpha_bar[-1].log()) for T in (50, 100, 1000, 4000)]
    assert max(nats) < 1.2 * min(nats)


def test_sigmoid_betas_are_those_of_geodiff() -> None:
    schedule = SigmoidBetas(T=3, beta_1=0.1, beta_T=0.5)
    foot = 1 / (1 + math.exp(6))
    assert schedule.beta[1:].tolist() == pytest.approx([0.1 + 0.4 * foot, 0.3, 0.5 - 0.4 * foot], abs=1e-15)
    assert SigmoidBetas().ends == (1e-4, 0.02)
    assert SigmoidBetas(T=100).ends == pytest.approx((1e-3, 0.2), rel=1e-15)


def test_given_betas_are_taken_as_they_are() -> None:
    schedule = Given((0.1, 0.25, 0.5))
    assert schedule.T == 3
    assert schedule.beta.tolist() == [0.0, 0.1, 0.25, 0.5]
    assert ZeroTerminalSNR(of=schedule).alpha_bar[-1] == 0
    for wrong in ((), (0.1, 0.0), (0.1, 1.5), (1.0, 0.5), (0.1, math.nan)):
        with pytest.raises(SettingsError):
            Given(wrong)


def test_at_whole_times_the_table_is_given_to_the_bit() -> None:
    schedule = Linear()
    assert torch.equal(schedule.alpha_bar_at(torch.arange(1001).double()), schedule.alpha_bar)


def test_between_whole_times_the_log_snr_is_a_straight_line() -> None:
    schedule = Linear()
    middle = torch.logit(schedule.alpha_bar_at(torch.tensor([499.5], dtype=torch.float64)))
    assert float(middle) == pytest.approx(float(schedule.log_snr[499:501].mean()), abs=1e-12)


def test_linear_is_the_schedule_of_ho_et_al() -> None:
    schedule = Linear(T=1000)
    assert float(schedule.beta[1]) == 1e-4
    assert float(schedule.beta[1000]) == 0.02
    assert math.sqrt(float(schedule.alpha_bar[1000])) == pytest.approx(0.00635, abs=5e-6)  # as published


def test_fewer_steps_add_as_much_noise_unless_the_ends_are_given() -> None:
    assert float(Linear(T=100).beta[-1]) == pytest.approx(0.2)
    assert float(Linear(T=10).beta[-1]) == 0.999
    assert float(Linear(T=100, beta_T=0.02).beta[-1]) == 0.02


def test_scaled_linear_is_linear_in_the_root() -> None:
    root = ScaledLinear(T=7, beta_1=0.01, beta_T=0.09).beta[1:].sqrt()
    assert torch.allclose(root, torch.linspace(0.1, 0.3, 7, dtype=torch.float64), atol=1e-15)


def test_cosine_follows_its_formula_up_to_the_cap() -> None:
    schedule = Cosine(T=1000)
    u = torch.arange(1001).double() / 1000
    f = torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
    assert torch.allclose(schedule.alpha_bar[:990], (f / f[0])[:990], atol=1e-13)
    assert float(schedule.beta[-1]) == 0.999


def test_sigmoid_is_symmetric_in_time() -> None:
    alpha_bar = Sigmoid(T=1000).alpha_bar
    assert torch.allclose(
        alpha_bar[1:999] + alpha_bar.flip(0)[1:999], torch.ones(998).double(), atol=2e-3
    )  # the cap


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Linear(T=0), "T must be"),
        (lambda: Linear(T=-3), "T must be"),
        (lambda: Linear(T=10, beta_1=0.0), "beta_1 is 0"),
        (lambda: Linear(T=10, beta_T=1.5), "at most 1"),
        (lambda: Linear(T=10, beta_1=-0.1), "beta"),
        (lambda: Linear(T=10, beta_T=math.nan), "beta"),
        (lambda: ScaledLinear(T=10, beta_1=-0.1), "beta"),
        (lambda: Sigmoid(start=1.0, end=1.0), "start < end"),
        (lambda: Cosine(beta_max=0.0), "beta_max"),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(make: object, word: str) -> None:
    with pytest.raises(SettingsError, match=word):
        make()  # type: ignore[operator]
