"""Exercises, a few for each chapter, whose answers hold numbers that are computed here.

All are about the linear schedule with T = 1000, so that an answer is the same on every page and in docs/exercises.md.
Questions and answers may hold $formulas$ in the TeX of `formula`; answers hold {numbers} too.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import torch

from kakusan.diffusion.forward import posterior_variance, posterior_weights
from kakusan.diffusion.gaussians import Gaussian
from kakusan.diffusion.oracles import GaussianOracle
from kakusan.diffusion.schedules import Linear
from kakusan.diffusion.variances import FixedLarge
from kakusan.pages.explain.equation import Chapter
from kakusan.pages.explain.numbers import shown
from kakusan.shapes import Samples, times_like
from kakusan.training.losses import eps_weight

SCHEDULE = Linear(T=1000)
ONE = torch.ones(1, 1, 1, 1, dtype=torch.float64)
LEVEL = 127.5
"""Levels of a byte in a unit of the network's range, -1 to 1."""

Numbers = dict[str, float]


@dataclass(frozen=True)
class Exercise:
    """A question about an equation or a section, with its answer."""

    about: str
    """The anchor of its equation: "eq-7", "score"."""
    question: str
    words: str
    numbers: Callable[[], Numbers]

    @property
    def answer(self) -> str:
        """With its numbers."""
        found = {name: shown(value) for name, value in self.numbers().items()}
        parts = self.words.split("$")  # formulas are every second
        return "$".join(part if place % 2 else part.format(**found) for place, part in enumerate(parts))


def of(chapter: Chapter) -> Iterator[tuple[str, Exercise]]:
    """The exercises of a chapter, each with what it is about: "(7)", or "The score:"."""
    for equation in chapter.equations:
        for exercise in EXERCISES:
            if exercise.about == equation.anchor:
                yield f"{equation.title}:" if equation.number is None else equation.sign, exercise


def half_way() -> Numbers:
    """The first t with alpha_bar_t below 1/2."""
    return {"half": float((SCHEDULE.alpha_bar < 0.5).nonzero()[0])}


def unshrunk() -> Numbers:
    """The variance of x_T if steps did not shrink data of variance 1."""
    return {"variance": 1 + float(SCHEDULE.beta[1:].sum())}


def narrowed() -> Numbers:
    """beta~ / beta at t = 2 and at T."""
    t = torch.tensor([2.0, 1000.0], dtype=torch.float64)
    early, late = (posterior_variance(SCHEDULE, t, t - 1) / SCHEDULE.beta[t.long()]).tolist()
    return {"early": early, "late": late}


def last_noise() -> Numbers:
    """The deviation sqrt(beta_1) in levels of a byte."""
    return {"levels": LEVEL * math.sqrt(float(SCHEDULE.beta[1]))}


def lopsided() -> Numbers:
    """KL where the second variance is ten times as large, and a tenth."""
    law = Gaussian(ONE, ONE)
    large, small = (float(law.kl(Gaussian(ONE, k * ONE))) for k in (10, 0.1))
    return {"large": large, "small": small}


def weights() -> Numbers:
    """The weight of (12) at t = 2 in that at t = 500, with the variance beta_t."""
    found = []
    for t in (2, 500):
        at = times_like(t, ONE)
        variance = FixedLarge().of(SCHEDULE, at, at - 1, "beta~_2", GaussianOracle(SCHEDULE).predict(ONE, at))
        found.append(float(eps_weight(SCHEDULE, variance, at)))
    return {"ratio": found[0] / found[1]}


def floor() -> Numbers:
    """What is left of |mu~ - mu_theta|^2 for data N(0, 1), for each value, at t = 500."""
    at = times_like(500, ONE)
    _, of_x_0 = posterior_weights(SCHEDULE, at, at - 1)
    error = float(GaussianOracle(SCHEDULE).errors()[500])
    return {"error": error, "floor": float(of_x_0) ** 2 * error}


def normal_score() -> Numbers:
    """The score at x_t = 2 for data N(0, 1), and the eps of the exact denoiser there, at t = 500."""
    oracle, x = GaussianOracle(SCHEDULE), 2 * ONE
    at = times_like(500, x)
    return {"score": float(_score(oracle, x, 500)), "eps": float(oracle.predict(x, at).eps)}


def kept() -> Numbers:
    """The share of old noise in a step of DDIM from 500 to 450 with eta = 1."""
    t, s = times_like(500, ONE), times_like(450, ONE)
    noise = 1 - float(SCHEDULE.alpha_bar[450])
    return {"noise": noise, "share": 1 - float(posterior_variance(SCHEDULE, t, s)) / noise}


def guided() -> Numbers:
    """Mean and variance of the Gaussian whose score is guided with w = 3: from its values at 0 and 1."""
    whole, given = GaussianOracle(SCHEDULE, 0.0, 2.0), GaussianOracle(SCHEDULE, 1.0, 1.0)
    at_0, at_1 = (float(-2 * _score(whole, x, 0) + 3 * _score(given, x, 0)) for x in (0 * ONE, ONE))
    return {"mean": at_0 / (at_0 - at_1), "variance": 1 / (at_0 - at_1)}


