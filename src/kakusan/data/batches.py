"""Batches as a function of (seed, step): nothing to save, nothing to replay.

The slots of all batches form one endless sequence: slot i of step n has the position n * batch_size + i.
Epoch e of this sequence is a permutation drawn from (seed, e), and a batch may lie across two epochs.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from kakusan.data.dataset import Dataset
from kakusan.errors import SettingsError
from kakusan.maths.randomness import Purpose, permutation, uniforms
from kakusan.shapes import Images, Labels

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
    order = permutation(seed, Purpose.SPLIT, 0, count)
    first = np.isin(order, reserved)
    order = np.concatenate((order[first], order[~first]))
    aside = max(_how_many(count, held_out), len(reserved))
    if aside >= count:
        raise SettingsError(
            f"{aside} of {count} images would be held out: none is left to train on",
            "choose a smaller held-out part",
        )
    return Split(training=np.sort(order[aside:]), held_out=np.sort(order[:aside]))


def _how_many(count: int, held_out: float | int) -> int:
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
    """What one training step is fed."""

    x_0: Images
    """float32 in the network's units, channels last in memory."""
    labels: Labels | None
    indices: NDArray[np.int64]
    """Where each image stands in the data set."""
    epoch: float
    """Epochs that lie behind when this step begins."""


@dataclass(frozen=True, eq=False)
class Batches:
    """An endless sequence of batches over some images of a data set, open at any step."""

    dataset: Dataset
    indices: NDArray[np.int64]
    batch_size: int
    seed: int
    flip: bool = False
    """Mirror each image left to right with probability 1/2."""
    label_dropout: float = 0.0
    """Replace each label by the null label (the number of classes) with this probability."""
    _orders: dict[int, NDArray[np.int64]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise SettingsError(f"a batch holds at least 1 image, not {self.batch_size}")
        if len(self.indices) < 1:
            raise SettingsError("there is no image to make batches of")
        if not 0 <= self.label_dropout <= 1:
            raise SettingsError(f"label dropout is a probability, not {self.label_dropout}")

    def at(self, step: int, start: int = 0, count: int | None = None) -> Batch:
        """The batch of a step (from 0), or `count` of its slots from `start` on: just as in the whole."""
        slots = np.arange(start, self.batch_size if count is None else start + count)
        indices = self._at_positions(step * self.batch_size + slots)
        images = self.dataset.gather(indices)
        if self.flip:
            mirrored = self._draws(Purpose.FLIP, step, slots) < 0.5
            images[mirrored] = images[mirrored, :, ::-1]
        return Batch(
            x_0=self.dataset.units.encode(images),
            labels=self._labels(step, slots, indices),
            indices=indices,
            epoch=step * self.batch_size / len(self.indices),
        )

    def _at_positions(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        epochs, offsets = np.divmod(positions, len(self.indices))
        chosen = np.empty_like(positions)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1) if len(epochs) else ():
            here = epochs == epoch
            chosen[here] = self.indices[self._order(epoch)[offsets[here]]]
        return chosen

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._orders:
            while len(self._orders) >= EPOCHS_KEPT:
                self._orders.pop(min(self._orders))
            self._orders[epoch] = permutation(self.seed, Purpose.EPOCH, epoch, len(self.indices))
        return self._orders[epoch]

    def _labels(self, step: int, slots: NDArray[np.int64], indices: NDArray[np.int64]) -> Labels | None:
        if self.dataset.labels is None:
            return None
        labels = self.dataset.labels[indices]
        if self.label_dropout:
            labels[self._draws(Purpose.LABEL_DROPOUT, step, slots) < self.label_dropout] = (
                self.dataset.classes
            )
        return torch.from_numpy(labels)

    def _draws(self, purpose: Purpose, step: int, slots: NDArray[np.int64]) -> NDArray[np.float64]:
        drawn: NDArray[np.float64] = uniforms(self.seed, purpose, step, torch.from_numpy(slots), 1)[
            :, 0
        ].numpy()
        return drawn
