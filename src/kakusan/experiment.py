"""A training from its first step to its last, across any number of interruptions. Every part meets here.

Nothing is shown and nothing asked: each procedure is a generator of events that the command line, the library
and the tests drain alike.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import torch
from safetensors.torch import save as tensor_bytes
from torch import Tensor, nn

from kakusan import durable
from kakusan.assembly import (
    DataRecord,
    Prepared,
    build_batches,
    build_denoiser,
    build_loss,
    build_network,
    build_recipe,
    data_record,
    environment,
    prepare_data,
    set_machine,
)
from kakusan.checkpoints import Checkpoint
from kakusan.config import Settings, differences, flat, from_mapping, to_mapping
from kakusan.data import DATASETS, Batches
from kakusan.data.dataset import Progress, silent
from kakusan.denoiser import NetworkDenoiser
from kakusan.errors import NumbersError, RunError, SettingsError
from kakusan.evaluation import held_out_losses
from kakusan.losses import Loss
from kakusan.pictures import encode_png, grid
from kakusan.resolve import resolve, resolve_samples
from kakusan.runs import RunFolder
from kakusan.samplers import DDIM, sample
from kakusan.training import (
    Recipe,
    StepReport,
    Tally,
    TrainState,
    check_finite,
    drawn,
    fit,
    new_state,
    train_step,
)

DEFAULT_MINUTES = 30.0
MEASURED_SECONDS = 3.0
WARM_STEPS = 3


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


# Before the first step


def absolute_source(source: str) -> str:
    """The name of a data set that ships with the package, or the path that finds the data from anywhere."""
    return source if source in DATASETS else str(Path(source).expanduser().resolve())


def free_folder(source: str, parent: Path = Path("runs")) -> Path:
    """runs/NAME for data called NAME, or runs/NAME-2 and so on where that is taken."""
    name = (
        re.sub(r"[^\w.-]+", "-", Path(source).expanduser().resolve().name.split(".")[0]).strip("-") or "run"
    )
    candidates = (parent / (name if i == 1 else f"{name}-{i}") for i in count(1))
    return next(folder for folder in candidates if not folder.exists())


def launch(
    settings: Settings, folder: Path, *, weights_from: Path | None = None, progress: Progress = silent
) -> tuple[RunFolder, Prepared | None]:
    """The run of these settings in this folder: a new one, or the one that is there, if it was asked for the same.

    With a new one come its data, open already.

    Raises RunError, with the settings that differ, if the run there is another.
    """
    if not RunFolder.exists(folder):
        return start(settings, folder, weights_from=weights_from, progress=progress)
    run = RunFolder.open(folder)
    changed = differences(settings, stored_settings(run))
    if changed:
        raise RunError(
            f"{folder} is a run with other settings",
            *(f"{name}: asked for {asked}, it has {had}" for name, (asked, had) in changed.items()),
            f"to go on with it as it is: kakusan resume {folder}",
            "to train with these: name another folder with --run",
        )
    steps = settings.training.steps
    return (run if steps == "auto" else extended(run, steps)), None


def stored_settings(run: RunFolder) -> Settings:
    """The resolved settings of a run."""
    return from_mapping(run.config, str(run.folder / "config.toml"))


def extended(run: RunFolder, steps: int, changes: Settings | None = None) -> RunFolder:
    """The same run with another last step, and another cadence of pictures and checkpoints if given."""
    stored = stored_settings(run)
    done = run.steps[-1] if run.steps else 0
    if steps < done:
        raise SettingsError(f"{run.folder} has {done} steps behind it: it cannot end at {steps}")
    settings = replace(stored, training=replace(stored.training, steps=steps))
    if changes is not None:
        settings = replace(settings, samples=changes.samples, checkpoint=changes.checkpoint)
    return run if settings == stored else run.update_config(to_mapping(settings))


def start(
    settings: Settings, folder: Path, *, weights_from: Path | None = None, progress: Progress = silent
) -> tuple[RunFolder, Prepared]:
    """Open the data, settle every "auto", and make the run's folder. Nothing is trained yet.

    Raises DataError, SettingsError, and RunError if the folder is in use for something else.
    """
    if weights_from is not None:
        settings = _like(settings, RunFolder.open(weights_from))
    prepared = prepare_data(settings, progress)
    settings = resolve(settings, prepared.facts)
    set_machine(settings.machine)
    settings = _with_budget(settings, prepared)
    record = data_record(prepared)
    if weights_from is not None:
        record["weights_from"] = _weights_source(weights_from, DataRecord.read(record))
    return RunFolder.create(folder, to_mapping(settings), environment(settings.machine), record), prepared


def _like(settings: Settings, parent: RunFolder) -> Settings:
    """Fine-tuning keeps the parent's network and process, unless told otherwise."""
    stored = from_mapping(parent.config, str(parent.folder))
    asked = differences(
        Settings(network=settings.network, process=settings.process),
        Settings(network=stored.network, process=stored.process),
    )
    default = flat(Settings())
    changed = {name: pair for name, pair in asked.items() if pair[0] != default[name]}
    if changed:
        name, (wanted, had) = next(iter(changed.items()))
        raise SettingsError(
            f"{name} = {wanted} does not fit the weights of {parent.folder}, which have {had}",
            "leave out settings of the network and the process with --from",
        )
    return replace(settings, network=stored.network, process=stored.process)


