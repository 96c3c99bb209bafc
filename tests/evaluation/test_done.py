"""Is it done: trends that are known exactly, and the words for them."""

import math
from typing import Any

import numpy as np
import pytest

from kakusan.evaluation.diagnosis.copies import does_copy, growth_of
from kakusan.evaluation.diagnosis.done import HELD_OUT, Course, in_time, is_done, trend_of
from kakusan.evaluation.diagnosis.finding import Health
from kakusan.training.verdicts import Copies, loss_gap

STEPS = range(250, 2001, 250)


def lines(
    a: float, b: float, *, training: float | None = None, noise: float = 0.0, seed: int = 0
) -> list[dict[str, Any]]:
    """Held-out losses a + b log2(step), and training losses that fall with a slope of their own."""
    rng = np.random.default_rng(seed)
    return [
        {
            "step": step,
            "held_out_loss": a + b * math.log2(step) + noise * rng.normal(),
            "training_loss": a + (b if training is None else training) * math.log2(step),
            "gap_standard_error": 0.001,
            "compared_images": 512,
            "images_per_second": 1000.0,
        }
        for step in STEPS
    ]


def course(figures: list[dict[str, Any]], **changes: Any) -> Course:
    usual: dict[str, Any] = {"step": 2000, "steps": 2000, "batch_size": 64, "images": 1280, "run": "runs/x"}
    return Course(lines=figures, **{**usual, **changes})


def test_a_loss_that_is_a_line_over_log2_of_the_step_gives_that_line_and_its_continuation() -> None:
    found = trend_of(lines(0.5, -0.01), HELD_OUT)
    assert found is not None
    assert found.line.slope == pytest.approx(-0.01, abs=1e-12)
    assert (found.first, found.last, found.line.points) == (1000, 2000, 5)
    answer = is_done(course(lines(0.5, -0.01)))
    last = 0.5 - 0.01 * math.log2(2000)
    assert answer.figures["forecast"] == pytest.approx(0.5 - 0.01 * math.log2(4000), abs=1e-12)
    assert answer.figures["fall_in_per_cent"] == pytest.approx(100 * 0.01 / last)
    assert answer.figures["minutes"] == pytest.approx(2000 * 64 / 1000 / 60)
    assert (answer.health, answer.answer) == (Health.MORE, "not yet")
    assert "falls 2.6 % a doubling of the steps (± 0.0): another 2 minutes" in answer.text
    assert "would bring about 0.3803 from 0.3903" in answer.text
    assert "kakusan resume runs/x --steps 4000" in answer.text


def test_noise_does_not_make_a_trend_and_a_small_one_is_none() -> None:
    answers = {is_done(course(lines(0.3, 0.0, noise=0.0005, seed=seed))).answer for seed in range(20)}
    assert answers <= {"yes", "too few to tell"}
    assert is_done(course(lines(0.3, -0.0002))).answer == "yes"
    flat = is_done(course(lines(0.3, 0.0))).text
    assert flat == "The held-out loss no longer falls (0.0 ± 0.0 % a doubling of the steps)."
    assert is_done(course(lines(0.3, 0.0, noise=0.02, seed=3))).answer == "too few to tell"


def test_a_held_out_loss_that_rises_while_the_training_loss_falls_is_overfitting_since_its_minimum() -> None:
    figures = lines(0.1, 0.02, training=-0.01)
    figures[0]["held_out_loss"] = 0.5
    answer = is_done(course(figures))
    assert (answer.health, answer.answer) == (Health.FAULT, "past it")
    assert "since step 500, while the training loss falls: overfitting" in answer.text
    copies = does_copy(course(figures), None, None)
    assert "the held-out loss was lowest after 25 (step 500)" in copies.text
    assert "twice the images would bear twice the steps" in copies.text


def test_two_rising_held_out_losses_and_a_gap_are_overfitting_and_without_the_gap_they_may_be_chance() -> (
    None
):
    rising = lines(0.1, 0.02, training=-0.01)[3::4]
    assert [line["step"] for line in rising] == [1000, 2000]
    assert "overfitting" in is_done(course(rising)).text
    for line in rising:
        line["gap_standard_error"] = 1.0
    assert is_done(course(rising)).answer == "too few to tell"


def test_where_both_losses_rise_the_training_goes_wrong() -> None:
    assert "the training goes wrong" in is_done(course(lines(0.1, 0.02))).text


def test_few_held_out_losses_say_how_steep_it_is_and_those_of_the_batches_whether_it_is_chance() -> None:
    few = [{"step": step, "held_out_loss": 0.5 - 0.01 * math.log2(step)} for step in (400, 800, 1200)]
    batches = [{"step": step, "loss": 0.6 - 0.02 * math.log2(step)} for step in range(20, 1201, 20)]
    assert is_done(course(few, step=1200)).answer == "too few to tell"
    answer = is_done(course([*few, *batches], step=1200, steps=1200))
    assert answer.answer == "not yet"
    assert answer.figures["slope_per_doubling"] == pytest.approx(-0.01)
    unmeasured = is_done(course(batches, step=1200, steps=1200))
    assert unmeasured.figures["loss"] == "loss"
    assert is_done(course([])).answer == "not known"


