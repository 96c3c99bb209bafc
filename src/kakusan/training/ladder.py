"""The choice of a network for a budget of time on this machine: networks from the smallest up, each timed for a moment
on the data themselves.

The answer is a network and a number of steps, which then stand in config.toml: no later command measures again.
"""

import math
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kakusan.config.facts import Size
from kakusan.config.networks import settled
from kakusan.config.networks.unet import FEW_IMAGES
from kakusan.config.recipe import FEW_STEPS
from kakusan.config.resolve import resolve_for
from kakusan.config.settings import KINDS, Settings, answered
from kakusan.data.space import in_pixels
from kakusan.training.loop import check_finite, take_step
from kakusan.training.prepare import Prepared
from kakusan.training.state import Task, assemble, is_out_of_memory
from kakusan.training.step import drawn

MEASURED_SECONDS = 3.0
WARM_STEPS = 2
FOR_STEPS = 0.95
"""Share of a budget that steps may take; the rest is for pictures, held-out figures and checkpoints."""
FOR_MEASURING = 0.02
"""Share of a budget that may go into timing one network."""
ENDLESS = 10**9
"""Steps of a trial: its end is not in sight."""
ACTIVATIONS = 1 << 30
"""Bytes that the forward pass of a micro-batch may keep for the backward pass, on a CPU."""
OF_FREE_MEMORY = 0.5
"""The same on a GPU, as a share of what is free there."""
SMALLEST_SIDE = 16
"""Pixels: a side below which photographs show nothing; none is advised."""
SMALL_PART = 4
"""Images of a micro-batch that is worth a word."""
COUNTED = 3
"""Images whose activations are counted, less those of one."""


@dataclass(frozen=True)
class Bought:
    """Settings without any "auto", and what a step takes; 0 where nothing was timed."""

    settings: Settings
    step_seconds: float = 0.0

    @property
    def steps(self) -> int:
        return answered(self.settings.training.steps)

    def is_short_of(self, steps: int) -> bool:
        """Whether the time allows fewer steps than that, for a network of images."""
        return self.step_seconds > 0 and self.settings.data.kind != "points" and self.steps < steps


def for_steps(settings: Settings, prepared: Prepared, steps: int, *, fine_tuning: bool = False) -> Bought:
    """Network and recipe for a given number of steps. Nothing is timed."""
    first, *larger = _sizes(settings, prepared)
    size = [first, *(size for size in larger if steps >= size.steps)][-1]
    return Bought(_resolved(settings, prepared, steps, size, fine_tuning=fine_tuning))


def for_seconds(
    settings: Settings, prepared: Prepared, seconds: float, *, fine_tuning: bool = False
) -> Bought:
    """The largest network that gets enough steps in this time, timed from the smallest up, and its recipe."""
    begun = time.perf_counter()
    patience = min(MEASURED_SECONDS, FOR_MEASURING * seconds)
    chosen, *larger = _sizes(settings, prepared)
    step_seconds = _step_seconds(_resolved(settings, prepared, ENDLESS, chosen), prepared, patience)
    for size in larger:
        timed = _seconds_if_it_fits(_resolved(settings, prepared, ENDLESS, size), prepared, patience)
        if FOR_STEPS * seconds / timed < size.steps:
            break
        chosen, step_seconds = size, timed
    left = FOR_STEPS * seconds - (time.perf_counter() - begun)
    steps = max(1, int(left / step_seconds))
    return Bought(_resolved(settings, prepared, steps, chosen, fine_tuning=fine_tuning), step_seconds)


def timed(found: Bought, prepared: Prepared) -> Bought:
    """The same with what a step takes, measured for some seconds where it was not before."""
    if found.step_seconds:
        return found
    return replace(found, step_seconds=_step_seconds(found.settings, prepared, MEASURED_SECONDS))


def _sizes(settings: Settings, prepared: Prepared) -> tuple[Size, ...]:
    """The sizes of network to choose from, the smallest first."""
    return settled(settings.network, prepared.facts).sizes(prepared.facts)


def _resolved(
    settings: Settings, prepared: Prepared, steps: int, size: Size, *, fine_tuning: bool = False
) -> Settings:
    resolved = resolve_for(settings, prepared.facts, steps, size, fine_tuning=fine_tuning)
    return within_memory(resolved, prepared)


def _seconds_if_it_fits(settings: Settings, prepared: Prepared, patience: float) -> float:
    """`_step_seconds`, endless where the memory does not suffice."""
    try:
        return _step_seconds(settings, prepared, patience)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return math.inf


