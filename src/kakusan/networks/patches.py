"""Samples of any size as a grid of patches, and back: padded, folded, unfolded, cropped; in one to three dimensions."""

from torch import Tensor
from torch.nn import functional as F

from kakusan.networks.layers import Features
from kakusan.shapes import Samples


def pad(x: Samples, multiple: int) -> Tensor:
    """Zeros at the end of each axis, up to the next multiple."""
    size = tuple(x.shape[2:])
    ends = [larger - side for side, larger in zip(size, padded_size(size, multiple), strict=True)]
    return F.pad(x, [amount for end in reversed(ends) for amount in (0, end)]) if any(ends) else x


def padded_size(size: tuple[int, ...], multiple: int) -> tuple[int, ...]:
    """The size after `pad`."""
    return tuple(side + -side % multiple for side in size)


def crop(x: Features, like: Samples) -> Features:
    """x without the padding that ``pad`` added to ``like``."""
    for axis, side in enumerate(like.shape[2:], start=2):
        x = x.narrow(axis, 0, side) if x.shape[axis] > side else x
    return x


def folded(x: Samples, patch: int) -> Features:
    """Patches of positions as channels: (n, c, h, w) to (n, c patch^2, h / patch, w / patch), in any dimension."""
    if x.ndim == 4:
        return F.pixel_unshuffle(x, patch)
    n, channels, *size = x.shape
    parts = [part for side in size for part in (side // patch, patch)]
    d = len(size)
    order = (0, 1, *(3 + 2 * i for i in range(d)), *(2 + 2 * i for i in range(d)))
    rows = x.reshape(n, channels, *parts).permute(order)
    return rows.reshape(n, channels * patch**d, *(side // patch for side in size))


def unfolded(x: Features, patch: int) -> Samples:
    """The inverse of `folded`."""
    if x.ndim == 4:
        return F.pixel_shuffle(x, patch)
    n, channels, *size = x.shape
    d = len(size)
    rows = x.reshape(n, channels // patch**d, *[patch] * d, *size)
    order = (0, 1, *(axis for i in range(d) for axis in (2 + d + i, 2 + i)))
    return rows.permute(order).reshape(n, channels // patch**d, *(side * patch for side in size))
