"""What a trained model is worth, in figures."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float64
from numpy.typing import NDArray
from torch import Tensor

from kakusan.data import Dataset, Split
from kakusan.denoiser import Denoiser, NetworkDenoiser, times_like
from kakusan.likelihood import VariationalBound, bounds
from kakusan.losses import Loss
from kakusan.maths.forward import q_marginal
from kakusan.maths.randomness import Purpose, normals
from kakusan.shapes import Images, Labels

COMPARED = 512
SEED = 0


def held_out_losses(
    denoiser: NetworkDenoiser, loss: Loss, dataset: Dataset, split: Split, device: torch.device
) -> dict[str, float]:
    """The loss on up to 512 training and 512 held-out images, with times spread evenly over 1..T and the same noise.

    Their gap is what memorizing looks like.
    """
    parts = {"training_loss": split.training, "held_out_loss": split.held_out}
    return {
        name: _loss(denoiser, loss, dataset, spread(indices, COMPARED), device)
        for name, indices in parts.items()
        if len(indices)
    }


def spread(indices: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """At most `count` of the indices, evenly spread."""
    return indices[np.linspace(0, len(indices) - 1, min(count, len(indices))).astype(np.int64)]


@torch.no_grad()
def _loss(
    denoiser: NetworkDenoiser, loss: Loss, dataset: Dataset, indices: NDArray[np.int64], device: torch.device
) -> float:
    T = denoiser.schedule.T
    total, size = 0.0, 64
    for start in range(0, len(indices), size):
        slots = torch.arange(start, min(start + size, len(indices)))
        x_0 = dataset.x_0(indices[start : start + size]).to(device)
        t = 1 + ((slots * 0.6180339887498949) % 1 * T).floor().double()  # golden section: even at any count
        noise = normals(SEED, Purpose.EVALUATION, 0, slots.to(device), tuple(x_0.shape[1:]))
        labels = labels_of(dataset, indices[start : start + size], device)
        total += float(loss.per_image(denoiser, x_0, t, noise, labels).sum())
    return total / len(indices)


def labels_of(dataset: Dataset, indices: NDArray[np.int64], device: torch.device) -> Labels | None:
    """The classes of these images, where there are any."""
    return None if dataset.labels is None else torch.from_numpy(dataset.labels[indices]).to(device)


def bounds_of(
    denoiser: Denoiser,
    dataset: Dataset,
    indices: NDArray[np.int64],
    device: torch.device,
    *,
    terms: int | None = None,
    seed: int = 0,
) -> Iterator[VariationalBound]:
    """The bound of these images, some at a time; an image's noise is keyed by its place in the data set."""
    size = 64
    for start in range(0, len(indices), size):
        part = indices[start : start + size]
        x_0 = dataset.x_0(part).to(device)
        yield from bounds(denoiser, x_0, terms, seed, part.tolist(), labels_of(dataset, part, device))


def mean_errors(bound: VariationalBound) -> Float64[Tensor, " entries"]:
    """The mean squared error of the guess of x_0 at t = 0, ..., T, what `Analytic` wants. All terms must be there."""
    if bound.t.shape[1] != bound.T:
        raise ValueError("the errors at every t need all T terms")
    return torch.cat([torch.zeros(1, dtype=torch.float64), bound.squared_error.mean(0)])


@torch.no_grad()
def distances_between(
    first: Denoiser,
    second: Denoiser,
    x_0: Images,
    t: int,
    numbers: NDArray[np.int64],
    condition: Labels | None,
) -> Float64[Tensor, " batch"]:
    """How far two denoisers' guesses of x_0 are apart at t, root mean square over the pixel values of each image."""
    noise = normals(
        SEED, Purpose.EVALUATION, t, torch.from_numpy(numbers).to(x_0.device), tuple(x_0.shape[1:])
    )
    times = times_like(t, x_0)
    x_t = q_marginal(first.schedule, x_0, times).reparametrize(noise)
    guesses = (denoiser.predict(x_t, times, condition).x_0.double() for denoiser in (first, second))
    difference = next(guesses) - next(guesses)
    return difference.square().flatten(1).mean(1).sqrt().cpu()
