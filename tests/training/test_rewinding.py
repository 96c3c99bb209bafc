"""Where numbers are not finite: back to the last checkpoint with half the rate, three times at most."""

import shutil
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import TINY
from torch import Tensor

from kakusan.cli import main
from kakusan.cli.train import Train, asked_of
from kakusan.config.settings import TrainingSettings
from kakusan.data import Batches
from kakusan.data.batches import Batch
from kakusan.errors import NumbersError
from kakusan.run import Run
from kakusan.storage.checkpoints import Checkpoint
from kakusan.storage.run_folder import RunFolder
from kakusan.training import loop, trainer
from kakusan.training import step as steps_of
from kakusan.training.course import PLANNED, Course
from kakusan.training.rates import learning_rate
from kakusan.training.state import Task, snapshot
from kakusan.training.step import TrainState

STEPS, BAD = 8, 5
FLAGS = [*TINY, "--steps", str(STEPS), "--checkpoint.every", "2", "--training.accumulation", "2"]
REWIND = ["--on-nan", "rewind"]

Broken = Callable[[TrainState], bool]


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Callable[[Broken], None]:
    """Makes the loss nan wherever a function of the state says so."""
    plain = steps_of._micro_step

    def set_up(broken: Broken) -> None:
        def micro_step(state: TrainState, *others: Any) -> tuple[Tensor, Tensor]:
            t, losses = plain(state, *others)
            return t, losses * torch.nan if broken(state) else losses

        monkeypatch.setattr(steps_of, "_micro_step", micro_step)

    return set_up


def rate_of(state: TrainState) -> float:
    return float(state.optimizer.param_groups[0]["lr"])


def train(data: Path, folder: Path, *flags: str) -> int:
    return main(["train", str(data), "--run", str(folder), *FLAGS, *flags])


def tensors(folder: Path) -> dict[str, Tensor]:
    checkpoint = RunFolder.open(folder).load(lambda _: None, step=STEPS)
    return {f"{part}.{name}": x for part, them in checkpoint.tensors.items() for name, x in them.items()}


def figures(folder: Path) -> list[dict[str, Any]]:
    lines = RunFolder.open(folder).metrics()
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in lines]


def above(limit: float, *, at: int) -> Broken:
    """Where the loss breaks: from a step on, at rates above a limit."""
    return lambda state: state.step >= at and rate_of(state) > limit


