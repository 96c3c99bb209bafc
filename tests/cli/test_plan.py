"""`kakusan plan`: what `train` would do with the same flags, and nothing on the disk."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import TINY, VALUES

import kakusan as kk
from kakusan.cli import main
from kakusan.config.loading import to_mapping
from kakusan.run import Run
from kakusan.training import ladder

FLAGS = ("--steps", "4", "--data.held-out", "4", *TINY)
SCREEN = 24
"""Lines of a terminal."""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are timed for no longer than they must be."""
    monkeypatch.setattr(ladder, "MEASURED_SECONDS", 0.0)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", str(data), "--run", str(folder), *FLAGS]) == 0
    return Run.open(folder)


def planned(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["plan", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def settings_of(run: Run) -> dict[str, Any]:
    """Its config.toml, as JSON has it."""
    settings: dict[str, Any] = json.loads(json.dumps(dict(run.files.config)))
    return settings


def test_a_plan_has_the_settings_the_data_and_the_baseline_of_the_run(
    data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    found = planned([str(data), *FLAGS], capsys)
    assert found["settings"] == settings_of(run)
    assert found["parameters"] == sum(p.numel() for p in run.load().network.parameters())
    assert found["data"]["fingerprint"] == run.files.data["fingerprint"]
    assert found["data"]["held_out"] == len(run.files.data["held_out"]) == 4
    last = [line for line in run.files.metrics() if "baseline_loss" in line][-1]
    assert found["forecast"]["baseline_loss"] == last["baseline_loss"]


def test_a_plan_of_minutes_is_what_a_training_at_the_same_pace_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "_step_seconds", lambda *_: 10.0)
    flags = ["--preset", "none", "--minutes", "1", "--machine.threads", "1", "--machine.device", "cpu"]
    flags += ["--training.batch-size", "2", "--samples.count", "1", "--samples.steps", "1"]
    found = planned(["digits", *flags], capsys)
    assert main(["train", "digits", *flags, "--run", str(tmp_path / "run")]) == 0
    assert found["settings"] == settings_of(Run.open(tmp_path / "run"))
    assert found["settings"]["training"]["steps"] == 5  # 57 seconds, less those of choosing
    assert found["forecast"]["seconds"] == pytest.approx(50 / 0.95)


def test_a_plan_from_python_is_that_of_the_command_line(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {name: value for name, value in VALUES.items() if " " not in value}
    numbers = {name: int(value) if value.isdecimal() else value for name, value in words.items()}
    values = {**numbers, "network.multipliers": [1, 1], "network.attention": [1], "data.held_out": 4}
    found = kk.plan(data, steps=4, settings=values, progress=False)
    assert (
        json.loads(json.dumps(to_mapping(found.settings))) == planned([str(data), *FLAGS], capsys)["settings"]
    )
    assert "4 steps" in repr(found)


def test_a_plan_of_an_array_in_memory_knows_its_network_and_leaves_it_as_it_is() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    network = kk.UNet(channels=1, width=8, multipliers=(1,), blocks=1, attention=(), groups=1)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    found = kk.plan(images, steps=2, settings={"machine.threads": 1}, network=network, progress=False)
    assert found.parameters == sum(weight.numel() for weight in network.parameters())
    assert all(weight.equal(before[name]) for name, weight in network.state_dict().items())
    assert found.forecast.left is None


def test_a_plan_writes_nothing_not_even_a_cache_that_the_settings_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "photos" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    planned(["photos", "--steps", "2", "--data.cache", "cache", *TINY], capsys)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_plan_in_words_fits_a_screen(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["plan", str(data), *FLAGS, "--training.learning-rate", "auto"]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) <= SCREEN
    for words in (
        "tiny.npz: 12 images, 8x8, grey, 256 levels",
        "8 to train on, 4 held out; 0 duplicates",
        "unet of width 8, levels 1 1",
        "4 steps of 4 images; none mirrored",
        "16 images seen, 2 epochs",
        "no held-out loss: so short a training has not been measured",
    ):
        assert words in out


def test_a_plan_of_known_data_forecasts_loss_and_copying(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--steps", "500", "--machine.threads", "1", "--machine.device", "cpu", "--data.flip"]
    found = planned(["digits", *flags], capsys)
    forecast = found["forecast"]
    low, high = forecast["held_out_loss"]
    assert 0 < low <= forecast["left"]["expected"] * forecast["baseline_loss"] <= high
    first, last = forecast["copying"]["epochs"]
    assert forecast["copying"]["steps"] == [
        round(e * 2 * 1297 / 64) for e in (first, last)
    ]  # mirrored: twice
    assert 3.0 < found["data"]["compressed"]["bits"] < found["data"]["compressed"]["raw"] < 4.1  # 17 levels
    parts = forecast["memory"]
    assert parts["total"] == sum(
        parts[name] for name in ("program", "data", "weights", "activations", "report")
    )


def test_a_plan_of_points_says_why_there_is_no_forecast(capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(["two-moons", "--steps", "3", "--machine.threads", "1"], capsys)
    assert found["forecast"]["left"] is found["forecast"]["held_out_loss"] is None
    assert found["forecast"]["reason"] == "only U-Nets on images have been measured"
    assert found["data"]["compressed"] is None


def test_a_folder_that_is_a_run_is_refused(data: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["plan", str(data), "--run", str(run.folder), *FLAGS]) == 4
    assert "is a run already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere.npy"], 3, "nowhere.npy"),
        (["digits", "--steps", "3", "--minutes", "3"], 2, "two budgets"),
        (["digits", "--steps", "3", "--data.held-out", "1797"], 2, "none is left to train on"),
        (["digits", "--from", "nowhere"], 4, "nowhere is not a run"),
    ],
)
def test_a_plan_has_the_errors_of_a_training(
    arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = []
    for command in ("plan", "train"):
        capsys.readouterr()
        assert main([command, *arguments]) == code
        errors.append([line for line in capsys.readouterr().err.splitlines() if "reading" not in line])
    assert errors[0] == errors[1]
    assert words in errors[0][0]


def test_a_training_begins_with_one_line_of_forecast(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["train", str(data), "--run", str(tmp_path / "run"), *FLAGS]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("forecast: ")]
    assert said == ["forecast: each of the images is seen 2 times"]


def test_a_plan_from_trained_weights_keeps_their_network_and_leaves_the_run_as_it_is(
    data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    found = planned([str(data), "--from", str(run.folder), "--steps", "3", "--machine.threads", "1"], capsys)
    assert found["settings"]["network"] == settings_of(run)["network"]
    assert found["forecast"]["reason"] == "trainings that start from trained weights have not been measured"
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before
