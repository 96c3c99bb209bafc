"""Student's t: how many standard errors a 95 % interval reaches to either side, where they come from few numbers."""

import math
from bisect import bisect_left
from itertools import pairwise

QUANTILES = {
    1: 12.7062,
    2: 4.30265,
    3: 3.18245,
    4: 2.77645,
    5: 2.57058,
    6: 2.44691,
    8: 2.30600,
    10: 2.22814,
    15: 2.13145,
    30: 2.04227,
    60: 2.00030,
    math.inf: 1.95996,
}
"""The 97.5 % quantile by degrees of freedom."""
KNOWN = list(QUANTILES)
BETWEEN = list(pairwise(KNOWN))


def student_quantile(degrees: float | int) -> float:
    """The 97.5 % quantile for any degrees of freedom, not whole ones too; fewer than 1 count as 1.

    Its logarithm is nearly straight over 1 / degrees, and is taken as straight between the known ones: right to 3 %,
    and from 2 on to 0.5 %.
    """
    low, high = BETWEEN[max(1, bisect_left(KNOWN, degrees)) - 1] if degrees < math.inf else BETWEEN[-1]
    share = (1 / low - 1 / max(degrees, 1)) / (1 / low - 1 / high)
    return float(QUANTILES[low] ** (1 - share) * QUANTILES[high] ** share)
