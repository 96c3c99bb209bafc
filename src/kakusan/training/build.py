"""From settings to working parts: data, schedule, network, denoiser, recipe. One function a part; dull on purpose."""

import ctypes
import inspect
import platform
import sys
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kakusan.config.recipe import DataFacts
from kakusan.config.settings import MachineSettings, ProcessSettings, Settings, answered
from kakusan.data import Batches, DataOptions, Dataset, Past, Split, as_asked, divide, open_data
from kakusan.data.dataset import Progress, silent
from kakusan.data.heldout import form_of, packed
from kakusan.data.record import DataRecord
from kakusan.data.units import Levels, Real, Units
from kakusan.diffusion.denoiser import NetworkDenoiser
from kakusan.diffusion.model import Model
from kakusan.diffusion.parametrizations import PARAMETRIZATIONS
from kakusan.diffusion.schedules import (
    SCHEDULES,
    BetweenEnds,
    Given,
    NoiseSchedule,
    ZeroTerminalSNR,
)
from kakusan.diffusion.variances import SIGMA_1, VARIANCES, LearnedRange
from kakusan.errors import DataError, RunError, SettingsError
from kakusan.networks import NETWORKS
from kakusan.samplers import SPACINGS
from kakusan.training.loop import DECAYS, Recipe
from kakusan.training.losses import LOSSES, Loss, NetworkModel, loss_for
from kakusan.training.timesteps import TIMES

GIVEN = "given"
"""The schedule whose betas stand in the settings."""

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # glibc's malloc.h


@dataclass(frozen=True)
class Prepared:
    """Data that are open and divided."""

    dataset: Dataset
    split: Split
    past: Past | None = None
    """The images that the first weights come from, where these are another run's."""
    notes: tuple[str, ...] = ()
    """How they were divided, in sentences, where it was not a plain draw."""

    @property
    def facts(self) -> DataFacts:
        dataset = self.dataset
        is_levels = isinstance(dataset.units, Levels)
        count = len(self.split.training)
        return DataFacts(dataset.shape, dataset.is_points, is_levels, count, dataset.layout)


def prepare_data(
    settings: Settings,
    progress: Progress = silent,
    past: Past | None = None,
    *,
    in_memory: Dataset | None = None,
) -> Prepared:
    """Open the data of these settings and put the held-out part aside: nothing that the past was trained on.

    Raises DataError, SettingsError.
    """
    dataset = _opened(settings, data_options(settings), progress, in_memory)
    if len(dataset) > 1 and (dataset.hashes == dataset.hashes[0]).all():
        raise DataError(
            f"all {len(dataset):,} images of {dataset.name} are equal: there is nothing to learn in them"
        )
    held_out = settings.data.held_out
    aside = int(held_out) if held_out >= 1 else held_out
    past = _of_one_form(past, form_of(dataset.shape, dataset.units.to_state()))
    divided = divide(dataset, aside, settings.training.seed, past, flip=settings.data.flip)
    return Prepared(dataset, divided.split, past, divided.notes)


def _of_one_form(past: Past | None, form: str) -> Past | None:
    """The past as it is known for images of this form: hashes of others say nothing."""
    if past is None or past.unknown or past.form == form:
        return past
    return Past(form, unknown=f"its images are of {past.form}, these of {form}")


def _opened(
    settings: Settings, options: DataOptions, progress: Progress, in_memory: Dataset | None
) -> Dataset:
    """The data that the settings name, or those that are in memory already."""
    if in_memory is not None:
        return as_asked(in_memory, options)
    return open_data(settings.data.source, options, progress)


def reopen_data(
    settings: Settings,
    record: dict[str, Any],
    progress: Progress = silent,
    *,
    in_memory: Dataset | None = None,
    write_cache: bool = False,
) -> Prepared:
    """The data of a run, in its units and divided as when it began. Raises RunError if they have changed since.

    A cache that the settings name is only read: they may be a stranger's. Who trains the run may write it too.
    """
    if in_memory is None and not settings.data.source:
        raise _not_named("imported" in record)
    links = settings.data.follow_links is not False  # runs from before there was a choice followed them
    options = replace(data_options(settings), write_cache=write_cache, follow_links=links)
    found = _opened(settings, options, progress, in_memory)
    dataset = found.known_as(record["fingerprint"])
    if dataset is None:
        raise RunError(
            f"the data {settings.data.source or 'in memory'} are not those that the run began with",
            f"what has changed: {_change(record, found)}",
            "bring them back, or begin another run on them as they are: kakusan train DATA --from RUN",
        )
    dataset = _in_units_of(record, dataset)
    held_out = np.array(record["held_out"], dtype=np.int64)
    training = np.setdiff1d(np.arange(len(dataset)), held_out, assume_unique=True)
    return Prepared(dataset, Split(training=training, held_out=held_out))


