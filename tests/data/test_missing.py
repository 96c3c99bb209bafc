"""Missing values: refused as ever, or masked, with units of what is there; masks that are asked for; pictures."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kakusan.config.settings import DataSettings, Layout
from kakusan.data import Dataset, open_data
from kakusan.data.asking import mask_asked, mask_of
from kakusan.data.batches import Batches
from kakusan.data.canvas import MISSING
from kakusan.data.missing import in_percent
from kakusan.data.rendering import each, film_strip, grid
from kakusan.data.survey import survey
from kakusan.data.units import Real
from kakusan.errors import DataError, SettingsError
from kakusan.statistics.moments import moments_of

SHAPES = [(20, 2), (20, 16), (20, 3, 16), (20, 6, 5), (20, 6, 5, 2), (20, 2, 6, 5), (20, 5, 6, 7)]
ASKED = DataSettings(missing="mask")


def holed(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float64]:
    """Temperatures, a fifth of them missing, none of them in the first sample."""
    rng = np.random.default_rng(seed)
    array = rng.normal(290, 3, shape)
    array[rng.random(shape) < 0.2] = np.nan
    array[0] = 290.5 + np.arange(array[0].size).reshape(array[0].shape) / 10
    array.reshape(len(array), -1)[:, 0] = rng.normal(290, 3, len(array))
    return array


def masks(dataset: Dataset, **options: Any) -> torch.Tensor:
    condition = dataset.condition(np.arange(len(dataset)), **options)
    assert condition is not None
    assert condition.mask is not None
    return condition.mask


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("where", ["npy", "npz", "memory"])
def test_units_are_those_of_the_values_that_are_there(
    tmp_path: Path, shape: tuple[int, ...], where: str
) -> None:
    array, source = holed(shape), str(tmp_path / f"x.{where}")
    if where == "npy":
        np.save(source, array)
    elif where == "npz":
        np.savez(source, images=array)
    options = DataSettings(missing="mask", kind="volume" if shape == (20, 5, 6, 7) else "auto")
    dataset = open_data(array if where == "memory" else source, options)
    axes = tuple(range(dataset.images.ndim - 1))
    assert isinstance(dataset.units, Real)
    assert dataset.masked
    assert np.allclose(dataset.units.mean, np.nanmean(dataset.images, axes), rtol=1e-12)
    assert np.allclose(dataset.units.scale, np.nanstd(dataset.images, axes), rtol=1e-9)
    assert "of the values" in dataset.notes[-1]
    assert "are missing, in" in dataset.notes[-1]
    mask, x_0 = masks(dataset), dataset.x_0(np.arange(20))
    assert mask.shape == x_0.shape
    assert (mask.numpy() == ~np.isnan(np.moveaxis(dataset.images, -1, 1))).all()
    assert x_0.isfinite().all()
    assert (x_0[mask == 0] == 0).all()
    back = dataset.units.decode(dataset.with_gaps(np.arange(20)))
    assert np.allclose(back, dataset.images, rtol=1e-6, equal_nan=True)


def test_chunks_of_moments_are_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    array = holed((20, 6, 5, 2)).astype(np.float32)
    array[:7, ..., 1] = np.nan  # whole chunks lack a channel
    monkeypatch.setattr("kakusan.statistics.moments.CHUNK_BYTES", 500)
    found = moments_of(array, skip_missing=True)
    assert np.allclose(found.mean, np.nanmean(array.astype(np.float64), (0, 1, 2)), rtol=1e-12)
    assert np.allclose(found.deviation, np.nanstd(array.astype(np.float64), (0, 1, 2)), rtol=1e-9)
    assert found.low == tuple(np.nanmin(array, (0, 1, 2)))
    assert found.high == tuple(np.nanmax(array, (0, 1, 2)))
    assert not moments_of(array).is_finite


def test_where_nothing_is_missing_the_flag_changes_nothing_and_a_note_says_so() -> None:
    whole = np.random.default_rng(0).normal(size=(20, 6, 5))
    plain, asked = open_data(whole), open_data(whole, ASKED)
    assert (asked.masked, asked.units, asked.fingerprint) == (False, plain.units, plain.fingerprint)
    assert asked.condition(np.arange(3)) is None
    assert "--data.missing mask changes nothing" in asked.notes[-1]
    levels = open_data(np.arange(600, dtype=np.uint8).reshape(20, 6, 5), ASKED)
    assert not levels.masked
    assert any("changes nothing" in note for note in levels.notes)


def test_infinite_values_samples_and_channels_without_a_value_are_refused() -> None:
    array = holed((20, 6, 5, 2))
    array[4, 1, 1, 0] = np.inf
    with pytest.raises(DataError, match=r"infinite values in 5 % of the samples; 4 is the first"):
        open_data(array, ASKED)
    with pytest.raises(DataError, match="not finite") as caught:
        open_data(array)
    assert "missing mask" not in str(caught.value)  # it would be of no help
    array = holed((20, 6, 5, 2))
    array[[3, 7]] = np.nan
    with pytest.raises(
        DataError, match="2 of 20 samples of the array have no value at all: 3 is the first"
    ) as caught:
        open_data(array, ASKED)
    left = eval(caught.value.advice[0].split(": ")[1], {"numpy": np, "array": array})
    assert len(open_data(left, ASKED)) == 18
    array = holed((20, 6, 5, 2))
    array[..., 1] = np.nan
    with pytest.raises(DataError, match="channel 1 of the array has no value in any sample"):
        open_data(array, ASKED)


def test_a_channel_that_is_constant_where_it_is_there_is_refused() -> None:
    array = holed((20, 6, 5, 2))
    array[..., 1] = np.where(np.isnan(array[..., 1]), np.nan, 7)
    with pytest.raises(DataError, match="channel 1 of the array is constant"):
        open_data(array, ASKED)


def test_equal_samples_with_equal_gaps_have_equal_hashes_whatever_the_bits_of_their_nan() -> None:
    array = holed((20, 6, 5))
    array[9] = array[8]
    array[9][np.isnan(array[9])] = -np.nan
    dataset = open_data(array, ASKED)
    assert dataset.hashes[8] == dataset.hashes[9]
    assert len(set(dataset.hashes.tolist())) == 19


def test_masks_are_mirrored_with_their_samples() -> None:
    dataset = open_data(holed((20, 6, 5)), ASKED)
    batch = Batches(dataset, np.arange(20), 20, 0, flip=True).at(0)
    assert batch.condition is not None
    mask = batch.condition.mask
    assert mask is not None
    plain = masks(dataset)[batch.indices]
    turned = (mask != plain).flatten(1).any(1)
    assert 0 < turned.sum() < 20
    assert torch.equal(mask[turned], plain.flip(3)[turned])
    assert (batch.x_0[mask == 0] == 0).all()
    assert (batch.x_0[mask == 1] != 0).all()


def test_a_survey_is_of_the_values_that_are_there(tmp_path: Path) -> None:
    array = holed((20, 6, 5))
    np.save(tmp_path / "x.npy", array)
    found = survey(tmp_path / "x.npy", ASKED)
    assert found.value_range == (np.nanmin(array), np.nanmax(array))
    assert found.mean == pytest.approx((np.nanmean(array),))
    assert found.dataset.missing == found.to_dict()["missing"] == pytest.approx(np.isnan(array).mean())
    assert open_data(np.nan_to_num(array)).missing == 0


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.3004, "30 %"),
        (0.00012, "0.012 %"),
        (0.986, "99 %"),
        (0.9974, "99.7 %"),
        (0.99999, "99.9 %"),
        (1, "100 %"),
    ],
)
def test_a_share_is_100_per_cent_where_nothing_is_left_and_never_before(share: float, words: str) -> None:
    assert in_percent(share) == words


LAND = np.array([[True, False, True], [True, True, False]])


@pytest.mark.parametrize(
    ("array", "layout", "shape", "expected"),
    [
        (LAND, "single-channel", (1, 2, 3), LAND[None, None]),
        (LAND.astype(np.uint8), "single-channel", (1, 2, 3), LAND[None, None]),
        (np.where(LAND, 290.5, np.nan), "single-channel", (1, 2, 3), LAND[None, None]),
        (np.stack([LAND, ~LAND]), "single-channel", (1, 2, 3), np.stack([LAND, ~LAND])[:, None]),
        (LAND, "channels-first", (4, 2, 3), np.stack([LAND] * 4)[None]),  # one for all channels
        (np.stack([LAND, ~LAND]), "channels-first", (2, 2, 3), np.stack([LAND, ~LAND])[None]),
        (np.stack([LAND, ~LAND], -1), "channels-last", (2, 2, 3), np.stack([LAND, ~LAND])[None]),
        (np.stack([LAND, ~LAND], -1)[None], "auto", (2, 2, 3), np.stack([LAND, ~LAND])[None]),
        (np.array([True, False]), "auto", (2,), np.array([[True, False]])),
    ],
)
def test_masks_are_read_in_the_axes_of_the_data(
    array: NDArray[Any], layout: Layout, shape: tuple[int, ...], expected: NDArray[np.bool_]
) -> None:
    found = mask_of(array, shape, layout, "the mask")
    assert found.shape == (len(expected), *shape)
    assert (found.numpy() == expected).all()


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones((4, 4)), r"shape \(4, 4\): a mask of samples of \(2, 3\) is needed"),
        (np.full((2, 3), 7), "other whole numbers than 0 and 1"),
        (np.full((2, 3), "x"), "booleans, 0 and 1, or floats"),
        (np.zeros((2, 3)), "nothing is there"),
        (LAND * 255.0, "zeros beside other numbers than 1, and no nan"),
        (LAND * 0.5, "zeros beside other numbers than 1, and no nan"),
    ],
)
def test_what_is_no_mask_is_refused(array: NDArray[Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        mask_of(array, (1, 2, 3), "single-channel", "the mask")


def test_masks_come_from_files_or_are_full(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", other=np.ones(3), mask=LAND)
    assert (mask_asked(str(tmp_path / "x.npz"), (1, 2, 3), "auto").numpy() == LAND).all()
    assert torch.equal(mask_asked("full", (2, 3), "auto"), torch.ones(1, 2, 3))
    with pytest.raises(SettingsError, match="neither full nor"):
        mask_asked("land.png", (1, 2, 3), "auto")
    with pytest.raises(DataError, match="cannot be read"):
        mask_asked(str(tmp_path / "none.npy"), (1, 2, 3), "auto")


@pytest.mark.parametrize(
    "shape", [(5, 1, 6, 5), (5, 3, 6, 5), (5, 2, 6, 5), (5, 1, 4, 6, 5), (5, 2, 30), (5, 2)]
)
def test_pictures_show_what_is_missing_and_nothing_else_is_changed(shape: tuple[int, ...]) -> None:
    units = Real((0.0,) * shape[1], (1.0,) * shape[1], 2.5)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with_one = x.clone()
    with_one[0, 0].flatten()[:1] = torch.nan
    is_shaded = len(shape) > 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for picture in (
            grid(with_one, units),
            film_strip([with_one, with_one], units),
            *each(with_one, units),
        ):
            assert picture.size
        before, after = (np.asarray(grid(part, units).convert("RGB")) for part in (x, with_one))
    changed = (before != after).any(2)
    assert changed.any()
    if is_shaded:
        assert (after[changed] == MISSING).all()
    assert units.outside(with_one) == pytest.approx(
        float((with_one[~with_one.isnan()].abs() > 2.5).double().mean()), abs=1e-7
    )