def _step_seconds(settings: Settings, prepared: Prepared, patience: float) -> float:
    """A quick one of a few steps on a throw-away state with these data: that of the fastest quarter.

    What else runs on a machine for a moment slows steps down, and must not settle the length of a whole training.
    """
    task = assemble(settings, prepared.for_a_trial())
    begun, durations = time.perf_counter(), list[float]()
    while len(durations) < WARM_STEPS + 2 or time.perf_counter() - begun < patience:
        start = time.perf_counter()
        take_step(task.state, task.batches, task.loss, settings.training)
        check_finite(task.state)  # waits for the device
        durations.append(time.perf_counter() - start)
    quick = sorted(durations[WARM_STEPS:])
    return quick[len(quick) // 4]


# Memory


def within_memory(settings: Settings, prepared: Prepared) -> Settings:
    """The same with a number of micro-batches, the smallest whose activations fit, unless it is given."""
    if settings.training.accumulation != "auto":
        return settings
    batch = answered(settings.training.batch_size)
    most = _room(settings.machine.device) // max(1, bytes_of_an_image(settings, prepared))
    parts = next((n for n in range(1, batch) if batch % n == 0 and batch // n <= most), batch)
    return replace(settings, training=replace(settings.training, accumulation=parts))


def bytes_of_an_image(settings: Settings, prepared: Prepared) -> int:
    """`activation_bytes` of a training with these settings, counted on a throw-away state."""
    counted = replace(settings, training=replace(settings.training, batch_size=COUNTED, accumulation=1))
    return activation_bytes(assemble(counted, prepared.for_a_trial()))


def activation_bytes(task: Task) -> int:
    """Bytes that the forward pass keeps for the backward pass, for each image of a batch."""
    one, several = _kept_bytes(task, 1), _kept_bytes(task, COUNTED)
    return (several - one) // (COUNTED - 1)


def _kept_bytes(task: Task, images: int) -> int:
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # a step that kept its own answer would hold it, and itself, for ever

    fed = drawn(task.state, task.batches, replace(task.settings.training, batch_size=images), 0, 0)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        losses = task.loss.per_image(task.model, fed.x_0, fed.t, fed.noise, fed.condition)
    del losses  # until here the tensors lived, so that no two had the same place
    return sum(kept.values())


def _room(device: str) -> int:
    if device.startswith("cuda"):
        return int(OF_FREE_MEMORY * torch.cuda.mem_get_info(device)[0])
    return ACTIVATIONS


# Words


def cautions(found: Bought, prepared: Prepared, *, can_shrink: bool) -> tuple[str, ...]:
    """Cautions for the user before the training, in sentences. can_shrink: --data.size is theirs to choose."""
    return (
        *_stopped_noise(found, prepared),
        *_too_few_steps(found, prepared, can_shrink=can_shrink),
        *_long_warmup(found),
        *_small_parts(found),
        *_few_images(prepared),
    )


def _stopped_noise(found: Bought, prepared: Prepared) -> tuple[str, ...]:
    settings, shape = found.settings, prepared.facts.shape
    network, predicts = settings.network, settings.process.predicts
    if predicts == "x_0" or network.passes_noise(shape):
        return ()
    values, patch = network.values_at_a_position(shape), getattr(network, "patch", 1)
    return (
        f"{values:,} values at a position (patch {patch}) are too many for noise to pass through this network, and"
        f" {predicts} is part noise: samples may keep a grain, or stay noise; what helps: --process.predicts x_0"
        + (", or a smaller --network.patch" if patch != 1 else ", or a larger --network.width"),
    )


def _too_few_steps(found: Bought, prepared: Prepared, *, can_shrink: bool) -> tuple[str, ...]:
    if not found.is_short_of(FEW_STEPS):
        return ()
    _, *size = prepared.facts.shape
    minutes = FEW_STEPS * found.step_seconds / 60 / FOR_STEPS
    helps = [f"--minutes {math.ceil(minutes)}"]
    if can_shrink and min(size) >= 2 * SMALLEST_SIDE and 4 * found.steps >= FEW_STEPS:
        helps.append(f"--data.size {size[0] // 2} {size[1] // 2} (up to {4 * found.steps:,} steps)")
    shown = in_pixels(*size) if len(size) == 2 else "x".join(map(str, size))
    return (
        f"{KINDS[len(size)]}s of {shown} allow {found.steps:,} steps in this time here,"
        f" and good samples want {FEW_STEPS:,} or more; what helps: {' or '.join(helps)}",
    )


def _long_warmup(found: Bought) -> tuple[str, ...]:
    warmup = answered(found.settings.training.warmup)
    if 2 * warmup <= found.steps:
        return ()
    return (
        f"training.warmup = {warmup:,} is more than half of the {found.steps:,} steps:"
        " --training.warmup auto is a twentieth",
    )


def _small_parts(found: Bought) -> tuple[str, ...]:
    training = found.settings.training
    batch, parts = answered(training.batch_size), answered(training.accumulation)
    if parts == 1 or batch // parts >= SMALL_PART:
        return ()
    return (
        f"a batch of {batch} images needs more memory than there is for one, and is split into {parts} micro-batches"
        f" of {batch // parts}, which is slow: take a --training.batch-size with more divisors",
    )


def _few_images(prepared: Prepared) -> tuple[str, ...]:
    count = prepared.facts.count
    if count >= FEW_IMAGES or prepared.facts.is_points:
        return ()
    return (
        f"{count:,} images are few: the network may learn them by heart; the report shows whether it did",
    )
