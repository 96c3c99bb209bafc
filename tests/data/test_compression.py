"""How far zlib gets with images, against what is known: constant ones, noise, and real values."""

import numpy as np
import pytest

from kakusan.data import open_data
from kakusan.data.compression import MOST_BYTES, MOST_IMAGES, compressed

NOISE = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 1), dtype=np.uint8)


def test_noise_is_not_compressed() -> None:
    found = compressed(open_data(NOISE), np.arange(100))
    assert found is not None
    assert found.raw == 8
    assert found.bits == pytest.approx(8, abs=0.05)  # zlib stores it, with a few bytes of its own
    assert found.images == 100


def test_what_repeats_takes_hardly_any_bits() -> None:
    found = compressed(open_data(np.repeat(NOISE[:2], 500, axis=0)), np.arange(1000))
    assert found is not None
    assert found.bits < 0.1


def test_only_so_many_images_are_compressed_evenly_spread() -> None:
    many = compressed(open_data(np.tile(NOISE, (30, 1, 1, 1))), np.arange(3000))
    large = compressed(open_data(np.zeros((5, 1024, 1024, 3), np.uint8)), np.arange(5))
    assert many is not None
    assert large is not None
    assert many.images == MOST_IMAGES
    assert large.images == MOST_BYTES // (3 << 20) == 1


def test_real_values_have_no_bits_and_no_images_have_none() -> None:
    real = np.random.default_rng(0).standard_normal((20, 8, 8, 1))
    assert compressed(open_data(real), np.arange(20)) is None
    assert compressed(open_data(NOISE), np.arange(0)) is None