def _weights_source(folder: Path, record: DataRecord) -> dict[str, Any]:
    parent = RunFolder.open(folder)
    theirs = DataRecord.read(parent.data)
    if (theirs.shape[0], len(theirs.class_names)) != (record.shape[0], len(record.class_names)):
        raise SettingsError(
            f"{folder} was trained on {theirs.shape[0]} channels and {len(theirs.class_names)} classes, "
            f"these data have {record.shape[0]} and {len(record.class_names)}",
        )
    checkpoint = parent.load(lambda _: None, parts=["ema"])
    return {"run": str(folder.resolve()), "step": checkpoint.step}


def _with_budget(settings: Settings, prepared: Prepared) -> Settings:
    """A number of steps: as given, or as many as the minutes buy on this machine, measured now and then fixed."""
    training = settings.training
    if training.steps == "auto":
        minutes = DEFAULT_MINUTES if training.minutes == "auto" else training.minutes
        steps = _steps_in(minutes * 60, settings, prepared)
        training = replace(training, steps=steps, minutes=minutes)
    else:
        minutes = training.minutes if training.minutes != "auto" else 0.0
        if minutes:
            raise SettingsError("training.steps and training.minutes are two budgets", "give one of them")
    assert training.steps != "auto"
    return replace(settings, training=training, samples=resolve_samples(settings.samples, training.steps))


def _steps_in(seconds: float, settings: Settings, prepared: Prepared) -> int:
    """Measured on a throw-away state with these data."""
    begun = time.perf_counter()
    trial = replace(settings, training=replace(settings.training, steps=10**9))
    task = assemble(trial, prepared)
    durations: list[float] = []
    while len(durations) < WARM_STEPS + 2 or time.perf_counter() - begun < min(
        MEASURED_SECONDS, seconds / 10
    ):
        start_of_step = time.perf_counter()
        train_step(task.state, task.batches, task.loss, task.recipe)
        check_finite(task.state)  # waits for the device
        durations.append(time.perf_counter() - start_of_step)
    left = seconds - (time.perf_counter() - begun)
    return max(1, int(left / median(durations[WARM_STEPS:])))


# Training


@dataclass(frozen=True)
class Task:
    """What a training works with."""

    settings: Settings
    record: DataRecord
    prepared: Prepared
    network: nn.Module
    denoiser: NetworkDenoiser
    batches: Batches
    loss: Loss
    recipe: Recipe
    state: TrainState


def assemble(settings: Settings, prepared: Prepared) -> Task:
    """All parts of a training before its first step."""
    record = DataRecord.read(data_record(prepared))
    network = build_network(settings, record)
    denoiser = build_denoiser(settings, network)
    recipe = build_recipe(settings)
    device = next(network.parameters()).device
    return Task(
        settings=settings,
        record=record,
        prepared=prepared,
        network=network,
        denoiser=denoiser,
        batches=build_batches(settings, prepared),
        loss=build_loss(settings),
        recipe=recipe,
        state=new_state(denoiser, network, recipe, device),
    )


