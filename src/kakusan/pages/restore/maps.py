"""The pictures of one measurement: y, the truth, and of the samples mean, deviation, quantiles, and what is left."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kakusan.data.rendering import encode_png, grid
from kakusan.data.space import IMAGES, POINTS, noun_of
from kakusan.data.units import Levels, Real, Units
from kakusan.pages.restore.shades import Shades
from kakusan.posterior import Measurement
from kakusan.posterior.misfit import standardized
from kakusan.run.posterior import deviation_of
from kakusan.shapes import Samples

Floats = NDArray[np.float64]

SAMPLES = 16
"""Samples that are shown."""
BAND = (0.05, 0.95)
MOST = 0.99
"""Share of the deviations of real data that are no larger than what is white in their map."""
REACH = 3.0
"""Deviations of the noise from middle grey to black and white, in the map of what is left."""
BEYOND = 0.25
"""Share of the range of the data by which y may lie outside of it, and is still shown on its scale."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A picture, as PNG bytes, its title, and words below it."""

    png: bytes
    title: str
    caption: str = ""


def spread_of(samples: Samples) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean, deviation and the two quantiles of samples (count, ...), float64; nan where a value is missing.

    The deviation of a single sample is nan.
    """
    x = samples.cpu().double()
    low, high = torch.from_numpy(np.quantile(x.numpy(), BAND, axis=0))
    return x.mean(0), deviation_of(x, 0), low, high


def panels_of(measurement: Measurement, samples: Samples, truth: Samples | None, units: Units) -> list[Panel]:
    """Of images and volumes: one measurement, its samples (count, ...), its truth (1, ...).

    A single sample has no spread, and no panels of it.
    """
    mean, deviation, low, high = spread_of(samples)
    shades = shades_of(samples, truth, units)
    found = [observed(measurement, units, shades)]
    if truth is not None:
        found.append(Panel(png=encode_png(grid(shades.of(truth.cpu()), shades.units)), title="Truth"))
    found.append(Panel(png=_smooth(mean, shades), title="Mean"))
    if len(samples) > 1:
        found += [
            _deviation(deviation, units),
            Panel(png=_smooth(low, shades), title="5 % quantile"),
            Panel(png=_smooth(high, shades), title="95 % quantile"),
        ]
    left = left_over(measurement, samples[:1])
    if left is not None:
        found.append(left)
    return found


def shades_of(samples: Samples, truth: Samples | None, units: Units) -> Shades:
    """The scale of all pictures of one measurement: that of the truth, or where it is not known of the mean."""
    return Shades.between(
        samples.cpu().double().mean(0, keepdim=True) if truth is None else truth.cpu(), units
    )


def samples_panel(samples: Samples, shades: Shades, columns: int | None = 8) -> Panel:
    """The first samples side by side, as they are saved; points in one plot."""
    shown = samples if noun_of(samples.shape[1:]) is POINTS else samples[:SAMPLES]
    columns = columns if noun_of(samples.shape[1:]) is IMAGES else None
    count = f"{len(shown)} of {len(samples):,}" if len(samples) > len(shown) else f"{len(shown)}"
    png = encode_png(grid(shades.of(shown.cpu()), shades.units, columns=columns))
    return Panel(png=png, title=f"Samples ({count})")


def observed(measurement: Measurement, units: Units, shades: Shades) -> Panel:
    """y of one measurement: on the scale of the other pictures where it has values of the data, else on its own."""
    y = measurement.y.masked_fill(~measurement.known, float("nan")).cpu()
    shape, mean, scale = measurement.shape, measurement.mean, measurement.scale
    x = y.view(1, *picture_shape(tuple(y.shape[1:]), shape))
    if x.shape[1] == shape[0] and x.ndim == len(shape) + 1:
        ratio, middle = (_by_channel(v, x) for v in (scale, mean))
        ours = (x - middle) / ratio
        if not (ours.abs() > _shown(units) * (1 + 2 * BEYOND)).any():
            png = encode_png(grid(shades.of(ours), shades.smooth))
            return Panel(png=png, title="Measured", caption=_gaps(x))
    low, high = _ends(x)
    own = Real(((low + high) / 2,) * x.shape[1], ((high - low) / 2,) * x.shape[1])
    caption = f"from {low:.4g} to {high:.4g}. {_gaps(x)}".strip()
    ours = (x - own.mean[0]) / own.scale[0]
    return Panel(png=encode_png(grid(ours, own)), title="Measured", caption=caption)


def left_over(measurement: Measurement, sample: Samples) -> Panel | None:
    """(y - A(x)) / sigma of one sample, where y is a picture and has noise; else None."""
    found = standardized(measurement, sample)[0]
    shape = picture_shape(tuple(found.shape), measurement.shape)
    if len(shape) < 3 or not found.isfinite().any():
        return None
    units = Real((0.0,) * shape[0], (1.0,) * shape[0], shown=REACH)
    caption = f"± {REACH:g} deviations"
    return Panel(png=encode_png(grid(found.view(1, *shape), units)), title="Left of y", caption=caption)


def picture_shape(shape: tuple[int, ...], of_samples: tuple[int, ...]) -> tuple[int, ...]:
    """A shape in which y can be shown: its own where samples have that rank, else that of a signal or a grey image."""
    if len(shape) == len(of_samples) and (len(shape) > 1 or shape == of_samples):
        return shape
    if len(shape) in (2, 3, 4):
        return (1, *shape) if len(shape) == 2 and min(shape) > SAMPLES // 4 else shape
    return 1, int(np.prod(shape))


def unrounded(units: Units) -> Units:
    """For what lies between the levels of the data."""
    return Levels(256) if isinstance(units, Levels) else units


def _smooth(x: Tensor, shades: Shades) -> bytes:
    return encode_png(grid(shades.of(x[None]), shades.smooth))


def _deviation(deviation: Tensor, units: Units) -> Panel:
    """From black, 0, to white, the largest; of real data the largest but for a few, as a sample far off makes them."""
    values = deviation.nan_to_num(0)
    largest = white = float(values.max())
    if isinstance(units, Real):
        white = float(np.quantile(values.numpy(), MOST)) or largest
    ours = deviation / (white or 1.0) * 2 - 1
    png = encode_png(grid(ours[None], Real((0.0,) * len(deviation), (1.0,) * len(deviation))))
    more = f", the largest {_in_data(largest, units)}" if white < largest else ""
    return Panel(png=png, title="Deviation", caption=f"white is {_in_data(white, units)}{more}")


def _in_data(deviation: float, units: Units) -> str:
    if isinstance(units, Levels):
        return f"{deviation * (units.levels - 1) / 2:.3g} of {units.levels - 1} levels"
    if len(set(units.scale)) == 1:
        return f"{deviation * units.scale[0]:.3g}"
    return f"{deviation:.3g} times that of the data"


def _shown(units: Units) -> float:
    return 1.0 if isinstance(units, Levels) else units.shown


def _by_channel(values: float | int | Tensor, x: Tensor) -> Tensor:
    given = torch.as_tensor(values, dtype=torch.float64)
    return given.view(1, -1, *[1] * (x.ndim - 2)) if given.ndim else given


def _ends(x: Tensor) -> tuple[float, float]:
    known = x[~x.isnan()]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    return (low, high) if low < high else (low - 1, high + 1)


def _gaps(x: Tensor) -> str:
    share = float(x.isnan().double().mean())
    return f"{100 * share:.0f} % not measured" if share else ""
