"""Linear systems of a batch, by conjugate gradients: a product with the matrix is all that they ask for."""

from collections.abc import Callable

import torch
from torch import Tensor


def solve(
    product: Callable[[Tensor], Tensor],
    right: Tensor,
    steps: int,
    tolerance: float = 1e-6,
    start: Tensor | None = None,
) -> Tensor:
    """v with M v = right for each row of a batch, M symmetric and positive semidefinite (Hestenes & Stiefel 1952).

    product: M v. steps: at most so many products. A row rests once its residual is below tolerance times the right
    side, or where v^T M v is not above 0, which no such matrix has: a network's covariance is one only nearly.
    """
    v = torch.zeros_like(right) if start is None else start
    r = right - product(v) if start is not None else right
    d, size = r, _dot(r, r)
    least = _dot(right, right) * tolerance**2
    for _ in range(steps):
        image = product(d)
        curvature = _dot(d, image)
        goes_on = (size > least) & (curvature > 0)
        if right.device.type == "cpu" and not goes_on.any():
            break
        length = torch.where(goes_on, size / curvature.where(goes_on, torch.ones_like(curvature)), 0)
        v, r = v + _over(length, d) * d, r - _over(length, image) * image
        newer = _dot(r, r)
        d = torch.where(_over(goes_on, d), r + _over(newer / size.clamp(min=1e-300), d) * d, d)
        size = torch.where(goes_on, newer, torch.zeros_like(size))
    return v


def _dot(u: Tensor, v: Tensor) -> Tensor:
    """<u, v> of each row, float64."""
    return (u.double() * v.double()).flatten(1).sum(1)


def _over(values: Tensor, like: Tensor) -> Tensor:
    """One number a row, laid over the batch."""
    laid = values.view(-1, *[1] * (like.ndim - 1))
    return laid if laid.dtype == torch.bool else laid.to(like)
