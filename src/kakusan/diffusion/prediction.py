"""A prediction: what a denoiser makes of x_t."""

from dataclasses import dataclass

from torch import Tensor

from kakusan.diffusion.gaussians import double
from kakusan.shapes import Samples


@dataclass(frozen=True)
class Prediction:
    """One guess about x_t, in two views that agree by Eq. (2), and where between beta~ and beta the variance lies."""

    x_0: Samples
    eps: Samples
    fraction: Samples | None = None
    """0: beta~, 1: beta; for networks that learned it."""

    def rows(self, rows: Tensor) -> "Prediction":
        """The prediction of some of the samples."""
        fraction = None if self.fraction is None else self.fraction[rows]
        return Prediction(self.x_0[rows], self.eps[rows], fraction)

    def double(self) -> "Prediction":
        """The prediction in float64, for what is measured from it."""
        fraction = None if self.fraction is None else double(self.fraction)
        return Prediction(double(self.x_0), double(self.eps), fraction)
