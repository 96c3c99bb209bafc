"""Before the first step: which run it will be, what every "auto" comes to, and how many steps a budget buys."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from torch import nn

from kakusan.config.loading import (
    Requested,
    differences,
    flat,
    foreign,
    from_mapping,
    to_mapping,
    with_values,
)
from kakusan.config.machine import environment, resolve_machine, set_machine
from kakusan.config.networks import NETWORKS
from kakusan.config.recipe import ENOUGH_STEPS, usual_warmup
from kakusan.config.resolve import resolve, resolve_cadence
from kakusan.config.settings import BUDGETS, CHANGEABLE, RENAMED, MachineSettings, Settings, answered
from kakusan.data import DATASETS, Dataset, is_image_folder
from kakusan.data.dataset import Progress, silent
from kakusan.data.record import DataRecord
from kakusan.data.space import in_pixels
from kakusan.data.units import Levels
from kakusan.errors import RunError, SettingsError, quoted
from kakusan.storage.agreement import require_agreement
from kakusan.storage.run_folder import RunFolder
from kakusan.training.ladder import FOR_STEPS, SMALLEST_SIDE, Bought, cautions, for_seconds, for_steps
from kakusan.training.lineage import past_of
from kakusan.training.own import own_settings
from kakusan.training.prepare import Prepared, data_record, example_condition, prepare_data
from kakusan.training.state import Task, advice_on_memory, assemble, require_fit
from kakusan.training.trainer import Trainer

DEFAULT_MINUTES = 30.0
SPEEDS = 20
"""Lines of figures, the newest, whose median is a run's speed."""


def absolute_source(source: str) -> str:
    """The name of a data set that ships with the package, or the path that finds the data from anywhere."""
    path = Path(source).expanduser()
    return source if source in DATASETS or not path.exists() else str(path.resolve())


def free_folder(source: str, parent: Path = Path("runs")) -> Path:
    """runs/NAME for data called NAME, or runs/NAME-2 and so on where that is taken."""
    stem = Path(source).expanduser().resolve().name.split(".")[0]
    name = re.sub(r"[^\w.-]+", "-", stem).strip("-") or "run"
    candidates = (parent / (name if i == 1 else f"{name}-{i}") for i in count(1))
    return next(folder for folder in candidates if not folder.exists())


def launch(
    asked: Requested,
    folder: Path,
    *,
    weights_from: Path | None = None,
    progress: Progress = silent,
    in_memory: Dataset | None = None,
    network: nn.Module | None = None,
) -> Trainer:
    """The run of these settings in this folder: a new one, or the one that is there, if nothing else was chosen.

    in_memory: the data, where the settings name none. network: the module to train, in place, where the settings are
    not to build one. Raises DataError, SettingsError, and RunError, with the settings that differ, if the run there is
    another, or if the folder is in use for something else.
    """
    if not RunFolder.exists(folder):
        return _start(
            asked, folder, weights_from=weights_from, progress=progress, in_memory=in_memory, network=network
        )
    run = RunFolder.open(folder)
    changed = differences(replace(asked, chosen=asked.chosen | {"data.source"}), stored_settings(run))
    parent = run.data.get("weights_from", {}).get("run")
    if weights_from is not None and parent != str(weights_from.resolve()):
        raise RunError(
            f"{folder} did not start from {weights_from}, but {f'from {parent}' if parent else 'anew'}",
            "name another folder with --run",
        )
    if changed:
        raise RunError(
            f"{folder} is a run with other settings",
            *(f"{name}: asked for {wanted}, it has {had}" for name, (wanted, had) in changed.items()),
            f"to go on with it as it is: kakusan resume {quoted(folder)}",
            "to train with these: name another folder with --run",
        )
    wanted = flat(asked.settings)
    changes = {name: wanted[name] for name in sorted(asked.chosen) if name.startswith(CHANGEABLE)}
    return Trainer(run, adjusted(run, changes), in_memory=in_memory, network=network)


