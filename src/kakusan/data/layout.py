"""Which axis of an array is which. The first counts the images; the rule for the others stands here and nowhere else.

- (n, a, b, c): the channels are the axis of at most 4 among the second and the last; the last one if both are so
  short. If neither is, the array is refused until somebody says it.
- (n, a, b): grey images; but signals (n, channels, length) or (n, length, channels) where one of the two axes is 2 to
  4 and the other 16 or more.
- (n, 2), floats: points in the plane. (n, length) from 16 on: signals of one channel. A signal is an image of height 1.
- A number of channels or a size that is asked for leaves only the readings that have it.
Whatever another reading would have been as likely for is told in a note.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kakusan.config.settings import DataSettings, Layout
from kakusan.errors import DataError

CHANNELS_LAST: Final = "channels-last"
CHANNELS_FIRST: Final = "channels-first"
SINGLE_CHANNEL: Final = "single-channel"

FEW = 4
"""Channels that need no word: grey, two fields, colour, colour and opacity."""
LONG = 16
"""From here on an axis is a signal's time."""
THIN = 2
"""So many times as long as wide, a small image may as well be signals of several channels."""


@dataclass(frozen=True)
class Reading:
    """One way to read an array's axes."""

    layout: Layout
    shape: tuple[int, int, int]
    """(channels, height, width) of one image."""
    is_signal: bool
    """Whether its axes are channels and time, without a height."""

    def __str__(self) -> str:
        channels, height, width = self.shape
        noun = f"{channels} channel{'s' * (channels > 1)}"
        if self.is_signal and self.shape == (2, 1, 1):
            return "points in the plane"
        if self.is_signal:
            return f"signals of length {width} with {noun}"
        return f"images {height} high and {width} wide with {noun}"

    def apply(self, array: NDArray[Any]) -> NDArray[Any]:
        """The array as a view (n, height, width, channels)."""
        first = self.layout == CHANNELS_FIRST
        if self.layout == SINGLE_CHANNEL:
            array, first = array[..., None], False
        while array.ndim < 4:
            array = array[:, :, None] if first else array[:, None]
        return np.moveaxis(array, 1, -1) if first else array


@dataclass(frozen=True)
class Axes:
    """How an array is read, and what is to be said of it."""

    reading: Reading
    notes: tuple[str, ...] = ()


def axes_of(shape: tuple[int, ...], name: str, options: DataSettings, *, is_float: bool) -> Axes:
    """By the layout that is asked for, else by the rule. Raises DataError where neither settles it."""
    if not 2 <= len(shape) <= 4:
        raise _not_images(shape, name)
    readings = readings_of(shape)
    if options.layout != "auto":
        return Axes(_asked(readings, shape, name, options.layout))
    left = [reading for reading in readings if _fits(reading, options)] or readings
    if len(left) == 1 or (options.height_and_width is not None and options.channels != "auto"):
        return Axes(left[0])  # all that can be said was said
    return _by_rule(left, shape, name, is_float=is_float)


def readings_of(shape: tuple[int, ...]) -> list[Reading]:
    """All that these axes can be, the most usual first."""
    if len(shape) == 2:
        _, length = shape
        return [
            Reading(CHANNELS_LAST, (length, 1, 1), is_signal=True),
            Reading(SINGLE_CHANNEL, (1, 1, length), is_signal=True),
        ]
    if len(shape) == 3:
        _, a, b = shape
        return [
            Reading(SINGLE_CHANNEL, (1, a, b), is_signal=False),
            Reading(CHANNELS_FIRST, (a, 1, b), is_signal=True),
            Reading(CHANNELS_LAST, (b, 1, a), is_signal=True),
        ]
    _, a, b, c = shape
    return [
        Reading(CHANNELS_LAST, (c, a, b), is_signal=False),
        Reading(CHANNELS_FIRST, (a, b, c), is_signal=False),
    ]


def _fits(reading: Reading, options: DataSettings) -> bool:
    channels, height, width = reading.shape
    wanted = options.height_and_width or (height, width)
    return options.channels in ("auto", channels) and wanted == (height, width)


def _asked(readings: list[Reading], shape: tuple[int, ...], name: str, layout: Layout) -> Reading:
    found = next((reading for reading in readings if reading.layout == layout), None)
    if found is None:
        raise DataError(
            f"{name} has shape {shape}, which cannot be read as {layout}",
            *(f"{reading}: --data.layout {reading.layout}" for reading in readings),
        )
    return found


