"""Figures that cannot be written wait; the training does not."""

from pathlib import Path

import pytest
from tiny import TINY

from kakusan.cli import main
from kakusan.data import Batches
from kakusan.data.batches import Batch
from kakusan.errors import RunError
from kakusan.run import Run
from kakusan.storage.journal import Journal
from kakusan.storage.run_folder import RunFolder
from kakusan.training.trainer import Began, Ended, Event, Saved, Trainer, Warned

FLAGS = [*TINY, "--log.every", "1"]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", {}, {}, {})


def test_lines_that_could_not_be_written_come_later_and_in_their_order(run: RunFolder) -> None:
    journal = Journal(run)
    assert journal.add({"step": 1}) is None
    (run.folder / "metrics.jsonl").rename(run.folder / "aside")
    (run.folder / "metrics.jsonl").mkdir()
    warning = journal.add({"step": 2})
    assert warning is not None
    assert warning.startswith(f"cannot write {run.folder / 'metrics.jsonl'}: ")
    assert journal.add({"step": 3}) is None  # said once
    assert journal.end() == f"2 lines of figures could not be written to {run.folder}"
    (run.folder / "metrics.jsonl").rmdir()
    (run.folder / "aside").rename(run.folder / "metrics.jsonl")
    assert journal.add({"step": 4}) is None
    assert journal.end() is None
    assert [line["step"] for line in run.metrics()] == [1, 2, 3, 4]


def test_a_training_whose_figures_cannot_be_written_goes_on_and_saves(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert main(["train", str(data), "--run", str(folder), "--steps", "1", *FLAGS]) == 0
    assert main(["resume", str(folder), "--steps", "1", "--samples.every", "1"]) == 0
    config = folder / "config.toml"
    config.write_text(config.read_text().replace("steps = 1\n", "steps = 4\n", 1))
    events: list[Event] = []
    for event in Trainer(RunFolder.open(folder), Run.open(folder).settings).events():
        events.append(event)
        if isinstance(event, Began):
            (folder / "metrics.jsonl").unlink()
            (folder / "metrics.jsonl").mkdir()
    assert RunFolder.open(folder).steps[-1] == 4
    assert [event.step for event in events if isinstance(event, Saved)] == [4]
    assert isinstance(events[-1], Ended)
    assert (
        len([event for event in events if isinstance(event, Warned) and "metrics.jsonl" in event.text]) == 1
    )
    assert any(isinstance(event, Warned) and "could not be written" in event.text for event in events)


def test_a_run_that_is_moved_away_while_it_is_trained_is_saved_and_told(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, moved = tmp_path / "run", tmp_path / "moved"
    plain = Batches.at

    def at(self: Batches, step: int, start: int = 0, count: int | None = None) -> Batch:
        if step == 2:
            folder.rename(moved)
        return plain(self, step, start, count)

    monkeypatch.setattr(Batches, "at", at)
    assert main(["train", str(data), "--run", str(folder), "--steps", "4", *FLAGS]) == 4
    said = capsys.readouterr().err
    assert f"error: {folder} was moved away, or removed, while it was trained" in said
    monkeypatch.undo()
    (folder / "checkpoints").rename(moved / "checkpoints")  # there was none yet
    assert main(["resume", str(moved), "--steps", "5"]) == 0


def test_a_full_log_is_told_once(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert main(["train", str(data), "--run", str(folder), "--steps", "1", *FLAGS]) == 0
    (folder / "log.txt").unlink()
    (folder / "log.txt").mkdir()
    capsys.readouterr()
    assert main(["resume", str(folder), "--steps", "2"]) == 0
    assert capsys.readouterr().err.count("log.txt") == 1


def test_a_run_folder_cannot_be_made_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot make the run"):
        RunFolder.create(tmp_path / "file" / "run", {}, {}, {})
