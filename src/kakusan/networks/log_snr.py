"""A log-SNR that falls from t = 1 to t = T and is learned: a monotone function of 34 numbers, as Kingma et al. have it.

Kingma et al. 2021 (Variational Diffusion Models, section 3.2) take a monotone network. Here it is a broken line between
knots at equal distances, whose falls are shares of the whole (a softmax, and a thousandth evenly), so that it falls
whatever the numbers are, and its two ends are numbers of their own.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor, nn

PIECES = 32
"""Of the broken line."""
EVEN = 1e-3
"""The part of the fall that all pieces share evenly, whatever they learn: a table of betas needs each above 0."""
LIMIT = 20.0
"""Of both ends, either way: data without noise would pull the first one to where no table of betas can follow."""
UNIT = 10.0
"""Of the ends, in nats: steps of an optimizer are about 1e-3 for weights, and the log-SNR falls by some ten nats."""

Shares = Float64[Tensor, " batch"]
"""Of the way from t = 1 (0) to t = T (1)."""


class LogSNR(nn.Module):
    """The log-SNR by the share of the way from t = 1 to t = T; at first a straight line from ``first`` to ``last``.

    float64, on the CPU, where times and their coefficients live; its parameters are float32 and lie where those of the
    network do. Where the ends have been moved past each other it rises, and no coefficient is finite.
    """

    def __init__(self, first: float, last: float) -> None:
        super().__init__()
        self.start = (first, last)
        self.moves = nn.Parameter(torch.zeros(2))
        """Distances of the ends from where they began, in units of `UNIT`."""
        self.falls = nn.Parameter(torch.zeros(PIECES))
        """Logarithms of the falls of the pieces, up to a constant."""

    @property
    def is_learning(self) -> bool:
        """Whether its parameters may get a gradient."""
        return self.moves.requires_grad

    def forward(self, share: Shares, mark: Callable[[Tensor], Tensor] = lambda fallen: fallen) -> Shares:
        """log(a^2 / b^2), in nats. mark: is given what has fallen so far, 0 to 1, on which the interior acts alone."""
        first, last = (
            (start + UNIT * move).clamp(-LIMIT, LIMIT)
            for start, move in zip(self.start, _float64(self.moves), strict=True)
        )
        fallen = mark(self.fallen(share))
        return torch.lerp(first.expand_as(fallen), last.expand_as(fallen), fallen)

    def fallen(self, share: Shares) -> Shares:
        """The part of the whole fall that lies before this share of the way: from 0 to 1, and never falling."""
        shares = (1 - EVEN) * _float64(self.falls).softmax(0) + EVEN / PIECES
        heights = torch.cat([torch.zeros(1, dtype=torch.float64), shares.cumsum(0)])
        distance = (share[:, None] * PIECES - torch.arange(PIECES + 1)).abs()
        return (1 - distance).clamp(min=0) @ heights  # a product: gradients are added in a fixed order


def _float64(parameter: Tensor) -> Tensor:
    return parameter.cpu().double()
