"""The K times that minimize the bound of a trained model, exactly (Watson, Ho, Norouzi & Chan 2021).

The bound of a chain that visits T = t_0 > t_1 > ... > t_K = 0 is L_T and one term a step, L(s, t), which depends on the
step's two ends alone: the divergence of Eq. (7) from p_theta, for s >= 1, or -log p_theta(x_0 | x_t). For a variance
that no network learns, the divergence is linear in the squared error of the guess of x_0 at t. So all T (T + 1) / 2
terms follow from one error a time, and the cheapest way from T to 0 in K steps from dynamic programming.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.forward import q_posterior
from kakusan.diffusion.likelihood import BITS
from kakusan.diffusion.model import Model, p_given
from kakusan.diffusion.prediction import Prediction
from kakusan.diffusion.variances import LearnedRange, variance_named
from kakusan.errors import SettingsError

Costs = Float64[Tensor, "entries entries"]
"""[s, t]: L(s, t) in bits/dim, +inf unless s < t."""


@dataclass(frozen=True)
class BestSteps:
    """A way from T to 0, and what it costs."""

    at: tuple[int, ...]
    """The times that are visited before 0, falling from T."""
    bits: float
    """The bound less L_T, which no choice of times changes, in bits/dim."""


def step_costs(
    model: Model[Denoiser],
    errors: Float64[Tensor, " entries"],
    decoders: Float64[Tensor, " entries"] | None = None,
) -> Costs:
    """L(s, t) of all pairs s < t, in bits/dim.

    errors: mean squared error of the guess of x_0 for each value, at t = 0, ..., T; decoders: -log2 p_theta(x_0 | x_t)
    a value at t = 0, ..., T, measured, where the data have levels; None: that of the density of real data, by the
    errors. Raises SettingsError for a learned variance, of which the terms are no function of errors.
    """
    path = model.path
    if isinstance(variance_named(model.variance), LearnedRange):
        raise SettingsError(
            "the best steps follow from errors by time, and a learned variance from more than these",
            "take --variance fixed-large or fixed-small",
        )
    if len(errors) != path.T + 1:
        raise ValueError(f"{len(errors)} errors do not fit a path of T = {path.T}")
    costs = torch.full((path.T + 1, path.T + 1), torch.inf, dtype=torch.float64)
    for t in range(1, path.T + 1):
        costs[:t, t] = _terms_to(model, t, float(errors[t])) * BITS
    if decoders is not None:
        costs[0, 1:] = decoders[1:]
    return costs


def _terms_to(model: Model[Denoiser], t: int, error: float) -> Float64[Tensor, " t"]:
    """L(s, t) for s = 0, ..., t - 1, in nats a value.

    Those of an image of one value whose guess is off by the root of the error: exact, since both kinds of terms are
    linear in the square of what it is off by.
    """
    s = torch.arange(t, dtype=torch.float64)
    at, zero = torch.full_like(s, t), torch.zeros(t, 1, dtype=torch.float64)
    off = torch.full_like(zero, error**0.5)
    p = p_given(model, Prediction(zero, zero), zero, at, s)
    decoder = -p.log_density(off)[:1, 0]
    if t == 1:
        return decoder
    q = q_posterior(model.path, zero[1:], off[1:], at[1:], s[1:])
    divergence = q.kl(type(p)(p.mean[1:], p.variance[1:]))[:, 0]
    return torch.cat([decoder, divergence])


def best_steps(costs: Costs, steps: int) -> BestSteps:
    """The cheapest way from T to 0 in exactly so many steps: K T^2 sums in place of T! / (T - K)! / K! ways.

    Raises SettingsError for less than 1 step and for more than T.
    """
    T = len(costs) - 1
    if not 1 <= steps <= T:
        raise SettingsError(f"{steps} steps do not fit between t = {T} and t = 0", f"take 1 to {T}")
    rest, choices = costs[0].clone(), []  # from t to 0 in one step
    for _ in range(steps - 1):
        rest, choice = (costs + rest[:, None]).min(0)
        choices.append(choice)
    at = [T]
    for choice in reversed(choices):
        at.append(int(choice[at[-1]]))
    return BestSteps(tuple(at), float(rest[T]))


def cost_of(costs: Costs, at: tuple[int, ...]) -> float:
    """Bits/dim of a way through these times to 0, without L_T."""
    return float(sum(costs[s, t] for t, s in zip(at, (*at[1:], 0), strict=True)))
