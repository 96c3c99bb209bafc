"""What a trained model is worth, in figures."""

import numpy as np
import torch
from numpy.typing import NDArray

from kakusan.data import Dataset, Split
from kakusan.denoiser import NetworkDenoiser
from kakusan.losses import Loss
from kakusan.maths.randomness import Purpose, normals

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
        labels = (
            None
            if dataset.labels is None
            else torch.from_numpy(dataset.labels[indices[start : start + size]])
        )
        total += float(
            loss.per_image(denoiser, x_0, t, noise, None if labels is None else labels.to(device)).sum()
        )
    return total / len(indices)