def test_losses_below_0_have_no_per_cent() -> None:
    answer = is_done(course(lines(-1.0, -0.1)))
    assert "falls 0.1000 a doubling" in answer.text
    assert "%" not in answer.text.partition(":")[0]


def test_what_a_falling_rate_does_to_the_forecast_is_said() -> None:
    figures = lines(0.5, -0.01)
    assert "take it as the most to expect" in is_done(course(figures, decay="linear")).text
    assert "take it as" not in is_done(course(figures, decay="constant")).text
    assert "stands at step 2,000 of 9,000" in is_done(course(figures, decay="linear", steps=9000)).text


def test_a_loss_that_falls_steeply_is_no_line_yet() -> None:
    answer = is_done(course(lines(5.0, -0.42)))
    assert answer.answer == "not yet"
    assert "too early for a forecast" in answer.text
    assert "forecast" not in answer.figures
    assert "take it as" not in is_done(course(lines(5.0, -0.42), decay="linear")).text


def test_lines_of_other_hands_are_no_trouble() -> None:
    odd: list[dict[str, Any]] = [
        {"step": 0, "held_out_loss": 1.0},
        {"step": 5, "held_out_loss": None},
        {"held_out_loss": 3.0},
        {"step": 7, "held_out_loss": 0.5},
        {"step": 7, "held_out_loss": 0.4},
    ]
    assert is_done(course(odd)).answer == "not known"


def test_a_gap_that_grows_is_carried_on_over_the_epochs_and_no_further_than_ten_times() -> None:
    figures = lines(0.8, -0.04)  # both fall, training losses the faster
    for line in figures:
        line["held_out_loss"] = line["training_loss"] * (1 + 0.0004 * line["step"] / 20)
    found = growth_of(course(figures))  # 0.04 % an epoch: 4 % after 100
    assert found is not None
    assert (found.slope, found.now) == pytest.approx((0.04, 4.0))
    assert found.epoch_of_sign == pytest.approx(250)
    assert "would reach 10 % after about 250 epochs" in does_copy(course(figures), None, None).text
    for line in figures:
        line["held_out_loss"] = line["training_loss"] * (1.04 + 1e-6 * line["step"] / 20)
    slow = growth_of(course(figures))
    assert slow is not None
    assert slow.epoch_of_sign is None
    assert "nothing in the losses shows that this grows" in does_copy(course(figures), None, None).text


@pytest.mark.parametrize(
    ("rate", "expected", "answer", "health"),
    [
        (0.6, 0.01, "yes", Health.FAULT),
        (0.01, 0.01, "no sign of it", Health.WELL),
        (0.01, None, "no sign of it", Health.WELL),  # the gap of the losses says so
    ],
)
def test_the_answer_about_copies_follows_the_rates(
    rate: float, expected: float | None, answer: str, health: Health
) -> None:
    figures = lines(0.4, 0.0)
    copies = Copies(rate, expected, 256, 256)
    found = does_copy(course(figures), copies, loss_gap(figures))
    assert (found.answer, found.health) == (answer, health)
    assert found.figures["epochs"] == pytest.approx(100)


def test_a_gap_of_the_losses_alone_is_a_beginning() -> None:
    figures = lines(0.4, 0.0, training=-0.01)
    assert does_copy(course(figures), Copies(0.0, 0.0, 256, 256), loss_gap(figures)).answer == "it begins to"
    assert (
        does_copy(course(figures), None, loss_gap(figures), "Has hardly learned yet.").answer
        == "not yet known"
    )


def test_times_are_said_in_the_unit_that_fits() -> None:
    assert [in_time(minutes) for minutes in (0.001, 0.1, 1.5, 15, 210)] == [
        "1 second",
        "6 seconds",
        "90 seconds",
        "15 minutes",
        "3.5 hours",
    ]


def test_a_training_that_ended_since_it_was_done_is_done_and_its_restored_weights_bend_no_trend() -> None:
    figures = lines(0.5, 0.01)  # rising: it is past its lowest
    end = {
        "step": 2000,
        "held_out_loss": 0.4,
        "lowest_step": 250,
        "planned_steps": 9000,
        "last_fall_step": 250,
    }
    found = is_done(course([*figures, end]))
    assert (found.health, found.answer) == (Health.WELL, "yes")
    assert "stopped at step 2,000 of 9,000" in found.text
    assert "those of step 250" in found.text
    assert trend_of([*figures, end], HELD_OUT) == trend_of(figures, HELD_OUT)
