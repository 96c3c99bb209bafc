"""Losses by tenths of t, of the network and of denoisers that need no training.

Three denoisers know statistics of the training data alone, and are exact for Gaussians that have these: white noise of
the data's mean and variance, a Gaussian of its mean and power spectrum, and the mean image with nothing around it. What
a network has learned is what it knows beyond them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float64
from numpy.typing import NDArray
from torch import Tensor

from kakusan.data import Dataset, Split
from kakusan.randomness import Purpose, normals
from kakusan.shapes import Samples
from kakusan.statistics.student import student_quantile
from kakusan.training.losses import Loss, NetworkModel
from kakusan.training.validation import (
    COMPARED,
    SEED,
    condition_of,
    gaussian,
    moments_of_spectrum,
    spread,
)

PARTS = 10
"""Of 1..T: as many as a log line has."""
LOOKED_AT = 128
"""Images, at the most, each at one t of each part."""
BATCH = 64
"""Images at once, of all parts."""
NETWORK = "network"
WHITE, SPECTRUM, MEAN = "white noise", "mean and power spectrum", "mean image"
TELLING = 0.05
"""Share of the data's variance that even the power spectrum explains: where it is less, x_t hardly shows x_0, and that
the network knows no more than the mean is as it should be."""
WORSE = 0.02
"""Share of a baseline's loss by which the network is worse, that matters."""
BETTER = 0.05
"""The same by which it ought to be better: what it does not reach is no more than the baseline."""


@dataclass(frozen=True)
class Level:
    """A part of 1..T: the mean losses there, and how the network's differs from that of the best other denoiser."""

    first: int
    last: int
    losses: dict[str, float]
    best: str
    """The best here of the denoisers that need no training."""
    difference: float
    """The network's loss minus that of the best other."""
    standard_error: float
    """Of the difference, over the images, which both saw with the same noise; nan for one image."""
    degrees: int
    explained: float
    """Share of the data's variance that the power spectrum explains at these t."""

    @property
    def is_finite(self) -> bool:
        return bool(np.isfinite(self.losses[NETWORK]))

    @property
    def is_worse(self) -> bool:
        """Beyond chance, and by an amount that matters."""
        return self.difference > max(self._reach, WORSE * abs(self.losses[self.best]))

    @property
    def is_no_better(self) -> bool:
        """It is worse, or is known to gain less than 5 % where there is something to be gained."""
        gains_little = self.difference - self._reach > -BETTER * abs(self.losses[self.best])  # nan: not known
        return self.is_worse or (gains_little and self.explained >= TELLING)

    @property
    def is_known(self) -> bool:
        """Whether there are images enough to tell: the interval is narrow, or lies on one side."""
        narrow = 2 * self._reach <= BETTER * abs(self.losses[self.best])
        return self.is_no_better or narrow or self.difference < -self._reach

    @property
    def _reach(self) -> float:
        if not self.degrees:
            return float("nan")
        return student_quantile(self.degrees) * self.standard_error


def levels_of(
    model: NetworkModel,
    loss: Loss,
    dataset: Dataset,
    split: Split,
    device: torch.device,
    progress: Callable[[float, str], None] = lambda _, __: None,
    *,
    held_out: bool = True,
) -> list[Level]:
    """The losses by parts of t on up to 128 held-out images, or on training images, where nothing is held out, too."""
    shown = spread(split.held_out if held_out and len(split.held_out) else split.training, LOOKED_AT)
    some = spread(split.training, COMPARED)
    condition = dataset.condition(some)
    others, power = untaught(model, dataset.x_0(some), None if condition is None else condition.mask)
    denoisers = {NETWORK: model, **others}
    edges = part_edges(model.path.T)
    times = np.array(
        [first + 1 + np.floor(_evenly(len(shown)) * (last - first)) for first, last in pairwise(edges)]
    )
    losses = _losses_at(denoisers, loss, dataset, shown, times, progress, device)
    return [
        _level(
            first + 1,
            last,
            {name: each[part] for name, each in losses.items()},
            _explained(model, power, (first + 1 + last) / 2),
        )
        for part, (first, last) in enumerate(pairwise(edges))
    ]


