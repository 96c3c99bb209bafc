"""A matrix, dense or sparse: any linear operator that somebody has written down."""

from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from kakusan.errors import SettingsError
from kakusan.operators.base import Kept, Linear, Measured, require_fit
from kakusan.operators.sparse import Sparse, product, sparse
from kakusan.shapes import Samples

LAYOUTS = (torch.strided, torch.sparse_coo)


@dataclass(frozen=True, eq=False)
class Matrix(Linear):
    """y = M x, a vector of as many values as M has rows; x is flattened as (channels, *space), the last axis fastest.

    matrix: dense, or sparse in torch's COO format. Raises SettingsError for one that is empty or not finite, or whose
    columns are not as many as a sample has values.
    """

    matrix: Tensor

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2 or not min(self.matrix.shape) or self.matrix.layout not in LAYOUTS:
            raise SettingsError(
                f"a matrix has rows and columns, dense or COO, and this one is {self.matrix.layout} of shape"
                f" {tuple(self.matrix.shape)}"
            )
        entries = self.matrix.coalesce().values() if self.matrix.is_sparse else self.matrix
        if not entries.isfinite().all():
            raise SettingsError("a matrix has finite entries, and some of this one are not")

    def measured_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self._require(torch.empty(1, *shape))
        return (self.matrix.shape[0],)

    def __call__(self, x: Samples) -> Measured:
        self._require(x)
        return _product(self._matrix.like(x), x.flatten(1))

    def adjoint(self, y: Measured, shape: tuple[int, ...]) -> Samples:
        return _product(self._matrix.like(y).t(), y).reshape(len(y), *shape)

    def _require(self, x: Samples) -> None:
        rows, columns = self.matrix.shape
        fits = columns == prod(x.shape[1:])
        require_fit(fits, f"a matrix of {rows:,} x {columns:,}", f"is for samples of {columns:,} values", x)

    @cached_property
    def _matrix(self) -> Kept[Tensor | Sparse]:
        if self.matrix.is_sparse:
            return Kept(lambda x: sparse(self.matrix, x))
        return Kept(lambda x: self.matrix.to(x.device, x.dtype))


def _product(matrix: Tensor | Sparse, rows: Tensor) -> Tensor:
    return product(matrix, rows) if isinstance(matrix, Sparse) else rows @ matrix.t()
