"""Shares and means of values that come in clusters: the pixels of an image tell less than as many images would.

Clusters (images) are independent of each other, values within one are not. So all errors are from the differences
between clusters, and the law of a share is the binomial one of as many independent values as would have that error.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kakusan.statistics.gamma import chi_square_tail
from kakusan.statistics.student import student_quantile

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def reach(self) -> float:
        """Half of the width of the interval."""
        return (self.high - self.low) / 2

    def as_json(self) -> dict[str, float]:
        """The numbers by name."""
        return dict(vars(self))


@dataclass(frozen=True)
class Share(Estimate):
    """A share of values, with Wilson's 95 % interval."""

    independent: float = math.nan
    """As many independent values have the same error: from the number of clusters to that of values."""
    clusters: int = 0

    def band(self, expected: float) -> tuple[float, float]:
        """The binomial 95 % band of the share, were this its expectation."""
        half = student_quantile(self.clusters - 1) * math.sqrt(expected * (1 - expected) / self.independent)
        return max(0.0, expected - half), min(1.0, expected + half)


def share_of(hits: Floats, counts: Floats) -> Share:
    """The share of hits among all values; hits, counts: of each cluster. nan where nothing is counted.

    Its error is that of a ratio of sums over clusters (Cochran 1977, chapter 6). Where it is 0, as of no hits at all,
    or unknown, as of one cluster, a cluster counts as one value. Korn & Graubard 1998 go the same way to another
    interval.
    """
    there = counts > 0
    hits, counts = hits[there], counts[there]
    n, total = len(counts), float(counts.sum())
    if not n:
        return Share(math.nan)
    p = min(1.0, float(hits.sum()) / total)
    squared = n / max(n - 1, 1) * float(np.square(hits - p * counts).sum()) / total**2
    independent = p * (1 - p) / squared if squared > 0 and n > 1 else float(n)
    independent = min(max(independent, float(n)), total)
    return Share(p, *_wilson(p, independent, student_quantile(n - 1)), independent, n)


def _wilson(p: float, n: float, z: float) -> tuple[float, float]:
    """The probabilities of which a share p of n values is not further off than z of their own deviations."""
    centre, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def mean_of(values: Floats) -> Estimate:
    """The mean over clusters, by Student's t; of what is not nan."""
    known = values[~np.isnan(values)]
    if not len(known):
        return Estimate(math.nan)
    return _around(float(known.mean()), float(known.std(ddof=1)) if len(known) > 1 else math.nan, len(known))


def of_sums(figure: Callable[[Floats], float], sums: Floats) -> Estimate:
    """A function of sums over clusters, (clusters, sums) -> figure(total), with the error of leaving one out in turn.

    The jackknife (Efron & Stein 1981): sqrt((n - 1) / n sum (f_i - mean f)^2).
    """
    n, total = len(sums), sums.sum(0)
    value = figure(total)
    if n < 2:
        return Estimate(value)
    without = np.array([figure(total - row) for row in sums])
    return _around(value, float(np.sqrt((n - 1) * np.square(without - without.mean()).sum())), n)


def chi_square_of(plain: float, effects: Floats) -> tuple[float, float, float]:
    """Chi-square, degrees of freedom and tail of a sum of squares that is correlated as `effects`; nan where it is 0.

    effects: the covariance of what is squared. The law of the sum is that of sum_i delta_i Z_i^2, with the eigenvalues
    delta_i; here it is taken for a scaled chi-square of the same mean and variance (Rao & Scott 1984).
    """
    mean, square = float(np.trace(effects)), float(np.square(effects).sum())
    if square == 0:
        return math.nan, math.nan, math.nan
    found, degrees = plain * mean / square, mean**2 / square
    return found, degrees, float(chi_square_tail(found, degrees))


def _around(value: float, deviation: float, n: int) -> Estimate:
    reach = student_quantile(n - 1) * deviation / math.sqrt(n)
    return Estimate(value, value - reach, value + reach)
