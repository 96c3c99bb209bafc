"""Images under a plain lossless compressor: a first measure of how much there is to learn in them."""

import math
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kakusan.data.dataset import Dataset
from kakusan.data.units import Levels

MOST_IMAGES = 2_000
MOST_BYTES = 4 << 20
"""Limits of what is compressed, so that it takes a second or two."""
HARDEST = 9


@dataclass(frozen=True)
class Compressed:
    """Bits/dim: of a value of an image, raw and as zlib at level 9 stores it."""

    raw: float
    """log2 of the number of levels."""
    bits: float
    images: int
    """Images that were compressed, in one stream, evenly spread over those given."""


def compressed(dataset: Dataset, indices: NDArray[np.int64]) -> Compressed | None:
    """Of these images; None where values are real numbers, which have no bits, or there are none."""
    if not isinstance(dataset.units, Levels) or not len(indices):
        return None
    values = math.prod(dataset.shape)
    count = max(1, min(MOST_IMAGES, len(indices), MOST_BYTES // values))
    places = np.linspace(0, len(indices) - 1, count).astype(np.int64)
    stream = dataset.gather(indices[places]).astype(np.uint8).tobytes()  # levels are 256 at the most
    bits = 8 * len(zlib.compress(stream, HARDEST)) / len(stream)
    return Compressed(math.log2(dataset.units.levels), bits, count)