def untaught(
    model: NetworkModel, x_0: Samples, mask: Samples | None = None
) -> tuple[dict[str, NetworkModel], Tensor]:
    """The three denoisers that know statistics of x_0 alone, by name; and its power spectrum (channels, ...)."""
    mean, power = moments_of_spectrum(x_0, mask)
    flat = power.reshape(len(power), -1).mean(1).view(-1, *[1] * (power.ndim - 1)).expand_as(power)
    image = x_0.mean(0) if mask is None else (x_0 * mask).sum(0) / mask.sum(0).clamp(min=1)
    known = {
        WHITE: gaussian(model, mean, flat),
        SPECTRUM: gaussian(model, mean, power),
        MEAN: gaussian(model, image, torch.zeros_like(power)),
    }
    return known, power


def part_edges(T: int) -> list[int]:
    """0, ..., T: each part of 1..T begins after an edge and ends with the next; ten parts, or T if that is less."""
    parts = min(PARTS, T)
    return [T * k // parts for k in range(parts + 1)]


def _evenly(count: int) -> NDArray[np.float64]:
    """Numbers in [0, 1), even at any count (golden section)."""
    return np.asarray(np.arange(count) * 0.6180339887498949 % 1, dtype=np.float64)


def _explained(model: NetworkModel, power: Tensor, t: float) -> float:
    """Share of the variance that the denoiser of the power spectrum explains at t."""
    alpha_bar = float(model.path.alpha_bar_at(torch.tensor([t], dtype=torch.float64)))
    p = power.double()
    return float((alpha_bar * p.square() / (alpha_bar * p + 1 - alpha_bar)).sum() / p.sum())


@torch.no_grad()
def _losses_at(
    denoisers: dict[str, NetworkModel],
    loss: Loss,
    dataset: Dataset,
    shown: NDArray[np.int64],
    times: NDArray[np.float64],
    progress: Callable[[float, str], None],
    device: torch.device,
) -> dict[str, Float64[Tensor, "parts images"]]:
    """The loss of each image at its t of each part, by the same noise for all denoisers: that of its place and part.

    times: (parts, images). Parts share batches, since few images are held out where there are few.
    """
    parts, places = (each.ravel() for each in np.indices(times.shape))
    found: dict[str, list[Tensor]] = {name: [] for name in denoisers}
    for rows in np.array_split(np.arange(times.size), -(-times.size // BATCH)):
        progress(rows[0] / times.size, "the loss at each noise level")
        images = shown[places[rows]]
        x_0, t = dataset.x_0(images).to(device), torch.from_numpy(times.ravel()[rows])
        noise = torch.cat(
            [
                normals(
                    SEED,
                    Purpose.EVALUATION,
                    int(times[part].min()),
                    torch.from_numpy(places[rows][parts[rows] == part]).to(device),
                    tuple(x_0.shape[1:]),
                )
                for part in np.unique(parts[rows])
            ]
        )
        condition = condition_of(dataset, images, device)
        for name, model in denoisers.items():
            found[name].append(loss.per_image(model, x_0, t, noise, condition).cpu())
    return {name: torch.cat(each).double().view(times.shape) for name, each in found.items()}


def _level(first: int, last: int, losses: dict[str, Float64[Tensor, " images"]], explained: float) -> Level:
    means = {name: float(each.mean()) for name, each in losses.items()}
    best = min((name for name in means if name != NETWORK), key=means.__getitem__)
    differences, count = losses[NETWORK] - losses[best], len(losses[best])
    error = float(differences.std() / count**0.5) if count > 1 else float("nan")
    return Level(first, last, means, best, float(differences.mean()), error, count - 1, explained)
