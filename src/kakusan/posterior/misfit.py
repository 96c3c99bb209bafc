"""Misfit of samples: what is left of y - A(x), measured by its noise."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kakusan.operators import Measured
from kakusan.posterior.measurement import Measurement
from kakusan.randomness import Purpose, uniforms
from kakusan.shapes import Samples, by_row
from kakusan.statistics.gamma import chi_square_tail

MISSED, MANY, HALF = 1e-3, 0.05, 0.5
"""Probability of a misfit below which a sample misses y; shares of such samples, and of those too near, to tell of."""
KEPT = 1e-3
"""Of the largest value that is measured exactly, what a sample may be off and still have kept it: float32, and more."""
FAR = 4.0
"""Deviations of the noise by which A(x) moves within its range before it is told."""
STRANGE = ", or y is not A(x): look at the operator, and at the units and axes of y"
LARGE = 10.0
"""Times the noise's chi-square, above which single values of y may be to blame."""
ASIDE, SURE = 0.25, 5.0
"""Deviations of the noise by which the mean of what is left of y is off, and in its own standard errors, to tell of."""
LOUD, FEW = 0.9, 0.05
"""Share of a misfit that a few values of y make up, and how few of them, to tell of."""
AT_ONCE = 256
"""Samples whose measurements are predicted together."""
NAMED = 8
"""Measurements that a warning names by their numbers, at the most."""


@dataclass(frozen=True, eq=False)
class Misfit:
    """Chi-square of each sample of each measurement, sum (y - A(x))^2 / variance, over what was measured with noise.

    A rounding is noise too: y less the unrounded A(x), over the variance of both.

    The true x has a chi-square law of so many degrees of freedom, and samples of the true posterior have it too, where
    y is drawn anew with each x. Of Student's noise the variance is that of the Gaussian in its place: the mean stays
    the degrees of freedom, and the tail is shorter. Of counts it is the square of their quantile, as a number of
    N(0, 1), whose law is the same down to the smallest rates.
    """

    chi_square: NDArray[np.float64]
    """(n, count)."""
    degrees: NDArray[np.int64]
    """(n, count): values of y that were measured, and not exactly."""
    off: NDArray[np.float64]
    """(n, count): the largest |y - A(x)| of what was measured exactly, in the units of y; nan where nothing was."""
    span: float
    """Largest value of y that was measured exactly, as a distance from A(x) of middling x."""

    @property
    def is_kept(self) -> bool:
        """All that was measured exactly is kept."""
        return not (self.off > KEPT * self.span).any()

    @property
    def reduced(self) -> NDArray[np.float64]:
        """Chi-square by degree of freedom, 1 where noise is all that is left; nan where all was exact."""
        found: NDArray[np.float64] = np.divide(
            self.chi_square, self.degrees, out=np.full(self.degrees.shape, np.nan), where=self.degrees > 0
        )
        return found

    @property
    def missed(self) -> float:
        """The share of samples that are further from y than noise is, but in 1 case of 1,000; nan where y is exact."""
        known = self.p[~np.isnan(self.p)]
        return float((known < MISSED).mean()) if len(known) else math.nan

    @property
    def words(self) -> str:
        """A warning in a sentence; empty where there is none to give."""
        left = f"{_factor(float(np.nanmean(self.reduced)))} times" if self.degrees.any() else ""
        if self.missed > MANY:
            return (
                f"{100 * self.missed:.0f} % of the samples miss what was measured, further than noise is in 1 case of"
                f" {1 / MISSED:,.0f}: the mean chi-square by degree of freedom is {left} that of noise; more steps may"
                f" help, or the noise is larger than was said{STRANGE}{self._missing}"
            )
        if (self.p > 1 - MISSED).mean() > HALF:
            return (
                "samples follow the noise of what was measured: the mean chi-square by degree of freedom is"
                f" {left} that of noise; more steps may help, or the noise is smaller than was said"
            )
        return ""

    @property
    def _missing(self) -> str:
        """The numbers of the measurements that samples miss, where it is some of several."""
        shares = (self.p < MISSED).mean(1)
        numbers = [str(k) for k in (shares > MANY).nonzero()[0]]
        if not numbers or len(numbers) == len(shares):
            return ""
        named = ", ".join(numbers[:NAMED]) + (" and others" if len(numbers) > NAMED else "")
        return f"; of the {len(shares):,} measurements, counted from 0, it is {len(numbers):,}: {named}"

    @property
    def line(self) -> str:
        """The figures in a line, whether there is a warning to give or none."""
        if not self.degrees.any():
            return f"y was measured exactly, and {self._exactly}"
        known, degrees = self.reduced[~np.isnan(self.reduced)], int(self.degrees.max())
        of = f" over {degrees:,} value{'s' * (degrees > 1)}"
        ends = f"; {known.min():.3g} to {known.max():.3g} by sample" if len(known) > 1 else ""
        of_exact = "what was measured exactly" if self.is_kept else "of what was measured exactly,"
        exact = "" if np.isnan(self.off).all() else f"; {of_exact} {self._exactly}"
        return f"misfit: chi-square by degree of freedom {known.mean():.3g}{of}, where 1 is noise alone{ends}{exact}"

    @property
    def _exactly(self) -> str:
        return "is kept" if self.is_kept else f"A(x) of samples is up to {np.nanmax(self.off):.3g} away"

    @property
    def p(self) -> NDArray[np.float64]:
        """Probability of a chi-square as large: near 0, samples miss y; near 1, they follow its noise; nan likewise."""
        return chi_square_tail(self.chi_square, self.degrees)


