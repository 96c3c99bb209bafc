"""A small classifier of Fashion-MNIST whose 128 features stand in for an Inception network.

Nothing is trained against it. Three convolutions with batch norm, three epochs over the 60,000 training images with
their labels, on one thread and from a fixed seed: a minute and a half, and about 90 % of the test images right.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from digits_quality import repeatable
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.evaluation.metrics import frechet

GARMENTS = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts them."""
TRAINING, TEST = "train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"
EPOCHS, BATCH, RATE = 3, 128, 3e-3
AT_ONCE = 500


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The bytes of an IDX file in their shape."""
    content = gzip.decompress(path.read_bytes())
    axes = content[3]
    shape = np.frombuffer(content[4 : 4 + 4 * axes], ">u4")
    return np.frombuffer(content[4 + 4 * axes :], np.uint8).reshape(shape)


def as_images(levels: NDArray[np.uint8]) -> Tensor:
    """(n, 28, 28) or (n, 28, 28, 1) bytes as (n, 1, 28, 28) in [-1, 1]."""
    return torch.from_numpy(levels.reshape(-1, 1, 28, 28).astype(np.float32) / 127.5 - 1)


class Classifier(nn.Module):
    """1-32-64-128 channels, each level half the size of the one before; the 128 means are the features."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *self._level(1, 32), nn.MaxPool2d(2), *self._level(32, 64), nn.MaxPool2d(2), *self._level(64, 128)
        )
        self.head = nn.Linear(128, 10)

    @staticmethod
    def _level(before: int, after: int) -> tuple[nn.Module, ...]:
        return nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()

    def features(self, x: Tensor) -> Tensor:
        means: Tensor = self.body(x).mean((2, 3))
        return means

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits


def trained(x: Tensor, labels: Tensor, seed: int = 0) -> Classifier:
    """A classifier that has learned these images."""
    with repeatable(seed):
        classifier = Classifier()
        optimizer = torch.optim.AdamW(classifier.parameters(), lr=RATE)
        steps = EPOCHS * -(-len(x) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
        for _ in range(EPOCHS):
            for rows in torch.split(torch.randperm(len(x)), BATCH):
                optimizer.zero_grad()
                torch.autograd.backward(F.cross_entropy(classifier(x[rows]), labels[rows]))
                optimizer.step()
                schedule.step()
    return classifier.eval()


@dataclass(frozen=True)
class Judge:
    """Fréchet distances to the 60,000 training images."""

    classifier: Classifier
    reference: NDArray[np.float64]
    accuracy: float

    @classmethod
    def of(cls, folder: Path = GARMENTS) -> "Judge":
        """Trains the classifier."""
        x, test = (as_images(read_idx(folder / name)) for name in (TRAINING, TEST))
        labels, test_labels = (
            torch.from_numpy(read_idx(folder / name.replace("images-idx3", "labels-idx1")).astype(np.int64))
            for name in (TRAINING, TEST)
        )
        classifier = trained(x, labels)
        with torch.no_grad():
            right = (
                torch.cat([classifier(part).argmax(1) for part in torch.split(test, AT_ONCE)]) == test_labels
            )
        return cls(classifier, features(classifier, x), float(right.float().mean()))

    def distance(self, levels: NDArray[np.uint8]) -> float:
        """Of these images, as bytes."""
        return frechet(features(self.classifier, as_images(levels)), self.reference)


@torch.no_grad()
def features(classifier: Classifier, x: Tensor) -> NDArray[np.float64]:
    """(n, 128)."""
    values: NDArray[np.float64] = (
        torch.cat([classifier.features(part) for part in torch.split(x, AT_ONCE)]).double().numpy()
    )
    return values
