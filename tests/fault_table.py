"""Every command under every fault: signals, streams that are closed or full, a disk that takes nothing.

Run as a script by test_faults.py. Torch is loaded once; each case is a forked child in a copy of the same folder, and
what it says, how it ends and what it leaves is for the tests to look at.
"""

import hashlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import tomli_w
import torch
from crash_stories import EVENTS, wrap_operations

from kakusan.cli import MODULES, main
from kakusan.config import loading
from kakusan.config.settings import Settings
from kakusan.data import Batches
from kakusan.data.batches import Batch
from kakusan.storage import durable

STEPS, LONGER, STRUCK = 4, 8, 5
"""Of the run that is there, of the trainings in the table, and the step amidst which a signal comes."""
TINY = {
    "data": {"source": "data.npz", "held_out": 4},
    "process": {"T": 6},
    "network": {"width": 8, "multipliers": [1, 1], "blocks": 1, "attention": [1]},
    "training": {"steps": LONGER, "batch_size": 4, "warmup": 0},
    "log": {"every": 2},
    "samples": {"count": 2, "steps": 2},
    "machine": {"device": "cpu", "threads": 1},
}

COMMANDS: dict[str, list[str]] = {
    "train": ["train", "data.npz", "--config", "tiny.toml", "--run", "new", "--json"],
    "resume": ["resume", "run", "--steps", str(LONGER), "--json"],
    "demo": ["demo", "--run", "new"],
    "sample to a folder": [
        "sample",
        "run",
        "--count",
        "3",
        "--out",
        "pictures",
        "--overwrite",
        "--seed",
        "{}",
    ],
    "sample to a grid": ["sample", "run", "--count", "3", "--out", "grid.png", "--overwrite", "--seed", "{}"],
    "evaluate": ["evaluate", "run", "--images", "2", "--terms", "3", "--per-image", "scores.csv"],
    "report": ["report", "run"],
    "explain": ["explain", "run"],
    "import": ["import", "exported", "--run", "imported"],
    "export": ["export", "run", "model"],
    "export of weights": ["export", "run", "model.safetensors", "--to", "safetensors"],
    "data": ["data", "data.npz", "--sheet", "sheet.png", "--overwrite"],
}
TRAININGS = ("train", "resume", "demo")
PREPARATIONS = (
    ["train", "data.npz", "--config", "tiny.toml", "--run", "run", "--steps", str(STEPS)],
    *(COMMANDS[name] for name in COMMANDS if name.startswith(("sample", "evaluate", "explain", "data"))),
    ["export", "run", "exported"],
)
"""What is there before: a run, and something at each place where a command will write."""


# Faults


