"""One moment t of one image, in numbers and in pictures. Each equation is one function here, named after its title,
and asks the functions that the page names: nothing is computed a second way but to show that both sides agree. The
sections beyond the thirteen are in `sides`.

The noise is the same at every t, so that a moment differs from the next by t alone. All is float64 on the CPU, but for
what the denoiser is asked.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.forward import (
    posterior_mean_from_eps,
    posterior_variance,
    posterior_weights,
    q_marginal,
    q_posterior,
    q_step,
)
from kakusan.diffusion.gaussians import Gaussian, double
from kakusan.diffusion.likelihood import BITS, decoder_term, step_term
from kakusan.diffusion.model import Model, p_step
from kakusan.diffusion.parametrizations import eps_from_x_0
from kakusan.diffusion.paths import Path
from kakusan.diffusion.prediction import Prediction
from kakusan.diffusion.schedules import NoiseSchedule
from kakusan.randomness import Purpose, normals
from kakusan.samplers import Ancestral, State
from kakusan.shapes import Condition, Samples, Times, times_like
from kakusan.training.losses import eps_weight

SEED = 0
BEFORE, STEP, FRESH = 2, 3, 4
"""Ordinals of the noise: that of x_{t-1}, that of the step to x_t, and that of the step back."""

Numbers = dict[str, float | None]
"""By their names on the page. None: there is no such number, or nothing to compare, at this t. A nan is a mistake."""


@dataclass(frozen=True, eq=False)
class Known(Denoiser):
    """A denoiser whose prediction is known already: it is asked once, and its equations are then exact to float64."""

    path: Path
    guess: Prediction

    def predict(self, x_t: Samples, t: Times, condition: Condition | None = None) -> Prediction:  # noqa: ARG002
        return self.guess


@dataclass(frozen=True, eq=False)
class Moment:
    """An image at t, with the step that led there, what the denoiser makes of it, and the step back.

    model: any; schedule: its path; x_0: (n, channels, height, width) in the network's units, whose first gives the
    numbers.
    """

    model: Model[Denoiser]
    schedule: NoiseSchedule
    x_0: Samples
    t: int

    @cached_property
    def at(self) -> Times:
        return times_like(self.t, self.x_0)

    @cached_property
    def before(self) -> Times:
        return self.at - 1

    def noise(self, ordinal: int) -> Samples:
        indices = torch.arange(len(self.x_0))
        return normals(SEED, Purpose.EVALUATION, ordinal, indices, tuple(self.x_0.shape[1:])).double()

    @cached_property
    def truth(self) -> Samples:
        return double(self.x_0)

    @cached_property
    def x_prev(self) -> Samples:
        return q_marginal(self.schedule, self.truth, self.before).reparametrize(self.noise(BEFORE))

    @cached_property
    def x_t(self) -> Samples:
        return q_step(self.schedule, self.x_prev, self.at).reparametrize(self.noise(STEP))

    @cached_property
    def eps(self) -> Samples:
        """The noise in x_t: that of x_{t-1} and that of the last step, merged into one, as (2) says."""
        beta, alpha, alpha_bar = self._coefficients()
        old, new = (alpha - alpha_bar).sqrt() * self.noise(BEFORE), beta.sqrt() * self.noise(STEP)
        return (old + new) / (1 - alpha_bar).sqrt()

    @cached_property
    def guess(self) -> Prediction:
        """The prediction at x_t; its two views are tied anew, so that they agree to float64."""
        guess = self.model.predict(self.x_t.to(self.x_0), self.at).double()
        return replace(guess, eps=eps_from_x_0(guess.x_0, self.x_t, *self.schedule.at(self.at)))

    @cached_property
    def known(self) -> Model[Denoiser]:
        """The model with its prediction at this moment, which has been clipped."""
        return replace(self.model, denoiser=Known(self.schedule, self.guess), clip=None)

    @cached_property
    def posterior(self) -> Gaussian:
        return q_posterior(self.schedule, self.x_t, self.truth, self.at, self.before)

    @cached_property
    def back(self) -> Gaussian:
        """p_theta(x_{t-1} | x_t)."""
        return p_step(self.known, self.x_t, self.at, self.before)

    @cached_property
    def stepped(self) -> Samples:
        """x_{t-1}, drawn from it."""
        return (
            Ancestral()
            .step(self.known, State(self.x_t), self.at, self.before, lambda _=0: self.noise(FRESH))
            .x
        )

    def _coefficients(self) -> tuple[Tensor, Tensor, Tensor]:
        schedule = self.schedule
        return schedule.beta[self.t], schedule.alpha[self.t], schedule.alpha_bar[self.t]

    def numbers(self) -> Numbers:
        """Every number of the page that changes with t, under its name there."""
        parts = (times, one_step, merged_noise, one_jump, learned_step, bayes, posterior, from_noise)
        found = {name: value for part in parts for name, value in part(self).items()}
        return found | weighted_error(self) | term(self) | step_back(self)

    def pictures(self) -> dict[str, Samples]:
        """Every picture that changes with t, under its name on the page."""
        fresh = self.noise(FRESH) if self.t > 1 else torch.zeros_like(self.truth)
        return {
            "x_prev": self.x_prev,
            "x_t": self.x_t,
            "eps": self.eps,
            "guess": self.guess.x_0,
            "eps_hat": self.guess.eps,
            "eps_error": self.eps - self.guess.eps,
            "mean": self.posterior.mean,
            "mean_hat": self.back.mean,
            "fresh": fresh,
            "stepped": self.stepped,
        }


def times(moment: Moment) -> Numbers:
    return {"t": float(moment.t), "s": float(moment.t - 1)}


def one_step(moment: Moment) -> Numbers:
    """(1)"""
    law = q_step(moment.schedule, torch.ones(1, 1, 1, 1, dtype=torch.float64), moment.at[:1])
    return {
        "beta": float(law.variance),
        "root_alpha": float(law.mean),
        "root_beta": float(law.variance.sqrt()),
    }


def merged_noise(moment: Moment) -> Numbers:
    """(2): two draws one after the other, and one draw of the merged noise."""
    schedule, t = moment.schedule, moment.t
    jump = q_marginal(schedule, moment.truth, moment.at).reparametrize(moment.eps)
    return {
        "old_noise": float(schedule.alpha[t] * (1 - schedule.alpha_bar[t - 1])),
        "jump_gap": largest(moment.x_t - jump),
    }


def one_jump(moment: Moment) -> Numbers:
    """(3)"""
    law = q_marginal(moment.schedule, torch.ones(1, 1, 1, 1, dtype=torch.float64), moment.at[:1])
    return {
        "alpha_bar": float(moment.schedule.alpha_bar[moment.t]),
        "root_alpha_bar": float(law.mean),
        "noise": float(law.variance),
        "root_noise": float(law.variance.sqrt()),
    }


def learned_step(moment: Moment) -> Numbers:
    """(5)"""
    variance = moment.back.variance
    return {
        "sigma2": float(variance[0].mean()),
        "sigma": float(variance[0].mean().sqrt()),
        "guess_error": rms(moment.guess.x_0 - moment.truth),
        "mean_error": rms(moment.back.mean - moment.posterior.mean),
    }


def bayes(moment: Moment) -> Numbers:
    """(6), as logarithms of densities in nats. At t = 1 the left side is a single point, and has no density."""
    schedule, x_0, x_prev, x_t = moment.schedule, moment.truth, moment.x_prev, moment.x_t
    if moment.t == 1:
        return dict.fromkeys(("log_posterior", "log_step", "log_prev", "log_jump", "bayes_gap"))
    found = {
        "log_posterior": nats(moment.posterior, x_prev),
        "log_step": nats(q_step(schedule, x_prev, moment.at), x_t),
        "log_prev": nats(q_marginal(schedule, x_0, moment.before), x_prev),
        "log_jump": nats(q_marginal(schedule, x_0, moment.at), x_t),
    }
    right = found["log_step"] + found["log_prev"] - found["log_jump"]
    return {**found, "bayes_gap": abs(found["log_posterior"] - right)}


def posterior(moment: Moment) -> Numbers:
    """(7)"""
    at, before = moment.at[:1], moment.before[:1]
    of_x_t, of_x_0 = posterior_weights(moment.schedule, at, before)
    return {
        "beta_tilde": float(posterior_variance(moment.schedule, at, before)),
        "of_x_t": float(of_x_t),
        "of_x_0": float(of_x_0),
    }


def from_noise(moment: Moment) -> Numbers:
    """(8), which must be the mean of (7) again."""
    beta, alpha, alpha_bar = moment._coefficients()
    mean = posterior_mean_from_eps(moment.schedule, moment.x_t, moment.eps, moment.at, moment.before)
    return {
        "of_eps": float(beta / (1 - alpha_bar).sqrt()),
        "stretch": float(alpha.rsqrt()),
        "mean_gap": None if _alpha_is_zero(moment) else largest(mean - moment.posterior.mean),
    }


def term(moment: Moment) -> Numbers:
    """The term of (11) that belongs to t: L_{t-1}, or L_0 at t = 1. In bits for each pixel value."""
    return {"term": _term(moment)}


def _term(moment: Moment) -> float:
    if moment.t == 1:
        found = decoder_term(moment.model, moment.guess, moment.x_t, moment.truth)
    else:
        found = step_term(moment.model, moment.guess, moment.x_t, moment.truth, moment.at)
    return float(found[0].mean()) * BITS


def weighted_error(moment: Moment) -> Numbers:
    """(12), in bits for each pixel value: weight x squared error + C is the term of (11) once more.

    C is the divergence that is left where both means are the same. At t = 1 the term is not of this form.
    """
    variance = moment.back.variance
    weight = eps_weight(moment.schedule, variance, moment.at) * BITS
    squared = (moment.eps - moment.guess.eps).square()
    same_mean = Gaussian(moment.back.mean, moment.posterior.variance)
    found: Numbers = {
        "weight": float(weight[0].mean()),
        "error": float(squared[0].mean()),
    }
    if moment.t == 1 or _alpha_is_zero(moment):
        return {**found, **dict.fromkeys(("constant", "weighted_error", "weight_gap"))}
    constant = float(same_mean.kl(moment.back)[0].mean()) * BITS
    total = float((weight * squared)[0].mean()) + constant
    return {
        **found,
        "constant": constant,
        "weighted_error": total,
        "weight_gap": abs(total - _term(moment)),
    }


def _alpha_is_zero(moment: Moment) -> bool:
    """Whether nothing of x_{t-1} is left in x_t: a zero-terminal-SNR end, where what divides by alpha is no number."""
    return float(moment.schedule.alpha[moment.t]) == 0


def step_back(moment: Moment) -> Numbers:
    """(13): `Ancestral.step` beside the formula, with z = 0 at t = 1."""
    beta, alpha, alpha_bar = moment._coefficients()
    mean = (moment.x_t - beta / (1 - alpha_bar).sqrt() * moment.guess.eps) / alpha.sqrt()
    z = moment.noise(FRESH) if moment.t > 1 else torch.zeros_like(mean)
    sigma = float(moment.back.variance[0].mean().sqrt()) if moment.t > 1 else 0.0
    gap = largest(moment.stepped - (mean + moment.back.variance.sqrt() * z))
    return {"sigma_z": sigma, "step_gap": None if _alpha_is_zero(moment) else gap}


def nats(law: Gaussian, x: Samples) -> float:
    """log of the density of the first image, all its values together."""
    return float(law.log_density(x)[0].sum())


def largest(difference: Samples) -> float:
    return float(difference[0].abs().max())


def rms(difference: Samples) -> float:
    """Root mean square over the values of the first image."""
    return float(difference[0].square().mean().sqrt())
