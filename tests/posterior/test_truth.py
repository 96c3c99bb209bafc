"""Samples beside the truth, of cases known in closed form."""

import math

import numpy as np
import pytest

from kakusan.run.truth import beside


def test_samples_of_the_law_of_the_truth_hold_it_as_often_as_they_say() -> None:
    """10,000 values of N(0, 1), 19 samples of each: the error of their mean is sqrt(20 / 19); 3 errors of the share."""
    draw = np.random.Generator(np.random.Philox(0))
    samples, truth = draw.standard_normal((1, 19, 100, 100)), draw.standard_normal((1, 100, 100))
    found = beside(samples, truth, None)
    assert found.level == pytest.approx(0.9)
    assert found.share == pytest.approx(0.9, abs=3 * math.sqrt(0.09 / 10_000))
    assert found.error == pytest.approx(math.sqrt(20 / 19), rel=0.03)
    assert found.spread == pytest.approx(1, rel=0.02)
    narrow = beside(0.5 * samples, truth, None)
    assert narrow.share < 0.66
    assert "intervals of 90 % hold" in narrow.words


def test_missing_values_and_single_samples_and_few_levels_have_no_intervals() -> None:
    samples, truth = np.ones((1, 3, 2, 2)), np.array([[[3.0, np.nan], [1.0, 1.0]]])
    found = beside(samples, truth, 2)
    assert math.isnan(found.share)
    assert found.error == pytest.approx(math.sqrt(4 / 3))
    assert "intervals" not in found.words
    single = beside(samples[:, :1], truth, None)
    assert math.isnan(single.spread)
    assert "spread" not in single.words
