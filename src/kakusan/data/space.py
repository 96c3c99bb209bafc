"""The space of a sample: what its axes beside the channels are, and the words for it."""

from collections.abc import Sequence
from dataclasses import dataclass

from kakusan.config.settings import KINDS, Kind
from kakusan.errors import DataError


def kind_of(shape: tuple[int, ...]) -> Kind:
    """points (channels,), signal (channels, length), image (channels, height, width) or volume."""
    return KINDS[len(shape) - 1]


def is_points(shape: tuple[int, ...]) -> bool:
    """Whether a sample is a point: values without a place."""
    return len(shape) == 1


def upgraded(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape as older versions wrote it: they had points as images of two channels and one pixel."""
    return (2,) if shape == (2, 1, 1) else shape


def legacy(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The inverse, for what identifies data that an older version may have seen."""
    return (*shape, 1, 1) if is_points(shape) else shape


def in_pixels(height: int, width: int) -> str:
    """A size as --data.size takes it, height first, which is said where the two differ."""
    return f"{height}x{width}" + (" (height x width)" if height != width else "")


@dataclass(frozen=True)
class Noun:
    """The words for samples of one rank."""

    one: str
    many: str
    article: str = "a"

    @property
    def a(self) -> str:
        """With its article: "an image"."""
        return f"{self.article} {self.one}"


POINTS = Noun("point", "points")
SIGNALS = Noun("signal", "signals")
IMAGES = Noun("image", "images", "an")
VOLUMES = Noun("volume", "volumes")

BY_RANK = {1: POINTS, 2: SIGNALS, 3: IMAGES, 4: VOLUMES}
"""By the length of the shape of one sample: (2,), (channels, length), (channels, height, width), ..."""
SHADES = {1: "grey", 3: "colour"}
"""Adjectives of images, by their number of channels."""


def noun_of(shape: Sequence[int]) -> Noun:
    """The noun for samples of this shape, (channels, ...); (2, 1, 1) too are points, as older versions had them.

    Raises DataError for a rank that nothing here has.
    """
    if tuple(shape) == (2, 1, 1):
        return POINTS
    if len(shape) not in BY_RANK:
        raise DataError(
            f"samples of shape {tuple(shape)} are not supported",
            "points are (2,), signals (channels, length), images (channels, height, width), volumes (channels, depth,"
            " height, width)",
        )
    return BY_RANK[len(shape)]


def size_in_words(shape: Sequence[int]) -> str:
    """The size of one sample of this shape: "length 256, 2 channels", "16x16, grey", "in the plane"."""
    channels, *sides = shape
    noun = noun_of(shape)
    if noun is POINTS:
        return "in the plane"
    channels_of = f"{channels} channel{'s' * (channels > 1)}"
    if noun is SIGNALS:
        return f"length {sides[0]}, {channels_of}"
    if noun is VOLUMES:
        return (
            f"{'x'.join(map(str, sides))}{' (depth x height x width)' * (len(set(sides)) > 1)}, {channels_of}"
        )
    return f"{in_pixels(*sides)}, {SHADES.get(channels, channels_of)}"
