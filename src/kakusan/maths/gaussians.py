"""The Gaussian with one variance an image: the only distribution of the derivation."""

import math
from dataclasses import dataclass

from jaxtyping import Float64
from torch import Tensor

from kakusan.shapes import Images


@dataclass(frozen=True)
class Gaussian:
    """N(mean, variance I). The variance stays float64 (on the CPU), since terms of 1e-7
    vanish in float32.

    mean: (batch, channels, height, width); variance: float64, the same shape or any that broadcasts to it.
    """

    mean: Images
    variance: Float64[Tensor, "..."]

    def reparametrize(self, noise: Images) -> Images:
        """A draw, as a function of standard normal noise: mean + sqrt(variance) noise. Eq. (2)."""
        return self.mean + self.variance.sqrt().to(self.mean) * noise

    def kl(self, other: "Gaussian") -> Float64[Tensor, "batch channels height width"]:
        """KL(self || other) in nats, for each pixel value. The divergences of Eq. (11)."""
        mean, other_mean = _double(self.mean), _double(other.mean)
        ratio = (self.variance / other.variance).to(mean.device)
        distance = (mean - other_mean).square() / other.variance.to(mean.device)
        return 0.5 * (ratio - 1 - ratio.log() + distance)

    def log_density(self, x: Images) -> Float64[Tensor, "batch channels height width"]:
        """log of the density at x in nats, for each pixel value."""
        difference = _double(x) - _double(self.mean)
        variance = self.variance.to(difference.device)
        return -0.5 * (difference.square() / variance + variance.log() + math.log(2 * math.pi))


def _double(x: Tensor) -> Tensor:
    return x.cpu().double() if x.device.type == "mps" else x.double()  # MPS has no float64