def upgraded(config: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """The config.toml of a run as this version writes it.

    Older ones knew images alone: signals were images of height 1, and points were images of one pixel. Their networks
    had the options of all kinds.
    """
    tables = {name: dict(table) for name, table in config.items()}
    for old, new in RENAMED.items():
        section, _, name = old.partition(".")
        if name in tables.get(section, {}):
            tables[section][new.partition(".")[2]] = tables[section].pop(name)
    if "machine" in tables:  # before there were parts at once, graphs and kernels
        tables["machine"] = {"workers": 1, "graphs": False, "kernels": False, **tables["machine"]}
    if "training" in tables:  # before there was another
        tables["training"] = {"optimizer": "adamw", **tables["training"]}
    network = tables.get("network", {})
    if network.get("kind") == "mlp":  # which had the options of the U-Net beside its own, without effect
        others = NETWORKS["unet"].names() - NETWORKS["mlp"].names()
        tables["network"] = {name: value for name, value in network.items() if name not in others}
    if "data" in tables and "kind" not in tables["data"]:
        points = tuple(data.get("shape", ())) == (2, 1, 1)
        tables["data"]["kind"] = "points" if points else "image"
    return tables


def stored_settings(run: RunFolder) -> Settings:
    """The resolved settings of a run. Raises RunError where one of them is missing."""
    settings = from_mapping(upgraded(run.config, run.data), str(run.folder / "config.toml"))
    needed = ("network.", "machine.", "process.", "training.", "samples.every")
    by_right = ("training.minutes", "process.beta_1", "process.beta_T", *foreign(settings))
    for name, value in flat(settings).items():
        if value == "auto" and name.startswith(needed) and name not in by_right:
            raise RunError(f"{run.folder / 'config.toml'} does not say {name}", "it was edited, or cut short")
    return settings


def steps_after(run: RunFolder, minutes: float) -> int:
    """The last step of a run that trains for so long from where it stands, at the speed that its figures show.

    Raises SettingsError for minutes that are none, RunError where nothing has been measured yet.
    """
    if not 0 < minutes < math.inf:
        raise SettingsError(f"minutes must be above 0, not {minutes:g}")
    speeds = [line["images_per_second"] for line in run.metrics() if line.get("images_per_second")]
    if not speeds:
        raise RunError(
            f"{run.folder} has no figures yet that show its speed",
            f"give the last step instead: kakusan resume {quoted(run.folder)} --steps N",
        )
    batch = answered(stored_settings(run).training.batch_size)
    done = run.steps[-1] if run.steps else 0
    return done + max(1, int(60 * minutes * FOR_STEPS * median(speeds[-SPEEDS:]) / batch))


def adjusted(run: RunFolder, changes: Mapping[str, Any]) -> Settings:
    """The settings of a run with another length, cadence or device. Raises SettingsError for what cannot be."""
    stored = stored_settings(run)
    minutes = changes.get("training.minutes", "auto")
    if minutes not in ("auto", stored.training.minutes):
        raise SettingsError(
            "minutes buy steps when a run begins",
            f"to train it for longer: kakusan resume {quoted(run.folder)} --minutes {minutes:g}",
        )
    settings = with_values(stored, {**changes, "training.minutes": stored.training.minutes})
    steps = answered(stored.training.steps if settings.training.steps == "auto" else settings.training.steps)
    done = run.steps[-1] if run.steps else 0
    if steps < done:
        raise SettingsError(f"{run.folder} has {done} steps behind it: it cannot end at {steps}")
    if "machine.device" in changes:  # what another machine chose does not bind this one
        machine = MachineSettings(device=settings.machine.device, micro_batch=stored.machine.micro_batch)
        settings = replace(settings, machine=resolve_machine(machine))
    return resolve_cadence(with_values(settings, {"training.steps": steps}), steps)


def _start(
    asked: Requested,
    folder: Path,
    *,
    weights_from: Path | None,
    progress: Progress,
    in_memory: Dataset | None,
    network: nn.Module | None,
) -> Trainer:
    """Settle everything, and make the run's folder. Nothing is trained yet."""
    ready = settle(asked, weights_from=weights_from, progress=progress, in_memory=in_memory, network=network)
    settings, shown = ready.settings, example_condition(ready.task.prepared)
    examples = None if shown is None else dict(shown.tensors())
    run = RunFolder.create(
        folder, to_mapping(settings), environment(settings.machine), ready.record, examples
    )
    return Trainer(run, settings, ready.task, ready.cautions, in_memory, network)


@dataclass(frozen=True)
class Settled:
    """A training before it has a folder: what `launch` makes a run of, and `kakusan plan` describes."""

    found: Bought
    """Its settings without any "auto", and what a step takes, where that was measured."""
    task: Task
    record: Mapping[str, Any]
    """The contents of data.json."""

    @property
    def settings(self) -> Settings:
        return self.found.settings

    @property
    def cautions(self) -> tuple[str, ...]:
        """Cautions for the user before the training, in sentences."""
        can_shrink = is_image_folder(self.settings.data.source) and "weights_from" not in self.record
        return cautions(self.found, self.task.prepared, can_shrink=can_shrink)


def settle(
    asked: Requested,
    *,
    weights_from: Path | None = None,
    progress: Progress = silent,
    in_memory: Dataset | None = None,
    network: nn.Module | None = None,
    write_cache: bool = True,
) -> Settled:
    """Open the data, answer every "auto", and build the parts of the training. The disk is only read.

    write_cache: decoded images may be kept, where the settings name a cache. Otherwise as for `launch`.
    """
    asked = asked if network is None else _with_own(asked, network)
    parent = None if weights_from is None else RunFolder.open(weights_from)
    settings = _yielded(asked) if parent is None else _like(asked, parent)
    past = None if parent is None else past_of(parent, stored_settings(parent), progress)

    def prepare(asked: Settings) -> Prepared:
        prepared = prepare_data(asked, progress, past, in_memory=in_memory, write_cache=write_cache)
        return replace(prepared, network=network)

    prepared, found = _settled(settings, asked.chosen, prepare, fine_tuning=parent is not None)
    with advice_on_memory(found.settings):  # parts that do not fit are refused before there is a folder
        task = assemble(found.settings, prepared)
    record = data_record(prepared)
    if parent is not None:
        record["weights_from"] = _weights_source(parent, DataRecord.read(record))
    return Settled(found, task, record)


def _with_own(asked: Requested, network: nn.Module) -> Requested:
    """The same with a run's record of this module. Raises SettingsError where a network is chosen too."""
    if others := sorted(name for name in asked.chosen if name.startswith("network.")):
        raise SettingsError(
            f"{others[0]} is for a network that is built, and one of your own is given",
            "leave one of the two out",
        )
    return replace(asked, settings=replace(asked.settings, network=own_settings(network)))


def _settled(
    settings: Settings, chosen: frozenset[str], prepare: Callable[[Settings], Prepared], *, fine_tuning: bool
) -> tuple[Prepared, Bought]:
    """The data, and every "auto" answered. Images whose size is not given are halved while steps are too few."""
    prepared, larger = prepare(settings), None
    while True:
        resolved = resolve(settings, prepared.facts)
        set_machine(resolved.machine)
        with advice_on_memory(resolved):
            require_fit(resolved, prepared)
            found = _with_budget(resolved, chosen, prepared, fine_tuning=fine_tuning)
        is_ours = prepared.dataset.scaled or larger is not None  # and then they are images
        height, width = prepared.dataset.shape[1:] if is_ours else (0, 0)
        if not (is_ours and found.is_short_of(ENOUGH_STEPS) and min(height, width) >= 2 * SMALLEST_SIDE):
            break
        larger = larger or (height, width)
        settings = with_values(settings, {"data.size": (height // 2, width // 2)})
        prepared = prepare(settings)
    if larger is None:
        return prepared, found
    note = (
        f"scaled and cropped to {in_pixels(height, width)}: at {larger[0]}x{larger[1]} this time allows too few"
        f" steps here (--data.size {larger[0]} {larger[1]} takes them all the same)"
    )
    return replace(prepared, notes=(note, *prepared.notes)), found


def _yielded(asked: Requested) -> Settings:
    """The settings without what a preset sets for one path, schedule, loss or network where another was chosen."""
    process = asked.settings.process.yielded(asked.chosen)
    training = asked.settings.training.yielded(asked.chosen)
    has_target = asked.settings.network.predicts is not None and "network.kind" in asked.chosen
    has_path = "process.path" in asked.chosen and process.path != "vp"
    if (has_path or has_target) and "process.predicts" not in asked.chosen:
        process = replace(process, predicts="auto")
    if has_target and "training.learning_rate" not in asked.chosen:
        training = replace(training, learning_rate="auto")
    return replace(asked.settings, process=process, training=training)


OF_THE_SAMPLING = frozenset(
    f"process.{name}" for name in ("clip", "clip_range", "variance", "sigma_1", "spacing")
)
"""Settings of the process that the weights do not depend on."""


def _like(asked: Requested, parent: RunFolder) -> Settings:
    """Fine-tuning keeps the parent's network and process, whatever a preset says.

    Choosing others is an error, but for those that the weights do not depend on.
    """
    stored = stored_settings(parent)
    free = asked.chosen & OF_THE_SAMPLING
    if "learned" in (stored.process.variance, asked.settings.process.variance):  # an output of the network
        free -= {"process.variance"}
    free |= foreign(stored)
    kept = {k: v for k, v in flat(stored).items() if k.startswith(("network.", "process.")) and k not in free}
    if changed := differences(replace(asked, chosen=asked.chosen & frozenset(kept)), stored):
        name, (wanted, had) = next(iter(changed.items()))
        raise SettingsError(
            f"{name} = {wanted} does not fit the weights of {parent.folder}, which have {had}",
            "leave out settings of the network and the process with --from",
        )
    usual_clip = isinstance(DataRecord.read(parent.data).units, Levels)
    if kept.get("process.clip") == usual_clip:  # as is usual for its data; these may be of the other kind
        kept["process.clip"] = "auto"
    if is_image_folder(asked.settings.data.source):  # in the parent's size, unless another is chosen
        of_pictures = {"data.size": stored.data.size, "data.channels": stored.data.channels}
        kept |= {name: value for name, value in of_pictures.items() if name not in asked.chosen}
    return with_values(replace(asked.settings, network=stored.network), kept)


def _weights_source(parent: RunFolder, record: DataRecord) -> dict[str, Any]:
    """The record of the run that a run's weights come from. Raises SettingsError where they do not fit."""
    theirs = DataRecord.read(parent.data)
    if theirs.masked != record.masked:
        raise _other_masks(parent, theirs)
    if theirs.inputs[1:] != record.inputs[1:]:
        raise SettingsError(
            f"{parent.folder} was trained on {theirs.inputs_in_words()}, these data have {record.inputs_in_words()}",
            "choose the same conditions: --data.vectors, --data.pairs, --data.condition-from",
        )
    if theirs.inputs[0] != record.inputs[0]:
        raise SettingsError(
            f"{parent.folder} was trained on {theirs.shape[0]} channels and {len(theirs.class_names)} classes, "
            f"these data have {record.shape[0]} and {len(record.class_names)}",
            *(["to learn their classes too: --data.labels"] if theirs.class_names else []),
        )
    checkpoint = parent.load(lambda _: None, parts=["ema"])
    require_agreement(parent, stored_settings(parent), checkpoint)
    scheduler = {"scheduler": kind} if (kind := parent.scheduler) else {}
    return {"run": str(parent.folder.resolve()), "step": checkpoint.step, **scheduler}


def _other_masks(parent: RunFolder, theirs: DataRecord) -> SettingsError:
    """The error of weights that take a mask, and data that have none; or the reverse."""
    if theirs.masked:
        return SettingsError(
            f"{parent.folder} was trained on data with missing values, and in these none is masked",
            "keep their missing values as NaN, with --data.missing mask, or train without --from",
        )
    return SettingsError(
        f"{parent.folder} was trained on data without missing values, and takes no mask of those in these",
        "fill the missing values in and leave --data.missing mask out, or train without --from",
    )


def _with_budget(
    settings: Settings, chosen: frozenset[str], prepared: Prepared, *, fine_tuning: bool
) -> Bought:
    """Network, recipe and a number of steps: as given, or as many as the minutes buy on this machine, now measured."""
    training = settings.training
    given = [name for name in BUDGETS if name in chosen and flat(settings)[name] != "auto"]
    if len(given) == len(BUDGETS):
        raise SettingsError("training.steps and training.minutes are two budgets", "give one of them")
    if training.steps == "auto" or given == ["training.minutes"]:
        minutes = DEFAULT_MINUTES if training.minutes == "auto" else training.minutes
        settings = with_values(settings, {"training.minutes": minutes})
        found = for_seconds(settings, prepared, minutes * 60, fine_tuning=fine_tuning)
    elif training.steps < 1:  # imported models have 0
        raise SettingsError(f"training.steps must be at least 1, not {training.steps}")
    else:
        settings = with_values(settings, {"training.minutes": "auto"})
        found = for_steps(settings, prepared, training.steps, fine_tuning=fine_tuning)
    if "training.warmup" in chosen or 2 * answered(found.settings.training.warmup) <= found.steps:
        return found
    usual = {"training.warmup": usual_warmup(found.steps)}  # a preset's yields where it takes more than half
    return replace(found, settings=with_values(found.settings, usual))
