"""The sections beyond the thirteen at one moment: both sides of what each says, found in two ways.

One side is the function that the page names; the other is an integral over a grid, a gradient by autograd, or a formula
that shares no code with it. Where the truth about the data must be known, they are the Gaussian pixel of (9).
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float64
from torch import Tensor

from kakusan.diffusion.forward import posterior_variance, q_marginal, q_posterior
from kakusan.diffusion.gaussians import Gaussian
from kakusan.diffusion.guidance import Guided
from kakusan.diffusion.likelihood import BITS, pair_terms
from kakusan.diffusion.model import Model, p_step
from kakusan.diffusion.oracles import GaussianOracle, MixtureOracle, Oracle
from kakusan.diffusion.prediction import Prediction
from kakusan.diffusion.schedules import NoiseSchedule
from kakusan.diffusion.variances import LearnedRange
from kakusan.pages.explain.moment import FRESH, Known, Moment, Numbers, largest
from kakusan.samplers import DDIM, State
from kakusan.shapes import Condition, Samples, Times, times_like

GRID = 2001
"""Nodes of an integral: the trapezoidal rule on an analytic density is then exact to rounding."""
REACH = 12.0
"""Deviations on each side that an integral goes: e^-72 of a Gaussian lies beyond."""
STRIDES = 20
"""Steps of the DDIM whose step is shown."""
ETA = 0.5
ETAS = (0.0, ETA, 1.0)
WEIGHT = 3.0
"""Of guidance."""
CLASSES = (-0.8, 0.8)
SPREAD, SHARES = 0.2, (0.7, 0.3)
"""Means, deviation and shares of the two classes of pixels that guidance chooses between."""
BRIGHT = 1
"""The class that is asked for."""


@dataclass(frozen=True)
class Pixel:
    """A law of one pixel, N(mean, deviation^2), and the place of that pixel in the image."""

    mean: float
    deviation: float
    place: int

    def oracle(self, schedule: NoiseSchedule) -> GaussianOracle:
        """The exact denoiser of such pixels, each independent of the others."""
        return GaussianOracle(schedule, self.mean, self.deviation**2)

    def of(self, x: Samples) -> Samples:
        """This pixel of the first image, as an image."""
        return x[0].flatten()[self.place].view(1, 1, 1, 1)


def sides(moment: Moment, pixel: Pixel) -> Numbers:
    """All numbers of the sections that change with t, under their names on the page."""
    found = target(moment, pixel) | score(moment, pixel) | divergence(moment, pixel)
    found |= learned_range(moment.schedule, moment.t) | price(moment.schedule, moment.t, pixel)
    return found | ddim(moment) | guidance(moment, pixel)


def target(moment: Moment, pixel: Pixel) -> Numbers:
    """E|mu~ - mu_theta|^2 over q(x_0 | x_t) by Bayes' rule on a grid, and its two parts by the exact denoiser.

    mu_theta is that of a denoiser that takes every pixel for N(0, 1).
    """
    schedule, t, s = moment.schedule, moment.at[:1], moment.before[:1]
    x_t = pixel.of(moment.x_t)
    best = p_step(pixel.oracle(schedule), x_t, t, s).mean
    poor = p_step(GaussianOracle(schedule), x_t, t, s).mean
    x_0, share = _behind(x_t, t, schedule, pixel)
    n = len(x_0)
    means = q_posterior(schedule, x_t.expand(n, 1, 1, 1), x_0, t.expand(n), s.expand(n)).mean
    whole, floor = (float((share * (means - mean).square().flatten()).sum()) for mean in (poor, best))
    rest = float((best - poor).square())
    return {"target": whole, "target_floor": floor, "target_rest": rest, "target_gap": whole - floor - rest}


def _behind(
    x_t: Samples, t: Times, schedule: NoiseSchedule, pixel: Pixel
) -> tuple[Samples, Float64[Tensor, " nodes"]]:
    """Pixels that may lie behind x_t, and the share of each: q(x_t | x_0) q(x_0), normalized."""
    a, b = (float(c) for c in schedule.at(t))
    precision = pixel.deviation**-2 + (a / b) ** 2
    centre = (pixel.mean / pixel.deviation**2 + a / b**2 * float(x_t)) / precision
    x_0 = (centre + torch.linspace(-REACH, REACH, GRID).double() / precision**0.5).view(-1, 1, 1, 1)
    prior = Gaussian(torch.full_like(x_0, pixel.mean), torch.tensor(pixel.deviation**2, dtype=torch.float64))
    seen = x_t.expand_as(x_0)
    nats = q_marginal(schedule, x_0, t.expand(GRID)).log_density(seen) + prior.log_density(x_0)
    return x_0, nats.flatten().softmax(0)


def score(moment: Moment, pixel: Pixel) -> Numbers:
    """The eps of an exact denoiser, and the gradient of its log density by autograd.

    The denoiser is that of the page where it is exact, else that of independent pixels like this one.
    """
    own = moment.model.denoiser
    oracle = own if isinstance(own, Oracle) else pixel.oracle(moment.schedule)
    x_t, at = moment.x_t[:1], moment.at[:1]
    eps = oracle.predict(x_t, at).eps
    gradient = _gradient(oracle, x_t, at)
    b = float((1 - moment.schedule.alpha_bar[moment.t]).sqrt())
    return {
        "score_eps": float(pixel.of(eps)),
        "score": float(pixel.of(gradient)),
        "score_gap": largest(eps + b * gradient),
    }


def _gradient(oracle: Oracle, x: Samples, t: Times) -> Samples:
    """grad log q(x_t)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (found,) = torch.autograd.grad(oracle.log_density(x, t).sum(), x)
    return found


