"""Every "auto" answered, once, at the start: by the data, by the machine, by rules that are written here.

The rules are deterministic (no clock), except for what a budget of minutes buys: a network and a number of steps, which
`ladder` measures. The answers stand in the run's config.toml.
"""

import math
import os
from dataclasses import replace
from pathlib import Path

import torch

from kakusan.config.recipe import (
    DataFacts,
    Size,
    resolve_batch,
    resolve_dropout,
    resolve_network,
    resolve_recipe,
)
from kakusan.config.settings import DataSettings, MachineSettings, ProcessSettings, SamplesSettings, Settings
from kakusan.errors import SettingsError, quoted

SHORT = 200
"""Steps: grids come no oftener by themselves, so that they take at most about a twentieth of the time."""


def resolve(settings: Settings, facts: DataFacts) -> Settings:
    """The same settings without any "auto", save for what depends on the number of steps: `resolve_for`."""
    machine = resolve_machine(settings.machine)
    data = _resolve_data(settings.data, facts)
    if not settings.network.null_label:  # there is nothing to put in the place of a label
        data = replace(data, label_dropout=0.0)
    training = resolve_batch(settings.training, facts, machine.device)
    if training.loss == "auto":
        training = replace(training, loss="hybrid" if settings.process.variance == "learned" else "simple")
    process = _resolve_process(settings.process, facts)
    return replace(settings, training=training, data=data, process=process, machine=machine)


def resolve_for(
    settings: Settings, facts: DataFacts, steps: int, size: Size, *, fine_tuning: bool = False
) -> Settings:
    """The same settings without any "auto", for a training of so many steps with a network of this size."""
    training = replace(settings.training, steps=steps)
    network = resolve_network(settings.network, size, facts, settings.machine.device)
    training = resolve_recipe(training, network, fine_tuning=fine_tuning)
    assert training.batch_size != "auto"
    network = resolve_dropout(network, steps * training.batch_size / max(facts.count, 1))
    samples = resolve_samples(settings.samples, steps)
    return replace(settings, training=training, network=network, samples=samples)


def _resolve_process(process: ProcessSettings, facts: DataFacts) -> ProcessSettings:
    clip = facts.is_levels if process.clip == "auto" else process.clip
    if clip and not facts.is_levels:
        raise SettingsError("process.clip is for level data; real data have no bounds to clip to")
    schedule = process.schedule
    if schedule == "auto":
        schedule = "cosine" if process.beta_1 == process.beta_T == "auto" else "linear"
    predicts = "v" if process.predicts == "auto" else process.predicts
    if process.betas and process.T == ProcessSettings().T:  # nobody chose it: as many as there are betas
        process = replace(process, T=len(process.betas))
    return replace(process, clip=clip, schedule=schedule, predicts=predicts)


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
    layout, links = facts.layout or data.layout, data.follow_links is True
    return replace(data, size=(height, width), channels=channels, layout=layout, follow_links=links)
