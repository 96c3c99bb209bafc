"""Matrices in files: dense arrays, or sparse ones as SciPy stores them (`scipy.sparse.save_npz`), without SciPy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
        (matrix,) = found.values()
    except (KeyError, ValueError, IndexError, TypeError) as error:
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


def _sparse(found: Arrays) -> Tensor:
    """Raises KeyError or ValueError where the arrays are not those of a matrix."""
    size, values = tuple(int(n) for n in found["shape"]), found["data"]
    rows, columns = _places(found)
    lengths = {len(rows), len(columns), len(values)}
    if len(size) != 2 or len(lengths) != 1 or values.dtype.kind not in "biuf":
        raise ValueError("its arrays do not fit together")
    for each, side in ((rows, size[0]), (columns, size[1])):
        if len(each) and not (each.min() >= 0 and each.max() < side):
            raise ValueError("an entry lies outside of its shape")
    places = torch.from_numpy(np.stack([rows, columns]).astype(np.int64))
    entries = torch.from_numpy(values.astype(np.float64))
    return torch.sparse_coo_tensor(places, entries, size, check_invariants=False).coalesce()


def _places(found: Arrays) -> tuple[NDArray[Any], NDArray[Any]]:
    """Row and column of each entry."""
    if "row" in found:
        return found["row"], found["col"]
    kind = bytes(found["format"].item()).decode() if "format" in found else "csr"
    counts = np.diff(found["indptr"])
    along = np.repeat(np.arange(len(counts)), counts)
    if kind not in ("csr", "csc"):
        raise ValueError(f"its format is {kind}, and csr, csc and coo are read")
    return (along, found["indices"]) if kind == "csr" else (found["indices"], along)
