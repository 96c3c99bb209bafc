"""Stories for the proofs of crash safety: acts on a run folder, and what must hold if one ends at any moment.

Run as a script, this file plays each story again and again in forked children that are killed, one operation
later each time; torch is loaded once. The folders that are left are for the tests to look at.
"""

import itertools
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from kakusan.data.saving import Output
from kakusan.data.units import Levels
from kakusan.errors import RunError
from kakusan.storage import checkpoints, durable
from kakusan.storage.checkpoints import Checkpoint
from kakusan.storage.run_folder import RunFolder

PARTS = ("model", "ema", "optimizer")


@dataclass(frozen=True)
class Story:
    prepare: Callable[[Path], object]
    act: Callable[[Path], object]
    check: Callable[[Path, bool], None]
    """What holds after a crash amidst the act, or (True) after one that came when the act was over."""


def checkpoint(step: int) -> Checkpoint:
    tensors = {part: {"weight": torch.full((3,), float(step))} for part in PARTS}
    return Checkpoint(step, tensors, {"seed": 0})


def train(run: RunFolder, step: int) -> None:
    run.append_metrics({"step": step})
    run.save(checkpoint(step), keep=2, keep_every=10)


def new_run(folder: Path, *steps: int) -> RunFolder:
    run = RunFolder.create(folder, {"seed": 0}, {"torch": "2"}, {"name": "digits"})
    for step in steps:
        train(run, step)
    return run


def no_complaint(text: str) -> None:
    raise AssertionError(text)


def good(run: RunFolder) -> list[int]:
    return [step for step in run.steps if not checkpoints.verify(run.checkpoints / f"step-{step:08d}")]


def go_on(run: RunFolder, next_step: int, *, expected: list[int]) -> None:
    """Resume, as a trainer does, and make the next checkpoint; nothing of the crash may remain."""
    newest = run.load(no_complaint)
    assert all((newest.tensors[part]["weight"] == newest.step).all() for part in PARTS)
    run.truncate_metrics(newest.step)
    figures = [line["step"] for line in run.metrics()]
    assert figures == list(range(figures[0], newest.step + 1))
    train(run, next_step)
    assert good(run) == run.steps == expected
    assert not list(run.checkpoints.glob(".*"))


def check_save(folder: Path, finished: bool) -> None:
    run = RunFolder.open(folder)
    newest = good(run)[-1]
    assert newest == 13 or (newest == 12 and not finished)
    assert {10, newest - 1, newest} <= set(good(run))
    assert run.steps == good(run)  # the one that goes is never seen half gone
    go_on(run, newest + 1, expected=[10, newest, newest + 1])


def prepare_replacement(folder: Path) -> None:
    """Step 12 is damaged, dead writers have left things, and the training goes on from step 11."""
    run = new_run(folder, 10, 11, 12)
    run.truncate_metrics(11)
    (run.checkpoints / "step-00000012" / "ema.safetensors").write_bytes(b"")
    for name in (".writing-step-00000012-1", ".doomed-step-00000009-1"):
        (run.checkpoints / name).mkdir()
        (run.checkpoints / name / "model.safetensors").write_bytes(b"half")


def check_replacement(folder: Path, finished: bool) -> None:
    run = RunFolder.open(folder)
    assert good(run) == [10, 11, 12] or (good(run) == [10, 11] and not finished)
    run.truncate_metrics(11)
    train(run, 12)
    go_on(run, 13, expected=[10, 12, 13])


def check_first(folder: Path, finished: bool) -> None:
    run = RunFolder.open(folder)
    assert run.steps == good(run)
    assert run.steps == [1] or (run.steps == [] and not finished)
    run.truncate_metrics(len(run.steps))
    assert [line["step"] for line in run.metrics()] == run.steps
    train(run, 1 + len(run.steps))
    go_on(run, 1 + run.steps[-1], expected=[run.steps[-1], 1 + run.steps[-1]])


