"""Linear systems of a batch: a product with the matrix is all that they ask for."""

from collections.abc import Callable

import torch
from torch import Tensor

from kakusan.shapes import by_row

TINY = 1e-300
"""Against a division by 0."""
ROUNDING = 1e-12
"""Of what is left of a vector beside its span, below which it lies in it."""


def whitened(
    solver: Callable[..., Tensor],
    product: Callable[[Tensor], Tensor],
    right: Tensor,
    deviation: Tensor,
    steps: int,
    tolerance: float = 1e-6,
) -> Tensor:
    """v with M v = right, solved for deviation v, in which all equations weigh about the same.

    deviation: about the root of M's diagonal. The tolerance is of the equations divided by it.
    """
    return (
        solver(lambda w: product(w / deviation) / deviation, right / deviation, steps, tolerance) / deviation
    )


def conjugate_gradients(
    product: Callable[[Tensor], Tensor], right: Tensor, steps: int, tolerance: float = 1e-6
) -> Tensor:
    """v with M v = right for each row of a batch, M symmetric and positive semidefinite (Hestenes & Stiefel 1952).

    product: M v. steps: at most so many products. A row rests once its residual is below tolerance times the right
    side, or where v^T M v is not above 0.
    """
    v, r, d = torch.zeros_like(right), right, right
    size = _dot(r, r)
    least = size * tolerance**2
    for _ in range(steps):
        image = product(d)
        curvature = _dot(d, image)
        goes_on = (size > least) & (curvature > 0)
        if right.device.type == "cpu" and not goes_on.any():
            break
        length = torch.where(goes_on, size / curvature.where(goes_on, torch.ones_like(curvature)), 0)
        v, r = v + _over(length, d) * d, r - _over(length, image) * image
        newer = _dot(r, r)
        d = r + _over(newer / size.clamp(min=TINY), d) * d
        size = newer
    return v


def gmres(product: Callable[[Tensor], Tensor], right: Tensor, steps: int, tolerance: float = 1e-6) -> Tensor:
    """v of the least |M v - right| that `steps` products lead to, for each row of a batch (Saad & Schultz 1986).

    M need be neither symmetric nor definite: a step never makes the residual larger. tolerance: of the residual, as
    share of the right side, at which a row rests, whatever the others do.
    """
    size = _flat(right).norm(dim=1)
    basis = [_flat(right) / size.clamp(min=TINY)[:, None]]
    triangle = _Triangle(size)
    for _ in range(steps):
        column, rest = _split(_flat(product(basis[-1].view(right.shape).to(right))), basis)
        length = rest.norm(dim=1)
        length = length.masked_fill(length <= ROUNDING * column.norm(dim=1), 0)
        triangle.append([*column.unbind(1), length])
        goes_on = (length > 0) & (triangle.residual > tolerance * size)
        if right.device.type == "cpu" and not goes_on.any():
            break
        turned = rest * goes_on[:, None]  # a row that rests adds 0 from here on
        basis.append(turned / length.clamp(min=TINY)[:, None])
    found = torch.stack([w[:, None] * q for w, q in zip(triangle.weights(), basis, strict=False)]).sum(0)
    return found.view(right.shape).to(right)


def root(product: Callable[[Tensor], Tensor], z: Tensor, steps: int) -> Tensor:
    """M^(1/2) z for each row of a batch, M symmetric, from so many products: Lanczos' method, which is exact once they
    span what M leads z to (Higham 2008, section 13.2). Of an M that is nearly symmetric, its symmetric part in their
    span; eigenvalues below 0 count as 0.
    """
    size = _flat(z).norm(dim=1)
    basis, columns = [_flat(z) / size.clamp(min=TINY)[:, None]], []
    for k in range(steps):
        column, rest = _split(_flat(product(basis[-1].view(z.shape).to(z))), basis)
        length = rest.norm(dim=1)
        length = length.masked_fill(length <= ROUNDING * column.norm(dim=1), 0)
        columns.append(torch.cat([column, length[:, None], column.new_zeros(len(z), steps - 1 - k)], dim=1))
        basis.append(rest * (length > 0)[:, None] / length.clamp(min=TINY)[:, None])
    matrix = torch.stack(columns, dim=2)[:, :steps]
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    first = vectors[:, 0] * values.clamp(min=0).sqrt()
    found = torch.einsum(
        "nk,nkm->nm", torch.einsum("nik,nk->ni", vectors, first), torch.stack(basis[:steps], 1)
    )
    root_z: Tensor = (size[:, None] * found).view(z.shape).to(z)
    return root_z


class _Triangle:
    """The least squares of GMRES, (size, 0, ...) by columns that are added one by one, kept triangular by rotations."""

    def __init__(self, size: Tensor) -> None:
        self.columns: list[list[Tensor]] = []
        self.right = [size]
        self._rotations: list[tuple[Tensor, Tensor]] = []

    @property
    def residual(self) -> Tensor:
        """Of each row: what the columns so far leave."""
        return self.right[-1].abs()

    def append(self, column: list[Tensor]) -> None:
        """One more column, with one entry more than there are columns before it and the new one."""
        for k, (cos, sin) in enumerate(self._rotations):
            column[k], column[k + 1] = (
                cos * column[k] + sin * column[k + 1],
                cos * column[k + 1] - sin * column[k],
            )
        *upper, last, below = column
        length = torch.hypot(last, below)
        safe = length.clamp(min=TINY)
        cos, sin = torch.where(length > 0, last / safe, 1.0), below / safe
        self._rotations.append((cos, sin))
        self.columns.append([*upper, length])
        *before, g = self.right
        self.right = [*before, cos * g, -sin * g]

    def weights(self) -> list[Tensor]:
        """Of each column, from the last one on; 0 where a column adds nothing."""
        found: list[Tensor] = []
        for k in reversed(range(len(self.columns))):
            rest = self.right[k] - sum(
                (self.columns[j][k] * w for j, w in enumerate(found, k + 1)), torch.zeros_like(self.right[k])
            )
            own = self.columns[k][k]
            scale = torch.stack([c.abs() for c in self.columns[k]]).amax(0)
            is_new = own.abs() > ROUNDING * scale
            found.insert(0, torch.where(is_new, rest / own.where(is_new, torch.ones_like(own)), 0))
        return found


def _split(image: Tensor, basis: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The coefficients of a vector in an orthonormal basis, (batch, len(basis)), and what is left of it.

    Twice, since once leaves rounding (Gram-Schmidt).
    """
    span = torch.stack(basis, dim=1)
    first = torch.einsum("nkm,nm->nk", span, image)
    rest = image - torch.einsum("nkm,nk->nm", span, first)
    second = torch.einsum("nkm,nm->nk", span, rest)
    return first + second, rest - torch.einsum("nkm,nk->nm", span, second)


def _flat(x: Tensor) -> Tensor:
    """The rows of a batch as vectors, float64 where the device has it."""
    return by_row(x if x.device.type == "mps" else x.double())


def _dot(u: Tensor, v: Tensor) -> Tensor:
    """<u, v> of each row."""
    return (_flat(u) * _flat(v)).sum(1)


def _over(values: Tensor, like: Tensor) -> Tensor:
    """One number a row, laid over the batch."""
    return values.view(-1, *[1] * (like.ndim - 1)).to(like)
