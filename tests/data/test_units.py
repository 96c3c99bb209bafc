"""From arrays to the network's units and back, for samples of every rank."""

import numpy as np
import pytest
import torch

from kakusan.data.space import noun_of, size_in_words
from kakusan.data.units import Levels, Real, of_channel

SHAPES = {"points": (7, 2), "signals": (7, 16, 3), "images": (7, 4, 5, 3), "volumes": (7, 3, 4, 5, 2)}
"""Of arrays, the channels last."""


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_levels_come_back_as_they_were(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    units = Levels(256)
    x = units.encode(array)
    assert x.shape == (shape[0], shape[-1], *shape[1:-1])
    assert np.array_equal(units.decode(x), array)
    assert np.array_equal(units.to_bytes(x), array)
    assert units.decode(x).flags.c_contiguous


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_real_values_keep_their_detail_far_from_zero(shape: tuple[int, ...]) -> None:
    channels = shape[-1]
    array = 101_325 + 0.01 * np.random.default_rng(0).standard_normal(shape)
    units = Real((101_325.0,) * channels, (0.01,) * channels)
    x = units.encode(array)
    assert x.shape == (shape[0], channels, *shape[1:-1])
    assert units.decode(x).shape == shape
    assert np.abs(units.decode(x) - array).max() < 1e-8  # float32 of numbers about 3 times 0.01
    assert units.to_bytes(x).shape == shape


def test_each_channel_has_its_own_normalization_at_every_rank() -> None:
    units = Real((1.0, 10.0), (2.0, 5.0))
    for sides in ((), (4,), (4, 5), (3, 4, 5)):
        x = torch.ones(2, 2, *sides)
        decoded = units.decode(x)
        assert (decoded[..., 0] == 3).all()
        assert (decoded[..., 1] == 15).all()
    assert of_channel(units, 1) == Real((10.0,), (5.0,))
    assert of_channel(Levels(8), 1) == Levels(8)


def test_images_keep_their_layout_in_memory() -> None:
    array = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    for x in (Levels(256).encode(array), Real((0.0,) * 3, (1.0,) * 3).encode(array)):
        assert x.is_contiguous(memory_format=torch.channels_last)
        assert x.stride() == (60, 1, 15, 3)


@pytest.mark.parametrize(
    ("shape", "many", "size"),
    [
        ((2,), "points", "in the plane"),
        ((2, 1, 1), "points", "in the plane"),
        ((2, 256), "signals", "length 256, 2 channels"),
        ((1, 16), "signals", "length 16, 1 channel"),
        ((1, 28, 28), "images", "28x28, grey"),
        ((3, 8, 16), "images", "8x16 (height x width), colour"),
        ((4, 8, 8), "images", "8x8, 4 channels"),
        ((1, 16, 16, 16), "volumes", "16x16x16, 1 channel"),
        ((2, 4, 8, 8), "volumes", "4x8x8 (depth x height x width), 2 channels"),
    ],
)
def test_samples_are_called_by_the_rank_of_their_shape(shape: tuple[int, ...], many: str, size: str) -> None:
    assert noun_of(shape).many == many
    assert size_in_words(shape) == size
    assert noun_of(shape).a == ("an image" if many == "images" else f"a {noun_of(shape).one}")
