"""What numbers mean: offsets keep their detail, levels are noticed, whole numbers are never wrapped."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kakusan.config.settings import DataSettings
from kakusan.data import Dataset, open_data
from kakusan.data.units import Levels, Real
from kakusan.errors import DataError, SettingsError
from kakusan.statistics.moments import moments_of

RNG = np.random.default_rng(0)
SHAPE = (200, 9, 8)


def opened(folder: Path, array: NDArray[Any], **options: Any) -> Dataset:
    np.save(folder / "x.npy", array)
    return open_data(folder / "x.npy", DataSettings(**options))


@pytest.mark.parametrize(("offset", "deviation"), [(101325, 0.01), (1e6, 0.05), (-273.15e4, 0.2), (0, 1e-9)])
def test_a_float64_field_keeps_its_content_whatever_its_offset(
    tmp_path: Path, offset: float, deviation: float
) -> None:
    array = offset + deviation * RNG.standard_normal(SHAPE)
    data = opened(tmp_path, array)
    assert isinstance(data.units, Real)
    assert data.units.scale[0] == pytest.approx(array.std(), rel=1e-9)
    x_0 = data.x_0(np.arange(len(array)))
    assert len(np.unique(x_0.numpy())) > 0.99 * array.size
    back = data.units.decode(x_0)
    assert back.dtype == np.float64
    assert np.abs(back[..., 0] - array).max() < 1e-6 * deviation + 4 * np.spacing(abs(offset))
    assert data.notes == ()


@pytest.mark.parametrize(
    ("dtype", "offset", "deviation", "is_coarse"),
    [
        (np.float32, 101325, 0.01, True),
        (np.float32, 288, 6.4, False),
        (np.float32, 1e6, 50, True),
        (np.float32, 0, 1e-30, False),
        (np.float64, 1e15, 1, True),
        (np.float16, 1000, 2, True),
        (np.float16, 0.5, 0.25, False),
    ],
)
def test_floats_that_are_too_coarse_for_their_content_are_told(
    tmp_path: Path, dtype: type, offset: float, deviation: float, *, is_coarse: bool
) -> None:
    data = opened(tmp_path, (offset + deviation * RNG.standard_normal(SHAPE)).astype(dtype))
    assert [("is stored in steps of" in note) for note in data.notes] == [True] * is_coarse


@pytest.mark.parametrize(
    ("levels", "low", "high", "dtype"),
    [
        (2, 0, 1, np.float32),
        (2, 0, 1, np.float64),
        (256, 0, 1, np.float32),
        (256, -1, 1, np.float32),
        (256, 0, 1, np.float16),
        (256, 0, 255, np.float64),
        (17, 0, 16, np.float32),
        (10, 3, 4.5, np.float32),
    ],
)
def test_floats_that_are_levels_are_told_with_the_line_that_stores_them(
    tmp_path: Path, levels: int, low: float, high: float, dtype: type
) -> None:
    drawn = RNG.integers(0, levels, SHAPE)
    drawn[0, 0, :2] = 0, levels - 1
    array: NDArray[Any] = (drawn / (levels - 1) * (high - low) + low).astype(dtype)
    data = opened(tmp_path, array)
    assert isinstance(data.units, Real)
    (note,) = data.notes
    assert f"take only {levels} evenly spaced values" in note
    assert "no floor" in note
    line = note.partition("as levels: ")[2].replace("path", f"{str(tmp_path / 'y.npz')!r}")
    eval(line, {"numpy": np, "array": array})
    stored = open_data(tmp_path / "y.npz")
    assert stored.units == Levels(levels)
    assert np.array_equal(stored.images[..., 0], drawn)


def test_levels_are_noticed_behind_a_normalization_of_each_channel_and_beside_real_channels(
    tmp_path: Path,
) -> None:
    levels = RNG.integers(0, 256, (*SHAPE, 3)) / 255
    (note,) = opened(tmp_path, ((levels - [0.4, 0.5, 0.6]) / [0.2, 0.21, 0.22]).astype(np.float32)).notes
    assert "store the uint8 that they were made of" in note
    mixed = RNG.standard_normal((*SHAPE, 2))
    mixed[..., 1] = mixed[..., 1] > 0
    (note,) = opened(tmp_path, mixed).notes
    assert "the floats of channel 1 take only 2 evenly spaced values" in note


@pytest.mark.parametrize(
    "array",
    [
        RNG.standard_normal(SHAPE).astype(np.float32),
        RNG.uniform(0, 1, (2, 5, 4)),
        RNG.uniform(0, 1, (20, 3, 3)).astype(np.float16),
        np.rint(1000 * RNG.uniform(0, 1, SHAPE)),
        np.exp(RNG.integers(0, 9, SHAPE)),
    ],
)
def test_floats_that_are_no_levels_are_taken_as_they_are(tmp_path: Path, array: NDArray[Any]) -> None:
    assert opened(tmp_path, array).notes == ()


@pytest.mark.parametrize(
    "dtype", [np.int8, np.int16, np.int32, np.int64, np.uint16, np.uint32, np.uint64, ">u2"]
)
def test_whole_numbers_from_0_to_255_are_levels_of_any_type(tmp_path: Path, dtype: Any) -> None:
    drawn = RNG.integers(0, 17, SHAPE)
    data = opened(tmp_path, drawn.astype(dtype))
    assert data.units == Levels(256)
    assert data.images.dtype == np.uint8
    assert np.array_equal(data.images[..., 0], drawn)
    assert "read as levels" in data.notes[0]
    assert "--data.levels 17" in data.notes[1]
    assert opened(tmp_path, drawn.astype(dtype), levels=17).units == Levels(17)
    assert isinstance(opened(tmp_path, drawn.astype(dtype), range=(0.0, 16.0)).units, Real)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (np.uint16, 0, 65536),
        (np.int16, -1024, 3072),
        (np.int8, -128, 128),
        (np.int64, 0, 257),
        (">i4", -5, 9),
    ],
)
def test_other_whole_numbers_are_real_values_and_no_hint_wraps_them(
    tmp_path: Path, dtype: Any, low: int, high: int
) -> None:
    array = RNG.integers(low, high, SHAPE).astype(dtype)
    array[0, 0, :2] = low, high - 1
    data = opened(tmp_path, array)
    assert isinstance(data.units, Real)
    assert np.abs(data.units.decode(data.x_0(np.arange(200)))[..., 0] - array).max() < 1e-6 * (high - low)
    (note,) = data.notes
    scaled = eval(note.partition("as 256 levels: ")[2], {"numpy": np, "array": array})
    assert (scaled.min(), scaled.max()) == (0, 255)
    order = np.argsort(array, axis=None)
    assert (np.diff(scaled.ravel()[order].astype(int)) >= 0).all()
    with pytest.raises(DataError, match="outside of 17 levels"):
        opened(tmp_path, array, levels=17)


def test_whole_numbers_beyond_float64_and_complex_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too large for float64"):
        opened(tmp_path, np.full(SHAPE, 2**60) + np.arange(SHAPE[2]))
    with pytest.raises(DataError, match=r"numpy\.stack\(\(array\.real, array\.imag\)"):
        opened(tmp_path, RNG.standard_normal(SHAPE) + 1j)
    with pytest.raises(SettingsError, match="floats, which have no levels"):
        opened(tmp_path, RNG.standard_normal(SHAPE), levels=9)


def test_booleans_are_two_levels(tmp_path: Path) -> None:
    data = opened(tmp_path, RNG.uniform(size=SHAPE) > 0.5)
    assert (data.units, data.notes) == (Levels(2), ())


@pytest.mark.parametrize(
    "shape", [(20, 9, 8), (20, 9, 8, 2), (20, 2, 9, 8), (20, 3, 9, 8), (20, 50), (20, 2, 50)]
)
@pytest.mark.parametrize("missing", [np.nan, np.inf])
def test_missing_values_are_refused_with_lines_that_fill_them_in(
    tmp_path: Path, shape: tuple[int, ...], missing: float
) -> None:
    array = RNG.standard_normal(shape)
    array.reshape(20, -1)[3:8, 0] = missing
    with pytest.raises(DataError, match=r"in 25 % of the images; image 3 is the first") as caught:
        opened(tmp_path, array)
    *flag, leave, fill, mask = (line.split(": ")[1] for line in caught.value.advice)
    assert [words.split(" (")[0] for words in flag] == ["--data.missing mask"] * int(np.isnan(missing))
    scope = {"numpy": np, "array": array}
    assert len(eval(leave, scope)) == 15
    exec(f"{fill}\n{mask.split(' (then')[0]}", scope)
    layout = mask.partition("--data.layout ")[2].rstrip(")") or "auto"
    before = opened(tmp_path, np.nan_to_num(array, posinf=0)).shape
    filled = opened(tmp_path, scope["array"], layout=layout)  # type: ignore[arg-type]
    assert filled.shape == (before[0] + 1, *before[1:])  # the mask of the channel that misses values


def test_where_every_image_misses_values_no_image_is_to_be_left_out(tmp_path: Path) -> None:
    array = RNG.standard_normal(SHAPE)
    array[:, 3, 3] = np.nan
    with pytest.raises(DataError, match=r"1\.4 % of all, in 100 % of the images; image 0") as caught:
        opened(tmp_path, array)
    assert "without such images" not in str(caught.value)


def test_moments_lose_nothing_to_a_large_offset() -> None:
    small = RNG.standard_normal((3000, 10, 10, 2)) * [1e-3, 5]
    offset = np.array([1e9, -1e3])
    found = moments_of(small + offset)
    assert found.deviation == pytest.approx(small.std((0, 1, 2)), rel=1e-4)
    assert found.mean == pytest.approx(small.mean((0, 1, 2)) + offset, rel=1e-15)
    assert found.low == pytest.approx(small.min((0, 1, 2)) + offset, rel=1e-15)


def test_an_outlier_is_told_and_does_not_make_levels_of_the_others(tmp_path: Path) -> None:
    array = np.random.default_rng(2).uniform(0, 1, (200, 9, 8))
    array[17] = 1e4
    (note,) = opened(tmp_path, array).notes
    assert "reaches 10000" in note
    assert "set the scale" in note
    assert "levels" not in note


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.full(SHAPE, 0.5), "x.npy holds one value alone, 0.5"),
        (np.stack([RNG.standard_normal(SHAPE), np.ones(SHAPE)], -1), "channel 1 of x.npy is constant"),
    ],
)
def test_data_with_nothing_to_learn_are_refused(tmp_path: Path, array: NDArray[Any], problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        opened(tmp_path, array)