@pytest.mark.parametrize(("bad", "back"), [(BAD, 4), (4, 4), (1, 0), (0, 0)])
def test_it_goes_back_once_and_equals_from_there_on_a_run_at_half_the_rate(
    bad: int,
    back: int,
    data: Path,
    tmp_path: Path,
    breaking: Callable[[Broken], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    constant = ["--training.decay", "constant", "--training.learning-rate", "0.004"]
    breaking(above(0.002, at=bad))
    assert train(data, tmp_path / "rewound", *constant, *REWIND) == 0
    breaking(lambda _: False)
    for module in (loop, steps_of):
        monkeypatch.setattr(module, "learning_rate", halved_from(back))
    assert train(data, tmp_path / "half", *constant) == 0
    found, expected = tensors(tmp_path / "rewound"), tensors(tmp_path / "half")
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    lines = figures(tmp_path / "rewound")
    (noted,) = [line for line in lines if "rewinds" in line]
    assert noted == {"step": back + 1, "rewinds": 1, "rate_factor": 0.5, "not_finite_step": bad + 1}
    later = [line for line in lines if line["step"] > back and line != noted]
    assert later == [line for line in figures(tmp_path / "half") if line["step"] > back]


def halved_from(back: int) -> Callable[..., float]:
    def rate(training: TrainingSettings, step: int, course: Course = PLANNED) -> float:
        return learning_rate(training, step, course) / (1 if step < back else 2)

    return rate


def test_it_is_told_in_the_log_the_report_and_the_last_words(
    data: Path,
    tmp_path: Path,
    breaking: Callable[[Broken], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    breaking(lambda state: state.step == BAD and not state.course.rewinds)
    assert train(data, tmp_path / "run", *REWIND) == 0
    words = "went back once where numbers were not finite, from step 6 to step 4: since then 0.5 of the learning rate"
    shown, log = capsys.readouterr().err, (tmp_path / "run" / "log.txt").read_text()
    page = (tmp_path / "run" / "report.html").read_text()
    assert words in shown
    assert words in log
    assert words in page
    assert "not finite at step 6; nothing was updated since: back to step 4, with half the" in log
    assert Run.open(tmp_path / "run").unplanned(STEPS) == {"Rewound": words}


def test_the_fourth_time_is_an_error_and_what_was_good_stays(
    data: Path, tmp_path: Path, breaking: Callable[[Broken], None], capsys: pytest.CaptureFixture[str]
) -> None:
    breaking(lambda state: state.step == BAD)
    assert train(data, tmp_path / "run", *REWIND) == NumbersError.exit_code
    shown = " ".join(capsys.readouterr().err.split())
    assert "not finite at step 6; nothing was updated since" in shown
    assert (
        "it went back 3 times before, each time with half the rate the last checkpoint is of step 4" in shown
    )
    assert RunFolder.open(tmp_path / "run").steps == [2, 4]
    assert [line["rewinds"] for line in figures(tmp_path / "run") if "rewinds" in line] == [3]


def test_each_rewind_halves_the_rate_again(
    data: Path, tmp_path: Path, breaking: Callable[[Broken], None]
) -> None:
    breaking(lambda state: state.step == BAD and state.course.rewinds < 3)
    assert train(data, tmp_path / "run", *REWIND, "--training.decay", "constant") == 0
    run = RunFolder.open(tmp_path / "run")
    last = run.load(lambda _: None)
    assert last.state["course"]["rewinds"] == 3
    assert last.state["learning_rate"] == run.config["training"]["learning_rate"] / 8
    rates = {line["step"]: line["learning_rate"] for line in figures(run.folder) if "loss" in line}
    assert rates[2] == rates[4] == 8 * rates[6] == 8 * rates[8]


def test_without_being_asked_it_stops_as_ever_and_may_be_asked_later(
    data: Path, tmp_path: Path, breaking: Callable[[Broken], None]
) -> None:
    breaking(lambda state: state.step == BAD and not state.course.rewinds)
    assert train(data, tmp_path / "run") == NumbersError.exit_code
    shutil.copytree(tmp_path / "run", tmp_path / "again")
    assert main(["resume", str(tmp_path / "run")]) == NumbersError.exit_code
    assert main(["resume", str(tmp_path / "again"), *REWIND]) == 0
    assert Run.open(tmp_path / "again").settings.training.on_nan == "rewind"
    assert train(data, tmp_path / "asked", *REWIND) == 0
    found, expected = tensors(tmp_path / "again"), tensors(tmp_path / "asked")
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def test_data_that_are_not_finite_are_named_at_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = Batches.at

    def bad(self: Batches, step: int, start: int = 0, count: int | None = None) -> Batch:
        batch = plain(self, step, start, count)
        if step == BAD and start:
            batch.x_0[0, 0, 0, 0] = np.inf
        return batch

    monkeypatch.setattr(Batches, "at", bad)
    assert train(data, tmp_path / "run", *REWIND) == NumbersError.exit_code
    shown = " ".join(capsys.readouterr().err.split())
    assert "what was fed at step 6 is not finite itself: x_0.1" in shown
    assert f"what was fed: {tmp_path / 'run' / 'not-finite-step-00000006.safetensors'}" in shown
    assert not [line for line in figures(tmp_path / "run") if "rewinds" in line]


def test_what_the_clock_saved_between_is_passed_by(
    data: Path, tmp_path: Path, breaking: Callable[[Broken], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a training goes back to does not depend on the clock; and that checkpoint stays, however few are kept."""
    flags = [*REWIND, "--checkpoint.every", "3", "--log.every", "100"]
    breaking(lambda state: state.step == BAD and not state.course.rewinds)
    assert train(data, tmp_path / "plain", *flags) == 0
    hours = SimpleNamespace(monotonic=count(step=3600.0).__next__, perf_counter=time.perf_counter)
    monkeypatch.setattr(trainer, "time", hours)  # which saves after every step
    assert train(data, tmp_path / "often", *flags, "--checkpoint.keep", "1") == 0
    log = (tmp_path / "often" / "log.txt").read_text()
    assert "checkpoint of step 5\n" in log
    assert "back to step 3" in log
    found, expected = tensors(tmp_path / "often"), tensors(tmp_path / "plain")
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def test_short_flags_are_the_settings() -> None:
    asked = asked_of(Train(source="digits", on_nan="rewind", stop_when_done=True), [])
    assert (asked.settings.training.on_nan, asked.settings.training.stop) == ("rewind", "when-done")
    assert asked.chosen == {"training.on_nan", "training.stop"}


def test_a_damaged_checkpoint_is_told_and_the_one_before_is_taken(
    data: Path, tmp_path: Path, breaking: Callable[[Broken], None], capsys: pytest.CaptureFixture[str]
) -> None:
    breaking(lambda state: state.step == BAD and damage(tmp_path / "run") and not state.course.rewinds)
    assert train(data, tmp_path / "run", *REWIND) == 0
    assert "cannot be loaded" in capsys.readouterr().err
    (noted,) = [line for line in figures(tmp_path / "run") if "rewinds" in line]
    assert noted["step"] == 3


def damage(folder: Path) -> bool:
    path = RunFolder.open(folder).checkpoint_path(4)
    if path.exists():
        (path / "model.safetensors").write_bytes(b"rotten")
    return True


def test_weights_that_are_found_not_to_be_finite_are_left_behind_too(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = snapshot

    def spoiled(task: Task) -> Checkpoint:
        if task.state.step == 4 and not task.state.course.rewinds:
            next(iter(task.network.parameters())).data.fill_(torch.nan)
        return plain(task)

    monkeypatch.setattr(trainer, "snapshot", spoiled)
    assert train(data, tmp_path / "run", *REWIND) == 0
    (noted,) = [line for line in figures(tmp_path / "run") if "rewinds" in line]
    assert noted == {"step": 3, "rewinds": 1, "rate_factor": 0.5, "not_finite_step": 4}
    assert all(value.isfinite().all() for value in tensors(tmp_path / "run").values())
