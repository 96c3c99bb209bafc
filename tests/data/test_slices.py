"""Volumes as slices, value by value."""

import numpy as np
import pytest
import torch

from kakusan.data.rendering import each, film_strip, grid, view_of, walk_strip
from kakusan.data.shades import SEAM, evenly_spaced
from kakusan.data.units import Levels, Real

BYTES = Levels(256)


def volumes(count: int, depth: int, channels: int = 1) -> tuple[torch.Tensor, np.ndarray]:
    """Volumes of 3x5 slices for the network, and their bytes (n, depth, height, width, channels)."""
    values = np.random.default_rng(0).integers(0, 256, (count, depth, 3, 5, channels), dtype=np.uint8)
    return BYTES.encode(values), values


def cut(picture: np.ndarray, row: int, column: int) -> np.ndarray:
    top, left = row * (3 + SEAM), column * (5 + SEAM)
    return picture[top : top + 3, left : left + 5]


@pytest.mark.parametrize(
    ("depth", "places"),
    [
        (1, [0]),
        (3, [0, 1, 2]),
        (8, list(range(8))),
        (16, [1, 3, 5, 7, 9, 11, 13, 15]),
        (20, [1, 3, 6, 8, 11, 13, 16, 18]),
    ],
)
def test_a_cell_is_evenly_spaced_slices_of_the_volume(depth: int, places: list[int]) -> None:
    assert evenly_spaced(depth) == places
    x, values = volumes(1, depth)
    picture = np.asarray(grid(x, BYTES, scale=1))
    assert picture.shape == (3, len(places) * (5 + SEAM) - SEAM)
    for column, place in enumerate(places):
        assert np.array_equal(cut(picture, 0, column), values[0, place, ..., 0])
    assert not picture[:, 5 : 5 + SEAM].any()


def test_channels_stand_below_each_other() -> None:
    x, values = volumes(1, 4, channels=3)
    picture = np.asarray(grid(x, BYTES, scale=1))
    assert picture.shape == (3 * (3 + SEAM) - SEAM, 4 * (5 + SEAM) - SEAM)
    for channel in range(3):
        for place in range(4):
            assert np.array_equal(cut(picture, channel, place), values[0, place, ..., channel])


def test_volumes_go_row_by_row_in_the_columns_asked_for() -> None:
    x, values = volumes(3, 2)
    picture = np.asarray(grid(x, BYTES, scale=1, columns=2, gap=1))
    wide = 2 * (5 + SEAM) - SEAM
    assert picture.shape == (3 + 1 + 3, 2 * wide + 1)
    assert np.array_equal(picture[:3, wide + 1 :][:, :5], values[1, 0, ..., 0])
    assert np.array_equal(picture[4:, :5], values[2, 0, ..., 0])
    assert np.array_equal(
        np.asarray(each(x, BYTES)[2])[::6, : 5 * 6 : 6], values[2, 0, ..., 0]
    )  # 6 times as large


def test_a_strip_shows_the_middle_slice() -> None:
    x, values = volumes(4, 7)
    strip = np.asarray(film_strip([x[:2], x[2:]], BYTES, scale=1, gap=1))
    assert np.array_equal(strip[:3, :5], values[0, 3, ..., 0])
    assert np.array_equal(strip[4:, 6:], values[3, 3, ..., 0])
    one = np.asarray(walk_strip([[x[:2], x[2:]]], BYTES, one=1))
    assert np.array_equal(one[::12, : 5 * 12 : 12], values[1, 3, ..., 0])  # magnified to 60 pixels


def test_slices_of_real_volumes_have_the_shades_of_images() -> None:
    units = Real((10.0,), (3.0,), shown=2.5)
    x = torch.tensor([-9.0, 0.0, 9.0]).view(1, 1, 3, 1, 1)
    assert np.asarray(grid(x, units, scale=1))[0, :: 1 + SEAM].tolist() == [0, 128, 255]
    found = view_of((1, 3, 1, 1)).channel(x, units, 0)
    assert found is not None
    assert (found.low, found.high) == (2.5, 17.5)
