"""Measurements in files: y in the axes of the data, nan where nothing was measured."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float64
from numpy.typing import NDArray
from torch import Tensor

from kakusan.config.settings import Layout
from kakusan.data.given import array_in, arrays_in
from kakusan.data.layout import CHANNELS_FIRST, SINGLE_CHANNEL
from kakusan.data.measuring import ARRAYS, picture
from kakusan.data.saving import in_layout
from kakusan.data.units import Levels, Units
from kakusan.errors import DataError
from kakusan.operators import Operator
from kakusan.operators.combined import Stacked
from kakusan.shapes import by_row

OBSERVED = "observed"
"""Name of y in an .npz file of several arrays."""
Observed: TypeAlias = Float64[Tensor, "n *measured"]


def measured_in(
    path: Path, operator: Operator, shape: tuple[int, ...], units: Units, *, layout: Layout = "auto"
) -> Observed:
    """y, (n, *measured), of a picture or of a .npy or .npz file, for samples (channels, *space).

    A picture's bytes are brought to the levels of the run, without rounding. Of a stack, .npz files may hold an array
    for each part, in order. All else: see `measured_of`. Raises DataError for what does not fit.
    """
    path = path.expanduser()
    if path.suffix.lower() not in ARRAYS:
        return _of_picture(path, operator, shape, units)
    if isinstance(operator, Stacked):
        parts = arrays_in(path)
        if OBSERVED not in parts and len(parts) == len(operator.parts):
            return _side_by_side(path, parts, operator, shape, layout)
    return measured_of(array_in(path, OBSERVED), operator, shape, str(path), layout=layout)


def _side_by_side(
    path: Path, arrays: dict[str, NDArray[Any]], operator: Stacked, shape: tuple[int, ...], layout: Layout
) -> Observed:
    """y of a stack, of an array for each part."""
    each = zip(arrays.items(), operator.parts, strict=True)
    found = [measured_of(a, o, shape, f"{name} of {path}", layout=layout) for (name, a), o in each]
    if len({len(y) for y in found}) > 1:
        raise DataError(f"{path} has parts of {', '.join(str(len(y)) for y in found)} measurements")
    return torch.cat([by_row(y) for y in found], dim=1)


def measured_of(
    array: NDArray[Any], operator: Operator, shape: tuple[int, ...], where: str, *, layout: Layout = "auto"
) -> Observed:
    """y, (n, *measured), of an array of one or of several measurements.

    Its axes are those of the data: channels last, and none where there is one, or first with layout channels-first.
    Complex numbers become two channels, and booleans 0 and 1; nan, and what a masked array hides, was not measured.
    Raises DataError.
    """
    wanted = operator.measured_shape(shape)
    if array.dtype.kind not in "biufc":
        raise DataError(f"{where} holds {array.dtype}, and what was measured is numbers")
    if not array.size:
        raise DataError(f"{where} is empty")
    if isinstance(array, np.ma.MaskedArray):
        array = np.ma.filled(array.astype(np.result_type(array.dtype, np.float64)), np.nan)
    found = in_axes(array, wanted, layout)
    if found is None:
        forms = " or ".join(dict.fromkeys(str(form) for form, _ in _forms(wanted, layout)))
        raise DataError(
            f"{where} has shape {array.shape}, and the operator gives {forms} of each sample"
            + (", as real numbers" if array.dtype.kind == "c" else ""),
            "y and the operator belong to samples of the size that the model has learned",
        )
    return found


def in_axes(array: NDArray[Any], wanted: tuple[int, ...], layout: Layout) -> Observed | None:
    """An array of one or several measurements of this shape as (n, *wanted), float64; None where it is of none."""
    if array.dtype.kind == "c":
        if not wanted or wanted[0] % 2:
            return None
        halves = in_axes(array.real, (wanted[0] // 2, *wanted[1:]), layout)
        others = in_axes(array.imag, (wanted[0] // 2, *wanted[1:]), layout)
        return None if halves is None or others is None else torch.stack([halves, others], 2).flatten(1, 2)
    for form, axis in _forms(wanted, layout):
        if form in (array.shape, array.shape[1:]):
            rows = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float64).reshape(-1, *form))
            return (rows if axis is None else rows.movedim(axis, 1)).reshape(-1, *wanted)
    return None


def in_files(y: Observed, layout: Layout) -> NDArray[np.float64]:
    """y, (n, *measured), with its axes as `measured_of` reads them and as the data have theirs.

    Of a single-channel run, what has several channels, such as the two of complex numbers, has them last.
    """
    if y.ndim < 3:
        return y.numpy()
    one_axis_more = layout == SINGLE_CHANNEL and y.shape[1] > 1
    return in_layout(y.movedim(1, -1).numpy(), "channels-last" if one_axis_more else layout)


def _forms(wanted: tuple[int, ...], layout: Layout) -> Iterator[tuple[tuple[int, ...], int | None]]:
    """The shapes that one measurement may have in a file, and the axis of a batch that holds channels, if not 1."""
    size = wanted[1:]
    if size and layout != CHANNELS_FIRST:
        yield (*size, wanted[0]), -1
    yield wanted, None
    if size and wanted[0] == 1:
        yield size, None


def _of_picture(path: Path, operator: Operator, shape: tuple[int, ...], units: Units) -> Observed:
    wanted = operator.measured_shape(shape)
    channels, size = math.prod(wanted[:1]), wanted[1:]
    arrays = "numpy.save(FILE.npy, y) writes what was measured, in the units of the data"
    if not isinstance(units, Levels) or channels not in (1, 3) or len(size) != 2:
        raise DataError(
            f"{path} cannot be what was measured: no picture holds numbers of shape {wanted}"
            + ("" if isinstance(units, Levels) else " in the units of the data"),
            arrays,
        )
    pixels = picture(path, size, channels, "a measurement", arrays)
    return torch.from_numpy(pixels.astype(np.float64) * (units.levels - 1) / 255).movedim(-1, 0)[None]
