"""The line of least squares, against points that lie on one and against the textbook's standard error."""

import math

import numpy as np
import pytest

from kakusan.statistics.fits import straight_line


def test_points_on_a_line_give_it_with_no_error() -> None:
    line = straight_line([1.0, 2.0, 4.0], [5.0, 3.0, -1.0])
    assert (line.slope, line.intercept, line.at(3.0)) == pytest.approx((-2.0, 7.0, 1.0), abs=1e-12)
    assert line.slope_error == pytest.approx(0, abs=1e-12)


def test_the_standard_error_is_that_of_repeated_draws() -> None:
    x, rng = np.linspace(0, 1, 12), np.random.default_rng(0)
    lines = [straight_line(x.tolist(), (x + rng.normal(0, 0.1, 12)).tolist()) for _ in range(2000)]
    truth = 0.1 / np.sqrt(12 * x.var())
    assert np.std([line.slope for line in lines]) == pytest.approx(truth, rel=0.05)  # 2000 draws: 1.6 %
    assert math.sqrt(np.mean([line.slope_error**2 for line in lines])) == pytest.approx(truth, rel=0.05)
    inside = np.mean([abs(line.slope - 1) <= line.reach for line in lines])
    assert inside == pytest.approx(0.95, abs=0.015)  # three standard errors of a share of 2000


def test_two_points_have_a_line_and_no_error() -> None:
    line = straight_line([0.0, 1.0], [0.0, 2.0])
    assert line.slope == 2
    assert math.isnan(line.slope_error)
    assert math.isnan(line.reach)


@pytest.mark.parametrize(
    ("x", "y"), [([], []), ([1.0], [1.0]), ([1.0, 1.0], [1.0, 2.0]), ([1.0, 2.0], [1.0])]
)
def test_no_line_goes_through_one_point(x: list[float], y: list[float]) -> None:
    with pytest.raises(ValueError, match="no line"):
        straight_line(x, y)
