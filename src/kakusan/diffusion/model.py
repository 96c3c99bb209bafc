"""The model p_theta: a denoiser, and all else that a reverse step and the bound depend on. Equation (5)."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.forward import q_posterior
from kakusan.diffusion.gaussians import Gaussian
from kakusan.diffusion.parametrizations import clip_x_0
from kakusan.diffusion.paths import Path
from kakusan.diffusion.prediction import Prediction
from kakusan.diffusion.variances import SIGMA_1, StepVariance, Variance, variance_named
from kakusan.errors import SettingsError
from kakusan.shapes import Condition, Samples, Times

AnyDenoiser = TypeVar("AnyDenoiser", bound=Denoiser, covariant=True)


@dataclass(frozen=True)
class Model(Generic[AnyDenoiser]):
    """p_theta(x_s | x_t) for any s < t. What samplers and bounds take.

    denoiser: its predictions, unclipped. Guidance wraps a denoiser and is one, so clipping comes after it.
    Raises SettingsError for unknown names.
    """

    denoiser: AnyDenoiser
    variance: Variance | str = "fixed-large"
    """sigma^2 of a step: a name in `VARIANCES`, or a value such as `Analytic(errors)`."""
    sigma_1: str = "beta~_2"
    """sigma^2 of the step that ends at the data: "beta~_2" or "beta_1"."""
    clip: float | None = None
    """Predictions of x_0 are held to [-clip, clip], and eps is derived from x_0 again; None: they are not."""
    levels: int | None = None
    """The data are integers 0..levels-1, mapped to [-1, 1], and have probabilities; None: real, with densities."""

    def __post_init__(self) -> None:
        variance_named(self.variance)
        if self.sigma_1 not in SIGMA_1:
            raise SettingsError(f"unknown name {self.sigma_1!r}", f"there are: {', '.join(SIGMA_1)}")

    @property
    def path(self) -> Path:
        return self.denoiser.path

    def predict(self, x_t: Samples, t: Times, condition: Condition | None = None) -> Prediction:
        """The denoiser's prediction of x_0, and of the eps in x_t, at times 1 <= t <= T; clipped."""
        guess = self.denoiser.predict(x_t, t, condition)
        if self.clip is None:
            return guess
        x_0, eps = clip_x_0(guess.x_0, x_t, *self.path.at(t), self.clip)
        return Prediction(x_0, eps, guess.fraction)

    def variance_of(self, guess: Prediction, t: Times, s: Times) -> StepVariance:
        """sigma^2 of the step from t to any s < t, float64: Sigma_theta in Eq. (5)"""
        return variance_named(self.variance).of(self.path, t, s, self.sigma_1, guess)


def as_model(given: Denoiser | Model[Denoiser]) -> Model[Denoiser]:
    """The model itself, or that of a denoiser with the usual variance, unclipped, for real data."""
    return given if isinstance(given, Model) else Model(given)


def p_step(
    model: Model[Denoiser] | Denoiser, x_t: Samples, t: Times, s: Times, condition: Condition | None = None
) -> Gaussian:
    """p_theta(x_s | x_t): the posterior at the predicted x_0. Eq. (5)."""
    model = as_model(model)
    return p_given(model, model.predict(x_t, t, condition), x_t, t, s)


def p_given(model: Model[Denoiser], guess: Prediction, x_t: Samples, t: Times, s: Times) -> Gaussian:
    """`p_step` where the prediction is known: N(r b_s^2 / b_t^2 x_t + a_s v / b_t^2 x_0, sigma^2), as in Eq. (7)"""
    mean = q_posterior(model.path, x_t, guess.x_0, t, s).mean
    return Gaussian(mean, model.variance_of(guess, t, s))
