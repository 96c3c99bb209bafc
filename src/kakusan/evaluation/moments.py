"""The first four moments of each channel, with standard errors: a comparison of samples that needs no features.

The values of a sample depend on each other, so an error counts samples, not values: that of the delete-one jackknife
(Efron & Stein 1981), which is exact for a mean and right to first order for what is a smooth function of means.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kakusan.data.units import Levels, Units
from kakusan.shapes import Samples

MOMENTS = ("mean", "deviation", "skewness", "kurtosis")
POWERS = 5
"""Sums of the powers 0 to 4: the first is the number of values."""
MOST_DECIMALS = 9

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ChannelMoments:
    """Of each channel, one row: `MOMENTS`, in the data's own units, and their standard errors, (channels, 4).

    The kurtosis is that beyond a normal law's 3. nan where a channel is constant, or a single sample tells no error.
    """

    values: Floats
    errors: Floats

    def as_json(self) -> list[dict[str, Any]]:
        """For each channel the value and the error of each moment."""
        pairs = np.stack([self.values, self.errors], -1).tolist()
        return [dict(zip(MOMENTS, row, strict=True)) for row in pairs]


def centre_of(x: Samples) -> Floats:
    """The mean of each channel, (channels,), about which sums of powers lose the fewest digits; nan does not count."""
    values = x.double().transpose(0, 1).flatten(1)
    return np.asarray(values.nanmean(1).nan_to_num(0).cpu().numpy())


def power_sums(x: Samples, centre: Floats) -> Floats:
    """(n, channels, 5): of each sample and channel the sums of the powers 0 to 4 of (value - centre), nan left out."""
    values = x.double().reshape(*x.shape[:2], -1)  # points have one value a channel
    away = np.asarray(values.cpu().numpy()) - centre[:, None]
    there = ~np.isnan(away)
    away[~there] = 0
    powers = [there.sum(-1, dtype=np.float64)]
    power = np.ones_like(away)
    for _ in range(1, POWERS):
        power = power * away
        powers.append(power.sum(-1))
    return np.stack(powers, -1)


def moments_of_sums(sums: Floats, centre: Floats) -> Floats:
    """(..., channels, 4) of sums of powers (..., channels, 5): mean, deviation, skewness, kurtosis less 3."""
    with np.errstate(
        invalid="ignore", divide="ignore"
    ):  # a channel without values, or without variance, has none
        one, two, three, four = (sums[..., k] / sums[..., 0] for k in range(1, POWERS))
        variance = np.maximum(two - one**2, 0)
        third = three - 3 * one * two + 2 * one**3
        fourth = four - 4 * one * three + 6 * one**2 * two - 3 * one**4
        deviation = np.sqrt(variance)
        parts = (one + centre, deviation, third / deviation**3, fourth / variance**2 - 3)
        return np.stack(np.broadcast_arrays(*parts), -1)


def channel_moments(sums: Floats, centre: Floats, units: Units) -> ChannelMoments:
    """The moments of all samples together, and their errors, of their sums of powers (n, channels, 5)."""
    total, n = sums.sum(0), len(sums)
    values = moments_of_sums(total, centre)
    without_one = moments_of_sums(total - sums, centre)
    with np.errstate(invalid="ignore"):
        spread = np.square(without_one - without_one.mean(0)).sum(0)
    errors = np.sqrt((n - 1) / n * spread) if n > 1 else np.full_like(values, np.nan)
    offset, scale = affine_of(units, len(values))
    values[:, 0] = offset + scale * values[:, 0]
    values[:, 1] *= scale
    errors[:, :2] *= scale[:, None]
    return ChannelMoments(values, errors)


def affine_of(units: Units, channels: int) -> tuple[Floats, Floats]:
    """Offset and scale of each channel: value in the data's units = offset + scale x, without rounding to levels."""
    if isinstance(units, Levels):
        half = np.full(channels, (units.levels - 1) / 2)
        return half, half
    return np.array(units.mean), np.array(units.scale)


def with_error(value: float | None, error: float | None) -> str:
    """A value and its standard error, to the second digit of the error; "none" where there is no value."""
    if value is None or not math.isfinite(value):
        return "none"
    if error is None or not (math.isfinite(error) and error > 0):
        return f"{value:.4g}"
    decimals = 1 - math.floor(math.log10(error))
    if abs(decimals) > MOST_DECIMALS:
        return f"{value:.6g} ± {error:.2g}"
    shown = max(0, decimals)
    return f"{round(value, decimals):,.{shown}f} ± {round(error, decimals):.{shown}f}"
