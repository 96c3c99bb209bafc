"""Training losses. A loss is a frozen value that gives one number an image; a new one is a line in `tables.py`.

For each parametrization the output moves the predicted x_0 by a known gain, so an error of the output is an error of
x_0 or of eps on another scale. Hence every weighted loss is the squared error of the output times a number that depends
on t alone, and it is the same loss, with the same gradient with respect to the mean, for every parametrization.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from jaxtyping import Float
from torch import Tensor

from kakusan.diffusion.denoiser import NetworkDenoiser
from kakusan.diffusion.forward import posterior_weights, q_marginal, step_variance
from kakusan.diffusion.learned import LearnedPath
from kakusan.diffusion.likelihood import BITS, terms
from kakusan.diffusion.model import Model
from kakusan.diffusion.paths import Path, ends_in_pure_noise
from kakusan.diffusion.prediction import Prediction
from kakusan.diffusion.schedules import NoiseSchedule
from kakusan.diffusion.variances import StepVariance
from kakusan.shapes import Coefficients, Condition, Samples, Times, mean_by_sample, moved, per_sample
from kakusan.training.schedule import bound_of_schedule

NetworkModel: TypeAlias = Model[NetworkDenoiser]
PerExample = Float[Tensor, " batch"]


class Loss(ABC):
    """One number an image, to be averaged over the batch."""

    repeats: ClassVar[bool] = True
    """Whether its work is the same whatever the times are: a CUDA device can repeat it without a look at them."""
    teaches_variance: ClassVar[bool] = False
    """Whether the fraction of a learned variance gets a gradient."""
    teaches_schedule: ClassVar[bool] = False
    """Whether it says which of two schedules is better: all others weigh the noise levels by their own rules."""
    needs_variance: ClassVar[bool] = True
    """Whether a variance that is learned has to be taught: samples of its models need one."""
    is_of_means: ClassVar[bool] = True
    """Whether it is least where the guess of x_0 is the mean of all that x_t may come from: the exact denoiser's."""

    def at(self, progress: float) -> "Loss":  # noqa: ARG002
        """The loss after this share of the training's steps, 0 to 1: as it is, where it does not change on the way."""
        return self

    @abstractmethod
    def per_image(
        self,
        model: NetworkModel,
        x_0: Samples,
        t: Times,
        noise: Samples,
        condition: Condition | None = None,
    ) -> PerExample:
        """The loss of each image at its own t, with its own noise, with gradients; in the type of x_0."""

    def cautions(self, model: NetworkModel) -> tuple[str, ...]:  # noqa: ARG002
        """Cautions before a training of this denoiser with this loss, in sentences."""
        return ()


def squared_error(
    model: NetworkModel, x_0: Samples, t: Times, noise: Samples, condition: Condition | None
) -> PerExample:
    """Squared error of the network's output, mean over the values that are there."""
    x_t = q_marginal(model.path, x_0, t).reparametrize(noise)
    output, _ = model.denoiser.output(x_t, t, condition)
    return _output_error(model, output, x_0, t, noise, _mask(condition))


def _mask(condition: Condition | None) -> Samples | None:
    return None if condition is None else condition.mask


def _output_error(
    model: NetworkModel, output: Samples, x_0: Samples, t: Times, noise: Samples, mask: Samples | None
) -> PerExample:
    target = model.denoiser.parametrization.target(x_0, noise, *model.path.at(t))
    return mean_by_sample((output - target).square(), mask)


@dataclass(frozen=True)
class Simple(Loss):
    """Mean squared error of the output; for eps, L_simple of Ho et al. 2020: (12) with its weight set to 1.

    On the scale of eps a network that predicts x_0 is weighted by 1 / SNR, and one that predicts v by 1 / alpha_bar.
    """

    def per_image(
        self,
        model: NetworkModel,
        x_0: Samples,
        t: Times,
        noise: Samples,
        condition: Condition | None = None,
    ) -> PerExample:
        return squared_error(model, x_0, t, noise, condition)


def eps_weight(schedule: NoiseSchedule, variance: StepVariance, t: Times) -> StepVariance:
    """beta_t^2 / (2 sigma_t^2 alpha_t (1 - alpha_bar_t)), nats for a squared error of 1 in eps. Eq. (12).

    variance: sigma_t^2. Infinite where alpha_t = 0: there eps says nothing of x_0.
    """
    beta_t = step_variance(schedule, t, t - 1)
    weight = beta_t.square() / (2 * (1 - beta_t) * (1 - schedule.alpha_bar_at(t)))
    return per_sample(weight, variance).to(variance.device) / variance


def x_0_weight(path: Path, variance: StepVariance, t: Times) -> StepVariance:
    """The weight in Eq. (12) for a squared error in x_0: w^2 / (2 sigma_t^2), w that of x_0 in mu~. Always finite."""
    _, of_x_0 = posterior_weights(path, t, t - 1)
    return per_sample(of_x_0.square(), variance).to(variance.device) / (2 * variance)


