"""Coverage, ranks, CRPS and spread against closed forms of Gaussian and uniform ensembles."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kakusan.errors import DataError
from kakusan.statistics.clusters import share_of
from kakusan.statistics.ensembles import LEVELS, Ensemble, ranks_of, scores_of

Floats = NDArray[np.float64]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def clustered(n: int, members: int, values: int, factor: float = 1.0, seed: int = 0) -> Ensemble:
    """Values of variance 1 that share half of it within a cluster; members are `factor` times as wide as the truth."""
    draw = rng(seed)
    truth = (draw.standard_normal((n, 1)) + draw.standard_normal((n, values))) * math.sqrt(0.5)
    common = draw.standard_normal((n, members, 1))
    samples = (common + draw.standard_normal((n, members, values))) * math.sqrt(0.5)
    return Ensemble(factor * samples, truth)


def gaussian_coverage(level: float, factor: float) -> float:
    """Of N(0, 1) by the central interval of N(0, factor^2), infinitely many members."""
    low, high = 0.0, 10.0
    while high - low > 1e-12:
        low, high = (m, high) if math.erf((m := (low + high) / 2) / math.sqrt(2)) < level else (low, m)
    return math.erf(factor * low / math.sqrt(2))


@pytest.mark.parametrize("members", [5, 19, 32, 39])
def test_a_calibrated_ensemble_of_any_size_has_the_coverage_that_is_said(members: int) -> None:
    """Independent values: the error of a share of 200,000 is 0.0011 at the most; four of them are allowed."""
    draw = rng(members)
    ranks = ranks_of(Ensemble(draw.random((2000, members, 100)), draw.random((2000, 100))))
    for coverage in [*map(ranks.coverage, LEVELS), *ranks.curve()]:
        assert coverage.share.value == pytest.approx(coverage.level, abs=4 * 0.0011)
        assert coverage.level <= coverage.asked + 1e-12


def test_levels_are_those_asked_for_as_far_as_the_members_reach() -> None:
    ranks = ranks_of(clustered(4, 39, 3))
    assert [ranks.coverage(level).level for level in LEVELS] == pytest.approx(LEVELS, abs=1e-12)
    few = ranks_of(clustered(4, 9, 3))
    assert few.coverage(0.95).level == pytest.approx(0.8)  # from the least to the largest of 9
    assert few.coverage(0.7).level == pytest.approx(0.7)  # between 0.6 and 0.8


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_coverage_of_a_spread_that_is_wrong_is_that_of_the_closed_form(factor: float) -> None:
    """With 399 members an interval is that of the law up to the error of its ends, which costs less than 0.005."""
    ranks = ranks_of(clustered(2000, 399, 4, factor))
    for level in LEVELS:
        share = ranks.coverage(level).share
        assert share.value == pytest.approx(gaussian_coverage(level, factor), abs=0.005 + share.reach)


def test_the_interval_of_a_coverage_holds_the_level_in_95_of_100_calibrated_ensembles() -> None:
    """Values within a cluster are correlated. 400 ensembles: the error of the rate is 0.011; three of them."""
    found = [ranks_of(clustered(24, 19, 50, seed=seed)).coverage(0.9) for seed in range(400)]
    rate = np.mean([c.holds for c in found])
    assert 0.95 - 0.033 <= rate <= 0.985
    in_band = np.mean([c.band[0] <= c.share.value <= c.band[1] for c in found])
    assert 0.95 - 0.05 <= in_band <= 0.99
    values = np.array([c.share.independent for c in found])
    assert 24 <= np.median(values) < 24 * 50 / 2  # half of the variance is common: far from 1,200 values


def test_ranks_of_calibrated_ensembles_surprise_as_seldom_as_they_say() -> None:
    """At 5 %, in 300 cases, three errors of the rate are 4 %; values within a cluster are correlated."""
    p = [ranks_of(clustered(40, 19, 30, seed=seed)).histogram(10).p for seed in range(300)]
    assert 0.01 <= np.mean(np.array(p) < 0.05) <= 0.09
    assert ranks_of(clustered(40, 19, 30, 0.6)).histogram(10).p < 1e-3


def test_ranks_are_shares_of_all_values_and_bins_sum_to_one() -> None:
    ranks = ranks_of(clustered(10, 32, 7))
    histogram = ranks.histogram()
    assert ranks.counts.sum() == 70
    assert histogram.expected.sum() == pytest.approx(1)
    assert sum(share.value for share in histogram.shares) == pytest.approx(1)
    assert histogram.edges[[0, -1]].tolist() == [0, 33]


def test_equal_values_are_ranked_by_a_seeded_draw_and_nothing_is_learned_of_what_is_all_equal() -> None:
    draw = rng(1)
    binary = Ensemble(draw.integers(0, 2, (4000, 9, 3)), draw.integers(0, 2, (4000, 3)))
    ranks = ranks_of(binary, seed=5)
    assert (ranks.counts == ranks_of(binary, seed=5).counts).all()
    assert ranks.equal == pytest.approx(2**-9, abs=3 * math.sqrt(2**-9 / 12_000))
    shares = ranks.counts.sum(0) / ranks.counts.sum()
    assert shares == pytest.approx(0.1, abs=4 * math.sqrt(0.09 / 12_000))
    same = ranks_of(Ensemble(np.ones((3, 5, 2)), np.ones((3, 2))))
    assert same.equal == 1
    assert math.isnan(same.coverage(0.9).share.value)
    near = Ensemble(np.ones((3, 5, 2)) + 1e-7, np.ones((3, 2)))
    assert ranks_of(near, rounding=1e-6).equal == 1
    assert ranks_of(near).counts[:, 0].sum() == 6  # below all members


def gaussian_crps(y: Floats, sigma: float) -> Floats:
    """Of N(0, sigma^2) at y (Gneiting & Raftery 2007, section 4.2)."""
    z = y / sigma
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    below = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in z])
    score: Floats = sigma * (z * (2 * below - 1) + 2 * density - 1 / math.sqrt(math.pi))
    return score


def test_fair_crps_is_that_of_the_law_and_the_standard_one_larger_by_its_share() -> None:
    """E of the standard score is that of the law and E|X - X'| / (2 M), 2 sigma / sqrt(pi) / (2 M) of a Gaussian."""
    members, sigma = 7, 1.3
    draw = rng(2)
    y = draw.standard_normal(40_000)
    found = scores_of(Ensemble(sigma * draw.standard_normal((40_000, members, 1)), y[:, None]))
    expected = gaussian_crps(y, sigma).mean()
    assert found.fair_crps.value == pytest.approx(expected, abs=2 * found.fair_crps.reach)
    assert found.crps.value - found.fair_crps.value == pytest.approx(
        sigma / math.sqrt(math.pi) / members, rel=0.01
    )


