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


def moments_of(images: NDArray[Any], *, skip_missing: bool = False) -> Moments:
    """Two passes; the second corrects what rounding did to the mean. Not finite where a value is not.

    skip_missing: the moments of the values that are not nan, of which each channel has at least one.
    """
    channels, axes = images.shape[-1], tuple(range(images.ndim - 1))
    least, most = (np.fmin, np.fmax) if skip_missing else (np.minimum, np.maximum)  # fmin passes over nan
    count: Any = _present(images) if skip_missing else images[..., 0].size
    total, low, high = np.zeros(channels), np.full(channels, np.inf), np.full(channels, -np.inf)
    with np.errstate(all="ignore"):  # what is not finite stays so, and is told by whoever asks
        for part in chunks(images):
            total += (np.nansum if skip_missing else np.sum)(part, axes, dtype=np.float64)
            low, high = least(low, least.reduce(part, axes)), most(high, most.reduce(part, axes))
        mean = total / count
        rest, squares = np.zeros(channels), np.zeros(channels)
        for part in chunks(images):
            difference = part.astype(np.float64) - mean
            if skip_missing:
                difference[np.isnan(difference)] = 0
            rest += difference.sum(axes)
            squares += np.square(difference).sum(axes)
        deviation = np.sqrt(np.maximum(squares / count - np.square(rest / count), 0))
        found = (mean + rest / count, deviation, low, high)
    return Moments(*(tuple(map(float, column)) for column in found))


def _present(images: NDArray[Any]) -> NDArray[np.int64]:
    """The number of values of each channel that are not nan."""
    axes = tuple(range(images.ndim - 1))
    counts = [(~np.isnan(part)).sum(axes, dtype=np.int64) for part in chunks(images)]
    total: NDArray[np.int64] = np.sum(counts, axis=0, dtype=np.int64)
    return total


def chunks(images: NDArray[Any]) -> list[NDArray[Any]]:
    """The same rows in views of a few megabytes, so that a pass over a memory map stays small in memory."""
    rows = max(1, CHUNK_BYTES * len(images) // max(1, images.nbytes))
    return [images[start : start + rows] for start in range(0, len(images), rows)]
