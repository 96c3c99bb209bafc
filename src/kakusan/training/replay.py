"""A training step that was not finite, done again in memory: which layer, and which images, were first.

All that happens at a step is a function of (seed, step), so that the steps since the last checkpoint lead to the same
numbers, on the same kind of machine.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kakusan.config.parallel import threads_of_a_part
from kakusan.config.settings import answered
from kakusan.randomness import torch_seed
from kakusan.training.state import Task
from kakusan.training.step import TrainingInputs, drawn, dropout_of_part, progress_of, train_step


@dataclass(frozen=True)
class FirstBad:
    """The first thing that was not finite at a step."""

    step: int
    """Counted from 1."""
    what: str
    """In words: the output of a layer, by its name in the network, what was fed, the loss, a gradient."""
    images: tuple[int, ...]
    """Places in the data set of the images of the batch that were concerned; empty where that cannot be told."""
    batch: int
    """Images that were looked at together."""


def replay(
    task: Task, step: int, progress: Callable[[float, str], None] = lambda _, __: None
) -> FirstBad | None:
    """Train from where the task stands to a step (counted from 1), and look into it; None where it is finite here.

    An earlier step that is not finite here, which is another story than on the machine of the run, is looked into
    instead. The task is changed, nothing is written.
    """
    state, begun = task.state, task.state.step
    task.network.train()
    while state.step < step - 1:
        progress((state.step - begun) / (step - begun), "replaying the last steps")
        train_step(state, task.batches, task.loss, task.settings.training)
        if (bad := int(state.first_bad)) >= 0:  # and nothing was updated: the weights are those before it
            return look_into(task, bad)
    return look_into(task, state.step)


def look_into(task: Task, step: int) -> FirstBad | None:
    """The step (counted from 0) that the task stands before, done without an update."""
    training = task.settings.training
    count = answered(training.batch_size) // answered(training.accumulation)
    for micro in range(answered(training.accumulation)):
        fed = drawn(task.state, task.batches, training, step, micro)
        indices = task.batches.at(step, micro * count, count).indices
        torch.manual_seed(torch_seed(training.seed, step, micro))  # of dropout, where the batch is one part
        parts = task.state.parts(count)
        for part in parts:
            seeded = dropout_of_part(training, step, micro, part) if len(parts) > 1 else nullcontext()
            with threads_of_a_part(), seeded:
                found = _look(task, fed.rows(part))
            if found:
                what, rows = found
                return FirstBad(step + 1, what, tuple(indices[part][rows].tolist()), part.stop - part.start)
    return None


def _look(task: Task, fed: TrainingInputs) -> tuple[str, NDArray[np.int64]] | None:
    """The first tensor that is not finite, and the rows of the batch where it is not."""
    if len(rows := _bad_rows(fed.x_0)):
        return "the images themselves", rows
    loss = task.loss.at(progress_of(task.state, task.settings.training))
    with _watched(task.network) as seen:
        losses = loss.per_image(task.model, fed.x_0, fed.t, fed.noise, fed.condition)
        if seen:
            return seen[0]
        if len(rows := _bad_rows(losses)):
            return "the loss, of an output that is finite", rows
        torch.autograd.backward(losses.mean())
    task.state.optimizer.zero_grad(set_to_none=True)
    return seen[0] if seen else None


Seen = list[tuple[str, NDArray[np.int64]]]


@contextmanager
def _watched(network: nn.Module) -> Iterator[Seen]:
    """While it is asked, outputs of layers and gradients of weights that are not finite are noted in their order."""
    seen: Seen = []
    handles = [module.register_forward_hook(_noting(name, seen)) for name, module in network.named_modules()]
    for name, weight in network.named_parameters():
        if weight.requires_grad:
            hook: Any = weight
            handles.append(hook.register_hook(_noting_gradient(name, seen)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _noting(name: str, seen: Seen) -> Callable[[nn.Module, Any, Any], None]:
    def note(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and len(rows := _bad_rows(output.detach())):
            place = f"layer {name}" if name else "the network"
            seen.append((f"the output of {place} ({type(module).__name__})", rows))

    return note


def _noting_gradient(name: str, seen: Seen) -> Callable[[Tensor], None]:
    def note(gradient: Tensor) -> None:
        if not gradient.isfinite().all():
            seen.append((f"the gradient of {name}", np.empty(0, dtype=np.int64)))

    return note


def _bad_rows(x: Tensor) -> NDArray[np.int64]:
    """The rows that hold a value that is not finite."""
    if x.is_floating_point() and x.ndim and not x.isfinite().all():
        return np.flatnonzero(
            (~x.isfinite().flatten(1).all(1) if x.ndim > 1 else ~x.isfinite()).cpu().numpy()
        )
    return np.empty(0, dtype=np.int64)
