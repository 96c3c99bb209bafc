"""Before the first step: which run it will be, what every "auto" comes to, and how many steps a budget buys."""

import re
import time
from dataclasses import replace
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from kakusan.assembly import DataRecord, Prepared, data_record, environment, prepare_data, set_machine
from kakusan.config import Settings, differences, flat, from_mapping, to_mapping
from kakusan.data import DATASETS
from kakusan.data.dataset import Progress, silent
from kakusan.errors import RunError, SettingsError
from kakusan.resolve import resolve, resolve_samples
from kakusan.runs import RunFolder
from kakusan.task import Task, advice_on_memory, assemble
from kakusan.training import check_finite, train_step

DEFAULT_MINUTES = 30.0
MEASURED_SECONDS = 3.0
WARM_STEPS = 3


def absolute_source(source: str) -> str:
    """The name of a data set that ships with the package, or the path that finds the data from anywhere."""
    path = Path(source).expanduser()
    return source if source in DATASETS or not path.exists() else str(path.resolve())


def free_folder(source: str, parent: Path = Path("runs")) -> Path:
    """runs/NAME for data called NAME, or runs/NAME-2 and so on where that is taken."""
    name = (
        re.sub(r"[^\w.-]+", "-", Path(source).expanduser().resolve().name.split(".")[0]).strip("-") or "run"
    )
    candidates = (parent / (name if i == 1 else f"{name}-{i}") for i in count(1))
    return next(folder for folder in candidates if not folder.exists())


def launch(
    settings: Settings, folder: Path, *, weights_from: Path | None = None, progress: Progress = silent
) -> tuple[RunFolder, Task | None]:
    """The run of these settings in this folder: a new one, or the one that is there, if it was asked for the same.

    With a new one comes its task, built already.

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
) -> tuple[RunFolder, Task]:
    """Open the data, settle every "auto", and make the run's folder. Nothing is trained yet.

    Raises DataError, SettingsError, and RunError if the folder is in use for something else.
    """
    if weights_from is not None:
        settings = _like(settings, RunFolder.open(weights_from))
    prepared = prepare_data(settings, progress)
    settings = resolve(settings, prepared.facts)
    set_machine(settings.machine)
    with advice_on_memory(settings):  # whatever does not fit is refused before there is a folder
        settings = _with_budget(settings, prepared)
        task = assemble(settings, prepared)
    record = data_record(prepared)
    if weights_from is not None:
        record["weights_from"] = _weights_source(weights_from, DataRecord.read(record))
    return RunFolder.create(folder, to_mapping(settings), environment(settings.machine), record), task


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
