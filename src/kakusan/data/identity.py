"""Equality of images, by a hash of the values of each."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

HASH_BYTES = 8


def hashes_of(images: NDArray[Any], *, rounded: bool = False) -> NDArray[np.uint64]:
    """64 bits of BLAKE2b for each image. Real values count as float64, in any type, -0.0 as 0.0, and all nan alike.

    rounded: to float32 first, so that the same data in float64 and in float32 have the same hashes.
    """
    values = np.ascontiguousarray(images)
    if values.dtype != np.uint8:
        with np.errstate(over="ignore"):  # beyond float32 all are infinite, and equal
            values = (values.astype(np.float32) if rounded else values).astype(np.float64) + 0.0
            values[np.isnan(values)] = np.nan  # one pattern of bits: missing is missing
    digests = b"".join(hashlib.blake2b(image.data, digest_size=HASH_BYTES).digest() for image in values)
    return np.frombuffer(digests, "<u8").astype(np.uint64)
