"""The two kinds of data, and the network's units.

*Levels* are integers 0..levels-1 (256 for common images) mapped affinely onto [-1, 1]; their likelihood is a
probability. *Real* data are floats in units of their own, with an invertible normalization per channel; nothing
is ever clipped, and their likelihood is a density. Everything that shows, saves or measures images goes through here.

Arrays have their channels last, as on disk: points (n, 2), signals (n, length, channels), images (n, height, width,
channels), volumes (n, depth, height, width, channels). Tensors have them second, as in a network, and are channels-last
views of the same memory.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kakusan.errors import DataError, SettingsError
from kakusan.shapes import Samples
from kakusan.statistics.moments import Moments, moments_of


@dataclass(frozen=True)
class Levels:
    """Integers 0..levels-1, mapped so that 0 is -1 and levels-1 is +1, up to one rounding of float32 (1.2e-7)."""

    levels: int = 256

    def __post_init__(self) -> None:
        if not 2 <= self.levels <= 256:
            raise SettingsError(f"levels must be 2 to 256, not {self.levels}")

    def encode(self, images: NDArray[np.uint8]) -> Samples:
        """Bytes (n, ..., channels) to the network's units (n, channels, ...), float32 in [-1, 1]."""
        array = np.require(images, requirements=["C", "W"])  # torch takes no read-only memory map
        values = torch.from_numpy(array).movedim(-1, 1)
        return values.to(torch.float32).mul_(2 / (self.levels - 1)).sub_(1)

    def decode(self, x: Samples) -> NDArray[np.uint8]:
        """The nearest level of each value; `outside` says how many values lay beyond the scale."""
        levels = (x.detach().float() + 1).mul_((self.levels - 1) / 2).round_().clamp_(0, self.levels - 1)
        array: NDArray[np.uint8] = channels_last(levels.to(torch.uint8))
        return array

    def outside(self, x: Samples) -> float:
        """Share of values whose nearest level would lie below 0 or above levels-1, and is therefore clamped."""
        return float((x.abs() > 1 + 1 / (self.levels - 1)).float().mean())

    def to_bytes(self, x: Samples) -> NDArray[np.uint8]:
        """For the eye: black 0 to white 255, (n, ..., channels)."""
        grey: NDArray[np.uint8] = np.rint(self.decode(x) * (255 / (self.levels - 1))).astype(np.uint8)
        return grey

    def to_state(self) -> dict[str, Any]:
        return {"kind": "levels", "levels": self.levels}


@dataclass(frozen=True)
class Real:
    """Numbers in their own units: value = mean + scale * x, per channel. Nothing is clipped.

    Both ways in float64, so that an offset many times the scale costs no detail; only x is float32.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    shown: float = 1.0
    """Half-width, in the network's units, of what a picture shows from black to white."""

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.scale) or not self.mean:
            raise SettingsError("a normalization needs one mean and one scale for each channel")
        if not (np.isfinite([*self.mean, *self.scale]).all() and min(self.scale) > 0):
            raise SettingsError(
                f"a normalization needs finite means and positive scales, not {self.mean}, {self.scale}"
            )

    def encode(self, images: NDArray[Any]) -> Samples:
        """Numbers (n, ..., channels) to the network's units (n, channels, ...), float32; missing ones (nan) to 0.

        Raises DataError where the channels are not those of the normalization.
        """
        if images.shape[-1] != len(self.mean):
            raise DataError(
                f"the data have {images.shape[-1]} channels, their normalization {len(self.mean)}"
            )
        x = (np.asarray(images, dtype=np.float64) - np.array(self.mean)) / np.array(self.scale)
        x[np.isnan(x)] = 0  # the mean: a mask says that it means nothing
        return torch.from_numpy(x.astype(np.float32)).movedim(-1, 1)

    def decode(self, x: Samples) -> NDArray[np.float64]:
        """Back in the data's own units, float64; nan stays nan."""
        values = channels_last(x.detach().cpu().double())
        decoded: NDArray[np.float64] = values * np.array(self.scale) + np.array(self.mean)
        return decoded

    def outside(self, x: Samples) -> float:
        """Share of values that a picture cannot show; arrays keep them. Missing values (nan) do not count."""
        return float((x.abs() > self.shown).sum() / (~x.isnan()).sum().clamp(min=1))

    def to_bytes(self, x: Samples) -> NDArray[np.uint8]:
        """For the eye: -shown is black, +shown is white; beyond is clamped; missing ones (nan) are middle grey.

        (n, ..., channels).
        """
        there = x.detach().float().nan_to_num(0, torch.inf, -torch.inf)
        grey = (there / self.shown + 1).mul_(127.5).round_().clamp_(0, 255)
        array: NDArray[np.uint8] = channels_last(grey.to(torch.uint8))
        return array

    def to_state(self) -> dict[str, Any]:
        return {"kind": "real", "mean": list(self.mean), "scale": list(self.scale), "shown": self.shown}


Units: TypeAlias = Levels | Real


def units_from_state(state: dict[str, Any]) -> Units:
    """The inverse of `to_state`, for what a run has stored."""
    if state["kind"] == "levels":
        return Levels(int(state["levels"]))
    return Real(tuple(map(float, state["mean"])), tuple(map(float, state["scale"])), float(state["shown"]))


def scale_and_mean(units: Units) -> tuple[float | Tensor, float | Tensor]:
    """(scale, mean) with data = scale x + mean, x in the network's units: numbers, or one for each channel, float64."""
    if isinstance(units, Levels):
        half = (units.levels - 1) / 2
        return half, half
    return torch.tensor(units.scale, dtype=torch.float64), torch.tensor(units.mean, dtype=torch.float64)


def of_channel(units: Units, channel: int) -> Units:
    """The units of one channel by itself."""
    if isinstance(units, Levels):
        return units
    return Real((units.mean[channel],), (units.scale[channel],), units.shown)


def real_from_range(low: float, high: float, channels: int) -> Real:
    """The normalization that maps [low, high] onto [-1, 1]."""
    if not low < high:
        raise SettingsError(f"a data range goes from low to high, not {low} to {high}")
    return Real(((low + high) / 2,) * channels, ((high - low) / 2,) * channels)


def real_fitted(images: NDArray[Any], moments: Moments | None = None) -> Real:
    """The normalization to mean 0 and deviation 1 of each channel of these images, none of which is constant.

    moments: of the images, where they are known.
    """
    found = moments or moments_of(images)
    if not found.is_finite:
        raise DataError("the data hold values that are not finite, or too large to be squared")
    return Real(found.mean, found.deviation, shown=2.5)


def channels_last(x: Tensor) -> Any:
    """(n, channels, ...) as an array (n, ..., channels) in memory of that order."""
    return np.ascontiguousarray(x.detach().cpu().movedim(1, -1).numpy())
