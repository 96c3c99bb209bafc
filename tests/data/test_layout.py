"""Which axis of an array is which: every shape that has two readings shows both, and one is taken by the rule."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kakusan.config.settings import DataSettings
from kakusan.data import Dataset, open_data
from kakusan.data.space import kind_of
from kakusan.errors import DataError, SettingsError

RNG = np.random.default_rng(0)


def opened(folder: Path, array: NDArray[Any], **options: Any) -> Dataset:
    np.save(folder / "x.npy", array)
    return open_data(folder / "x.npy", DataSettings(**options))


def floats(*shape: int) -> NDArray[np.float64]:
    return RNG.standard_normal(shape)


@pytest.mark.parametrize(
    ("shape", "read_as", "layout"),
    [
        ((9, 2, 48, 20), (2, 48, 20), "channels-first"),
        ((9, 3, 32, 32), (3, 32, 32), "channels-first"),
        ((9, 4, 7, 6), (4, 7, 6), "channels-first"),
        ((9, 1, 28, 28), (1, 28, 28), "channels-first"),
        ((9, 1, 1, 256), (1, 256), "channels-first"),
        ((9, 256, 1, 1), (1, 256), "channels-last"),
        ((9, 3, 32, 4), (4, 3, 32), "channels-last"),
        ((9, 3, 64), (3, 64), "channels-first"),
        ((9, 64, 3), (3, 64), "channels-last"),
        ((9, 12, 100), (1, 12, 100), "single-channel"),
        ((9, 100), (1, 100), "single-channel"),
        ((9, 1, 7, 6, 5), (1, 7, 6, 5), "channels-first"),
        ((9, 16, 17, 18), (1, 16, 17, 18), "single-channel"),
        ((9, 2, 7, 6, 5), (2, 7, 6, 5), "channels-first"),
        ((9, 3, 7, 6, 3), (3, 3, 7, 6), "channels-last"),
        ((9, 7, 6, 5, 8), (8, 7, 6, 5), "channels-last"),
    ],
)
def test_a_doubtful_shape_is_read_by_the_rule_and_a_note_shows_the_other_readings(
    tmp_path: Path, shape: tuple[int, ...], read_as: tuple[int, ...], layout: str
) -> None:
    array = floats(*shape)
    data = opened(tmp_path, array)
    assert (data.shape, data.layout) == (read_as, layout)
    assert layout in data.notes[0]
    instead = re.findall(r"((?:--data\.\w+ \S+ )+)would read", data.notes[0])
    assert instead or "reshape(-1, 10, 10)" in data.notes[0]
    for flags in instead:  # what the note says can be typed
        options = dict(re.findall(r"--data\.(\w+) (\S+)", flags))
        assert opened(tmp_path, array, **options).shape != read_as
    assert opened(tmp_path, array, kind=kind_of(read_as), layout=layout).notes == ()


@pytest.mark.parametrize(
    ("shape", "read_as", "layout"),
    [
        ((9, 48, 20, 2), (2, 48, 20), "channels-last"),
        ((9, 28, 28, 1), (1, 28, 28), "channels-last"),
        ((9, 32, 32, 3), (3, 32, 32), "channels-last"),
        ((9, 28, 28), (1, 28, 28), "single-channel"),
        ((9, 5, 4), (1, 5, 4), "single-channel"),
        ((9, 1, 256), (1, 256), "channels-first"),
        ((9, 2), (2,), "channels-last"),
        ((9, 1, 1, 2), (2,), "channels-last"),
        ((9, 7, 6, 5, 1), (1, 7, 6, 5), "channels-last"),
    ],
)
def test_a_plain_shape_is_read_without_a_word(
    tmp_path: Path, shape: tuple[int, ...], read_as: tuple[int, ...], layout: str
) -> None:
    data = opened(tmp_path, floats(*shape))
    assert (data.shape, data.layout, data.notes) == (read_as, layout, ())


@pytest.mark.parametrize("shape", [(100, 4, 4, 4), (100, 3, 3, 3), (100, 2, 2, 2)])
def test_two_readings_of_one_shape_are_told_apart(tmp_path: Path, shape: tuple[int, ...]) -> None:
    scales = np.array([1.0, 100.0, 1e4, 1e6])[: shape[1], None, None]
    data = opened(tmp_path, floats(*shape) * scales)  # channels first
    assert data.layout == "channels-last"
    assert (
        "--data.layout channels-first would read the same with the axes in the other order" in data.notes[0]
    )
    right = opened(tmp_path, floats(*shape) * scales, layout="channels-first")
    assert right.units.scale[1] == pytest.approx(100, rel=0.2)  # type: ignore[union-attr]


@pytest.mark.parametrize("shape", [(100, 6, 40), (100, 12, 64), (100, 9, 64), (100, 40, 6)])
def test_small_images_of_unequal_sides_may_be_signals_and_that_is_said(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    data = opened(tmp_path, floats(*shape))
    assert data.layout == "single-channel"
    assert "would read signals of length" in data.notes[0]


@pytest.mark.parametrize("shape", [(6, 16, 16, 16), (6, 13, 9, 8), (6, 5, 5, 5)])
def test_a_shape_without_a_short_axis_is_volumes_and_the_note_shows_the_other_readings(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    array = floats(*shape)
    data = opened(tmp_path, array)
    assert data.shape == (1, *shape[1:])
    assert np.array_equal(data.images[..., 0], array)
    for layout, channels in (("channels-last", shape[3]), ("channels-first", shape[1])):
        assert f"--data.kind image --data.layout {layout} would read" in data.notes[0]
        assert opened(tmp_path, array, kind="image", layout=layout).shape[0] == channels


@pytest.mark.parametrize(
    ("shape", "kind", "read_as"),
    [
        ((9, 12, 100), "signal", (12, 100)),
        ((9, 5, 40), "signal", (5, 40)),
        ((9, 8), "signal", (1, 8)),
        ((9, 2), "signal", (1, 2)),
        ((9, 2), "points", (2,)),
        ((9, 3, 64), "image", (1, 3, 64)),
        ((9, 1, 1, 256), "image", (1, 1, 256)),
        ((9, 3, 8, 8), "volume", (1, 3, 8, 8)),
    ],
)
def test_a_kind_that_is_asked_for_is_what_is_read(
    tmp_path: Path, shape: tuple[int, ...], kind: str, read_as: tuple[int, ...]
) -> None:
    array = floats(*shape)
    data = opened(tmp_path, array, kind=kind)
    assert data.shape == read_as
    assert data.images.size == array.size


def test_a_kind_that_does_not_fit_is_refused_with_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read as volume") as caught:
        opened(tmp_path, floats(9, 8, 8), kind="volume")
    assert any("--data.kind image --data.layout single-channel" in line for line in caught.value.advice)
    with pytest.raises(DataError, match=r"has shape \(9, 16\), which cannot be read as points") as caught:
        opened(tmp_path, floats(9, 16), kind="points")
    assert any("--data.kind signal" in line for line in caught.value.advice)
    with pytest.raises(SettingsError, match="digits holds images, not signals"):
        open_data("digits", DataSettings(kind="signal"))


@pytest.mark.parametrize("shape", [(9,), (9, 3), (9, 2, 2, 2, 2, 2)])
def test_what_is_neither_image_nor_signal_nor_point_is_refused(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    with pytest.raises(DataError, match=r"points in the plane are floats of shape \(n, 2\)"):
        opened(tmp_path, floats(*shape))


def test_the_axes_move_and_the_pixels_stay(tmp_path: Path) -> None:
    array = floats(9, 2, 20, 30)
    data = opened(tmp_path, array)
    assert np.array_equal(data.images, array.transpose(0, 2, 3, 1))
    assert not data.images.flags.writeable  # still the memory map: nothing was read into memory
    picked = data.gather(np.array([3, 1]))
    assert picked.flags.c_contiguous
    assert np.array_equal(picked, array.transpose(0, 2, 3, 1)[[3, 1]])
    signals = floats(9, 3, 20)
    assert np.array_equal(opened(tmp_path, signals).images, signals.transpose(0, 2, 1))
    last = signals.transpose(0, 2, 1)
    assert np.array_equal(opened(tmp_path, last).images, last)


def test_a_number_of_channels_or_a_size_decides(tmp_path: Path) -> None:
    array = floats(9, 2, 48, 20)
    assert opened(tmp_path, array, channels=20).shape == (20, 2, 48)
    assert opened(tmp_path, array, size=(2, 48)).shape == (20, 2, 48)
    assert opened(tmp_path, array, channels=2).shape == (2, 48, 20)
    with pytest.raises(SettingsError, match="2 channels, not 5"):
        opened(tmp_path, array, channels=5)


def test_what_an_old_run_says_of_its_data_reads_them_as_it_did(tmp_path: Path) -> None:
    """Runs from before there were layouts store the size and the channels: channels last, or none."""
    for shape, then in (((6, 16, 16, 16), (16, 16, 16)), ((6, 3, 64), (1, 3, 64)), ((6, 2, 9, 8), (8, 2, 9))):
        channels, height, width = then
        known = {"channels": channels, "size": (height, width), "kind": "image"}
        assert opened(tmp_path, floats(*shape), **known).shape == then
    array = floats(6, 4, 4, 4)
    assert np.array_equal(opened(tmp_path, array, channels=4, size=(4, 4), kind="image").images, array)


def test_a_layout_that_does_not_fit_or_is_not_needed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read as single-channel"):
        opened(tmp_path, floats(9, 8, 8, 1, 1), layout="single-channel")
    with pytest.raises(SettingsError, match="is no array file"):
        open_data("digits", DataSettings(layout="channels-first"))
    with pytest.raises(SettingsError, match="there is no layout 'nchw'"):
        DataSettings(layout="nchw")  # type: ignore[arg-type]
