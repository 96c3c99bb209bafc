"""Misfit of samples: what is left of y - A(x), measured by its noise."""

import math
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
AT_ONCE = 256
"""Samples whose measurements are predicted together."""


@dataclass(frozen=True, eq=False)
class Misfit:
    """Chi-square of each sample of each measurement, sum (y - A(x))^2 / variance, over what was measured with noise.

    The true x has a chi-square law of so many degrees of freedom, and samples of the true posterior have it too, where
    y is drawn anew with each x. Of Student's noise the variance is that of the Gaussian in its place: the mean stays
    the degrees of freedom, and the tail is shorter. Of counts it is the square of their quantile, as a number of
    N(0, 1), whose law is the same down to the smallest rates.
    """

    chi_square: NDArray[np.float64]
    """(n, count)."""
    degrees: NDArray[np.int64]
    """(n, count): values of y that were measured, and not exactly."""

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
        left = f"{np.nanmean(self.reduced):.2f} times" if self.degrees.any() else ""
        if self.missed > MANY:
            return (
                f"{100 * self.missed:.0f} % of the samples miss what was measured, further than noise is in 1 case of"
                f" {1 / MISSED:,.0f}: the mean chi-square by degree of freedom is {left} that of noise; more steps may"
                " help, or the noise is larger than was said"
            )
        if (self.p > 1 - MISSED).mean() > HALF:
            return (
                "samples follow the noise of what was measured: the mean chi-square by degree of freedom is"
                f" {left} that of noise, which may be smaller than was said"
            )
        return ""

    @property
    def p(self) -> NDArray[np.float64]:
        """Probability of a chi-square as large: near 0, samples miss y; near 1, they follow its noise; nan likewise."""
        return chi_square_tail(self.chi_square, self.degrees)


def misfit(measurement: Measurement, samples: Samples) -> Misfit:
    """Of samples (n, count, channels, *space), in the network's units, of n measurements; in float64.

    Missing values of a sample count as the mean of the data.
    """
    n, count = samples.shape[:2]
    flat, found, degrees = samples.flatten(0, 1), [], []
    for begin in range(0, n * count, AT_ONCE):
        numbers = torch.arange(begin, min(begin + AT_ONCE, n * count))
        left = standardized(measurement.rows(numbers // count), flat[begin : begin + AT_ONCE], begin)
        found.append(by_row(left.square()).nansum(1))
        degrees.append(by_row(~left.isnan()).sum(1))
    return Misfit(_table(found, n), _table(degrees, n).astype(np.int64))


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
    return torch.cat(parts).view(n, -1).double().cpu().numpy()
