"""Films: as many pictures as times, lossless where the format is, for samples of every rank."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kakusan.data.films import captioned_strip, check_film, check_size, encode_film, film_frames
from kakusan.data.rendering import grid, view_of
from kakusan.data.units import Levels, Real, Units
from kakusan.errors import SettingsError

SHAPES: dict[tuple[int, ...], Units] = {
    (2,): Real((0.0, 0.0), (1.0, 1.0)),
    (2, 40): Real((0.0, 0.0), (1.0, 1.0)),
    (1, 8, 8): Levels(17),
    (3, 20, 12): Levels(256),
    (4, 8, 8): Real((0.0,) * 4, (1.0,) * 4, 2.5),
    (1, 4, 8, 8): Levels(256),
}
ENDINGS = (".webp", ".gif", ".png")


def series(shape: tuple[int, ...], times: int = 5, count: int = 3) -> list[torch.Tensor]:
    drawn = torch.randn(times, count, *shape, generator=torch.Generator().manual_seed(0))
    return [*drawn.clamp(-1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_film_has_a_picture_for_each_time(shape: tuple[int, ...], ending: str) -> None:
    x = series(shape)
    frames = list(film_frames([x, x], SHAPES[shape], [(f"t = {k}", "guess") for k in range(5)]))
    assert len({frame.size for frame in frames}) == 1
    with Image.open(io.BytesIO(encode_film(frames, ending))) as film:
        assert getattr(film, "n_frames", 1) == 5
        assert film.size == frames[0].size


@pytest.mark.parametrize("ending", [".webp", ".png"])
def test_each_pixel_of_a_film_is_that_of_its_picture(ending: str) -> None:
    x = series((3, 20, 12))
    frames = list(film_frames([x], Levels(256), [(str(k),) for k in range(5)]))
    with Image.open(io.BytesIO(encode_film(frames, ending))) as film:
        for k, frame in enumerate(frames):
            film.seek(k)
            assert np.array_equal(np.asarray(film.convert("RGB")), np.asarray(frame.convert("RGB")))


def test_the_last_picture_shows_the_samples_as_they_are_saved() -> None:
    x, units = series((1, 64, 64), count=16), Levels(17)
    *_, last = film_frames([x], units, [("t = 1",)] * 5)
    assert np.array_equal(np.asarray(last)[22:], np.asarray(grid(x[-1], units)))


def test_the_same_pictures_give_the_same_bytes() -> None:
    x = series((1, 8, 8))
    for ending in ENDINGS:
        once, again = (
            encode_film(film_frames([x], Levels(), [(str(k),) for k in range(5)]), ending) for _ in range(2)
        )
        assert once == again


def test_points_and_signals_are_on_one_scale_through_a_film() -> None:
    still = [series((2, 40))[0]] * 3
    x = [10 * still[0], still[1], still[2]]
    frames = list(view_of((2, 40)).film([x], Real((0.0, 0.0), (1.0, 1.0))))
    assert np.array_equal(np.asarray(frames[1][0]), np.asarray(frames[2][0]))
    assert not np.array_equal(np.asarray(frames[0][0]), np.asarray(frames[1][0]))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_strip_has_a_column_for_each_time_and_two_rows_for_each_sample(shape: tuple[int, ...]) -> None:
    x = series(shape, times=4)
    one, three = (
        captioned_strip([[batch[:count] for batch in x]] * 2, SHAPES[shape], ["t = 1000"] * 4)
        for count in (1, 3)
    )
    assert one.width == three.width
    if shape != (2,):
        gaps = 8
        assert three.height - 22 + gaps == 3 * (one.height - 22 + gaps)


def test_large_images_make_a_film_of_few() -> None:
    filmed = {side: view_of((3, side, side)).filmed((3, side, side)) for side in (8, 28, 64, 128, 256, 1024)}
    assert filmed == {8: 16, 28: 16, 64: 16, 128: 16, 256: 4, 1024: 1}


def test_other_endings_are_refused() -> None:
    for name in ("film.mp4", "film", "film.jpg"):
        with pytest.raises(SettingsError, match="films are not written") as caught:
            check_film(Path(name))
        assert caught.value.advice == ("name a .webp, a .gif or a .png",)
    for name in ("film.webp", "film.GIF", "film.png"):
        check_film(Path(name))


def test_a_film_too_large_to_wait_for_is_refused() -> None:
    check_size(100, (1000, 1000))
    with pytest.raises(SettingsError, match="too many") as caught:
        check_size(1000, (1000, 1000))
    assert caught.value.advice == ("take 400 or fewer: --frames 400",)