def _not_named(imported: bool) -> RunError:
    """Why the settings of a run name no data."""
    others = "to measure it on others: kakusan evaluate RUN --data DATA"
    if imported:
        return RunError(
            "the run was imported: the images it was trained on are not known here",
            others,
            "to train it further: kakusan train DATA --from RUN",
        )
    return RunError(
        "the run was trained from Python, on data in memory, which are not here",
        "to go on, in Python, with the same data: kakusan.Run.open(RUN).resume(data=data)",
        others,
    )


def _change(record: dict[str, Any], dataset: Dataset) -> str:
    """What is seen of it from a run's record: counts and shapes, or else that it is the contents."""
    bad = len(record.get("bad_files", ()))
    then_and_now = {
        "images": (record.get("count"), len(dataset)),
        "channels, height and width": (tuple(record.get("shape", ())), dataset.shape),
        "files that cannot be read": (bad, len(dataset.bad_files)),
    }
    changes = [f"{name}: then {then}, now {now}" for name, (then, now) in then_and_now.items() if then != now]
    return "; ".join(changes) or f"as many images as then, {len(dataset)}, but others in their place or order"


def _in_units_of(record: dict[str, Any], dataset: Dataset) -> Dataset:
    """With the normalization that the run began with, which another version may have fitted otherwise."""
    units = DataRecord.read(record).units
    fits = type(units) is type(dataset.units) and not (
        isinstance(units, Real) and len(units.mean) != dataset.shape[0]
    )
    return replace(dataset, units=units) if fits else dataset


def data_options(settings: Settings) -> DataOptions:
    """What the settings ask of the data, in the words of the data package."""
    data = settings.data
    return DataOptions(
        size=None if data.size == "auto" else data.size,
        labels=data.labels,
        range=None if data.range == "auto" else data.range,
        channels=None if data.channels == "auto" else data.channels,
        layout=data.layout,
        levels=None if data.levels == "auto" else data.levels,
        bad_share=data.bad_share,
        follow_links=data.follow_links is True,
        cache=Path(data.cache) if data.cache else None,
    )


def data_record(prepared: Prepared) -> dict[str, Any]:
    """What a run remembers of its data: enough to sample without them, and to know them again."""
    dataset = prepared.dataset
    return {
        "name": dataset.name,
        "source": dataset.source,
        "count": len(dataset),
        "shape": list(dataset.shape),
        "units": dataset.units.to_state(),
        "class_names": list(dataset.class_names),
        "fingerprint": dataset.fingerprint,
        "notes": [*dataset.notes, *prepared.notes],
        "bad_files": [{"name": bad.name, "reason": bad.reason} for bad in dataset.bad_files],
        "held_out": prepared.split.held_out.tolist(),
        "image_hashes": packed(dataset.rounded_hashes),
        **({} if prepared.past is None else {"past": prepared.past.to_state()}),
    }


def doubt_of_held_out(record: dict[str, Any]) -> str:
    """Why it is not known that the run was not trained on its held-out images; empty where it is."""
    if "past" in record:
        return str(record["past"].get("unknown", ""))
    if "weights_from" in record:  # of an older version
        return f"it was not checked what {Path(record['weights_from']['run']).name} was trained on"
    return ""


def named(table: dict[str, Any], name: str, setting: str) -> Any:
    """The choice of this name. Raises SettingsError with those there are."""
    if name not in table:
        raise SettingsError(f"{setting} knows no {name!r}", f"there are: {', '.join(table)}")
    return table[name]


def build_schedule(process: ProcessSettings) -> NoiseSchedule:
    """The noise schedule of these settings."""
    schedule = _given(process) if process.schedule == GIVEN else _named_schedule(process)
    return ZeroTerminalSNR(of=schedule) if process.zero_terminal_snr else schedule


def _given(process: ProcessSettings) -> NoiseSchedule:
    if len(process.betas) != process.T:
        raise SettingsError(
            f"process.betas has {len(process.betas)} values for T = {process.T}", "one for each t = 1..T"
        )
    return Given(process.betas)


def _named_schedule(process: ProcessSettings) -> NoiseSchedule:
    if process.betas:
        raise SettingsError(f"process.betas is for the schedule {GIVEN!r}, not for {process.schedule}")
    kind = named(SCHEDULES, process.schedule, "process.schedule")
    ends = {name: value for name in ("beta_1", "beta_T") if (value := getattr(process, name)) != "auto"}
    if ends and not issubclass(kind, BetweenEnds):
        raise SettingsError(f"process.{next(iter(ends))} is for linear schedules, not for {process.schedule}")
    schedule: NoiseSchedule = kind(T=process.T, **ends)
    return schedule


