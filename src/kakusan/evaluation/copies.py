"""Distances of samples from single training images, beside those of held-out images."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from kakusan.data import Dataset
from kakusan.data.dataset import chunks
from kakusan.errors import DataError
from kakusan.evaluation.metrics import CopyRate, copy_rate
from kakusan.shapes import Samples
from kakusan.training.memory import COMPARED_VALUES
from kakusan.training.prepare import Prepared
from kakusan.training.validation import spread
from kakusan.training.verdicts import Copies


@dataclass(frozen=True, eq=False)
class CopyRates:
    """Samples and as many held-out images, each against the training images."""

    samples: CopyRate
    held_out: CopyRate | None
    """None where nothing is held out."""
    training: NDArray[np.int64]
    """Places in the data set of the training images compared with, in their order."""
    aside: NDArray[np.int64]
    """Of the held-out images."""

    def copies(self, doubt: str) -> Copies:
        """The two rates, to be judged."""
        expected = None if self.held_out is None else self.held_out.rate
        return Copies(self.samples.rate, expected, len(self.samples.ratios), len(self.aside), doubt)


def copy_rates(x_0: Samples, prepared: Prepared) -> CopyRates | None:
    """Of samples in the network's units; missing values count as the mean. None with fewer than two training images.

    Compare only samples that `are_comparable`.
    """
    dataset, split = prepared.dataset, prepared.split
    indices = spread(split.training, max(2, COMPARED_VALUES // int(np.prod(dataset.shape))))
    aside = spread(split.held_out, len(x_0))
    training = dataset.x_0(indices)
    try:
        found = copy_rate(x_0.nan_to_num(0, torch.inf, -torch.inf), training)
        held_out = copy_rate(dataset.x_0(aside), training) if len(aside) else None
    except DataError:  # fewer than two different images
        return None
    return CopyRates(found, held_out, indices, aside)


def are_comparable(dataset: Dataset) -> bool:
    """Whether samples have distances from each other: not where each lacks other values."""
    if not dataset.masked:
        return True
    images = dataset.images
    return all((np.isnan(part) == np.isnan(images[:1])).all() for part in chunks(images))
