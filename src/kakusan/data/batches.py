"""Batches as a function of (seed, step): nothing to save, nothing to replay.

The slots of all batches form one endless sequence: slot i of step n has the position n * batch_size + i.
Epoch e of this sequence is a permutation drawn from (seed, e), and a batch may lie across two epochs.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from kakusan.data.dataset import Dataset
from kakusan.errors import SettingsError
from kakusan.randomness import Purpose, permutation, uniforms
from kakusan.shapes import Condition, Samples

EPOCHS_KEPT = 2


@dataclass(frozen=True, eq=False)
class Split:
    """Indices to train on and indices to measure on, both sorted; together they are all."""

    training: NDArray[np.int64]
    held_out: NDArray[np.int64]


def split(count: int, held_out: float | int, seed: int, reserved: tuple[int, ...] = ()) -> Split:
    """Put some images aside: a share below 1, or a whole number of them, always with the reserved ones.

    Raises SettingsError if `held_out` is neither, or nothing would be left to train on.
    """
    order = split_order(count, seed, reserved)
    aside = max(how_many(count, held_out), len(reserved))
    if aside >= count:
        raise SettingsError(
            f"{aside} of {count} images would be held out: none is left to train on",
            "choose a smaller held-out part",
        )
    return Split(training=np.sort(order[aside:]), held_out=np.sort(order[:aside]))


def split_order(count: int, seed: int, reserved: tuple[int, ...] = ()) -> NDArray[np.int64]:
    """The order in which images are put aside: a permutation drawn from the seed, the reserved ones first."""
    order = permutation(seed, Purpose.SPLIT, 0, count)
    first = np.isin(order, reserved)
    return np.concatenate((order[first], order[~first]))


def how_many(count: int, held_out: float | int) -> int:
    """The number of images that a share, or a number, of them is. Raises SettingsError for neither."""
    if isinstance(held_out, int) and held_out >= 0:
        return held_out
    if 0 <= held_out < 1:
        return max(1, round(count * held_out)) if held_out else 0
    raise SettingsError(
        f"the held-out part is a share from 0 to below 1, or a whole number of images, not {held_out}",
        "0.1 holds out a tenth, 500 holds out 500 images",
    )


@dataclass(frozen=True, eq=False)
class Batch:
    """The inputs of one training step."""

    x_0: Samples
    """float32 in the network's units, channels last in memory."""
    condition: Condition | None
    """Of each image, mirrored with it, and dropped where chance has it so."""
    indices: NDArray[np.int64]
    """The position of each image in the data set."""
    epoch: float
    """Epochs that lie behind when this step begins."""


class Slots(NamedTuple):
    """For some slots, or for a whole epoch in its order: which image, and what is done to it."""

    indices: NDArray[np.int64]
    mirrored: NDArray[np.bool_]
    dropped: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Batches:
    """An endless sequence of batches over some images of a data set, open at any step."""

    dataset: Dataset
    indices: NDArray[np.int64]
    batch_size: int
    seed: int
    flip: bool = False
    """Mirror each image left to right with probability 1/2."""
    condition_dropout: float = 0.0
    """Drop the condition of each image with this probability."""
    _epochs: dict[int, Slots] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise SettingsError(f"a batch holds at least 1 image, not {self.batch_size}")
        if len(self.indices) < 1:
            raise SettingsError("there is no image to make batches of")
        if not 0 <= self.condition_dropout <= 1:
            raise SettingsError(f"condition dropout is a probability, not {self.condition_dropout}")

    def at(self, step: int, start: int = 0, count: int | None = None) -> Batch:
        """The batch of a step (from 0), or `count` of its slots from `start` on: just as in the whole."""
        end = self.batch_size if count is None else start + count
        if not 0 <= start < end <= self.batch_size:
            raise ValueError(f"slots {start} to {end} of a batch of {self.batch_size}")
        slots = self.slots(step, start, end)
        images = self.dataset.gather(slots.indices)
        if self.flip:
            images[slots.mirrored] = _mirror(images[slots.mirrored])
        return Batch(
            x_0=self.dataset.units.encode(images),
            condition=self.condition_of(slots),
            indices=slots.indices,
            epoch=step * self.batch_size / len(self.indices),
        )

    def slots(self, step: int, start: int = 0, end: int | None = None) -> Slots:
        """The images of the slots of a step, and what is done to them."""
        first = step * self.batch_size
        return self._slots(first + start, first + (self.batch_size if end is None else end))

    def condition_of(self, slots: Slots) -> Condition | None:
        condition = self.dataset.condition(slots.indices, mirrored=slots.mirrored)
        if condition is None or not self.condition_dropout:
            return condition
        return condition.without(torch.from_numpy(slots.dropped))

    def _slots(self, start: int, end: int) -> Slots:
        """The endless sequence from one position to another, pieced together from its epochs."""
        count = len(self.indices)
        pieces = []
        while start < end:
            epoch, first = divmod(start, count)
            last = min(first + end - start, count)
            pieces.append([column[first:last] for column in self._epoch(epoch)])
            start += last - first
        return Slots(*map(np.concatenate, zip(*pieces, strict=True)))

    def _epoch(self, epoch: int) -> Slots:
        if epoch not in self._epochs:
            while len(self._epochs) >= EPOCHS_KEPT:
                self._epochs.pop(min(self._epochs))
            order = permutation(self.seed, Purpose.EPOCH, epoch, len(self.indices))
            self._epochs[epoch] = Slots(
                indices=self.indices[order],
                mirrored=self._events(Purpose.FLIP, epoch, 0.5 * self.flip),
                dropped=self._events(Purpose.LABEL_DROPOUT, epoch, self.condition_dropout),
            )
        return self._epochs[epoch]

    def _events(self, purpose: Purpose, epoch: int, probability: float) -> NDArray[np.bool_]:
        """For each place of an epoch whether something happens; drawn at once, since a draw costs by the call."""
        count = len(self.indices)
        if not probability:
            return np.zeros(count, np.bool_)
        happens: NDArray[np.bool_] = (
            uniforms(self.seed, purpose, epoch, torch.arange(count), 1)[:, 0].numpy() < probability
        )
        return happens


def _mirror(images: NDArray[Any]) -> NDArray[Any]:
    """Left to right. By `take`, which moves whole pixels: twice as fast as a negative stride."""
    mirrored: NDArray[Any] = np.take(images, np.arange(images.shape[2])[::-1], axis=2)
    return mirrored