def strike(number: int) -> None:
    """The signal comes amidst a step, or, where nothing is trained, amidst the first write."""
    plain_batch, plain_write = Batches.at, durable.write

    def at(self: Batches, step: int, start: int = 0, count: int | None = None) -> Batch:
        if step == STRUCK:
            os.kill(os.getpid(), number)
        return plain_batch(self, step, start, count)

    def write(file: Any, content: Any) -> None:
        plain_write(file, content[: len(content) // 2])
        os.kill(os.getpid(), number)
        plain_write(file, content[len(content) // 2 :])

    Batches.at = at  # type: ignore[method-assign]
    if sys.argv[1] not in TRAININGS:
        durable.write = write  # type: ignore[assignment]


def strike_twice() -> None:
    """As where a terminal is lost: the system tells the group, and the shell tells its jobs."""
    strike(signal.SIGHUP)
    struck = Batches.at

    def at(self: Batches, step: int, start: int = 0, count: int | None = None) -> Batch:
        struck(self, step, start, count)
        return struck(self, step, start, count)

    Batches.at = at  # type: ignore[method-assign]


def watch() -> None:
    """Nothing goes wrong; but a change to the disk that passes by storage/durable.py is told on stderr."""
    known: set[tuple[str, str]] = set()

    def noted(name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def performed(*arguments: Any) -> Any:
            known.add((name, str(arguments[0])))
            return operation(*arguments)

        return performed

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event in EVENTS and (event != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if event == "os.mkdir" and Path(arguments[0]).is_dir():
            return  # told, too, of a folder that is there
        if writes and (EVENTS[event], str(arguments[0])) not in known and is_ours(str(arguments[0])):
            os.write(2, f"passed by: {event} {arguments[0]}\n".encode())

    wrap_operations(noted)
    sys.addaudithook(note)


def is_ours(path: str) -> bool:
    """In the folder of the case, and no lock, which bears no content."""
    return Path(path).absolute().is_relative_to(Path.cwd()) and Path(path).name not in ("lock", "times.lock")


def break_stdout() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)


def fill(descriptor: int) -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), descriptor)


def close_stderr() -> None:
    os.close(2)
    sys.stderr = None  # as Python begins without one


FAULTS: dict[str, Callable[[], None]] = {
    "nothing": watch,
    "SIGKILL": lambda: strike(signal.SIGKILL),
    "SIGHUP": lambda: strike(signal.SIGHUP),
    "SIGTERM": lambda: strike(signal.SIGTERM),
    "broken stdout": break_stdout,
    "full stdout": lambda: fill(1),
    "no room": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
}
OF_ONE: dict[str, Callable[[], None]] = {
    "SIGHUP twice": strike_twice,
    "SIGUSR1": lambda: strike(signal.SIGUSR1),
    "full stderr": lambda: fill(2),
    "closed stderr": close_stderr,
}
"""Further ones, tried on `resume` alone."""


# Children


def played(arguments: list[str], fault: Callable[[], None], folder: Path) -> dict[str, Any]:
    """Exit code and words of a child that runs this command under this fault."""
    (hear_out, say_out), (hear_err, say_err) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.dup2(say_out, 1)
            os.dup2(say_err, 2)
            for end in (say_out, say_err, hear_out, hear_err):
                os.close(end)
            os.chdir(folder)
            sys.argv = ["kakusan", *arguments]
            fault()
            code = main(arguments)
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)
    os.close(say_out)
    os.close(say_err)
    with os.fdopen(hear_out) as out, os.fdopen(hear_err) as err:
        said = {"out": out.read(), "err": err.read()}  # less than a pipe holds, each
    return {"code": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), **said}


def tree(folder: Path) -> dict[str, str]:
    """The hash of every file."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def prepare(start: Path) -> None:
    start.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1), dtype=np.uint8)
    np.savez(start / "data.npz", images=images)
    (start / "tiny.toml").write_text(tomli_w.dumps({k: v for k, v in TINY.items() if k != "data"}))
    for command in PREPARATIONS:
        done = played([word.format(0) for word in command], lambda: None, start)
        assert done["code"] == 0, done


def tiny_demo(_: str, **__: Any) -> Settings:
    """The demo at the size of the table."""
    return loading.from_mapping(TINY, "here")


def load() -> None:
    """What the commands load, once for all children."""
    for name in ("progress", "evaluate", "explain", "data", *MODULES.values()):
        import_module(f"kakusan.cli.{name}")
    for name in (
        "evaluation.bound",
        "evaluation.plots",
        "pages.explain.page",
        "pages.explain.text",
        "pages.explain.gather",
        "interop.exporting",
    ):
        import_module(f"kakusan.{name}")
    import_module("kakusan.interop.importing")
    figure = matplotlib.figure.Figure()
    figure.add_subplot().set_title("t")
    figure.savefig(io.BytesIO())  # which loads a backend and fonts
    torch.optim.AdamW([torch.zeros(1)])


def play(base: Path) -> None:
    os.fsync = lambda _: None  # type: ignore[assignment]  # the system outlives its processes
    torch.set_num_threads(1)
    load()
    prepare(base / "start")
    usual: Any = loading.settings_for
    before, results = tree(base / "start"), {}
    for name, command in COMMANDS.items():
        loading.settings_for = tiny_demo if name == "demo" else usual  # type: ignore[assignment]
        for fault, act in (FAULTS | (OF_ONE if name == "resume" else {})).items():
            case = base / "case"
            shutil.copytree(base / "start", case)
            done = played([word.format(1) for word in command], act, case)
            results[f"{name}, {fault}"] = {**done, "after": tree(case)}
            shutil.rmtree(case)
    (base / "results.json").write_text(json.dumps({"before": before, "cases": results}))


if __name__ == "__main__":
    play(Path(sys.argv[1]))
