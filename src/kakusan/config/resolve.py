"""Every "auto" answered, once, at the start: by the data, by the machine, by rules that are written here.

The rules are deterministic (no clock), except for what a budget of minutes buys: a network and a number of steps, which
`ladder` measures. The answers stand in the run's config.toml.
"""

import math
from dataclasses import replace

from kakusan.config.machine import resolve_machine
from kakusan.config.recipe import (
    TRANSFORMER,
    DataFacts,
    Size,
    resolve_batch,
    resolve_dropout,
    resolve_network,
    resolve_recipe,
)
from kakusan.config.settings import KINDS, ProcessSettings, SamplesSettings, Settings
from kakusan.errors import SettingsError

OF_PATHS = {"flow": "flow", "edm": "edm"}
"""What a network predicts on these paths unless it is chosen; v on others."""
SHORT = 200
"""Steps: grids come no oftener by themselves, so that they take at most about a twentieth of the time."""


def resolve(settings: Settings, facts: DataFacts) -> Settings:
    """The same settings without any "auto", save for what depends on the number of steps: `resolve_for`."""
    machine, data = resolve_machine(settings.machine), settings.data
    channels, *sides = facts.shape
    data = replace(
        data,
        size=(sides[0], sides[1]) if len(sides) == 2 else data.size,
        channels=channels,
        kind=KINDS[len(sides)],
        layout=facts.layout or data.layout,
        follow_links=data.follow_links is True,
        label_dropout=data.label_dropout if settings.network.null_label else 0.0,  # with nothing in its place
    )
    is_transformer = settings.network.kind == TRANSFORMER
    process = _resolve_process(settings.process, facts, "x_0" if is_transformer else None)
    training = resolve_batch(settings.training, facts, machine.device)
    if training.loss == "auto":
        of_x_0 = is_transformer and process.predicts == "x_0"
        plain = "velocity" if of_x_0 else "simple"
        training = replace(training, loss="hybrid" if process.variance == "learned" else plain)
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


def _resolve_process(process: ProcessSettings, facts: DataFacts, of_network: str | None) -> ProcessSettings:
    """of_network: what this kind of network predicts on any path unless it is chosen; None: as the path has it."""
    clip = facts.is_levels if process.clip == "auto" else process.clip
    if clip and not facts.is_levels:
        raise SettingsError("process.clip is for level data; real data have no bounds to clip to")
    schedule = process.schedule
    if process.path != "vp":
        if schedule not in ("auto", "none"):
            raise SettingsError(
                f"process.schedule is for the path vp, not for {process.path}", "leave one of them out"
            )
        schedule = "none"
    elif schedule == "auto":
        schedule = "cosine" if process.beta_1 == process.beta_T == "auto" else "linear"
    predicts = process.predicts
    if predicts == "auto":
        predicts = of_network or OF_PATHS.get(process.path, "v")
    if process.betas and process.T == ProcessSettings().T:  # nobody chose it: as many as there are betas
        process = replace(process, T=len(process.betas))
    return replace(process, clip=clip, schedule=schedule, predicts=predicts)


def resolve_samples(samples: SamplesSettings, steps: int) -> SamplesSettings:
    """Eight grids in a long training, the last one alone in a short one."""
    if samples.every != "auto":
        return samples
    return replace(samples, every=max(SHORT, math.ceil(steps / 8)))
