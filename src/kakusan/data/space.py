"""The space of a sample: what its axes beside the channels are."""

from kakusan.config.settings import KINDS, Kind


def kind_of(shape: tuple[int, ...]) -> Kind:
    """points (channels,), signal (channels, length), image (channels, height, width) or volume."""
    return KINDS[len(shape) - 1]


def things(shape: tuple[int, ...]) -> str:
    """What many samples are called: points, signals, images, volumes."""
    return "points" if is_points(shape) else f"{kind_of(shape)}s"


def size_in_words(shape: tuple[int, ...]) -> str:
    """Of a sample, without its channels: 28x28, or 48x20 (height x width); empty for points."""
    sides = shape[1:]
    which = " (height x width)" if len(sides) == 2 and sides[0] != sides[1] else ""
    return "x".join(map(str, sides)) + which


def is_points(shape: tuple[int, ...]) -> bool:
    """Whether a sample is a point: values without a place."""
    return len(shape) == 1


def upgraded(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape as older versions wrote it: they had points as images of two channels and one pixel."""
    return (2,) if shape == (2, 1, 1) else shape


def legacy(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The inverse, for what identifies data that an older version may have seen."""
    return (*shape, 1, 1) if is_points(shape) else shape
