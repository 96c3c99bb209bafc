"""A denoiser: a network, a schedule and a parametrization, as one guess about the image behind the noise.

Here alone it is known that networks are fed t - 1. All else counts t = 1..T.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kakusan.errors import SettingsError
from kakusan.maths.forward import posterior_variance, q_posterior, step_variance
from kakusan.maths.gaussians import Gaussian
from kakusan.maths.parametrizations import PARAMETRIZATIONS, Parametrization, amplitudes, clip_x_0
from kakusan.maths.schedules import NoiseSchedule
from kakusan.shapes import Images, Labels, PerImage, Times

Network = Callable[..., Tensor]
"""(x_t, time, condition=None) -> tensor of the images' shape; time = t - 1, float32, shape (batch,)."""

VARIANCES: dict[str, Callable[[NoiseSchedule, Times, Times], PerImage]] = {
    "fixed-large": step_variance,
    "fixed-small": posterior_variance,
}
"""sigma^2 of a step from t to s, Eq. (13): beta (right where the data are pure noise) or beta~ (right where they
are one point)."""


@dataclass(frozen=True)
class Prediction:
    """One guess about x_t, in two views that agree by Eq. (2)."""

    x_0: Images
    eps: Images


class Denoiser(ABC):
    """Guesses x_0 from x_t. What samplers and bounds ask; exact oracles and networks are both one."""

    schedule: NoiseSchedule

    @abstractmethod
    def predict(self, x_t: Images, t: Times, condition: Labels | None = None) -> Prediction:
        """The guess of x_0, and of the eps in x_t, at times 1 <= t <= T."""

    @abstractmethod
    def variance_of(self, guess: Prediction, t: Times, s: Times) -> PerImage:
        """sigma^2 of the step from t to s, float64. Eq. (5)."""


def p_step(denoiser: Denoiser, x_t: Images, t: Times, s: Times, condition: Labels | None = None) -> Gaussian:
    """p_theta(x_s | x_t): the posterior at the denoiser's guess of x_0. Eqs. (5) and (13)."""
    return p_given(denoiser, denoiser.predict(x_t, t, condition), x_t, t, s)


def p_given(denoiser: Denoiser, guess: Prediction, x_t: Images, t: Times, s: Times) -> Gaussian:
    """`p_step` where the guess is known already."""
    mean = q_posterior(denoiser.schedule, x_t, guess.x_0, t, s).mean
    return Gaussian(mean, denoiser.variance_of(guess, t, s))


@dataclass(frozen=True)
class NetworkDenoiser(Denoiser):
    """A network with the schedule it was trained on and the meaning of its word.

    predicts: "eps", "x_0" or "v"; clip: hold the guess of x_0 to [-clip, clip] and re-derive eps (None: do not);
    autocast: the type of convolutions and products (None: as the weights are). Raises SettingsError on unknown names.
    """

    network: Network
    schedule: NoiseSchedule
    predicts: str = "eps"
    variance: str = "fixed-large"
    clip: float | None = None
    autocast: torch.dtype | None = None

    def __post_init__(self) -> None:
        for value, known in ((self.predicts, PARAMETRIZATIONS), (self.variance, VARIANCES)):
            if value not in known:
                raise SettingsError(f"unknown name {value!r}", f"there are: {', '.join(known)}")
        if self.predicts == "eps" and float(self.schedule.alpha_bar[-1]) == 0:
            raise SettingsError(
                "this schedule ends in pure noise, where eps says nothing of x_0 (a division by zero)",
                "let the network predict v or x_0 (--process.predicts v)",
            )

    @property
    def parametrization(self) -> Parametrization:
        return PARAMETRIZATIONS[self.predicts]

    def output(self, x_t: Images, t: Times, condition: Labels | None = None) -> Images:
        """The network's own word, float32: what the losses look at."""
        time = (t - 1).float().to(x_t.device)
        with torch.autocast(x_t.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            return self.network(x_t, time, condition).float()

    def predict(self, x_t: Images, t: Times, condition: Labels | None = None) -> Prediction:
        a, b = amplitudes(self.schedule, t, x_t)
        x_0, eps = self.parametrization.guess(self.output(x_t, t, condition), x_t, a, b)
        if self.clip is not None:
            x_0, eps = clip_x_0(x_0, x_t, a, b, self.clip)
        return Prediction(x_0, eps)

    def variance_of(self, guess: Prediction, t: Times, s: Times) -> PerImage:  # noqa: ARG002
        return VARIANCES[self.variance](self.schedule, t, s)


def times_like(t: int | float, x: Images) -> Times:
    """The same time for every image of a batch."""
    return torch.full((len(x),), float(t), dtype=torch.float64)
