"""The score of the posterior, near the data: how log p(x_t | y) changes with x_t, at a little noise."""

import torch
from torch import Tensor

from kakusan.diffusion.denoiser import Denoiser
from kakusan.posterior.base import time_of
from kakusan.posterior.measurement import Measurement
from kakusan.posterior.mmps import MomentMatched
from kakusan.shapes import Condition, Samples, per_sample, times_like

SOLVER_STEPS, TOLERANCE = 20, 1e-6
"""Of GMRES."""


def posterior_score(
    denoiser: Denoiser,
    measurement: Measurement,
    x_0: Samples,
    noise: Samples,
    sigma: float,
    condition: Condition | None = None,
) -> tuple[Samples, Samples]:
    """z = x_0 + sigma noise, and the gradient of log p(z | y) there, float64: (E[x_0 | z, y] - z) / sigma^2.

    By Tweedie's formula, with the mean that moment matching gives: exact for Gaussian data, and for all others the
    better the smaller sigma is, since p(x_0 | z) is taken for Gaussian. A row of the measurement for each sample.
    sigma: b / a of the path, in the network's units. The score at x_0 itself is not asked for: data with a flat ground
    have none, and a network has not learned it.
    """
    t = times_like(time_of(denoiser.path, sigma), x_0)
    a, b = denoiser.path.at(t)
    ratio = per_sample(b / a, x_0).to(x_0.device, torch.float64)
    z = x_0.double() + ratio * noise.double()
    x_t = per_sample(a, x_0).to(z) * z
    guess = MomentMatched(denoiser, measurement, SOLVER_STEPS, TOLERANCE).predict(x_t.to(x_0), t, condition)
    score: Tensor = (guess.x_0.detach().double() - z) / ratio.square()
    return z, score
