"""Signals as line plots: where the lines are."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kakusan.data.canvas import GAP
from kakusan.data.lines import (
    FINE,
    HEIGHT,
    INSET,
    PALETTE,
    STILL,
    STROKE,
    WIDTH,
    have_one_scale,
    limits_of,
    stroke,
)
from kakusan.data.rendering import each, film_strip, grid, view_of, walk_strip
from kakusan.data.units import Levels, Real

PLAIN = Real((0.0,), (1.0,), shown=2.5)
HIGH = Real((100.0,), (1.0,), shown=2.5)
"""No signal comes near 0: no line is drawn there."""


def signals(*values: list[float] | np.ndarray) -> torch.Tensor:
    """Signals of one channel."""
    return torch.tensor(np.array(values), dtype=torch.float32)[:, None]


def drawn(picture: Image.Image, colour: tuple[int, int, int] = PALETTE[0]) -> Any:
    """Where a picture is mostly of this colour, (height, width)."""
    pixels = np.asarray(picture).astype(int)
    line: np.ndarray = (pixels[..., 3] > 128) & (np.abs(pixels[..., :3] - colour).max(-1) < 30)
    return line


def middle_rows(picture: Image.Image, colour: tuple[int, int, int] = PALETTE[0]) -> Any:
    """The mean row of the line in each column, NaN where there is none."""
    line = drawn(picture, colour)
    rows = np.arange(len(line))[:, None]
    with np.errstate(invalid="ignore"):
        middle: np.ndarray = (line * rows).sum(0) / line.sum(0)
    return middle


def test_a_flat_signal_is_one_straight_row_in_the_middle() -> None:
    line = drawn(grid(signals([0.5] * 16), HIGH))
    assert line.shape == (HEIGHT, WIDTH)
    rows = np.flatnonzero(line.any(1))
    assert rows.tolist() == [HEIGHT // 2 - 1, HEIGHT // 2]
    assert line[rows, INSET : WIDTH - INSET].all()
    assert not line[:, : INSET - 1].any()
    assert not line[:, WIDTH - INSET + 1 :].any()


def test_a_stroke_covers_its_width_and_no_more() -> None:
    cover = stroke(np.full(5, 20.0), WIDTH, HEIGHT)
    inside = cover[:, 2 * INSET : -2 * INSET]
    assert np.allclose(inside.sum(0), STROKE)
    assert np.allclose(inside[19:21], STROKE / 2)
    steep = stroke(np.linspace(0.0, HEIGHT, 2), WIDTH, HEIGHT)  # a slanted line is as thick across
    slope = HEIGHT / (WIDTH - 2 * INSET)
    across = steep[:, WIDTH // 2].sum() / np.hypot(1, slope)
    assert across == pytest.approx(STROKE, abs=slope / FINE)  # in a fine column it rises by so much


def test_a_step_is_where_it_should_be() -> None:
    length, at = 101, 30
    picture = grid(signals([1.0] * at + [-1.0] * (length - at)), HIGH)
    rows = middle_rows(picture)
    before, after = rows[INSET + 1], rows[-INSET - 2]
    margin = 0.06 * HEIGHT / 1.12  # of 1 + 2 x 0.06 heights
    assert before == pytest.approx(margin - 0.5, abs=0.5)
    assert after == pytest.approx(HEIGHT - margin - 0.5, abs=0.5)
    fall = np.flatnonzero(drawn(picture).sum(0) > HEIGHT // 4)
    there = INSET + (at - 0.5) / (length - 1) * (WIDTH - 2 * INSET)
    assert abs(fall.mean() + 0.5 - there) < 1


def test_a_sine_is_a_sine() -> None:
    t = np.linspace(0, 2 * np.pi, 500)
    rows = middle_rows(grid(signals(np.sin(t)), HIGH))[INSET + 1 : -INSET - 1]
    x = (np.arange(len(rows)) + 1.5) / (WIDTH - 2 * INSET) * 2 * np.pi
    expected = HEIGHT / 2 * (1 - np.sin(x) / 1.12) - 0.5
    assert np.abs(rows - expected).max() < 0.7  # pixels are whole


def test_no_value_of_a_long_signal_is_lost_between_two_columns() -> None:
    values = np.zeros(100_000)
    values[33_333] = 1.0
    values[::50] = -1.0  # the scale holds 99.8% of the values: -1 belongs to them
    picture = grid(signals(values), HIGH)
    column = INSET + (WIDTH - 2 * INSET) // 3
    assert drawn(picture)[: HEIGHT // 4, column - 1 : column + 2].any()


def test_all_cells_have_one_scale() -> None:
    picture = grid(signals([0.0] * 8, [1.0] * 8, [0.25] * 8), HIGH, columns=3)
    assert picture.size == (3 * WIDTH + 2 * GAP, HEIGHT)
    at = [np.nanmean(middle_rows(picture)[start + 20 : start + 180]) for start in (0, 208, 416)]
    assert at[0] > at[2] > at[1]
    assert (at[0] - at[2]) / (at[0] - at[1]) == pytest.approx(0.25, abs=0.02)
    assert middle_rows(each(signals([0.0] * 8, [1.0] * 8), HIGH)[0])[100] == pytest.approx(at[0], abs=0.5)


def test_a_few_strays_do_not_flatten_the_rest() -> None:
    values = np.sin(np.arange(10_000.0))
    values[5000] = 1e6
    assert limits_of(values) == pytest.approx((-1.12, 1.12), abs=0.01)


def test_zero_is_marked_where_it_is_seen() -> None:
    grey = (128, 128, 128)

    def marked(x: torch.Tensor, units: Real) -> np.ndarray:
        return np.flatnonzero(drawn(grid(x, units), grey).any(1))

    both = signals([1.0] * 8 + [-1.0] * 8)
    assert marked(both, PLAIN).tolist() == [HEIGHT // 2]
    assert len(marked(both, HIGH)) == 0


def test_channels_are_lines_in_one_cell_each_in_its_colour() -> None:
    x = torch.arange(3.0).view(1, 3, 1).expand(1, 3, 16)
    picture = grid(x, Real((100.0,) * 3, (1.0,) * 3))
    assert picture.size == (WIDTH, HEIGHT)
    rows = [np.nanmean(middle_rows(picture, colour)) for colour in PALETTE[:3]]
    assert rows[0] > rows[1] > rows[2]
    assert rows[1] == pytest.approx(HEIGHT / 2 - 0.5, abs=0.5)


def test_of_many_channels_the_first_six_are_drawn() -> None:
    x = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(0))
    nine, six = (Real((0.0,) * n, (1.0,) * n) for n in (9, 6))
    assert grid(x, nine) == grid(x[:, :6], six)


def test_channels_in_units_of_their_own_are_drawn_in_those_of_the_network() -> None:
    weather = Real((288.1, 101_325.0), (6.4, 900.0), shown=2.5)
    assert not have_one_scale(weather)
    assert have_one_scale(Real((0.01, -0.02), (1.0, 1.3)))
    t = torch.linspace(0, 6.28, 64)
    picture = grid(torch.stack([t.sin(), t.cos()])[None], weather)
    for colour in PALETTE[:2]:
        assert np.ptp(np.flatnonzero(drawn(picture, colour).any(1))) > HEIGHT / 2


def test_a_strip_has_series_in_rows_and_one_scale() -> None:
    upper, lower = signals([2.0] * 8, [0.0] * 8), signals([0.0] * 8, [0.0] * 8)
    strip = film_strip([upper, lower], HIGH)
    assert strip.size == (2 * STILL + GAP, 2 * HEIGHT + GAP)
    top, bottom = (part for part in (strip.crop((0, 0, 288, 80)), strip.crop((0, 88, 288, 168))))
    assert np.nanmean(middle_rows(top)[:STILL]) < 10
    assert np.nanmean(middle_rows(top)[STILL + GAP :]) > HEIGHT - 10
    assert np.nanmean(middle_rows(bottom)) > HEIGHT - 10


def test_a_signal_is_seen_where_noise_began_eighty_times_as_large() -> None:
    noise = torch.randn(1, 1, 64, generator=torch.Generator().manual_seed(0))
    clean = 1.4 * torch.linspace(0, 12, 64).sin().view(1, 1, -1)
    strip = walk_strip([[clean + 80 * noise, clean + 5 * noise, clean]], HIGH)
    last = drawn(strip)[:, -STILL:]
    assert np.ptp(np.flatnonzero(last.any(1))) > HEIGHT / 3


def test_signals_on_their_way_are_not_held_to_the_levels_of_the_data() -> None:
    x = signals(np.linspace(-3, 3, 64))
    rows = middle_rows(film_strip([x], Levels(2)))[INSET + 1 : STILL - INSET - 1]
    straight = np.linspace(rows[0], rows[-1], len(rows))
    assert np.abs(rows - straight).max() < 1  # no plateau beyond -1 and 1
    assert rows[0] - rows[-1] > HEIGHT / 2
    held = middle_rows(grid(x, Levels(2)))
    assert len(np.unique(held[INSET : WIDTH // 3])) == 1  # and here there are two levels


def test_what_is_not_finite_leaves_a_gap() -> None:
    values = np.sin(np.linspace(0, 6, 60))
    values[20:40] = np.nan
    values[45] = np.inf
    line = np.asarray(drawn(grid(signals(values), HIGH)).any(0))
    assert line[10:60].all()
    assert not line[75:125].any()
    assert not drawn(grid(signals([np.nan] * 8), HIGH)).any()


def test_a_single_value_is_a_flat_line() -> None:
    assert drawn(grid(signals([0.5]), HIGH))[HEIGHT // 2, INSET : WIDTH - INSET].all()


def test_a_channel_by_itself_keeps_its_colour_and_says_its_ends() -> None:
    units = Real((10.0, 1000.0), (1.0, 50.0))
    x = torch.stack([torch.linspace(-1, 1, 32), torch.linspace(0, 2, 32)])[None]
    found = view_of((2, 32)).channel(x, units, 1)
    assert found is not None
    assert drawn(found.picture, PALETTE[1]).any()
    assert not drawn(found.picture, PALETTE[0]).any()
    assert (found.low, found.high) == pytest.approx((994.0, 1106.0), abs=0.3)  # 1000 to 1100, and 6% beyond
