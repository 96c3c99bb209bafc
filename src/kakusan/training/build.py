"""From settings to working parts: schedule, network, denoiser, loss, batches. One function a part."""

from typing import Any

import torch
from torch import nn

from kakusan.config.networks.own import OWN
from kakusan.config.settings import LEARNED, ProcessSettings, Settings, answered, named
from kakusan.data import Batches
from kakusan.data.record import DataRecord
from kakusan.data.units import Levels, Units
from kakusan.diffusion.denoiser import NetworkDenoiser
from kakusan.diffusion.learned import LearnedPath
from kakusan.diffusion.model import Model
from kakusan.diffusion.paths import Path
from kakusan.diffusion.schedules import Given, NoiseSchedule, ZeroTerminalSNR
from kakusan.diffusion.tables import PARAMETRIZATIONS, PATHS, SCHEDULES
from kakusan.diffusion.variances import SIGMA_1, VARIANCES, LearnedRange
from kakusan.errors import SettingsError
from kakusan.networks.graphs import ReplayedCalls
from kakusan.networks.interface import Interface
from kakusan.networks.layers import use_kernels
from kakusan.networks.log_snr import LogSNR
from kakusan.samplers import of_classes
from kakusan.samplers.spacings import WHOLE
from kakusan.shapes import Condition
from kakusan.training.losses import Loss, NetworkModel
from kakusan.training.own import known_again
from kakusan.training.prepare import Prepared
from kakusan.training.tables import LOSSES, loss_for

GIVEN = "given"
"""The schedule whose betas stand in the settings."""


def build_path(process: ProcessSettings) -> Path:
    """The path of these settings, with its own options. Raises SettingsError for one that there is not."""
    kind = named(PATHS, process.path, "process.path")
    if kind is NoiseSchedule:
        return build_schedule(process)
    path: Path = kind(T=process.T, **process.of("path"))
    return path


def path_with(network: nn.Module, process: ProcessSettings) -> Path:
    """The path of these settings. One that is learned is the network's: as it is at each moment while it learns, and a
    table of betas where it does not."""
    path, log_snr = build_path(process), getattr(network, "log_snr", None)
    if not isinstance(log_snr, LogSNR):
        return path
    learned = LearnedPath(process.T, log_snr=log_snr)
    return learned if log_snr.is_learning else learned.table()


def _refuse_a_learned_schedule(process: ProcessSettings) -> None:
    if process.schedule == LEARNED:
        raise SettingsError(
            "a schedule is learned as a part of the network, and a module of your own is trained as it is",
            "choose a fixed one: process.schedule cosine",
        )


def build_schedule(process: ProcessSettings) -> NoiseSchedule:
    """The noise schedule of these settings, with its own options; where it is learned, the one that it begins with.

    Raises SettingsError for betas that are not T.
    """
    betas, T, options = process.betas, process.T, process.of("schedule")
    schedule: NoiseSchedule
    if process.schedule == LEARNED and process.zero_terminal_snr:
        raise SettingsError(
            "a learned schedule is not stretched to end in pure noise: its bound says where it ends",
            "leave --process.zero-terminal-snr out, or choose a fixed schedule",
        )
    if process.schedule == GIVEN:
        if len(betas) != T:
            raise SettingsError(f"process.betas has {len(betas)} values for T = {T}", "one for each t = 1..T")
        schedule = Given(**options)
    else:
        schedule = named(SCHEDULES, process.schedule, "process.schedule")(T=T, **options)
    return ZeroTerminalSNR(of=schedule) if process.zero_terminal_snr else schedule


def interface(settings: Settings, record: DataRecord) -> Interface:
    """The interface that these data, and a variance to be learned, ask of a network."""
    outputs = 2 if settings.process.variance == LearnedRange.name else 1  # the second is about the variance
    channels, *sides = record.shape
    return Interface(
        channels=channels,
        out_channels=outputs * channels,
        classes=len(record.class_names),
        numbers=0 if record.vectors is None else len(record.vectors.names),
        image_channels=0 if record.pairs is None else record.pairs.shape[0],
        mask_channels=channels if record.masked else 0,
        dimensions=len(sides),
    )


def build_network(settings: Settings, record: DataRecord, own: nn.Module | None = None) -> nn.Module:
    """The network of these settings with its first weights, a function of the seed, on its device.

    own: the module itself where settings describe one that is not built from them; its layout stays as it is.
    Raises RunError where it is missing, or another.
    """
    if settings.network.kind == OWN or own is not None:
        _refuse_a_learned_schedule(settings.process)
        return known_again(own, settings.network).to(settings.machine.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.training.seed)
        built: Any = settings.network.build(interface(settings, record))
    if settings.process.schedule == LEARNED:
        built.log_snr = LogSNR(settings.process.log_snr_1, settings.process.log_snr_T)
    built.rows_are_independent = settings.network.rows_are_independent
    if settings.machine.graphs is True:
        built.replayed = ReplayedCalls()
    if settings.machine.kernels is True:
        use_kernels(built)
    machine = settings.machine
    formats = {3: torch.channels_last, 4: torch.channels_last_3d}  # PyTorch has none for signals and points
    last = formats.get(len(record.shape)) if machine.layout == "channels-last" else None
    return built.to(machine.device, memory_format=last or torch.contiguous_format)  # type: ignore[no-any-return]


def default_condition(
    settings: Settings, record: DataRecord, examples: Condition | None = None
) -> Condition | None:
    """The condition of samples where nothing is asked for.

    Where they come with vectors, images or masks, the examples that the run keeps, in turn; where with classes alone,
    none, or each in turn if the network has no null label.
    """
    if examples is not None:
        return examples
    return None if settings.network.null_label else of_classes(tuple(range(len(record.class_names))) or None)


def build_model(settings: Settings, network: nn.Module, units: Units) -> NetworkModel:
    """The network on its path, with variance, clipping and levels, as these settings say, for data of this kind."""
    process = settings.process
    named(SIGMA_1, process.sigma_1, "process.sigma_1")
    named(PARAMETRIZATIONS, process.predicts, "process.predicts")
    named(VARIANCES, process.variance, "process.variance")
    named(WHOLE, process.spacing, "process.spacing")
    autocast = torch.bfloat16 if settings.machine.precision == "bf16" else None
    told = "log-snr" if process.schedule == LEARNED else "t"  # t says nothing where the schedule changes
    asked = network.__call__ if settings.network.kind == OWN else network  # its `channels` may be anything
    return Model(
        NetworkDenoiser(asked, path_with(network, process), process.predicts, autocast, told),
        variance=process.variance,
        sigma_1=process.sigma_1,
        clip=process.clip_range if process.clip else None,
        levels=units.levels if isinstance(units, Levels) else None,
    )


def build_loss(settings: Settings, model: NetworkModel) -> Loss:
    """The loss of these settings. Raises SettingsError where it does not go with the variance."""
    named(LOSSES, settings.training.loss, "training.loss")
    return loss_for(settings.training.loss, model, **settings.training.of("loss"))


def build_batches(settings: Settings, prepared: Prepared) -> Batches:
    """The endless sequence of training batches."""
    return Batches(
        prepared.dataset,
        prepared.split.training,
        answered(settings.training.batch_size),
        settings.training.seed,
        flip=settings.data.flip,
        condition_dropout=settings.data.condition_dropout if prepared.dataset.is_conditional else 0.0,
    )
