"""One optimizer step: the inputs of its micro-batches, their gradients, and the update. The body of Algorithm 1."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kakusan.config.parallel import FEWEST, at_once, shares, threads_of_a_part
from kakusan.config.settings import TrainingSettings, answered
from kakusan.networks.dropout import dropout_seed
from kakusan.networks.log_snr import LogSNR
from kakusan.randomness import Purpose, normals, torch_seed
from kakusan.shapes import Condition, Samples, Times
from kakusan.training.course import PLANNED, Course
from kakusan.training.ema import EMA
from kakusan.training.losses import Loss, NetworkModel
from kakusan.training.rates import learning_rate
from kakusan.training.tally import Tally
from kakusan.training.timesteps import TimeSampler

SCALING_DEVICES = ("cpu", "cuda")
"""Devices whose fused optimizer heeds a scale and a flag; Metal's ignores both."""


class Batch(Protocol):
    """Some images with their condition."""

    @property
    def x_0(self) -> Samples: ...

    @property
    def condition(self) -> Condition | None: ...


class BatchSource(Protocol):
    """Batches as a function of the step; `start` and `count` select a part of the whole batch."""

    def at(self, step: int, start: int = 0, count: int | None = None) -> Batch: ...


@dataclass
class TrainState:
    """The state that a step changes."""

    model: NetworkModel
    network: nn.Module
    ema: EMA
    optimizer: torch.optim.Optimizer
    tally: Tally
    times: TimeSampler
    step: int = 0  # finished steps
    first_bad: Tensor = field(default_factory=lambda: torch.tensor(-1))
    course: Course = PLANNED
    repeated: "Callable[[], None] | None" = None
    """Its step as the device repeats it by itself, from its first one on."""
    graphs: bool = False
    """Whether a CUDA device may repeat the step by itself."""
    lowest: dict[str, Tensor] | None = None
    """The averaged weights of the lowest held-out loss so far, where that is watched."""

    @property
    def device(self) -> torch.device:
        return self.first_bad.device

    def parts(self, rows: int) -> list[slice]:
        """The parts of a micro-batch of so many rows that go through the network at once."""
        may_be_shared = self.device.type == "cpu" and getattr(self.network, "rows_are_independent", False)
        return shares(rows, FEWEST) if may_be_shared else [slice(0, rows)]


def train_step(state: TrainState, batches: BatchSource, loss: Loss, training: TrainingSettings) -> None:
    """One optimizer step over `accumulation` micro-batches."""
    with threads_of_a_part():
        _train_step(state, batches, loss, training)


def _train_step(state: TrainState, batches: BatchSource, loss: Loss, training: TrainingSettings) -> None:
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(training, state.step, state.course)
    finite = torch.ones((), dtype=torch.bool, device=state.device)
    seen, loss = [], loss.at(progress_of(state, training))
    for micro in range(answered(training.accumulation)):
        t, losses = _micro_step(state, batches, loss, training, micro)
        finite &= losses.isfinite().all()
        seen.append((t, losses))
    update(state, finite, training.clip_norm, state.step)
    if state.times.learns and state.first_bad < 0:
        for t, losses in seen:
            state.times.learn(t, losses)
    state.ema.update(state.step)
    state.tally.steps += 1
    state.step += 1


def progress_of(state: TrainState, training: TrainingSettings) -> float:
    """The share of its planned steps that are done, 0 to 1, on which losses depend that change on the way."""
    return min(1.0, state.step / answered(training.steps))


def _micro_step(
    state: TrainState, batches: BatchSource, loss: Loss, training: TrainingSettings, micro: int
) -> tuple[Times, Float[Tensor, " batch"]]:
    """The losses of a micro-batch; their gradient is added to that of the parameters."""
    fed = drawn(state, batches, training, state.step, micro)
    parts = state.parts(len(fed.t))
    torch.manual_seed(torch_seed(training.seed, state.step, micro))  # of dropout, where the batch is one part
    if len(parts) == 1:
        losses = at_once(lambda _: backward(state, loss, fed, training), parts)[0]
    else:
        losses = _backward_in_parts(state, loss, fed, training, parts, micro)
    state.tally.add(losses, fed.weights, fed.t, state.model.path.T)
    return fed.t, losses


def backward(
    state: TrainState, loss: Loss, fed: "TrainingInputs", training: TrainingSettings
) -> Float[Tensor, " batch"]:
    """The losses of a micro-batch; their gradient, over the whole batch, is added to that of the parameters."""
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
    noise = _noise(state, training.seed, step, slots, tuple(x_0.shape[1:]))
    condition = None if batch.condition is None else batch.condition.to(state.device)
    return TrainingInputs(
        x_0, t, noise, condition, None if weights is None else weights.float().to(state.device)
    )


def _noise(state: TrainState, seed: int, step: int, slots: Tensor, shape: tuple[int, ...]) -> Samples:
    """By parts of the rows, which are drawn at once: a number is a function of its slot."""

    def part(rows: slice) -> Samples:
        return normals(seed, Purpose.NOISE, step, slots[rows].to(state.device), shape)

    drawn = at_once(part, state.parts(len(slots)))
    return drawn[0] if len(drawn) == 1 else torch.cat(drawn)


def _gradients_of_schedule(network: nn.Module) -> list[Tensor]:
    """Of a schedule that is learned: squares of bits, many times the network's, whose clipping they would take over."""
    log_snr = getattr(network, "log_snr", None)
    if not isinstance(log_snr, LogSNR):
        return []
    return [parameter.grad for parameter in log_snr.parameters() if parameter.grad is not None]


def _clip(gradients: list[Tensor], limit: float, scale: Tensor) -> None:
    """To a norm of their own, times the scale by which all gradients are divided afterwards."""
    norm = torch.nn.utils.get_total_norm(gradients)
    torch._foreach_mul_(gradients, scale * (limit / norm.clamp(min=limit)))


def update(state: TrainState, finite: Tensor, clip_norm: float, step: int | Tensor) -> None:
    """Clip and step in one pass: the fused optimizer divides by a scale, and skips by a flag, without a wait.

    finite: whether all losses are; step: its number, from 0.
    """
    gradients = [p.grad for p in state.network.parameters() if p.grad is not None]
    of_schedule = _gradients_of_schedule(state.network)
    apart = {id(gradient) for gradient in of_schedule}
    norm = torch.nn.utils.get_total_norm([each for each in gradients if id(each) not in apart])
    finite = finite & norm.isfinite()
    bad_now = ~finite & (state.first_bad < 0)
    state.first_bad.copy_(torch.where(bad_now, step, state.first_bad))
    scale, bad = (norm / clip_norm).clamp(min=1.0), (state.first_bad >= 0).float()
    if of_schedule:
        _clip(of_schedule, clip_norm, scale)
    if state.device.type in SCALING_DEVICES:
        state.optimizer.grad_scale = scale  # type: ignore[attr-defined]
        state.optimizer.found_inf = bad  # type: ignore[attr-defined]
        state.optimizer.step()
    elif not bad:  # waits for the device
        torch._foreach_mul_(gradients, 1 / scale)
        state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    state.tally.gradient_norm += norm