def uneven() -> Numbers:
    """The bits between L_VLB and evidence where log w is N(m, 1) in nats: log of the mean of w by an integral."""
    z = torch.linspace(-12, 12, 2001, dtype=torch.float64)
    mean = (z + Gaussian(0 * ONE, ONE).log_density(z.view(1, 1, 1, -1)).flatten()).logsumexp(0) + math.log(
        24 / 2000
    )
    return {"bits": float(mean) / math.log(2)}


def _score(oracle: GaussianOracle, x: Samples, t: int) -> Samples:
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        (found,) = torch.autograd.grad(oracle.log_density(x, times_like(t, x)).sum(), x)
    return found


EXERCISES = (
    Exercise(
        "eq-1",
        "Leave out the shrinking: $x_t = x_{t-1} + \\sqrt{\\beta_t} z$. What is the variance of $x_T$, "
        "for data of variance 1?",
        "Variances add: $1 + \\sum_{t=1}^{T} \\beta_t$ = {variance}. A network would meet inputs of "
        "another scale at every t; with the shrinking, all have variance 1.",
        unshrunk,
    ),
    Exercise(
        "eq-3",
        "At which t is there first more noise than image?",
        "Where $\\bar\\alpha_t$ falls below 1/2: at t = {half}, about a quarter of the way. The other "
        "steps are spent where noise prevails.",
        half_way,
    ),
    Exercise(
        "eq-7",
        "How much narrower is $q(x_{t-1} | x_t, x_0)$ than the step itself, at t = 2 and at t = T? Why?",
        "$\\tilde\\beta_t / \\beta_t$ is {early} at t = 2 and {late} at t = T. Early, the image says more "
        "of $x_{t-1}$ than $x_t$ does; late, it says nothing that $x_t$ does not.",
        narrowed,
    ),
    Exercise(
        "divergence",
        "A model has the right mean, and a variance ten times too large. What does it cost, in nats a "
        "value? And ten times too small?",
        "{large} and {small}. Too small is the expensive mistake: what the model thinks impossible does "
        "happen.",
        lopsided,
    ),
    Exercise(
        "eq-12",
        "By how much does the bound weigh an error in $\\eps$ more at t = 2 than at t = 500, with "
        "$\\sigma_t^2 = \\beta_t$?",
        "{ratio} times. It cares most for the faintest noise, which holds the last bits of a pixel; "
        "weight 1 cares for what one sees.",
        weights,
    ),
    Exercise(
        "eq-13",
        "What would the last step do to an image of 256 levels if it added noise of variance $\\beta_1$?",
        "Noise with a deviation of {levels} levels: grain that no image had. So the last step gives its "
        "mean.",
        last_noise,
    ),
    Exercise(
        "target",
        "Data are N(0, 1). Which part of $|\\tilde\\mu_t - \\mu_\\theta|^2$ can no model remove, at t = 500?",
        "What stays unknown of $x_0$ has variance $1-\\bar\\alpha_t$ = {error}, and (7) takes so little "
        "of $x_0$ that {floor} of it is left. A training loss that does not fall to 0 is no sign of a bad "
        "model.",
        floor,
    ),
    Exercise(
        "score",
        "Data are N(0, 1). What are the score and the best guess of $\\eps$ at $x_t$ = 2, t = 500?",
        "$x_t$ is N(0, 1) at every t, so the score is $-x_t$ = {score}, and the guess is "
        "$\\sqrt{1-\\bar\\alpha_t} x_t$ = {eps}.",
        normal_score,
    ),
    Exercise(
        "ddim",
        "DDIM steps from t = 500 to s = 450 with η = 1. Which share of the noise at s is old?",
        "Of the variance {noise}, the share {share} is kept from $x_t$. With η = 0 it would be all of it, "
        "and the sample a function of $x_T$.",
        kept,
    ),
    Exercise(
        "guidance",
        "All data are N(0, 2), those of a class N(1, 1). Which law has the score that is guided with w = 3?",
        "Scores of Gaussians are linear, and so is their sum: precision $(1-w)/2 + w$ = 2, so the "
        "variance is {variance} and the mean {mean}. Beyond the class's own mean, and narrower.",
        guided,
    ),
    Exercise(
        "likelihood",
        "The logarithms of the weights of walks are normal, with a deviation of 1 nat. How far is the "
        "bound with K = 1 from the evidence, in bits?",
        "The mean of w is $e^{1/2}$ times as large as its typical value: 1/2 nat, {bits} bits. A thousand "
        "walks would find nearly all of it; with a deviation of 20 nats, as for images, hardly any.",
        uneven,
    ),
)


@cache
def answers() -> dict[str, str]:
    """Every answer by its question: computed once."""
    return {exercise.question: exercise.answer for exercise in EXERCISES}
