"""An optimizer step that a CUDA device repeats by itself: one graph, from the numbers of the images to the new weights.

A step is told its number, its learning rate and which images it learns; times and noise are drawn on the device, where
the images lie, too, if they fit.
"""

import torch
from torch import Tensor

from kakusan.config.settings import TrainingSettings, answered
from kakusan.data import Batches
from kakusan.networks.dropout import has_dropout
from kakusan.networks.graphs import Replayed
from kakusan.randomness import Purpose, normals, torch_seed
from kakusan.shapes import Condition, Samples
from kakusan.training.losses import Loss
from kakusan.training.rates import learning_rate
from kakusan.training.step import BatchSource, TrainingInputs, TrainState, backward, update

SHARE = 0.25
"""Share of the device's free memory that the images of a data set may take."""
CHUNK = 4096
"""Images that are brought there at a time."""


class RepeatedStep:
    """One step after the other of a training, on its device. Good as long as the parts of its state are the same."""

    def __init__(
        self, state: TrainState, batches: BatchSource, loss: Loss, training: TrainingSettings
    ) -> None:
        self._state, self._loss, self._training = state, loss, training
        self._batches = batches
        self._count = answered(training.batch_size)
        device = state.device
        self._numbers = torch.zeros(
            3, dtype=torch.float64, device=device
        )  # step, learning rate, share of the average
        self._rate = torch.zeros((), device=device)
        self._slots = torch.arange(self._count, device=device)
        self._images = _Resident.of(batches, device) or _Streamed(device)
        self._condition: Condition | None = None
        self._drops = has_dropout(state.network)
        for group in state.optimizer.param_groups:
            group["lr"] = self._rate
        self._replayed = Replayed(self._work, device)

    def __call__(self) -> None:
        """The next step. Nothing of it is waited for."""
        state, training = self._state, self._training
        numbers = (
            state.step,
            learning_rate(training, state.step, state.course),
            1 - state.ema.decay_at(state.step),
        )
        self._numbers.copy_(torch.tensor(numbers, dtype=torch.float64), non_blocking=True)
        self._take(self._images.take(self._batches, state.step))
        if self._drops:
            torch.manual_seed(torch_seed(training.seed, state.step, 0))
        self._replayed()
        state.tally.steps += 1
        state.step += 1

    def _take(self, condition: Condition | None) -> None:
        if condition is None:
            return
        if self._condition is None:
            self._condition = condition.to(self._state.device)
        given = dict(condition.tensors())
        for name, tensor in self._condition.tensors():
            tensor.copy_(given[name], non_blocking=True)

    def _work(self) -> None:
        state, training = self._state, self._training
        step = self._numbers[0].long()
        self._rate.copy_(self._numbers[1])
        finite = torch.ones((), dtype=torch.bool, device=state.device)
        x_0, size = self._images.x_0(), self._count // answered(training.accumulation)
        for start in range(0, self._count, size):
            fed = self._inputs(x_0, step, slice(start, start + size))
            losses = backward(state, self._loss, fed, training)
            state.tally.add(losses, fed.weights, fed.t, state.model.path.T)
            finite &= losses.isfinite().all()
        update(state, finite, training.clip_norm, step)
        state.ema.move(self._numbers[2])

    def _inputs(self, x_0: Samples, step: Tensor, rows: slice) -> TrainingInputs:
        """As `drawn` has them, from numbers on the device."""
        seed, slots = self._training.seed, self._slots[rows]
        t, weights = self._state.times.draw(seed, step, slots, self._count)
        noise = normals(seed, Purpose.NOISE, step, slots, tuple(x_0.shape[1:]))
        condition = None if self._condition is None else self._condition.rows(rows)
        return TrainingInputs(x_0[rows], t, noise, condition, None if weights is None else weights.float())


class _Streamed:
    """Images that the host brings for each step."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._x_0: Samples | None = None

    def take(self, batches: BatchSource, step: int) -> Condition | None:
        """Bring those of a step; their condition, which stays on the host."""
        batch = batches.at(step)
        if self._x_0 is None:
            self._x_0 = batch.x_0.to(self._device)
        self._x_0.copy_(batch.x_0.pin_memory(), non_blocking=True)
        return batch.condition

    def x_0(self) -> Samples:
        assert self._x_0 is not None
        return self._x_0


class _Resident:
    """All images of a data set on the device, and the numbers of those of a step."""

    def __init__(self, images: Samples, count: int) -> None:
        self._images = images
        self._places = torch.zeros(count, dtype=torch.int64, device=images.device)
        self._mirrored = torch.zeros(count, dtype=torch.bool, device=images.device)
        self._mirrors = False

    @classmethod
    def of(cls, batches: BatchSource, device: torch.device) -> "_Resident | None":
        """None where they are no images of a data set, or too many."""
        if not isinstance(batches, Batches) or len(batches.dataset.shape) != 3:
            return None
        dataset = batches.dataset
        free, _ = torch.cuda.mem_get_info(device)
        if 4 * dataset.images.size > SHARE * free:
            return None
        images = torch.empty(len(dataset), *dataset.shape, device=device).to(
            memory_format=torch.channels_last
        )
        for start in range(0, len(dataset), CHUNK):
            stop = min(start + CHUNK, len(dataset))
            images[start:stop] = dataset.x_0(range(start, stop)).to(device)
        found = cls(images, batches.batch_size)
        found._mirrors = batches.flip
        return found

    def take(self, batches: BatchSource, step: int) -> Condition | None:
        assert isinstance(batches, Batches)
        slots = batches.slots(step)
        self._places.copy_(torch.from_numpy(slots.indices), non_blocking=True)
        if self._mirrors:
            self._mirrored.copy_(torch.from_numpy(slots.mirrored), non_blocking=True)
        return batches.condition_of(slots)

    def x_0(self) -> Samples:
        x_0 = self._images[self._places]
        return torch.where(self._mirrored[:, None, None, None], x_0.flip(-1), x_0) if self._mirrors else x_0
