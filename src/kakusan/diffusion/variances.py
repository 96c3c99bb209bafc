"""The variance of a reverse step, sigma^2 of Eq. (13): four ways to choose it. A new one is a class here.

Two fixed choices bracket the truth: beta is right where the data are pure noise, beta~ where they are one point.
Between them it can be learned (Nichol & Dhariwal 2021), or follow from how wrong the guess of x_0 is (Bao et al. 2022).

At the last step, from t = 1 to the data, beta~ is 0 and no likelihood is finite. sigma_1^2 is then a convention:
beta~_2, as Ho et al. 2020 in effect use, or beta_1. At T = 1 there is no beta~_2, and it is beta_1.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from jaxtyping import Float64
from torch import Tensor

from kakusan.diffusion.forward import posterior_variance, posterior_weights, step_variance
from kakusan.diffusion.paths import Path
from kakusan.diffusion.prediction import Prediction
from kakusan.errors import SettingsError
from kakusan.shapes import Coefficients, Times, per_sample

StepVariance: TypeAlias = Float64[Tensor, "batch *#values"]
"""One variance a sample, or one a value, ready to broadcast."""

SMALLEST = 1e-20
"""Lower limit of a variance that follows from a measured error, which may be 0: then no likelihood would be finite."""


def _beta_tilde_above(path: Path, t: Times, s: Times) -> Coefficients:
    """beta~ of the step above the last one, from 2t to t where that ends at s = 0: beta~_2 at t = 1.

    2t is held to T, so that the step above is shorter than the last one for T/2 < t < T. From T there is none: beta.
    """
    above = (2 * t).clamp(max=path.T)
    has_none = above <= t
    tilde = posterior_variance(path, torch.where(has_none, t + 1, above).clamp(max=path.T), t)
    if not path.preserves_variance:  # from the scale of x_t to that of the data
        tilde = tilde / path.scale_at(t).square()
    return torch.where(has_none, step_variance(path, t, s), tilde)


SIGMA_1: dict[str, Callable[[Path, Times, Times], Coefficients]] = {
    "beta~_2": _beta_tilde_above,
    "beta_1": step_variance,
}
"""sigma^2 of the step that ends at the data."""


def smallest_variance(path: Path, t: Times, s: Times, sigma_1: str) -> Coefficients:
    """beta~ of Eq. (7) and, where the step ends at the data, sigma_1^2 by its convention: never 0."""
    return _ending_in_sigma_1(posterior_variance(path, t, s), path, t, s, sigma_1)


def _ending_in_sigma_1(variance: Coefficients, path: Path, t: Times, s: Times, sigma_1: str) -> Coefficients:
    """The same variance, but sigma_1^2 by its convention for steps that end at the data."""
    ends = s == 0
    if ends.device.type != "cuda" and not ends.any():  # on a CUDA device looking would be a wait
        return variance
    return torch.where(ends, SIGMA_1[sigma_1](path, t, s), variance)


class Variance(ABC):
    """A choice of sigma^2 for steps from t to any s < t."""

    name: ClassVar[str]

    @abstractmethod
    def of(self, path: Path, t: Times, s: Times, sigma_1: str, guess: Prediction) -> StepVariance:
        """sigma^2, float64, ready to broadcast over the guess of x_0.

        guess: at t; the fraction in it says where between the smallest (0) and the largest (1) a learned variance lies.
        """


@dataclass(frozen=True)
class FixedLarge(Variance):
    """beta (Ho et al. 2020, their first choice); at t = 1 it is sigma_1^2: by their convention beta~_2, not beta_1."""

    name = "fixed-large"

    def of(self, path: Path, t: Times, s: Times, sigma_1: str, guess: Prediction) -> StepVariance:
        variance = _ending_in_sigma_1(step_variance(path, t, s), path, t, s, sigma_1)
        return per_sample(variance, guess.x_0)


@dataclass(frozen=True)
class FixedSmall(Variance):
    """beta~ (Ho et al. 2020, their second choice); at t = 1, where that is 0, it is sigma_1^2."""

    name = "fixed-small"

    def of(self, path: Path, t: Times, s: Times, sigma_1: str, guess: Prediction) -> StepVariance:
        return per_sample(smallest_variance(path, t, s, sigma_1), guess.x_0)


@dataclass(frozen=True)
class LearnedRange(Variance):
    """log sigma^2 between log beta~ and log beta, where the network says (Nichol & Dhariwal 2021, Eq. 15).

    At t = 1 the range is from sigma_1^2 to beta_1: a single point where sigma_1 is "beta_1".
    """

    name = "learned"

    def of(self, path: Path, t: Times, s: Times, sigma_1: str, guess: Prediction) -> StepVariance:
        if guess.fraction is None:
            raise SettingsError("this network predicts no variance", "train with --process.variance learned")
        device = guess.fraction.device
        low = per_sample(smallest_variance(path, t, s, sigma_1).log(), guess.x_0).to(device)
        high = per_sample(step_variance(path, t, s).log(), guess.x_0).to(device)
        return (low + guess.fraction.double() * (high - low)).exp()


@dataclass(frozen=True, eq=False)
class Analytic(Variance):
    """The best variance for a given mean: beta~ + w^2 E|x_0 - x_0_hat|^2, where w is what Eq. (7) gives to x_0.

    errors: the mean squared error of the guess of x_0, for each value, at t = 0, ..., T (0 at t = 0).
    Where the guess is exactly E[x_0 | x_t] this is Bao et al. 2022 (Analytic-DPM), Theorem 1, whose estimate
    from the norm of eps_hat gives the same error as (1 - alpha_bar) / alpha_bar (1 - E|eps_hat|^2). The error
    itself stays right for networks that are not exact, and is never negative.

    At t = 1, where beta~ is 0 and w is 1, it is the error there: no convention on sigma_1 is needed or heeded.
    An error of 0, of levels that are known exactly, is taken for `SMALLEST`.
    """

    errors: Float64[Tensor, " entries"]
    name = "analytic"

    def of(
        self,
        path: Path,
        t: Times,
        s: Times,
        sigma_1: str,  # noqa: ARG002
        guess: Prediction,
    ) -> StepVariance:
        if len(self.errors) != path.T + 1:
            raise SettingsError(f"{len(self.errors)} errors do not fit a path of T = {path.T}")
        low = t.cpu().floor().clamp(0, path.T - 1).long()
        error = torch.lerp(self.errors[low], self.errors[low + 1], t.cpu() - low)
        _, of_x_0 = posterior_weights(path, t, s)
        variance = posterior_variance(path, t, s) + of_x_0.square() * error
        return per_sample(variance.clamp(min=SMALLEST), guess.x_0)


VARIANCES: dict[str, Variance] = {v.name: v for v in (FixedLarge(), FixedSmall(), LearnedRange())}
"""Variances by name, without `Analytic`, which needs figures of a trained network."""


def variance_named(choice: Variance | str) -> Variance:
    """The choice itself, or the one of this name. Raises SettingsError for unknown names."""
    if isinstance(choice, Variance):
        return choice
    if choice not in VARIANCES:
        raise SettingsError(f"unknown variance {choice!r}", f"there are: {', '.join(VARIANCES)}")
    return VARIANCES[choice]
