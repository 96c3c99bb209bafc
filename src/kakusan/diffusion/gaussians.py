"""The Gaussian: the only distribution of the derivation."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from kakusan.shapes import Samples, moved

SMALLEST = 1e-150
"""Lower limit of a deviation that is divided by: with 0, a mean on the edge of a bin would give 0 / 0."""

Nats = Float64[Tensor, "batch channels *space"]
"""One number for each value, in nats."""


@dataclass(frozen=True)
class Gaussian:
    """N(mean, variance I). The variance stays float64, since terms of 1e-7 vanish in float32.

    mean: (batch, channels, ...); variance: float64, the same shape or any that broadcasts to it.
    """

    mean: Samples
    variance: Float64[Tensor, "..."]

    def reparametrize(self, noise: Samples) -> Samples:
        """A draw as a function of standard normal noise, as Eq. (2) has it: mean + sqrt(variance) noise."""
        return self.mean + moved(self.variance.sqrt(), self.mean) * noise

    def kl(self, other: "Gaussian") -> Nats:
        """KL(self || other), for each pixel value: what all terms in Eq. (11) but L_0 are."""
        mean, other_mean = double(self.mean), double(other.mean)
        variance, other_variance = self.variance.to(mean.device), other.variance.to(mean.device)
        ratio = variance / other_variance
        return 0.5 * (ratio - 1 - ratio.log() + (mean - other_mean).square() / other_variance)

    def log_density(self, x: Samples) -> Nats:
        """log of the density at x."""
        difference = double(x) - double(self.mean)
        variance = self.variance.to(difference.device)
        return -0.5 * (difference.square() / variance + variance.log() + math.log(2 * math.pi))

    def log_mass(self, x: Samples, levels: int) -> Nats:
        """log of the probability of the bin around each x, one of `levels` values from -1 to 1.

        The discretized decoder (Ho et al. 2020, Eq. 13): bins reach half-way to their neighbours, the outer ones to
        infinity. Exact normal CDF in log space, so that the far tails are right too. The edges come from the number
        of the level, so that neighbours share them to the last bit and all bins sum to 1.
        """
        mean = double(self.mean)
        deviation = self.variance.to(mean.device).sqrt().clamp(min=SMALLEST)
        level = ((double(x) + 1) * ((levels - 1) / 2)).round()
        low = ((2 * level - 1) / (levels - 1) - 1 - mean) / deviation
        high = ((2 * level + 1) / (levels - 1) - 1 - mean) / deviation
        return log_normal_interval(
            low.masked_fill(level <= 0, -math.inf), high.masked_fill(level >= levels - 1, math.inf)
        )


def log_normal_interval(low: Float64[Tensor, "..."], high: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
    """log(Phi(high) - Phi(low)) for the standard normal CDF Phi and low < high, infinities allowed.

    An interval on the right is mirrored to the left, where Phi is small and nothing cancels. Where Phi(high) is below
    every number, so that its logarithm is -inf, so is the result.
    """
    right = low > 0
    low, high = torch.where(right, -high, low), torch.where(right, -low, high)
    log_high: Tensor = torch.special.log_ndtr(high)
    nothing = log_high == -math.inf
    share = torch.special.log_ndtr(low) - log_high.masked_fill(nothing, 0)
    return (log_high + torch.log(-torch.expm1(share))).masked_fill(nothing, -math.inf)


def double(x: Tensor) -> Tensor:
    """float64, on the CPU where the device has none (Metal)."""
    return x.cpu().double() if x.device.type == "mps" else x.double()
