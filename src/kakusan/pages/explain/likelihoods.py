"""The likelihood of the Gaussian pixel of (9) by three roads: exactly, by the probability flow, and by weighted walks.

All three are known in closed form there, so that integrals and averages can be held against them.
"""

import math

import torch
from jaxtyping import Float64
from torch import Tensor

from kakusan.diffusion.flow import FlowOptions, flow_density
from kakusan.diffusion.forward import q_marginal
from kakusan.diffusion.gaussians import Gaussian
from kakusan.diffusion.model import Model
from kakusan.diffusion.oracles import GaussianOracle
from kakusan.diffusion.schedules import Cosine, NoiseSchedule
from kakusan.diffusion.weighted import WeightedBound, weighted_bound
from kakusan.pages.explain.gaussian_case import VARIANCE, evidence_law, exact_bound
from kakusan.pages.explain.moment import Numbers
from kakusan.pages.explain.sides import Pixel
from kakusan.randomness import Purpose, normals
from kakusan.shapes import Samples, times_like

TOLERANCE = 1e-6
"""Of a step of the flow."""
SHORT = Cosine(T=10)
"""The chain of the walks: short, so that hundreds take half a second, far more than log w has coefficients."""
SEED = 0
COPIES, WALKS = 32, 16
"""Copies of the pixel, which walk together, and the walks of each."""
TOGETHER = 16
"""Weights whose mean is taken before the logarithm."""


def likelihoods(schedule: NoiseSchedule, pixel: Pixel, x_0: float) -> Numbers:
    """The numbers of the section, in bits; x_0: the pixel."""
    x = torch.full((1, 1, 1, 1), x_0, dtype=torch.float64)
    return _flow(pixel.oracle(schedule), x) | _walks(pixel.oracle(SHORT), x)


def _flow(oracle: GaussianOracle, x_0: Samples) -> Numbers:
    """-log q(x_1) by the flow, which ends in the law of x_T, and by the formula. None for T = 1, which has no flow."""
    if oracle.path.T == 1:
        return dict.fromkeys(("flow_bits", "flow_gap"))
    one = times_like(1, x_0)
    x_1 = q_marginal(oracle.path, x_0, one).mean

    def end(x_T: Samples) -> Float64[Tensor, " batch"]:
        return oracle.log_density(x_T, times_like(oracle.path.T, x_T))

    flow = flow_density(oracle, x_1, FlowOptions(tolerance=TOLERANCE), end=end)
    bits, known = (-float(nats) / math.log(2) for nats in (flow.nats, oracle.log_density(x_1, one)))
    return {"flow_bits": bits, "flow_gap": bits - known}


def _walks(oracle: GaussianOracle, x_0: Samples) -> Numbers:
    """Evidence and L_VLB of a short chain, the bound between them, and how far the mean of single walks is from L_VLB.

    The bound with `TOGETHER` weights is L_VLB less what means gain over single weights of the same walks: it alone is
    an estimate, and has a standard error.
    """
    model = Model(oracle, variance=VARIANCE)
    evidence = _bits(evidence_law(model), x_0)
    bound = exact_bound(model, x_0.flatten())
    weights = weighted_bound(model, x_0.expand(COPIES, 1, 1, 1), WALKS, seed=SEED).weights
    rows = weights.view(-1, TOGETHER)
    gains = WeightedBound(rows, torch.ones(len(rows)).double()).total + rows.mean(1)
    averaged = bound + float(gains.mean())
    return {
        "short_evidence": evidence,
        "short_averaged": averaged,
        "short_error": float(gains.std()) / len(rows) ** 0.5,
        "walks_share": (averaged - evidence) / (bound - evidence),
        "short_bound": bound,
        "walks_gap": -_expected(weights.flatten(), _noise(oracle.path.T)) - bound,
    }


def _noise(T: int) -> Float64[Tensor, "walks T"]:
    """The noise of every walk: walk k of copy n stands at n WALKS + k, as in the weights."""
    drawn = [
        normals(SEED, Purpose.CHAIN, k * (T + 1) + t, torch.arange(COPIES), (1,)).double()
        for k in range(WALKS)
        for t in range(1, T + 1)
    ]
    return torch.stack(drawn, 1).view(COPIES * WALKS, T)


def _expected(log_w: Float64[Tensor, " walks"], noise: Float64[Tensor, "walks T"]) -> float:
    """E log w, exactly: where all is Gaussian, log w is a polynomial of degree 2 in the noise.

    It is fitted to the walks, and of its terms the constant and the squares, E z^2 = 1, have a mean. So no error of the
    draw is left, and the least mistake shows.
    """
    row, column = torch.triu_indices(noise.shape[1], noise.shape[1])
    terms = torch.cat([torch.ones_like(noise[:, :1]), noise, noise[:, row] * noise[:, column]], 1)
    means = torch.cat([torch.ones(1), torch.zeros(noise.shape[1]), row == column]).double()
    return float(torch.linalg.lstsq(terms, log_w[:, None]).solution[:, 0] @ means)


def _bits(law: Gaussian, x_0: Samples) -> float:
    return -float(law.log_density(x_0)) / math.log(2)
