"""DDIM inversion: from an image up to the noise that DDIM makes it of (Song, Meng & Ermon 2021, section 4.3).

DDIM without fresh noise is Euler's method on the probability flow, which runs both ways. A step down, from t to s, asks
for the guess at t. Upwards x_t is not there yet, and Euler's step takes the guess at s in its place: an error of the
order of the step, by which the image that comes back differs (Mokady et al. 2023, section 3.1). The step that leads
back exactly is implicit in x_t,

    x_t = (b_t / b_s) (x_s - a_s x_0) + a_t x_0 = (a_t / a_s) (x_s - b_s eps) + b_t eps    with the guess at x_t,

and is found by asking again where it led: a fixed-point iteration (Pan et al. 2023). For values of variance c a round
of the first form multiplies the error by (a_s b_t / b_s - a_t) a_t c / (a_t^2 c + b_t^2), and one of the second by
b_s b_t / (a_s a_t c) times as much: the first is for more noise than data, the second for less. A round costs a call,
as Euler's step does; but the first guess of a step is the last of the one before, so that one round in all costs no
more, and errs in the second order of the step.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.model import as_model
from kakusan.diffusion.paths import Path
from kakusan.diffusion.prediction import Prediction
from kakusan.errors import SettingsError
from kakusan.samplers.base import AnyModel
from kakusan.samplers.walk import Snapshot
from kakusan.shapes import Condition, Samples, Times, scaled, times_like

One: TypeAlias = Float[Tensor, "1 channels *space"]
OnAnArc: TypeAlias = Float[Tensor, "shares channels *space"]
ALONG = 1e-6
"""Sine of the angle, below which two samples lie along one line."""


def invert(
    model: AnyModel | Denoiser,
    x_0: Samples,
    times: Sequence[float | int],
    condition: Condition | None = None,
    *,
    rounds: int = 1,
) -> Iterator[Snapshot]:
    """From x_0 up to x_t at the first of these times, by DDIM's step; each x_t is yielded, x_0 first.

    times: those of a walk, falling to 0, which are visited from the last to the first: `sampler.times(path)`. A walk by
    DDIM at these times leads back. rounds: calls at each x_t to make the step exact; 0: Euler's step.
    Raises SettingsError for times that do not fall to 0, and for rounds below 0.
    """
    if rounds < 0:
        raise SettingsError(f"an inversion takes 0 rounds or more, not {rounds}")
    if len(times) < 2 or times[-1] != 0 or not all(s < t for t, s in pairwise(times)):
        raise SettingsError(f"the times of an inversion fall to 0, which these do not: {tuple(times)}")
    return _upwards(as_model(model), x_0, tuple(reversed(times)), condition, rounds)


@torch.no_grad()
def _upwards(
    model: AnyModel, x: Samples, times: Sequence[float | int], condition: Condition | None, rounds: int
) -> Iterator[Snapshot]:
    guess: Prediction | None = None
    yield Snapshot(times[0], x)
    for low, high in pairwise(times):
        s, t = times_like(low, x), times_like(high, x)
        if guess is None:
            guess = _first_guess(model, x, s, t, condition)
        x_t = step_up(model.path, x, guess, s, t)
        for _ in range(rounds):
            guess = model.predict(x_t, t, condition)
            x_t = step_up(model.path, x, guess, s, t)
        x, x_0 = x_t, guess.x_0
        guess = guess if rounds else None
        yield Snapshot(high, x, x_0)


def _first_guess(
    model: AnyModel, x_s: Samples, s: Times, t: Times, condition: Condition | None
) -> Prediction:
    """The guess at s; or, at the data, of which a denoiser is not asked, that of the same picture at t."""
    if bool((s > 0).all()):
        return model.predict(x_s, s, condition)
    return model.predict(scaled(model.path.scale_at(t) / model.path.scale_at(s), x_s), t, condition)


def step_up(path: Path, x_s: Samples, guess: Prediction, s: Times, t: Times) -> Samples:
    """x_t from which DDIM's step by this guess leads to x_s, for s < t, both of which may lie at an end."""
    (a_s, b_s), (a_t, b_t) = path.at(s), path.at(t)
    if bool((b_s * b_t > a_s * a_t).all()):
        return scaled(b_t / b_s, x_s) + scaled(a_t - a_s * b_t / b_s, guess.x_0)
    return scaled(a_t / a_s, x_s) + scaled(b_t - b_s * a_t / a_s, guess.eps)


def slerp(a: One, b: One, shares: Sequence[float | int]) -> OnAnArc:
    """Samples on the arc from a to b, single ones, (1, channels, ...), at these shares of its angle (Shoemake 1985).

    sin((1 - w) angle) / sin(angle) a + sin(w angle) / sin(angle) b, in float64. Two draws of standard normal noise are
    about as long as each other and at a right angle, and all on the arc is as long, while the middle of the straight
    line is shorter by sqrt(2). a and b along one line have no arc: what lies on that line.
    """
    x, y = a.double(), b.double()
    angle = torch.nn.functional.cosine_similarity(x.flatten(), y.flatten(), 0).clamp(-1, 1).arccos()
    w = torch.tensor(shares, dtype=torch.float64, device=x.device).view(-1, *[1] * (x.ndim - 1))
    if float(angle.sin()) < ALONG:
        return torch.lerp(x, y, w).to(a)
    rows = (((1 - w) * angle).sin() * x + (w * angle).sin() * y) / angle.sin()
    return rows.to(a)
