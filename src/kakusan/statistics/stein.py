"""Kernel Stein discrepancy: how far samples are from a law of which the score alone is known.

Gorham & Mackey 2017, with their kernel k(x, y) = (c^2 + |x - y|^2)^(-1/2), which sees all departures that matter; the
discrepancy is the root of the mean, over all pairs of samples, of

    u(x, y) = s(x) . s(y) k + s(x) . grad_y k + s(y) . grad_x k + trace(grad_x grad_y k),

where s is the gradient of the log density. Of the samples' own law each u has mean 0 over x for every y.

Of many values the distances between samples are all nearly c, so k hardly varies, and what is left is the mean of the
scores: a shift is seen, a wrong spread is not. 39 samples of N(0, 4 I), with the score of N(0, I), have 1.6 times the
discrepancy that is expected of exact ones in 2 dimensions, 1.09 times in 16, and 1.02 times in 64; of N(0, I / 4) they
have 2.2, 1.9 and 1.4 times.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kakusan.errors import DataError
from kakusan.statistics.ensembles import as_array

Floats = NDArray[np.float64]

SIGNS = 1000
"""Draws of the wild bootstrap."""


@dataclass(frozen=True)
class Stein:
    """A kernel Stein discrepancy, in 1 / units of the samples."""

    value: float
    reference: float
    """That of as many independent samples of the very law, on average; from the scores of these samples."""
    p: float
    """Probability of a value as large, were the samples of the law: by signs drawn for the pairs (wild bootstrap,
    Chwialkowski, Strathmann & Gretton 2016)."""

    def as_json(self) -> dict[str, float]:
        return dict(vars(self))


def stein_discrepancy(samples: Any, scores: Any, scale: float | None = None, seed: int = 0) -> Stein:
    """Of samples (m, ...), with the gradient of the log density of the law at each of them, of the same shape.

    scale: c of the kernel; None: the median distance between samples. Raises DataError for fewer than 2 samples, and
    for shapes that differ.
    """
    x, s = (as_array(values).astype(np.float64) for values in (samples, scores))
    if x.shape != s.shape or len(x) < 2:
        raise DataError(
            f"{x.shape} samples and {s.shape} scores: there are 2 or more, a score for each sample"
        )
    u = _pairs(x.reshape(len(x), -1), s.reshape(len(x), -1), scale)
    m, own = len(u), np.diag(u)
    signs = np.random.Generator(np.random.Philox(seed)).choice([-1.0, 1.0], (SIGNS, m))
    off = u - np.diag(own)
    drawn = np.einsum("bi,ij,bj->b", signs, off, signs, optimize=True)
    p = (1 + int((drawn >= off.sum()).sum())) / (1 + SIGNS)
    return Stein(math.sqrt(max(float(u.mean()), 0.0)), math.sqrt(float(own.mean()) / m), p)


def _pairs(x: Floats, s: Floats, scale: float | None) -> Floats:
    """u(x, y) of all pairs."""
    x = x - x.mean(0)
    products, size = x @ x.T, np.square(x).sum(1)
    squared = np.maximum(size[:, None] + size - 2 * products, 0)
    if scale is None:
        scale = math.sqrt(float(np.median(squared[np.triu_indices(len(x), 1)]))) or 1.0
    base = scale**2 + squared
    along = (s * x).sum(1)[:, None] - s @ x.T  # s(x) . (x - y)
    k, slope = base**-0.5, base**-1.5
    trace = x.shape[1] * slope - 3 * squared * base**-2.5
    pairs: Floats = (s @ s.T) * k + (along + along.T) * slope + trace
    return pairs
