"""From settings to working parts: schedule, network, denoiser, loss, batches. One function a part."""

import inspect
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from kakusan.config.settings import ProcessSettings, Settings, answered, named
from kakusan.data import Batches
from kakusan.data.record import DataRecord
from kakusan.data.units import Levels, Units
from kakusan.diffusion.denoiser import NetworkDenoiser
from kakusan.diffusion.model import Model
from kakusan.diffusion.parametrizations import PARAMETRIZATIONS
from kakusan.diffusion.paths import EDM, FlowMatching, Path
from kakusan.diffusion.schedules import SCHEDULES, BetweenEnds, Given, NoiseSchedule, ZeroTerminalSNR
from kakusan.diffusion.variances import SIGMA_1, VARIANCES, LearnedRange
from kakusan.errors import SettingsError
from kakusan.networks import NETWORKS
from kakusan.samplers import SPACINGS
from kakusan.training.losses import LOSSES, Loss, NetworkModel, loss_for
from kakusan.training.own import OWN, known_again
from kakusan.training.prepare import Prepared

PATHS: dict[str, Any] = {"vp": NoiseSchedule, "flow": FlowMatching, "edm": EDM}
GIVEN = "given"
"""The schedule whose betas stand in the settings."""


def build_path(process: ProcessSettings) -> Path:
    """The path of these settings. Raises SettingsError for what belongs to another."""
    kind = named(PATHS, process.path, "process.path")
    if kind is NoiseSchedule:
        return build_schedule(process)
    unused = {"betas": (), "beta_1": "auto", "beta_T": "auto", "zero_terminal_snr": False}
    if other := next((name for name, usual in unused.items() if getattr(process, name) != usual), None):
        raise SettingsError(f"process.{other} is for the path vp, not for {process.path}", "leave it out")
    options = (process.sigma_min, process.sigma_max, process.rho) if kind is EDM else ()
    path: Path = kind(process.T, *options)
    return path


def build_schedule(process: ProcessSettings) -> NoiseSchedule:
    """The noise schedule of these settings. Raises SettingsError for betas and ends that are not the schedule's."""
    betas, T = process.betas, process.T
    ends = {name: value for name in ("beta_1", "beta_T") if (value := getattr(process, name)) != "auto"}
    schedule: NoiseSchedule
    if process.schedule == GIVEN:
        if len(betas) != T:
            raise SettingsError(f"process.betas has {len(betas)} values for T = {T}", "one for each t = 1..T")
        schedule = Given(betas)
    else:
        if betas:
            raise SettingsError(f"process.betas is for the schedule {GIVEN!r}, not for {process.schedule}")
        kind = named(SCHEDULES, process.schedule, "process.schedule")
        if ends and not issubclass(kind, BetweenEnds):
            name = next(iter(ends))
            raise SettingsError(f"process.{name} is for linear schedules, not for {process.schedule}")
        schedule = kind(T=T, **ends)
    return ZeroTerminalSNR(of=schedule) if process.zero_terminal_snr else schedule


def build_network(settings: Settings, record: DataRecord, own: nn.Module | None = None) -> nn.Module:
    """The network of these settings with its first weights, a function of the seed, on its device.

    own: the module itself where settings describe one that is not built from them; its layout stays as it is.
    Raises RunError where it is missing, or another.
    """
    network, machine = settings.network, settings.machine
    if network.kind == OWN or own is not None:
        return known_again(own, network).to(machine.device)
    kind = named(NETWORKS, network.kind, "network.kind")
    words = 2 if settings.process.variance == LearnedRange.name else 1  # the second is about the variance
    offered = {
        **asdict(network),
        "channels": record.shape[0],
        "out_channels": words * record.shape[0],
        "classes": len(record.class_names),
        "dimensions": len(record.shape) - 1,
    }
    options = {name: offered[name] for name in inspect.signature(kind).parameters if name in offered}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.training.seed)
        built = kind(**options)
    formats = {3: torch.channels_last, 4: torch.channels_last_3d}  # PyTorch has none for signals and points
    last = formats.get(len(record.shape)) if machine.layout == "channels-last" else None
    placed: nn.Module = built.to(machine.device, memory_format=last or torch.contiguous_format)
    return placed


def usual_label(settings: Settings, record: DataRecord) -> tuple[int, ...] | None:
    """What samples show where no class is asked for: none, or each in turn where the network knows no other images."""
    return None if settings.network.null_label else tuple(range(len(record.class_names))) or None


def build_model(settings: Settings, network: nn.Module, units: Units) -> NetworkModel:
    """The network on its path, with variance, clipping and levels, as these settings say, for data of this kind."""
    process = settings.process
    named(SIGMA_1, process.sigma_1, "process.sigma_1")
    named(PARAMETRIZATIONS, process.predicts, "process.predicts")
    named(VARIANCES, process.variance, "process.variance")
    named(SPACINGS, process.spacing, "process.spacing")
    autocast = torch.bfloat16 if settings.machine.precision == "bf16" else None
    asked = network.__call__ if settings.network.kind == OWN else network  # its `channels` may be anything
    return Model(
        NetworkDenoiser(asked, build_path(process), process.predicts, autocast),
        variance=process.variance,
        sigma_1=process.sigma_1,
        clip=process.clip_range if process.clip else None,
        levels=units.levels if isinstance(units, Levels) else None,
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
