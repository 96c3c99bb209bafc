"""A set of images as it is compared with others: features, sums of powers, spectra, kept image by image."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from kakusan.data.units import Units
from kakusan.evaluation.features import FeatureMap, Progress
from kakusan.evaluation.moments import ChannelMoments, Floats, channel_moments, power_sums
from kakusan.evaluation.spectra import Spectrum, has_spectrum, radial_power
from kakusan.shapes import Samples

NUMBERS_AT_A_TIME = 1 << 22


@dataclass(frozen=True, eq=False)
class Summary:
    """Of each of n images: features, sums of powers and power by frequency; None for what there is none of."""

    features: Floats | None
    """(n, d)."""
    sums: Floats
    """(n, channels, 5), about the centre of the view."""
    power: Floats | None
    """(n, channels, shells)."""

    @classmethod
    def joined(cls, parts: Iterable["Summary"]) -> "Summary":
        """All images of several summaries of one view."""
        every = list(parts)
        features, powers = ([each.features for each in every], [each.power for each in every])
        return cls(_rows(features), np.concatenate([each.sums for each in every]), _rows(powers))

    @property
    def spectrum(self) -> Spectrum | None:
        return None if self.power is None else Spectrum.of(self.power)


def _rows(parts: list[Floats | None]) -> Floats | None:
    kept = [part for part in parts if part is not None]
    return np.concatenate(kept) if kept else None


@dataclass(frozen=True, eq=False)
class View:
    """A way to look at sets of images, the same for all that are compared."""

    features: FeatureMap | None
    """None where values are missing, which no network of features knows."""
    centre: Floats
    """Of each channel; see `power_sums`."""
    units: Units
    progress: Progress = lambda _, __: None
    """Called with the images that have features, and all of them."""

    def of(self, x: Samples) -> Summary:
        """A summary of images in the network's units, nan where a value is missing."""
        parts = torch.split(x, max(1, NUMBERS_AT_A_TIME // x[0].numel()))
        has_power = self.features is not None and has_spectrum(x.shape[1:])
        return Summary(
            None if self.features is None else self.features(x, self.progress),
            np.concatenate([power_sums(part, self.centre) for part in parts]),
            np.concatenate([radial_power(part) for part in parts]) if has_power else None,
        )

    def moments(self, summary: Summary) -> ChannelMoments:
        """In the data's own units."""
        return channel_moments(summary.sums, self.centre, self.units)
