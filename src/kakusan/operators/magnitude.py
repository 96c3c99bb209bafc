"""The magnitude of the Fourier transform alone: phase retrieval, coherent diffraction."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kakusan.errors import SettingsError
from kakusan.operators.base import LinearMap, Measured, Operator, axes_of, require_space
from kakusan.shapes import Samples


@dataclass(frozen=True)
class Magnitude(Operator):
    """y = |F x|, F the orthonormal Fourier transform of each channel, (channels, *frequencies), frequency 0 first.

    oversampling: of the frequencies, along each axis: the sample is laid into zeros of so many times its sides. From 2
    on, y is that of few samples (up to a shift, a point reflection and the sign). At F x = 0 the derivative is 0.
    Raises SettingsError for an oversampling below 1.
    """

    oversampling: int = 1

    def __post_init__(self) -> None:
        if self.oversampling < 1:
            raise SettingsError(f"an oversampling is a whole number of at least 1, not {self.oversampling}")

    def __call__(self, x: Samples) -> Measured:
        return self._transform(x).abs()

    def derivative(self, x: Samples) -> LinearMap:
        direction, axes = self._transform(x.detach()).sgn(), axes_of(x)

        def apply(v: Samples) -> Measured:
            return torch.real(direction.conj() * self._transform(v))

        def adjoint(w: Measured) -> Samples:
            whole = torch.real(torch.fft.ifftn(direction * w, dim=axes, norm="ortho"))
            for axis in axes:
                whole = whole.narrow(axis, 0, x.shape[axis])
            return whole

        return LinearMap(apply, adjoint)

    def _transform(self, x: Samples) -> Tensor:
        require_space(x, "a Fourier transform")
        sides = [side * self.oversampling for side in x.shape[2:]]
        transformed: Tensor = torch.fft.fftn(x, sides, axes_of(x), norm="ortho")
        return transformed
