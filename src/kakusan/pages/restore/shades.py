"""The one scale on which all pictures of a measurement are shown: levels as they are, real data by what they hold."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kakusan.data.space import POINTS, SIGNALS, noun_of
from kakusan.data.units import Levels, Real, Units
from kakusan.shapes import Samples

LEAST = 0.1
"""Half-width of a scale, in that of all the run's pictures, below which it is no narrower."""


@dataclass(frozen=True)
class Shades:
    """Black and white, by channel. A picture of x is that of `of(x)` in `units`."""

    units: Units
    """Of saved values on this scale."""
    middle: tuple[float, ...] = ()
    """In the network's units, as half is; of levels there are none."""
    half: tuple[float, ...] = ()

    @classmethod
    def between(cls, shown: Tensor, units: Units) -> "Shades":
        """From the least to the largest value of shown (n, channels, ...), the truth or means of samples.

        A sample that is far off then takes no contrast from the others. Of levels, signals and points those of the run.
        """
        if isinstance(units, Levels) or noun_of(tuple(shown.shape[1:])) in (POINTS, SIGNALS):
            return cls(units)
        ends = [_ends(channel) for channel in shown.double().unbind(1)]
        middle = tuple((low + high) / 2 for low, high in ends)
        half = tuple(max((high - low) / 2, LEAST * units.shown) for low, high in ends)
        mean = tuple(m + s * at for m, s, at in zip(units.mean, units.scale, middle, strict=True))
        scale = tuple(s * width for s, width in zip(units.scale, half, strict=True))
        return cls(Real(mean, scale), middle, half)

    @property
    def smooth(self) -> Units:
        """For what lies between the levels of the data."""
        return Levels(256) if isinstance(self.units, Levels) else self.units

    def of(self, x: Samples) -> Samples:
        """Samples (n, channels, ...) of the network's units, such that -1 is black and 1 is white."""
        if not self.half:
            return x
        middle, half = (
            torch.tensor(each, dtype=torch.float64).view(1, -1, *[1] * (x.ndim - 2))
            for each in (self.middle, self.half)
        )
        return (x.double() - middle) / half

    @property
    def words(self) -> str:
        """The values that are black and white; nothing where the run's own scale is kept."""
        if not self.half or not isinstance(self.units, Real):
            return ""
        ends = [
            f"{m - s:.4g} and {m + s:.4g}" for m, s in zip(self.units.mean, self.units.scale, strict=True)
        ]
        if len(ends) == 1:
            return f"One scale for all pictures of x: black and white are {ends[0]}, or beyond."
        listed = "; ".join(f"{words} in channel {c}" for c, words in enumerate(ends, 1))
        return f"One scale for all pictures of x: black and white are {listed}, or beyond."


def _ends(values: Tensor) -> tuple[float, float]:
    known = values[values.isfinite()]
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
