"""Some values are measured, the others are not: inpainting, missing pixels, gaps of a sensor."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kakusan.errors import SettingsError
from kakusan.operators.base import Linear, Measured, require_fit
from kakusan.shapes import Samples


@dataclass(frozen=True, eq=False)
class Mask(Linear):
    """y = x where values are measured, and 0 elsewhere, where y says nothing.

    known: booleans, a tensor or an array, True where a value is measured, of the shape of the space (height, width),
    for all channels, or of a sample, (channels, height, width). Raises SettingsError where nothing is measured.
    """

    known: Tensor

    def __post_init__(self) -> None:
        given: object = self.known
        if isinstance(given, np.ndarray):
            object.__setattr__(self, "known", torch.tensor(given.copy()))
        if self.known.dtype != torch.bool or not self.known.any():
            raise SettingsError(
                "a mask is booleans, True where a value is measured, and measures at least one"
            )

    def __call__(self, x: Samples) -> Measured:
        return x * self._fitting(x)

    def adjoint(self, y: Measured, shape: tuple[int, ...]) -> Samples:
        del shape
        return y * self._fitting(y)

    def is_measured(self, shape: tuple[int, ...]) -> Tensor:
        return self._fitting(torch.empty(1, *shape)).expand(1, *shape)[0]

    def _fitting(self, x: Samples) -> Tensor:
        shape, known = tuple(x.shape[1:]), tuple(self.known.shape)
        require_fit(known in (shape, shape[1:]), f"a mask of shape {known}", "is for samples of its shape", x)
        return self.known.to(x.device).expand(1, *shape)
