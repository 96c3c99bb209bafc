"""Forecasts: an interpolation of the table that ships, within what was measured."""

import math
from dataclasses import replace

import pytest

from kakusan.config.loading import settings_for, with_values
from kakusan.training.forecast import (
    Copying,
    Left,
    Trial,
    copying_in_words,
    in_short,
    left_after,
    loss_in_words,
    obstacle,
    trials,
)

ONE = Trial("one", 1000, 1, 8, 32, 1, 1, 50, 100, 0.4, 0.4, 1.0, 0.4, 100)


def trial(data: str, steps: int, loss: float, parameters: int = 1) -> Trial:
    """One whose held-out loss fell to its end."""
    changes = {"held_out_loss": loss, "lowest_loss": loss, "parameters": parameters}
    return replace(ONE, data=data, steps=steps, lowest_step=steps, **changes)  # type: ignore[arg-type]


TABLE = (
    ONE,
    trial("one", 1600, 0.1),
    trial("one", 1600, 0.05, parameters=2),  # a larger network
    trial("other", 100, 0.8),
    trial("other", 1600, 0.4),
    replace(ONE, images=100, steps=1600, held_out_loss=0.9, lowest_loss=0.3, lowest_step=40),
)
SETTLED = {
    "training.optimizer": "adamw",
    "data.kind": "image",
    "network.kind": "unet",
    "process.schedule": "cosine",
    "process.predicts": "v",
    "training.loss": "simple",
    "training.steps": 400,
    "training.batch_size": 50,
    "training.learning_rate": 3e-3,
    "network.width": 32,
}
RECORD = {"count": 1100, "held_out": list(range(100)), "shape": [1, 8, 8], "units": {"kind": "levels"}}


def test_the_table_that_ships_is_sane() -> None:
    for trial in trials():
        assert 0 < trial.lowest_loss <= trial.held_out_loss
        assert 0 < trial.lowest_step <= trial.steps
        assert 0 < trial.baseline_loss < 1
    assert len({trial.data for trial in trials()}) >= 3
    assert any(trial.turned_up for trial in trials())


def test_between_two_lengths_a_share_is_a_power_of_the_steps() -> None:
    left = left_after(400, "new", TABLE)  # halfway in log steps
    assert left is not None
    one, other = math.sqrt(0.4 * 0.1), math.sqrt(0.8 * 0.4)
    assert (left.low, left.high) == pytest.approx((one, other))
    assert left.expected == pytest.approx(math.sqrt(one * other))


@pytest.mark.parametrize(("steps", "low", "high"), [(100, 0.4, 0.8), (1600, 0.1, 0.4)])
def test_at_a_length_of_the_table_a_share_is_the_measured_one(steps: int, low: float, high: float) -> None:
    left = left_after(steps, "new", TABLE)
    assert left is not None
    assert (left.low, left.high) == pytest.approx((low, high))
    assert not left.is_bound


def test_data_of_the_table_are_expected_to_do_as_they_did() -> None:
    left = left_after(1600, "other", TABLE)
    assert left is not None
    assert left.expected == left.high == pytest.approx(0.4)


def test_nothing_is_extrapolated() -> None:
    assert left_after(99, "new", TABLE) is None
    assert left_after(1601, "new", TABLE) == replace(
        left_after(1600, "new", TABLE) or Left(0, 0, 0), is_bound=True
    )


def test_copying_comes_after_as_many_epochs_whatever_the_number_of_images() -> None:
    copying = Copying.of(1000, 50, TABLE)
    assert copying.epochs == (20.0, 20.0)  # 40 steps of 50 of 100 images
    assert copying.steps == (400, 400)
    assert Copying.of(2000, 50, TABLE).steps == (800, 800)


def test_words_say_before_after_or_in_between() -> None:
    copying = Copying((1, 2), (1_000, 2_021))
    assert copying_in_words(copying, 999) == "copying hardly before step 1,000 to 2,000"
    assert copying_in_words(copying, 1_500) == "copying perhaps, from step 1,000 to 2,000 on"
    assert copying_in_words(copying, 2_022) == "copying from step 1,000 to 2,000 on"
    assert [copying.where(steps) for steps in (1_000, 1_001)] == ["", "at its lowest "]
    assert (
        loss_in_words(Left(0.25, 0.5, 0.3))
        == "25 to 50 % of what knowing mean and power spectrum alone gives"
    )
    assert loss_in_words(Left(0.25, 0.5, 0.3, is_bound=True)).startswith("50 % or less of what knowing")


@pytest.mark.parametrize(
    ("values", "record", "words"),
    [
        ({}, {}, ""),
        ({"data.kind": "signal"}, {}, "only U-Nets"),
        ({"process.predicts": "eps"}, {}, "only the loss simple of v"),
        ({"training.loss": "weighted"}, {}, "only the loss simple of v"),
        ({"training.optimizer": "muon"}, {}, "by AdamW"),
        ({}, {"masked": True}, "missing values"),
        ({}, {"pairs": {}}, "given images"),
        ({}, {"vectors": {}}, "given images or numbers"),
        ({}, {"weights_from": {}}, "trained weights"),
        ({}, {"held_out": []}, "nothing is held out"),
        ({}, {"units": {"kind": "real"}}, "not of real numbers"),
        ({}, {"shape": [1, 128, 128]}, "up to 64 pixels a side"),
        ({"training.learning_rate": 1e-6}, {}, "only rates near the automatic one"),
    ],
)
def test_only_what_is_like_the_table_is_forecast(
    values: dict[str, object], record: dict[str, object], words: str
) -> None:
    settings = with_values(settings_for("digits"), {**SETTLED, **values})
    found = obstacle(settings, {**RECORD, **record})
    assert words in found
    assert bool(words) == bool(found)


def test_a_training_says_it_in_one_line() -> None:
    settings = with_values(settings_for("digits"), SETTLED)
    line = in_short(settings, RECORD)
    assert line.startswith("forecast: each of the images is seen 20 times; held-out loss ")
    assert "; copying hardly before step " in line
    assert "\n" not in line
