"""Pictures, pixel by pixel."""

import errno
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kakusan.data.clouds import CLOUD, cloud_strip, scatter
from kakusan.data.rendering import GAP, each, encode_png, film_strip, grid, save_folder, walk_strip
from kakusan.data.units import Levels, Real
from kakusan.errors import DataError, SettingsError
from kakusan.storage import durable

BYTES = Levels(256)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


def flat(*greys: int, size: int = 2) -> torch.Tensor:
    """One image of a single grey for each of these."""
    return (torch.tensor(greys) / 127.5 - 1).reshape(-1, 1, 1, 1).expand(-1, 1, size, size)


def test_a_grid_goes_row_by_row_with_black_between() -> None:
    shown = pixels(grid(flat(10, 20, 30, 40, 50), BYTES, columns=3, scale=1, gap=1))
    expected = [
        [10, 10, 0, 20, 20, 0, 30, 30],
        [10, 10, 0, 20, 20, 0, 30, 30],
        [0, 0, 0, 0, 0, 0, 0, 0],
        [40, 40, 0, 50, 50, 0, 0, 0],
        [40, 40, 0, 50, 50, 0, 0, 0],
    ]
    assert shown.tolist() == expected


def test_magnified_pixels_keep_hard_edges() -> None:
    x = (torch.arange(4.0).reshape(1, 1, 2, 2) * 60) / 127.5 - 1
    shown = pixels(grid(x, BYTES, scale=3))
    assert np.array_equal(shown, np.kron(np.array([[0, 60], [120, 180]]), np.ones((3, 3))))


@pytest.mark.parametrize(("size", "cell"), [(8, 64), (16, 64), (28, 56), (32, 64), (64, 64), (100, 100)])
def test_small_images_are_magnified_to_about_64_pixels_and_large_ones_left(size: int, cell: int) -> None:
    assert grid(flat(0, size=size), BYTES).size == (cell, cell)


def test_a_grid_is_nearly_square_unless_told_its_columns() -> None:
    def size(count: int, columns: int | None = None) -> tuple[int, int]:
        return grid(flat(*range(count), size=64), BYTES, columns=columns, gap=0).size

    assert size(16) == (4 * 64, 4 * 64)
    assert size(11) == (4 * 64, 3 * 64)
    assert size(11, columns=6) == (6 * 64, 2 * 64)
    assert size(3, columns=6) == (3 * 64, 64)


def test_images_need_not_be_square() -> None:
    assert grid(torch.zeros(2, 1, 3, 8), BYTES, columns=1, scale=2, gap=1).size == (16, 13)


def test_three_channels_are_a_colour() -> None:
    x = torch.tensor([1.0, -1.0, 0.0]).reshape(1, 3, 1, 1)
    shown = grid(x, BYTES, scale=1)
    assert shown.mode == "RGB"
    assert shown.getpixel((0, 0)) == (255, 0, 128)


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_other_channels_are_panels_side_by_side(channels: int) -> None:
    x = (torch.arange(float(channels)) * 20 / 127.5 - 1).reshape(1, -1, 1, 1).expand(1, -1, 2, 2)
    shown = pixels(grid(x, BYTES, scale=1))
    assert shown.tolist() == [np.repeat(20 * np.arange(channels), 2).tolist()] * 2


def test_a_grid_shows_levels_as_the_data_have_them() -> None:
    x = torch.tensor([-1.0, -0.2, 0.2, 1.0]).reshape(4, 1, 1, 1)
    assert pixels(grid(x, Levels(2), columns=4, scale=1, gap=0)).tolist() == [[0, 0, 255, 255]]


def test_real_data_are_shown_between_their_shown_bounds() -> None:
    x = torch.tensor([-9.0, -2.5, 0.0, 2.5, 9.0]).reshape(5, 1, 1, 1)
    units = Real((10.0,), (3.0,), shown=2.5)
    assert pixels(grid(x, units, columns=5, scale=1, gap=0)).tolist() == [[0, 0, 128, 255, 255]]


def test_a_film_strip_has_series_in_rows_and_shades_between_the_levels() -> None:
    upper, lower = torch.tensor([-0.5, 0.0]), torch.tensor([0.5, 1.0])
    strip = film_strip([row.reshape(2, 1, 1, 1) for row in (upper, lower)], Levels(2), scale=1, gap=1)
    assert pixels(strip).tolist() == [[64, 0, 128], [0, 0, 0], [191, 0, 255]]


def test_a_film_strip_needs_rows_of_one_shape() -> None:
    with pytest.raises(DataError, match="rows of one shape"):
        film_strip([flat(1, 2), flat(1)], BYTES)
    with pytest.raises(DataError, match="rows of one shape"):
        film_strip([], BYTES)


def test_no_images_are_no_picture() -> None:
    with pytest.raises(DataError, match="no images"):
        grid(torch.zeros(0, 1, 4, 4), BYTES)


def test_a_point_is_drawn_where_it_is() -> None:
    corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0]]).repeat(400, 1).reshape(-1, 2, 1, 1)
    picture = scatter(corners, Real((5.0, 5.0), (2.0, 2.0)))
    opaque = pixels(picture)[..., 3] > 0
    half = CLOUD // 2
    assert picture.size == (CLOUD, CLOUD)
    assert [opaque[half:, :half].any(), opaque[half:, half:].any(), opaque[:half, half:].any()] == [True] * 3
    assert not opaque[:half, :half].any()  # y points up


