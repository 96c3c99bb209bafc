"""Ensembles beside the truth: does the spread hold it? Coverage, ranks, CRPS, spread against error.

An ensemble is members, (n, members, ...), for n truths, (n, ...), of any kind: samples of a posterior, of a conditional
model, of paired images. It is calibrated where the truth is as one more member: then its rank among them, 0..members,
is equally often each. All of it in float64; values that are nan in the truth or a member are left out.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kakusan.errors import DataError
from kakusan.statistics.clusters import Estimate, Share, chi_square_of, mean_of, of_sums, share_of

Floats = NDArray[np.float64]

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Of central intervals."""
MOST_BINS = 20
"""Of a rank histogram: more ranks are put together."""


@dataclass(frozen=True, eq=False)
class Ensemble:
    """samples (n, members, ...) beside truth (n, ...): arrays or tensors, of which nan says that there is no value.

    Raises DataError where the shapes do not belong together, for fewer than 2 members, and for infinite values.
    """

    samples: NDArray[Any]
    truth: NDArray[Any]

    def __init__(self, samples: Any, truth: Any) -> None:
        object.__setattr__(self, "samples", as_array(samples))
        object.__setattr__(self, "truth", as_array(truth))
        shape, of_truth = self.samples.shape, self.truth.shape
        if len(shape) < 2 or not of_truth or (shape[0], *shape[2:]) != of_truth or not self.truth.size:
            raise DataError(
                f"an ensemble of shape {shape} does not fit a truth of shape {of_truth}",
                "samples are (n, members, ...) and truths (n, ...), at least one",
            )
        if shape[1] < 2:
            raise DataError("an ensemble has at least 2 members")
        if np.isinf(self.samples).any() or np.isinf(self.truth).any():
            raise DataError(
                "an ensemble or its truth holds infinite values", "nan says that a value is missing"
            )

    @property
    def members(self) -> int:
        return int(self.samples.shape[1])

    def rows(self) -> Iterator[tuple[Floats, Floats]]:
        """Of each truth in turn (members, values) and (values,), where all of them are known."""
        for members, truth in zip(self.samples, self.truth, strict=True):
            x, of_truth = (
                members.reshape(self.members, -1).astype(np.float64),
                truth.ravel().astype(np.float64),
            )
            there = ~(np.isnan(of_truth) | np.isnan(x).any(0))
            yield x[:, there], of_truth[there]


def as_array(values: Any) -> NDArray[Any]:
    """An array, or a tensor on any device, as an array."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


@dataclass(frozen=True)
class Coverage:
    """The share of truths within central intervals of one level."""

    asked: float
    level: float
    """The share that a calibrated ensemble has: as asked, or that of its widest interval, from least to largest."""
    share: Share

    @property
    def band(self) -> tuple[float, float]:
        """The shares that are no surprise of a calibrated ensemble, in 95 of 100 cases."""
        return self.share.band(self.level)

    @property
    def holds(self) -> bool:
        """Whether the level is within the interval of the share."""
        return self.share.low <= self.level <= self.share.high

    def as_json(self) -> dict[str, Any]:
        return {
            "asked": self.asked,
            "level": self.level,
            **self.share.as_json(),
            "band": list(self.band),
            "holds": self.holds,
        }


@dataclass(frozen=True, eq=False)
class Histogram:
    """Ranks of the truth, neighbours put together."""

    edges: Floats
    """First rank of each bin, and members + 1."""
    expected: Floats
    """Share of each bin, were the ranks equally likely."""
    shares: tuple[Share, ...]
    chi_square: float
    """Of the shares against those expected, corrected for what is common to a cluster (Rao & Scott 1984)."""
    degrees: float
    """Of freedom, likewise: at most one less than there are bins."""
    p: float
    """Probability of a chi-square as large, of a calibrated ensemble."""

    def as_json(self) -> dict[str, Any]:
        return {
            "edges": self.edges.tolist(),
            "expected": self.expected.tolist(),
            "shares": [share.value for share in self.shares],
            "bands": [list(s.band(float(e))) for s, e in zip(self.shares, self.expected, strict=True)],
            "chi_square": self.chi_square,
            "degrees": self.degrees,
            "p": self.p,
        }


@dataclass(frozen=True, eq=False)
class Ranks:
    """How often the truth of each cluster had each rank, 0..members: all that coverage and histogram ask for."""

    counts: Floats
    """(n, members + 1)."""
    equal: float
    """The share of values left out, whose members and truth are all the same: they would say yes to any spread."""

    @property
    def members(self) -> int:
        return int(self.counts.shape[1]) - 1

    @cached_property
    def totals(self) -> Floats:
        """Values that count, of each cluster."""
        total: Floats = self.counts.sum(1)
        return total

    def coverage(self, level: float) -> Coverage:
        """Of the central interval of this level, 0 < level < 1.

        From the a-th least to the a-th largest of M members a calibrated truth lies with probability
        (M + 1 - 2a) / (M + 1), exactly; between two such levels coverage is interpolated, as the levels are.
        """
        if not 0 < level < 1:
            raise DataError(f"the level of an interval lies between 0 and 1, not at {level}")
        M = self.members
        depth = max(1.0, (M + 1) * (1 - level) / 2)
        outer = math.floor(depth + 1e-9)
        inner = min(outer + 1, (M + 1) // 2)
        weight = min(max(depth - outer, 0.0), 1.0) if inner > outer else 0.0
        hits = (1 - weight) * self._within(outer) + weight * self._within(inner)
        reached = 1 - 2 * ((1 - weight) * outer + weight * inner) / (M + 1)
        return Coverage(level, reached, share_of(hits, self.totals))

    def curve(self) -> list[Coverage]:
        """Of all intervals between two members, the narrowest first."""
        depths = range((self.members + 1) // 2, 0, -1)
        levels = [(1 - 2 * a / (self.members + 1), a) for a in depths if 2 * a <= self.members]
        return [Coverage(level, level, share_of(self._within(a), self.totals)) for level, a in levels]

    def histogram(self, bins: int = MOST_BINS) -> Histogram:
        """At most so many bins, of as equal widths as there can be."""
        ranks = self.members + 1
        edges = np.round(np.linspace(0, ranks, min(bins, ranks) + 1)).astype(np.int64)
        expected = np.diff(edges) / ranks
        columns = np.add.reduceat(self.counts, edges[:-1], axis=1).T
        shares = tuple(share_of(column, self.totals) for column in columns)
        return Histogram(edges.astype(np.float64), expected, shares, *self._surprise(columns, expected))

    def _within(self, depth: int) -> Floats:
        """Truths between the members that are so deep; none at the middle, where both are one."""
        within: Floats = self.counts[:, depth : self.members + 1 - depth].sum(1)
        return within

    def _surprise(self, columns: Floats, expected: Floats) -> tuple[float, float, float]:
        """Chi-square, degrees of freedom and tail, as of the covariance of the shares between clusters.

        That covariance is taken over the multinomial one.
        """
        n, total = int((self.totals > 0).sum()), float(self.totals.sum())
        if n < 2 or len(expected) < 2:
            return math.nan, math.nan, math.nan
        away = (columns - expected[:, None] * self.totals) / np.sqrt(expected)[:, None]
        plain = float(np.square(away.sum(1)).sum()) / total
        apart = away - away.sum(1, keepdims=True) / total * self.totals
        effects = apart @ apart.T * (n / (n - 1) / total)
        return chi_square_of(plain, effects)


def ranks_of(ensemble: Ensemble, seed: int = 0, rounding: float = 0.0) -> Ranks:
    """The ranks of the truth among the members: members below it, and those equal to it by a draw (seeded).

    rounding: values whose members and truth are all within so much of each other are left out. That is as fair to
    the truth as to each member, so the ranks of a calibrated ensemble stay equally likely.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    counts, left_out, total = [], 0, 0
    for x, truth in ensemble.rows():
        low, high = np.minimum(x.min(0, initial=np.inf), truth), np.maximum(x.max(0, initial=-np.inf), truth)
        counted = high - low > rounding
        below, equal = (x < truth).sum(0), (x == truth).sum(0)
        rank = below + np.floor(generator.random(len(truth)) * (equal + 1)).astype(np.int64)
        counts.append(np.bincount(rank[counted], minlength=ensemble.members + 1).astype(np.float64))
        left_out, total = left_out + int((~counted).sum()), total + len(truth)
    return Ranks(np.array(counts), left_out / total if total else math.nan)


