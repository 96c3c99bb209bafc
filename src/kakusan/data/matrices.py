"""Matrices in files: dense arrays, or sparse ones as SciPy stores them (`scipy.sparse.save_npz`), without SciPy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kakusan.data.given import arrays_in
from kakusan.errors import DataError

Arrays = Mapping[str, NDArray[Any]]


def matrix_in(path: Path) -> Tensor:
    """A matrix, float64, dense or in torch's COO format, of a .npy or .npz file.

    A .npz file holds a dense matrix, or a sparse one by `shape`, `data` and `indices` and `indptr` (`format` csr, which
    is taken where there is none, or csc), or `row` and `col` (coo). Raises DataError for anything else.
    """
    found: Arrays = arrays_in(path)
    try:
        if "shape" in found and "data" in found:
            return _sparse(found)
        matrix = _alone(found)
    except (KeyError, ValueError, TypeError, MemoryError, RuntimeError) as error:
        raise DataError(
            f"{path} holds no matrix: {error or 'it has other arrays'}",
            f"arrays in it: {', '.join(found) or 'none'}",
            "numpy.save(path, A) writes a dense one, scipy.sparse.save_npz(path, A) a sparse one",
        ) from error
    if matrix.ndim != 2 or matrix.dtype.kind not in "biuf":
        raise DataError(
            f"{path} holds {matrix.dtype} of shape {matrix.shape}, and a matrix of real numbers is needed"
        )
    return torch.from_numpy(matrix.astype(np.float64))


def with_columns_at(matrix: Tensor, order: Tensor) -> Tensor:
    """The matrix whose column order[k] is column k of this one: from channels last to channels first."""
    if not matrix.is_sparse:
        return matrix[:, order.argsort()]
    rows, columns = matrix.indices()
    places = torch.stack([rows, order[columns]])
    return torch.sparse_coo_tensor(places, matrix.values(), matrix.shape, check_invariants=False).coalesce()


def _alone(found: Arrays) -> NDArray[Any]:
    """The only array. Raises ValueError for several, none of which says that it is the matrix."""
    if len(found) != 1:
        raise ValueError(
            "a dense one is the only array of its file; a sparse one has shape, data and indices"
        )
    return next(iter(found.values()))


MOST_EMPTY: Final = 10_000_000
"""Rows, or columns, that a matrix may have beyond the number of its entries: y has a value for each, empty or not."""


def _sparse(found: Arrays) -> Tensor:
    """Raises KeyError or ValueError where the arrays are not those of a matrix."""
    size, values = _size(found["shape"]), _flat(found, "data", "biuf")
    rows, columns = _places(found, size)
    if len({len(rows), len(columns), len(values)}) != 1:
        raise ValueError("its arrays do not fit together")
    if max(size) > MOST_EMPTY + len(values):
        raise ValueError(
            f"a matrix of {size[0]:,} x {size[1]:,} with {len(values):,} entries is nearly all empty"
        )
    for each, side in ((rows, size[0]), (columns, size[1])):
        if len(each) and not (each.min() >= 0 and each.max() < side):
            raise ValueError("an entry lies outside of its shape")
    places = torch.from_numpy(np.stack([rows.astype(np.int64), columns.astype(np.int64)]))
    entries = torch.from_numpy(values.astype(np.float64))
    return torch.sparse_coo_tensor(places, entries, size, check_invariants=False).coalesce()


def _size(shape: NDArray[Any]) -> tuple[int, int]:
    if shape.dtype.kind not in INTEGERS or shape.shape != (2,) or shape.min() < 1:
        raise ValueError("its shape is not a number of rows and one of columns, each at least 1")
    return int(shape[0]), int(shape[1])


INTEGERS: Final = "iu"
"""Kinds of NumPy's types; a fraction names no place, and is not cut off to one."""


def _flat(found: Arrays, name: str, kinds: str = INTEGERS) -> NDArray[Any]:
    """An array of one axis."""
    array = found[name]
    if array.ndim != 1 or array.dtype.kind not in kinds:
        raise ValueError(
            f"{name!r} is {array.dtype} of shape {array.shape}, and no list of numbers that fits"
        )
    return array


def _places(found: Arrays, size: tuple[int, int]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Row and column of each entry."""
    if "row" in found:
        return _flat(found, "row"), _flat(found, "col")
    kind = _format(found)
    indices = _flat(found, "indices")
    along = _expanded(_flat(found, "indptr"), size[kind == "csc"], len(indices))
    return (along, indices) if kind == "csr" else (indices, along)


def _format(found: Arrays) -> str:
    if "format" not in found:
        return "csr"
    word = found["format"]
    kind = word.astype(str).item() if word.dtype.kind in "SU" and word.size == 1 else str(word.dtype)
    if kind not in ("csr", "csc"):
        raise ValueError(f"its format is {kind}, and csr, csc and coo are read")
    return kind


def _expanded(starts: NDArray[Any], side: int, entries: int) -> NDArray[Any]:
    """The row of each entry from where each row starts, of columns likewise."""
    rises = len(starts) == side + 1 and (starts[1:] >= starts[:-1]).all()
    if not rises or starts[0] != 0 or starts[-1] != entries:
        raise ValueError(
            f"'indptr' does not rise from 0 to {entries:,}, its entries, over {side:,} rows or columns"
        )
    wide = starts.astype(np.int64)
    return np.repeat(np.arange(side), wide[1:] - wide[:-1])
