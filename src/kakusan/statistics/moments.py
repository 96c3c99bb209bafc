"""Mean, deviation and range of each channel: in float64 and chunk by chunk, so that a large offset cancels
nothing and a memory map stays on the disk.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK_BYTES = 1 << 24


@dataclass(frozen=True)
class Moments:
    """Of samples (n, ..., channels): one number for each channel, in the images' own units."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def is_finite(self) -> bool:
        return bool(np.isfinite([*self.mean, *self.deviation]).all())


def moments_of(images: NDArray[Any]) -> Moments:
    """Two passes; the second corrects what rounding did to the mean. Not finite where a value is not."""
    count, channels = images[..., 0].size, images.shape[-1]
    axes = tuple(range(images.ndim - 1))
    total, low, high = np.zeros(channels), np.full(channels, np.inf), np.full(channels, -np.inf)
    with np.errstate(all="ignore"):  # what is not finite stays so, and is told by whoever asks
        for part in chunks(images):
            total += part.sum(axes, dtype=np.float64)
            low, high = np.minimum(low, part.min(axes)), np.maximum(high, part.max(axes))
        mean = total / count
        rest, squares = np.zeros(channels), np.zeros(channels)
        for part in chunks(images):
            difference = part.astype(np.float64) - mean
            rest += difference.sum(axes)
            squares += np.square(difference).sum(axes)
        deviation = np.sqrt(np.maximum(squares / count - np.square(rest / count), 0))
        found = (mean + rest / count, deviation, low, high)
    return Moments(*(tuple(map(float, column)) for column in found))


def chunks(images: NDArray[Any]) -> list[NDArray[Any]]:
    """The same rows in views of a few megabytes, so that a pass over a memory map stays small in memory."""
    rows = max(1, CHUNK_BYTES * len(images) // max(1, images.nbytes))
    return [images[start : start + rows] for start in range(0, len(images), rows)]
