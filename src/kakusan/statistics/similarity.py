"""How near a guess is to the truth: peak signal-to-noise ratio, and structural similarity."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kakusan.errors import DataError
from kakusan.statistics.ensembles import as_array

Floats = NDArray[np.float64]

WINDOW, SIGMA = 11, 1.5
"""Width of the Gaussian window and its deviation, in pixels."""
K_1, K_2 = 0.01, 0.03
"""Shares of the peak that keep the two ratios finite."""


def psnr(guess: Any, truth: Any, peak: float) -> Floats:
    """10 log10(peak^2 / mean squared error) of each of n guesses, in dB; inf where all is right.

    guess, truth: (n, ...); peak: the range of the data, in their units. Values that are nan in one of them do not
    count. Raises DataError for shapes that differ.
    """
    x, y = _pair(guess, truth)
    with np.errstate(divide="ignore", invalid="ignore"):
        squared = np.square(x - y).reshape(len(x), -1)
        there = ~np.isnan(squared)
        mean = np.where(there, squared, 0).sum(1) / there.sum(1)
        found: Floats = 10 * np.log10(peak**2 / mean)
    return found


def ssim(guess: Any, truth: Any, peak: float) -> Floats:
    """Structural similarity of each of n guesses, at most 1 (Wang, Bovik, Sheikh & Simoncelli 2004).

    guess, truth: (n, channels, *space), of images, signals (a window along the length) or volumes (in all three
    directions). Means, variances and covariance are those under a Gaussian window of 11 pixels, sigma 1.5, wherever it
    fits inside; the mean is over places and channels. The first factor, of the means, has sense where 0 is the least
    value of the data: of values far from it, it is 1. nan of points, of sides below 11, and where no window is without
    a missing value.
    """
    x, y = _pair(guess, truth)
    if x.ndim < 3 or min(x.shape[2:]) < WINDOW:
        return np.full(len(x), np.nan)
    c_1, c_2 = (K_1 * peak) ** 2, (K_2 * peak) ** 2
    mean_x, mean_y = _smoothed(x), _smoothed(y)
    away_x, away_y = (v - _middle(y) for v in (x, y))  # spreads of values far from 0 keep their digits
    off_x, off_y = _smoothed(away_x), _smoothed(away_y)
    var_x, var_y = _smoothed(away_x**2) - off_x**2, _smoothed(away_y**2) - off_y**2
    covariance = _smoothed(away_x * away_y) - off_x * off_y
    likeness = (2 * mean_x * mean_y + c_1) * (2 * covariance + c_2)
    likeness /= (mean_x**2 + mean_y**2 + c_1) * (var_x + var_y + c_2)
    flat = likeness.reshape(len(x), -1)
    there = ~np.isnan(flat)
    total = np.where(there, flat, 0).sum(1)
    found: Floats = np.divide(total, there.sum(1), out=np.full(len(x), np.nan), where=there.any(1))
    return found


def _middle(values: Floats) -> Floats:
    """The mean of each of n, laid over them; nan left out."""
    there = ~np.isnan(values)
    axes = tuple(range(1, values.ndim))
    total = np.where(there, values, 0).sum(axes, keepdims=True)
    found: Floats = total / np.maximum(there.sum(axes, keepdims=True), 1)
    return found


def _pair(guess: Any, truth: Any) -> tuple[Floats, Floats]:
    x, y = as_array(guess).astype(np.float64), as_array(truth).astype(np.float64)
    if x.shape != y.shape or not x.ndim:
        raise DataError(f"a guess of shape {x.shape} has no truth of shape {y.shape}")
    return x, y


def _smoothed(values: Floats) -> Floats:
    """The weighted mean of each window that lies inside, along all axes of the space."""
    places = np.arange(WINDOW) - WINDOW // 2
    weights = np.array([math.exp(-0.5 * (place / SIGMA) ** 2) for place in places])
    weights /= weights.sum()
    for axis in range(2, values.ndim):
        values = np.lib.stride_tricks.sliding_window_view(values, WINDOW, axis=axis) @ weights
    return values
