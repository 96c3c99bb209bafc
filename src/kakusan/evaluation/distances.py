"""How far one set of features lies from another: KID, precision and recall, density and coverage. All in float64.

Features are rows, (n, d); of images, what some network makes of them. The Fréchet distance is in `metrics.py`.
All but the kernel distance depend on the number of rows: compare only figures of equal counts.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kakusan.errors import DataError, NumbersError, SettingsError

Features: TypeAlias = NDArray[Any]

NEIGHBOURS = 3
"""Radii of precision and recall reach to so many neighbours (Kynkäänniemi et al. 2019, section 3)."""
DENSE_NEIGHBOURS = 5
"""The same of density and coverage (Naeem et al. 2020, section 3.3)."""
_NUMBERS_AT_A_TIME = 1 << 22


@dataclass(frozen=True)
class Estimate:
    """A figure and its standard error."""

    value: float
    standard_error: float


@dataclass(frozen=True)
class Support:
    """Whether samples lie where data are, and data where samples are; shares from 0 to 1, density can be more."""

    precision: float
    """Share of the samples within the reach of some row of the data."""
    recall: float
    """Share of the data within the reach of some sample."""
    density: float
    """Rows of the data in whose reach a sample lies, over the number that is usual for data."""
    coverage: float
    """Share of the data in whose reach some sample lies."""


def kernel_distance(samples: Features, data: Features) -> Estimate:
    """The squared maximum mean discrepancy under the kernel (x . y / d + 1)^3: with Inception's features the KID.

    Bińkowski et al. 2018, section 4. Unbiased, and so below 0 about half of the times that both laws are equal. Of as
    many rows of each, evenly spread over the larger set. The standard error is that of a U-statistic (Hoeffding 1948),
    whose leading term vanishes where both laws are equal: it is then on the small side.
    """
    x, y = _checked(samples, data, fewest=3)
    n = min(len(x), len(y))
    x, y = (each[np.linspace(0, len(each) - 1, n).astype(np.int64)] for each in (x, y))
    rows = np.zeros(n)  # the sum over j != i of h(z_i, z_j)
    for begin in range(0, n, size := max(1, _NUMBERS_AT_A_TIME // n)):
        part = slice(begin, begin + size)
        h = _kernel(x[part], x) + _kernel(y[part], y) - _kernel(x[part], y) - _kernel(y[part], x)
        h[np.arange(len(h)), np.arange(begin, begin + len(h))] = 0
        rows[part] = h.sum(1)
    means = rows / (n - 1)
    return Estimate(float(means.mean()), float(2 * means.std(ddof=1) / np.sqrt(n)))


def _kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    cubed: NDArray[np.float64] = (x @ y.T / x.shape[1] + 1) ** 3
    return cubed


def support(samples: Features, data: Features) -> Support:
    """Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

    The reach of a row is its distance to its 3rd nearest fellow (density and coverage: 5th). Raises SettingsError for
    fewer rows than that.
    """
    x, y = _checked(samples, data, fewest=2)
    x, y = x - y.mean(0), y - y.mean(0)  # so that a common offset costs no digits
    if min(len(x), len(y)) <= DENSE_NEIGHBOURS:
        raise SettingsError(
            f"a reach to the {DENSE_NEIGHBOURS}th neighbour needs more than {min(len(x), len(y))} rows"
        )
    of_data = _reaches(y, (NEIGHBOURS, DENSE_NEIGHBOURS))
    of_samples = _reaches(x, (NEIGHBOURS,))
    within, dense = np.zeros(len(x), dtype=bool), 0
    reached, covered = np.zeros(len(y), dtype=bool), np.zeros(len(y), dtype=bool)
    for begin in range(0, len(x), size := max(1, _NUMBERS_AT_A_TIME // len(y))):
        part = slice(begin, begin + size)
        distances = _distances(x[part], y)
        within[part] = (distances <= of_data[:, 0]).any(1)
        inside = distances <= of_data[:, 1]
        dense += int(inside.sum())
        covered |= inside.any(0)
        reached |= (distances <= of_samples[part, 0][:, None]).any(0)
    return Support(
        precision=float(within.mean()),
        recall=float(reached.mean()),
        density=dense / (DENSE_NEIGHBOURS * len(x)),
        coverage=float(covered.mean()),
    )


def _reaches(x: NDArray[np.float64], neighbours: tuple[int, ...]) -> NDArray[np.float64]:
    """The distance of each row to its k-th nearest other row, for each k: (n, len(neighbours))."""
    found = np.empty((len(x), len(neighbours)))
    for begin in range(0, len(x), size := max(1, _NUMBERS_AT_A_TIME // len(x))):
        distances = _distances(x[begin : begin + size], x)
        distances[
            np.arange(len(distances)), np.arange(begin, begin + len(distances))
        ] = -1.0  # itself comes first
        nearest = np.partition(distances, neighbours, axis=1)
        found[begin : begin + size] = nearest[:, list(neighbours)]
    return found


def _distances(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    squares = np.square(x).sum(1)[:, None] - 2 * x @ y.T + np.square(y).sum(1)
    distances: NDArray[np.float64] = np.sqrt(np.maximum(squares, 0))
    return distances


def _checked(
    samples: Features, data: Features, fewest: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both in float64. Raises DataError for other shapes, NumbersError for values that are not finite."""
    x, y = np.asarray(samples, np.float64), np.asarray(data, np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < fewest:
        raise DataError(
            f"features are rows (n, d), n >= {fewest}, of one length, not {x.shape} and {y.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise NumbersError("features with values that are not finite have no distances")
    return x, y
