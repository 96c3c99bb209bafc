"""Threads: as many as OMP_NUM_THREADS allows, where the user has set it; a training keeps those that it began with."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import TINY

import kakusan as kk
from kakusan.cli import main
from kakusan.config.machine import allowed_threads, for_use, resolve_machine
from kakusan.config.settings import MachineSettings


@pytest.mark.parametrize(
    ("said", "allowed"),
    [("1", 1), (" 3 ", 3), ("2,1", 2), ("", None), ("0", None), ("-1", None), ("many", None)],
)
def test_the_first_number_is_what_is_allowed(
    said: str, allowed: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert allowed_threads() == allowed


def test_auto_keeps_to_it_and_a_number_that_is_given_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = resolve_machine(MachineSettings(device="cpu"))
    assert (found.threads, found.workers) == (1, 1)
    assert resolve_machine(MachineSettings(device="cpu", threads=2)).threads == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "4096")  # more than cores are of no use
    assert resolve_machine(MachineSettings(device="cpu")).threads != 4096


def test_uses_of_a_run_have_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = MachineSettings(device="cpu", threads=4, workers=4)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert (for_use(trained).threads, for_use(trained).workers) == (2, 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert for_use(trained) == trained
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert for_use(trained) == trained


def test_samples_tell_of_their_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, out = tmp_path / "run", tmp_path / "x.npz"
    flags: list[Any] = [*TINY, "--machine.threads", "2"]
    assert main(["train", "digits", "--run", str(run), "--steps", "2", *flags]) == 0
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert main(["sample", str(run), "--count", "2", "--out", str(out)]) == 0
    about = json.loads(Path(f"{out}.json").read_text("utf-8"))
    assert (about["machine"]["threads"], about["environment"]["threads"]) == (1, 1)
    assert main(["resume", str(run), "--steps", "3"]) == 0
    assert kk.Run.open(run).settings.machine.threads == 2
