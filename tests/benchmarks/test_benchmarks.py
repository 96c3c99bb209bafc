"""The benchmarks run, and what they say is sane. No figure of speed or quality is asked for here."""

import contextlib
import importlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from PIL import Image

from kakusan.api import train
from kakusan.cli import main as kakusan_command
from kakusan.config.loading import settings_for
from kakusan.config.networks import UNetOptions
from kakusan.config.settings import Settings
from kakusan.data.builtin import RESERVED_KANJI, kanji
from kakusan.data.units import Real
from kakusan.diffusion.denoiser import NetworkDenoiser
from kakusan.diffusion.model import Model
from kakusan.diffusion.schedules import Cosine
from kakusan.run import Run
from kakusan.shapes import Condition
from kakusan.training.tables import LOSSES

Figures: TypeAlias = dict[str, Any]
Script: TypeAlias = Callable[..., Figures]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Script:
    """Run a benchmark by its name; what it prints as JSON."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")

    def run(name: str, *arguments: str) -> Figures:
        capsys.readouterr()
        assert importlib.import_module(name).main([*arguments, "--json"]) == 0
        figures: Figures = json.loads(capsys.readouterr().out)
        return figures

    return run


def tiny(source: str) -> Settings:
    """A run of two steps."""
    settings = settings_for(source)
    return replace(
        settings,
        process=replace(settings.process, T=8),
        network=UNetOptions(
            width=8,
            multipliers=(1, 1),
            blocks=1,
            attention=(1,),
            heads=1,
            groups=8,
            patch=1,
        ),
        training=replace(settings.training, steps=2, minutes="auto", batch_size=16),
        samples=replace(settings.samples, every=100, count=1, steps=1),
        machine=replace(settings.machine, device="cpu", threads=1),
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return {name: train(name, run=folder / name, settings=tiny(name)).folder for name in ("digits", "kanji")}


def test_noise_is_told_from_digits(script: Script, runs: dict[str, Path]) -> None:
    """The network has learned nothing, so its samples are far away; the real images are near each other."""
    found = script("digits_quality", str(runs["digits"]), "--count", "64")
    assert found["counts"] == {"training": 1297, "held_out": 500, "samples": 64}
    assert found["classifier_accuracy"] > 0.9
    assert found["frechet_ratio"] > 10
    assert sum(found["class_shares"]) == pytest.approx(1)
    assert found["copy_rate_samples"] == 0
    assert found["copy_rate_held_out"] < 0.05


def test_a_guide_is_compared_with_none(script: Script, tmp_path: Path) -> None:
    settings = tiny("digits")
    kept = replace(settings.checkpoint, snapshots=(1,), every=1)
    run = train("digits", run=tmp_path / "run", settings=replace(settings, checkpoint=kept))
    found = script("autoguidance", str(run.folder), "--count", "64", "--weights", "2")
    assert [(row["guide"], row["weight"]) for row in found["rows"]] == [(None, 1.0), (1, 2.0)]
    assert all(row["to_training"] > 0 for row in found["rows"])
    assert found["rounding"]["float16"]["rms"] < found["rounding"]["bfloat16"]["rms"] < 1


@pytest.mark.usefixtures("script")
def test_the_judge_of_digits_is_the_same_every_time(runs: dict[str, Path]) -> None:
    quality = importlib.import_module("digits_quality")
    sets = quality.sets_of(Run.open(runs["digits"]), 16, 0)
    few = sets.training[:200], sets.training_labels[:200]
    one, other = (quality.trained_classifier(*few).features(sets.held_out) for _ in range(2))
    assert (one == other).all()
    assert len(np.unique(one)) > 1000


def test_a_run_on_other_data_is_refused(script: Script, runs: dict[str, Path]) -> None:
    with pytest.raises(Exception, match="learned kanji, not digits"):
        script("digits_quality", str(runs["kanji"]))


def test_the_gallery_shows_the_first_samples_and_counts_no_copies_in_noise(
    script: Script, runs: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "docs" / "kanji.png"
    size = ("--rows", "2", "--columns", "3", "--count", "8")
    found = script("kanji_gallery", str(runs["kanji"]), "--out", str(out), *size)
    assert found["samples"] == 8
    assert found["exact_copies"] == found["copy_rate_samples"] == 0
    assert len(found["shown"]) == 6
    assert not {each["nearest"] for each in found["shown"]} & set(RESERVED_KANJI)
    layout = importlib.import_module("kanji_gallery").Layout(6, 3)
    with Image.open(out) as image:
        assert (image.mode, image.size) == ("RGBA", layout.size(6))
        assert image.getpixel((0, 0)) == image.getpixel((image.width - 1, image.height - 1)) == (0, 0, 0, 0)


@pytest.mark.usefixtures("script")
def test_the_gallery_finds_the_characters_that_it_is_shown() -> None:
    module, dataset = importlib.import_module("kanji_gallery"), kanji()
    glyphs = dataset.images[..., 0]
    places, differing = module.nearest_glyphs(glyphs[[7, 3000]], glyphs)
    assert places.tolist() == [7, 3000]
    assert differing.tolist() == [0, 0]
    changed = glyphs[[7]].copy()
    changed[0, :1, :3] ^= 1
    assert module.nearest_glyphs(changed, glyphs[[7]])[1].tolist() == [3]
    gallery = module.Gallery(glyphs[[7, 3000]], glyphs, glyphs[:2], dataset.captions, places, differing)
    assert module.measure(gallery, 1)["exact_copies"] == 2
    assert module.measure(gallery, 1)["copy_rate_samples"] == 1
    layout = module.Layout(6, 2)
    drawn = np.asarray(module.picture(gallery, 2, layout))
    middles = slice(12 + 3, 12 + 3 + 16 * 6, 6)  # a margin of two pixels, then the middle of each
    assert (drawn[middles, middles, 0] < 128).tolist() == glyphs[7].astype(bool).tolist()


def test_the_parts_of_a_step_add_up(script: Script) -> None:
    sizes = ("--images", "40", "--steps", "3", "--batch-size", "4", "--width", "8", "--threads", "1")
    found = script("training_overhead", *sizes)
    assert 0 < found["start"]["until_first_step_begins"] < found["start"]["until_first_step_is_done"]
    step = found["step"]
    assert 0 < step["overhead_share"]["median"] < 1
    assert {"network", "backward", "optimizer", "average", "batch", "draw noise", "else"} <= set(
        step["parts_seconds"]
    )
    assert min(step["parts_seconds"].values()) > 0


def test_a_cooldown_is_compared_with_the_plan_from_the_same_state(script: Script) -> None:
    rows = script("cooldown", "--steps", "6", "--held-out", "30", "--at", "2", "4", "--share", "0.5")["rows"]
    assert [(row["step"], row["more"]) for row in rows] == [(2, 1), (4, 2)]
    assert all(min(row["at_once"], row["planned"], row["cooled"]) > 0 for row in rows)
    (alone,) = script("cooldown", "--steps", "6", "--held-out", "30", "--at", "4", "--share", "0.5")["rows"]
    assert alone == rows[1]  # what was tried at 2 leaves no trace


def test_both_networks_give_the_same_answers(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("diffusers")
    monkeypatch.setattr("kakusan.training.clocks.CONVOLUTIONS", ((1, 16, 8),))
    found = script("versus_diffusers", "--batch-size", "16", "--repeats", "1", "--threads", "1")["demo"]
    assert found["differences"]["fp32"] < 1e-5  # of the largest value: float32 rounding
    for work in ("forward", "step"):
        assert len(found["seconds"][work]) in (3, 4)  # bf16 only where the processor has it
        assert found["limit"][work] > 0


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells the peak of a process by itself")
def test_memory_is_that_of_a_process_alone(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("diffusers")
    few = ("kakusan", "diffusers, as shipped")
    monkeypatch.setattr(importlib.import_module("memory_beside_diffusers"), "CONTENDERS", few)
    sizes = ("--case", "demo", "--batch-size", "4", "--threads", "1")
    found = script("memory_beside_diffusers", *sizes)["demo"]["memory"]
    assert tuple(found) == few
    assert len({each["parameters"] for each in found.values()}) == 1
    for each in found.values():
        assert 4 * each["parameters"] < each["training"] == each["peak"] - each["after_imports"]


def test_networks_of_other_libraries_are_measured_by_turns(script: Script) -> None:
    pytest.importorskip("smalldiffusion")
    sizes = ("--cases", "28x28", "--batch-size", "2", "--repeats", "1", "--threads", "1")
    found = script("other_peers", *sizes)["cases"]["28x28"]["contenders"]
    assert "smalldiffusion" in found
    assert all(each["flop"] > 0 and each["seconds"]["median"] > 0 for each in found.values())


@pytest.mark.usefixtures("script")
def test_without_the_packages_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module("other_peers")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert module.main([]) == 0
    assert "installed" in capsys.readouterr().out


@pytest.mark.usefixtures("script")
def test_without_diffusers_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module("versus_diffusers")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert module.main([]) == 0
    assert "not installed" in capsys.readouterr().out


@pytest.mark.usefixtures("script")
def test_a_table_is_aligned_markdown() -> None:
    table = importlib.import_module("measuring").table
    assert table(("", "ms"), [("a", "1"), ("long", "22.5")]).splitlines() == [
        "|      | ms   |",
        "| ---- | ---- |",
        "| a    | 1    |",
        "| long | 22.5 |",
    ]


def test_a_model_of_diffusers_goes_there_and_back(script: Script) -> None:
    figures = script("exchange", "--small")
    assert figures["the same bytes"] is True
    assert 0 < figures["ours - theirs"] < 1e-5
    assert figures["ours - float64"] < 1e-5


@pytest.mark.usefixtures("script")
def test_the_plain_script_on_diffusers_trains_for_its_time_and_samples(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "in.npz", images=rng.integers(0, 256, (8, 16, 16, 1), dtype=np.uint8))
    script = Path(__file__).parents[2] / "benchmarks" / "plain_diffusers.py"
    flags = ["--minutes", "0.001", "--count", "2", "--threads", "1"]
    command = [sys.executable, str(script), str(tmp_path / "in.npz"), str(tmp_path / "out.npz"), *flags]
    subprocess.run(command, check=True)
    with np.load(tmp_path / "out.npz") as stored:
        assert (stored["images"].shape, stored["images"].dtype) == ((2, 16, 16, 1), np.uint8)
        assert stored["steps"] >= 1
        assert stored["parameters"] == 1_623_169


@pytest.mark.usefixtures("script")
def test_the_cases_of_the_automatic_choice_run_the_real_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("automatic")
    rng = np.random.default_rng(0)
    np.save(tmp_path / "few.npy", rng.integers(0, 256, (10, 8, 8, 1), dtype=np.uint8))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    figures = module.trained(tmp_path / "few.npy", tmp_path / "run", 0.01)
    assert figures["steps"] >= 1
    assert 0.1 < figures["peak_gb"] < 3
    assert figures["held_out_loss"] > 0
    module.pictured(tmp_path / "run", tmp_path / "few.png", 4)
    assert (tmp_path / "few.png").is_file()
    table = module.in_table({"few": {"kakusan": figures}})
    assert table.splitlines()[-1].startswith("| few  | kakusan |")


def test_the_transformer_is_timed_beside_the_u_net(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("transformer")
    monkeypatch.setattr(module, "CALLS", 2)
    found = script("transformer", "speed", "--sides", "8", "--repeats", "1")["speed"]["8x8"]
    assert set(found) == {"U-Net, v", "transformer, x_0"}
    assert all(each["step_ms"]["median"] > 0 for each in found.values())
    assert all(each["sample_ms"]["median"] > 0 for each in found.values())


def in_process(arguments: list[str]) -> None:
    """A command of kakusan without a start of Python."""
    assert arguments[:2] == ["-m", "kakusan"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert kakusan_command(arguments[2:]) == 0


@pytest.mark.parametrize("case", ["classes", "vectors", "pairs"])
def test_conditions_are_asked_for_by_the_real_commands_and_measured(
    script: Script, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network has learned nothing, so only the way is tested; in this process, which saves eight starts."""
    module = importlib.import_module("conditions")
    monkeypatch.setattr(module, "run_command", in_process)
    rng = np.random.default_rng(0)
    monkeypatch.setattr(module, "garments", lambda: rng.integers(0, 256, (40, 28, 28), dtype=np.uint8))
    monkeypatch.setattr(module, "GARMENTS_HELD_OUT", 10)
    monkeypatch.setattr(module, "WEIGHTS", (0.0, 1.5))
    monkeypatch.setattr(module, "FEW_WEIGHTS", (1.5,))
    sizes = ("--steps", "1", "--count", "10", "--calls", "1", "--threads", "1")
    folders = ("--out", str(tmp_path), "--pictures", str(tmp_path / "pictures"))
    found = script("conditions", case, *sizes, *folders)[case]
    assert (found["steps"], found["count"]) == (1, 10)
    assert all(np.isfinite(value) for row in found["rows"].values() for value in row.values())
    assert module.in_table(case, found).startswith(f"{case}: 1 steps")
    with Image.open(tmp_path / "pictures" / f"{case}.png") as picture:
        assert picture.width > 500


