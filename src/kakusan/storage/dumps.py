"""Dumps of steps whose numbers were not finite: files of the inputs, written by the training."""

from pathlib import Path

from kakusan.storage.manifest import folder_name
from kakusan.storage.run_folder import RunFolder


def stopped_at(run: RunFolder) -> int | None:
    """The step (counted from 1) whose numbers were not finite, where the run has not come past it since."""
    latest = max(_dumps(run), default=0)
    return latest if latest > max(run.steps, default=0) else None


def forget_after(run: RunFolder, step: int) -> None:
    """Delete the dumps of later steps, where a training goes on: it comes there again, or goes another way."""
    for dumped, path in _dumps(run).items():
        if dumped > step:
            path.unlink(missing_ok=True)


def _dumps(run: RunFolder) -> dict[int, Path]:
    """The dumps by their steps."""
    pattern = run.dump_path(0).name.replace(folder_name(0), "step-*")
    numbered = {path.stem.rpartition("-")[2]: path for path in run.folder.glob(pattern)}
    return {int(number): path for number, path in numbered.items() if number.isdecimal()}