def divergence(moment: Moment, pixel: Pixel) -> Numbers:
    """KL(q(x_{t-1} | x_t, x_0) || q(x_{t-1} | x_0)) of one pixel, in nats: in closed form, and as an integral.

    These are two of the bells of (6), which differ in mean and variance. At t = 1 they are points.
    """
    if moment.t == 1:
        return dict.fromkeys(("divergence", "divergence_integral", "divergence_gap"))
    prior = q_marginal(moment.schedule, moment.truth[:1], moment.before[:1])
    p = Gaussian(pixel.of(moment.posterior.mean), moment.posterior.variance[:1])
    q = Gaussian(pixel.of(prior.mean), prior.variance)
    closed, integral = float(p.kl(q)), _integral(p, q)
    return {"divergence": closed, "divergence_integral": integral, "divergence_gap": closed - integral}


def _integral(p: Gaussian, q: Gaussian) -> float:
    """The integral of p (log p - log q) by the trapezoidal rule."""
    step = float(p.variance.sqrt()) * 2 * REACH / (GRID - 1)
    x = p.mean + step * torch.arange(-(GRID // 2), GRID // 2 + 1).double().view(1, 1, 1, -1)
    log_p = p.log_density(x)
    return float((log_p.exp() * (log_p - q.log_density(x))).sum()) * step


def learned_range(schedule: NoiseSchedule, t: int) -> Numbers:
    """The learned variance at fractions 0, 1/2 and 1; the gap is the largest error of a logarithm, in `_rounding`s.

    The low end is found anew from precisions, which add in (6): 1 / beta~ = alpha / beta + 1 / (1 - alpha_bar before).
    At t = 1 it is beta~_2.
    """
    names = ("range_low", "range_middle", "range_high", "range_gap")
    if schedule.T == 1:
        return dict.fromkeys(names)
    k = max(t, 2)
    precision = schedule.alpha[k] / schedule.beta[k] + 1 / (1 - schedule.alpha_bar[k - 1])
    low, high = -float(precision.log()), float(schedule.beta[t].log())
    wanted = (low, (low + high) / 2, high)
    found = [_learned(schedule, t, fraction) for fraction in (0.0, 0.5, 1.0)]
    gap = max(abs(math.log(one) - other) for one, other in zip(found, wanted, strict=True))
    return dict(zip(names, (*found, gap / _rounding(schedule, t, k)), strict=True))


def _rounding(schedule: NoiseSchedule, t: int, k: int) -> float:
    """What one rounding of alpha_bar can do to log(1 - alpha_bar) before k and to log beta at t and k.

    Those differences of numbers near 1 lose digits: a learned schedule may begin at 1 - alpha_bar of 1e-9.
    """
    smallest = min(float(1 - schedule.alpha_bar[k - 1]), float(schedule.beta[k]), float(schedule.beta[t]))
    return torch.finfo(torch.float64).eps / smallest


def _learned(schedule: NoiseSchedule, t: int, fraction: float) -> float:
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    at = times_like(t, one)
    guess = Prediction(one, one, fraction * one)
    return float(LearnedRange().of(schedule, at, at - 1, "beta~_2", guess))


def price(schedule: NoiseSchedule, t: int, pixel: Pixel) -> Numbers:
    """The mean of L_{t-1} over Gaussian pixels, in bits: by `pair_terms`, and by the fall of y alone.

    The term is quadratic in x_0 and in the noise, so that two points of each stand for all. At t = 1 there is L_0.
    """
    names = ("price", "price_gap")
    if t == 1:
        return dict.fromkeys(names)
    model = Model(pixel.oracle(schedule), variance="fixed-small")
    ends = torch.tensor([pixel.mean - pixel.deviation, pixel.mean + pixel.deviation], dtype=torch.float64)
    x_0 = ends.repeat(2).view(4, 1, 1, 1)
    noise = torch.tensor([-1.0, -1, 1, 1], dtype=torch.float64).view(4, 1, 1, 1)
    found = float(pair_terms(model, x_0, times_like(t, x_0), noise)[0].mean())
    alpha_bar = schedule.alpha_bar[t - 1 : t + 1]
    later, earlier = (pixel.deviation**2 * alpha_bar / (1 - alpha_bar)).log1p().flip(0).tolist()
    return dict(zip(names, (found, found - math.expm1(earlier - later) / 2 * BITS), strict=True))


def stride(T: int, t: int) -> int:
    """The time to which the DDIM of the page steps from t."""
    return max(0, t - max(1, T // STRIDES))


def ddim(moment: Moment) -> Numbers:
    """What a step of DDIM makes of x_0_hat, of eps_hat and of fresh noise, as the step itself says.

    budget_gap: of the three coefficients from what they should be, for no noise, some and all of it. ancestral_gap:
    of the step with all noise from a draw of (5) with the small variance, on the whole image.
    """
    schedule, s = moment.schedule, stride(moment.schedule.T, moment.t)
    image, direction, sigma = _coefficients(moment, s, ETA)
    kept = 1 - float(schedule.alpha_bar[s])
    return {
        "ddim_s": float(s),
        "ddim_of_x_0": image,
        "ddim_of_eps": direction,
        "ddim_sigma": sigma,
        "ddim_kept": direction**2,
        "ddim_fresh": sigma**2,
        "ddim_noise": kept,
        "budget_gap": max(_budget_gap(moment, s, eta) for eta in ETAS),
        "ancestral_gap": _ancestral_gap(moment, s),
    }


def _coefficients(moment: Moment, s: int, eta: float) -> tuple[float, float, float]:
    """Of x_0_hat, eps_hat and z in DDIM's step: it is asked about ones and zeros."""
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    found = [_stepped(moment, s, eta, *(one * (k == place) for k in range(3))) for place in range(3)]
    image, direction, sigma = (float(x) for x in found)
    return image, direction, sigma


def _stepped(moment: Moment, s: int, eta: float, x_0: Samples, eps: Samples, z: Samples) -> Samples:
    """x_s by DDIM, where the denoiser says x_0 and eps."""
    known = replace(moment.known, denoiser=Known(moment.schedule, Prediction(x_0, eps)))
    t = times_like(moment.t, x_0)
    return DDIM(eta=eta).step(known, State(x_0), t, times_like(s, x_0), lambda _=0: z).x


def _budget_gap(moment: Moment, s: int, eta: float) -> float:
    """The variances of old and fresh noise add up to that of (3) at s, and the fresh one is eta^2 beta~."""
    image, direction, sigma = _coefficients(moment, s, eta)
    alpha_bar = float(moment.schedule.alpha_bar[s])
    at = moment.at[:1]
    tilde = float(posterior_variance(moment.schedule, at, torch.full_like(at, s)))
    return max(
        abs(image - math.sqrt(alpha_bar)),
        abs(direction**2 + sigma**2 - (1 - alpha_bar)),
        abs(sigma**2 - eta**2 * tilde),
    )


def _ancestral_gap(moment: Moment, s: int) -> float:
    z, to = moment.noise(FRESH), torch.full_like(moment.at, s)
    known = replace(moment.known, variance="fixed-small")
    law = p_step(known, moment.x_t, moment.at, to)
    drawn = law.reparametrize(z) if s else law.mean
    return largest(drawn - _stepped(moment, s, 1.0, moment.guess.x_0, moment.guess.eps, z))


def ddim_pictures(moment: Moment) -> dict[str, Samples]:
    """x_s by DDIM with some fresh noise, and that noise."""
    s, z = stride(moment.schedule.T, moment.t), moment.noise(FRESH)
    return {"ddim": _stepped(moment, s, ETA, moment.guess.x_0, moment.guess.eps, z), "ddim_z": z}


def classes(schedule: NoiseSchedule) -> MixtureOracle:
    """The exact denoiser of dark and bright pixels, with and without a label."""
    return MixtureOracle(
        schedule,
        torch.tensor(SHARES, dtype=torch.float64),
        torch.tensor(CLASSES, dtype=torch.float64).view(-1, 1, 1, 1),
        torch.full((len(CLASSES),), SPREAD**2, dtype=torch.float64),
    )


def guessed(schedule: NoiseSchedule, x_t: Samples, t: int, weight: float) -> Prediction:
    """What guidance to bright pixels makes of each x_t, (n, 1, 1, 1)."""
    bright = Condition(label=torch.full((len(x_t),), BRIGHT))
    return Guided(classes(schedule), weight).predict(x_t, times_like(t, x_t), bright)


def guidance(moment: Moment, pixel: Pixel) -> Numbers:
    """Guidance to bright pixels, and by autograd the score that it stands for: grad log q + w grad log q(c | x_t)."""
    schedule, t, x_t = moment.schedule, moment.t, pixel.of(moment.x_t)
    null, given, strong = (float(guessed(schedule, x_t, t, w).x_0) for w in (0.0, 1.0, WEIGHT))
    nodes = torch.linspace(-3, 3, 25).double().view(-1, 1, 1, 1)
    at = times_like(t, nodes)
    bright = GaussianOracle(schedule, CLASSES[BRIGHT], SPREAD**2)
    whole = _gradient(classes(schedule), nodes, at)
    of_class = (
        _gradient(bright, nodes, at) - whole
    )  # Bayes: q(c | x_t) is q(x_t | c) / q(x_t), but for a constant
    b = float((1 - schedule.alpha_bar[t]).sqrt())
    gap = guessed(schedule, nodes, t, WEIGHT).eps + b * (whole + WEIGHT * of_class)
    odds = bright.log_density(x_t, moment.at[:1]) - classes(schedule).log_density(x_t, moment.at[:1])
    return {
        "guide_null": null,
        "guide_given": given,
        "guide_strong": strong,
        "guide_odds": SHARES[BRIGHT] * float(odds.exp()),
        "guide_gap": float(gap.abs().max()),
    }
