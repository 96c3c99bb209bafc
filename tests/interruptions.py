"""Trainings that are interrupted at every step, in every way, and then resumed; run as a script by test_resume.py.

The trainings that are not interrupted run here, so that what a training loads is loaded once; all others are forked
children. What each leaves is compared by its hashes.
"""

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from kakusan.config.loading import Requested, from_mapping
from kakusan.config.settings import Settings
from kakusan.data import Batches
from kakusan.data.batches import Batch
from kakusan.storage.run_folder import RunFolder
from kakusan.terminal.signals import StopRequest
from kakusan.training import step as steps_of
from kakusan.training import trainer
from kakusan.training.launch import launch
from kakusan.training.state import Task
from kakusan.training.step import TrainState
from kakusan.training.validation import Compared

STEPS = 12
SETTINGS: dict[str, dict[str, Any]] = {
    "data": {"held_out": 2, "flip": True, "labels": True},
    "network": {"width": 8, "multipliers": [1], "blocks": 1, "attention": [], "dropout": 0.3},
    # 18 images in batches of 6 x 2: every second batch lies across two epochs
    "training": {
        "steps": STEPS,
        "batch_size": 12,
        "accumulation": 2,
        "learning_rate": 1e-2,
        "warmup": 5,
        "ema": 0.9,
    },
    "log": {"every": 5},
    "samples": {"every": 6, "count": 2, "steps": 2},
    "checkpoint": {"every": 3, "snapshots": [2, 6, 8]},  # between two checkpoints, and at one
    "machine": {"device": "cpu", "threads": 1, "precision": "fp32"},
}


TRANSFORMER: dict[str, dict[str, Any]] = {
    "network": {"kind": "transformer", "width": 16, "blocks": 2, "heads": 2, "patch": 4}
}
LEARNING_TIMES: dict[str, dict[str, Any]] = {
    "process": {"T": 4, "predicts": "v", "variance": "learned"},
    "training": {"loss": "bound", "times": "importance"},
}
"""With so few t the history of losses is full, and steers the draws, after four steps."""
SCHEDULE: dict[str, dict[str, Any]] = {
    "process": {"T": 20, "schedule": "learned", "variance": "learned"},
    "training": {"loss": "bound", "times": "importance"},
}
WATCHED: dict[str, dict[str, Any]] = {"training": {"stop": "when-done"}, "samples": {"every": 2}}
HELD_OUT = {2: 1.0, 4: 0.9, 6: 0.95, 8: 0.95, 10: 0.95}
"""Losses of a training that is done at step 10, with the averaged weights of step 4."""
REWINDING: dict[str, dict[str, Any]] = {"training": {"on_nan": "rewind"}}
MUON: dict[str, dict[str, Any]] = {"training": {"optimizer": "muon", "on_nan": "rewind"}}
BREAKING = ("rewinding", "muon")
"""Kinds of training whose numbers are not finite at some steps."""
BAD_STEPS = (1, 8)
"""Finished steps after which the loss is not finite, the first at the whole rate, the second at half of it: one before
any checkpoint, and one later."""
PARTS: dict[str, dict[str, Any]] = {"training": {"batch_size": 16}, "machine": {"threads": 2, "workers": 2}}
"""Micro-batches of 8, two parts of each at once."""
KINDS = {
    "importance": LEARNING_TIMES,
    "schedule": SCHEDULE,
    "transformer": TRANSFORMER,
    "parts": PARTS,
    "watched": WATCHED,
    "rewinding": REWINDING,
    "muon": MUON,
}


class Interruption(Exception):  # noqa: N818
    """Something that nobody expected."""


def by_exception() -> None:
    raise Interruption


def by_sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def by_sigint() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def by_sigkill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


WAYS: dict[str, Callable[[], None]] = {
    "exception": by_exception,
    "SIGTERM": by_sigterm,
    "SIGINT": by_sigint,
    "SIGKILL": by_sigkill,
}


PLACES = {"exception": (0, 4, 7, 11), "SIGTERM": range(12), "SIGKILL": range(12)}
"""The steps at which a training is interrupted, by the way it is."""
OF_THE_UNPLANNED = {"SIGTERM": (1, 8), "SIGKILL": (1, 2, 8, 9, 10)}
"""Where a training that leaves its plan is interrupted: SIGTERM, at its bad steps, beside them, and before its end."""
MID_EPOCH = 7  # where the ways that need not be tried at every step are tried


def settings(base: Path, kind: str) -> Settings:
    """A small training with dropout, flips, labels and accumulation; kind: fp32, bf16, or a name of `KINDS`."""
    precision = "bf16" if kind == "bf16" else "fp32"
    sections = [{"data": {"source": str(base / "data.npz")}, "machine": {"precision": precision}}]
    sections += [KINDS[kind]] if kind in KINDS else []
    merged = from_mapping(SETTINGS, "here")
    for section in sections:
        merged = from_mapping(section, "here", merged)
    return merged


def write_data(base: Path) -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    np.savez(base / "data.npz", images=images, labels=np.arange(20) % 3)


