"""Measurements in files: y in the axes of the data, nan where nothing was measured."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float64
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from kakusan.config.settings import Layout
from kakusan.data.given import array_named, arrays_in, picture
from kakusan.data.image_files import read_opacity
from kakusan.data.layout import CHANNELS_FIRST, SINGLE_CHANNEL
from kakusan.data.measuring import ARRAYS
from kakusan.data.saving import in_layout
from kakusan.data.units import Levels, Units, scale_and_mean
from kakusan.errors import DataError
from kakusan.operators import Identity, Operator
from kakusan.operators.combined import Stacked
from kakusan.shapes import Samples, by_row

OBSERVED, TRUTH = "observed", "truth"
"""Names of y and of x in an .npz file of several arrays."""
Observed: TypeAlias = Float64[Tensor, "n *measured"]


def observed_of(
    observed: ArrayLike | Tensor | Path | str,
    operator: Operator,
    shape: tuple[int, ...],
    units: Units,
    *,
    layout: Layout = "auto",
) -> Observed:
    """y, (n, *measured), of an array or a file, for samples (channels, *space): `measured_of`, `measured_in`.

    Raises DataError for what does not fit, for y without a measured value, and for values that are infinite, or a
    million times beyond what the operator gives.
    """
    if isinstance(observed, str | Path):
        y, where = measured_in(Path(observed), operator, shape, units, layout=layout), str(observed)
    else:
        where = "the measurement"
        y = measured_of(_array(observed), operator, shape, where, layout=layout)
    _require_values(y, operator, shape, where)
    _require_near(y, operator, shape, units, where)
    return y


def truth_of(
    truth: ArrayLike | Tensor | Path | str,
    shape: tuple[int, ...],
    units: Units,
    *,
    layout: Layout = "auto",
    with_gaps: bool = False,
) -> Samples:
    """x itself, (n, channels, *space) in the network's units, of an array or a file in the units and axes of the data.

    Levels are whole numbers, of any type. with_gaps: nan is a missing value. Raises DataError for what no sample is.
    """
    where = str(truth) if isinstance(truth, str | Path) else "the truth"
    found = _values_of(truth, shape, units, where, layout)
    if not with_gaps and not found.isfinite().all():
        raise DataError(f"{where} has values that are nan or infinite, and data of this run have none")
    if isinstance(units, Levels):
        _require_levels(found[~found.isnan()], units, where)
    scale, mean = _over_space(units, shape)
    return ((found - mean) / scale).float()


def _values_of(
    truth: ArrayLike | Tensor | Path | str, shape: tuple[int, ...], units: Units, where: str, layout: Layout
) -> Observed:
    """x in the units of the data."""
    if not isinstance(truth, str | Path):
        return measured_of(_array(truth), Identity(), shape, where, layout=layout)
    path = Path(truth).expanduser()
    if path.suffix.lower() not in ARRAYS:
        return _of_picture(path, shape, units, "the truth").round()
    return measured_of(array_named(path, TRUTH), Identity(), shape, where, layout=layout)


def _require_levels(values: Tensor, units: Levels, where: str) -> None:
    if (values != values.round()).any() or ((values < 0) | (values >= units.levels)).any():
        raise DataError(
            f"{where} goes from {float(values.min()):g} to {float(values.max()):g}, and x is of whole numbers from 0 to"
            f" {units.levels - 1} here",
            "it is in the units of the data; round what is between two levels",
        )


def _array(given: ArrayLike | Tensor) -> NDArray[Any]:
    """An array, of a tensor on any device too; masked arrays keep their mask."""
    return given.numpy(force=True) if isinstance(given, Tensor) else np.ma.asanyarray(given)


def _known(y: Observed, operator: Operator, shape: tuple[int, ...]) -> Tensor:
    """The values of y that hold something, as booleans of its shape."""
    kept = operator.is_measured(shape)
    return ~y.isnan() if kept is None else ~y.isnan() & kept


def _require_values(y: Observed, operator: Operator, shape: tuple[int, ...], where: str) -> None:
    """Raises DataError where y says nothing of an x, or is infinite."""
    known = _known(y, operator, shape)
    if not by_row(known).any(1).all():
        raise DataError(f"{where}: nothing was measured, all values are nan or hidden by the mask")
    if y[known].isinf().any():
        raise DataError(f"{where}: a measured value is infinite", "nan says that a value was not measured")


FAR = 1e6
"""Times beyond all that an operator gives: such a value fits no sample, and float32 keeps nothing else beside it."""


def _require_near(y: Observed, operator: Operator, shape: tuple[int, ...], units: Units, where: str) -> None:
    """Raises DataError where a value of y is of another world than those of samples: a code, or another unit."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4, *shape, generator=generator)
    scale, mean = _over_space(units, shape)
    x = torch.cat([noise, torch.ones(1, *shape), -torch.ones(1, *shape)]) * scale + mean
    reach = float(operator(x.float()).abs().max())
    largest = float(y[_known(y, operator, shape)].abs().max())
    if largest > FAR * reach > 0:
        raise DataError(
            f"{where} holds values of {largest:.3g}, and what the operator gives of samples is about {reach:.3g}",
            "nan says that a value was not measured; y is in the units that the operator gives of the data",
        )


