"""A denoiser: a network, a schedule and a parametrization, as one guess about the image behind the noise.

Here alone it is known that networks are fed t - 1. All else counts t = 1..T.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kakusan.diffusion.forward import q_posterior
from kakusan.diffusion.gaussians import Gaussian, double
from kakusan.diffusion.parametrizations import PARAMETRIZATIONS, Parametrization, amplitudes, clip_x_0
from kakusan.diffusion.schedules import NoiseSchedule
from kakusan.diffusion.variances import SIGMA_1, StepVariance, Variance, variance_named
from kakusan.errors import SettingsError
from kakusan.shapes import Images, Labels, Times

Network = Callable[..., Tensor]
"""(x_t, time, condition=None) -> tensor of the images' shape; time = t - 1, float32, shape (batch,)."""


@dataclass(frozen=True)
class Prediction:
    """One guess about x_t, in two views that agree by Eq. (2), and where between beta~ and beta the variance lies."""

    x_0: Images
    eps: Images
    fraction: Images | None = None
    """0: beta~, 1: beta; for networks that learned it."""

    def rows(self, rows: Tensor) -> "Prediction":
        """That of some of the images."""
        fraction = None if self.fraction is None else self.fraction[rows]
        return Prediction(self.x_0[rows], self.eps[rows], fraction)

    def double(self) -> "Prediction":
        """In float64, for what is measured from it."""
        fraction = None if self.fraction is None else double(self.fraction)
        return Prediction(double(self.x_0), double(self.eps), fraction)


class Denoiser(ABC):
    """Guesses x_0 from x_t. What samplers and bounds ask; exact oracles and networks are both one.

    One of your own has a `schedule` and defines `predict`. The other fields have the usual values, and belong to the
    model whose bound is measured: set those that differ.
    """

    schedule: NoiseSchedule
    variance: Variance | str = "fixed-large"
    """sigma^2 of a step: a name in `VARIANCES`, or a value such as `Analytic(errors)`."""
    sigma_1: str = "beta~_2"
    """sigma^2 of the step that ends at the data: "beta~_2" or "beta_1"."""
    clip: float | None = None
    """Guesses of x_0 are held to [-clip, clip]; None: they are not."""
    levels: int | None = None
    """The data are integers 0..levels-1, mapped to [-1, 1], and have probabilities; None: real, with densities."""

    @abstractmethod
    def predict(self, x_t: Images, t: Times, condition: Labels | None = None) -> Prediction:
        """The guess of x_0, and of the eps in x_t, at times 1 <= t <= T."""

    def variance_of(self, guess: Prediction, t: Times, s: Times) -> StepVariance:
        """sigma^2 of the step from t to any s < t, float64: Sigma_theta in Eq. (5)"""
        return variance_named(self.variance).of(self.schedule, t, s, self.sigma_1, guess.fraction)


def p_step(denoiser: Denoiser, x_t: Images, t: Times, s: Times, condition: Labels | None = None) -> Gaussian:
    """p_theta(x_s | x_t): the posterior at the denoiser's guess of x_0. Eq. (5)."""
    return p_given(denoiser, denoiser.predict(x_t, t, condition), x_t, t, s)


def p_given(denoiser: Denoiser, guess: Prediction, x_t: Images, t: Times, s: Times) -> Gaussian:
    """`p_step` where the guess is known already."""
    mean = q_posterior(denoiser.schedule, x_t, guess.x_0, t, s).mean
    return Gaussian(mean, denoiser.variance_of(guess, t, s))


@dataclass(frozen=True)
class NetworkDenoiser(Denoiser):
    """A network with the schedule it was trained on and the meaning of its word.

    network: gives as many channels as the image has, or twice as many if it says something of the variance too;
    predicts: "eps", "x_0" or "v"; variance, sigma_1, clip, levels: see `Denoiser` (after clipping, eps is derived
    from x_0 again); autocast: the type of convolutions and products (None: as the weights are).
    Raises SettingsError on unknown names, and for eps with a schedule that ends in pure noise.
    """

    network: Network
    schedule: NoiseSchedule
    predicts: str = "eps"
    variance: Variance | str = "fixed-large"
    clip: float | None = None
    autocast: torch.dtype | None = None
    sigma_1: str = "beta~_2"
    levels: int | None = None

    def __post_init__(self) -> None:
        variance_named(self.variance)
        for value, known in ((self.predicts, PARAMETRIZATIONS), (self.sigma_1, SIGMA_1)):
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

    def output(self, x_t: Images, t: Times, condition: Labels | None = None) -> tuple[Images, Images | None]:
        """The network's own word, float32, and the fraction of its variance if it gives one: what losses look at.

        Its second half v in [-1, 1] stands for the fraction (v + 1) / 2 (Nichol & Dhariwal 2021, their code).
        """
        if (taken := getattr(self.network, "channels", x_t.shape[1])) != x_t.shape[1]:
            raise ValueError(f"the network is for images of {taken} channels, and these have {x_t.shape[1]}")
        time = (t - 1).float().to(x_t.device)
        with torch.autocast(x_t.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            out = self.network(x_t, time, condition).float()
        channels = x_t.shape[1]
        if out.shape[1] not in (channels, 2 * channels):
            raise ValueError(
                f"the network gives {out.shape[1]} channels for {channels}: it must be as many, or twice"
            )
        return out[:, :channels], (out[:, channels:] + 1) / 2 if out.shape[1] > channels else None

    def meaning(self, word: Images, fraction: Images | None, x_t: Images, t: Times) -> Prediction:
        """What the network's word says of x_0 and eps, not clipped."""
        x_0, eps = self.parametrization.guess(word, x_t, *amplitudes(self.schedule, t, x_t))
        return Prediction(x_0, eps, fraction)

    def predict(self, x_t: Images, t: Times, condition: Labels | None = None) -> Prediction:
        word, fraction = self.output(x_t, t, condition)
        a, b = amplitudes(self.schedule, t, x_t)
        x_0, eps = self.parametrization.guess(word, x_t, a, b)
        if self.clip is not None:
            x_0, eps = clip_x_0(x_0, x_t, a, b, self.clip)
        return Prediction(x_0, eps, fraction)


def times_like(t: int | float, x: Images) -> Times:
    """The same time for every image of a batch."""
    return torch.full((len(x),), float(t), dtype=torch.float64)
