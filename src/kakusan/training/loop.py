"""Training (Algorithm 1): draw x_0, t and eps; step on the gradient of the loss.

All that happens at a step is a function of (seed, step): the batch, the times, the noise, dropout. So what a
checkpoint has to hold is the weights, their average, the optimizer, and the sums of the current log interval.
No figure is waited for at a step: they are read once a log line, and so is the flag of a number that is not finite.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from kakusan.config.settings import TrainingSettings, answered, named
from kakusan.errors import NumbersError, SettingsError
from kakusan.training.ema import EMA
from kakusan.training.losses import Loss, NetworkModel
from kakusan.training.optimizers import OPTIMIZERS
from kakusan.training.rates import DECAYS, learning_rate
from kakusan.training.repeated import RepeatedStep
from kakusan.training.step import BatchSource, TrainState, train_step
from kakusan.training.tally import Tally
from kakusan.training.timesteps import TIMES


@dataclass(frozen=True)
class StepReport:
    """One finished step; `metrics` stands at every log line. Losses are means since the last line."""

    step: int
    metrics: dict[str, Any] | None = None


def new_state(
    model: NetworkModel,
    network: nn.Module,
    training: TrainingSettings,
    device: torch.device,
    *,
    graphs: bool = False,
) -> TrainState:
    """A state before its first step.

    graphs: whether a CUDA device may repeat the step by itself, where loss and times allow it.
    Raises SettingsError for times, a decay or an optimizer that are not in their tables, and for a batch that cannot be
    split evenly.
    """
    times = named(TIMES, training.times, "training.times")
    named(DECAYS, training.decay, "training.decay")
    optimizer = named(OPTIMIZERS, training.optimizer, "training.optimizer")
    batch, parts = answered(training.batch_size), answered(training.accumulation)
    if batch % parts:
        raise SettingsError(
            f"a batch of {batch} cannot be split evenly into {parts} micro-batches",
            "choose training.accumulation as a divisor of training.batch-size",
        )
    first_bad = torch.tensor(-1, device=device)
    return TrainState(
        model,
        network,
        EMA(network, answered(training.ema)),
        optimizer(network, training, device),
        Tally.zero(device),
        times(model.path.T),
        first_bad=first_bad,
        graphs=graphs,
    )


def fit(
    state: TrainState, batches: BatchSource, loss: Loss, training: TrainingSettings, log_every: int
) -> Iterator[StepReport]:
    """Train to the last step; each finished step is reported, with figures every log_every steps. Algorithm 1.

    Between two steps, who drains this may set the course anew: rate and last step are asked for at each.

    training: without any "auto", as for all functions here.
    Raises NumbersError at the log line after a loss or gradient that is not finite; from that step on nothing
    was updated. Call `check_finite` before saving in between.
    """
    state.network.train()
    while state.step < (steps := state.course.last_step(answered(training.steps))):
        take_step(state, batches, loss, training)
        if state.step % log_every and state.step != steps:
            yield StepReport(state.step)
        else:
            check_finite(state)
            yield StepReport(state.step, _metrics(state, training))


def take_step(state: TrainState, batches: BatchSource, loss: Loss, training: TrainingSettings) -> None:
    """The next optimizer step, as a graph where it can be one."""
    if not (state.graphs and loss.repeats and not state.times.learns):
        train_step(state, batches, loss, training)
        return
    if state.repeated is None:
        state.repeated = RepeatedStep(state, batches, loss, training)
    state.repeated()


def check_finite(state: TrainState) -> None:
    """Raises NumbersError with the first step whose loss or gradient was not finite. Waits for the device."""
    step = int(state.first_bad)
    if step >= 0:
        raise NumbersError(
            f"the loss or its gradient is not finite at step {step + 1}; nothing was updated since",
            "a smaller training.learning-rate, a longer training.warmup or machine.precision fp32 often helps",
        )


def _metrics(state: TrainState, training: TrainingSettings) -> dict[str, Any]:
    """The log line, and a fresh tally."""
    sums = state.tally.state()
    state.tally.clear()
    return {
        "step": state.step,
        "loss": sum(sums["loss"]) / sum(sums["count"]),
        "loss_by_t": [s / n if n else None for s, n in zip(sums["loss"], sums["count"], strict=True)],
        "gradient_norm": sums["gradient_norm"] / sums["steps"],
        "learning_rate": learning_rate(training, state.step - 1, state.course),
    }
