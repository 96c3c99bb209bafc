"""The vocabulary of shapes. Annotations only; the tests check them at run time."""

from typing import TypeAlias

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

Samples: TypeAlias = Float[Tensor, "batch channels *space"]
"""A batch in the network's units, or noise of its shape: points (batch, 2), signals (batch, channels, length), images
(batch, channels, height, width), volumes (batch, channels, depth, height, width)."""

PerSample: TypeAlias = Float[Tensor, "batch *ones"]
"""One number for each sample, ready to broadcast: see `per_sample`."""

Times: TypeAlias = Float64[Tensor, " batch"]
"""0 <= t <= T; whole numbers in training."""

Coefficients: TypeAlias = Float64[Tensor, " batch"]
"""One number for each sample, a function of its time, on the CPU."""

Labels: TypeAlias = Int[Tensor, " batch"]
"""Class labels 0..classes-1, or `NULL`."""

NULL = -1
"""No class: what stands for it in a network is the network's affair."""


def per_sample(values: Float[Tensor, " batch"], like: Samples) -> PerSample:
    """One number for each sample, of shape (batch, 1, ..., 1), to broadcast over samples of any rank.

    Raises ValueError where there is not one number for each sample.
    """
    if values.shape != like.shape[:1]:
        raise ValueError(
            f"{tuple(values.shape)} coefficients do not fit samples of shape {tuple(like.shape)}"
        )
    return values.view(-1, *[1] * (like.ndim - 1))


def scaled(values: Coefficients, x: Samples) -> Samples:
    """Each sample times its number, which is cast last to the samples' type and device."""
    return per_sample(values, x).to(x) * x


def times_like(t: int | float, x: Samples) -> Times:
    """The same time for every sample of a batch."""
    return torch.full((len(x),), float(t), dtype=torch.float64)
