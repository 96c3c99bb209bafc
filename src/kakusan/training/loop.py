"""Training (Algorithm 1): draw x_0, t and eps; step on the gradient of the loss.

All that happens at a step is a function of (seed, step): the batch, the times, the noise, dropout. So what a
checkpoint has to hold is the weights, their average, the optimizer, and the sums of the current log interval.
No figure is waited for at a step: they are read once a log line, and so is the flag of a number that is not finite.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kakusan.config.parallel import FEWEST, at_once, shares, threads_of_a_part
from kakusan.config.settings import TrainingSettings, answered, named
from kakusan.errors import NumbersError, SettingsError
from kakusan.networks.dropout import dropout_seed
from kakusan.randomness import Purpose, normals, torch_seed
from kakusan.shapes import Condition, Samples, Times
from kakusan.training.course import PLANNED, Course
from kakusan.training.ema import EMA
from kakusan.training.losses import Loss, NetworkModel
from kakusan.training.timesteps import TIMES, TimeSampler

SCALING_DEVICES = ("cpu", "cuda")
"""Devices whose fused optimizer heeds a scale and a flag; Metal's ignores both."""
BUCKETS = 10
"""The loss is also reported by tenths of 1..T."""


class Batch(Protocol):
    """Some images with their condition."""

    @property
    def x_0(self) -> Samples: ...

    @property
    def condition(self) -> Condition | None: ...


class BatchSource(Protocol):
    """Batches as a function of the step; `start` and `count` select a part of the whole batch."""

    def at(self, step: int, start: int = 0, count: int | None = None) -> Batch: ...


def constant_rate(progress: float) -> float:  # noqa: ARG001
    """The rate stays."""
    return 1.0


def linear_rate(progress: float) -> float:
    """The rate falls to 0 on a straight line."""
    return 1 - progress


