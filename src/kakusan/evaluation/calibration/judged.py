"""All figures of an ensemble beside its truth, and what they allow to say in words."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from kakusan.statistics.clusters import Estimate, mean_of
from kakusan.statistics.ensembles import (
    LEVELS,
    Coverage,
    Ensemble,
    Histogram,
    Ranks,
    Scores,
    ranks_of,
    scores_of,
)
from kakusan.statistics.reliability import Bin, Reliability, reliability_of
from kakusan.statistics.similarity import psnr, ssim
from kakusan.storage.figures import finite

TOLD = 0.9
"""The level that words are about."""
FEW = 30
"""Truths below which a verdict names their number."""
VAGUE = 0.15
"""Width of the interval of a coverage beyond which it says nothing."""
SURPRISE = 0.01
"""Probability below which ranks are called uneven."""
UNRELIABLE = 0.05
"""Probability below which shares of levels are called wrong: so often calibrated ones are."""
CAN, CANNOT = "the spread can be taken for an error bar", "do not take the spread for an error bar"


@dataclass(frozen=True, eq=False)
class Judged:
    """An ensemble beside its truth: `judge` makes one."""

    truths: int
    members: int
    ranks: Ranks
    scores: Scores
    psnr: Estimate
    """Of the mean of the members, in dB."""
    psnr_of_one: Estimate
    """Of a single member: of samples of the posterior 3 dB less than of their mean, in expectation."""
    ssim: Estimate
    """Of the mean of the members; nan where samples have no windows of 11 pixels."""
    unit: str = "the data's units"
    """Of CRPS, error and spread."""
    reliability: Reliability | None = None
    """Of data of 2 to 4 levels, whose ranks are drawn by lot among so many equal values that they say little."""

    @property
    def coverages(self) -> tuple[Coverage, ...]:
        """At 50, 80, 90 and 95 %, or as far as the members reach."""
        found = {c.level: c for c in map(self.ranks.coverage, LEVELS)}
        return tuple(found.values())

    @property
    def histogram(self) -> Histogram:
        return self.ranks.histogram()

    @property
    def holds(self) -> bool:
        """Whether intervals hold as many truths as they should, or more; of few levels, whether shares are right."""
        if self.reliability is not None:
            return not (self.reliability.p < UNRELIABLE or self.histogram.p < SURPRISE)
        coverage = self.ranks.coverage(TOLD)
        return coverage.share.high >= coverage.level

    @property
    def words(self) -> tuple[str, ...]:
        """The verdict first, in sentences."""
        return self.verdict(), *self.remarks

    def verdict(self, but: str = "") -> str:
        """Whether the spread can be taken for an error bar. but: a reason why it cannot, whatever the coverage."""
        few = f"as far as {self.truths:,} images tell" if self.truths < FEW else ""
        if self.reliability is not None:
            return words_of_levels(self.reliability, self.histogram.p, but, few)
        return words_of(self.ranks.coverage(TOLD), but, few)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences beside the verdict."""
        coverage, found = self.ranks.coverage(TOLD), []
        if self.reliability is not None:
            if self.reliability.p < UNRELIABLE:
                found.append(_worst(self.reliability))
        elif coverage.holds and self.histogram.p < SURPRISE:
            found.append(
                f"ranks of the truth are uneven all the same (p = {self.histogram.p:.2g}): samples lie off to one side"
                " of it, or are too often beyond it, as their histogram shows"
            )
        if not math.isnan(self.scores.spread_skill.value):
            found.append(f"the spread is {ratio(self.scores.spread_skill)} of the error of the mean")
        return tuple(found)

    @property
    def rows(self) -> tuple[tuple[str, str, str], ...]:
        """A table: name, figure, and the figure of a calibrated ensemble."""
        levels = [
            (f"coverage of {in_percent(c.level)} intervals", _percent(c.share), _percents(c.band))
            for c in self.coverages
        ]
        histogram, scores = self.histogram, self.scores
        return (
            *levels,
            (
                "rank histogram, chi-square",
                f"{histogram.chi_square:.1f}, p = {histogram.p:.2g}",
                "p above 0.05",
            ),
            *([] if self.reliability is None else _rows_of(self.reliability)),
            ("spread / error", plain(scores.spread_skill), "1"),
            (f"CRPS, {self.unit}", plain(scores.crps), ""),
            (f"fair CRPS, {self.unit}", plain(scores.fair_crps), ""),
            (f"error of the mean, {self.unit}", plain(scores.error), ""),
            (f"spread, {self.unit}", plain(scores.spread), ""),
            ("PSNR of the mean, dB", plain(self.psnr), ""),
            ("PSNR of one sample, dB", plain(self.psnr_of_one), ""),
            *([] if math.isnan(self.ssim.value) else [("SSIM of the mean", plain(self.ssim), "")]),
        )

    def as_json(self) -> dict[str, Any]:
        """All figures, the curve of coverages and the histogram among them, as plain values."""
        return dict(finite(self._record))

    @property
    def _record(self) -> dict[str, Any]:
        return {
            "truths": self.truths,
            "members": self.members,
            "left_out": self.ranks.equal,
            "coverage": [coverage.as_json() for coverage in self.coverages],
            "curve": [[c.level, c.share.value] for c in self.ranks.curve()],
            "ranks": self.histogram.as_json(),
            "reliability": None if self.reliability is None else self.reliability.as_json(),
            **self.scores.as_json(),
            "psnr": self.psnr.as_json(),
            "psnr_of_one": self.psnr_of_one.as_json(),
            "ssim": self.ssim.as_json(),
            "unit": self.unit,
            "words": list(self.words),
        }


