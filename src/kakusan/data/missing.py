"""Values that are missing (nan) or infinite: refused, with the lines that fill them in; or missing ones are masked.

A masked data set keeps its nan. Units are those of the values that are there, a network is given 0, the mean, in place
of the others, and a mask that says which these are; and losses and bounds are over the values that are there.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kakusan.config.settings import DataSettings
from kakusan.data.layout import CHANNELS_FIRST, FEW, SINGLE_CHANNEL, Reading
from kakusan.errors import DataError
from kakusan.statistics.moments import chunks

MASK = "mask"
NO_MASK = f"a condition is given whole: --data.missing {MASK} is for samples alone"
"""Advice where conditions lack values, before that of how to make them whole."""


class NotFiniteError(DataError):
    """Values that are missing or infinite, where none may be."""

    def __init__(self, problem: str, *advice: str, of_conditions: tuple[str, ...]) -> None:
        """of_conditions: the advice where these are no samples, but the images that belong to some."""
        super().__init__(problem, *advice)
        self.of_conditions = of_conditions


@contextmanager
def read_as_conditions(*advice: str) -> Iterator[None]:
    """Arrays that are read meanwhile belong to samples: where they lack values, the error says what helps there.

    A condition has no mask, as a sample has: none of its values may be missing. advice: in place of that for the
    conditions of data files. Raises DataError.
    """
    try:
        yield
    except NotFiniteError as error:
        raise DataError(error.problem, NO_MASK, *(advice or error.of_conditions)) from error


@dataclass(frozen=True)
class Lacks:
    """Whether an array has missing values that are to be masked, and what is to be said of it."""

    masked: bool = False
    notes: tuple[str, ...] = ()


def missing_in(images: NDArray[Any], name: str, reading: Reading, axes: int, options: DataSettings) -> Lacks:
    """The missing values of an array (n, ..., channels). Raises DataError for more than `data.missing` allows.

    Infinite values are always refused. `reading` and the number of axes say how the array of the file was read, for
    lines that fit it.
    """
    is_float, asked = images.dtype.kind == "f", options.missing == MASK
    if is_float and not asked:
        check_finite(images, name, reading, axes)
    lost = _lost(images) if is_float and asked else np.zeros((1, 1), dtype=np.int64)
    if not lost.any():
        note = f"{name} has no missing values: --data.missing {MASK} changes nothing"
        return Lacks(notes=(note,) * asked)
    check_infinite(images, name)
    _check_some_are_there(lost, images, name, axes)
    bad = int(lost.any(axis=1).sum())
    values, samples = in_percent(lost.sum() / images.size), in_percent(bad / len(images))
    words = f"{values} of the values of {name} are missing, in {samples} of its samples"
    return Lacks(True, (f"{words}: learned from the values that are there",))


def check_infinite(images: NDArray[Any], name: str) -> None:
    """Raises DataError where a value is infinite: such is not missing, but wrong."""
    rows = np.concatenate([np.isinf(part).any(axis=(*_inner(images), -1)) for part in chunks(images)])
    if rows.any():
        raise DataError(
            f"{name} holds infinite values in {in_percent(rows.mean())} of the samples; {int(rows.argmax())} is the"
            " first",
            "those that are missing are NaN: array[numpy.isinf(array)] = numpy.nan",
        )


def _check_some_are_there(lost: NDArray[np.int64], images: NDArray[Any], name: str, axes: int) -> None:
    """Raises DataError for samples, and for channels, of which all values are missing."""
    in_one = images[0, ..., 0].size
    empty = (lost == in_one).all(axis=1)
    if empty.any():
        rest = tuple(range(1, axes))
        raise DataError(
            f"{int(empty.sum()):,} of {len(images):,} samples of {name} have no value at all: {int(empty.argmax())} is"
            " the first",
            f"without them: array[~numpy.isnan(array).all(axis={rest})]",
        )
    if channels := np.flatnonzero((lost == in_one).all(axis=0)).tolist():
        which = ", ".join(map(str, channels[:9]))
        raise DataError(f"channel {which} of {name} has no value in any sample", "leave it out of the array")


def _inner(images: NDArray[Any]) -> tuple[int, ...]:
    """The axes of a sample but for its channels."""
    return tuple(range(1, images.ndim - 1))


def _lost(images: NDArray[Any]) -> NDArray[np.int64]:
    """The number of values that are not finite, by sample and channel."""
    return np.concatenate(
        [(~np.isfinite(rows)).sum(_inner(images), dtype=np.int64) for rows in chunks(images)]
    )


def check_finite(images: NDArray[Any], name: str, reading: Reading, axes: int) -> None:
    """Raises DataError, with the share of images and of values that are not finite.

    `reading` and the number of axes say how the array of the file was read, for lines that fit it.
    """
    lost = _lost(images)
    bad = int(lost.any(axis=1).sum())
    if not bad:
        return
    channels = np.flatnonzero(lost.any(axis=0)).tolist()
    filling = _filling_in(reading, axes, channels)
    raise NotFiniteError(
        f"{name} holds values that are not finite: {in_percent(lost.sum() / images.size)} of all, in "
        f"{in_percent(bad / len(images))} of the images; image {int(lost.any(axis=1).argmax())} is the first",
        *_masking(images),
        *_leaving_out(bad, len(images), axes),
        *filling,
        of_conditions=(*_leaving_pairs_out(bad, len(images), axes), *filling),
    )


def in_percent(share: float) -> str:
    """A share of 0 to 1 in two digits, or in tenths of a per cent near 1: "100 %" is the whole and nothing less."""
    percent = 100 * share
    if percent < 99:
        return f"{percent:.2g} %"
    return f"{math.floor(10 * percent) / 10:g} %"  # 99.7 in two digits would be 1e+02


def _masking(images: NDArray[Any]) -> tuple[str, ...]:
    if any(np.isinf(rows).any() for rows in chunks(images)):
        return ()
    return (f"to learn from the values that are there: --data.missing {MASK}",)


def _leaving_out(bad: int, count: int, axes: int) -> tuple[str, ...]:
    if count - bad < 2:
        return ()
    rest = tuple(range(1, axes))
    return (f"without such images: array[numpy.isfinite(array).all(axis={rest})]",)


def _leaving_pairs_out(bad: int, count: int, axes: int) -> tuple[str, ...]:
    """The same where a sample belongs to each image, which goes with it."""
    if count - bad < 2:
        return ()
    rest = tuple(range(1, axes))
    return (
        f"without such pairs: whole = numpy.isfinite(array).all(axis={rest});"
        " array, images = array[whole], images[whole]",
    )


def _filling_in(reading: Reading, axes: int, channels: list[int]) -> tuple[str, ...]:
    """Fill with the mean of the channel, and mark the places in a mask for each channel that needs one."""
    first, all_channels = reading.layout == CHANNELS_FIRST, reading.shape[0]
    if reading.layout == SINGLE_CHANNEL:
        mean, join = "array[mask].mean()", "numpy.stack((filled, mask), axis=-1)"
    else:
        axis = 1 if first else axes - 1
        over = tuple(other for other in range(axes) if other != axis)
        mean = f"array.mean(axis={over}, keepdims=True, where=mask)"
        some = f"[:, {channels}]" if first else f"[..., {channels}]"
        mask = "mask" if len(channels) == all_channels else f"mask{some}"
        join = f"numpy.concatenate((filled, {mask}), axis={axis})"
    needs_layout = all_channels <= FEW < all_channels + len(channels)
    layout = f" (then --data.layout {reading.layout})" if needs_layout else ""
    return (
        f"filled with the mean: mask = numpy.isfinite(array); filled = numpy.where(mask, array, {mean})",
        f"and with the mask beside it, so that the network knows where: array = {join}{layout}",
    )
