"""Misfit of samples: what is left of y - A(x), measured by its noise."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kakusan.posterior.measurement import Measurement
from kakusan.shapes import Samples
from kakusan.statistics.gamma import chi_square_tail

AT_ONCE = 256
"""Samples whose measurements are predicted together."""


@dataclass(frozen=True, eq=False)
class Misfit:
    """Chi-square of each sample of each measurement, sum (y - A(x))^2 / variance, over what was measured with noise.

    The true x has a chi-square law of so many degrees of freedom, and samples of the true posterior have it too, where
    y is drawn anew with each x. Of noise that is not Gaussian the variance is that of the Gaussian in its place.
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
    def p(self) -> NDArray[np.float64]:
        """Probability of a chi-square as large: near 0, samples miss y; near 1, they follow its noise; nan likewise."""
        return chi_square_tail(self.chi_square, self.degrees)


def misfit(measurement: Measurement, samples: Samples) -> Misfit:
    """Of samples (n, count, channels, *space), in the network's units, of n measurements; in float64."""
    n, count = samples.shape[:2]
    flat, found, degrees = samples.flatten(0, 1), [], []
    for begin in range(0, n * count, AT_ONCE):
        x = flat[begin : begin + AT_ONCE].double()
        rows = measurement.rows(torch.arange(begin, begin + len(x)) // count)
        variance = rows.variance(x)
        noisy = rows.known.to(x.device) & (variance > 0)
        shares = rows.residual(x).square() / variance.where(noisy, torch.ones_like(variance)) * noisy
        found.append(shares.flatten(1).sum(1))
        degrees.append(noisy.flatten(1).sum(1))
    return Misfit(_table(found, n), _table(degrees, n).astype(np.int64))


def _table(parts: list[Tensor], n: int) -> NDArray[np.float64]:
    return torch.cat(parts).view(n, -1).double().cpu().numpy()