def judge(
    samples: Any,
    truth: Any,
    *,
    peak: float | None = None,
    seed: int = 0,
    rounding: float = 0.0,
    unit: str = "the data's units",
) -> Judged:
    """Of samples (n, members, ...) for n truths (n, ...), arrays or tensors; see `kakusan.statistics.ensembles`.

    peak: the range of the data, for PSNR and SSIM; None: that of these truths. seed: of the draw of ranks among
    values that are equal. rounding: differences that mean nothing.
    Raises DataError where shapes do not fit, for fewer than 2 members, and for infinite values.
    """
    ensemble = Ensemble(samples, truth)
    x, y = ensemble.samples.astype(np.float64), ensemble.truth.astype(np.float64)
    peak = float(np.nanmax(y) - np.nanmin(y)) if peak is None else peak
    mean = x.mean(1)
    one = np.stack([psnr(x[:, k], y, peak) for k in range(ensemble.members)], axis=1)
    return Judged(
        len(y),
        ensemble.members,
        ranks_of(ensemble, seed, rounding),
        scores_of(ensemble),
        _unless_perfect(psnr(mean, y, peak)),
        _unless_perfect(one.mean(1)),
        mean_of(ssim(mean, y, peak)),
        unit,
        reliability_of(ensemble),
    )


def _unless_perfect(values: Any) -> Estimate:
    """The mean; without the figures of guesses that are right to the last digit, which are infinite."""
    return mean_of(np.where(np.isinf(values), np.nan, values))


def words_of(coverage: Coverage, but: str = "", few: str = "") -> str:
    """The verdict on intervals of one level. but: what speaks against them all the same; few: what limits a yes."""
    share = coverage.share
    if math.isnan(share.value):
        return "there is nothing to judge: all samples and truths are equal, or missing"
    said = f"intervals of {in_percent(coverage.level)} hold the truth in {_percent(share)}"
    if share.high < coverage.level:
        return f"{said}: {CANNOT}, it is too small"
    if share.low > coverage.level:
        return f"{said}: {but or 'the spread is wider than the errors are, on the safe side'}"
    if share.high - share.low > VAGUE:
        return f"{said}: {but or 'too few images to say more'}"
    return f"{said}: {but or _yes(few)}"


def words_of_levels(found: Reliability, of_ranks: float, but: str = "", few: str = "") -> str:
    """The verdict on data of few levels. of_ranks: the p of their histogram; but, few: as above."""
    if math.isnan(found.p):
        return "there is nothing to judge: the truth and its samples are equal wherever they are known"
    if found.p < UNRELIABLE:
        return f"levels of the truth are not as frequent as the samples say (p = {found.p:.2g}): {CANNOT}"
    said = f"levels of the truth are as frequent as the samples say (p = {found.p:.2g})"
    if of_ranks < SURPRISE:
        return f"{said}, but its ranks are uneven (p = {of_ranks:.2g}): {CANNOT}"
    if found.width > VAGUE:
        return f"{said}: {but or 'too few images to say more'}"
    return f"{said}: {but or _yes(few)}"


def _yes(few: str) -> str:
    return f"{CAN}, {few}" if few else CAN


def _worst(found: Reliability) -> str:
    """The bin that is furthest off, in a sentence."""
    worst = found.worst
    said = f"the truth is {_above(found)} in {_fine(worst.found)} of the values where {_range(worst)} of samples are"
    return f"{said}; of calibrated samples that is {_fines(worst.band)}"


def _rows_of(found: Reliability) -> list[tuple[str, str, str]]:
    """Of the table, for data of few levels."""
    rows = [
        (f"truth {_above(found)} where {_range(each)} of samples are", _fine(each.found), _fines(each.band))
        for each in found.bins
    ]
    return [*rows, ("the same, chi-square", f"{found.chi_square:.1f}, p = {found.p:.2g}", "p above 0.05")]


def _above(found: Reliability) -> str:
    return f"at {found.levels[1]:g}" if len(found.levels) == 2 else "above a level"


def _range(each: Bin) -> str:
    return f"{100 * each.least:.0f} to {100 * each.most:.0f} %"


def in_percent(share: float) -> str:
    """A level: 90 %, 93.9 %."""
    return f"{100 * share:.3g} %"


def _percent(share: Estimate) -> str:
    """With its interval: 61 % (58 to 64)."""
    return f"{100 * share.value:.0f} % ({100 * share.low:.0f} to {100 * share.high:.0f})"


def _fine(share: Estimate) -> str:
    """With its interval, of small shares with a decimal: 0.4 % (0.2 to 0.7)."""
    value, low, high = (_digits(100 * each) for each in (share.value, share.low, share.high))
    return f"{value} % ({low} to {high})"


def _fines(band: tuple[float, float]) -> str:
    return "{} to {} %".format(*(_digits(100 * edge) for edge in band))


def _digits(percent: float) -> str:
    return f"{percent:.1f}" if percent < 10 else f"{percent:.0f}"


def _percents(band: tuple[float, float]) -> str:
    return "{:.0f} to {:.0f} %".format(*(100 * edge for edge in band))


def ratio(estimate: Estimate) -> str:
    """A ratio with its interval: 0.71 (0.65 to 0.77)."""
    if math.isnan(estimate.low):
        return f"{estimate.value:.2f}"
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"


def plain(estimate: Estimate) -> str:
    """A figure and half of its 95 % interval: 0.123 ± 0.004."""
    if math.isnan(estimate.value):
        return "none"
    if math.isnan(estimate.reach):
        return f"{estimate.value:.4g}"
    return f"{estimate.value:.4g} ± {estimate.reach:.2g}"