@pytest.mark.usefixtures("script")
def test_thickness_and_slant_are_those_of_a_drawn_line() -> None:
    """A diagonal rises one column for each row; an upright line not at all; no ink has no slant."""
    measured = importlib.import_module("conditions").measured
    upright = np.zeros((8, 8), dtype=np.uint8)
    upright[:, 3] = 16
    diagonal = 16 * np.eye(8, dtype=np.uint8)
    lines = np.stack([diagonal[::-1], diagonal, upright, 0 * upright])
    assert measured(lines) == pytest.approx(np.array([[2, 1], [2, -1], [2, 0], [0, 0]]))


@pytest.mark.usefixtures("script")
def test_an_ensemble_of_the_law_of_the_truth_spreads_as_far_as_it_errs() -> None:
    """Members and truth from one law: the ratio is 1, up to 1 / sqrt(2 n) of n values; half the spread halves it."""
    module, rng = importlib.import_module("conditions"), np.random.default_rng(0)
    mean = rng.uniform(60, 190, (200, 8, 8))
    truth, members = mean + rng.normal(0, 20, mean.shape), mean + rng.normal(0, 20, (4, *mean.shape))
    given = module.as_levels(module.coarse(truth))
    smooth = np.stack([module.bicubic(image) for image in given])
    good = module.of_members(members, smooth, truth, given)
    assert good["one sample"]["RMSE"] == pytest.approx(20 * 2**0.5, rel=0.02)
    assert good["mean of 4 samples"]["RMSE"] == pytest.approx(20 * 1.25**0.5, rel=0.02)
    assert good["mean of 4 samples"]["spread / error"] == pytest.approx(1, rel=0.02)
    alike = module.of_members(mean + (members - mean) / 2, smooth, truth, given)
    assert alike["mean of 4 samples"]["spread"] == pytest.approx(10, rel=0.02)
    assert alike["mean of 4 samples"]["spread / error"] < 0.6
    exact = module.of_members(np.stack([truth, truth + 1]), smooth, truth, given)
    assert exact["one sample"]["RMSE"] == pytest.approx(0.5**0.5)
    assert exact["one sample"]["RMSE of the area means"] < 1  # rounded, and one of the two a level higher


