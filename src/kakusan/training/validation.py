"""Losses and bounds of a model on training and held-out samples."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float64
from numpy.typing import NDArray
from torch import Tensor

from kakusan.data import Dataset, Split
from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.forward import q_marginal
from kakusan.diffusion.learned import LearnedPath
from kakusan.diffusion.likelihood import VariationalBound, bounds
from kakusan.diffusion.model import Model, as_model
from kakusan.diffusion.variances import LearnedRange, variance_named
from kakusan.randomness import Purpose, normals
from kakusan.shapes import Condition, Samples, per_sample, times_like
from kakusan.training.losses import Loss, NetworkModel

COMPARED = 512
"""Images of each split whose loss is measured on the way, at the most."""
FEWEST_PAIRS = 128
"""(image, t) pairs of each split, at the least: fewer images are each measured at several t."""
SIZE = 64
SEED = 0


@dataclass(frozen=True)
class Compared:
    """The loss on training and on held-out images."""

    figures: Mapping[str, float]
    """For metrics.jsonl: see `compared`."""
    held_out: Sequence[float] = ()
    """Of each held-out image that was measured: the same ones at each measurement of a run."""


def compared(
    model: NetworkModel, loss: Loss, dataset: Dataset, split: Split, device: torch.device
) -> Compared:
    """The loss on as many training as held-out images, up to 512 each, with the same times and the same noise.

    Image i of either split is measured at the same times, spread evenly over 1..T, with the same noise, so that most
    of the chance in their gap, which is what memorizing looks like, cancels. Beside the two:
    gap_standard_error: of held_out_loss - training_loss, over the pairs of images (with two or more);
    compared_images: of each split; baseline_loss: on the same training images, that of a denoiser that knows nothing
    of the data but their mean and their power spectrum (`stationary`), where the loss is one of denoisers.
    """
    count = _compared(split)
    parts = {
        name: spread(part, count)
        for name, part in (("training_loss", split.training), ("held_out_loss", split.held_out))
        if len(part)
    }
    losses = {name: _losses(model, loss, dataset, part, device) for name, part in parts.items()}
    figures = {name: float(each.mean()) for name, each in losses.items()}
    if "held_out_loss" in losses and count > 1:
        gaps = losses["held_out_loss"] - losses["training_loss"]
        figures["gap_standard_error"] = float(gaps.std() / count**0.5)
    if "training_loss" in parts and loss.is_of_means:
        figures["baseline_loss"] = baseline_loss(model, loss, dataset, split, device)
    held_out = losses["held_out_loss"].tolist() if "held_out_loss" in losses else ()
    return Compared({**figures, "compared_images": count}, held_out)


def baseline_loss(
    model: NetworkModel, loss: Loss, dataset: Dataset, split: Split, device: torch.device
) -> float:
    """The loss of a denoiser that knows no more of the training images than mean and power spectrum (`stationary`).

    Over training images, as many as `compared` has. model: only its process counts, not its weights.
    """
    some = spread(split.training, COMPARED)
    condition = dataset.condition(some)
    known = stationary(model, dataset.x_0(some), None if condition is None else condition.mask)
    measured = spread(split.training, _compared(split))
    return float(_losses(known, loss, dataset, measured, device).mean())


def _compared(split: Split) -> int:
    """Images of each split that are compared."""
    return min(COMPARED, len(split.training), len(split.held_out) or COMPARED)


def spread(indices: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """At most `count` of the indices, evenly spread."""
    return indices[np.linspace(0, len(indices) - 1, min(count, len(indices))).astype(np.int64)]


FILLINGS = 12
"""Times that missing values are guessed, where a spectrum is asked for the values that are there."""


def stationary(model: NetworkModel, x_0: Samples, mask: Samples | None = None) -> NetworkModel:
    """The same process with, in the network's place, the exact denoiser of a stationary Gaussian (a Wiener filter).

    It has the mean and the power spectrum of each channel of x_0: how far apart values resemble each other is known,
    and nothing of what the images show, so that its samples are clouds. What it costs is what a network must beat.

    mask: 1 where a value of x_0 is there. Mean and spectrum are then those of the values that are there (the spectrum
    by the periodogram with the mean in the gaps, over their share); and where a mask is given to it, x_t is filled with
    what the guess of x_0 makes of it, again and again: expectation maximization, which leads to the exact guess.
    """
    return gaussian(model, *moments_of_spectrum(x_0, mask))


def gaussian(model: NetworkModel, mean: Tensor, power: Tensor) -> NetworkModel:
    """The same process with the exact denoiser of a Gaussian of this mean and power spectrum in the network's place.

    mean: broadcasts over (batch, channels, ...); power: (channels, ...), of what is left without the mean. A flat one
    is white noise, and with 0 the guess is the mean whatever is seen.
    """
    axes = tuple(range(2, power.ndim + 1))
    learns_variance = isinstance(variance_named(model.variance), LearnedRange)

    def network(x_t: Samples, time: Tensor, condition: Condition | None = None) -> Tensor:
        path, t = model.path, time.double().cpu() + 1
        size, (signal, noise) = path.scale_at(t), path.at(t)  # networks are given x_t in the twin's scale
        a, b = (per_sample(part / size, x_t).to(x_t) for part in (signal, noise))
        m, p = mean.to(x_t), power.to(x_t)
        there = None if condition is None else condition.mask
        seen = x_t if there is None else torch.where(there == 1, x_t, a * m)
        for _ in range(1 if there is None else FILLINGS):
            away = torch.fft.fftn(seen - a * m, dim=axes, norm="ortho") / (a.square() * p + b.square())
            x_0_hat, eps_hat = (
                torch.fft.ifftn(part, dim=axes, norm="ortho").real for part in (a * p * away, b * away)
            )
            seen = x_t if there is None else torch.where(there == 1, x_t, a * (m + x_0_hat))
        output = model.denoiser.parametrization.target(m + x_0_hat, eps_hat, signal, noise)
        return torch.cat([output, torch.zeros_like(output)], 1) if learns_variance else output

    return replace(model, denoiser=replace(model.denoiser, network=network, autocast=None, told="t"))


def moments_of_spectrum(x_0: Samples, mask: Samples | None = None) -> tuple[Tensor, Tensor]:
    """Mean (1, channels, 1, ...) and power spectrum (channels, ...) of the values that are there."""
    axes = tuple(range(2, x_0.ndim))
    if mask is None:
        mean = x_0.mean((0, *axes), keepdim=True)
        return mean, torch.fft.fftn(x_0 - mean, dim=axes, norm="ortho").abs().square().mean(0)
    share = mask.mean((0, *axes), keepdim=True)  # of the values of a channel; some are there
    mean = (x_0 * mask).mean((0, *axes), keepdim=True) / share
    filled = (x_0 - mean) * mask
    return mean, torch.fft.fftn(filled, dim=axes, norm="ortho").abs().square().mean(0) / share[0]


@torch.no_grad()
def _losses(
    model: NetworkModel, loss: Loss, dataset: Dataset, indices: NDArray[np.int64], device: torch.device
) -> Float64[Tensor, " images"]:
    """The loss of each image, the mean over its times: a function of its place among the indices.

    Where a schedule is learned, the decoder's term, at t = 1, is measured for each image: its first end weighs it.
    """
    T, draws = model.path.T, -(-FEWEST_PAIRS // len(indices))
    if isinstance(model.path, LearnedPath):
        others = _means(model, loss, dataset, indices, device, draws, 2)
        return _means(model, loss, dataset, indices, device, 1, 1, 1) / T + others * (T - 1) / T
    return _means(model, loss, dataset, indices, device, draws, 1)


def _means(
    model: NetworkModel,
    loss: Loss,
    dataset: Dataset,
    indices: NDArray[np.int64],
    device: torch.device,
    draws: int,
    first: int,
    last: int | None = None,
) -> Float64[Tensor, " images"]:
    """The mean of so many losses of each image, at times spread evenly from the first to the last, or to T."""
    count, found = (model.path.T if last is None else last) - first + 1, []
    for start in range(0, len(indices) * draws, SIZE):
        slots = torch.arange(start, min(start + SIZE, len(indices) * draws))
        shown = indices[slots.numpy() // draws]
        x_0 = dataset.x_0(shown).to(device)
        t = (
            first + ((slots * 0.6180339887498949) % 1 * count).floor().double()
        )  # golden section: even at any count
        noise = normals(SEED, Purpose.EVALUATION, 0, slots.to(device), tuple(x_0.shape[1:]))
        found.append(loss.per_image(model, x_0, t, noise, condition_of(dataset, shown, device)).cpu())
    return torch.cat(found).double().view(len(indices), draws).mean(1)


def condition_of(dataset: Dataset, indices: NDArray[np.int64], device: torch.device) -> Condition | None:
    """The condition of these images, where there is any."""
    condition = dataset.condition(indices)
    return None if condition is None else condition.to(device)


def bounds_of(
    model: Model[Denoiser],
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
        yield from bounds(model, x_0, terms, seed, part.tolist(), condition_of(dataset, part, device))


def mean_errors(bound: VariationalBound) -> Float64[Tensor, " entries"]:
    """The mean squared error of the guess of x_0 at t = 0, ..., T, which `Analytic` needs. All terms must be there."""
    if bound.t.shape[1] != bound.T:
        raise ValueError("the errors at every t need all T terms")
    return torch.cat([torch.zeros(1, dtype=torch.float64), bound.squared_error.mean(0)])


@torch.no_grad()
def distances_between(
    first: Model[Denoiser],
    second: Model[Denoiser] | Denoiser,
    x_0: Samples,
    t: int,
    numbers: NDArray[np.int64],
    condition: Condition | None,
) -> Float64[Tensor, " batch"]:
    """The distance of two models' predictions of x_0 at t: root mean square over the pixel values of each image."""
    noise = normals(
        SEED, Purpose.EVALUATION, t, torch.from_numpy(numbers).to(x_0.device), tuple(x_0.shape[1:])
    )
    times = times_like(t, x_0)
    x_t = q_marginal(first.path, x_0, times).reparametrize(noise)
    guesses = (as_model(each).predict(x_t, times, condition).x_0.double() for each in (first, second))
    difference = next(guesses) - next(guesses)
    return difference.square().flatten(1).mean(1).sqrt().cpu()
