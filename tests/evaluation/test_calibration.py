"""Calibration: exact posteriors are told calibrated, narrow ones are not; a run's own, its words and its record."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TINY
from torch import Tensor

from kakusan.cli import main
from kakusan.data.measuring import operator_named
from kakusan.data.units import Real
from kakusan.diffusion.oracles import GaussianOracle
from kakusan.diffusion.schedules import Cosine
from kakusan.errors import NumbersError, SettingsError
from kakusan.evaluation.calibration import Calibration, calibrate, judge
from kakusan.evaluation.calibration.judged import words_of_levels
from kakusan.evaluation.calibration.simulated import simulated
from kakusan.evaluation.options import CalibrationOptions
from kakusan.operators import Mask
from kakusan.posterior import MMPS, Gaussian, Measurement, Restoration, Restored, restore
from kakusan.posterior.noise import Poisson
from kakusan.run import Run
from kakusan.samplers import DDIM, DPMppSDE2M

QUICK = MMPS(sampler=DDIM(steps=4, eta=1.0), solver_steps=2)
FEW = CalibrationOptions(images=4, count=3, scored=1)


def normals(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.Generator(np.random.Philox(seed)).standard_normal(shape))


def test_moment_matching_is_calibrated_on_gaussian_data_and_half_its_spread_is_not() -> None:
    """100 steps are exact within 2 % of the deviation, which costs less than 1 % of coverage at 90 %."""
    n, shape = 300, (1, 4)
    root = normals(0, 4, 4)
    oracle = GaussianOracle(Cosine(T=1000), torch.zeros(shape), root @ root.T)
    x = (normals(1, n, 4) @ root.T).view(n, *shape)
    known = torch.tensor([True, False, True, False])
    measurement = Measurement(Mask(known), x + 0.5 * normals(2, n, *shape), 0.5, shape)
    method = MMPS(sampler=DPMppSDE2M(steps=100))
    samples = restore(oracle, measurement, method, Restoration(count=19, micro_batch=4096)).double()
    judged = judge(samples, x)
    coverage = judged.ranks.coverage(0.9)
    assert coverage.share.low - 0.01 <= 0.9 <= coverage.share.high + 0.01
    assert 0.88 <= coverage.share.value <= 0.92
    assert judged.words[0].endswith("the spread can be taken for an error bar")
    assert judged.scores.spread_skill.value == pytest.approx(1, abs=0.08)
    mean = samples.mean(1, keepdim=True)
    narrow = judge(mean + 0.5 * (samples - mean), x)
    assert "do not take the spread for an error bar" in narrow.words[0]
    wide = judge(mean + 2 * (samples - mean), x)
    assert "wider than the errors are" in wide.words[0]
    assert judged.scores.fair_crps.value < min(w.scores.fair_crps.value for w in (narrow, wide))


def test_words_know_that_few_images_say_little_and_that_nothing_says_nothing() -> None:
    few = judge(normals(0, 3, 19, 1), normals(1, 3, 1))
    assert few.words[0].endswith("too few images to say more")
    samples = normals(2, 20, 19, 50)
    fine = judge(samples, normals(3, 20, 50))
    assert fine.words[0].endswith("the spread can be taken for an error bar, as far as 20 images tell")
    same = judge(np.ones((3, 4, 2)), np.ones((3, 2)))
    assert same.words == ("there is nothing to judge: all samples and truths are equal, or missing",)
    assert math.isnan(same.psnr.value)
    json.dumps(same.as_json(), allow_nan=False)


def two_levels(seed: int, n: int, members: int, power: float = 1.0) -> tuple[Tensor, Tensor]:
    """100 values, 1 with uniform probabilities, whose odds have this power in the samples."""
    generator = np.random.Generator(np.random.Philox(seed))
    right = generator.random((n, 1, 100))
    pushed = right**power / (right**power + (1 - right) ** power)
    samples, truth = generator.random((n, members, 100)) < pushed, generator.random((n, 1, 100)) < right
    return torch.from_numpy(samples).double(), torch.from_numpy(truth)[:, 0].double()


def test_calibrated_samples_of_two_levels_get_a_yes() -> None:
    """In 94 % or more: of 5 % shares of levels surprise, of 1 % ranks. Three errors of a rate of 150 are 6 %."""
    judged = [judge(*two_levels(seed, 32, 19)) for seed in range(150)]
    yes = [each.words[0].endswith(": the spread can be taken for an error bar") for each in judged]
    assert yes == [each.holds for each in judged]
    assert 0.88 <= np.mean(yes) <= 0.995


@pytest.mark.parametrize("probability", [0.02, 0.1, 0.3])
def test_coins_get_a_no_whatever_the_truth(probability: float) -> None:
    generator = np.random.Generator(np.random.Philox(1))
    truth = generator.random((100, 400)) < probability
    judged = judge(generator.integers(0, 2, (100, 39, 400)), truth.astype(float))
    assert judged.words[0].startswith("levels of the truth are not as frequent as the samples say (p = ")
    assert judged.words[0].endswith(": do not take the spread for an error bar")
    assert judged.words[1].startswith("the truth is at 1 in ")
    assert "of the values where 40 to 60 % of samples are; of calibrated samples that is 5" in judged.words[1]
    assert not judged.holds


@pytest.mark.parametrize("power", [0.5, 2.0, 50.0])
def test_samples_of_two_levels_that_are_too_sure_or_not_sure_enough_get_a_no(power: float) -> None:
    judged = judge(*two_levels(2, 32, 39, power))
    assert judged.words[0].endswith(": do not take the spread for an error bar")
    assert not judged.holds


def test_words_on_few_levels_know_few_images_misfits_and_uneven_ranks() -> None:
    few = judge(*two_levels(3, 5, 19))
    assert few.words[0].endswith(": too few images to say more")
    fine = judge(*two_levels(3, 20, 19))
    assert fine.words[0].endswith(": the spread can be taken for an error bar, as far as 20 images tell")
    assert fine.verdict("but").endswith(": but")
    assert fine.reliability is not None
    uneven = words_of_levels(fine.reliability, 0.001)
    assert uneven.endswith("but its ranks are uneven (p = 0.001): do not take the spread for an error bar")


def test_the_table_and_the_record_have_shares_of_few_levels_and_no_others() -> None:
    levels = judge(*two_levels(4, 20, 19))
    names = [name for name, _, _ in levels.rows]
    assert [name for name in names if name.startswith("truth at 1 where ")] == [
        f"truth at 1 where {low} to {low + 20} % of samples are" for low in (0, 20, 40, 60, 80)
    ]
    assert "the same, chi-square" in names
    record = json.loads(json.dumps(levels.as_json(), allow_nan=False))["reliability"]
    assert record["levels"] == [0, 1]
    assert record["p"] > 0.05
    assert [each["members"] for each in record["bins"]] == [[k / 5, (k + 1) / 5] for k in range(5)]
    real = judge(normals(0, 20, 19, 30), normals(1, 20, 30))
    assert real.as_json()["reliability"] is None
    assert not any(name.startswith("truth") for name, _, _ in real.rows)
    three = judge(torch.randint(0, 3, (8, 9, 40)), torch.randint(0, 3, (8, 40)))
    assert any(name.startswith("truth above a level where") for name, _, _ in three.rows)


def test_psnr_of_a_mean_is_three_decibels_above_that_of_a_sample() -> None:
    """Truth and members of one law: errors of variance 1 + 1 / M and 2."""
    judged = judge(normals(0, 200, 39, 1, 16, 16), normals(1, 200, 1, 16, 16), peak=8.0)
    assert judged.psnr.value == pytest.approx(10 * math.log10(64 / (40 / 39)), abs=0.05)
    assert judged.psnr.value - judged.psnr_of_one.value == pytest.approx(10 * math.log10(78 / 40), abs=0.05)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = tmp_path_factory.mktemp("calibration") / "digits"
    flags = ["--steps", "6", "--data.labels", "--run", str(run), *TINY]
    assert main(["train", "digits", *flags]) == 0
    return Run.open(run)


@pytest.fixture(scope="module")
def done(digits: Run) -> Calibration:
    return calibrate(digits, half(), 1.0, QUICK, FEW)


def half(height: int = 8) -> Mask:
    known = torch.zeros(height, 8, dtype=torch.bool)
    known[:, 4:] = True
    return Mask(known)


def test_a_run_is_judged_on_held_out_images_in_the_units_of_its_data(digits: Run, done: Calibration) -> None:
    prepared = digits.prepared()
    assert done.samples.shape == (4, 3, 1, 8, 8)
    held_out = prepared.dataset.x_0(prepared.split.held_out)
    assert all((held_out == x).flatten(1).all(1).any() for x in done.truth)
    noise = (done.measurement.y - done.measurement.data(done.truth.double()))[..., 4:]
    assert noise.std() == pytest.approx(1.0, abs=0.25)
    assert done.judged.unit == "levels"
    assert done.about["calls_per_sample"] == 4
    assert done.about["backward_per_sample"] > 4
    assert len(done.steins) == 1
    assert (done.misfit.degrees == 32).all()


def test_the_same_seed_gives_the_same_figures_and_another_gives_others(
    digits: Run, done: Calibration
) -> None:
    told = [c.as_json() for c in (done, calibrate(digits, half(), 1.0, QUICK, FEW))]
    for record in told:
        del record["seconds_per_sample"]
    assert told[0] == told[1]
    other = calibrate(digits, half(), 1.0, QUICK, replace(FEW, seed=1, scored=0))
    assert (other.samples != done.samples).any()
    assert not other.steins


def test_the_record_is_plain_and_the_table_complete(done: Calibration) -> None:
    record = json.loads(json.dumps(done.as_json(), allow_nan=False))
    assert record["method"] == "mmps"
    assert record["sampler"]["steps"] == 4
    assert record["operator"] == "Mask"
    assert record["words"][0].startswith("intervals of 50 % hold the truth in ")  # 3 members reach no further
    names = [row[0] for row in done.rows]
    for name in (
        "coverage of 50 % intervals",
        "spread / error",
        "network calls a sample",
        "PSNR of the mean, dB",
    ):
        assert name in names
    assert not any("SSIM" in name for name in names)  # 8x8 has no window of 11


def test_a_verdict_is_no_yes_while_samples_miss_what_was_measured(done: Calibration) -> None:
    fine = judge(normals(0, 40, 19, 50), normals(1, 40, 50))
    assert fine.words[0].endswith("can be taken for an error bar")
    missed = replace(done.misfit, chi_square=np.full(done.misfit.degrees.shape, 3200.0))
    alarmed = replace(done, judged=fine, misfit=missed)
    assert "do not take the spread for an error bar yet" in alarmed.words[0]
    assert any(words.startswith("100 % of the samples miss") for words in alarmed.words[1:])
    noise = replace(done.misfit, chi_square=np.full(done.misfit.degrees.shape, 32.0))
    assert replace(done, judged=fine, misfit=noise).words[0] == fine.words[0]


def test_real_data_are_judged_in_their_units_and_missing_values_left_out(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(300, 20, (60, 4, 8)).astype(np.float32)
    values[:, 0, 0] = np.nan
    np.save(tmp_path / "field.npy", values)
    flags = ["--steps", "3", "--data.missing", "mask", "--run", str(tmp_path / "run"), *TINY]
    assert main(["train", str(tmp_path / "field.npy"), "--data.kind", "image", *flags]) == 0
    run = Run.open(tmp_path / "run")
    found = calibrate(run, half(4), 2.0, QUICK, FEW)
    assert found.judged.unit == "the data's units"
    assert found.truth[:, 0, 0, 0].isnan().all()
    assert found.judged.ranks.counts.sum() == 4 * 31
    assert 1 < found.judged.scores.error.value < 200


def test_exact_measurements_and_counts_are_calibrated_too(digits: Run) -> None:
    exact = calibrate(digits, half(), 0.0, QUICK, FEW)
    assert np.isnan(exact.reduced.value)
    assert exact.judged.ranks.equal >= 0.5  # what is measured is kept, and is nothing to learn from
    assert (exact.samples[..., 4:] == exact.truth[:, None, ..., 4:]).float().mean() > 0.99
    json.dumps(exact.as_json(), allow_nan=False)
    counts = calibrate(digits, half(), Poisson(1.0), QUICK, FEW)
    assert (counts.measurement.y == counts.measurement.y.round()).all()


def test_y_was_not_measured_where_it_depends_on_a_missing_value() -> None:
    """One missing value of 32, blurred by a kernel of 7 values around a circle: 7 of y are missing, not all."""
    x = torch.randn(2, 1, 32, generator=torch.Generator().manual_seed(0))
    x[1, 0, 10] = torch.nan
    blur = operator_named("gauss:1:periodic", (1, 32))
    y = simulated(x, blur, Gaussian(0.1), Real((101325.0,), (0.01,)), 0, np.arange(2)).y
    assert y[0].isfinite().all()
    reach = (blur(torch.eye(32)[:, None].double())[10, 0].abs() > 1e-9).sum()
    assert y[1].isnan().sum() == reach < 16
    assert y[1, 0, 10].isnan()


def test_what_cannot_be_calibrated_is_refused(digits: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="at least 2 images"):
        CalibrationOptions(images=1)

    def wild(*_: object) -> Restored:
        return Restored(torch.full((4, 3, 1, 8, 8), math.nan), 1, 0)

    monkeypatch.setattr("kakusan.evaluation.calibration.simulated.restored", wild)
    with pytest.raises(NumbersError, match="12 of 12 samples"):
        calibrate(digits, half(), 1.0, QUICK, FEW)
