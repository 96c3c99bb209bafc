"""The spacing of a channel's values, by which floats that were rounded, or are levels in truth, are recognized."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kakusan.statistics.moments import Moments

FINE = {2: 16, 4: 1000, 8: 1000}
"""Steps of a float in a deviation that do no harm, by the bytes of the float."""
MOST_LEVELS = 256
LOOKED_AT = 1 << 16
"""Values of a channel that are looked at, of images spread evenly over all."""
SAME = 1e-5
"""Share of the range: values this near are one level, computed in two ways."""
OFF_THE_LEVEL = 0.02
"""Share of a step: so near to a level no value lies by chance. Rounding may add to it."""
GAPS = 4
"""Steps for each level that is there, on an average and at most."""
FEWEST_IMAGES = 4
COPIES = 4
"""Values a level may be computed in: more are no rounding."""
RARE = 0.01
"""Share of the values, at either end, that do not count as usual."""
FAR = 30
"""Widths of the usual range: a value so far beyond it is worth a note."""


def notes_on_spacing(images: NDArray[Any], moments: Moments, name: str) -> tuple[str, ...]:
    """A note where floats are too coarse for what they hold, or are evenly spaced as levels are."""
    coarse = _on_coarseness(images.dtype, moments, name)
    return coarse or _on_levels(images, moments, name)


def notes_on_outliers(images: NDArray[Any], moments: Moments, name: str) -> tuple[str, ...]:
    """A note where a few values are so far from all others that they set the scale of all."""
    sample = _spread(images)
    for c, (lowest, highest) in enumerate(zip(moments.low, moments.high, strict=True)):
        if not (values := _present(sample[..., c])).size:
            continue
        low, high = np.quantile(values, [RARE, 1 - RARE])
        extreme, beyond = (
            (highest, highest - high) if highest - high > low - lowest else (lowest, low - lowest)
        )
        if low < high and beyond > FAR * (high - low):
            which = f"channel {c} of {name}" if len(moments.mean) > 1 else name
            return (
                f"{which} reaches {extreme:.6g}, but {1 - 2 * RARE:.0%} of its values lie from {low:.6g} to {high:.6g}:"
                " a few set the scale of all; take them out, take logarithms, or give a --data.range",
            )
    return ()


def _on_coarseness(dtype: np.dtype[Any], moments: Moments, name: str) -> tuple[str, ...]:
    size = min(dtype.itemsize, 8)
    kind = np.dtype(f"f{size}").type
    steps = [float(np.spacing(kind(abs(mean)))) for mean in moments.mean]
    in_one = [deviation / step for deviation, step in zip(moments.deviation, steps, strict=True)]
    worst = int(np.argmin(in_one))
    if in_one[worst] >= FINE[size]:
        return ()
    return (
        f"{name}: {np.dtype(kind)} near {moments.mean[worst]:.6g} is stored in steps of {steps[worst]:.2g}, "
        f"and the deviation is {moments.deviation[worst]:.2g}: detail is lost in the file; "
        f"store {'float64, or ' if size < 8 else ''}the values less their mean",
    )


def _on_levels(images: NDArray[Any], moments: Moments, name: str) -> tuple[str, ...]:
    sample = _spread(images)
    channels = range(images.shape[-1])
    eps = float(np.finfo(images.dtype).eps)
    steps = [steps_of(_present(sample[..., c]), moments.low[c], moments.high[c], eps) for c in channels]
    level = [c for c in channels if steps[c]]
    if not level:
        return ()
    counts = sorted({steps[c] + 1 for c in level})
    are = f"take only {' or '.join(map(str, counts[:3]))} evenly spaced values"
    no_floor = "bits/dim of a density have no floor there"
    if len(level) < len(steps):
        return (f"{name}: the floats of channel {', '.join(map(str, level[:9]))} {are}: {no_floor}",)
    return (f"{name}: its floats {are}, as levels do: {no_floor}; {_as_levels(steps, moments)}",)


def _as_levels(steps: list[int], moments: Moments) -> str:
    ends = set(zip(steps, moments.low, moments.high, strict=True))
    if len(ends) > 1:
        return "store the uint8 that they were made of"
    (most, low, high) = ends.pop()
    levels = f"numpy.rint((array - {low:.9g}) * {most / (high - low):.9g}).astype(numpy.uint8)"
    return f"as levels: numpy.savez(path, images={levels}, levels={most + 1})"


def _spread(images: NDArray[Any]) -> NDArray[np.float64]:
    """Some images, evenly spread, as float64 (n, ..., channels)."""
    count = max(FEWEST_IMAGES, LOOKED_AT * len(images) // images[..., 0].size)
    chosen = np.unique(np.linspace(0, len(images) - 1, count).astype(np.int64))
    spread: NDArray[np.float64] = images[chosen].astype(np.float64)
    return spread


def _present(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values that are not missing, in one row."""
    return values[~np.isnan(values)]


def steps_of(values: NDArray[np.float64], low: float, high: float, eps: float) -> int:
    """The number of equal steps from low to high, if all values stand on them; 0 if not, or if they are too many.

    Few values prove nothing: there must be several for each that is distinct. `eps` is that of their type.
    """
    if not low < high:
        return 0
    places = np.unique((values - low) / (high - low))
    distinct = places[np.diff(places, prepend=-1) > SAME]
    if not 2 <= len(distinct) <= min(MOST_LEVELS, values.size / 2) or len(places) > COPIES * len(distinct):
        return 0
    near = OFF_THE_LEVEL + MOST_LEVELS * eps / 2 * max(abs(low), abs(high)) / (high - low)
    candidates = range(len(distinct) - 1, min(MOST_LEVELS, GAPS * len(distinct)))
    return next((steps for steps in candidates if _off_the_steps(distinct, steps) < min(near, 0.25)), 0)


def _off_the_steps(places: NDArray[np.float64], steps: int) -> float:
    return float(np.abs(places * steps - np.rint(places * steps)).max())
