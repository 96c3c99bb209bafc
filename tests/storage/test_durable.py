"""What is asked of the system when something is saved, and what is left where it refuses."""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from kakusan.errors import RunError
from kakusan.storage import durable
from kakusan.storage.checkpoints import Checkpoint, verify
from kakusan.storage.run_folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    made = RunFolder.create(tmp_path / "run", {}, {}, {})
    save(made, 1)
    save(made, 2)
    return made


def save(run: RunFolder, step: int) -> None:
    run.append_metrics({"step": step})
    run.save(Checkpoint(step, {"model": {"w": torch.ones(1)}}, {}), keep=2)


def test_the_file_and_then_its_folder_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[bool, int]] = []
    plain = os.fsync

    def noted(descriptor: int) -> None:
        about = os.fstat(descriptor)
        asked.append((stat.S_ISDIR(about.st_mode), about.st_ino))
        plain(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    durable.atomic_write(tmp_path / "file", b"content")
    assert asked == [(False, (tmp_path / "file").stat().st_ino), (True, tmp_path.stat().st_ino)]


def test_files_that_belong_together_replace_older_ones_only_when_all_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [(tmp_path / name, name.encode()) for name in ("a", "b", "c")]
    for path, _ in files:
        path.write_bytes(b"old")
    plain = durable.write

    def full_at_the_last(file: Any, content: bytes) -> None:
        if content == b"c":
            raise OSError(errno.ENOSPC, "full")
        plain(file, content)

    monkeypatch.setattr(durable, "write", full_at_the_last)
    with pytest.raises(OSError, match="full"):
        durable.atomic_writes(files)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys("abc", b"old")


def failing_once(operation: Callable[..., Any], code: int, after: int) -> Callable[..., Any]:
    calls = iter(range(after + 1))

    def performed(*arguments: Any) -> Any:
        if next(calls, None) == after:
            raise OSError(code, os.strerror(code))
        return operation(*arguments)

    return performed


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS], ids=["EIO", "EROFS"])
@pytest.mark.parametrize("name", durable.OPERATIONS)
def test_a_disk_that_fails_amidst_a_save_loses_nothing_that_was_there(
    name: str, code: int, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each of the first calls of each operation in turn."""
    for after, step in enumerate((3, 4, 5, 6)):
        before = run.steps
        with monkeypatch.context() as patch:
            patch.setattr(durable, name, failing_once(getattr(durable, name), code, after))
            with suppress(RunError):  # some only spare the past or the figures: then it succeeds
                save(run, step)
        good = [step for step in run.steps if not verify(run.checkpoint_path(step))]
        assert good == run.steps
        assert before[-1] in good
        save(run, step)
        assert run.steps[-1] == step
        assert not list(run.checkpoints.glob(".*"))
