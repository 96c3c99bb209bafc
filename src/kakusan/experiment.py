"""A training from where it stands to its last step, across any number of interruptions. Every part meets here.

Nothing is shown and nothing asked: the training is a generator of events that the command line, the library and
the tests drain alike.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from safetensors.torch import save as tensor_bytes
from torch import Tensor

from kakusan import durable
from kakusan.assembly import Prepared, environment, prepare_data, set_machine
from kakusan.checkpoints import Checkpoint
from kakusan.config import Settings, from_mapping
from kakusan.data.dataset import Progress, silent
from kakusan.errors import NumbersError, RunError
from kakusan.evaluation import held_out_losses
from kakusan.pictures import encode_png, grid
from kakusan.runs import RunFolder
from kakusan.samplers import DDIM, sample
from kakusan.task import Task, advice_on_memory, assemble, averaged, load_state, snapshot
from kakusan.training import StepReport, check_finite, drawn, fit


@dataclass(frozen=True)
class Began:
    """The training is set up and stands before its next step."""

    step: int
    steps: int
    parameters: int
    training_images: int
    held_out_images: int


@dataclass(frozen=True)
class Stepped:
    """A step is done; `line` is the new line of metrics.jsonl, if there is one."""

    step: int
    line: Mapping[str, Any] | None


@dataclass(frozen=True)
class Saved:
    """A checkpoint is on the disk."""

    step: int
    path: Path


@dataclass(frozen=True)
class Sampled:
    """A picture of samples is on the disk."""

    step: int
    path: Path


@dataclass(frozen=True)
class Ended:
    """The last step is done (finished), or somebody asked to stop. All is saved."""

    step: int
    finished: bool


@dataclass(frozen=True)
class Warned:
    """Something that the user should know and that does not stop the work."""

    text: str


Event: TypeAlias = Began | Stepped | Saved | Sampled | Ended | Warned


def continue_training(
    run: RunFolder,
    task: Task | None = None,
    *,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = silent,
) -> Iterator[Event]:
    """Train a run from where it stands to its last step, bit for bit as if it had never been interrupted.

    task: its parts, where they are built already and no step is done. `stop` is asked after every step; a yes
    saves and ends. Raises NumbersError after dumping what was fed, RunError if another process trains this run or
    the data are not those it began with.
    """
    with run.lock():
        if task is None:
            settings = from_mapping(run.config, str(run.folder))
            set_machine(settings.machine)
            task = assemble(settings, _same_data(run, settings, progress))
        yield from _restore(task, run)
        yield Began(
            step=task.state.step,
            steps=task.recipe.steps,
            parameters=sum(p.numel() for p in task.network.parameters()),
            training_images=len(task.prepared.split.training),
            held_out_images=len(task.prepared.split.held_out),
        )
        with advice_on_memory(task.settings), _dump_of_bad_numbers(task, run):
            yield from _train(task, run, stop)


def _train(task: Task, run: RunFolder, stop: Callable[[], bool]) -> Iterator[Event]:
    settings, state = task.settings, task.state
    pace, since_save = _Pace(task), time.monotonic()
    saved = state.step if run.steps else -1
    for report in fit(state, task.batches, task.loss, task.recipe):
        line = None if report.metrics is None else pace.line(report)
        if _due(state.step, settings.samples.every, task.recipe.steps):
            check_finite(state)
            yield Sampled(state.step, _picture(task, run))
            run.append_metrics({"step": state.step, **_held_out(task)})
            pace.restart(state.step)
        if line is not None:
            run.append_metrics(line)
        asked = stop()
        waited = time.monotonic() - since_save > 60 * settings.checkpoint.minutes
        if asked or waited or _due(state.step, settings.checkpoint.every, task.recipe.steps):
            check_finite(state)
            yield Saved(state.step, _save(task, run))
            saved, since_save = state.step, time.monotonic()
            pace.restart(state.step)
        yield Stepped(state.step, line)
        if asked:
            break
    if saved < 0:  # nothing to do, and nothing ever saved
        yield Saved(state.step, _save(task, run))
    yield Ended(state.step, finished=state.step >= task.recipe.steps)


def _due(step: int, every: Any, steps: int) -> bool:
    return step == steps or step % every == 0


class _Pace:
    """Images a second since the last log line, without the time that pictures and checkpoints take."""

    def __init__(self, task: Task) -> None:
        self._batch_size = task.recipe.batch_size
        self._images = len(task.prepared.split.training)
        self.restart(task.state.step)

    def restart(self, step: int) -> None:
        self._step, self._time = step, time.perf_counter()

    def line(self, report: StepReport) -> dict[str, Any]:
        steps, seconds = report.step - self._step, time.perf_counter() - self._time
        self.restart(report.step)
        assert report.metrics is not None
        return {
            **report.metrics,
            "epoch": report.step * self._batch_size / self._images,
            "images_per_second": round(steps * self._batch_size / seconds, 2) if steps else None,
        }


# The state on disk


# The state on disk


def _save(task: Task, run: RunFolder) -> Path:
    checkpoint = task.settings.checkpoint
    return run.save(snapshot(task), keep=checkpoint.keep, keep_every=checkpoint.keep_every or None)


def _restore(task: Task, run: RunFolder) -> Iterator[Event]:
    """Put the newest good checkpoint into the task; complain of those that are passed over."""
    complaints: list[str] = []
    if run.steps:
        checkpoint = run.load(complaints.append, device=task.settings.machine.device)
        yield from map(Warned, complaints)
        yield from _other_machine(checkpoint, task)
        load_state(task, checkpoint)
        run.record_environment(environment(task.settings.machine))
    elif source := run.data.get("weights_from"):
        parent = RunFolder.open(Path(source["run"]))
        weights = parent.load(complaints.append, step=source["step"], parts=["ema"]).tensors["ema"]
        task.network.load_state_dict(weights)
        task.state.ema.load(dict(weights))
        yield Saved(0, _save(task, run))  # from now on the parent may go its own way
    run.truncate_metrics(task.state.step)


def _other_machine(checkpoint: Checkpoint, task: Task) -> Iterator[Event]:
    here, there = environment(task.settings.machine), checkpoint.state["environment"]
    changed = [
        f"{name} was {there.get(name)}, is {here[name]}" for name in here if here[name] != there.get(name)
    ]
    if changed:
        yield Warned(
            f"not the machine or versions of the checkpoint, so not bit for bit: {'; '.join(changed)}"
        )


def _same_data(run: RunFolder, settings: Settings, progress: Progress) -> Prepared:
    """The data of a run, opened again. Raises RunError if they have changed since it began."""
    prepared = prepare_data(settings, progress)
    if prepared.dataset.fingerprint != run.data["fingerprint"]:
        raise RunError(
            f"the data {settings.data.source} are not those that {run.folder} began with",
            "bring them back, or train on them as they are: kakusan train DATA --from " + str(run.folder),
        )
    return prepared


# Pictures and figures on the way


def _picture(task: Task, run: RunFolder) -> Path:
    """A grid of samples, from the same noise each time."""
    samples, machine = task.settings.samples, task.settings.machine
    with averaged(task):
        x_0 = sample(
            task.denoiser,
            DDIM(steps=min(samples.steps, task.denoiser.schedule.T)),
            count=samples.count,
            shape=task.record.shape,
            seed=samples.seed,
            micro_batch=machine.micro_batch,
            device=machine.device,
        )
    path = run.samples_path(task.state.step)
    durable.atomic_write(path, encode_png(grid(x_0, task.record.units)))
    return path


def _held_out(task: Task) -> dict[str, float]:
    """The loss of the averaged weights on training and on held-out images, with the same t and noise."""
    with averaged(task):
        return held_out_losses(
            task.denoiser, task.loss, task.prepared.dataset, task.prepared.split, task.state.device
        )


# When things go wrong


@contextmanager
def _dump_of_bad_numbers(task: Task, run: RunFolder) -> Iterator[None]:
    """What was fed at the step whose numbers were not finite, for those who want to see why."""
    try:
        yield
    except NumbersError as error:
        step = int(task.state.first_bad)
        tensors: dict[str, Tensor] = {}
        for micro in range(task.recipe.accumulation):
            x_0, t, noise, _ = drawn(task.state, task.batches, task.recipe, step, micro)
            named_tensors = {"x_0": x_0, "t": t, "noise": noise}
            tensors |= {f"{name}.{micro}": value.cpu().contiguous() for name, value in named_tensors.items()}
        path = run.dump_path(step + 1)
        with suppress(OSError):
            durable.atomic_write(path, tensor_bytes(tensors))
        last = (
            f"the last good checkpoint is of step {run.steps[-1]}"
            if run.steps
            else "there is no checkpoint yet"
        )
        raise NumbersError(error.problem, *error.advice, f"what was fed: {path}", last) from error
