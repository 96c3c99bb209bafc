"""Coming back to a run: the same command again, another length, another parent, signals, edited settings."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TINY

from kakusan.cli import main
from kakusan.config.loading import Requested, flat, settings_for, with_values
from kakusan.config.networks import TransformerOptions
from kakusan.errors import RunError, SettingsError
from kakusan.storage.run_folder import RunFolder
from kakusan.training.launch import adjusted, launch, stored_settings

CHOICES = {
    "nothing more": [],
    "a size": ["--data.size", "8"],
    "a decay": ["--training.decay", "linear", "--training.betas", "0.8", "0.9"],
    "labels": ["--data.labels"],
    "a cadence": ["--samples.every", "2", "--checkpoint.every", "1"],
    "a schedule": ["--process.schedule", "cosine", "--process.predicts", "v", "--process.clip", "False"],
    "a dotted length": ["--training.steps", "2"],
}


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "finished"
    assert main(["train", str(data), "--run", str(folder), "--steps", "2", *TINY]) == 0
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("choice", CHOICES)
def test_the_same_line_again_goes_on_with_the_run(choice: str, data: Path, tmp_path: Path) -> None:
    line = ["train", str(data), "--run", str(tmp_path / "run"), *TINY, *CHOICES[choice]]
    line += [] if "--training.steps" in line else ["--steps", "2"]
    assert main(line) == 0
    before = (tmp_path / "run" / "config.toml").read_bytes()
    assert main(line) == 0
    assert (tmp_path / "run" / "config.toml").read_bytes() == before
    assert len(RunFolder.open(tmp_path / "run").metrics()) == len(
        {(line["step"], "loss" in line) for line in RunFolder.open(tmp_path / "run").metrics()}
    )


def test_a_preset_does_not_undo_a_longer_training(tmp_path: Path) -> None:
    asked = Requested(with_values(settings_for("two-moons"), {"training.steps": 1, "machine.threads": 1}))
    launched = launch(asked, tmp_path / "run")
    longer = adjusted(launched.run, {"training.steps": 5})
    run = launched.run.update_config(_mapping(longer))
    assert launch(Requested(settings_for("two-moons")), run.folder).settings.training.steps == 5


def _mapping(settings: object) -> dict[str, object]:
    from kakusan.config.loading import to_mapping
    from kakusan.config.settings import Settings

    assert isinstance(settings, Settings)
    return to_mapping(settings)


def test_extending_a_falling_rate_is_told(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert (
        main(["train", str(data), "--run", str(folder), "--steps", "2", "--training.decay", "linear", *TINY])
        == 0
    )
    capsys.readouterr()
    assert main(["resume", str(folder), "--steps", "4"]) == 0
    assert "the learning rate goes on from" in capsys.readouterr().err


def test_a_budget_in_a_layer_replaces_the_one_below(tmp_path: Path) -> None:
    assert settings_for("kanji").training.minutes == 15
    path = tmp_path / "steps.toml"
    path.write_text("[training]\nsteps = 7\n")
    settings = settings_for("kanji", file=path)
    assert (settings.training.steps, settings.training.minutes) == (7, "auto")


def test_a_child_takes_its_parents_network_whatever_a_preset_says(run: Path, tmp_path: Path) -> None:
    child = tmp_path / "child"
    line = [
        "train",
        "digits",
        "--from",
        str(run),
        "--run",
        str(child),
        "--steps",
        "1",
        "--machine.threads",
        "1",
    ]
    line += ["--training.batch-size", "4", "--samples.steps", "1", "--samples.count", "1"]
    assert main(line) == 0
    assert main(line) == 0  # again: nothing left to do
    assert stored_settings(RunFolder.open(child)).network == stored_settings(RunFolder.open(run)).network
    shutil.rmtree(run)  # the child has weights of its own from its first moment
    assert main(["resume", str(child), "--steps", "2"]) == 0


def test_a_network_that_does_not_fit_the_parent_is_refused(run: Path, tmp_path: Path) -> None:
    line = ["train", "digits", "--from", str(run), "--run", str(tmp_path / "child"), "--network.width", "16"]
    assert main(line) == 2
    assert not (tmp_path / "child").exists()


def test_another_parent_is_noticed(data: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(data), "--from", str(run.parent), "--run", str(run)]) == 4
    assert "did not start from" in capsys.readouterr().err


def test_settings_edited_by_hand_are_held_against_the_checkpoint(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = run / "config.toml"
    config.write_text(config.read_text().replace('predicts = "v"', 'predicts = "eps"'))
    assert main(["resume", str(run), "--steps", "3"]) == 4
    assert "process.predicts: it has v, config.toml says eps" in capsys.readouterr().err
    assert RunFolder.open(run).steps == [2]


def test_a_resume_cannot_leave_a_run_unusable(run: Path) -> None:
    assert main(["resume", str(run), "--steps", "3", "--samples.every", "auto"]) == 0
    assert stored_settings(RunFolder.open(run)).samples.every == 200
    assert main(["resume", str(run)]) == 0


def test_nothing_is_stored_while_another_trains(run: Path) -> None:
    before = (run / "config.toml").read_bytes()
    with RunFolder.open(run).lock():
        script = f"import sys; from kakusan.cli import main; sys.exit(main(['resume', {str(run)!r}, '--steps', '50']))"
        done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert (done.returncode, "is being trained" in done.stderr) == (4, True), done.stderr
    assert (run / "config.toml").read_bytes() == before


def test_changed_data_are_noticed(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy, folder = tmp_path / "copy.npz", tmp_path / "run"
    shutil.copy(data, copy)
    assert main(["train", str(copy), "--run", str(folder), "--steps", "1", *TINY]) == 0
    np.savez(
        copy, images=np.zeros((12, 8, 8, 1), np.uint8) + np.arange(12, dtype=np.uint8)[:, None, None, None]
    )
    capsys.readouterr()
    assert main(["resume", str(folder), "--steps", "2"]) == 4
    assert "are not those that the run began with" in capsys.readouterr().err
    copy.unlink()
    assert main(["sample", str(folder), "--count", "1", "--steps", "1"]) == 0  # needs no data
    assert main(["report", str(folder)]) == 0
    assert "nothing is shown of the training data" in (folder / "report.html").read_text("utf-8")


def test_points_may_have_classes(tmp_path: Path) -> None:
    folder = tmp_path / "moons"
    few = ["--steps", "1", "--samples.count", "20", "--machine.threads", "1", "--data.labels"]
    assert main(["train", "two-moons", "--run", str(folder), *few]) == 0


def test_outputs_are_checked_before_the_work(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def worked(*_: object) -> None:
        raise AssertionError("the sampling had begun")

    monkeypatch.setattr("kakusan.run.Run.sample_with_record", worked)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "00000002.png").touch()
    for arguments in (["--out", "x.gif"], ["--raw"], ["--out", str(tmp_path / "there")]):
        assert main(["sample", str(run), *arguments]) == 2


def test_a_folder_of_samples_can_be_replaced_and_added_to(run: Path, tmp_path: Path) -> None:
    out = ["--steps", "1", "--out", str(tmp_path / "many")]
    assert main(["sample", str(run), "--count", "2", *out]) == 0
    assert main(["sample", str(run), "--count", "2", "--first", "2", *out]) == 0
    assert main(["sample", str(run), "--count", "2", *out]) == 2
    assert main(["sample", str(run), "--count", "2", *out, "--overwrite"]) == 0
    assert len(list((tmp_path / "many").glob("*.png"))) == 4


def test_sampling_leaves_the_callers_random_state_alone(run: Path) -> None:
    from kakusan.run import Run

    before = torch.random.get_rng_state()
    Run.open(run).sample(1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_device_that_has_gone_is_told_and_can_be_replaced(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = run / "config.toml"
    config.write_text(config.read_text().replace('device = "cpu"', 'device = "cuda:7"'))
    capsys.readouterr()
    assert main(["resume", str(run), "--steps", "3"]) == 2
    assert "--device" in capsys.readouterr().err
    assert main(["resume", str(run), "--steps", "3", "--device", "cpu"]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals of this kind are not for this system")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_ends_with_its_code(number: int, code: int, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = ["train", str(data), "--run", str(folder), "--steps", "100000", "--json", *TINY]
    arguments += ["--samples.every", "100000", "--checkpoint.every", "100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "kakusan", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["step"] == 2  # it trains
    process.send_signal(number)
    try:
        _, words = process.communicate(timeout=60)
    finally:
        process.kill()  # where the signal was lost, it would train on for hours
    assert process.returncode == code
    assert f"kakusan resume {folder}" in words
    steps = RunFolder.open(folder).steps
    assert len(steps) == 1
    assert main(["resume", str(folder), "--steps", str(steps[0] + 1)]) == 0


def test_the_warm_up_of_a_preset_yields_to_a_short_training_and_a_chosen_one_does_not(tmp_path: Path) -> None:
    settings = with_values(settings_for("digits"), {"training.steps": 60, "machine.threads": 1})
    assert settings.training.warmup == 100
    names = frozenset({"training.steps"})
    for chosen, warmup in ((names, 3), (names | {"training.warmup"}, 100)):
        launched = launch(Requested(settings, chosen), tmp_path / str(warmup))
        assert launched.settings.training.warmup == warmup
        assert bool(launched.cautions) == (warmup == 100)


def test_a_presets_u_net_yields_to_a_transformer_but_for_what_was_chosen(tmp_path: Path) -> None:
    asked = {"training.steps": 60, "network.kind": "transformer", "network.blocks": 1, "machine.threads": 1}
    settings = with_values(settings_for("digits"), asked)
    names = frozenset(asked)
    found = launch(Requested(settings, names), tmp_path / "free").settings
    assert isinstance(found.network, TransformerOptions)
    assert (found.network.width, found.network.blocks) == (192, 1)
    assert (found.process.predicts, found.process.schedule, found.training.loss) == (
        "x_0",
        "cosine",
        "velocity",
    )
    assert found.training.learning_rate == 3e-3  # as wide as the rate is given for
    chosen = names | {"process.predicts", "network.width"}
    kept = launch(
        Requested(with_values(settings, {"network.width": 32}), chosen), tmp_path / "chosen"
    ).settings
    assert (kept.process.predicts, kept.training.loss, kept.network.width) == ("v", "simple", 32)


def test_only_known_settings_are_held_against_a_run(run: Path) -> None:
    stored = stored_settings(RunFolder.open(run))
    assert flat(adjusted(RunFolder.open(run), {})) == flat(stored)
    with pytest.raises(SettingsError, match="minutes buy steps when a run begins"):
        adjusted(RunFolder.open(run), {"training.minutes": 3.0})
    (run / "config.toml").write_text("")
    with pytest.raises(RunError, match=r"does not say process.schedule"):
        stored_settings(RunFolder.open(run))