def x_0_weighted(model: NetworkModel, weight: Coefficients, error: PerExample, t: Times) -> PerExample:
    """A weight of x_0's squared error, applied to that of the output: output error x gain^2 = error of x_0."""
    gain = model.denoiser.parametrization.gain(*model.path.at(t))
    return moved(weight * gain.square(), error) * error


@dataclass(frozen=True)
class Weighted(Loss):
    """The mean's part of the bound for a fixed variance, with the exact weights in Eq. (12), in bits/dim.

    T times the term of a uniform t: its mean is the sum over t = 1..T. At t = 1 the decoder counts as a density,
    with sigma_1^2 by its convention.
    """

    def per_image(
        self,
        model: NetworkModel,
        x_0: Samples,
        t: Times,
        noise: Samples,
        condition: Condition | None = None,
    ) -> PerExample:
        nothing = Prediction(x_0, noise)  # a fixed variance does not ask for the guess
        weight = x_0_weight(model.path, model.variance_of(nothing, t, t - 1), t)
        error = squared_error(model, x_0, t, noise, condition)
        return model.path.T * BITS * x_0_weighted(model, weight.flatten().to(t.device), error, t)


@dataclass(frozen=True)
class Bound(Loss):
    """The bound itself, in bits/dim: T times the term of a uniform t, L_T apart, which no weight can change.

    With L_T where the schedule is learned: see `kakusan.training.schedule`.
    """

    repeats = False  # the decoder's term is that of t = 1 alone
    teaches_variance = True
    teaches_schedule = True

    def per_image(
        self,
        model: NetworkModel,
        x_0: Samples,
        t: Times,
        noise: Samples,
        condition: Condition | None = None,
    ) -> PerExample:
        if isinstance(model.path, LearnedPath):
            return bound_of_schedule(model, model.path, x_0, t, noise, condition)
        x_t = q_marginal(model.path, x_0, t).reparametrize(noise)
        guess = model.denoiser.to_prediction(*model.denoiser.output(x_t, t, condition), x_t, t)
        return model.path.T * terms(model, guess, x_t, x_0, t, _mask(condition)).to(x_0)


@dataclass(frozen=True)
class Hybrid(Loss):
    """L_simple + share x the bound, where the bound teaches the variance alone (Nichol & Dhariwal 2021, Eq. 16).

    The bound is in bits/dim, T times the term of a uniform t, and L_simple a mean over the values, as in their code.
    """

    share: float = 0.001
    repeats = False  # the decoder's term is that of t = 1 alone
    teaches_variance = True

    def per_image(
        self,
        model: NetworkModel,
        x_0: Samples,
        t: Times,
        noise: Samples,
        condition: Condition | None = None,
    ) -> PerExample:
        x_t = q_marginal(model.path, x_0, t).reparametrize(noise)
        output, fraction = model.denoiser.output(x_t, t, condition)
        frozen = model.denoiser.to_prediction(output.detach(), fraction, x_t, t)
        bound = model.path.T * terms(model, frozen, x_t, x_0, t, _mask(condition))
        return _output_error(model, output, x_0, t, noise, _mask(condition)) + self.share * bound.to(x_0)


@dataclass(frozen=True)
class MinSNR(Loss):
    """The squared error of x_0, weighted by min(SNR, gamma) (Hang et al. 2023).

    Where a schedule ends in pure noise the weight at T is 0, as in the paper: the network is never taught there.
    """

    gamma: float = 5.0

    def cautions(self, model: NetworkModel) -> tuple[str, ...]:
        if not ends_in_pure_noise(model.path):
            return ()
        return (
            f"min-snr gives t = T = {model.path.T} the weight 0, since this schedule ends in pure noise: the "
            "network is never taught where sampling starts; with zero terminal SNR, the simple loss is the usual one",
        )

    def per_image(
        self,
        model: NetworkModel,
        x_0: Samples,
        t: Times,
        noise: Samples,
        condition: Condition | None = None,
    ) -> PerExample:
        a, b = model.path.at(t)
        weight = (a / b).square().clamp(max=self.gamma)
        return x_0_weighted(model, weight, squared_error(model, x_0, t, noise, condition), t)


@dataclass(frozen=True)
class Velocity(Loss):
    """The squared error that v would have, whatever the network predicts: that of x_0 times 1 + SNR (a^2 / b^2).

    For a network that predicts x_0 it is the v-loss of Li & He 2025, who hold the divisor of the velocity, our b, to
    0.05 or more, and thus the weight to 400: at the smallest t it would grow without bounds.
    """

    largest_weight: float = 1 / 0.05**2

    def per_image(
        self,
        model: NetworkModel,
        x_0: Samples,
        t: Times,
        noise: Samples,
        condition: Condition | None = None,
    ) -> PerExample:
        a, b = model.path.at(t)
        weight = (1 + (a / b).square()).clamp(max=self.largest_weight)
        return x_0_weighted(model, weight, squared_error(model, x_0, t, noise, condition), t)