def continue_training(
    run: RunFolder,
    prepared: Prepared | None = None,
    *,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = silent,
) -> Iterator[Event]:
    """Train a run from where it stands to its last step, bit for bit as if it had never been interrupted.

    prepared: its data, where they are open already. `stop` is asked after every step; a yes saves and ends.
    Raises NumbersError after dumping what was fed,
    RunError if another process trains this run or the data are not those it began with.
    """
    with run.lock():
        settings = stored_settings(run)
        set_machine(settings.machine)
        task = assemble(settings, prepared or _same_data(run, settings, progress))
        yield from _restore(task, run)
        yield Began(
            step=task.state.step,
            steps=task.recipe.steps,
            parameters=sum(p.numel() for p in task.network.parameters()),
            training_images=len(task.prepared.split.training),
            held_out_images=len(task.prepared.split.held_out),
        )
        with _advice_on_memory(settings), _dump_of_bad_numbers(task, run):
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


def _save(task: Task, run: RunFolder) -> Path:
    checkpoint = task.settings.checkpoint
    return run.save(_snapshot(task), keep=checkpoint.keep, keep_every=checkpoint.keep_every or None)


def _snapshot(task: Task) -> Checkpoint:
    """All that the next step depends on."""
    state = task.state
    names = [name for name, _ in task.network.named_parameters()]
    moments = state.optimizer.state_dict()["state"]
    return Checkpoint(
        step=state.step,
        tensors={
            "model": task.network.state_dict(),
            "ema": state.ema.state(),
            "optimizer": {
                f"{names[i]}.{key}": value for i, slot in moments.items() for key, value in slot.items()
            },
        },
        state={
            "images_seen": state.step * task.recipe.batch_size,
            "seed": task.recipe.seed,
            "data_fingerprint": task.record.fingerprint,
            "environment": environment(task.settings.machine),
            "tally": state.tally.state(),
        },
    )


def _restore(task: Task, run: RunFolder) -> Iterator[Event]:
    """Put the newest good checkpoint into the task; complain of those that are passed over."""
    complaints: list[str] = []
    if run.steps:
        checkpoint = run.load(complaints.append, device=task.settings.machine.device)
        yield from map(Warned, complaints)
        yield from _other_machine(checkpoint, task)
        _load(task, checkpoint)
        run.record_environment(environment(task.settings.machine))
    elif source := run.data.get("weights_from"):
        checkpoint = RunFolder.open(Path(source["run"])).load(
            complaints.append, step=source["step"], parts=["ema"]
        )
        task.network.load_state_dict(checkpoint.tensors["ema"])
        task.state.ema.load(dict(checkpoint.tensors["ema"]))
    run.truncate_metrics(task.state.step)


def _load(task: Task, checkpoint: Checkpoint) -> None:
    state = task.state
    task.network.load_state_dict(checkpoint.tensors["model"])
    state.ema.load(dict(checkpoint.tensors["ema"]))
    if checkpoint.step:
        moments = checkpoint.tensors["optimizer"]
        slots = {
            i: {
                "step": moments[f"{name}.step"],
                **{key: _like_parameter(moments[f"{name}.{key}"], weight) for key in ("exp_avg", "exp_avg_sq")},
            }
            for i, (name, weight) in enumerate(task.network.named_parameters())
        }
        groups = state.optimizer.state_dict()["param_groups"]
        state.optimizer.load_state_dict({"state": slots, "param_groups": groups})
    state.tally = Tally.from_state(checkpoint.state["tally"], state.device)
    state.step = checkpoint.step


def _like_parameter(moment: Tensor, weight: Tensor) -> Tensor:
    """In the memory layout of its weight, as the fused optimizer wants it; files know no layout."""
    return torch.empty_like(weight).copy_(moment)


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


@contextmanager
def averaged(task: Task) -> Iterator[None]:
    """For a while, the network has its averaged weights and is not training."""
    weights = {name: value.clone() for name, value in task.network.state_dict().items()}
    task.network.load_state_dict(task.state.ema.state())
    task.network.eval()
    try:
        yield
    finally:
        task.network.load_state_dict(weights)
        task.network.train()


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
        tensors = {}
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


@contextmanager
def _advice_on_memory(settings: Settings) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not (
            isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        ):
            raise
        accumulation = settings.training.accumulation * 2
        raise SettingsError(
            f"out of memory with micro-batches of {settings.training.batch_size // settings.training.accumulation}",
            f"the same step in less memory: --training.accumulation {accumulation}",
            "or a smaller step: --training.batch-size, or a smaller network: --network.width",
        ) from error
