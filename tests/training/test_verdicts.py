"""No verdict without evidence: what figures allow to say of a training."""

import math
from typing import Any

import pytest

from kakusan.training.verdicts import (
    Gap,
    Trained,
    Verdict,
    gap_of_rates,
    hardly_learned,
    loss_gap,
    verdict_on,
)


def trained(*lines: dict[str, Any], **changes: Any) -> Trained:
    usual: dict[str, Any] = {
        "step": 1000,
        "warmup": 100,
        "batch_size": 64,
        "predicts": "eps",
        "loss": "simple",
    }
    return Trained(lines=lines, **{**usual, **changes})


def measured(loss: float, baseline: float | None = None, step: int = 1000) -> dict[str, Any]:
    line = {"step": step, "training_loss": loss, "held_out_loss": loss}
    return line if baseline is None else {**line, "baseline_loss": baseline}


@pytest.mark.parametrize(
    ("value", "error", "degrees", "verdict"),
    [
        (0.3, 0.05, 400, Verdict.SIGN),
        (0.05, 0.01, 400, Verdict.SLIGHT_SIGN),
        (0.01, 0.02, 400, Verdict.NO_SIGN),
        (-0.2, 0.02, 400, Verdict.NO_SIGN),
        (0.01, 0.08, 400, Verdict.TOO_FEW),
        (-0.0364, 0.8404, 8, Verdict.TOO_FEW),
        (0.3, 0.05, 1, Verdict.TOO_FEW),  # two pairs: 12.7 standard errors
        (0.3, math.nan, 0, Verdict.TOO_FEW),
        (0.3, 0.0, 0, Verdict.TOO_FEW),
    ],
)
def test_a_gap_counts_beyond_its_interval_and_its_absence_only_where_it_would_have_shown(
    value: float, error: float, degrees: float, verdict: Verdict
) -> None:
    assert verdict_on(Gap(value, error, degrees, matters=0.1)) is verdict


def test_a_doubtful_past_takes_back_the_good_verdict_alone() -> None:
    assert verdict_on(Gap(0.0, 0.01, 400, 0.1, "imported")) is Verdict.UNKNOWN
    assert verdict_on(Gap(0.3, 0.01, 400, 0.1, "imported")) is Verdict.SIGN
    assert verdict_on(Gap(0.0, 1.0, 400, 0.1, "imported")) is Verdict.TOO_FEW


@pytest.mark.parametrize(
    ("samples", "held_out", "counts", "verdict"),
    [
        (0.0, 0.0, (64, 64), Verdict.NO_SIGN),
        (0.0, 0.0, (64, 4), Verdict.TOO_FEW),
        (0.0, 0.0, (64, 0), Verdict.TOO_FEW),
        (0.9, 0.0, (64, 4), Verdict.SIGN),
        (0.5, 0.01, (240, 240), Verdict.SIGN),
    ],
)
def test_copy_rates_of_few_images_are_no_evidence(
    samples: float, held_out: float, counts: tuple[int, int], verdict: Verdict
) -> None:
    assert verdict_on(gap_of_rates(samples, held_out, *counts)) is verdict


@pytest.mark.parametrize(
    ("loss", "changes", "learned"),
    [
        (measured(0.07, 0.23), {}, True),
        (measured(0.405, 0.23), {}, False),
        (measured(0.24, 0.23), {}, False),
        (measured(0.22, 0.23), {}, True),
        (measured(0.22, 0.23), {"warmup": 2000}, True),
        (measured(0.24, 0.23), {"warmup": 2000}, False),
        (measured(0.07, 0.23), {"warmup": 2000}, True),  # the rate still rises, but look what it has learned
        (measured(0.6, 0.92), {"predicts": "v", "warmup": 2000, "continued": True}, True),  # fine-tuned kanji
        (measured(-2.0, -1.0), {"loss": "bound"}, True),  # densities
        (measured(-1.0, -2.0), {"loss": "bound"}, False),
        (measured(0.97), {}, False),  # an older version's line: predicting 0 costs 1
        (measured(0.97), {"predicts": "v"}, True),
        (measured(0.5), {"step": 20}, False),  # 1,280 images
        (measured(0.5), {"step": 20, "continued": True}, True),
        ({}, {"step": 60, "warmup": 500}, False),
        ({}, {"step": 0}, True),  # imported, or nothing done
    ],
)
def test_what_has_hardly_learned_is_known_by_its_loss(
    loss: dict[str, Any], changes: dict[str, Any], *, learned: bool
) -> None:
    assert (hardly_learned(trained(loss, **changes)) == "") == learned


def test_the_sentence_names_the_evidence() -> None:
    words = hardly_learned(trained(measured(0.97, 0.23, step=60), step=60, warmup=500))
    assert words == (
        "Has hardly learned yet: 60 steps, loss 0.97, where knowing only mean and power spectrum of the data"
        " gives 0.23, the learning rate was still warming up (over 500 steps)."
        " Samples look like noise until it has trained for longer."
    )
    assert "1 step," in hardly_learned(trained(measured(0.97, 0.23, step=1), step=1))


def test_a_measurement_of_long_ago_is_no_evidence() -> None:
    assert hardly_learned(trained(measured(0.97, 0.23, step=100), step=5000)) == ""


def test_the_gap_of_losses_is_told_in_per_cent_with_its_error() -> None:
    line = {
        "step": 9,
        "training_loss": 0.5,
        "held_out_loss": 0.51,
        "gap_standard_error": 0.005,
        "compared_images": 512,
    }
    gap = loss_gap([{"step": 4, "training_loss": 9.0, "held_out_loss": 9.0}, line, {"step": 9, "loss": 0.5}])
    assert gap is not None
    assert gap.words == "2.0 ± 1.0 %"
    assert gap.images == 512
    assert gap.verdict is Verdict.SLIGHT_SIGN
    density = loss_gap([{**line, "training_loss": -1.0, "held_out_loss": -1.01}])
    assert density is not None
    assert density.words == "-0.0100 ± 0.0050"


def test_lines_of_older_versions_have_a_gap_and_no_verdict() -> None:
    gap = loss_gap([{"step": 4, "training_loss": 0.5, "held_out_loss": 0.4}])
    assert gap is not None
    assert (gap.words, gap.verdict) == ("-20.0 %", None)
    assert (
        loss_gap([{"step": 4, "loss": 0.5}, {"step": 4, "training_loss": None, "held_out_loss": 1}]) is None
    )
    single = loss_gap([{"training_loss": 0.5, "held_out_loss": 0.4, "compared_images": 1}])
    assert single is not None
    assert single.verdict is Verdict.TOO_FEW
