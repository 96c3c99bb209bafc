"""The meaning of the numbers of an array, by their type and their values.

- bool is two levels, uint8 is levels 0..255, or as many as are said.
- Other whole numbers that all lie in 0..255 are levels too; those that do not, or are given a range, are real values.
- Floats are real values, kept as float64 where they came so. All are normalized in float64.
Notes state what may be meant otherwise; nothing is ever rounded or wrapped.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kakusan.config.settings import DataSettings, given
from kakusan.data.spacing import notes_on_outliers, notes_on_spacing
from kakusan.data.units import Levels, Real, Units, real_fitted, real_from_range
from kakusan.errors import DataError, SettingsError
from kakusan.statistics.moments import Moments, chunks, moments_of

MOST_LEVELS = 256
EXACT = 2**53
"""Whole numbers up to here are exact in float64."""


@dataclass(frozen=True, eq=False)
class Numbers:
    """Images (n, height, width, channels) of a type that can be kept, and what their values mean."""

    images: NDArray[Any]
    units: Units
    notes: tuple[str, ...] = ()


def numbers_of(
    images: NDArray[Any],
    name: str,
    options: DataSettings,
    stored: int | None = None,
    *,
    masked: bool = False,
) -> Numbers:
    """The images in units of their own; `stored` is the number of levels that the file says.

    masked: floats that are nan are missing, and the units are those of the others.
    """
    if images.dtype.kind == "f":
        return _floats(images, name, options, masked=masked)
    if images.dtype.kind not in "biu":
        raise _no_numbers(images.dtype, name)
    if images.dtype == bool:
        return _levels(images.view(np.uint8), name, options, stored or 2)
    if images.dtype == np.uint8:
        if options.range != "auto":
            raise SettingsError(
                f"{name} holds uint8, whose range is its levels", "leave --data.range out, or store floats"
            )
        return _levels(images, name, options, stored)
    return _whole_numbers(images, name, options, stored)


def _no_numbers(dtype: np.dtype[Any], name: str) -> DataError:
    problem = f"{name} holds {dtype}: numbers are needed, uint8 for levels or floats for real values"
    if dtype.kind == "c":
        parts = "numpy.stack((array.real, array.imag), axis=-1)"
        return DataError(problem, f"real and imaginary parts can be two channels: {parts}")
    return DataError(problem)


def _levels(images: NDArray[np.uint8], name: str, options: DataSettings, stored: int | None) -> Numbers:
    said = given(options.levels) or stored
    levels, brightest = said or MOST_LEVELS, max(int(rows.max()) for rows in chunks(images))
    if brightest >= levels:
        raise DataError(f"{name} holds the value {brightest}, outside of {levels} levels 0..{levels - 1}")
    notes: tuple[str, ...] = ()
    if said is None and brightest < MOST_LEVELS / 2:
        fits = max(2, brightest + 1)
        notes = (f"{name} uses only 0..{brightest} of {levels} levels: --data.levels {fits} fits",)
    return Numbers(images, Levels(levels), notes)


def _whole_numbers(images: NDArray[Any], name: str, options: DataSettings, stored: int | None) -> Numbers:
    """Levels where all values are, else real values: by the values, since hardly anybody chooses int64."""
    low = min(int(rows.min()) for rows in chunks(images))
    high = max(int(rows.max()) for rows in chunks(images))
    holds = f"{name} holds {images.dtype} from {low} to {high}"
    if options.range == "auto" and low >= 0 and high < MOST_LEVELS:
        found = _levels(_as_uint8(images), name, options, stored)
        note = f"{holds}: read as levels; as real values: array.astype(numpy.float64)"
        return replace(found, notes=(note, *found.notes))
    if said := given(options.levels) or stored:
        raise DataError(f"{holds}, outside of {said} levels 0..{said - 1}")
    if max(-low, high) > EXACT:
        raise DataError(
            f"{holds}: too large for float64 to tell them apart",
            "rounded, as real values: array.astype(numpy.float64)",
        )
    return Numbers(_kept(images), _real(images, options, name), (_on_levels_of(low, high, holds),))


def _on_levels_of(low: int, high: int, holds: str) -> str:
    scaled = f"numpy.rint((array.astype(numpy.float64) - ({low})) * {255 / max(1, high - low):.6g})"
    return f"{holds}: read as real values, samples are floats; as 256 levels: {scaled}.astype(numpy.uint8)"


def _as_uint8(images: NDArray[Any]) -> NDArray[np.uint8]:
    return np.concatenate([rows.astype(np.uint8) for rows in chunks(images)])


def _floats(images: NDArray[Any], name: str, options: DataSettings, *, masked: bool) -> Numbers:
    if options.levels != "auto":
        raise SettingsError(
            f"{name} holds floats, which have no levels", "leave --data.levels out, or store uint8"
        )
    moments = moments_of(images, skip_missing=masked)
    units = _real(images, options, name, moments)
    notes = (*notes_on_outliers(images, moments, name), *notes_on_spacing(images, moments, name))
    return Numbers(_kept(images), units, notes)


def _real(images: NDArray[Any], options: DataSettings, name: str, moments: Moments | None = None) -> Real:
    if options.range != "auto":
        return real_from_range(*options.range, images.shape[-1])
    moments = moments or moments_of(images)
    _check_not_constant(moments, name)
    return real_fitted(images, moments)


def _check_not_constant(moments: Moments, name: str) -> None:
    """Raises DataError for channels that hold one value, which cannot be scaled to a deviation of 1."""
    constant = [c for c, (low, high) in enumerate(zip(moments.low, moments.high, strict=True)) if low == high]
    if not constant:
        return
    varying = [c for c in range(len(moments.low)) if c not in constant]
    if not varying:
        raise DataError(
            f"{name} holds one value alone, {moments.low[0]:.6g}: there is nothing to learn in it"
        )
    which = ", ".join(map(str, constant[:9]))
    raise DataError(
        f"channel {which} of {name} is constant ({moments.low[constant[0]]:.6g}): there is nothing to learn in it",
        f"leave it out: array.take({varying[:9]}, axis=channels), or give a --data.range",
    )


def _kept(images: NDArray[Any]) -> NDArray[Any]:
    """float32, float64 and whole numbers as they are, in the machine's byte order; other floats as the nearest."""
    if images.dtype.kind == "f":
        return images.astype(np.float32 if images.dtype.itemsize <= 4 else np.float64, copy=False)
    return images.astype(images.dtype.newbyteorder("="), copy=False)