def _factor(value: float) -> str:
    """With two decimals, or three digits where these are enough."""
    return f"{value:.2f}" if value < 1000 else f"{value:.3g}".replace("e+", "e")


def misfit(measurement: Measurement, samples: Samples) -> Misfit:
    """Of samples (n, count, channels, *space), in the network's units, of n measurements; in float64.

    Missing values of a sample count as the mean of the data.
    """
    n, begin = len(samples), 0
    found, degrees, off, span = [], [], [], 0.0
    for x, rows in _in_turn(measurement, samples):
        noisy = standardized(rows, x, begin)
        begin += len(x)
        found.append(by_row(noisy.square()).nansum(1))
        degrees.append(by_row(~noisy.isnan()).sum(1))
        left, exact = rows.residual(x), rows.known.to(x.device) & (rows.variance(x) == 0)
        off.append(by_row(left.abs().where(exact, -math.inf)).amax(1))
        if exact.any():
            span = max(
                span, *(float(rows.residual(torch.full_like(x, at))[exact].abs().max()) for at in (0, 1))
            )
    away = _table(off, n)
    return Misfit(
        _table(found, n),
        _table(degrees, n).astype(np.int64),
        np.where(away < 0, np.nan, away),
        span,
    )


def loudest(measurement: Measurement, samples: Samples) -> tuple[int, float]:
    """How few values of y make up nine tenths of a misfit that is too large, and the loudest; (0, nan): not so few.

    Over the samples (n, count, ...) of all measurements.
    """
    n, squares = len(samples), []
    for x, rows in _in_turn(measurement, samples):
        squares.append(by_row(standardized(rows, x).square().nan_to_num(0)))
    each = torch.cat(squares).view(n, samples.shape[1], -1).mean(1).flatten()
    ordered = each.sort(descending=True)
    total, known = float(each.sum()), int(measurement.known.sum())
    count = 1 + int((ordered.values.cumsum(0) < LOUD * total).sum())
    if total <= LARGE * known or count > max(1, FEW * known):
        return 0, math.nan
    return count, float(measurement.y.flatten()[ordered.indices[0].cpu()])


def one_sided(measurement: Measurement, samples: Samples) -> float:
    """The mean of y - A(x) of one measurement in deviations of its noise, where it is surely none of noise; else 0.

    Over the samples (n, count, ...), and over the values of y; that of the measurement where it is largest.
    """
    n = len(samples)
    left = torch.cat([by_row(standardized(rows, x)) for x, rows in _in_turn(measurement, samples)])
    each = left.view(n, samples.shape[1], -1).mean(1)
    known = ~each.isnan()
    means = each.nan_to_num(0).sum(1) / known.sum(1).clamp(min=1)
    far = (means.abs() > ASIDE) & (means.abs() * known.sum(1).sqrt() > SURE)
    largest = int(means.abs().argmax())
    return float(means[largest]) if far[largest] else 0.0


def moved_within(measurement: Measurement, samples: Samples, step: float) -> tuple[float, float]:
    """How far A(x) moves where samples (n, count, ...) are kept within -1 and 1, as levels are saved.

    The largest move of the mean over the samples of a measurement, in the units of y, and the share of the values of y
    that move further than their noise and a shift of all x by `step` would explain; 0 and 0 where none does.
    """
    n, moves, least = len(samples), [], []
    for x, rows in _in_turn(measurement, samples):
        within = x.clamp(-1, 1)
        moves.append(rows.residual(x) - rows.residual(within))
        shift = (rows.predicted(x + step) - rows.predicted(x)).abs().max()
        least.append((FAR * rows.variance(within).sqrt() + shift) * rows.known.to(x.device))
    moved, noise = (torch.cat(each).view(n, -1, *measurement.y.shape[1:]).mean(1) for each in (moves, least))
    far = moved.abs() > noise
    share = float(far.sum() / measurement.known.sum())
    return (float(moved[far].abs().max()), share) if share else (0.0, 0.0)


def _in_turn(measurement: Measurement, samples: Samples) -> Iterator[tuple[Samples, Measurement]]:
    """So many samples at once, float64, each beside its measurement."""
    n, count = samples.shape[:2]
    flat = samples.flatten(0, 1)
    for begin in range(0, n * count, AT_ONCE):
        x = flat[begin : begin + AT_ONCE].double().nan_to_num(0)
        yield x, measurement.rows(torch.arange(begin, begin + len(x)) // count)


def standardized(measurement: Measurement, samples: Samples, first: int = 0) -> Measured:
    """y - A(x) in deviations of its noise, of a sample for each measurement; float64.

    nan where nothing was measured, or exactly. A missing value of a sample (nan) counts as the mean of the data, 0.
    first: number of the first sample, for laws that need luck (`Poisson.standardized`), which is a function of it.
    """
    x = samples.double()
    left = measurement.residual(x.where(~x.isnan(), 0.0))
    predicted = measurement.y.to(left) - left

    def luck() -> Tensor:
        numbers = torch.arange(first, first + len(left), device=left.device)
        drawn = uniforms(0, Purpose.EVALUATION, 0, numbers, left[0].numel())
        return drawn.view(left.shape)

    known = measurement.known.to(left.device) & (measurement.law.variance(left, predicted) > 0)
    return measurement.law.standardized(left, predicted, luck).where(known, math.nan)


def _table(parts: list[Tensor], n: int) -> NDArray[np.float64]:
    return torch.cat(parts).detach().view(n, -1).double().cpu().numpy()
