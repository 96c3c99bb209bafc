"""What samples are called, and what their size is, by the rank of their shape."""

from collections.abc import Sequence
from dataclasses import dataclass

from kakusan.data.dataset import in_pixels
from kakusan.errors import DataError


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
"""What images of so many channels are."""


def noun_of(shape: Sequence[int]) -> Noun:
    """What samples of this shape, (channels, ...), are called.

    Points of older runs have the shape of an image, (2, 1, 1). Raises DataError for a rank that nothing here has.
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
