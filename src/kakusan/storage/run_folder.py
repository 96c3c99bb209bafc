"""The folder of one training, a run. Its file names stand in this module and storage/checkpoints.py alone.

    config.toml  environment.json  data.json  metrics.jsonl  checkpoints/  snapshots/  samples/step-00001200.png
    report.html  explain.html  plane.html  evaluation/step-00001200.json  analytic.json  times.json  log.txt
    conditions.safetensors (what samples are given where nothing is asked for)
    lock  lock.json (who holds it)

``config.toml`` is written last: a folder is a run once it has one.
"""

import json
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import tomli_w
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as tensor_bytes

from kakusan.errors import RunError, quoted
from kakusan.storage import checkpoints, durable
from kakusan.storage.checkpoints import Checkpoint
from kakusan.storage.figures import finite, is_figures
from kakusan.storage.locking import hold
from kakusan.storage.manifest import folder_name, json_bytes, step_of

CONFIG = "config.toml"
ENVIRONMENT = "environment.json"
DATA = "data.json"
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
SNAPSHOTS = "snapshots"
SAMPLES = "samples"
REPORT = "report.html"
EXPLANATION = "explain.html"
PLANE = "plane.html"
EVALUATION = "evaluation"
ANALYTIC = "analytic.json"
CONDITIONS = "conditions.safetensors"
LOG = "log.txt"
LOCK = "lock"
HOLDER = "lock.json"

OF_MODELS = ("model_index.json", "config.json", "unet")
"""Files that mark a folder of diffusers."""

TRAINERS = (CONFIG, ENVIRONMENT, DATA, METRICS)
"""Files that only the holder of the lock writes."""
UNFINISHED = {ENVIRONMENT, DATA, CONDITIONS, LOCK, HOLDER}
"""Files that a killed creation may have left: it is begun again."""

