"""Dumps of steps whose numbers were not finite: files of the inputs, written by the training."""

from kakusan.storage.manifest import folder_name
from kakusan.storage.run_folder import RunFolder


def stopped_at(run: RunFolder) -> int | None:
    """The step (counted from 1) whose numbers were not finite, where the run has not come past it since."""
    pattern = run.dump_path(0).name.replace(folder_name(0), "step-*")
    numbers = [path.stem.rpartition("-")[2] for path in run.folder.glob(pattern)]
    latest = max((int(number) for number in numbers if number.isdecimal()), default=0)
    return latest if latest > max(run.steps, default=0) else None
