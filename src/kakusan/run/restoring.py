"""Samples of an open run given a measurement: y = A(x) + noise in the units of the data."""

import torch
from torch import Tensor

from kakusan.data.units import Levels, Units


def scale_and_mean(units: Units) -> tuple[float | Tensor, float | Tensor]:
    """(scale, mean) with data = scale x + mean, x in the network's units: numbers, or one for each channel."""
    if isinstance(units, Levels):
        half = (units.levels - 1) / 2
        return half, half
    return torch.tensor(units.scale, dtype=torch.float64), torch.tensor(units.mean, dtype=torch.float64)
