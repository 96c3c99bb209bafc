"""The axes of an array. The first counts the samples; the rule for the others stands here and nowhere else.

- (n, a, b, c, d): volumes with channels, the axis of at most 4 among the second and the last; the last if both are.
- (n, a, b, c): images with channels, the axis of at most 4 among the second and the last, the last one if both are so
  short; volumes of one channel where neither is. Images of height 1 are signals.
- (n, a, b): grey images; but signals (n, channels, length) or (n, length, channels) where one of the two axes is 2 to
  4 and the other 16 or more.
- (n, 2), floats: points in the plane. (n, length) from 16 on: signals of one channel.
- A kind, a layout, a number of channels or a size that is asked for leaves only the readings that have it.
A note names any other reading that would have been as likely.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kakusan.config.settings import DataSettings, Kind, Layout
from kakusan.data.space import kind_of
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
    shape: tuple[int, ...]
    """(channels, ...) of one sample."""

    @property
    def kind(self) -> Kind:
        return kind_of(self.shape)

    def __str__(self) -> str:
        channels, *size = self.shape
        noun = f"{channels} channel{'s' * (channels > 1)}"
        match size:
            case []:
                return "points in the plane" if channels == 2 else f"points of {channels} values"
            case [length]:
                return f"signals of length {length} with {noun}"
            case [height, width]:
                return f"images {height} high and {width} wide with {noun}"
            case _:
                return f"volumes of {'x'.join(map(str, size))} with {noun}"

    def apply(self, array: NDArray[Any]) -> NDArray[Any]:
        """The array as a view (n, ..., channels)."""
        if self.layout == SINGLE_CHANNEL:
            array = array[..., None]
        elif self.layout == CHANNELS_FIRST:
            array = np.moveaxis(array, 1, -1)
        dropped = (
            array.ndim - 1 - len(self.shape)
        )  # axes of length 1 of signals and points that came as images
        return array.reshape(len(array), *self.shape[1:], self.shape[0]) if dropped else array


@dataclass(frozen=True)
class Axes:
    """The reading of an array, and the notes on it."""

    reading: Reading
    notes: tuple[str, ...] = ()


def axes_of(shape: tuple[int, ...], name: str, options: DataSettings, *, is_float: bool) -> Axes:
    """Axes by the kind and the layout asked for, else by the rule. Raises DataError if neither settles them."""
    if not 2 <= len(shape) <= 5:
        raise _not_samples(shape, name)
    readings = _asked(readings_of(shape), shape, name, options)
    plain = [reading for reading in readings if options.channels == "auto" or reading.kind != "volume"]
    left = [reading for reading in plain if _fits(reading, options)] or readings
    settled = options.height_and_width is not None and options.channels != "auto"
    if len(left) == 1 or settled or options.layout != "auto":
        return Axes(left[0])  # all that can be said was said
    return _by_rule(left, shape, name, is_float=is_float, is_asked=options.kind != "auto")


def readings_of(shape: tuple[int, ...]) -> list[Reading]:
    """All that these axes can be, the most usual first."""
    _, *axes = shape
    *front, last = axes
    if len(axes) == 1:
        return [Reading(CHANNELS_LAST, (last,)), Reading(SINGLE_CHANNEL, (1, last))]
    with_channels = [Reading(CHANNELS_LAST, (last, *front)), Reading(CHANNELS_FIRST, tuple(axes))]
    if len(axes) == 2:
        return [Reading(SINGLE_CHANNEL, (1, *axes)), *reversed(with_channels)]
    if axes == [1, 1, 2]:  # points, as older versions sampled them
        return [Reading(CHANNELS_LAST, (2,)), *with_channels]
    if len(axes) == 3:
        signals = [
            Reading(reading.layout, (reading.shape[0], math.prod(reading.shape[1:])))
            for reading in with_channels
            if 1 in reading.shape[1:]
        ]
        return [*with_channels, Reading(SINGLE_CHANNEL, (1, *axes)), *signals]
    return with_channels


def _fits(reading: Reading, options: DataSettings) -> bool:
    channels, *size = reading.shape
    wanted = options.height_and_width or tuple(size)
    return options.channels in ("auto", channels) and wanted == tuple(size)


def _asked(
    readings: list[Reading], shape: tuple[int, ...], name: str, options: DataSettings
) -> list[Reading]:
    """The readings of the kind and the layout that are asked for. Raises DataError where there is none."""
    if options.kind == "points":  # which lie in the plane: rows of other lengths are signals
        readings = [reading for reading in readings if reading.kind != "points" or reading.shape == (2,)]
    found = [
        reading
        for reading in readings
        if options.kind in ("auto", reading.kind) and options.layout in ("auto", reading.layout)
    ]
    if not found:
        asked = " ".join(word for word in (options.kind, options.layout) if word != "auto")
        raise DataError(
            f"{name} has shape {shape}, which cannot be read as {asked}",
            *(
                f"{reading}: --data.kind {reading.kind} --data.layout {reading.layout}"
                for reading in readings
            ),
        )
    return found


def _by_rule(
    readings: list[Reading], shape: tuple[int, ...], name: str, *, is_float: bool, is_asked: bool
) -> Axes:
    """is_asked: the kind was asked for, so that only the layout is open."""
    if len(shape) == 2 and not is_asked:
        return _of_vectors(readings, shape, name, is_float=is_float)
    if readings[0].kind == "points" and not is_asked:
        return Axes(readings[0])
    if len(shape) == 3:
        likely = [reading for reading in readings if _is_plain_signal(reading)]
        flat = [r for r in readings if r.kind == "signal" and r.shape[0] == 1]  # images of height or width 1
        chosen, doubtful = (likely or flat or readings)[0], bool(likely) or _is_thin(readings[0])
    else:
        likely = [
            reading for reading in readings if reading.shape[0] <= FEW and reading.layout != SINGLE_CHANNEL
        ]
        likely = [r for r in likely if r.kind == "signal"] or likely
        chosen = (likely or [r for r in readings if r.layout == SINGLE_CHANNEL] or readings)[0]
        doubtful = len(likely) != 1 or chosen.layout == CHANNELS_FIRST or chosen.kind == "signal"
    others = [
        reading for reading in readings if (reading.layout, reading.kind) != (chosen.layout, chosen.kind)
    ]
    return Axes(chosen, (_note(shape, name, chosen, others),) if doubtful and others else ())


def _is_plain_signal(reading: Reading) -> bool:
    channels, *size = reading.shape
    return len(size) == 1 and 2 <= channels <= FEW and size[0] >= LONG


def _is_thin(reading: Reading) -> bool:
    if len(reading.shape) != 3:
        return False
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
            "to read them as signals all the same: --data.kind signal",
        )
    flat = [f"array.reshape({', '.join(map(str, (-1, *side)))})" for side in _images_in(length)]
    note = f"{name} has shape {shape}: read as {signals} ({SINGLE_CHANNEL}; --data.kind signal)"
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

    instead = "; ".join(f"{_flags(other, chosen)} would read {other_way(other)}" for other in others)
    return f"{name} has shape {shape}: read as {chosen} ({chosen.layout}); {instead}"


def _flags(other: Reading, chosen: Reading) -> str:
    """The flags that ask for another reading."""
    kind = f"--data.kind {other.kind}" if other.kind != chosen.kind else ""
    layout = f"--data.layout {other.layout}" if other.layout != chosen.layout or not kind else ""
    return " ".join(flag for flag in (kind, layout) if flag)


def _not_samples(shape: tuple[int, ...], name: str) -> DataError:
    return DataError(
        f"{name} has shape {shape}: its first axis counts the samples, and each has 1 to 4 axes",
        "images are (n, height, width, channels), (n, channels, height, width) or (n, height, width)",
        "signals are (n, length) or (n, channels, length), volumes (n, depth, height, width) or with channels,"
        " points in the plane are floats of shape (n, 2)",
    )
