"""The arithmetic that multistep samplers share: exponential integrators of the probability flow.

With lambda = log(a / b), half of the log-SNR, the flow from t to s is, exactly (Lu et al. 2022b, Eq. 8),

    x_s = (b_s / b_t) x_t + a_s int_0^h e^(tau - h) x_0(tau) dtau,    tau = lambda - lambda_t, h = lambda_s - lambda_t

The linear part is solved, and only the guess of x_0 along the way has to be known. Where it is constant this is DDIM.
Where it is taken for the polynomial through the guesses at several places, the step is exact but for what the
polynomial leaves out. Places are counted in steps: 0 is t, 1 is s, and what lies before t is below 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch

from kakusan.diffusion.paths import Path
from kakusan.diffusion.prediction import Prediction
from kakusan.samplers.base import Sampler, State
from kakusan.shapes import Coefficients, Samples, Times, scaled

Guess: TypeAlias = tuple[Prediction, Times]
"""A prediction, and the time at which it was made."""

TERMS = 18
"""Of the series of `moments`, whose rest at h = 1 is below 1 / 19! = 8e-18."""


@dataclass(frozen=True)
class Step:
    """A step from t to s in the log-SNR. It is infinitely long where a_t = 0 or b_s = 0: then it is DDIM's alone."""

    path: Path
    t: Times
    s: Times

    @cached_property
    def h(self) -> Coefficients:
        """lambda_s - lambda_t, above 0."""
        return self.path.half_log_snr(self.s) - self.path.half_log_snr(self.t)

    @cached_property
    def a_s(self) -> Coefficients:
        return self.path.at(self.s)[0]

    @property
    def is_finite(self) -> bool:
        """Whether it is of finite length for each sample of the batch."""
        return bool(self.h.isfinite().all())

    def place(self, u: Times) -> Coefficients:
        """Where a time lies, counted in steps from t: 0 at t, 1 at s."""
        return (self.path.half_log_snr(u) - self.path.half_log_snr(self.t)) / self.h

    def usable(self, past: Sequence[Guess]) -> Sequence[Guess]:
        """As many of these, from the first on, as lie at a finite distance; none for an infinite step."""
        infinite = [i for i, (_, u) in enumerate(past) if not self.place(u).isfinite().all()]
        return past[: min(infinite, default=len(past))] if self.is_finite else ()

    def first_order(self, x_t: Samples, x_0: Samples) -> Samples:
        """(b_s / b_t) x_t + (a_s - b_s a_t / b_t) x_0: DDIM's step, finite for any s < t."""
        (a_t, b_t), (a_s, b_s) = self.path.at(self.t), self.path.at(self.s)
        return scaled(b_s / b_t, x_t) + scaled(a_s - b_s * a_t / b_t, x_0)

    def exact(self, x_t: Samples, guess: Prediction, others: Sequence[Guess]) -> Samples:
        """The step for the polynomial through the guess at t and the others: of order 1 + len(others).

        Only others of `usable` have finite weights, but for that of s, which is usable where the step is finite.
        """
        x_s = self.first_order(x_t, guess.x_0)
        weights = polynomial_weights(self.h, [self.place(u) for _, u in others])
        for (other, _), weight in zip(others, weights, strict=True):
            x_s = x_s + scaled(self.a_s * weight, other.x_0 - guess.x_0)
        return x_s

    def midpoint(self, x_t: Samples, guess: Prediction, other: Guess) -> Samples:
        """The step for one guess, that of the line through the two at half of the step: of order 2 too."""
        to_the_middle = 1 / (2 * self.place(other[1]))
        return self.first_order(x_t, guess.x_0 + scaled(to_the_middle, other[0].x_0 - guess.x_0))


def past_of(state: State, t: Times, most: int) -> Sequence[Guess]:
    """The newest predictions before t that the state keeps, the newest first."""
    kept = zip(reversed(state.guesses), reversed(state.times), strict=True)
    return [(guess, u) for guess, u in kept if not u.equal(t)][:most]


def polynomial_weights(h: Coefficients, places: Sequence[Coefficients]) -> list[Coefficients]:
    """int_0^h e^(tau - h) L_j(tau) dtau for the Lagrange polynomials of these places, of which 0 is one more.

    L_j is 1 at place j, and 0 at the others and at 0. The weights do not sum to anything in particular, since the
    guess at t has what is left of 1 - e^-h: `Step.exact` adds differences to it.
    """
    integrals = moments(h, len(places) + 1)
    weights = []
    for j, place in enumerate(places):
        others = [torch.zeros_like(h), *places[:j], *places[j + 1 :]]
        polynomial = [torch.ones_like(h)]  # coefficients of u^0, u^1, ...
        for other in others:
            polynomial = _times_root(polynomial, other, 1 / (place - other))
        weights.append(h * sum(c * m for c, m in zip(polynomial, integrals, strict=True)))
    return weights


def _times_root(
    polynomial: list[Coefficients], root: Coefficients, factor: Coefficients
) -> list[Coefficients]:
    """The coefficients of polynomial(u) (u - root) factor."""
    zero = torch.zeros_like(root)
    pairs = zip([zero, *polynomial], [*polynomial, zero], strict=True)
    return [(below - root * same) * factor for below, same in pairs]


def moments(h: Coefficients, count: int) -> list[Coefficients]:
    """int_0^1 e^((u - 1) h) u^k du for k = 0, ..., count - 1; h^(k+1) times it is M_k = int_0^h e^(tau - h) tau^k dtau.

    By parts, the k-th is (1 - k times the one before) / h. That divides a small difference by a small h below 1, where
    the series sum_n (-h)^n k! / (k + 1 + n)! takes its place.
    """
    small, by_parts = h.clamp(max=1), [-torch.expm1(-h) / h]
    for k in range(1, count):
        by_parts.append((1 - k * by_parts[-1]) / h)
    return [torch.where(h < 1, _series(small, k), each) for k, each in enumerate(by_parts)]


def _series(h: Coefficients, k: int) -> Coefficients:
    """sum_n (-h)^n k! / (k + 1 + n)!, the last terms first."""
    total = torch.zeros_like(h)
    for n in reversed(range(TERMS)):
        total = (1 - h * total) / (k + 1 + n)
    return total


def steps_left(sampler: Sampler, path: Path, t: Times) -> int:
    """Steps from t on, in a walk of the sampler at its own times."""
    return sum(bool((t >= u).any()) for u in sampler.times(path)[:-1])


def is_last(path: Path, s: Times) -> bool:
    """Whether a step to s ends at the data, of which nothing more can be asked."""
    return not bool((path.at(s)[1] > 0).all())