def test_points_in_a_grid_are_a_scatter_plot() -> None:
    points = torch.randn(30, 2, 1, 1, generator=torch.Generator().manual_seed(0))
    units = Real((0.0, 0.0), (1.0, 1.0))
    assert grid(points, units) == scatter(points, units)


def test_a_strip_of_clouds_keeps_the_axes() -> None:
    near = torch.randn(200, 2, 1, 1, generator=torch.Generator().manual_seed(0))
    units = Real((0.0, 0.0), (1.0, 1.0))
    strip = cloud_strip([[near, 0.1 * near]], units, size=80)
    assert strip.size == (160 + GAP, 80)
    opaque = pixels(strip)[..., 3] > 0
    first, second = (np.flatnonzero(part.any(0)) for part in (opaque[:, :80], opaque[:, -80:]))
    assert np.ptp(second) < 0.4 * np.ptp(first)


def test_the_same_picture_gives_the_same_png_and_comes_back_whole() -> None:
    image = grid(flat(1, 2, 3), BYTES)
    assert encode_png(image) == encode_png(image.copy())
    assert np.array_equal(pixels(Image.open(io.BytesIO(encode_png(image)))), pixels(image))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_of_pictures_is_named_by_index_and_keeps_every_byte(tmp_path: Path, channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 4, channels), dtype=np.uint8)
    paths = save_folder(images, tmp_path / "deep" / "samples", first=12)
    assert [path.name for path in paths] == ["00000012.png", "00000013.png", "00000014.png"]
    for path, image in zip(paths, images, strict=True):
        with Image.open(path) as stored:
            assert np.array_equal(pixels(stored).reshape(5, 4, channels), image)


def test_a_file_that_exists_is_kept_and_nothing_is_written_beside_it(tmp_path: Path) -> None:
    (tmp_path / "00000001.png").write_bytes(b"mine")
    with pytest.raises(SettingsError, match=r"00000001\.png exists already"):
        save_folder(np.zeros((3, 2, 2, 1), dtype=np.uint8), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["00000001.png"]
    assert (tmp_path / "00000001.png").read_bytes() == b"mine"


def test_a_folder_of_png_holds_one_or_three_channels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.npz"):
        save_folder(np.zeros((3, 2, 2, 4), dtype=np.uint8), tmp_path)


def test_pictures_that_are_replaced_stay_until_all_new_ones_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = np.zeros((3, 2, 2, 1), dtype=np.uint8)
    before = {path: path.read_bytes() for path in save_folder(old, tmp_path)}
    plain = durable.write_new

    def full_at_the_last(path: Path, *others: Any) -> durable.Written:
        if "00000002" in path.name:
            raise OSError(errno.ENOSPC, "full")
        return plain(path, *others)

    monkeypatch.setattr(durable, "write_new", full_at_the_last)
    with pytest.raises(OSError, match="full"):
        save_folder(old + 9, tmp_path, overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    monkeypatch.undo()
    save_folder(old + 9, tmp_path, overwrite=True)
    assert not {path.read_bytes() for path in tmp_path.iterdir()} & set(before.values())


def test_what_a_killed_process_left_half_written_goes_with_the_next_pictures(tmp_path: Path) -> None:
    for name in (f".writing-00000000.png-{2**22}", ".writing-00000001.png-1", "notes.txt"):
        (tmp_path / name).touch()  # no process has the first number; 1 is alive
    save_folder(np.zeros((1, 2, 2, 1), dtype=np.uint8), tmp_path)
    there = sorted(path.name for path in tmp_path.iterdir())
    assert there == [".writing-00000001.png-1", "00000000.png", "notes.txt"]


def test_points_of_both_ranks_are_the_same_picture() -> None:
    points = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    units = Real((1.0, 2.0), (1.0, 3.0))
    old = points[:, :, None, None]
    assert grid(points, units) == grid(old, units)
    assert walk_strip([[points, 0.5 * points]], units) == cloud_strip([[old, 0.5 * old]], units)


def test_a_strip_of_a_batch_follows_one_image() -> None:
    first, second = flat(10, 20), flat(30, 40)
    strip = walk_strip([[first, second]], BYTES, one=1)
    assert strip == film_strip([torch.stack([first[1], second[1]])], BYTES)
    with pytest.raises(DataError, match="rows of equal length"):
        walk_strip([[first, second], [first]], BYTES)


def test_each_image_has_a_picture_of_its_own() -> None:
    pictures = each(flat(10, 20, size=4), BYTES)
    assert [np.unique(pixels(picture)).tolist() for picture in pictures] == [[10], [20]]
    assert pictures[0] == grid(flat(10, size=4), BYTES)


def test_what_has_no_view_says_which_samples_have() -> None:
    with pytest.raises(DataError, match="not supported") as caught:
        grid(torch.zeros(1, 1, 2, 2, 2, 2), BYTES)
    assert "signals (channels, length)" in str(caught.value.advice)
