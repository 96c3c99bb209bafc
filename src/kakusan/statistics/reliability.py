"""Reliability of an ensemble of few levels: is the truth at a level as often as the shares of the members say?

Where data have two levels and half of the members are at each, the truth equals half of them whatever it is: its rank
is nearly a draw by lot, and coverage and the ratio of spread to error are right whatever the truth is. Shares of levels
can be wrong: if S of the M + 1 values, the members and the truth, are above a threshold, then a calibrated truth is
above it with probability S / (M + 1), exactly, of few members too.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kakusan.statistics.clusters import Share, chi_square_of, share_of
from kakusan.statistics.ensembles import Ensemble
from kakusan.statistics.student import student_quantile

Floats = NDArray[np.float64]

MOST_LEVELS = 4
"""Different values up to which levels are few."""
BINS = 5
"""Of the share above a threshold, from 0 to 1."""
LEAST = 6
"""Clusters below which the chi-square can hardly surprise: at one degree of freedom it is at most their number."""


@dataclass(frozen=True)
class Bin:
    """Values whose share of members above a threshold, the truth counted as one of them, is within (least, most]."""

    least: float
    """0 of the first bin, which holds shares of 0 too."""
    most: float
    count: int
    found: Share
    """Of truths above the threshold."""
    expected: float
    """The same of a calibrated ensemble."""
    reach: float
    """95 % of calibrated ensembles are so near to what is expected; from the differences between clusters."""

    @property
    def band(self) -> tuple[float, float]:
        """The shares that are no surprise of a calibrated ensemble, in 95 of 100 cases."""
        return max(0.0, self.expected - self.reach), min(1.0, self.expected + self.reach)

    @property
    def off(self) -> float:
        """Distance of the share from what is expected, in half widths of the band; 0 where nothing varies."""
        away = abs(self.found.value - self.expected)
        return away / self.reach if self.reach > 0 else math.inf if away else 0.0

    def as_json(self) -> dict[str, Any]:
        """The numbers by name."""
        return {
            "members": [self.least, self.most],
            "count": self.count,
            **self.found.as_json(),
            "expected": self.expected,
            "band": list(self.band),
        }


@dataclass(frozen=True)
class Reliability:
    """Truths above thresholds between levels, against the members: `reliability_of` makes one."""

    levels: tuple[float, ...]
    bins: tuple[Bin, ...]
    """Those that hold values."""
    chi_square: float
    """Of all bins, corrected for what is common to a cluster (Rao & Scott 1984)."""
    degrees: float
    """Of freedom, likewise: at most the number of bins."""
    p: float
    """Probability of a chi-square as large, of a calibrated ensemble; nan where nothing varies."""
    width: float
    """Mean width of the bands, in shares of the values of which truth and members are not all on one side; infinite of
    fewer truths than the chi-square needs."""

    @property
    def worst(self) -> Bin:
        """The bin that is furthest off."""
        return max(self.bins, key=lambda each: each.off)

    def as_json(self) -> dict[str, Any]:
        """The numbers by name."""
        return {
            "levels": list(self.levels),
            "bins": [each.as_json() for each in self.bins],
            "chi_square": self.chi_square,
            "degrees": self.degrees,
            "p": self.p,
            "width": self.width,
        }


def reliability_of(ensemble: Ensemble, most: int = MOST_LEVELS) -> Reliability | None:
    """Of an ensemble of 2 to `most` different values; of all others None.

    Each value counts once for each threshold between two levels. Clusters are truths: values of one may depend on each
    other in any way.
    """
    levels = _levels_of(ensemble, most)
    if len(levels) < 2:
        return None
    # (clusters, bins), sums over values: truths above, expected truths above, variance, number; and the unsure ones
    columns = [_sums(x, truth, levels[1:]) for x, truth in ensemble.rows() if len(truth)]
    hits, expected, variance, counts = (np.array([c[k] for c in columns]) for k in range(4))
    unsure = sum(c[4] for c in columns)
    away, n = hits - expected, len(columns)
    spread = away.std(0, ddof=1) if n > 1 else np.full(BINS, np.inf)
    reach = student_quantile(n - 1) * math.sqrt(n) * spread
    totals = counts.sum(0)
    bins = tuple(
        Bin(
            k / BINS,
            (k + 1) / BINS,
            int(totals[k]),
            share_of(hits[:, k], counts[:, k]),
            float(expected[:, k].sum() / totals[k]),
            float(reach[k] / totals[k]),
        )
        for k in range(BINS)
        if totals[k]
    )
    width = 2 * float(reach.sum()) / unsure if unsure and n >= LEAST else math.inf
    return Reliability(levels, bins, *_surprise(away, variance.sum(0)), width)


def _levels_of(ensemble: Ensemble, most: int) -> tuple[float, ...]:
    """All different values in order, of members and truths; none where there are more than `most`."""
    found: set[float] = set()
    for x, truth in ensemble.rows():
        found |= {*np.unique(truth).tolist()}
        if len(found) <= most:
            found |= {*np.unique(x).tolist()}
        if len(found) > most:
            return ()
    return tuple(sorted(found))


def _sums(
    x: Floats, truth: Floats, thresholds: tuple[float, ...]
) -> tuple[Floats, Floats, Floats, Floats, int]:
    """Of one cluster, for each bin: truths above, expected truths above, their variance, number; number unsure."""
    values = np.concatenate([truth[None], x])
    above = np.concatenate([values >= threshold for threshold in thresholds], axis=1)
    of, members = above.sum(0), len(values)
    share = of / members
    within = np.maximum(-(-BINS * of // members) - 1, 0)  # in whole numbers: a share of 0.6 is in one bin

    def summed(what: NDArray[Any]) -> Floats:
        return np.bincount(within, what, minlength=BINS).astype(np.float64)

    unsure = int(((of > 0) & (of < members)).sum())
    return summed(above[0]), summed(share), summed(share * (1 - share)), summed(np.ones_like(share)), unsure


def _surprise(away: Floats, variance: Floats) -> tuple[float, float, float]:
    """Chi-square, degrees of freedom and tail, of the differences away, (clusters, bins).

    variance: of each bin, were its values independent. Their covariance is that around 0, their expectation of a
    calibrated ensemble, and not around their mean, which would be too small where clusters are few.
    """
    varies = variance > 0
    if not varies.any():
        return math.nan, math.nan, math.nan
    scaled = away[:, varies] / np.sqrt(variance[varies])
    return chi_square_of(float(np.square(scaled.sum(0)).sum()), scaled.T @ scaled)
