"""Points in the plane: laws so small that the whole process fits in a picture."""

import numpy as np
import torch
from numpy.typing import NDArray

from kakusan.data.dataset import Dataset
from kakusan.data.units import real_fitted
from kakusan.randomness import Purpose, normals, uniforms

COUNT = 10_000
SEED = 0
MOONS, ROLL = 0, 2  # ordinals of their draws along the curve; the blur has the next one


def two_moons(count: int = COUNT, noise: float = 0.05) -> Dataset:
    """Two interlocking half circles of radius 1, one class each, blurred by normal noise."""
    u, blur = _draws(MOONS, count)
    lower = np.arange(count) % 2
    angle = np.pi * u
    x = np.where(lower, 1 - np.cos(angle), np.cos(angle))
    y = np.where(lower, 0.5 - np.sin(angle), np.sin(angle))
    points = np.stack((x, y), axis=1) + noise * blur
    return _dataset("two-moons", points, lower.astype(np.int64), ("upper", "lower"))


def swiss_roll(count: int = COUNT, noise: float = 0.02) -> Dataset:
    """A spiral of one and a half turns, radius 1/3 to 1, blurred by normal noise."""
    u, blur = _draws(ROLL, count)
    angle = 1.5 * np.pi * (1 + 2 * u)
    spiral = np.stack((angle * np.cos(angle), angle * np.sin(angle)), axis=1) / (4.5 * np.pi)
    return _dataset("swiss-roll", spiral + noise * blur, None, ())


def _draws(ordinal: int, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each point, its place along the curve and its blur: the same on every machine."""
    indices = torch.arange(count)
    u = uniforms(SEED, Purpose.TOY, ordinal, indices, 1)[:, 0].numpy()
    blur = normals(SEED, Purpose.TOY, ordinal + 1, indices, (2,)).double().numpy()
    return u, blur


def _dataset(
    name: str, points: NDArray[np.float64], labels: NDArray[np.int64] | None, class_names: tuple[str, ...]
) -> Dataset:
    images = points.astype(np.float32)
    return Dataset(
        name=name,
        images=images,
        units=real_fitted(images),
        labels=labels,
        class_names=class_names,
        captions=(),
        source="computed by kakusan.data.toys",
    )
