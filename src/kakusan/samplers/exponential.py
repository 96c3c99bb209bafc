"""The arithmetic that multistep samplers share: exponential integrators of the probability flow.

With lambda = log(a / b), half of the log-SNR, the flow from t to s is, exactly (Lu et al. 2022b, Proposition 4.1),

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
from kakusan.samplers.base import AnyModel, Sampler, State
from kakusan.shapes import Coefficients, Samples, Times, scaled

Guess: TypeAlias = tuple[Prediction, Times]
"""A prediction, and the time at which it was made."""
Placed: TypeAlias = tuple[Prediction, Coefficients]
"""A prediction, and its place."""

FORGOTTEN = 18
"""Rounds of the recurrence downwards after which what it began with is divided by more than 18! = 6e15."""


@dataclass(frozen=True)
class Step:
    """A step from t to s in the log-SNR. It is infinitely long where a_t = 0 or b_s = 0: then it is DDIM's alone."""

    path: Path
    t: Times
    s: Times

    @cached_property
    def at_t(self) -> tuple[Coefficients, Coefficients]:
        """(a_t, b_t)."""
        return self.path.at(self.t)

    @cached_property
    def at_s(self) -> tuple[Coefficients, Coefficients]:
        """(a_s, b_s)."""
        return self.path.at(self.s)

    @cached_property
    def h(self) -> Coefficients:
        """lambda_s - lambda_t, above 0."""
        (a_t, b_t), (a_s, b_s) = self.at_t, self.at_s
        return torch.log(a_s / b_s) - torch.log(a_t / b_t)

    @property
    def is_finite(self) -> bool:
        """Whether it is of finite length for each sample of the batch."""
        return bool(self.h.isfinite().all())

    def placed(self, guesses: Sequence[Guess]) -> list[Placed]:
        """As many of these, from the first on, as lie at a finite distance; none for an infinite step."""
        found: list[Placed] = []
        here = torch.log(self.at_t[0] / self.at_t[1])
        for guess, u in guesses if self.is_finite else ():
            place = (self.path.half_log_snr(u) - here) / self.h
            if not place.isfinite().all():
                break
            found.append((guess, place))
        return found

    def at_end(self, guess: Prediction) -> Placed:
        """A prediction that was made at s."""
        return guess, torch.ones_like(self.h)

    def first_order(self, x_t: Samples, x_0: Samples) -> Samples:
        """(b_s / b_t) x_t + (a_s - b_s a_t / b_t) x_0: DDIM's step, finite for any s < t."""
        (a_t, b_t), (a_s, b_s) = self.at_t, self.at_s
        return scaled(b_s / b_t, x_t) + scaled(a_s - b_s * a_t / b_t, x_0)

    def exact(self, x_t: Samples, guess: Prediction, others: Sequence[Placed]) -> Samples:
        """The step for the polynomial through the guess at t and the others: of order 1 + len(others)."""
        x_s, a_s = self.first_order(x_t, guess.x_0), self.at_s[0]
        weights = polynomial_weights(self.h, [place for _, place in others])
        for (other, _), weight in zip(others, weights, strict=True):
            x_s = x_s + scaled(a_s * weight, other.x_0 - guess.x_0)
        return x_s

    def midpoint(self, x_t: Samples, guess: Prediction, other: Placed) -> Samples:
        """The step for one guess, that of the line through the two at half of the step: of order 2 too."""
        return self.first_order(x_t, in_the_middle(guess, other))


def in_the_middle(guess: Prediction, other: Placed) -> Samples:
    """x_0 at half of the step, on the line through the guess at t and another."""
    earlier, place = other
    return guess.x_0 + scaled(1 / (2 * place), earlier.x_0 - guess.x_0)


def reverse_step(step: Step, x_t: Samples, x_0: Samples, eta: float, noise: Samples | None) -> Samples:
    """The step for a constant guess along the reverse SDE with eta of its noise; without any, where eta = 0, DDIM's.

        x_s = (b_s / b_t) e^(-eta h) x_t + a_s (1 - e^-h') x_0 + b_s sqrt(1 - e^(-2 eta h)) z      h' = (1 + eta) h

    A guess that changes on the way stands under the same integral as without noise, of h' for h (Xue et al. 2023,
    section 4), so that `polynomial_weights` of h' are its weights. Finite for any s < t.
    """
    (_, b_t), (a_s, b_s) = step.at_t, step.at_s
    kept = torch.exp(-step.h).pow(eta)  # 0 ** 0 is 1: without noise nothing is forgotten
    x_s = scaled(b_s / b_t * kept, x_t) - scaled(a_s * torch.expm1(-(1 + eta) * step.h), x_0)
    if noise is None or not eta:
        return x_s
    return x_s + scaled(b_s * (-torch.expm1(-2 * eta * step.h)).sqrt(), noise)


def past_of(state: State, t: Times, most: int) -> Sequence[Guess]:
    """The newest predictions before t that the state keeps, the newest first."""
    kept = zip(reversed(state.guesses), reversed(state.times), strict=True)
    return [(guess, u) for guess, u in kept if not u.equal(t)][:most]


def asked(model: AnyModel, state: State, t: Times, keep: int) -> State:
    """The state with a prediction at t: the one that a corrector has asked for at its end, or one asked for now."""
    if state.times and state.times[-1].equal(t):
        return state
    return state.then(state.x, model.predict(state.x, t, state.condition), t, keep=keep)


def polynomial_weights(h: Coefficients, places: Sequence[Coefficients]) -> list[Coefficients]:
    """int_0^h e^(tau - h) L_j(tau) dtau for the Lagrange polynomials of these places, of which 0 is one more.

    L_j is 1 at place j, and 0 at the others and at 0, whose own weight is what is left of 1 - e^-h: a step is that of
    DDIM and the weighted differences from the guess there.
    """
    if not places:
        return []
    integrals = moments(h, len(places) + 1)
    weights = []
    for j, place in enumerate(places):
        polynomial = [torch.zeros_like(h), 1 / place]  # u / place: coefficients of u^0, u^1, ...
        for other in (*places[:j], *places[j + 1 :]):
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

    By parts, h times the k-th and k times the one before are 1. Upwards that divides a small difference by h, which is
    no loss for h >= 1. Downwards, for h < 1, it divides by k, and forgets what it began with.
    """
    upwards, downwards = [-torch.expm1(-h) / h], [torch.zeros_like(h)]
    for k in range(1, count):
        upwards.append((1 - k * upwards[-1]) / h)
    for k in range(count + FORGOTTEN, 0, -1):
        downwards.append((1 - h * downwards[-1]) / k)
    return [
        torch.where(h < 1, low, high) for low, high in zip(reversed(downwards[-count:]), upwards, strict=True)
    ]


def steps_left(sampler: Sampler, path: Path, t: Times) -> int:
    """Steps from t on, in a walk of the sampler at its own times."""
    return sum(bool((t >= u).any()) for u in sampler.times(path)[:-1])


def is_last(path: Path, s: Times) -> bool:
    """Whether a step to s ends at the data, of which nothing more can be asked."""
    return not bool((path.at(s)[1] > 0).all())
