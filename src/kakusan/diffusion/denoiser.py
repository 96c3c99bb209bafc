"""A denoiser: a network, a schedule and a parametrization, as one guess about the image behind the noise.

Here alone it is known that networks are fed t - 1. All else counts t = 1..T.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kakusan.diffusion.forward import q_posterior
from kakusan.diffusion.gaussians import Gaussian
from kakusan.diffusion.parametrizations import PARAMETRIZATIONS, Parametrization, clip_x_0
from kakusan.diffusion.paths import Path, ends_in_pure_noise
from kakusan.diffusion.prediction import Prediction
from kakusan.diffusion.variances import SIGMA_1, StepVariance, Variance, variance_named
from kakusan.errors import SettingsError
from kakusan.shapes import Labels, Samples, Times, scaled

Network = Callable[..., Tensor]
"""(x_t, time, condition=None) -> tensor of the images' shape; time = t - 1, float32, shape (batch,)."""


class Denoiser(ABC):
    """Guesses x_0 from x_t. What samplers and bounds ask; exact oracles and networks are both one.

    One of your own has a `schedule` and defines `predict`. The other fields have the usual values, and belong to the
    model whose bound is measured: set those that differ.
    """

    schedule: Path
    variance: Variance | str = "fixed-large"
    """sigma^2 of a step: a name in `VARIANCES`, or a value such as `Analytic(errors)`."""
    sigma_1: str = "beta~_2"
    """sigma^2 of the step that ends at the data: "beta~_2" or "beta_1"."""
    clip: float | None = None
    """Guesses of x_0 are held to [-clip, clip]; None: they are not."""
    levels: int | None = None
    """The data are integers 0..levels-1, mapped to [-1, 1], and have probabilities; None: real, with densities."""

    @abstractmethod
    def predict(self, x_t: Samples, t: Times, condition: Labels | None = None) -> Prediction:
        """The guess of x_0, and of the eps in x_t, at times 1 <= t <= T."""

    def variance_of(self, guess: Prediction, t: Times, s: Times) -> StepVariance:
        """sigma^2 of the step from t to any s < t, float64: Sigma_theta in Eq. (5)"""
        return variance_named(self.variance).of(self.schedule, t, s, self.sigma_1, guess)


def p_step(denoiser: Denoiser, x_t: Samples, t: Times, s: Times, condition: Labels | None = None) -> Gaussian:
    """p_theta(x_s | x_t): the posterior at the denoiser's guess of x_0. Eq. (5)."""
    return p_given(denoiser, denoiser.predict(x_t, t, condition), x_t, t, s)


def p_given(denoiser: Denoiser, guess: Prediction, x_t: Samples, t: Times, s: Times) -> Gaussian:
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
    schedule: Path
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
        if self.predicts == "eps" and ends_in_pure_noise(self.schedule):
            raise SettingsError(
                "this schedule ends in pure noise, where eps says nothing of x_0 (a division by zero)",
                "let the network predict v or x_0 (--process.predicts v)",
            )

    @property
    def parametrization(self) -> Parametrization:
        return PARAMETRIZATIONS[self.predicts]

    def output(
        self, x_t: Samples, t: Times, condition: Labels | None = None
    ) -> tuple[Samples, Samples | None]:
        """The network's own word, float32, and the fraction of its variance if it gives one: what losses look at.

        Its second half v in [-1, 1] stands for the fraction (v + 1) / 2 (Nichol & Dhariwal 2021, their code).
        """
        if (taken := getattr(self.network, "channels", x_t.shape[1])) != x_t.shape[1]:
            raise ValueError(f"the network is for images of {taken} channels, and these have {x_t.shape[1]}")
        time = (t - 1).float().to(x_t.device)
        with torch.autocast(x_t.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            out = self.network(self._input(x_t, t), time, condition).float()
        channels = x_t.shape[1]
        if out.shape[1] not in (channels, 2 * channels):
            raise ValueError(
                f"the network gives {out.shape[1]} channels for {channels}: it must be as many, or twice"
            )
        return out[:, :channels], (out[:, channels:] + 1) / 2 if out.shape[1] > channels else None

    def _input(self, x_t: Samples, t: Times) -> Samples:
        """x_t in the scale of the variance-preserving twin, so that its size hardly depends on t."""
        return x_t if self.schedule.preserves_variance else scaled(1 / self.schedule.scale_at(t), x_t)

    def meaning(self, word: Samples, fraction: Samples | None, x_t: Samples, t: Times) -> Prediction:
        """What the network's word says of x_0 and eps, not clipped."""
        x_0, eps = self.parametrization.guess(word, x_t, *self.schedule.at(t))
        return Prediction(x_0, eps, fraction)

    def predict(self, x_t: Samples, t: Times, condition: Labels | None = None) -> Prediction:
        word, fraction = self.output(x_t, t, condition)
        a, b = self.schedule.at(t)
        x_0, eps = self.parametrization.guess(word, x_t, a, b)
        if self.clip is not None:
            x_0, eps = clip_x_0(x_0, x_t, a, b, self.clip)
        return Prediction(x_0, eps, fraction)