def test_crps_is_the_integral_of_the_squared_difference_of_the_distributions() -> None:
    draw = rng(3)
    x, y = draw.standard_normal(6), 0.3
    grid = np.linspace(-6, 6, 240_001)
    steps = (x[:, None] <= grid).mean(0) - (grid >= y)
    integral = float(np.square(steps).sum() * (grid[1] - grid[0]))
    found = scores_of(Ensemble(x[None, :, None], np.array([[y]])))
    assert found.crps.value == pytest.approx(integral, abs=1e-4)  # of the grid


def test_crps_of_each_truth() -> None:
    whole = clustered(5, 7, 3)
    truth = whole.truth.copy()
    truth[2] = np.nan
    found = scores_of(Ensemble(whole.samples, truth))
    assert math.isnan(found.each[2])
    for k in (0, 1, 3, 4):
        alone = scores_of(Ensemble(whole.samples[[k]], truth[[k]]))
        assert found.each[k] == alone.fair_crps.value
    assert np.nanmean(found.each) == pytest.approx(found.fair_crps.value, rel=1e-12)
    assert found.as_json()["fair_crps_of_each"][0] == found.each[0]


def test_spread_over_error_is_one_with_few_members_too() -> None:
    for members in (2, 4, 39):
        found = scores_of(clustered(3000, members, 5, seed=members)).spread_skill
        assert found.low <= 1 <= found.high
        assert found.reach < 0.04
    half = scores_of(clustered(4000, 39, 5, 0.5)).spread_skill
    expected = math.sqrt(40 / 39) * 0.5 / math.sqrt(1 + 0.25 / 39)
    assert half.value == pytest.approx(expected, abs=2 * half.reach)


def test_missing_values_do_not_count() -> None:
    whole = clustered(6, 9, 4)
    truth, samples = whole.truth.copy(), whole.samples.copy()
    wide = Ensemble(
        np.concatenate([samples, np.full((6, 9, 2), 7.0)], axis=2),
        np.concatenate([truth, np.full((6, 2), np.nan)], axis=1),
    )
    assert scores_of(wide) == scores_of(whole)
    assert (ranks_of(wide).counts.sum(1) == 4).all()
    nothing = scores_of(Ensemble(samples, np.full_like(truth, np.nan)))
    assert math.isnan(nothing.crps.value)
    assert math.isnan(nothing.spread_skill.value)


def test_tensors_are_ensembles_too() -> None:
    whole = clustered(3, 5, 4)
    again = Ensemble(torch.from_numpy(whole.samples), torch.from_numpy(whole.truth).requires_grad_())
    assert scores_of(again) == scores_of(whole)


@pytest.mark.parametrize(
    ("samples", "truth"),
    [
        (np.zeros((3, 4, 2)), np.zeros((3, 3))),
        (np.zeros((3, 1, 2)), np.zeros((3, 2))),
        (np.zeros((0, 4, 2)), np.zeros((0, 2))),
        (np.full((3, 4, 2), np.inf), np.zeros((3, 2))),
    ],
)
def test_what_is_no_ensemble_is_refused(samples: Floats, truth: Floats) -> None:
    with pytest.raises(DataError):
        Ensemble(samples, truth)


def test_a_share_of_single_values_has_wilsons_interval() -> None:
    """8 of 10: 0.4902 to 0.9433 with a normal quantile (Agresti & Coull 1998); Student's with 9 degrees is wider."""
    share = share_of(np.array([1.0] * 8 + [0] * 2), np.ones(10))
    assert share.independent == pytest.approx(9, abs=1.01)
    assert share.low < 0.4902 < 0.9433 < share.high
    many = share_of(np.array([1.0] * 800 + [0] * 200), np.ones(1000))
    half = 1.962 * math.sqrt(0.16 / 1000)
    assert (many.low, many.high) == pytest.approx((0.8 - half, 0.8 + half), abs=2e-3)  # Wilson's is skewed


def test_a_share_of_nothing_or_of_one_cluster_knows_its_limits() -> None:
    assert math.isnan(share_of(np.zeros(3), np.zeros(3)).value)
    alone = share_of(np.array([90.0]), np.array([100.0]))
    assert alone.independent == 1
    assert alone.high - alone.low > 0.9
    none = share_of(np.zeros(20), np.full(20, 50.0))
    assert none.low == 0
    assert 0.1 < none.high < 0.2  # as of 20 values