def cosine_rate(progress: float) -> float:
    """The rate falls to 0 along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * progress))


DECAYS: dict[str, Callable[[float], float]] = {
    "constant": constant_rate,
    "linear": linear_rate,
    "cosine": cosine_rate,
}


def learning_rate(training: TrainingSettings, step: int, course: Course = PLANNED) -> float:
    """The rate of a step (counted from 0), in optimizer steps: accumulation and ranks do not matter."""
    warmup = answered(training.warmup)
    warm = min(1.0, (step + 1) / warmup) if warmup else 1.0
    decay = DECAYS[training.decay](min(step / answered(training.steps), 1.0))
    return answered(training.learning_rate) * warm * decay * course.rate_factor


@dataclass
class Tally:
    """Sums since the last log line, on the device: loss by bucket of t, and the gradient norm."""

    loss: Float[Tensor, " buckets"]
    count: Float[Tensor, " buckets"]
    gradient_norm: Float[Tensor, ""]
    steps: int = 0

    @classmethod
    def zero(cls, device: torch.device) -> "Tally":
        return cls(
            torch.zeros(BUCKETS, device=device),
            torch.zeros(BUCKETS, device=device),
            torch.zeros((), device=device),
        )

    def add(
        self, losses: Float[Tensor, " batch"], weights: Float[Tensor, " batch"] | None, t: Times, T: int
    ) -> None:
        """One product with a matrix: the same sum on every run, which scattered additions are not on a GPU.

        weights: where t is not uniform, how much each loss counts, so that means are over uniform t.
        """
        bucket = ((t - 1) * BUCKETS / T).long()
        member = nn.functional.one_hot(bucket, BUCKETS).T.to(losses)
        if weights is not None:
            member = member * weights
        self.loss += member @ losses
        self.count += member.sum(1)

    def state(self) -> dict[str, Any]:
        return {
            "loss": self.loss.tolist(),
            "count": self.count.tolist(),
            "gradient_norm": self.gradient_norm.item(),
            "steps": self.steps,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], device: torch.device) -> "Tally":
        loss, count, norm = (
            torch.tensor(state[name], device=device) for name in ("loss", "count", "gradient_norm")
        )
        return cls(loss, count, norm, int(state["steps"]))


@dataclass
class TrainState:
    """The state that a step changes."""

    model: NetworkModel
    network: nn.Module
    ema: EMA
    optimizer: torch.optim.AdamW
    tally: Tally
    times: TimeSampler
    step: int = 0  # finished steps
    first_bad: Tensor = field(default_factory=lambda: torch.tensor(-1))
    course: Course = PLANNED
    lowest: dict[str, Tensor] | None = None
    """The averaged weights of the lowest held-out loss so far, where that is watched."""

    @property
    def device(self) -> torch.device:
        return self.first_bad.device

    def parts(self, rows: int) -> list[slice]:
        """The parts of a micro-batch of so many rows that go through the network at once."""
        may_be_shared = self.device.type == "cpu" and getattr(self.network, "rows_are_independent", False)
        return shares(rows, FEWEST) if may_be_shared else [slice(0, rows)]


@dataclass(frozen=True)
class StepReport:
    """One finished step; `metrics` stands at every log line. Losses are means since the last line."""

    step: int
    metrics: dict[str, Any] | None = None


def new_state(
    model: NetworkModel, network: nn.Module, training: TrainingSettings, device: torch.device
) -> TrainState:
    """A state before its first step.

    Raises SettingsError for times and decays that are not in their tables, and for a batch that cannot be split evenly.
    """
    times = named(TIMES, training.times, "training.times")
    named(DECAYS, training.decay, "training.decay")
    batch, parts = answered(training.batch_size), answered(training.accumulation)
    if batch % parts:
        raise SettingsError(
            f"a batch of {batch} cannot be split evenly into {parts} micro-batches",
            "choose training.accumulation as a divisor of training.batch-size",
        )
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=answered(training.learning_rate),
        betas=training.betas,
        eps=1e-8,
        weight_decay=training.weight_decay,
        fused=True,
    )
    first_bad = torch.tensor(-1, device=device)
    return TrainState(
        model,
        network,
        EMA(network, answered(training.ema)),
        optimizer,
        Tally.zero(device),
        times(model.path.T),
        first_bad=first_bad,
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
        train_step(state, batches, loss, training)
        if state.step % log_every and state.step != steps:
            yield StepReport(state.step)
        else:
            check_finite(state)
            yield StepReport(state.step, _metrics(state, training))


def train_step(state: TrainState, batches: BatchSource, loss: Loss, training: TrainingSettings) -> None:
    """One optimizer step over `accumulation` micro-batches."""
    with threads_of_a_part():
        _train_step(state, batches, loss, training)


def _train_step(state: TrainState, batches: BatchSource, loss: Loss, training: TrainingSettings) -> None:
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(training, state.step, state.course)
    finite = torch.ones((), dtype=torch.bool, device=state.device)
    seen = []
    for micro in range(answered(training.accumulation)):
        t, losses = _micro_step(state, batches, loss, training, micro)
        finite &= losses.isfinite().all()
        seen.append((t, losses))
    _update(state, finite, training.clip_norm)
    if state.times.learns and state.first_bad < 0:
        for t, losses in seen:
            state.times.learn(t, losses)
    state.ema.update(state.step)
    state.step += 1


def _micro_step(
    state: TrainState, batches: BatchSource, loss: Loss, training: TrainingSettings, micro: int
) -> tuple[Times, Float[Tensor, " batch"]]:
    """The losses of a micro-batch; their gradient is added to that of the parameters."""
    fed = drawn(state, batches, training, state.step, micro)
    parts = state.parts(len(fed.t))
    torch.manual_seed(torch_seed(training.seed, state.step, micro))  # of dropout, where the batch is one part
    if len(parts) == 1:
        losses = at_once(lambda _: _backward(state, loss, fed, training), parts)[0]
    else:
        losses = _backward_in_parts(state, loss, fed, training, parts, micro)
    state.tally.add(losses, fed.weights, fed.t, state.model.path.T)
    return fed.t, losses


def _backward(
    state: TrainState, loss: Loss, fed: "TrainingInputs", training: TrainingSettings
) -> Float[Tensor, " batch"]:
    losses, counted = _losses(state, loss, fed)
    torch.autograd.backward(counted.mean() / answered(training.accumulation))
    return losses


def _backward_in_parts(
    state: TrainState,
    loss: Loss,
    fed: "TrainingInputs",
    training: TrainingSettings,
    parts: Sequence[slice],
    micro: int,
) -> Float[Tensor, " batch"]:
    """The same by parts of the rows, which are computed at once; their gradients are added in the order of the rows."""
    parameters = [each for each in state.network.parameters() if each.requires_grad]
    count = len(fed.t) * answered(training.accumulation)

    def part(rows: slice) -> tuple[Float[Tensor, " part"], tuple[Tensor | None, ...]]:
        with dropout_of_part(training, state.step, micro, rows):
            losses, counted = _losses(state, loss, fed.rows(rows))
            return losses, torch.autograd.grad(counted.sum() / count, parameters, allow_unused=True)

    losses, gradients = zip(*at_once(part, parts), strict=True)
    for parameter, column in zip(parameters, zip(*gradients, strict=True), strict=True):
        _add_gradient(parameter, [gradient for gradient in column if gradient is not None])
    return torch.cat(losses)


def dropout_of_part(
    training: TrainingSettings, step: int, micro: int, rows: slice
) -> AbstractContextManager[None]:
    """A context in which the dropout of some rows is a function of seed, step and the first row's slot in the batch."""
    slot = micro * (answered(training.batch_size) // answered(training.accumulation)) + rows.start
    return dropout_seed(torch_seed(training.seed, step, slot))


def _losses(
    state: TrainState, loss: Loss, fed: "TrainingInputs"
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """The loss of each image, and what counts of it, with its gradient."""
    losses = loss.per_image(state.model, fed.x_0, fed.t, fed.noise, fed.condition)
    return losses.detach(), losses if fed.weights is None else losses * fed.weights


def _add_gradient(parameter: nn.Parameter, gradients: Sequence[Tensor]) -> None:
    """Add the sum to the parameter's gradient, in the layout of the parameter: the fused optimizer wants them alike."""
    if not gradients:
        return
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    for gradient in gradients:
        parameter.grad += gradient


@dataclass(frozen=True)
class TrainingInputs:
    """The inputs of a micro-batch."""

    x_0: Samples
    t: Times
    noise: Samples
    condition: Condition | None
    weights: Float[Tensor, " batch"] | None
    """Weight of each loss, where t is not uniform."""

    def rows(self, rows: slice) -> "TrainingInputs":
        """The inputs of some of the images."""
        condition = None if self.condition is None else self.condition.rows(rows)
        weights = None if self.weights is None else self.weights[rows]
        return TrainingInputs(self.x_0[rows], self.t[rows], self.noise[rows], condition, weights)


def drawn(
    state: TrainState, batches: BatchSource, training: TrainingSettings, step: int, micro: int
) -> TrainingInputs:
    """A micro-batch as a function of (seed, step, slot) and of what the sampler of t has learned before the step."""
    whole = answered(training.batch_size)
    count = whole // answered(training.accumulation)
    batch = batches.at(step, micro * count, count)
    slots = torch.arange(micro * count, (micro + 1) * count)
    t, weights = state.times.draw(training.seed, step, slots, whole)
    x_0 = batch.x_0.to(state.device, non_blocking=True)
    noise = normals(training.seed, Purpose.NOISE, step, slots.to(state.device), tuple(x_0.shape[1:]))
    condition = None if batch.condition is None else batch.condition.to(state.device)
    return TrainingInputs(
        x_0, t, noise, condition, None if weights is None else weights.float().to(state.device)
    )


def _update(state: TrainState, finite: Tensor, clip_norm: float) -> None:
    """Clip and step in one pass: the fused optimizer divides by a scale, and skips by a flag, without a wait."""
    gradients = [p.grad for p in state.network.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    finite = finite & norm.isfinite()
    bad_now = ~finite & (state.first_bad < 0)
    state.first_bad = torch.where(bad_now, state.step, state.first_bad)
    scale, bad = (norm / clip_norm).clamp(min=1.0), (state.first_bad >= 0).float()
    if state.device.type in SCALING_DEVICES:
        state.optimizer.grad_scale = scale  # type: ignore[attr-defined]
        state.optimizer.found_inf = bad  # type: ignore[attr-defined]
        state.optimizer.step()
    elif not bad:  # waits for the device
        torch._foreach_mul_(gradients, 1 / scale)
        state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    state.tally.gradient_norm += norm
    state.tally.steps += 1


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
    state.tally = Tally.zero(state.device)
    return {
        "step": state.step,
        "loss": sum(sums["loss"]) / sum(sums["count"]),
        "loss_by_t": [s / n if n else None for s, n in zip(sums["loss"], sums["count"], strict=True)],
        "gradient_norm": sums["gradient_norm"] / sums["steps"],
        "learning_rate": learning_rate(training, state.step - 1, state.course),
    }
