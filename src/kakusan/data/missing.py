"""Values that are missing or infinite: refused, with the lines that fill them in."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kakusan.data.layout import CHANNELS_FIRST, FEW, SINGLE_CHANNEL, Reading
from kakusan.errors import DataError
from kakusan.statistics.moments import chunks


def check_finite(images: NDArray[Any], name: str, reading: Reading, axes: int) -> None:
    """Raises DataError, with the share of images and of values that are not finite.

    `reading` and the number of axes say how the array of the file was read, for lines that fit it.
    """
    lost = np.concatenate(
        [(~np.isfinite(rows)).sum(tuple(range(1, images.ndim - 1))) for rows in chunks(images)]
    )  # by image and channel
    bad = int(lost.any(axis=1).sum())
    if not bad:
        return
    channels = np.flatnonzero(lost.any(axis=0)).tolist()
    raise DataError(
        f"{name} holds values that are not finite: {_share(lost.sum(), images.size)} of all, in "
        f"{_share(bad, len(images))} of the images; image {int(lost.any(axis=1).argmax())} is the first",
        *_leaving_out(bad, len(images), axes),
        *_filling_in(reading, axes, channels),
    )


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2g} %" if part < whole else "100 %"


def _leaving_out(bad: int, count: int, axes: int) -> tuple[str, ...]:
    if count - bad < 2:
        return ()
    rest = tuple(range(1, axes))
    return (f"without such images: array[numpy.isfinite(array).all(axis={rest})]",)


def _filling_in(reading: Reading, axes: int, channels: list[int]) -> tuple[str, ...]:
    """Fill with the mean of the channel, and tell the network where, by a mask for each channel that needs one."""
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