def change_settings(folder: Path) -> None:
    run = RunFolder.open(folder)
    run.update_config({"seed": 0, "steps": 20})
    run.truncate_metrics(11)


def check_settings(folder: Path, finished: bool) -> None:
    run = RunFolder.open(folder)
    changed, figures = run.config == {"seed": 0, "steps": 20}, len(run.metrics())
    assert changed or run.config == {"seed": 0}
    assert (changed, figures) in {(False, 3), (True, 3), (True, 2)}
    assert (changed, figures) == (True, 2) or not finished


def check_creation(folder: Path, finished: bool) -> None:
    assert RunFolder.exists(folder) or not finished
    run = RunFolder.open(folder) if RunFolder.exists(folder) else new_run(folder)
    assert run.config == {"seed": 0}
    assert run.environments == [{"torch": "2"}]
    assert run.data == {"name": "digits"}
    train(run, 1)


def keep_snapshot(step: int) -> Callable[[Path], None]:
    return lambda folder: snap(RunFolder.open(folder), step)


def snap(run: RunFolder, step: int) -> None:
    run.save_snapshot(
        Checkpoint(step, {"ema": {"weight": torch.full((3,), float(step)).half()}}, {"seed": 0})
    )


def prepare_snapshots(folder: Path) -> None:
    """Of steps before and after the newest checkpoint, and what a dead writer has left."""
    run = new_run(folder, 10, 11, 12)
    for step in (3, 12, 14, 15):
        snap(run, step)
    (run.snapshots / ".writing-step-00000016-1").mkdir()


def forget_snapshots(folder: Path) -> None:
    RunFolder.open(folder).truncate_snapshots(12)


def check_snapshots(allowed: list[list[int]]) -> Callable[[Path, bool], None]:
    """These may be there after a crash, the last of them when the act was over; each is whole, and so is the run."""

    def check(folder: Path, finished: bool) -> None:
        run = RunFolder.open(folder)
        assert run.snapshot_steps in (allowed[-1:] if finished else allowed)
        for step in run.snapshot_steps:
            assert (run.load_snapshot(step).tensors["ema"]["weight"] == step).all()
        assert good(run) == run.steps == [10, 11, 12]
        run.truncate_snapshots(12)  # as a resume does
        snap(run, 13)
        snap(run, 14)
        assert run.snapshot_steps == [*(step for step in allowed[-1] if step < 13), 13, 14]
        assert not list(run.snapshots.glob(".*"))

    return check


def save_step(step: int) -> Callable[[Path], None]:
    return lambda folder: train(RunFolder.open(folder), step)


def prepare_three(folder: Path) -> None:
    new_run(folder, 10, 11, 12)


def prepare_nothing(folder: Path) -> None:
    assert not folder.exists()


def save_pictures(level: int) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        grey = torch.full((3, 1, 2, 2), level / 127.5 - 1)
        Output(folder, range(3), overwrite=True).save(grey, Levels(256), {"level": level})

    return save


def check_pictures(folder: Path, finished: bool) -> None:
    """Each is whole, an old one or a new one; the next go replaces all, and tidies up."""
    levels = {read_level(folder / f"{number:08d}.png") for number in range(3)}
    assert levels <= ({2} if finished else {1, 2})
    assert json.loads((folder.with_name("run.json")).read_text())["level"] in (levels if finished else {1, 2})
    for leftover in folder.glob(".writing-*"):  # of the number of a process that is dead by now
        leftover.rename(leftover.with_name(f"{leftover.name.rpartition('-')[0]}-{2**22}"))
    save_pictures(3)(folder)
    assert sorted(path.name for path in folder.iterdir()) == [f"{number:08d}.png" for number in range(3)]
    assert {read_level(path) for path in folder.iterdir()} == {3}


def read_level(path: Path) -> int:
    with Image.open(path) as picture:
        (level,) = set(picture.tobytes())
    return int(level)


