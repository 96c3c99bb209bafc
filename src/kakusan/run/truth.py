"""Samples given y beside the truth, where it is known."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kakusan.statistics.ensembles import Ensemble, ranks_of
from kakusan.statistics.reliability import MOST_LEVELS

LEVEL = 0.9
"""Of the intervals that are to hold the truth."""


@dataclass(frozen=True)
class BesideTruth:
    """How near the samples of one or several measurements are to their x, over all values that are known."""

    error: float
    """Root mean squared error of the mean of the samples, in the units of the data."""
    spread: float
    """Root mean variance of the samples, likewise: about the error where calibrated; nan of a single sample."""
    level: float
    """Share of the truth that central intervals are to hold: 0.9, or what so few samples can tell; nan: none."""
    share: float
    """The share that they hold."""

    @property
    def words(self) -> str:
        """In a line."""
        held = (
            ""
            if np.isnan(self.share)
            else f"intervals of {self.level:.0%} hold {self.share:.0%} of its values; ".replace("%", " %")
        )
        spread = "" if np.isnan(self.spread) else f", and samples spread by {self.spread:.3g}"
        return f"truth: {held}the mean is {self.error:.3g} off{spread} (root mean squares)"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def beside(samples: NDArray[Any], truth: NDArray[Any], levels: int | None) -> BesideTruth:
    """Of samples (n, count, ...) and truth (n, ...), in the units of the data; levels: how many there are of these.

    nan of the truth does not count. Of up to 4 levels there are no intervals: so many values are equal that these would
    hold a truth whatever they say.
    """
    x, y = samples.astype(np.float64), truth.astype(np.float64)
    error = float(np.sqrt(np.nanmean(np.square(x.mean(1) - y))))
    single = x.shape[1] < 2
    spread = np.nan if single else float(np.sqrt(np.nanmean(x.var(1, ddof=1))))
    if single or (levels is not None and levels <= MOST_LEVELS):
        return BesideTruth(error, spread, np.nan, np.nan)
    coverage = ranks_of(Ensemble(x, y)).coverage(LEVEL)
    return BesideTruth(error, spread, coverage.level, coverage.share.value)
