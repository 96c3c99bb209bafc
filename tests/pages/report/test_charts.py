"""The charts: where things stand, and what they do with gaps in the figures."""

import math
import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from kakusan.pages.report.charts import (
    column,
    log_snr_curves,
    loss_by_time,
    loss_over_steps,
    loss_stretches,
    moving_mean,
    power_spectrum,
    ratio_histogram,
    signal_and_noise,
    small_series,
)
from kakusan.pages.report.content import Power
from kakusan.pages.svg import Frame, Scale

NAN = math.nan


def rows(count: int = 100, **extra: Any) -> list[dict[str, Any]]:
    return [{"step": i, "loss": 1.0 / i, **extra} for i in range(1, count + 1)]


def numbers(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path)]


def paths(chart: str, style: str) -> list[list[tuple[float, float]]]:
    """The points of every path of this class."""
    return [numbers(e.get("d", "")) for e in ET.fromstring(chart).iter("path") if e.get("class") == style]


@pytest.mark.parametrize(
    ("scale", "about", "ticks"),
    [
        (Scale(0, 1), 6, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (Scale(0, 2800), 6, [0, 500, 1000, 1500, 2000, 2500]),
        (Scale(0, 7), 4, [0, 2, 4, 6]),
        (Scale(-2, 0), 6, [-2, -1.5, -1, -0.5, 0]),
        (Scale(0.01, 1, log=True), 3, [0.01, 0.1, 1]),
        (Scale(0.04, 0.6, log=True), 4, [0.05, 0.1, 0.2, 0.5]),
        (Scale(0.4, 0.9, log=True), 3, [0.4, 0.6, 0.8]),
    ],
)
def test_ticks_are_round(scale: Scale, about: int, ticks: list[float]) -> None:
    assert scale.ticks(about) == ticks


def test_a_logarithmic_scale_spaces_ratios_evenly() -> None:
    assert Scale(0.01, 100, log=True).at(np.array([0.01, 1, 100])).tolist() == pytest.approx([0, 0.5, 1])


def test_a_line_runs_from_corner_to_corner_and_breaks_at_gaps() -> None:
    frame = Frame(x=Scale(0, 4), y=Scale(0, 1), x_name="x")
    line = frame.line(np.arange(5.0), np.array([0, 0.25, NAN, 0.75, 1]), "accent")
    assert line.count("M") == 2
    (x_0, y_0), _, _, (x_4, y_4) = numbers(line)
    assert (x_4, y_4) == (350, 8)
    assert y_0 == 236 - 42
    assert x_0 > 0


def test_a_long_line_keeps_its_extremes_and_not_its_length() -> None:
    frame = Frame(x=Scale(0, 1e5), y=Scale(0, 1), x_name="x")
    y = np.full(100_000, 0.5)
    y[77_777], y[12_345] = 1, 0
    points = numbers(frame.line(np.arange(1e5), y, ""))
    assert len(points) <= 800
    assert {y for _, y in points} == {8, 101, 194}


def test_words_in_a_chart_are_escaped() -> None:
    frame = Frame(x=Scale(0, 1), y=Scale(0, 1), x_name="<script>")
    dots = frame.dots(np.array([0.5]), np.array([0.5]), "accent", ["<b>&"])
    chart = ET.fromstring(frame.close('"><img>', dots))
    assert chart.get("aria-label") == '"><img>'
    assert {element.tag for element in chart.iter()} == {"svg", "path", "text", "circle", "title"}


def test_the_loss_chart_falls_from_left_to_right_with_dots_where_held_out_was_measured() -> None:
    measured = [row | ({"held_out_loss": 0.5} if row["step"] % 25 == 0 else {}) for row in rows()]
    chart = loss_over_steps(measured)
    (raw,), (smooth,) = paths(chart, "line accent faint"), paths(chart, "line accent")
    assert len(raw) == len(smooth) == 100
    assert all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(smooth))
    assert chart.count("<circle") == 4


def test_lines_about_something_else_do_not_break_the_curves() -> None:
    lines = rows(30, gradient_norm=1.0)
    for step in (9, 19, 29):
        lines.insert(step, {"step": step, "training_loss": 0.4, "held_out_loss": 0.5})
    chart = loss_over_steps(lines)
    assert chart.count("<circle") == 6
    assert ET.fromstring(chart).find("path[@class='line accent faint']").get("d", "").count("M") == 1  # type: ignore[union-attr]
    assert small_series(lines, "gradient_norm", "").count("L") == 29


@pytest.mark.parametrize(
    "lines", [[], [{"step": 1}], [{"step": 1, "loss": None}], [{"loss": NAN, "step": 2}]]
)
def test_without_losses_there_is_no_chart(lines: list[dict[str, Any]]) -> None:
    assert loss_over_steps(lines) == ""
    assert loss_by_time(lines, 1000) == ""
    assert small_series(lines, "gradient_norm", "") == ""


