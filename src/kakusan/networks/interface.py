"""The interface between data and network: channels, classes, conditions, dimensions."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Interface:
    """The inputs and outputs that a network has to have for its data, whatever is inside of it."""

    channels: int
    """Of a sample; of points their coordinates."""
    out_channels: int
    """As many, or twice as many where the second half is about the variance."""
    classes: int = 0
    """Labels that may be asked for; 0: none."""
    numbers: int = 0
    """Of a vector that samples come with; 0: none."""
    image_channels: int = 0
    """Of an image that samples come with; 0: none."""
    mask_channels: int = 0
    """Of a mask that says which values of a sample are there; 0: all are."""
    dimensions: int = 2
    """Axes of a sample beside its channels: 0 for points, 1 for signals, 2 for images, 3 for volumes."""
