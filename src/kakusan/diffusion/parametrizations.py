"""Parametrizations of a network's output: noise, data, velocity, flow, or EDM's mixture. Five views of one guess.

On a path, x_t = a x_0 + b eps (Eq. 2). The output is w = p x_0 + q eps, where p and q depend on t alone, and these two
equations are solved for x_0 and eps:

    x_0 = (q x_t - b w) / D      eps = (a w - p x_t) / D      D = a q - b p

A parametrization is its pair (p, q), and all else follows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from kakusan.shapes import Coefficients, Samples, moved, per_sample, scaled

SIGMA_DATA = 0.5
"""Deviation of the data that EDM's parametrization assumes (Karras et al. 2022, table 1), in the network's units."""

Pair = tuple[Coefficients, Coefficients]


@dataclass(frozen=True)
class Parametrization:
    """Both ways between a network's output and (x_0, eps). a, b: of the path, float64, one a sample."""

    coefficients: Callable[[Coefficients, Coefficients], Pair]
    """(a, b) -> (p, q)."""

    def target(self, x_0: Samples, eps: Samples, a: Coefficients, b: Coefficients) -> Samples:
        """The output that is right: p x_0 + q eps."""
        p, q = self.coefficients(a, b)
        return _sum(p, x_0, q, eps)

    def guess(
        self, output: Samples, x_t: Samples, a: Coefficients, b: Coefficients
    ) -> tuple[Samples, Samples]:
        """(x_0, eps) that the output stands for."""
        p, q = self.coefficients(a, b)
        D = a * q - b * p
        return _sum(q / D, x_t, -b / D, output), _sum(-p / D, x_t, a / D, output)

    def gain(self, a: Coefficients, b: Coefficients) -> Coefficients:
        """The change of the guess of x_0, in absolute value, when the output changes by 1: |b / D|."""
        p, q = self.coefficients(a, b)
        return (b / (a * q - b * p)).abs()


def _sum(first: Coefficients, x: Samples, second: Coefficients, y: Samples) -> Samples:
    """first x + second y; a term whose coefficients are all 0 costs nothing, and may be infinite."""
    if first.device.type == "cuda":  # looking at them would be a wait
        return scaled(first, x) + scaled(second, y)
    if not first.any():
        return scaled(second, y)
    return scaled(first, x) + scaled(second, y) if second.any() else scaled(first, x)


def _eps(a: Coefficients, b: Coefficients) -> Pair:  # noqa: ARG001
    """The noise in x_t (Ho et al. 2020). Says nothing of x_0 where a = 0."""
    return torch.zeros_like(a), torch.ones_like(a)


def _x_0(a: Coefficients, b: Coefficients) -> Pair:  # noqa: ARG001
    """The data themselves."""
    return torch.ones_like(a), torch.zeros_like(a)


def _v(a: Coefficients, b: Coefficients) -> Pair:
    """v = a eps - b x_0 of the variance-preserving twin (Salimans & Ho 2022): well behaved at both ends."""
    scale = (a.square() + b.square()).sqrt()
    return -b / scale, a / scale


def _flow(a: Coefficients, b: Coefficients) -> Pair:  # noqa: ARG001
    """eps - x_0: the velocity of a straight line (Lipman et al. 2023)."""
    return -torch.ones_like(a), torch.ones_like(a)


def _edm(a: Coefficients, b: Coefficients) -> Pair:
    """F with x_0 = c_skip x_t / a + c_out F (Karras et al. 2022, table 1), at sigma = b / a."""
    norm = (b.square() + (SIGMA_DATA * a).square()).sqrt()  # of a: sqrt(sigma^2 + sigma_data^2)
    return b / (norm * SIGMA_DATA), -SIGMA_DATA * a / norm


EPS, X_0, V, FLOW, EDM = (Parametrization(pair) for pair in (_eps, _x_0, _v, _flow, _edm))


def x_0_from_eps(eps: Samples, x_t: Samples, a: Coefficients, b: Coefficients) -> Samples:
    """Eq. (2) solved for x_0."""
    return (x_t - scaled(b, eps)) / moved(per_sample(a, x_t), x_t)


def eps_from_x_0(x_0: Samples, x_t: Samples, a: Coefficients, b: Coefficients) -> Samples:
    """Eq. (2) solved for eps."""
    return (x_t - scaled(a, x_0)) / moved(per_sample(b, x_t), x_t)


def clip_x_0(
    x_0: Samples, x_t: Samples, a: Coefficients, b: Coefficients, limit: float
) -> tuple[Samples, Samples]:
    """The guess held to [-limit, limit], with eps re-derived from it, so that the two stay one guess."""
    clipped = torch.clamp(x_0, -limit, limit)
    return clipped, eps_from_x_0(clipped, x_t, a, b)