STORIES = {
    "new pictures over old ones": Story(save_pictures(1), save_pictures(2), check_pictures),
    "a save that drops an old one": Story(prepare_three, save_step(13), check_save),
    "a save over a damaged one": Story(prepare_replacement, save_step(12), check_replacement),
    "the first snapshot": Story(prepare_three, keep_snapshot(13), check_snapshots([[], [13]])),
    "a snapshot beside others": Story(
        prepare_snapshots, keep_snapshot(13), check_snapshots([[3, 12, 14, 15], [3, 12, 13, 14, 15]])
    ),
    "a way back behind snapshots": Story(
        prepare_snapshots, forget_snapshots, check_snapshots([[3, 12, 14, 15], [3, 12, 14], [3, 12]])
    ),
    "the first save": Story(new_run, save_step(1), check_first),
    "a change of settings": Story(prepare_three, change_settings, check_settings),
    "the creation of a run": Story(prepare_nothing, new_run, check_creation),
}


# Children


def main(base: Path) -> None:
    os.fsync = lambda _: None  # type: ignore[assignment]  # the system outlives the kills: no need for the disk
    for name, story in STORIES.items():
        start = base / name / "start"
        start.mkdir(parents=True)
        story.prepare(start / "run")
        for moment in itertools.count():
            case = base / name / f"{moment:03}"
            shutil.copytree(start, case)
            if exit_status(partial(die_at, moment, story.act, case / "run")) == 0:
                break
        shutil.copytree(start, base / "watched" / name)
        assert exit_status(partial(watch, story.act, base / "watched" / name / "run")) == 0
    assert exit_status(partial(meet_a_limit, base / "limited")) == 0


def exit_status(task: Callable[[], None]) -> int:
    """How a forked child ends that does this: 0, or minus the signal that killed it."""
    child = os.fork()
    if child == 0:
        try:
            task()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in {0, -signal.SIGKILL}
    return status


def wrap_operations(wrap: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> None:
    for name in durable.OPERATIONS:
        setattr(durable, name, wrap(name, getattr(durable, name)))


def die_at(moment: int, act: Callable[[Path], object], folder: Path) -> None:
    """Let so many operations pass and die before the next; a write has a moment in its midst, too."""
    moments = iter(range(moment))

    def live() -> None:
        if next(moments, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    def mortal(_name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def performed(*arguments: Any) -> Any:
            live()
            return operation(*arguments)

        return performed

    def write_in_halves(file: Any, data: Any) -> None:
        whole_write(file, data[: len(data) // 2])
        live()
        whole_write(file, data[len(data) // 2 :])

    whole_write = durable.write
    durable.write = write_in_halves
    wrap_operations(mortal)
    act(folder)


EVENTS = {
    "os.mkdir": "make_folder",
    "os.rename": "rename",
    "os.remove": "remove",
    "os.rmdir": "remove_folder",
    "open": "open_file",
}
"""What Python reports of changes to the disk, and the operation that is to be its only source."""


def watch(act: Callable[[Path], object], folder: Path) -> None:
    """Prove that nothing changes a run folder but the operations which the other proofs look at."""
    operations: list[tuple[str, str]] = []
    changes: list[tuple[str, str]] = []

    def noted(name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def performed(*arguments: Any) -> Any:
            if name in EVENTS.values():
                operations.append((name, str(arguments[0])))
            return operation(*arguments)

        return performed

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event in EVENTS and (event != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            changes.append((EVENTS[event], str(arguments[0])))

    wrap_operations(noted)
    sys.addaudithook(note)
    act(folder)
    assert operations
    strange = set(changes) - set(operations)
    assert {Path(path).name for _, path in strange} <= {
        "lock",
        "times.lock",
    }  # filelock's, which bear no content


def meet_a_limit(folder: Path) -> None:
    """Save once, then meet the limit on the size of a file; what is told stands in a file."""
    import resource  # not on Windows, where no child is forked either

    run = new_run(folder, 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    tensors = {part: {"weight": torch.zeros(50_000)} for part in PARTS}
    try:
        run.save(Checkpoint(2, tensors, {}))
    except RunError as error:
        (folder / "told").write_text(str(error))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
