"""The noise of a measurement: the law of y where A(x) is known."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kakusan.errors import SettingsError
from kakusan.operators import Measured


class Noise(ABC):
    """y given A(x), each value by itself. Methods made for Gaussian noise take the nearest Gaussian."""

    @abstractmethod
    def variance(self, y: Measured, predicted: Measured) -> Measured:
        """Variance of the Gaussian in its place near a prediction A(x), of the shape of y."""

    @abstractmethod
    def log_density(self, y: Measured, predicted: Measured) -> Measured:
        """log p(y | A(x)) of each value, in nats, with gradients."""

    @abstractmethod
    def draw(self, exact: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
        """A measurement of A(x): with its noise."""


@dataclass(frozen=True, eq=False)
class Gaussian(Noise):
    """y = A(x) + sigma z, z ~ N(0, I).

    sigma: in the units of y: a number, or a tensor of the shape of y (a map, the root of a diagonal covariance). 0: y
    is exact. Raises SettingsError for what is no deviation.
    """

    sigma: float | int | Tensor

    def __post_init__(self) -> None:
        sigma = torch.as_tensor(self.sigma)
        if not (sigma.isfinite().all() and (sigma >= 0).all()):
            raise SettingsError(
                "the deviation of noise is a finite number of at least 0, in the units of what was measured"
            )

    def variance(self, y: Measured, predicted: Measured) -> Measured:  # noqa: ARG002
        return torch.as_tensor(self.sigma, dtype=torch.float64).square().to(y).expand(y.shape)

    def log_density(self, y: Measured, predicted: Measured) -> Measured:
        variance = self.variance(y, predicted)
        return -0.5 * ((y - predicted).square() / variance + variance.log() + math.log(2 * math.pi))

    def draw(self, exact: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
        sigma = np.asarray(torch.as_tensor(self.sigma, dtype=torch.float64))
        drawn: NDArray[np.float64] = exact + sigma * generator.standard_normal(exact.shape)
        return drawn
