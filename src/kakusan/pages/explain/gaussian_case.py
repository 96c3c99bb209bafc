"""The case where the evidence itself has a closed form: a pixel that is N(mean, deviation^2), and its exact denoiser.

Then every reverse step is linear, so p_theta(x_0) is a Gaussian whose mean and variance follow from step to step; and
every term of the bound is quadratic in x_0 and in the noise, so that two points stand for each expectation, exactly.
Both sides of (9) and (10) are then numbers, and can be compared.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.gaussians import Gaussian, double
from kakusan.diffusion.likelihood import BITS, pair_terms, prior_term
from kakusan.diffusion.model import Model, p_step
from kakusan.diffusion.oracles import GaussianOracle
from kakusan.diffusion.paths import Path
from kakusan.diffusion.schedules import NoiseSchedule
from kakusan.shapes import Samples, Times

NARROWEST = 0.05
VARIANCE = "fixed-large"


@dataclass(frozen=True)
class GaussianCase:
    """Both sides of (9) for one pixel of an image, and of (10) for the law of its pixels. In bits."""

    pixel: float
    """x_0."""
    mean: float
    deviation: float
    evidence: float
    """-log p_theta(x_0)."""
    bound: float
    entropy: float
    """-E log q(x_0): what no model can be below."""
    cross_entropy: float
    """-E log p_theta(x_0), with x_0 from q."""
    mean_bound: float


def gaussian_case(schedule: NoiseSchedule, x_0: Samples, place: int) -> GaussianCase:
    """The Gaussian model of one image (1, channels, height, width): mean and spread of its pixels alone.

    place: of the pixel that (9) is about, in the order of the tensor.
    """
    values = double(x_0).flatten()
    mean = float(values.mean())
    deviation = max(float(values.std(correction=0)), NARROWEST)
    oracle = GaussianOracle(schedule, mean, deviation**2)
    model = Model(oracle, variance=VARIANCE)
    law = evidence_law(model)
    pixel = values[place : place + 1]
    ends = torch.tensor(
        [mean - deviation, mean + deviation], dtype=torch.float64
    )  # exact for what is quadratic
    return GaussianCase(
        pixel=float(pixel),
        mean=mean,
        deviation=deviation,
        evidence=_bits(law, pixel),
        bound=exact_bound(model, pixel),
        entropy=oracle.entropy * BITS,
        cross_entropy=_bits(law, ends),
        mean_bound=exact_bound(model, ends),
    )


def evidence_law(model: Model[Denoiser]) -> Gaussian:
    """p_theta(x_0) of one pixel: the chain of (4), step by step from N(0, 1), where each mean is linear in x_t."""
    t = _all_times(model.path)
    zeros = torch.zeros(len(t), 1, 1, 1, dtype=torch.float64)
    at_0, at_1 = (p_step(model, x_t, t, t - 1) for x_t in (zeros, zeros + 1))
    mean, variance = 0.0, 1.0
    for offset, slope, added in reversed(list(_rows(at_0.mean, at_1.mean - at_0.mean, at_0.variance))):
        mean, variance = offset + slope * mean, slope**2 * variance + added
    return Gaussian(torch.full((1, 1, 1, 1), mean).double(), torch.full((1, 1, 1, 1), variance).double())


def _rows(*columns: Tensor) -> list[tuple[float, ...]]:
    return list(zip(*(column.flatten().tolist() for column in columns), strict=True))


def exact_bound(model: Model[Denoiser], pixels: Float64[Tensor, " pixels"]) -> float:
    """L_VLB of these pixels, the mean over them: noise of 1 and of -1 stand for all noise."""
    t = _all_times(model.path)
    x_0 = pixels.view(1, 1, 1, -1).expand(len(t), -1, -1, -1)
    halves = [pair_terms(model, x_0, t, torch.full_like(x_0, noise))[0].sum() for noise in (-1.0, 1.0)]
    return float(sum(halves) / 2 + prior_term(model.path, x_0[:1]).mean() * BITS)


def _all_times(path: Path) -> Times:
    return torch.arange(1, path.T + 1, dtype=torch.float64)


def _bits(law: Gaussian, pixels: Float64[Tensor, " pixels"]) -> float:
    return -float(law.log_density(pixels.view(-1, 1, 1, 1)).mean()) / math.log(2)
