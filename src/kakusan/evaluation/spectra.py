"""Power by spatial frequency: what a blurred, noisy or checkered sample shows at once, in any number of dimensions.

The power at a frequency is averaged over the directions, in shells of equal width; the unit of frequency is a cycle
for each step of the grid, so that 0.5 is the fastest change that a grid holds. The corners beyond it are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kakusan.shapes import Samples

SMALLEST_SIDE = 4
"""Of the longest side, below which there is no spectrum to speak of."""
MOST_SHELLS = 64
"""More are joined, in equal steps of the logarithm of the frequency."""
NOTHING = 1e-12
"""Power, as a share of the largest, that counts as none: what is left of rounding."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Shells:
    """The Fourier coefficients of a grid, by their distance from frequency 0."""

    frequency: Floats
    """The mean of each shell, in cycles for each step of the grid."""
    order: NDArray[np.int64]
    """Places of the coefficients, shell after shell."""
    starts: NDArray[np.int64]
    """The first of each shell, in `order`."""
    counts: NDArray[np.int64]


def has_spectrum(shape: Sequence[int]) -> bool:
    """Whether samples of this shape, (channels, ...), have places, and enough of them."""
    return max(shape[1:], default=0) >= SMALLEST_SIDE


@cache
def shells_of(sides: tuple[int, ...]) -> Shells:
    """Shells as wide as one cycle over the longest side, the first around it; at most `MOST_SHELLS`."""
    grid = np.meshgrid(*(np.fft.fftfreq(side) for side in sides), indexing="ij")
    radius = np.sqrt(sum(np.square(axis) for axis in grid)).ravel()
    last = max(sides) // 2
    ring = np.rint(radius * max(sides)).astype(np.int64)
    edges = np.arange(1, last + 2)
    if last > MOST_SHELLS:
        edges = np.unique(np.rint(np.geomspace(1, last + 1, MOST_SHELLS + 1)).astype(np.int64))
    shell = np.searchsorted(edges, ring, side="right") - 1
    shell[ring > last] = -1
    order = np.argsort(shell, kind="stable")
    order = order[np.count_nonzero(shell < 0) :]
    starts = np.searchsorted(shell[order], np.arange(len(edges) - 1))
    counts = np.diff(starts, append=len(order))
    return Shells(np.add.reduceat(radius[order], starts) / counts, order, starts, counts)


def radial_power(x: Samples) -> Floats:
    """(n, channels, shells) of samples (n, channels, ...) in float64. White noise has its variance at all frequencies.

    The mean of each sample is taken out, and a Hann window laid on it: else the edges of a sample that does not go on
    at its other end have power at all frequencies, which hides what little there is at high ones.
    """
    sides = tuple(x.shape[2:])
    values, axes = np.asarray(x.double().cpu().numpy()), tuple(range(2, x.ndim))
    window = np.ones(())
    for side in sides:
        window = np.multiply.outer(window, np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2)
    fluctuation = (values - values.mean(axes, keepdims=True)) * window
    power = np.square(np.abs(np.fft.fftn(fluctuation, axes=axes))) / np.square(window).sum()
    shells = shells_of(sides)
    gathered = power.reshape(*x.shape[:2], -1)[..., shells.order]
    return np.asarray(np.add.reduceat(gathered, shells.starts, axis=-1) / shells.counts)


@dataclass(frozen=True)
class Spectrum:
    """The mean power over samples and its standard error, (channels, shells)."""

    power: Floats
    errors: Floats

    @classmethod
    def of(cls, powers: Floats) -> "Spectrum":
        """Of the power of each sample, (n, channels, shells); one sample tells no error, which is nan then."""
        n = len(powers)
        deviation = powers.std(0, ddof=1) if n > 1 else np.full(powers.shape[1:], np.nan)
        return cls(powers.mean(0), deviation / np.sqrt(n))

    def as_json(self) -> dict[str, Any]:
        return {"power": self.power.tolist(), "error": self.errors.tolist()}


def log_spectral_distance(one: Floats, other: Floats) -> float:
    """The root mean square of the ratio of two spectra (channels, shells), in decibels; 0 where they are equal.

    Of speech: Gray & Markel 1976. Each shell counts once, whatever its power. Of the other, power below 1e-12 of the
    largest of its channel counts as that much; channels without any are left out, and all such have the distance 0.
    """
    largest = other.max(-1, keepdims=True)
    alive = largest[:, 0] > 0
    if not alive.any():
        return 0.0
    floor = NOTHING * largest[alive]
    ratio = 10 * np.log10(np.maximum(one[alive], floor) / np.maximum(other[alive], floor))
    return float(np.sqrt(np.square(ratio).mean()))