def train(
    folder: Path,
    interrupt: Callable[[], None] | None = None,
    at: int = -1,
    kind: str = "fp32",
    in_picture: int = -1,
) -> None:
    """Train to the end, or until interrupted in the middle of a step: after its first micro-batch was learned."""
    plain, plain_picture = Batches.at, trainer._picture
    plain_step, plain_losses = steps_of._micro_step, trainer._losses

    waiting = [interrupt] if interrupt is not None else []  # once: a step may be fed again

    def interrupted(self: Batches, step: int, start: int = 0, count: int | None = None) -> Batch:
        if step == at and start > 0 and waiting:
            waiting.pop()()
        return plain(self, step, start, count)

    def killed_in_the_picture(task: Task, run: RunFolder) -> trainer.Sampled | trainer.Warned:
        if task.state.step == in_picture:
            by_sigkill()
        return plain_picture(task, run)

    def not_finite(state: TrainState, *others: Any) -> tuple[Tensor, Tensor]:
        t, losses = plain_step(state, *others)
        bad = kind in BREAKING and state.step in BAD_STEPS[state.course.rewinds :]
        return t, losses * torch.nan if bad else losses

    def scripted(task: Task) -> Compared:
        found = plain_losses(task)
        return replace(found, held_out=(HELD_OUT[task.state.step],) * 2) if kind == "watched" else found

    with (
        patch.object(os, "fsync", lambda _: None),  # a power cut is another test's question
        patch.object(Batches, "at", interrupted),
        patch.object(trainer, "_picture", killed_in_the_picture),
        patch.object(steps_of, "_micro_step", not_finite),
        patch.object(trainer, "_losses", scripted),
    ):
        launched = launch(Requested(settings(folder.parent, kind)), folder)
        with StopRequest() as stop:
            stop.arm()
            for _ in launched.events(stop):
                pass


def in_a_child(act: Callable[[], None]) -> int:
    """The exit status of a forked process that does this."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            act()
            code = 0
        except Interruption:
            code = 3
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def traces(folder: Path) -> dict[str, Any]:
    """What a training leaves: hashes of the tensors of its last checkpoint, of snapshots, pictures; its figures."""
    run = RunFolder.open(folder)
    last = run.checkpoints / f"step-{run.steps[-1]:08d}"
    files = sorted([*last.glob("*.safetensors"), *(folder / "samples").glob("*.png")])
    kept = {path.parent.name: path for path in sorted((folder / "snapshots").glob("*/*.safetensors"))}
    assert not list((folder / "snapshots").glob(".*"))
    state = json.loads((last / "state.json").read_text())
    lines = [{k: v for k, v in line.items() if k != "images_per_second"} for line in run.metrics()]
    return {
        "steps": run.steps,
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
        "snapshots": {step: hashlib.sha256(path.read_bytes()).hexdigest() for step, path in kept.items()},
        "state": {key: state.get(key) for key in ("step", "images_seen", "tally", "course", "learning_rate")},
        "metrics": lines,
    }


def tried(folder: Path, way: str, at: int, kind: str = "fp32") -> dict[str, Any]:
    """An interrupted training and its second start: exit codes, checkpoints in between, and what is left."""
    code = in_a_child(lambda: train(folder, WAYS[way], at, kind))
    steps = RunFolder.open(folder).steps
    again = in_a_child(lambda: train(folder, kind=kind))
    return {"code": code, "steps": steps, "again": again, "traces": traces(folder)}


def main(base: Path) -> None:
    """Kills and SIGTERM at every step, exceptions at some, also where a training ends early or goes back; Ctrl-C, half
    precision, times and a schedule that learn, a transformer and parts at once, at one."""
    torch.set_num_threads(1)
    write_data(base)
    results: dict[str, Any] = {}
    for kind in ("fp32", "bf16", *KINDS):
        whole = base / f"whole-{kind}"
        if kind == "parts":  # a process with several OpenMP threads must not fork
            in_a_child(lambda: train(whole, kind="parts"))  # noqa: B023
        else:  # here, so that the children find all that is imported
            train(whole, kind=kind)
        results[whole.name] = traces(whole)
    for way, places in PLACES.items():
        for at in places:
            results[f"{way}-{at}"] = tried(base / f"{way}-{at}", way, at)
    for kind in ("watched", *BREAKING):
        for way, places in OF_THE_UNPLANNED.items():
            for at in places:
                results[f"{kind}-{way}-{at}"] = tried(base / f"{kind}-{way}-{at}", way, at, kind)
    results["SIGINT"] = tried(base / "SIGINT", "SIGINT", MID_EPOCH)
    results["bf16"] = tried(base / "bf16", "SIGKILL", MID_EPOCH, "bf16")
    for kind in ("importance", "schedule", "transformer", "parts"):
        results[kind] = tried(base / kind, "SIGKILL", MID_EPOCH, kind)
    for step in (6, STEPS):
        folder = base / f"picture-{step}"
        code = in_a_child(lambda: train(folder, in_picture=step))  # noqa: B023
        steps = RunFolder.open(folder).steps
        again = in_a_child(lambda: train(folder))  # noqa: B023
        results[folder.name] = {"code": code, "steps": steps, "again": again, "traces": traces(folder)}
    (base / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