def build_network(settings: Settings, record: DataRecord) -> nn.Module:
    """The network of these settings with its first weights, a function of the seed, on its device."""
    network, machine = settings.network, settings.machine
    kind = named(NETWORKS, network.kind, "network.kind")
    words = 2 if learns_variance(settings.process) else 1
    offered = {
        **asdict(network),
        "channels": record.shape[0],
        "out_channels": words * record.shape[0],
        "classes": len(record.class_names),
    }
    options = {name: offered[name] for name in inspect.signature(kind).parameters if name in offered}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.training.seed)
        built = kind(**options)
    layout = torch.channels_last if machine.layout == "channels-last" else torch.contiguous_format
    placed: nn.Module = built.to(machine.device, memory_format=layout)
    return placed


def usual_label(settings: Settings, record: DataRecord) -> tuple[int, ...] | None:
    """What samples show where no class is asked for: none, or each in turn where the network knows no other images."""
    return tuple(range(len(record.class_names))) if needs_class(settings, record) else None


def needs_class(settings: Settings, record: DataRecord) -> bool:
    """Whether the network knows classes and no label for none of them."""
    return bool(record.class_names) and not settings.network.null_label


def learns_variance(process: ProcessSettings) -> bool:
    """Whether the network has a second word, about the variance."""
    return process.variance == LearnedRange.name


def build_model(settings: Settings, network: nn.Module, units: Units) -> NetworkModel:
    """The network on its path, with variance, clipping and levels, as these settings say, for data of this kind."""
    process = settings.process
    named(SIGMA_1, process.sigma_1, "process.sigma_1")
    named(PARAMETRIZATIONS, process.predicts, "process.predicts")
    named(VARIANCES, process.variance, "process.variance")
    named(SPACINGS, process.spacing, "process.spacing")
    autocast = torch.bfloat16 if settings.machine.precision == "bf16" else None
    return Model(
        NetworkDenoiser(network, build_schedule(process), process.predicts, autocast),
        variance=process.variance,
        sigma_1=process.sigma_1,
        clip=process.clip_range if process.clip else None,
        levels=units.levels if isinstance(units, Levels) else None,
    )


def build_recipe(settings: Settings) -> Recipe:
    """How to train, as these settings say; their number of steps is known."""
    training = settings.training
    named(TIMES, training.times, "training.times")
    named(DECAYS, training.decay, "training.decay")
    return Recipe(
        steps=answered(training.steps),
        batch_size=answered(training.batch_size),
        accumulation=answered(training.accumulation),
        times=training.times,
        learning_rate=answered(training.learning_rate),
        warmup=answered(training.warmup),
        decay=training.decay,
        weight_decay=training.weight_decay,
        betas=training.betas,
        clip_norm=training.clip_norm,
        ema=answered(training.ema),
        seed=training.seed,
        log_every=settings.log.every,
    )


def build_loss(settings: Settings, model: NetworkModel) -> Loss:
    """The loss of these settings. Raises SettingsError where it does not go with the variance."""
    named(LOSSES, settings.training.loss, "training.loss")
    return loss_for(settings.training.loss, model, settings.training.min_snr_gamma)


def build_batches(settings: Settings, prepared: Prepared) -> Batches:
    """The endless sequence of training batches."""
    return Batches(
        prepared.dataset,
        prepared.split.training,
        answered(settings.training.batch_size),
        settings.training.seed,
        flip=settings.data.flip,
        label_dropout=settings.data.label_dropout if settings.data.labels else 0.0,
    )


def set_machine(machine: MachineSettings) -> None:
    """Threads, as resolved. On a GPU, TF32 stays off: bf16 is the fast way, float32 means float32."""
    if machine.threads != "auto":
        torch.set_num_threads(machine.threads)
    torch.backends.cudnn.allow_tf32 = False  # torch's own default for convolutions is True
    torch.backends.cuda.matmul.allow_tf32 = False  # these older names, since torch.export asks for them
    if machine.device == "cpu" and sys.platform == "linux":
        _keep_memory()


def _keep_memory() -> None:
    """Tell glibc to keep what is freed: the next layer wants as much, and asking the system for it takes 12 % of a
    small network's step in page faults."""
    try:
        libc = ctypes.CDLL(None)
        for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, 1 << 26)):
            libc.mallopt(option, value)
    except (OSError, AttributeError):  # another C library
        pass


def environment(machine: MachineSettings) -> dict[str, Any]:
    """Versions and machine, as a run records them."""
    packages = ("kakusan", "torch", "numpy", "safetensors", "pillow")
    device = machine.device
    return {
        **{name: metadata.version(name) for name in packages},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor_name(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "threads": torch.get_num_threads(),
    }


def processor_name() -> str:
    """The model of the processor, as the system tells it."""
    if sys.platform == "linux":
        try:
            lines = Path("/proc/cpuinfo").read_text().splitlines()
        except OSError:
            lines = []
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
