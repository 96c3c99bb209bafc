"""No kill and no power cut loses a good checkpoint, or the figures before it.

Each story is an act on a run folder. A child process is killed at every operation of it, and a power cut is
simulated at every operation of it; whatever is left must pass the story's check, which goes on from there.
Run as a script, this file is the process that loads torch once and forks the children who are killed.
"""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from kakusan import checkpoints, durable
from kakusan.checkpoints import Checkpoint
from kakusan.errors import RunError
from kakusan.runs import Run

Act = Callable[[Path], None]


# The stories


@dataclass(frozen=True)
class Story:
    prepare: Act
    act: Act
    check: Callable[[Path, bool], None]
    """What holds after a crash at any moment of the act, and (True) when the act had come back."""


def checkpoint(step: int) -> Checkpoint:
    tensors = {part: {"weight": torch.full((3,), float(step))} for part in ("model", "ema", "optimizer")}
    return Checkpoint(step, tensors, {"seed": 0})


def train(run: Run, step: int) -> None:
    run.append_metrics({"step": step})
    run.save(checkpoint(step), keep=2, keep_every=10)


def new_run(folder: Path, *steps: int) -> Run:
    run = Run.create(folder, {"seed": 0}, {"torch": "2"}, {"name": "digits"})
    for step in steps:
        train(run, step)
    return run


def no_complaint(text: str) -> None:
    raise AssertionError(text)


def good(run: Run) -> list[int]:
    return [step for step in run.steps if not checkpoints.verify(run.checkpoints / f"step-{step:08d}")]


def go_on(run: Run, next_step: int, *, expected: list[int]) -> None:
    """Resume, as a trainer does, and make the next checkpoint."""
    newest = run.load(no_complaint)
    assert all((newest.tensors[part]["weight"] == newest.step).all() for part in ("model", "ema", "optimizer"))
    run.truncate_metrics(newest.step)
    assert [line["step"] for line in run.metrics()] == [*range(run.metrics()[0]["step"], newest.step + 1)]
    train(run, next_step)
    assert good(run) == run.steps == expected
    assert not [path for path in run.checkpoints.iterdir() if path.name.startswith(".")]


def check_save(folder: Path, finished: bool) -> None:
    run = Run.open(folder)
    newest = good(run)[-1]
    assert newest == 13 or (newest == 12 and not finished)
    assert {10, newest, newest - 1} <= set(good(run))
    assert set(run.steps) == set(good(run))
    go_on(run, newest + 1, expected=[10, newest, newest + 1])


def prepare_replacement(folder: Path) -> None:
    """Step 12 is damaged, and dead writers have left things."""
    run = new_run(folder, 10, 11, 12)
    (run.checkpoints / "step-00000012" / "ema.safetensors").write_bytes(b"")
    for name in (".writing-step-00000012-1", ".doomed-step-00000009-1"):
        (run.checkpoints / name).mkdir()
        (run.checkpoints / name / "model.safetensors").write_bytes(b"half")


def check_replacement(folder: Path, finished: bool) -> None:
    run = Run.open(folder)
    assert good(run) == ([10, 11, 12] if finished or 12 in good(run) else [10, 11])
    train(run, 12)
    assert good(run) == run.steps == [10, 11, 12]
    go_on(run, 13, expected=[10, 12, 13])


def check_first(folder: Path, finished: bool) -> None:
    run = Run.open(folder)
    assert run.steps == good(run)
    assert run.steps == [1] or not finished
    train(run, 1)
    go_on(run, 2, expected=[1, 2])


def change_settings(folder: Path) -> None:
    Run.open(folder).update_config({"seed": 0, "steps": 20})
    Run.open(folder).truncate_metrics(11)


def check_settings(folder: Path, finished: bool) -> None:
    run = Run.open(folder)
    figures = [line["step"] for line in run.metrics()]
    changed = run.config == {"seed": 0, "steps": 20}
    assert changed or run.config == {"seed": 0}
    assert figures == [10, 11] or (figures == [10, 11, 12] and not finished)
    assert changed or (figures == [10, 11, 12] and not finished)


def check_creation(folder: Path, finished: bool) -> None:
    assert Run.exists(folder) or not finished
    run = Run.open(folder) if Run.exists(folder) else new_run(folder)
    assert run.config == {"seed": 0}
    assert run.environments == [{"torch": "2"}]
    assert run.data == {"name": "digits"}
    train(run, 1)


