"""Gaussians in bins of one width, as whole frequencies for the stack.

The levels of the data are such bins, and so are the values of x_t, whose bins are narrow beside each law that they
are coded with. A probability of one law and that of another have the width in common, so that it cancels in the
difference, which is what bits back pay: bins of equal probability (Townsend et al. 2019), of one law, are needed for
neither. Every bin has a frequency of at least 1, so that whatever comes can be coded.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from kakusan.errors import SettingsError
from kakusan.evaluation.coding.stack import TOTAL, Stack

MOST_BINS = 1 << 20
SURPRISE = 2.0**-12
"""Share of the frequencies that all levels have alike: however sure the model is, a level takes 21 bits at the most."""
_ROOT = math.sqrt(0.5)
_NORMAL = NormalDist()
_NEAR = 2


@dataclass(frozen=True)
class Bins:
    """low, low + width, ..., low + count * width are the edges; the outer bins reach to infinity.

    Raises SettingsError for too many bins.
    """

    low: float
    width: float
    count: int
    least: int = 2
    """Frequency that each bin has whatever the law is; 2 rather than 1, so that Phi may lose its last digit."""

    def __post_init__(self) -> None:
        if not (self.count <= MOST_BINS and 0 < self.width < math.inf):
            raise SettingsError(
                f"{self.count:,} bins are too many to code with",
                "steps so short gain nothing: take fewer steps",
            )

    @classmethod
    def around_0(cls, reach: float, width: float) -> "Bins":
        """Bins from -reach to reach at least."""
        half = math.ceil(min(reach / width, MOST_BINS))
        return cls(-half * width, width, 2 * half)

    @classmethod
    def of_levels(cls, levels: int) -> "Bins":
        """The bins of so many levels from -1 to 1, as the decoder of the bound has them."""
        return cls(-levels / (levels - 1), 2 / (levels - 1), levels, int(SURPRISE * TOTAL) // levels)

    def below(self, edge: int, mean: float, deviation: float) -> int:
        """The sum of the frequencies of all bins below an edge: Phi in units of 1 / TOTAL, and the least of each."""
        if edge <= 0:
            return 0
        if edge >= self.count:
            return TOTAL
        share = 0.5 * math.erfc((mean - self.low - edge * self.width) / deviation * _ROOT)
        return int(share * (TOTAL - self.least * self.count)) + self.least * edge

    def at(self, slot: int, mean: float, deviation: float) -> int:
        """The bin that a slot falls into: looked up about the quantile, and everywhere where it is not there."""

        def below(edge: int) -> int:
            return self.below(edge, mean, deviation)

        quantile = mean + deviation * _NORMAL.inv_cdf((slot + 0.5) / TOTAL)
        guess = int(min(max((quantile - self.low) / self.width, 0), self.count - 1))
        first, last = max(guess - _NEAR, 0), min(guess + _NEAR + 1, self.count)
        if not below(first) <= slot < below(last):
            first, last = 0, self.count
        return bisect_right(range(self.count + 1), slot, first, last, key=below) - 1


def push_all(
    stack: Stack, bins: Bins, numbers: Sequence[int], means: Sequence[float], deviations: Sequence[float]
) -> None:
    """Push values by the numbers of their bins, the last one first: so they are popped in their order."""
    below, push = bins.below, stack.push
    for number, mean, deviation in zip(*map(reversed, (numbers, means, deviations)), strict=True):
        start = below(number, mean, deviation)
        push(start, below(number + 1, mean, deviation) - start)


def pop_all(stack: Stack, bins: Bins, means: Iterable[float], deviations: Iterable[float]) -> list[int]:
    """Pop a value for each mean and deviation: the numbers of their bins."""
    below, at, numbers = bins.below, bins.at, []
    for mean, deviation in zip(means, deviations, strict=True):
        number = at(stack.slot, mean, deviation)
        start = below(number, mean, deviation)
        stack.pop(start, below(number + 1, mean, deviation) - start)
        numbers.append(number)
    return numbers
