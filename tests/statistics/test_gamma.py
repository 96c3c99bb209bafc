"""Tails of the chi-square law against closed forms and printed tables."""

import math

import numpy as np
import pytest

from kakusan.statistics.gamma import chi_square_tail


@pytest.mark.parametrize("x", [1e-8, 0.3, 1, 2, 5, 30, 200])
def test_even_degrees_are_sums_of_poisson_probabilities(x: float) -> None:
    for half in (1, 2, 7, 60):
        terms = [math.exp(-x / 2 + k * math.log(x / 2) - math.lgamma(k + 1)) for k in range(half)]
        assert chi_square_tail(x, 2 * half) == pytest.approx(math.fsum(terms), rel=1e-11, abs=1e-300)


@pytest.mark.parametrize("x", [0.01, 0.5, 1, 3.841458820694124, 10, 40])
def test_one_degree_is_a_squared_normal_variable(x: float) -> None:
    assert chi_square_tail(x, 1) == pytest.approx(math.erfc(math.sqrt(x / 2)), rel=1e-12)


def test_many_degrees_are_nearly_normal() -> None:
    """By Wilson & Hilferty 1931, whose error falls as 1 / degrees."""
    degrees = 20_000.0
    for z in (-2.0, 0.0, 1.5):
        x = degrees * (1 - 2 / (9 * degrees) + z * math.sqrt(2 / (9 * degrees))) ** 3
        assert chi_square_tail(x, degrees) == pytest.approx(math.erfc(z / math.sqrt(2)) / 2, abs=1e-5)


def test_ends_and_what_has_no_tail() -> None:
    found = chi_square_tail([0, np.inf, 1, -1, np.nan], [3, 3, 0, 3, 3])
    assert found[:2].tolist() == [1, 0]
    assert np.isnan(found[2:]).all()