@dataclass(frozen=True)
class Scores:
    """Figures of an ensemble that has a truth, in the units of its values; means over the truths."""

    crps: Estimate
    """Continuous ranked probability score, E|X - y| - E|X - X'| / 2 of the ensemble as it is: the mean absolute error
    of a single guess, less what its spread explains."""
    fair_crps: Estimate
    """The same without the penalty for few members (Ferro 2014), as of infinitely many: the sum over pairs i < j of
    |x_i - x_j| is divided by M (M - 1), where that of `crps` is divided by M^2."""
    error: Estimate
    """Root mean squared error of the mean of the members."""
    spread: Estimate
    """Root mean variance of the members."""
    spread_skill: Estimate
    """sqrt((M + 1) / M) spread / error: 1 where calibrated (Fortin et al. 2014; Price et al. 2025); below 1 where
    the spread is too small."""
    each: tuple[float, ...]
    """The fair CRPS of each truth: two ensembles of the same truths are compared by the mean of its differences,
    whose error is far less than that of either mean; nan for a truth without a value that is known."""

    def as_json(self) -> dict[str, Any]:
        estimates = {
            name: found.as_json() for name, found in vars(self).items() if isinstance(found, Estimate)
        }
        return estimates | {"fair_crps_of_each": list(self.each)}


def scores_of(ensemble: Ensemble) -> Scores:
    """CRPS, error and spread. A truth without a value that is known does not count."""
    M = ensemble.members
    weights = 2 * np.arange(1, M + 1) - M - 1  # sum over pairs |x_i - x_j| = 2 sum weights x_(i)
    rows, each = [], []
    for x, truth in ensemble.rows():
        each.append(math.nan)
        if not len(truth):
            continue
        mean, apart = x.mean(0), weights @ np.sort(x, axis=0)
        off, variance = np.square(mean - truth), x.var(0, ddof=1)
        error = np.abs(x - truth).mean(0)
        crps, fair = error - apart / M**2, error - apart / (M * (M - 1))
        each[-1] = float(fair.mean())
        rows.append([crps.mean(), each[-1], off.sum(), variance.sum(), len(truth)])
    table = np.array(rows).reshape(-1, 5)
    if not len(table):
        nothing = Estimate(math.nan)
        return Scores(nothing, nothing, nothing, nothing, nothing, tuple(each))
    sums = table[:, 2:]
    return Scores(
        mean_of(table[:, 0]),
        mean_of(table[:, 1]),
        of_sums(lambda s: math.sqrt(s[0] / s[2]), sums),
        of_sums(lambda s: math.sqrt(s[1] / s[2]), sums),
        of_sums(lambda s: math.sqrt((M + 1) / M * s[1] / s[0]) if s[0] > 0 else math.nan, sums),
        tuple(each),
    )