def test_fields_with_gaps_are_trained_on_and_measured_by_the_real_commands(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The networks have learned nothing, so only the way is tested; on smaller fields, which are quicker."""
    module = importlib.import_module("missing")
    smaller = {"COUNT": 40, "SIDE": 8, "LAGS": range(5), "SHOWN_LAGS": (1, 2, 4)}
    for name, value in {"run_command": in_process, **smaller}.items():
        monkeypatch.setattr(module, name, value)
    sizes = ("--steps", "1", "--count", "8", "--calls", "1", "--threads", "1")
    found = script("missing", *sizes, "--out", str(tmp_path))
    assert (found["steps"], found["count"]) == (1, 8)
    assert found["missing"] == pytest.approx(0.3, abs=0.1)  # 40 fields; their signs depend on the processor
    rows = found["rows"]
    assert all(np.isfinite(value) for row in rows.values() for value in row.values())
    for name in ("trained on whole fields", "trained on fields with gaps"):
        exact = rows["exact denoiser"]
        own = [column for column in rows[name] if column.startswith("loss: ")]
        assert len(own) == 1 + ("gaps" in name)
        assert all(rows[name][column] > exact[column] for column in own)
    assert "trained on fields with gaps | " in module.in_table(found)


@pytest.mark.usefixtures("script")
def test_fields_of_the_law_have_its_moments_and_filled_gaps_have_not() -> None:
    """A field holds about ten independent values, so covariances of 4,000 err by 1 %: tolerances are thrice that."""
    module = importlib.import_module("missing")
    fields, missing = module.fields(4000, seed=3), module.land(4000, seed=4)
    found = module.compared(fields)
    assert found["deviation"] == pytest.approx(1, abs=0.015)
    assert found["roughness"] == pytest.approx(1, abs=0.03)
    assert found["largest error"] < 0.03
    assert found["error of the mean"] < 3 / 4000**0.5
    assert missing.mean() == pytest.approx(0.3, abs=0.001)
    assert not missing.all((1, 2)).any()
    filled = module.compared(np.where(missing, module.MEAN, fields))
    assert filled["deviation"] == pytest.approx(0.7**0.5, abs=0.02)  # of the variance 70 % is left
    assert filled["roughness"] > 1.2


@pytest.mark.usefixtures("script")
def test_the_exact_denoiser_errs_as_much_as_the_law_lets_it_and_sees_no_missing_value() -> None:
    """Along an axis of variance l, v is guessed with the error l / (a^2 l + b^2); of one value of variance 1 that is 1.

    1,000 fields of about ten independent values, at some t each: 2 % is three standard errors.
    """
    module, path = importlib.import_module("missing"), Cosine(T=20)
    empty = Model(NetworkDenoiser(torch.nn.Identity(), path, "v"))
    exact = module.exact(empty, Real((module.MEAN,), (module.DEVIATION,), 1.0))
    fields = module.smooth(1000, module.LENGTH, seed=0)
    x_0 = torch.from_numpy(fields).float().unsqueeze(1)
    noise = torch.from_numpy(np.random.default_rng(1).standard_normal(x_0.shape)).float()
    t = (1 + torch.arange(1000) % 20).double()
    loss = LOSSES["simple"].per_image(exact, x_0, t, noise).double()
    variances = np.linalg.eigvalsh(module.correlation(module.LENGTH)).clip(0)
    a, b = (part.numpy()[:, None] for part in path.at(torch.arange(1, 21).double()))
    assert float(loss.mean()) == pytest.approx((variances / (a**2 * variances + b**2)).mean(), rel=0.02)
    some = slice(40)
    mask = torch.from_numpy(~module.land(40, seed=2)).float().unsqueeze(1)
    hidden = (1 - mask) * 7
    found, other = (
        LOSSES["simple"].per_image(
            exact, x_0[some] + shift, t[some], noise[some] - shift, Condition(mask=mask)
        )
        for shift in (0 * hidden, hidden)
    )
    assert torch.equal(found, other)
    one = torch.zeros_like(x_0)
    one[:, :, 3, 4] = 1
    alone = LOSSES["simple"].per_image(exact, x_0, t, noise, Condition(mask=one))
    assert float(alone.mean()) == pytest.approx(1, abs=0.15)  # 1,000 squares: a standard error of 0.045


def test_trainings_that_share_a_machine_are_timed(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that end at once stand for the trainings, of which it takes ten."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    monkeypatch.setattr(importlib.import_module("shared_machine"), "KAKUSAN", (sys.executable, "-c", "pass"))
    found = script("shared_machine", "--repeats", "1")
    for way in found["seconds"].values():
        assert set(way) == {"alone", "two at once", "beside a loop", "beside a long training"}
        assert all(spread["median"] > 0 for spread in way.values())


def test_a_learned_schedule_is_shown_between_its_start_and_the_optimum(script: Script) -> None:
    lines: Any = script("learned_schedule", "--T", "9", "--steps", "30")
    bounds = {line["schedule"]: float(line["bound"]) for line in lines}
    assert bounds["the optimum"] == min(bounds.values())
    assert bounds["learned, 30 steps"] < bounds["learned, at its start"]
    assert min(float(line["above the entropy"]) for line in lines) > 0


def test_results_of_scripts_are_kept_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    bench = importlib.import_module("bench")
    quick = ("training_overhead.py", "--images", "40", "--steps", "1", "--batch-size", "4", "--width", "8")
    monkeypatch.setattr(bench, "QUICK", (quick,))
    (tmp_path / "results.jsonl").write_text('{"command": "of an earlier day"}\n')
    assert bench.main(["--out", str(tmp_path / "results.jsonl")]) == 0
    earlier, added = map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines())
    assert (earlier["command"], added["command"]) == ("of an earlier day", " ".join(quick))
    assert added["figures"]["images"] == 40
    assert {"processor", "torch"} <= set(added["figures"]["machine"])


def test_the_table_of_forecasts_has_a_row_for_each_training_and_reads_those_that_are_there(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("forecast_table")
    monkeypatch.setattr(module, "LENGTHS", (2,))
    monkeypatch.setattr(module, "EVERY", 1)
    found = script("forecast_table", "digits", "--out", str(tmp_path))
    monkeypatch.setattr(module.subprocess, "run", None)
    assert script("forecast_table", "digits", "--out", str(tmp_path)) == found
    (row,) = found["trials"]
    assert (row["data"], row["images"], row["steps"], row["patch"], row["side"]) == ("digits", 1617, 2, 1, 8)
    assert row["lowest_loss"] <= row["held_out_loss"]
    assert module.as_csv([module.Trial(**row)]).splitlines()[0] == ",".join(row)
