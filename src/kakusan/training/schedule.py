"""The loss of a schedule that is learned: the bound for its ends, the variance of the bound's estimate between them.

In continuous time the bound depends on a schedule by its ends alone (Kingma et al. 2021, section 5.1), so what lies
between can be chosen such that the term of a random t says most about their sum. docs/schedule.md derives it.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from kakusan.diffusion.denoiser import NetworkDenoiser
from kakusan.diffusion.forward import q_marginal
from kakusan.diffusion.learned import LearnedPath
from kakusan.diffusion.likelihood import BITS, prior_term, terms
from kakusan.diffusion.model import Model
from kakusan.shapes import Condition, Samples, Times, mean_by_sample


def bound_of_schedule(
    model: Model[NetworkDenoiser],
    path: LearnedPath,
    x_0: Samples,
    t: Times,
    noise: Samples,
    condition: Condition | None = None,
) -> Float[Tensor, " batch"]:
    """L_T and T times the term of each sample's t, in bits/dim; the interior's gradient is that of half its square.

    The gradient of half a square is that of the number times the number, so both come from one backward pass, as
    Kingma et al. have it. The decoder's term, at t = 1, is no part of what the interior spreads: it gives none.
    """
    mask = None if condition is None else condition.mask
    factors = torch.zeros(len(t), dtype=torch.float64)
    whole = _on(model, path.weighed(lambda: factors))
    x_t = q_marginal(whole.path, x_0, t).reparametrize(noise)
    guess = whole.denoiser.to_prediction(*whole.denoiser.output(x_t, t, condition), x_t, t)
    parts, order = [], []
    for rows in filter(len, ((t == 1).nonzero()[:, 0].cpu(), (t != 1).nonzero()[:, 0].cpu())):
        there = rows.to(x_t.device)
        part, of = _on(model, path.weighed(_rows(factors, rows))), None if mask is None else mask[there]
        parts.append(terms(part, guess.rows(there), x_t[there], x_0[there], t[rows.to(t.device)], of))
        order.append(rows)
    estimates = path.T * torch.cat(parts)[torch.cat(order).argsort().to(x_t.device)]
    factors.copy_(torch.where(t.cpu() == 1, 0, estimates.detach().cpu()))
    L_T = mean_by_sample(prior_term(path, x_0), mask) * BITS
    return (estimates + L_T).to(x_0)


def _rows(factors: Tensor, rows: Tensor) -> Callable[[], Tensor]:
    """Some of the factors, as they are when they are asked for."""
    return lambda: factors[rows]


def _on(model: Model[NetworkDenoiser], path: LearnedPath) -> Model[NetworkDenoiser]:
    """The same model on another path."""
    return replace(model, denoiser=replace(model.denoiser, path=path))
