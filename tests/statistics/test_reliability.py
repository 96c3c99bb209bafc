"""Reliability of few levels: calibrated ensembles seldom surprise, coins and pushed probabilities are seen."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from kakusan.statistics.ensembles import Ensemble, ranks_of
from kakusan.statistics.reliability import Reliability, reliability_of

Floats = NDArray[np.float64]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def reliability(samples: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Reliability:
    found = reliability_of(Ensemble(samples.astype(float), truth.astype(float)))
    assert found is not None
    return found


def fields(n: int, members: int, seed: int) -> NDArray[np.bool_]:
    """(n, members + 1, 100) of 2 levels, all of one law: half of the variance below a threshold is of a whole field."""
    draw = rng(seed)
    common = draw.standard_normal((n, members + 1, 1)) + 2 * draw.standard_normal((n, 1, 100))
    return common + draw.standard_normal((n, members + 1, 100)) > 0


@pytest.mark.parametrize("n", [8, 32])
def test_calibrated_levels_surprise_as_seldom_as_they_say(n: int) -> None:
    """At 5 %, in 200 cases, three errors of the rate are 4.6 %; values within a cluster are correlated.

    Bands of 8 clusters are a little narrow, since Student's t takes their differences for Gaussian.
    """
    found = [reliability(x[:, 1:], x[:, 0]) for x in (fields(n, 19, seed) for seed in range(200))]
    assert 0.004 <= np.mean([each.p < 0.05 for each in found]) <= 0.096
    within = [b.band[0] <= b.found.value <= b.band[1] for each in found for b in each.bins]
    assert (0.87 if n == 8 else 0.92) <= np.mean(within) <= 0.985


def test_shares_of_a_calibrated_ensemble_are_those_of_the_truth_with_few_members_too() -> None:
    """Probabilities are uniform: of 3 members and the truth S are above with probability 1/5 each, S = 0 to 4."""
    draw = rng(1)
    probability = draw.random((500, 1, 200))
    x = draw.random((500, 4, 200)) < probability
    found = reliability(x[:, 1:], x[:, 0])
    assert [each.expected for each in found.bins] == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    for each in found.bins:
        assert each.found.value == pytest.approx(each.expected, abs=5 * math.sqrt(0.25 / 20_000))
        assert each.count == pytest.approx(20_000, rel=0.05)


@pytest.mark.parametrize("probability", [0.02, 0.1, 0.3])
def test_coins_are_not_reliable_though_their_ranks_reach_as_far(probability: float) -> None:
    draw = rng(2)
    samples, truth = draw.random((100, 39, 400)) < 0.5, draw.random((100, 400)) < probability
    found = reliability(samples, truth)
    assert found.p < 1e-10
    assert found.worst.expected - found.worst.found.value == pytest.approx(0.5 - probability, abs=0.15)
    assert ranks_of(Ensemble(samples.astype(float), truth.astype(float))).coverage(0.9).holds  # cannot fail


@pytest.mark.parametrize("power", [0.5, 2.0, 50.0])
def test_probabilities_that_are_pushed_apart_or_together_are_seen(power: float) -> None:
    draw = rng(3)
    right = draw.random((30, 1, 200))
    pushed = right**power / (right**power + (1 - right) ** power)
    truth = (draw.random((30, 1, 200)) < right)[:, 0]
    found = reliability(draw.random((30, 39, 200)) < pushed, truth)
    assert found.p < 1e-4
    lowest = found.bins[0]
    assert (lowest.found.value > lowest.band[1]) == (power > 1)
    assert (lowest.found.value < lowest.band[0]) == (power < 1)


def test_levels_are_few_or_there_is_no_figure() -> None:
    draw = rng(4)
    for levels in (2, 3, 4):
        x = draw.integers(0, levels, (40, 10, 60)) * 85.0
        found = reliability_of(Ensemble(x[:, 1:], x[:, 0]))
        assert found is not None
        assert found.levels == tuple(85.0 * k for k in range(levels))
        assert sum(each.count for each in found.bins) == 40 * 60 * (levels - 1)
    five = draw.integers(0, 5, (40, 10, 60)).astype(float)
    assert reliability_of(Ensemble(five[:, 1:], five[:, 0])) is None
    assert reliability_of(Ensemble(draw.standard_normal((3, 4, 5)), np.zeros((3, 5)))) is None
    assert reliability_of(Ensemble(np.ones((3, 4, 5)), np.ones((3, 5)))) is None


def test_missing_values_do_not_count_and_few_truths_have_no_band() -> None:
    x = fields(8, 9, 0).astype(float)
    gaps = np.concatenate([x, np.full((8, 10, 3), np.nan)], axis=2)
    assert reliability_of(Ensemble(gaps[:, 1:], gaps[:, 0])) == reliability_of(Ensemble(x[:, 1:], x[:, 0]))
    few = reliability(x[:2, 1:] > 0, x[:2, 0] > 0)
    assert math.isinf(few.width)
    sure = np.broadcast_to(np.arange(4) % 2 > 0, (8, 10, 4))
    assert math.isnan(reliability(sure[:, 1:], sure[:, 0]).p)
