"""What a network may predict: the noise eps, the image x_0, or the velocity v. Three views of one guess.

x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps (Eq. 2) ties the three: with a = sqrt(alpha_bar) and
b = sqrt(1 - alpha_bar), v = a eps - b x_0 (Salimans & Ho 2022), so x_0 = a x_t - b v and eps = b x_t + a v.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch

from kakusan.diffusion.forward import per_image
from kakusan.diffusion.schedules import NoiseSchedule
from kakusan.shapes import Images, PerImage, Times


class Parametrization(ABC):
    """Both ways between a network's output and (x_0, eps). a, b: signal and noise amplitudes in x_t."""

    @abstractmethod
    def target(self, x_0: Images, eps: Images, a: PerImage, b: PerImage) -> Images:
        """What the network should have said."""

    @abstractmethod
    def guess(self, output: Images, x_t: Images, a: PerImage, b: PerImage) -> tuple[Images, Images]:
        """What the network's word means: (x_0, eps)."""

    @abstractmethod
    def gain(self, a: PerImage, b: PerImage) -> PerImage:
        """How far the guess of x_0 moves, but for the sign, when the word moves by 1."""


@dataclass(frozen=True)
class PredictsEps(Parametrization):
    """The noise in x_t (Ho et al. 2020). Says nothing of x_0 where alpha_bar = 0."""

    def target(self, x_0: Images, eps: Images, a: PerImage, b: PerImage) -> Images:  # noqa: ARG002
        return eps

    def guess(self, output: Images, x_t: Images, a: PerImage, b: PerImage) -> tuple[Images, Images]:
        return x_0_from_eps(output, x_t, a, b), output

    def gain(self, a: PerImage, b: PerImage) -> PerImage:
        return b / a


@dataclass(frozen=True)
class PredictsX0(Parametrization):
    """The image itself."""

    def target(self, x_0: Images, eps: Images, a: PerImage, b: PerImage) -> Images:  # noqa: ARG002
        return x_0

    def guess(self, output: Images, x_t: Images, a: PerImage, b: PerImage) -> tuple[Images, Images]:
        return output, eps_from_x_0(output, x_t, a, b)

    def gain(self, a: PerImage, b: PerImage) -> PerImage:  # noqa: ARG002
        return torch.ones_like(a)


@dataclass(frozen=True)
class PredictsV(Parametrization):
    """v = a eps - b x_0 (Salimans & Ho 2022): well behaved at both ends."""

    def target(self, x_0: Images, eps: Images, a: PerImage, b: PerImage) -> Images:
        return a * eps - b * x_0

    def guess(self, output: Images, x_t: Images, a: PerImage, b: PerImage) -> tuple[Images, Images]:
        return a * x_t - b * output, b * x_t + a * output

    def gain(self, a: PerImage, b: PerImage) -> PerImage:  # noqa: ARG002
        return b


def x_0_from_eps(eps: Images, x_t: Images, a: PerImage, b: PerImage) -> Images:
    """Eq. (2) solved for x_0."""
    return (x_t - b * eps) / a


def eps_from_x_0(x_0: Images, x_t: Images, a: PerImage, b: PerImage) -> Images:
    """Eq. (2) solved for eps."""
    return (x_t - a * x_0) / b


def amplitudes(schedule: NoiseSchedule, t: Times, like: Images) -> tuple[PerImage, PerImage]:
    """The factors in Eq. (2), sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t): float64, cast last to the images' type."""
    alpha_bar_t = per_image(schedule.alpha_bar_at(t))
    return alpha_bar_t.sqrt().to(like), (1 - alpha_bar_t).sqrt().to(like)


def clip_x_0(x_0: Images, x_t: Images, a: PerImage, b: PerImage, limit: float) -> tuple[Images, Images]:
    """The guess held to [-limit, limit], with eps re-derived from it, so that the two stay one guess."""
    clipped = torch.clamp(x_0, -limit, limit)
    return clipped, eps_from_x_0(clipped, x_t, a, b)


PARAMETRIZATIONS: dict[str, Parametrization] = {"eps": PredictsEps(), "x_0": PredictsX0(), "v": PredictsV()}
