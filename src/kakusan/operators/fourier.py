"""Some frequencies are measured: magnetic resonance, radio interferometry, aperture synthesis."""

from dataclasses import dataclass

import torch
from jaxtyping import Complex
from torch import Tensor

from kakusan.errors import SettingsError
from kakusan.operators.base import Linear, Measured, axes_of, require_fit, require_space
from kakusan.shapes import Samples


@dataclass(frozen=True, eq=False)
class Fourier(Linear):
    """y = the orthonormal discrete Fourier transform of each channel where frequencies are kept, 0 elsewhere.

    y has shape (2 channels, *space): real and imaginary part of the first channel, those of the second, and so on.
    kept: booleans of the shape of the space, in the order of numpy.fft.fftn, frequency 0 first; `numpy.fft.ifftshift`
    brings a mask with frequency 0 in the middle there. The samples are real, so that frequency -k says what k says.
    Raises SettingsError where nothing is kept.
    """

    kept: Tensor

    def __post_init__(self) -> None:
        if self.kept.dtype != torch.bool or not self.kept.any():
            raise SettingsError("kept frequencies are booleans, True where one is measured, at least one")

    def measured_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self._fitting(torch.empty(1, *shape))
        return (2 * shape[0], *shape[1:])

    def is_measured(self, shape: tuple[int, ...]) -> Tensor:
        return self.kept.expand(self.measured_shape(shape))

    def __call__(self, x: Samples) -> Measured:
        kept = self._fitting(x)
        return as_channels(torch.fft.fftn(x, dim=axes_of(x), norm="ortho")) * kept

    def adjoint(self, y: Measured, shape: tuple[int, ...]) -> Samples:
        z = as_complex(y * self._fitting(y.new_empty(1, *shape)))
        return torch.real(torch.fft.ifftn(z, dim=axes_of(z), norm="ortho"))

    def _fitting(self, x: Samples) -> Tensor:
        require_space(x, "a Fourier transform")
        kept = tuple(self.kept.shape)
        require_fit(
            kept == tuple(x.shape[2:]), f"a mask of {kept} frequencies", "is for samples of its size", x
        )
        return self.kept.to(x.device)


def as_channels(z: Complex[Tensor, "batch channels *space"]) -> Measured:
    """Real and imaginary part of each channel, one after the other."""
    return torch.view_as_real(z).movedim(-1, 2).flatten(1, 2)


def as_complex(y: Measured) -> Complex[Tensor, "batch channels *space"]:
    """The inverse of `as_channels`."""
    return torch.view_as_complex(y.reshape(len(y), -1, 2, *y.shape[2:]).movedim(2, -1).contiguous())
