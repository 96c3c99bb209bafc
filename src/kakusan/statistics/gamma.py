"""The tail of the chi-square distribution, by the incomplete gamma function."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

ENOUGH = 1e-15
"""Relative change below which a series or a continued fraction has converged."""
MOST_TERMS = 100_000


def chi_square_tail(value: ArrayLike, degrees: ArrayLike) -> Floats:
    """P(X >= value) of X with a chi-square law of so many degrees of freedom, to about 12 digits.

    value: at least 0; degrees: above 0, else the tail is nan. Both broadcast.
    """
    x, a = np.broadcast_arrays(np.asarray(value, np.float64) / 2, np.asarray(degrees, np.float64) / 2)
    tail = np.full(x.shape, np.nan)
    for place in np.ndindex(x.shape):
        if a[place] > 0 and x[place] >= 0:
            tail[place] = _upper(float(a[place]), float(x[place]))
    return tail


def _upper(a: float, x: float) -> float:
    """Q(a, x) = Gamma(a, x) / Gamma(a): the series of its complement below the mode, a continued fraction above."""
    if x == 0:
        return 1.0
    if math.isinf(x):
        return 0.0
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    return 1 - front * _series(a, x) if x < a + 1 else front * _fraction(a, x)


def _series(a: float, x: float) -> float:
    """sum of x^k / (a (a + 1) ... (a + k)), k = 0, 1, ..."""
    term = total = 1 / a
    for k in range(1, MOST_TERMS):
        term *= x / (a + k)
        total += term
        if term < total * ENOUGH:
            break
    return total


def _fraction(a: float, x: float) -> float:
    """1 / (x + 1 - a - 1 (1 - a) / (x + 3 - a - ...)), by the rule of Lentz, from the front."""
    b = x + 1 - a
    upper, lower = math.inf, 1 / b
    value = lower
    for k in range(1, MOST_TERMS):
        numerator = -k * (k - a)
        b += 2
        lower = 1 / (numerator * lower + b)
        upper = b + numerator / upper
        value *= upper * lower
        if abs(upper * lower - 1) < ENOUGH:
            break
    return value
