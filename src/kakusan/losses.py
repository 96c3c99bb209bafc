"""What training minimizes. A loss is a frozen value that gives one number an image; a new one is a line in `LOSSES`."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from kakusan.denoiser import NetworkDenoiser
from kakusan.maths.forward import q_marginal
from kakusan.maths.parametrizations import amplitudes
from kakusan.shapes import Images, Labels, Times


class Loss(ABC):
    """One number an image, to be averaged over the batch."""

    @abstractmethod
    def per_image(
        self, denoiser: NetworkDenoiser, x_0: Images, t: Times, noise: Images, condition: Labels | None = None
    ) -> Float[Tensor, " batch"]:
        """The loss of each image at its own t, with its own noise; float32 with gradients."""


@dataclass(frozen=True)
class Simple(Loss):
    """Mean squared error of the network's word; for eps, L_simple of Ho et al. 2020. Eq. (12), its weight set to 1."""

    def per_image(
        self, denoiser: NetworkDenoiser, x_0: Images, t: Times, noise: Images, condition: Labels | None = None
    ) -> Float[Tensor, " batch"]:
        x_t = q_marginal(denoiser.schedule, x_0, t).reparametrize(noise)
        target = denoiser.parametrization.target(x_0, noise, *amplitudes(denoiser.schedule, t, x_0))
        return (denoiser.output(x_t, t, condition)[0] - target).square().flatten(1).mean(1)


LOSSES: dict[str, Loss] = {"simple": Simple()}