STORIES = {
    "a save that drops an old one": Story(
        lambda folder: void(new_run(folder, 10, 11, 12)), lambda folder: train(Run.open(folder), 13), check_save
    ),
    "a save over a damaged one": Story(
        prepare_replacement, lambda folder: train(Run.open(folder), 12), check_replacement
    ),
    "the first save": Story(
        lambda folder: void(new_run(folder)), lambda folder: train(Run.open(folder), 1), check_first
    ),
    "a change of settings": Story(
        lambda folder: void(new_run(folder, 10, 11, 12)), change_settings, check_settings
    ),
    "the creation of a run": Story(
        lambda folder: folder.parent.mkdir(), lambda folder: void(new_run(folder)), check_creation
    ),
}


def void(_: object) -> None:
    """Something done for its effect."""


# Kills


def main(base: Path) -> None:
    """Play each story again and again, in children that are killed one moment later each time."""
    os.fsync = void  # the system outlives these kills, and the disk is not asked
    for name, story in STORIES.items():
        start = base / name / "start"
        start.parent.mkdir(parents=True)
        story.prepare(start / "run")
        for moment in itertools.count():
            case = base / name / f"{moment:03}"
            shutil.copytree(start, case)
            if not is_killed(story.act, case / "run", moment):
                break


def is_killed(act: Act, folder: Path, moment: int) -> bool:
    child = os.fork()
    if child == 0:
        try:
            die_at(moment)
            act(folder)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in {0, -signal.SIGKILL}:
        raise RuntimeError(f"the child ended with {status}")
    return status != 0


def die_at(moment: int) -> None:
    """Let a number of operations pass and die before the next; a write has a moment in its midst, too."""
    moments = iter(range(moment))

    def alive() -> None:
        if next(moments, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    def mortal(operation: Callable[..., Any]) -> Callable[..., Any]:
        def performed(*arguments: Any) -> Any:
            alive()
            return operation(*arguments)

        return performed

    def write_in_halves(file: Any, data: Any) -> None:
        durable_write(file, data[: len(data) // 2])
        alive()
        durable_write(file, data[len(data) // 2 :])

    durable_write = durable.write
    durable.write = write_in_halves
    for name in durable.OPERATIONS:
        setattr(durable, name, mortal(getattr(durable, name)))


@pytest.fixture(scope="session")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    base = tmp_path_factory.mktemp("killed")
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-W", "error", __file__, str(base)]
    child = subprocess.run(command, env=one_thread, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    return base


@pytest.mark.parametrize("name", STORIES)
def test_a_kill_at_any_operation_loses_nothing(name: str, killed: Path, no_fsync: None) -> None:
    *crashed, finished = sorted(path for path in (killed / name).iterdir() if path.name != "start")
    assert len(crashed) > 20
    for case in crashed:
        STORIES[name].check(case / "run", False)
    STORIES[name].check(finished / "run", True)


# Power cuts


@dataclass(eq=False)
class File:
    written: bytes = b""
    synced: bytes = b""

    def outcomes(self) -> dict[str, bytes]:
        """What a power cut may leave of it."""
        sure = self.synced if self.written.startswith(self.synced) else b""
        rest = self.written[len(sure) :]
        cut, zeroed = sure + rest[: len(rest) // 2], sure + bytes(len(rest))
        return {"kept": self.written, "lost": self.synced, "cut": cut, "zeroed": zeroed}


@dataclass(eq=False)
class Folder:
    names: "dict[str, File | Folder]" = field(default_factory=dict)
    synced: "dict[str, File | Folder]" = field(default_factory=dict)
    changes: "list[tuple[str | None, str | None, File | Folder]]" = field(default_factory=list)
    """(old name, new name, what bears it), since the last sync: each may or may not outlive a power cut."""

    def change(self, old: str | None, new: str | None, bearer: "File | Folder") -> None:
        self.changes.append((old, new, bearer))
        rebind(self.names, old, new, bearer)

    def sync(self) -> None:
        self.synced = dict(self.names)
        self.changes.clear()


def rebind(names: "dict[str, File | Folder]", old: str | None, new: str | None, bearer: "File | Folder") -> None:
    if old is not None:
        names.pop(old, None)
    if new is not None:
        names[new] = bearer
