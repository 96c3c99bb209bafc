"""Every "auto" answered, once, at the start: by the data, by the machine, by rules that are written here.

The rules are deterministic (no clock), except for the number of steps that a budget of minutes buys, which
`experiment` measures. The answers stand in the run's config.toml.
"""

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from kakusan.errors import SettingsError
from kakusan.runs import quoted
from kakusan.settings import (
    DataSettings,
    MachineSettings,
    NetworkSettings,
    ProcessSettings,
    SamplesSettings,
    Settings,
)

SHORT = 100
"""Steps: grids come no oftener by themselves."""


@dataclass(frozen=True)
class DataFacts:
    """What the rules want to know of the data."""

    shape: tuple[int, int, int]  # channels, height, width
    is_points: bool
    is_levels: bool


def resolve(settings: Settings, facts: DataFacts) -> Settings:
    """The same settings without any "auto", save for the budget of steps."""
    machine = resolve_machine(settings.machine)
    clip = facts.is_levels if settings.process.clip == "auto" else settings.process.clip
    if clip and not facts.is_levels:
        raise SettingsError("process.clip is for level data; real data have no bounds to clip to")
    data = _resolve_data(settings.data, facts)
    if not settings.network.null_label:  # there is nothing to put in the place of a label
        data = replace(data, label_dropout=0.0)
    process = replace(settings.process, clip=clip)
    if process.betas and process.T == ProcessSettings().T:  # nobody chose it: as many as there are betas
        process = replace(process, T=len(process.betas))
    training = settings.training
    if training.loss == "auto":
        training = replace(training, loss="hybrid" if settings.process.variance == "learned" else "simple")
    return replace(
        settings,
        training=training,
        data=data,
        process=process,
        network=_resolve_network(settings.network, facts),
        machine=machine,
    )


def resolve_samples(samples: SamplesSettings, steps: int) -> SamplesSettings:
    """Eight grids in a long training, the last one alone in a short one."""
    if samples.every != "auto":
        return samples
    return replace(samples, every=max(SHORT, math.ceil(steps / 8)))


def resolve_machine(machine: MachineSettings) -> MachineSettings:
    """The device, its precision, layout and threads."""
    device = best_device() if machine.device == "auto" else _checked_device(machine.device)
    precision = machine.precision
    if precision == "auto":
        precision = "bf16" if has_bf16(device) else "fp32"
    layout = machine.layout
    if layout == "auto":
        layout = (
            "channels-last"  # up to 1.3 times as fast; 2.5 % slower at worst (35.7 M parameters, bf16, CPU)
        )
    threads = machine.threads
    if threads == "auto":
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return replace(machine, device=device, precision=precision, layout=layout, threads=threads)


def best_device() -> str:
    """cuda, else mps, else cpu."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def has_bf16(device: str) -> bool:
    """Whether bfloat16 products run in hardware there. Without it they are slower than float32."""
    kind = torch.device(device).type
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def _checked_device(name: str) -> str:
    kind, _, index = name.partition(":")
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if counts.get(kind, 0) <= (int(index) if index.isdecimal() else 0):
        there = ", ".join(device for device, number in counts.items() if number)
        raise SettingsError(f"there is no device {name!r} here", f"devices: {there}", "see: kakusan doctor")
    return name


def require_device(machine: MachineSettings, folder: Path) -> None:
    """Raises SettingsError where the device that a run began on is not here."""
    try:
        _checked_device(machine.device)
    except SettingsError as error:
        advice = f"to go on with another (not bit for bit): kakusan resume {quoted(folder)} --device {best_device()}"
        raise SettingsError(error.problem, *error.advice, advice) from error


def _resolve_data(data: DataSettings, facts: DataFacts) -> DataSettings:
    channels, height, width = facts.shape
    return replace(data, size=(height, width), channels=channels)


def _resolve_network(network: NetworkSettings, facts: DataFacts) -> NetworkSettings:
    """A level for each halving down to about 8 pixels, attention from 16 on; 32 channels up to 16 pixels, else 64.

    Groups of 16 channels: fewer are slow on a CPU in bf16.
    """
    side = max(facts.shape[1:]) / network.patch
    kind = ("mlp" if facts.is_points else "unet") if network.kind == "auto" else network.kind
    if (kind == "mlp") != facts.is_points:
        raise SettingsError(
            f"network.kind {kind} does not fit these data", "mlp is for points, unet for images"
        )
    width = network.widths[0] if network.widths else network.width
    if width == "auto":
        width = 128 if kind == "mlp" else 64 if side > 16 else 32
    multipliers = (1,) * len(network.widths) or network.multipliers
    if multipliers == "auto":
        multipliers = (1,) + (2,) * max(1, math.ceil(math.log2(max(side, 8) / 8)))
    attention = network.attention
    if attention == "auto":
        attention = tuple(level for level in range(1, len(multipliers)) if side / 2**level <= 16)
    groups = math.gcd(width, max(1, width // 16), 32) if network.groups == "auto" else network.groups
    return replace(
        network, kind=kind, width=width, multipliers=multipliers, attention=attention, groups=groups
    )
