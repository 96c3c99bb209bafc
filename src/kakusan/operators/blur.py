"""A convolution with a kernel: defocus, motion, the point spread function of an instrument."""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from kakusan.errors import SettingsError
from kakusan.operators.base import Kept, Linear, Measured, axes_of, require_fit
from kakusan.shapes import Samples

Edges: TypeAlias = Literal["reflect", "periodic", "zero"]
"""Values beyond the edges: b a | a b c | c b, mirrored with the edge itself twice; b c | a b c | a b; or 0."""
REACH = 4.0
"""Deviations after which a Gaussian is cut off, where 6e-5 of its mass is left."""


@dataclass(frozen=True, eq=False)
class Blur(Linear):
    """y[p] = sum over q of kernel[q] x[p - q + c], of each channel by itself; y has the shape of x.

    kernel: of as many axes as the space has, c its middle, size // 2; in the orientation of a convolution, so that the
    kernel is the image of a point. Its sum is what it multiplies a constant by: nothing is normalized.
    Raises SettingsError for a kernel that is empty, not finite or 0 all over, or is of other dimensions than the
    samples.
    """

    kernel: Tensor
    edges: Edges = "reflect"

    def __post_init__(self) -> None:
        if not 1 <= self.kernel.ndim <= 3 or not self.kernel.numel() or not self.kernel.isfinite().all():
            raise SettingsError(
                f"a kernel is finite numbers on 1 to 3 axes, and this one has shape {tuple(self.kernel.shape)}"
            )
        if not self.kernel.any():
            raise SettingsError("all of the kernel is 0, and nothing would be measured")
        if self.edges not in get_args(Edges):
            raise SettingsError(f"edges are {', '.join(get_args(Edges))}, not {self.edges!r}")

    def measured_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self._require(torch.empty(1, *shape))
        return shape

    def __call__(self, x: Samples) -> Measured:
        self._require(x)
        padded, axes = self._padded(x), axes_of(x)
        whole = self._filtered(padded, torch.fft.rfftn(self._kernel.like(x), padded.shape[2:]))
        for axis, size in zip(axes, self.kernel.shape, strict=True):
            whole = whole.narrow(
                axis, size - 1, x.shape[axis]
            )  # the rest of the circular convolution reaches around
        return whole

    def adjoint(self, y: Measured, shape: tuple[int, ...]) -> Samples:
        self._require(y)
        before = [(size - 1, 0) for size in reversed(self.kernel.shape)]
        wide = F.pad(y, [*chain.from_iterable(before)])
        transfer = torch.fft.rfftn(self._kernel.like(y), wide.shape[2:])
        return self._folded(self._filtered(wide, transfer.conj()), shape)

    @staticmethod
    def _filtered(x: Samples, transfer: Tensor) -> Samples:
        """A circular convolution, as a product of Fourier transforms: as fast as sums already for 3 x 3 values."""
        axes = axes_of(x)
        filtered: Tensor = torch.fft.irfftn(torch.fft.rfftn(x, dim=axes) * transfer, x.shape[2:], axes)
        return filtered

    def _padded(self, x: Samples) -> Samples:
        """With what lies beyond the edges, as far as the kernel reaches."""
        for axis, (size, side) in enumerate(zip(self.kernel.shape, x.shape[2:], strict=True), start=2):
            inside, places = self._beyond(side, size)
            x = x.index_select(axis, places.to(x.device))
            if self.edges == "zero":
                x = x * _along(inside.to(x), axis, x.ndim)
        return x

    def _folded(self, wide: Samples, shape: tuple[int, ...]) -> Samples:
        """The adjoint of `_padded`: what lies beyond is added to where it came from."""
        for axis, (size, side) in enumerate(zip(self.kernel.shape, shape[1:], strict=True), start=2):
            inside, places = self._beyond(side, size)
            if self.edges == "zero":
                wide = wide * _along(inside.to(wide), axis, wide.ndim)
            sides = (*wide.shape[:axis], side, *wide.shape[axis + 1 :])
            wide = wide.new_zeros(sides).index_add(axis, places.to(wide.device), wide)
        return wide

    def _beyond(self, side: int, size: int) -> tuple[Tensor, Tensor]:
        """Along one axis with its margins: which places are of the sample, and the pixel that stands at each."""
        middle = size // 2
        places = torch.arange(middle + 1 - size, side + middle)
        inside = (places >= 0) & (places < side)
        if self.edges == "reflect":
            turn = places % (2 * side)
            return inside, torch.where(turn < side, turn, 2 * side - 1 - turn)
        return inside, places % side

    def _require(self, x: Samples) -> None:
        needs = f"is for samples of {self.kernel.ndim} dimensions"
        require_fit(x.ndim - 2 == self.kernel.ndim, f"a kernel of shape {tuple(self.kernel.shape)}", needs, x)

    @cached_property
    def _kernel(self) -> Kept[Tensor]:
        return Kept(lambda x: self.kernel.to(x.device, x.dtype))


def gaussian_blur(deviation: float | tuple[float, ...], dimensions: int, edges: Edges = "reflect") -> Blur:
    """The blur whose kernel is a Gaussian, cut off after 4 deviations, of sum 1.

    deviation: in pixels, of all axes or one for each. Raises SettingsError for one that is not above 0.
    """
    each = deviation if isinstance(deviation, tuple) else (deviation,) * dimensions
    if len(each) != dimensions or not all(0 < sigma < math.inf for sigma in each):
        raise SettingsError(f"the deviation of a Gaussian blur is above 0, in pixels, not {deviation}")
    kernel = torch.ones((), dtype=torch.float64)
    for sigma in each:
        reach = math.ceil(REACH * sigma)
        bell = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / sigma).square())
        kernel = kernel[..., None] * (bell / bell.sum())
    return Blur(kernel, edges)


def _along(values: Tensor, axis: int, dimensions: int) -> Tensor:
    """A number for each place along one axis, to be multiplied with samples."""
    return values.view(*[1] * axis, -1, *[1] * (dimensions - axis - 1))