def _over_space(units: Units, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Scale and mean of the units as numbers, or with a channel's for all of its space, float64."""
    numbers = (torch.as_tensor(v, dtype=torch.float64) for v in scale_and_mean(units))
    scale, mean = (v.view(-1, *[1] * (len(shape) - 1)) if v.ndim else v for v in numbers)
    return scale, mean


def measured_in(
    path: Path, operator: Operator, shape: tuple[int, ...], units: Units, *, layout: Layout = "auto"
) -> Observed:
    """y, (n, *measured), of a picture or of a .npy or .npz file, for samples (channels, *space).

    A picture's bytes are brought to the levels of the run, without rounding; nan where it is transparent. Of a stack,
    .npz files may hold an array for each part, in order. All else: see `measured_of`. Raises DataError for what does
    not fit.
    """
    path = path.expanduser()
    if path.suffix.lower() not in ARRAYS:
        return _opaque(path, _of_picture(path, operator.measured_shape(shape), units, "a measurement"))
    if isinstance(operator, Stacked):
        parts = arrays_in(path)
        if OBSERVED not in parts and len(parts) == len(operator.parts):
            return _side_by_side(path, parts, operator, shape, layout)
    return measured_of(array_named(path, OBSERVED), operator, shape, str(path), layout=layout)


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
    found = in_axes(unmasked(array), wanted, layout)
    if found is None:
        forms = " or ".join(dict.fromkeys(str(form) for form, _ in _forms(wanted, layout)))
        gives = "samples have" if isinstance(operator, Identity) else "the operator gives"
        raise DataError(
            f"{where} has shape {array.shape}, and {gives} {forms} of each sample"
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


def _of_picture(path: Path, wanted: tuple[int, ...], units: Units, noun: str) -> Observed:
    channels, size = math.prod(wanted[:1]), wanted[1:]
    arrays = "numpy.save(FILE.npy, y) writes what was measured, in the units of the data"
    if not isinstance(units, Levels) or channels not in (1, 3) or len(size) != 2:
        raise DataError(
            f"{path} cannot be {noun}: no picture holds numbers of shape {wanted}"
            + ("" if isinstance(units, Levels) else " in the units of the data"),
            arrays,
        )
    pixels = picture(path, size, 3, noun, arrays)
    if channels == 1 and (pixels != pixels[..., :1]).any():
        raise DataError(
            f"{path} is in colour, and {noun} here has one channel",
            "make it grey by the rule by which the data of the run became grey",
        )
    levels = pixels[..., :channels].astype(np.float64) * (units.levels - 1) / 255
    return torch.from_numpy(levels).movedim(-1, 0)[None]


OPAQUE = 255
"""Of a picture's alpha: below, it shows what lies behind it, and counts as not measured."""


def _opaque(path: Path, y: Observed) -> Observed:
    """y of a picture, nan where it is transparent."""
    alpha = read_opacity(path)
    return y if alpha is None else y.masked_fill(torch.from_numpy(alpha < OPAQUE), math.nan)


def unmasked(array: NDArray[Any]) -> NDArray[Any]:
    """nan where an array is masked."""
    if not np.ma.is_masked(array):
        return np.asarray(array)
    is_complex = array.dtype.kind == "c"
    gaps = complex(math.nan, math.nan) if is_complex else math.nan
    return np.ma.filled(array.astype(np.complex128 if is_complex else np.float64), gaps)
