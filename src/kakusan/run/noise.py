"""The noise of a measurement in words: a number, a share, a map in a file, or the name of a law."""

import difflib
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from kakusan.config.settings import Layout
from kakusan.data.given import array_in
from kakusan.data.measured import in_axes, unmasked
from kakusan.data.units import Levels, Units
from kakusan.errors import DataError, SettingsError
from kakusan.posterior.noise import Gaussian, Noise, Poisson, Student, Unknown

LAWS = ("auto", "poisson:GAIN", "student:SCALE:DOF")
ADVICE = (
    "a noise is its deviation in the units of what was measured, such as 0.05, or 5% of the range of the data, a map"
    f" of deviations FILE.npy, {', '.join(LAWS)}"
)


def noise_of(
    given: Noise | ArrayLike | Tensor | str,
    units: Units,
    measured: tuple[int, ...],
    *,
    layout: Layout = "auto",
) -> Noise:
    """A noise as it is, or that of a word (`noise_named`), of a number, or of a map of deviations.

    A map, by itself or within `Gaussian`, has the axes of the data or those of `measured`, the shape of y.
    Raises SettingsError for what is no noise, DataError for a map that does not fit.
    """
    if isinstance(given, str):
        return noise_named(given, units, measured, layout=layout)
    sigma = given.sigma if isinstance(given, Gaussian) else given
    if isinstance(sigma, Noise):
        return sigma
    array = sigma.numpy(force=True) if isinstance(sigma, Tensor) else unmasked(np.ma.asanyarray(sigma))
    if array.ndim == 0 and array.dtype.kind in "iuf":
        return Gaussian(float(array))
    if array.shape == measured and array.dtype.kind in "iuf":  # as tensors are, their channels first
        return Gaussian(_deviations(torch.from_numpy(array.astype(np.float64)), "the noise"))
    return Gaussian(_map_of(array, "the noise", measured, layout))


def noise_named(text: str, units: Units, measured: tuple[int, ...], *, layout: Layout = "auto") -> Noise:
    """The noise that a word stands for.

    measured: the shape of y. "5%" is of the highest level, or of the deviation of real data (its root mean square over
    channels). layout: of the axes of a map, as that of the data. "auto": see `kakusan.posterior.fitted_noise`.
    Raises SettingsError for words that are no noise, DataError for a map that cannot be read.
    """
    name, *numbers = text.strip().split(":")
    if text.strip().lower().endswith(".npy"):
        path = Path(text.strip()).expanduser()
        return Gaussian(_map_of(array_in(path, "noise"), str(path), measured, layout))
    match name, len(numbers):
        case "auto", 0:
            return Unknown()
        case "poisson", 1:
            return Poisson(_number(numbers[0], text))
        case "student", 2:
            return Student(_number(numbers[0], text), _number(numbers[1], text))
        case _, 0 if name.endswith("%"):
            return _gaussian(_number(name[:-1], text) / 100 * spread_of(units), text)
        case _:
            return _gaussian(_number(text, text), text)


def spread_of(units: Units) -> float:
    """The range of levels, or the deviation of real data, in the units of the data."""
    if isinstance(units, Levels):
        return float(units.levels - 1)
    return math.sqrt(sum(scale**2 for scale in units.scale) / len(units.scale))


def _gaussian(sigma: float, text: str) -> Gaussian:
    if not 0 <= sigma < math.inf:
        raise SettingsError(f"a noise of {text} cannot be: a deviation is at least 0", ADVICE)
    return Gaussian(sigma)


def _number(number: str, text: str) -> float:
    try:
        return float(number)
    except ValueError as error:
        laws = {law.partition(":")[0]: law for law in LAWS}
        close = difflib.get_close_matches(text.partition(":")[0], laws, n=1)
        raise SettingsError(
            f"{text!r} is no noise", *[f"did you mean {laws[name]}?" for name in close], ADVICE
        ) from error


def _map_of(array: NDArray[Any], where: str, measured: tuple[int, ...], layout: Layout) -> Tensor:
    if array.dtype.kind not in "iuf":
        raise DataError(f"{where} holds {array.dtype}, and deviations are real numbers", ADVICE)
    found = in_axes(array, measured, layout)
    if found is None or len(found) != 1:
        raise DataError(
            f"{where} has shape {array.shape}, and a map of deviations is of what was measured:"
            f" {(*measured[1:], *measured[:1])}"
        )
    return _deviations(found[0], where)


def _deviations(found: Tensor, where: str) -> Tensor:
    """A map as it is. Raises DataError for what is no deviation; nan stands for a masked one too."""
    if not (found.isfinite() & (found >= 0)).all():
        raise DataError(f"{where} holds deviations that are negative, masked, or not finite")
    return found
