"""The noise of a measurement: the law of y where A(x) is known."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.special import gammainc, gammaincc, ndtri

from kakusan.errors import SettingsError
from kakusan.operators import Measured

LEAST_RATE: Final = 1e-3
"""Expected counts below which the logarithm of Poisson's law goes on along its tangent."""
TINY: Final = 1e-300
"""The least probability whose quantile is looked for."""

Luck: TypeAlias = Callable[[], Tensor]


class Noise(ABC):
    """y given A(x), each value by itself. Methods made for Gaussian noise take the nearest Gaussian."""

    @abstractmethod
    def variance(self, residual: Measured, predicted: Measured) -> Measured:
        """Variance of the Gaussian in its place near a prediction A(x), of the shape of y.

        residual: y - A(x), which is given by itself because next to an offset many times the noise it cannot be formed.
        """

    @abstractmethod
    def log_density(self, y: Measured, predicted: Measured) -> Measured:
        """log p(y | A(x)) of each value, in nats, with gradients."""

    def standardized(self, residual: Measured, predicted: Measured, luck: Luck) -> Measured:
        """What is left of y, in deviations of its noise: of the true x of mean square 1, and N(0, 1) if it is Gaussian.

        luck: uniform numbers in (0, 1) of the shape of y, for laws that need them.
        """
        del luck
        return residual / self.variance(residual, predicted).sqrt()

    @abstractmethod
    def draw(self, exact: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
        """A measurement of A(x): with its noise."""

    def widened(self, variance: float | Tensor) -> "Noise":
        """The law about the unrounded A(x), with the variance of the rounding added: of Gaussian noise, which has room
        for it. Other laws stay, and are about the rounded A(x)."""
        del variance
        return self

    def require_fit(self, y: Measured) -> None:
        """Raises SettingsError where y cannot have this noise. y: a batch, 0 where nothing was measured."""
        del y


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

    @classmethod
    def of_variance(cls, variance: float | Tensor) -> "Gaussian":
        """Gaussian noise of this variance, such as the diagonal of a covariance, of the shape of y."""
        return cls(torch.as_tensor(variance, dtype=torch.float64).sqrt())

    def widened(self, variance: float | Tensor) -> "Gaussian":
        added = torch.as_tensor(variance, dtype=torch.float64)
        return Gaussian.of_variance(self._variance + added) if added.any() else self

    def require_fit(self, y: Measured) -> None:
        given, wanted = tuple(torch.as_tensor(self.sigma).shape), tuple(y.shape[1:])
        if given not in ((), wanted):
            raise SettingsError(
                f"a map of noise of shape {given} is for what was measured, of shape {wanted}"
            )

    def variance(self, residual: Measured, predicted: Measured) -> Measured:  # noqa: ARG002
        return self._variance.to(residual.device, residual.dtype).expand(residual.shape)

    def log_density(self, y: Measured, predicted: Measured) -> Measured:
        residual = y - predicted
        variance = self.variance(residual, predicted)
        return -0.5 * (residual.square() / variance + variance.log() + math.log(2 * math.pi))

    def draw(self, exact: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
        sigma = np.asarray(torch.as_tensor(self.sigma, dtype=torch.float64))
        drawn: NDArray[np.float64] = exact + sigma * generator.standard_normal(exact.shape)
        return drawn

    @property
    def _variance(self) -> Tensor:
        return torch.as_tensor(self.sigma, dtype=torch.float64).square()


@dataclass(frozen=True)
class Poisson(Noise):
    """y = gain n, n ~ Poisson(A(x) / gain): counts, such as photons, of which each adds `gain` to y.

    gain: above 0, in the units of y. Expected counts below 0, which a guess of x may have, are taken as 0; so that a
    likelihood still leads back, log(rate) goes on along its tangent below 1e-3 counts.
    Raises SettingsError for another gain, and for values of y below 0.
    """

    gain: float

    def __post_init__(self) -> None:
        if not 0 < self.gain < math.inf:
            raise SettingsError(
                f"the gain of Poisson noise is above 0, what one count adds to y, not {self.gain:g}"
            )

    def require_fit(self, y: Measured) -> None:
        if below := int((y < 0).sum()):
            raise SettingsError(
                f"{below:,} measured value{'s are' if below > 1 else ' is'} below 0, and counts are not",
                "an offset that was taken away from them belongs back",
            )

    def variance(self, residual: Measured, predicted: Measured) -> Measured:
        """gain A(x), that of the expected counts; of one count where fewer are expected."""
        del residual
        return self.gain * predicted.clamp(min=self.gain)

    def standardized(self, residual: Measured, predicted: Measured, luck: Luck) -> Measured:
        """The quantile of y among the counts to be expected, as a number of N(0, 1) (Dunn & Smyth 1996).

        A count spans an interval of probability, in which it lies by luck: so it is N(0, 1) of the true x also where
        hardly one count is expected, and residuals have a tail that no Gaussian has.
        """
        counts, rate = (
            ((predicted + residual) / self.gain).round(),
            (predicted / self.gain).clamp(min=LEAST_RATE),
        )
        from_left = torch.lerp(gammaincc(counts, rate), gammaincc(counts + 1, rate), share := luck())
        from_right = torch.lerp(gammainc(counts, rate), gammainc(counts + 1, rate), share)
        left, right = (ndtri(tail.clamp(min=TINY)) for tail in (from_left, from_right))
        return torch.where(from_left < from_right, left, -right)

    def log_density(self, y: Measured, predicted: Measured) -> Measured:
        counts, rate = y / self.gain, predicted / self.gain
        tangent = math.log(LEAST_RATE) + (rate - LEAST_RATE) / LEAST_RATE
        log_rate = torch.where(rate > LEAST_RATE, rate.clamp(min=LEAST_RATE).log(), tangent)
        return counts * log_rate - rate.clamp(min=0) - torch.lgamma(counts + 1) - math.log(self.gain)

    def draw(self, exact: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
        counts = generator.poisson(np.maximum(exact, 0) / self.gain)
        return counts.astype(np.float64) * self.gain


@dataclass(frozen=True)
class Student(Noise):
    """y = A(x) + scale u, u of Student's t with so many degrees of freedom: mostly Gaussian, with outliers.

    scale: above 0, in the units of y. dof: above 0; 1 is Cauchy's law, beyond 30 hardly anything is an outlier.
    Raises SettingsError for others.
    """

    scale: float
    dof: float

    def __post_init__(self) -> None:
        if not (0 < self.scale < math.inf and 0 < self.dof < math.inf):
            raise SettingsError(
                f"Student's t has a scale and degrees of freedom above 0, not {self.scale:g} and {self.dof:g}"
            )

    def variance(self, residual: Measured, predicted: Measured) -> Measured:
        """scale^2 (dof + r^2) / (dof + 1), r = (y - A(x)) / scale: the larger, the more it looks like an outlier.

        The law is a mixture of Gaussians of all precisions; this is the inverse of the precision to be expected given
        r, the weight of expectation maximization (Lange, Little & Taylor 1989). A guess of x that is far off, as at
        much noise, makes outliers of values that are none: they then say less there than they could.
        """
        del predicted
        r = residual / self.scale
        return self.scale**2 * (self.dof + r.square()) / (self.dof + 1)

    def log_density(self, y: Measured, predicted: Measured) -> Measured:
        r, dof = (y - predicted) / self.scale, self.dof
        most = (
            math.lgamma((dof + 1) / 2)
            - math.lgamma(dof / 2)
            - 0.5 * math.log(math.pi * dof)
            - math.log(self.scale)
        )
        return most - (dof + 1) / 2 * torch.log1p(r.square() / dof)

    def draw(self, exact: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
        drawn: NDArray[np.float64] = exact + self.scale * generator.standard_t(self.dof, exact.shape)
        return drawn


@dataclass(frozen=True)
class Unknown(Noise):
    """Gaussian noise of a deviation that nobody knows yet: `kakusan.posterior.fitted_noise` finds it, and says so."""

    def variance(self, *_: Any, **__: Any) -> NoReturn:
        self._refuse()

    def log_density(self, *_: Any, **__: Any) -> NoReturn:
        self._refuse()

    def draw(self, *_: Any, **__: Any) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise SettingsError(
            "the noise of the measurement is not known",
            "say how large it is, or have it fitted: fitted_noise(...)",
        )
