"""Matrices in files: those that NumPy and SciPy write are read to the digit, anything else is one clear error."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kakusan.data.matrices import matrix_in
from kakusan.errors import DataError
from kakusan.operators.sparse import product, sparse

COO: dict[str, Any] = {"format": b"coo", "shape": [3, 4], "data": [1.0, 2.0], "row": [0, 2], "col": [1, 3]}
CSR: dict[str, Any] = {
    "format": b"csr",
    "shape": [3, 4],
    "data": [1.0, 2.0],
    "indices": [1, 3],
    "indptr": [0, 1, 1, 2],
}
CSC: dict[str, Any] = {**CSR, "format": b"csc", "indices": [0, 2], "indptr": [0, 0, 1, 1, 2]}
DENSE = np.array([[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 2]], np.float64)


def stored(folder: Path, arrays: dict[str, Any]) -> Path:
    path = folder / "A.npz"
    np.savez(path, allow_pickle=False, **{name: np.asarray(array) for name, array in arrays.items()})
    return path


@pytest.mark.parametrize("arrays", [COO, CSR, CSC, {**CSR, "format": "csr"}, {"A": DENSE}])
def test_all_formats_hold_the_same_matrix(tmp_path: Path, arrays: dict[str, Any]) -> None:
    assert np.array_equal(matrix_in(stored(tmp_path, arrays)).to_dense(), DENSE)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({**COO, "data": np.ones((2, 3))}, "'data' is"),
        ({**COO, "row": [[0], [2]], "col": [[1], [3]]}, "'row' is"),
        ({**COO, "row": [0.7, 2.0]}, "'row' is"),
        ({**COO, "shape": [-3, 4]}, "its shape"),
        ({**COO, "shape": [0, 4]}, "its shape"),
        ({**COO, "shape": [3.0, float("inf")]}, "its shape"),
        ({**COO, "shape": [10**11, 4]}, "nearly all empty"),
        ({**COO, "row": [0]}, "do not fit together"),
        ({**COO, "col": np.array([1, 2**64 - 1], np.uint64)}, "lies outside"),
        ({**CSR, "indptr": [0, 1, 1, 2**40]}, "does not rise from 0 to 2"),
        ({**CSR, "indptr": [0, 2, 1, 2]}, "does not rise from 0 to 2"),
        ({**CSR, "indptr": [0, 2]}, "over 3 rows"),
        ({**CSR, "format": 2**40}, "its format is int64"),
        ({**CSR, "format": b"bsr"}, "its format is bsr"),
    ],
)
def test_what_is_no_matrix_is_said(tmp_path: Path, arrays: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        matrix_in(stored(tmp_path, arrays))


NUMBERS = st.one_of(
    st.integers(-5, 9), st.sampled_from([2**31, 2**40, 2**62, -(2**62), 0.5, float("nan"), float("inf")])
)
PAIRS = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=3)
ARRAYS = st.one_of(NUMBERS, st.lists(NUMBERS, max_size=5), PAIRS, st.text("cosr", max_size=3))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    base=st.sampled_from([COO, CSR, CSC]),
    changes=st.dictionaries(st.sampled_from(sorted({*COO, *CSR})), ARRAYS),
)
@example(base=CSR, changes={"indptr": [0, 2**62, -(2**62), 2]})
def test_any_arrays_are_a_matrix_or_one_error(
    tmp_path: Path, base: dict[str, Any], changes: dict[str, Any]
) -> None:
    path = stored(tmp_path, {**base, **changes})
    try:
        matrix = matrix_in(path)
    except DataError:
        return
    rows = torch.zeros(1, matrix.shape[1], dtype=torch.float64)
    assert product(sparse(matrix, rows), rows).shape == (1, matrix.shape[0])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), cut=st.booleans())
def test_any_bytes_are_a_matrix_or_one_error(tmp_path: Path, place: float, byte: int, *, cut: bool) -> None:
    whole = bytearray(stored(tmp_path, CSR).read_bytes())
    at = int(place * len(whole))
    whole[at] = byte
    path = tmp_path / "B.npz"
    path.write_bytes(io.BytesIO(whole).read(at if cut else -1))
    try:
        matrix_in(path)
    except DataError:
        return