Complain = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class RunFolder:
    """The memory of one training: its settings, its data, its figures, its checkpoints and its pictures."""

    folder: Path
    config: Mapping[str, Any] = field(repr=False)

    @classmethod
    def create(
        cls,
        folder: Path,
        config: Mapping[str, Any],
        environment: Mapping[str, Any],
        data: Mapping[str, Any],
        conditions: Mapping[str, torch.Tensor] | None = None,
    ) -> "RunFolder":
        """Make an empty or missing folder a run. RunError where there is something: nothing is replaced.

        conditions: tensors by name, which `conditions` gives back.
        """
        folder = Path(folder)
        run = cls(folder, config)
        _refuse_what_is_there(folder)
        with durable.os_errors_as_run_errors(f"cannot make the run {folder}", folder):
            durable.make_folders(folder)
            with run.lock():
                _refuse_what_is_there(folder)  # now that nobody else can make it one
                run._write(DATA, json_bytes(data))
                run._write(ENVIRONMENT, json_bytes([environment]))
                if conditions:
                    run._write(CONDITIONS, tensor_bytes({k: x.contiguous() for k, x in conditions.items()}))
                run._write(CONFIG, _toml(config))
        return run

    @classmethod
    def open(cls, folder: Path) -> "RunFolder":
        """The run of a folder; RunError, with the runs that are near, if it is none."""
        folder = Path(folder)
        try:
            config = tomllib.loads((folder / CONFIG).read_text("utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(f"{folder} is not a run: it has no {CONFIG}", *_advice(folder)) from None
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{folder / CONFIG} cannot be read: {error}") from error
        return cls(folder, config)

    @staticmethod
    def refuse_what_is_there(folder: Path) -> None:
        """Raise RunError where `create` would: nothing is ever replaced."""
        _refuse_what_is_there(Path(folder))

    @staticmethod
    def exists(folder: Path) -> bool:
        return (Path(folder) / CONFIG).is_file()

    # What it was made of

    @property
    def data(self) -> dict[str, Any]:
        """The record of the data: their kind, their fingerprint, what was held out."""
        return dict(self._read_json(DATA))

    @property
    def scheduler(self) -> str | None:
        """The kind of scheduler that the model, or the one it began from, was imported with."""
        data = self.data
        kind: str | None = (data.get("imported") or data.get("weights_from") or {}).get("scheduler")
        return kind

    @property
    def environment(self) -> dict[str, Any]:
        """Machine and versions of the last who trained it."""
        return dict(self.environments[-1])

    @property
    def environments(self) -> list[dict[str, Any]]:
        """Machine and versions of all who trained it, in their order."""
        return list(self._read_json(ENVIRONMENT))

    def record_environment(self, environment: Mapping[str, Any]) -> None:
        """Add a machine, or versions, if they differ from the last."""
        known = self.environments
        if json_bytes(known[-1]) != json_bytes(environment):
            self._write(ENVIRONMENT, json_bytes([*known, environment]))

    def update_config(self, config: Mapping[str, Any]) -> "RunFolder":
        """The same run with other settings, as when it is trained for longer."""
        self._write(CONFIG, _toml(config))
        return replace(self, config=config)

    # One trainer at a time

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for oneself; RunError at once, with the holder's name, if another process does."""
        with hold(self.folder / LOCK, self.folder / HOLDER, f"{self.folder} is being trained"):
            for name in TRAINERS:  # what a dead one left half written
                for leftover in self.folder.glob(f".writing-{name}-*"):
                    with suppress(OSError):
                        durable.remove(leftover)
            yield

    # Checkpoints

    @property
    def checkpoints(self) -> Path:
        return self.folder / CHECKPOINTS

    def checkpoint_path(self, step: int) -> Path:
        return self.checkpoints / folder_name(step)

    @property
    def steps(self) -> list[int]:
        """The steps of which there is a checkpoint, good or not, in rising order."""
        return [step_of(path) for path in reversed(checkpoints.listed(self.checkpoints))]

    def save(
        self,
        checkpoint: Checkpoint,
        *,
        keep: int = 2,
        keep_every: int | None = None,
        spared: Collection[int] = (),
    ) -> Path:
        """See ``checkpoints.save``. The figures up to this step reach the disk before it does, if they can."""
        with suppress(OSError):  # without figures the weights are worth no less
            durable.sync_file(self.folder / METRICS)
        return checkpoints.save(self.checkpoints, checkpoint, keep=keep, keep_every=keep_every, spared=spared)

    def newest(self, complain: Complain) -> Path | None:
        """The newest checkpoint that is good, None where there never was one; RunError if all are damaged."""
        with self._none_is_an_error(complain) as note:
            return checkpoints.newest(self.checkpoints, note)

    def load(
        self,
        complain: Complain,
        *,
        step: int | None = None,
        parts: Sequence[str] | None = None,
        device: torch.device | str = "cpu",
    ) -> Checkpoint:
        """The newest checkpoint whose wanted parts are good, or that of a step. RunError if there is none."""
        if not self.steps:
            raise RunError(
                f"{self.folder} has no checkpoint yet", f"to train it: kakusan resume {quoted(self.folder)}"
            )
        if step is not None:
            return self._load_step(step, parts, device)
        with self._none_is_an_error(complain) as note:
            found = checkpoints.load_newest(self.checkpoints, note, device, parts)
        assert found is not None
        return found

    def _load_step(self, step: int, parts: Sequence[str] | None, device: torch.device | str) -> Checkpoint:
        if step not in self.steps:
            there = ", ".join(map(str, self.steps))
            raise RunError(f"{self.folder} has no checkpoint of step {step}", f"there are: {there}")
        return checkpoints.load(self.checkpoint_path(step), device, parts)

    @contextmanager
    def _none_is_an_error(self, complain: Complain) -> Iterator[Complain]:
        """Never go on as if there were no checkpoint: if all are bad it is an error, if some, complaints."""
        faults: list[str] = []
        yield faults.append
        if faults and len(faults) == len(checkpoints.listed(self.checkpoints)):
            raise RunError(
                f"none of the checkpoints of {self.folder} can be used",
                *faults,
                "they are left as they are; to train anew, name another folder: --run DIR",
            )
        for fault in faults:
            complain(f"{fault}; it is passed over")

    # Snapshots: averaged weights of early steps, of the same make as checkpoints, and never a place to resume from

    @property
    def snapshots(self) -> Path:
        return self.folder / SNAPSHOTS

    @property
    def snapshot_steps(self) -> list[int]:
        """The steps of which there is a snapshot, good or not, in rising order."""
        return [step_of(path) for path in reversed(checkpoints.listed(self.snapshots))]

    def save_snapshot(self, snapshot: Checkpoint) -> Path:
        """See ``checkpoints.save``. It stays for good."""
        return checkpoints.save(self.snapshots, snapshot, keep=None)

    def load_snapshot(self, step: int, device: torch.device | str = "cpu") -> Checkpoint:
        """The snapshot of a step that is among ``snapshot_steps``. RunError if it is damaged."""
        return checkpoints.load(self.snapshots / folder_name(step), device)

    def truncate_snapshots(self, step: int) -> None:
        """Delete the snapshots after a step: the training comes there again, perhaps with another length."""
        with durable.os_errors_as_run_errors(f"cannot remove what is in {self.snapshots}", self.folder):
            checkpoints.drop_after(self.snapshots, step)

    # Figures, pictures, words

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """One more line of figures; what is not a finite number is written as null, since JSON has no other word."""
        text = json.dumps(finite(line), ensure_ascii=False, allow_nan=False)
        with durable.os_errors_as_run_errors(f"cannot write {self.folder / METRICS}", self.folder):
            durable.append_line(self.folder / METRICS, text.encode("utf-8", "backslashreplace"))

    def metrics(self) -> list[dict[str, Any]]:
        """All figures; what is no such line, or is left in pieces by a power cut, is passed over."""
        return [line for line, _ in self._lines()]

    def truncate_metrics(self, step: int) -> None:
        """Delete the figures after a step, so that a resumed run goes on as if it had never stopped."""
        kept = [raw for line, raw in self._lines() if line["step"] <= step]
        self._write(METRICS, b"".join(raw + b"\n" for raw in kept))

    def _lines(self) -> Iterator[tuple[dict[str, Any], bytes]]:
        path = self.folder / METRICS
        with durable.os_errors_as_run_errors(f"cannot read {path}", self.folder):
            content = path.read_bytes() if path.exists() else b""
        for raw in content.split(b"\n"):
            with suppress(ValueError, RecursionError):
                line = json.loads(raw)
                if is_figures(line):
                    yield line, raw

    def log(self, text: str) -> None:
        """Add to log.txt, with the time."""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        with durable.os_errors_as_run_errors(f"cannot write {self.folder / LOG}", self.folder):
            durable.append_line(self.folder / LOG, f"{now}  {text}".encode("utf-8", "backslashreplace"))

    def samples_path(self, step: int) -> Path:
        """The path of the picture of the samples after a step; its folder is there."""
        folder = self.folder / SAMPLES
        with durable.os_errors_as_run_errors(f"cannot make {folder}", self.folder):
            durable.make_folders(folder)
        return folder / f"{folder_name(step)}.png"

    def truncate_samples(self, step: int) -> None:
        """Delete the pictures after a step, whose weights are given up."""
        with durable.os_errors_as_run_errors(
            f"cannot remove what is in {self.folder / SAMPLES}", self.folder
        ):
            for path in (self.folder / SAMPLES).glob("step-*.png"):
                number = path.stem.rpartition("-")[2]
                if number.isdecimal() and int(number) > step:
                    path.unlink(missing_ok=True)

    def samples_picture(self, step: int) -> Path | None:
        """The picture of the samples after a step, if there is one."""
        path = self.folder / SAMPLES / f"{folder_name(step)}.png"
        return path if path.is_file() else None

    def evaluations(self, step: int) -> list[dict[str, Any]]:
        """The figures of `kakusan evaluate` for the weights of a step, those written last at the end.

        Bounds have `parts`, distances `figures`.
        """
        found = (self.folder / EVALUATION).glob(f"{folder_name(step)}*.json")
        paths = sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))
        return [dict(self._read_json(f"{EVALUATION}/{path.name}")) for path in paths]

    @property
    def report_path(self) -> Path:
        return self.folder / REPORT

    def evaluation_path(self, step: int, suffix: str = "") -> Path:
        """The path of the figures of the weights of a step, without the ending of the file; its folder is there."""
        folder = self.folder / EVALUATION
        with durable.os_errors_as_run_errors(f"cannot make {folder}", self.folder):
            durable.make_folders(folder)
        return folder / f"{folder_name(step)}{suffix}"

    def conditions(self) -> dict[str, torch.Tensor] | None:
        """The conditions that the run keeps; None where there are none. Raises RunError where they cannot be read."""
        path = self.folder / CONDITIONS
        if not path.exists():
            return None
        try:
            return load_tensors(path.read_bytes())
        except (OSError, ValueError, SafetensorError) as error:
            raise RunError(f"{path} cannot be read: {error}") from error

    def analytic(self, key: Mapping[str, Any]) -> list[float] | None:
        """The errors of the guess of x_0 at t = 0..T, where they were estimated for these weights.

        Entries of older versions do not name their precision, which was nearly always fp32.
        """
        path = self.folder / ANALYTIC
        entries = self._read_json(ANALYTIC) if path.exists() else []
        found = [entry for entry in entries if {"precision": "fp32", **entry["key"]} == dict(key)]
        return list(found[-1]["errors"]) if found else None

    def save_analytic(
        self, key: Mapping[str, Any], errors: Sequence[float], about: Mapping[str, Any]
    ) -> None:
        """Store them, with how they were estimated."""
        path = self.folder / ANALYTIC
        entries = [e for e in (self._read_json(ANALYTIC) if path.exists() else []) if e["key"] != dict(key)]
        self._write(ANALYTIC, json_bytes([*entries, {"key": dict(key), **about, "errors": list(errors)}]))

    def dump_path(self, step: int) -> Path:
        """The path of the dump of a step's inputs, where its numbers were not finite."""
        return self.folder / f"not-finite-{folder_name(step)}.safetensors"

    def _write(self, name: str, content: bytes) -> None:
        with durable.os_errors_as_run_errors(
            f"cannot write {self.folder / name}", self.folder, needed=len(content)
        ):
            durable.atomic_write(self.folder / name, content)

    def _read_json(self, name: str) -> Any:
        try:
            return json.loads((self.folder / name).read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{self.folder / name} cannot be read: {error}") from error


def _toml(config: Mapping[str, Any]) -> bytes:
    try:
        return tomli_w.dumps(config).encode()
    except UnicodeEncodeError as error:
        raise RunError(
            f"the settings cannot be written as TOML, which is Unicode: {error.object!r}"
        ) from error


def _refuse_what_is_there(folder: Path) -> None:
    if RunFolder.exists(folder):
        go_on = f"to go on with it: kakusan resume {quoted(folder)}"
        raise RunError(f"{folder} is a run already", go_on, "to begin another: --run DIR")
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file, not a folder", "name another: --run DIR")
    found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if strange := [name for name in found if name not in UNFINISHED and not name.startswith(".")]:
        raise RunError(
            f"{folder} is not a run, and not empty: it has {strange[0]}",
            "nothing in it was changed; name an empty or a new folder: --run DIR",
        )


def _advice(folder: Path) -> Iterator[str]:
    """Advice on a folder that is no run: what may have been meant instead."""
    around = [path for path in folder.parents if RunFolder.exists(path)]
    near = {path.name: path for path in (*_runs_in(Path("runs")), *_runs_in(folder.parent))}
    meant = [*around, *(near[name] for name in get_close_matches(folder.name, near, n=1))]
    if meant:
        yield f"did you mean {meant[0]}?"
    if near:
        yield f"runs here: {', '.join(map(str, list(near.values())[:8]))}{', ...' * (len(near) > 8)}"
    if str(folder).startswith("hf:") or any((folder / name).exists() for name in OF_MODELS):
        yield f"a model of another program becomes one by: kakusan import {quoted(folder)}"
    else:
        yield f"to train one: kakusan train DATA --run {quoted(folder)}"


def _runs_in(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if RunFolder.exists(path))
    except OSError:  # missing, a file, or not ours to read
        return []
