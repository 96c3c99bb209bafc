"""The interface of methods: a frozen value that goes from noise to samples of x given y.

A method of one kind, `Guiding`, turns a denoiser into one that knows y, the mean of x_0 given x_t and y; any sampler
walks with it. All others have a trajectory of their own.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.paths import Path
from kakusan.posterior.measurement import Measurement
from kakusan.samplers.base import AnyModel, Sampler
from kakusan.samplers.walk import NoiseSource, Snapshot, visited, walk
from kakusan.shapes import Condition, times_like

LARGEST_SIGMA = 80.0
"""b / a at which a trajectory begins, where the path ends in more noise: beyond, x_t says nothing of x_0 that a
derivative could tell (as EDM, Karras et al. 2022)."""


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A method to draw x given y. One of your own defines `trajectory`."""

    for_linear: ClassVar[bool] = False
    """It needs a linear operator."""
    is_coupled: ClassVar[bool] = False
    """A sample depends on its neighbours in the batch: the same sample takes the same batch."""

    @abstractmethod
    def steps_of(self, path: Path) -> int:
        """Snapshots that follow the first one of a trajectory."""

    @abstractmethod
    def trajectory(
        self,
        model: AnyModel,
        measurement: Measurement,
        noises: NoiseSource,
        condition: Condition | None = None,
    ) -> Iterator[Snapshot]:
        """From noise to samples, one for each row of the measurement; the last snapshot, at t = 0, holds them."""


@dataclass(frozen=True, kw_only=True)
class Guiding(Method):
    """A method that is a denoiser: its prediction is the mean of x_0 given x_t and y, and `sampler` walks with it."""

    sampler: Sampler

    @abstractmethod
    def denoiser(self, of: Denoiser, measurement: Measurement) -> Denoiser:
        """The denoiser that knows y."""

    def steps_of(self, path: Path) -> int:
        return len(visited(self.sampler, path, beginning(path))) - 1

    def trajectory(
        self,
        model: AnyModel,
        measurement: Measurement,
        noises: NoiseSource,
        condition: Condition | None = None,
    ) -> Iterator[Snapshot]:
        knowing = replace(model, denoiser=self.denoiser(model.denoiser, measurement))
        start = None
        if (t := beginning(model.path)) is not None:
            noise = noises.start()
            a, b = model.path.at(times_like(t, noise))
            start = Snapshot(t, noise * float((a.square() + b.square()).sqrt()[0]))
        yield from walk(self.sampler, knowing, noises, condition, start=start)


def beginning(path: Path) -> float | None:
    """The time of b / a = `LARGEST_SIGMA`; None where T has less noise: a trajectory begins at T."""
    end = torch.tensor([float(path.T)], dtype=torch.float64)
    least = torch.tensor([-math.log(LARGEST_SIGMA)], dtype=torch.float64)
    return None if float(path.half_log_snr(end)) >= float(least) else float(path.time_at(least))