def _by_rule(readings: list[Reading], shape: tuple[int, ...], name: str, *, is_float: bool) -> Axes:
    if len(shape) == 2:
        return _of_vectors(readings, shape, name, is_float=is_float)
    if len(shape) == 3:
        likely = [reading for reading in readings if _is_plain_signal(reading)]
        chosen, doubtful = (likely or readings)[0], bool(likely) or _is_thin(readings[0])
    else:
        likely = [reading for reading in readings if reading.shape[0] <= FEW]
        if not likely:
            raise _unclear(readings, shape, name)
        chosen = likely[0]
        doubtful = len(likely) > 1 or chosen.layout == CHANNELS_FIRST or 1 in chosen.shape[1:]
        doubtful &= chosen.shape != (2, 1, 1)  # points, as they are sampled
    others = [reading for reading in readings if reading.layout != chosen.layout]
    return Axes(chosen, (_note(shape, name, chosen, others),) if doubtful and others else ())


def _is_plain_signal(reading: Reading) -> bool:
    channels, _, length = reading.shape
    return reading.is_signal and 2 <= channels <= FEW and length >= LONG


def _is_thin(reading: Reading) -> bool:
    short, long = sorted(reading.shape[1:])
    return 1 < short <= LONG and long >= THIN * short


def _of_vectors(readings: list[Reading], shape: tuple[int, ...], name: str, *, is_float: bool) -> Axes:
    vectors, signals = readings[0], readings[-1]
    length = shape[1]
    if length == 2 and is_float:
        return Axes(vectors)
    if length < LONG:
        raise DataError(
            f"{name} has shape {shape}: {length} numbers each are neither an image nor a signal",
            "points in the plane are floats of shape (n, 2): array.astype(numpy.float64)"
            if length == 2
            else "points in the plane are floats of shape (n, 2)",
            f"to read them as signals all the same: --data.layout {SINGLE_CHANNEL}",
        )
    flat = [f"array.reshape({', '.join(map(str, (-1, *side)))})" for side in _images_in(length)]
    note = (
        f"{name} has shape {shape}: read as {signals}, as images of height 1 (--data.layout {SINGLE_CHANNEL})"
    )
    return Axes(signals, (note + (f"; if they are flattened images: {' or '.join(flat)}" if flat else ""),))


def _images_in(length: int) -> Iterator[tuple[int, ...]]:
    """Square images that may have been flattened to this length: grey, or three colours after one another."""
    if math.isqrt(length) ** 2 == length:
        yield (math.isqrt(length),) * 2
    if length % 3 == 0 and math.isqrt(length // 3) ** 2 == length // 3:
        yield (3, *((math.isqrt(length // 3),) * 2))


def _note(shape: tuple[int, ...], name: str, chosen: Reading, others: list[Reading]) -> str:
    def other_way(other: Reading) -> str:
        return "the same with the axes in the other order" if other.shape == chosen.shape else str(other)

    instead = "; ".join(f"--data.layout {other.layout} would read {other_way(other)}" for other in others)
    return f"{name} has shape {shape}: read as {chosen} ({chosen.layout}); {instead}"


def _unclear(readings: list[Reading], shape: tuple[int, ...], name: str) -> DataError:
    _, *volume = shape
    return DataError(
        f"{name} has shape {shape}: it is not clear which axis is the channels, since none is {FEW} or less",
        *(f"{reading}: --data.layout {reading.layout}" for reading in readings),
        f"volumes of {' x '.join(map(str, volume))} are not supported, their slices are: "
        f"array.reshape(-1, {volume[1]}, {volume[2]})",
    )


def _not_images(shape: tuple[int, ...], name: str) -> DataError:
    if len(shape) == 5:
        return DataError(f"{name} has shape {shape}: 3-D images are not supported", *_slices(shape))
    return DataError(
        f"{name} has shape {shape}: its first axis counts the images, and each has 1 to 3 axes",
        "images are (n, height, width, channels), (n, channels, height, width) or (n, height, width)",
        "signals are (n, length) or (n, channels, length), points in the plane are floats of shape (n, 2)",
    )


def _slices(shape: tuple[int, ...]) -> tuple[str, ...]:
    """The line that makes 2-D images of volumes, for channels first and channels last."""
    _, a, b, c, d = shape
    first = f"array.swapaxes(1, 2).reshape(-1, {a}, {c}, {d})" if a > 1 else f"array.reshape(-1, {c}, {d})"
    last = f"array.reshape(-1, {b}, {c}, {d})"
    lines = {
        f"to train on the slices of (n, channels, depth, height, width): {first}": a,
        f"to train on the slices of (n, depth, height, width, channels): {last}": d,
    }
    likely = [line for line, channels in lines.items() if channels <= FEW]
    return tuple(likely[:1] or lines)