@pytest.mark.parametrize("loss", [0.5, 0.0, -2.0, 1e-30, 1e30])
def test_a_single_line_of_metrics_is_enough(loss: float) -> None:
    for chart in (
        loss_over_steps([{"step": 1, "loss": loss}]),
        loss_by_time([{"step": 1, "loss_by_t": [loss, None, loss]}], None),
    ):
        assert "nan" not in chart
        assert ET.fromstring(chart) is not None


def test_lines_that_miss_a_figure_leave_a_gap_only_there() -> None:
    lines = rows(6)
    lines[2]["loss"] = None
    lines[3]["step"] = None
    assert [len(path) for path in paths(loss_over_steps(lines), "line accent faint")] == [4]


def test_the_moving_mean_is_over_the_last_entries_and_passes_over_gaps() -> None:
    assert moving_mean(np.array([3.0, 1, 2, 6, NAN, 1])).tolist() == [3, 2, 2, 3, 4, 3.5]
    assert np.isnan(moving_mean(np.array([NAN, 1.0]))).tolist() == [True, False]


def test_what_is_no_number_counts_as_missing() -> None:
    values = column([{"a": 1}, {"a": None}, {"a": "NaN"}, {}, {"a": math.inf}, {"a": 2.5}], "a")
    assert np.array_equal(values, [1, NAN, NAN, NAN, NAN, 2.5], equal_nan=True)


def test_stretches_of_the_run_average_the_parts_of_t_each_on_its_own() -> None:
    lines = [{"step": i, "loss_by_t": [float(i), None if i % 2 else 8.0]} for i in range(1, 33)]
    stretches = loss_stretches(lines)
    assert [label for label, _ in stretches] == ["step 2", "steps 5 to 8", "steps 17 to 32"]
    assert [means.tolist() for _, means in stretches] == [[2, 8], [6.5, 8], [24.5, 8]]


def test_the_stairs_by_t_span_1_to_t() -> None:
    (stairs,) = paths(loss_by_time([{"step": 1, "loss_by_t": [4.0, 2.0]}], 1000), "line accent")
    (x_0, y_0), (x_1, y_1), (x_2, y_2), (x_3, y_3) = stairs
    assert (y_0, x_1, y_2) == (y_1, x_2, y_3)
    assert x_2 - x_0 == pytest.approx(x_3 - x_2, abs=0.11)


def test_a_learned_log_snr_is_drawn_with_two_others_or_not_at_all() -> None:
    curves = {"learned": [4.0, 1.0, -2.0], "linear": [3.0, 0.0, -6.0], "cosine": [2.0, 0.0, -2.0]}
    chart = log_snr_curves(curves)
    (learned,), (linear,), (cosine,) = (
        paths(chart, f"line {s}") for s in ("accent", "second", "second faint")
    )
    assert learned[0][1] < linear[0][1] < cosine[0][1]  # y grows downwards
    assert learned[-1] == cosine[-1]
    assert log_snr_curves({}) == ""


def test_signal_and_noise_are_one_together() -> None:
    """The squares of the two curves add up to 1, read off the chart."""
    table = np.linspace(1, 0, 21).tolist()
    chart = signal_and_noise(table, [0, 10, 20, 99])
    (signal,), (noise,) = paths(chart, "line accent"), paths(chart, "line second")
    height = 190 - 42 - 8
    squares = [
        ((190 - 42 - a) / height) ** 2 + ((190 - 42 - b) / height) ** 2
        for (_, a), (_, b) in zip(signal, noise, strict=True)
    ]
    np.testing.assert_allclose(squares, 1, atol=2e-3)  # a tenth of a pixel of 140
    assert chart.count("<circle") == 6


def test_the_histogram_stands_on_its_axis_and_reaches_its_share() -> None:
    chart = ratio_histogram([0.1] * 5 + [0.99] * 15, [0.5], 1 / 3)
    (area,) = paths(chart, "area accent")
    floor, top = 200 - 42, 8
    heights = [
        (floor - y) / (floor - top) * 115 for _, y in area
    ]  # held out: all 100 % in one bin, plus room
    assert sorted({round(height) for height in heights}) == [0, 25, 75]
    assert "copies" in chart
    assert ratio_histogram([], [], 1 / 3) == ""


def test_a_spectrum_is_drawn_with_its_interval_and_without_what_has_no_power() -> None:
    power = Power(name="p", samples=[4, 1, 0], samples_error=[0.1, 0.1, 0], real=[4, 2, 1e-3])
    chart = power_spectrum([0.1, 0.2, 0.5], power)
    assert chart.count('class="line accent faint"') == 2
    assert chart.count('class="line second"') == 1
    assert "nan" not in chart
    assert power_spectrum([0.1, 0.2], Power(name="p", samples=[0, 0], samples_error=[0, 0])) == ""
    assert power_spectrum([0.1], Power(name="p", samples=[1], samples_error=[0])) == ""
