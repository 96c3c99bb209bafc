"""Samples on disk: which files hold which samples, and the axes of arrays."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kakusan.config.settings import Layout
from kakusan.data.rendering import grid
from kakusan.data.saving import Output, in_layout, sidecar
from kakusan.data.units import Levels, Real, Units
from kakusan.errors import SettingsError

SHAPES = {
    "points": (2,),
    "signals": (2, 16),
    "images": (3, 4, 5),
    "volumes": (2, 4, 5, 6),
}


def units_of(channels: int) -> Units:
    return Real(tuple(10.0 + i for i in range(channels)), tuple(1.0 + i for i in range(channels)), shown=2.5)


def samples(shape: tuple[int, ...], count: int = 3) -> torch.Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))


def saved(path: Path, x_0: torch.Tensor, units: Units, **options: Any) -> dict[str, np.ndarray]:
    out = Output(path, range(len(x_0)), **options)
    out.check(tuple(x_0.shape[1:]))
    out.save(x_0, units, {"seed": 0})
    with np.load(path) as stored:
        return dict(stored)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_an_array_has_the_units_of_the_data_and_the_channels_last(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    x_0, units = samples(shape), units_of(shape[0])
    found = saved(tmp_path / "new.npz", x_0, units)["images"]
    assert found.dtype == np.float64
    assert found.shape == (3, *shape[1:], shape[0])
    first = x_0[:, 0].double().numpy() * 1.0 + 10.0
    assert np.array_equal(found[..., 0], first)
    assert sidecar(tmp_path / "new.npz").exists()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_raw_array_has_the_numbers_of_the_network(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x_0 = samples(shape)
    found = saved(tmp_path / "new.npz", x_0, units_of(shape[0]), raw=True)["images"]
    assert np.array_equal(np.moveaxis(found, -1, 1), x_0.numpy())


def test_levels_are_told_beside_the_array_of_signals(tmp_path: Path) -> None:
    found = saved(tmp_path / "new.npz", samples((1, 16)), Levels(32))
    assert found["images"].dtype == np.uint8
    assert found["images"].shape == (3, 16, 1)
    assert found["levels"] == 32


@pytest.mark.parametrize("shape", [(1, 16), (1, 4, 5), (1, 4, 5, 6)])
def test_a_single_channel_comes_back_without_its_axis(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x_0, units = samples(shape), Real((0.0,), (1.0,))
    found = saved(tmp_path / "new.npz", x_0, units, layout="single-channel")["images"]
    assert np.array_equal(found, x_0[:, 0].double().numpy())


@pytest.mark.parametrize("shape", [(2, 16), (3, 4, 5), (2, 4, 5, 6)])
def test_channels_first_comes_back_as_it_was(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x_0, units = samples(shape), Real((0.0,) * shape[0], (1.0,) * shape[0])
    found = saved(tmp_path / "new.npz", x_0, units, layout="channels-first")["images"]
    assert np.array_equal(found, x_0.double().numpy())
    assert found.flags.c_contiguous


@pytest.mark.parametrize("layout", ["auto", "channels-last"])
def test_the_channels_are_last_unless_another_layout_is_asked_for(layout: Layout) -> None:
    array = np.zeros((3, 16, 2))
    assert in_layout(array, layout) is array


@pytest.mark.parametrize("layout", ["auto", "channels-last", "channels-first"])
def test_points_have_one_order_of_axes(layout: Layout) -> None:
    points = np.arange(6.0).reshape(3, 2)
    assert np.array_equal(in_layout(points, layout), points)


def test_several_channels_are_no_single_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="2 channels has no single-channel layout"):
        in_layout(np.zeros((3, 16, 2)), "single-channel")
    with pytest.raises(SettingsError, match="2 channels has no single-channel layout"):
        Output(tmp_path / "new.npz", range(3), layout="single-channel").check((2, 16))


@pytest.mark.parametrize("shape", [(2,), (2, 1, 1), (1, 16), (2, 16), (1, 4, 4, 4), (3, 4, 4, 4), (2, 8, 8)])
def test_a_folder_of_pictures_holds_grey_and_colour_images_only(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    with pytest.raises(SettingsError, match="make no PNG files") as caught:
        Output(tmp_path / "new", range(3)).check(shape)
    assert ".npz" in str(caught.value.advice)
    for name in ("new.npz", "new.png"):
        Output(tmp_path / name, range(3)).check(shape)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_picture_is_the_grid(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x_0, units = samples(shape), units_of(shape[0])
    path = tmp_path / "new.png"
    Output(path, range(3)).save(x_0, units, {}, columns=2)
    found = Image.open(io.BytesIO(path.read_bytes()))
    assert np.array_equal(np.asarray(found), np.asarray(grid(x_0, units, columns=2)))
