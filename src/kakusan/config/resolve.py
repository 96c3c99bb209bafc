"""Every "auto" answered, once, at the start: by the data, by the machine, by rules that are written here.

The rules are deterministic (no clock), except for what a budget of minutes buys: a network and a number of steps, which
`ladder` measures. The answers stand in the run's config.toml.
"""

import math
from dataclasses import replace

from kakusan.config.facts import DataFacts, Size
from kakusan.config.machine import resolve_machine, usual_workers
from kakusan.config.networks import settled
from kakusan.config.recipe import resolve_batch, resolve_recipe
from kakusan.config.section import answered
from kakusan.config.settings import (
    KINDS,
    LEARNED,
    WHEN_DONE,
    CheckpointSettings,
    ProcessSettings,
    SamplesSettings,
    Settings,
)
from kakusan.errors import SettingsError

OF_PATHS = {"flow": "flow", "edm": "edm"}
"""The default prediction target on these paths; v on others."""
SHORT = 200
"""Steps: grids come no oftener by themselves, so that they take at most about a twentieth of the time."""
GRIDS, WATCHED_GRIDS = 8, 32
EARLY_SHARES = (16, 8, 4, 2)
"""Parts of a training after whose first one a snapshot is kept; Karras et al. (2024) guide by a 16th."""
FIRST_SNAPSHOT = 100
"""Steps: a network of fewer has learned hardly anything."""


def resolve(settings: Settings, facts: DataFacts) -> Settings:
    """The same settings without any "auto", save for what depends on the number of steps: `resolve_for`."""
    settings.require_own()
    machine, data = resolve_machine(settings.machine), settings.data
    network = settled(settings.network, facts)
    channels, *sides = facts.shape
    data = replace(
        data,
        size=(sides[0], sides[1]) if len(sides) == 2 else data.size,
        channels=channels,
        kind=KINDS[len(sides)],
        layout=facts.layout or data.layout,
        follow_links=data.follow_links is True,
        condition_dropout=data.condition_dropout if network.null_label else 0.0,  # with nothing in its place
    )
    process = _resolve_process(settings.process, facts, network.predicts)
    training = resolve_batch(settings.training, facts, machine.device)
    if training.loss == "auto":
        plain = network.loss if network.predicts == process.predicts else None
        usual = "hybrid" if process.variance == LEARNED else plain or "simple"
        usual = "bound" if process.schedule == LEARNED else usual
        training = replace(training, loss=training.chosen_by_options("loss") or usual)
    if training.times == "auto":
        training = replace(training, times="decoder" if process.schedule == LEARNED else "stratified")
    elif process.schedule == LEARNED and training.times in ("uniform", "stratified"):
        raise SettingsError(
            f"training.times {training.times} draws t = 1 once in T, and a learned schedule has to hear of the"
            " decoder's term more often, or its first end falls into noise",
            "use --training.times decoder, which is what auto is here, or importance",
        )
    if settings.machine.workers == "auto":
        rows = answered(training.batch_size) if network.rows_are_independent else 1
        machine = replace(machine, workers=usual_workers(machine, rows))
    return replace(settings, training=training, data=data, network=network, process=process, machine=machine)


def resolve_for(
    settings: Settings, facts: DataFacts, steps: int, size: Size, *, fine_tuning: bool = False
) -> Settings:
    """The same settings without any "auto", for a training of so many steps with a network of this size."""
    training = replace(settings.training, steps=steps)
    network = settled(settings.network, facts).resolved(facts, size, settings.machine.device)
    training = resolve_recipe(training, network, fine_tuning=fine_tuning)
    assert training.batch_size != "auto"
    network = network.seen_for(steps * training.batch_size / max(facts.count, 1))
    return resolve_cadence(replace(settings, training=training, network=network), steps)


def _resolve_process(process: ProcessSettings, facts: DataFacts, of_network: str | None) -> ProcessSettings:
    """of_network: what this kind of network predicts on any path unless it is chosen; None: as the path has it."""
    clip = facts.is_levels if process.clip == "auto" else process.clip
    if clip and not facts.is_levels:
        raise SettingsError("process.clip is for level data; real data have no bounds to clip to")
    schedule = process.schedule
    if process.path != "vp":
        schedule = "none"
    elif schedule == "auto":
        schedule = process.chosen_by_options("schedule") or "cosine"
    predicts = process.predicts
    if predicts == "auto":
        predicts = of_network or OF_PATHS.get(process.path, "v")
    if process.betas and process.T == ProcessSettings().T:  # nobody chose it: as many as there are betas
        process = replace(process, T=len(process.betas))
    return replace(process, clip=clip, schedule=schedule, predicts=predicts)


def resolve_cadence(settings: Settings, steps: int) -> Settings:
    """The same with the steps of its grids and snapshots, for a training of so many steps."""
    samples = resolve_samples(settings.samples, steps, watched=settings.training.stop == WHEN_DONE)
    return replace(settings, samples=samples, checkpoint=resolve_snapshots(settings.checkpoint, steps))


def resolve_snapshots(checkpoint: CheckpointSettings, steps: int) -> CheckpointSettings:
    """A few early ones, each at least its share of the training."""
    if checkpoint.snapshots != "auto":
        return checkpoint
    shares = (math.ceil(steps / share) for share in EARLY_SHARES)
    return replace(checkpoint, snapshots=tuple(step for step in shares if step >= FIRST_SNAPSHOT))


def resolve_samples(samples: SamplesSettings, steps: int, *, watched: bool = False) -> SamplesSettings:
    """Eight grids in a long training, the last one alone in a short one; more where the losses that are measured with
    them are watched."""
    if samples.every != "auto":
        return samples
    return replace(samples, every=max(SHORT, math.ceil(steps / (WATCHED_GRIDS if watched else GRIDS))))
