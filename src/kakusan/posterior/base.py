"""The interface of methods: a frozen value that goes from noise to samples of x given y.

A method of one kind, `Guiding`, turns a denoiser into one that knows y, the mean of x_0 given x_t and y; any sampler
walks with it. All others have a trajectory of their own.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.paths import Path
from kakusan.posterior.measurement import Measurement
from kakusan.samplers.base import AnyModel, Sampler
from kakusan.samplers.walk import NoiseSource, Snapshot, visited, walk
from kakusan.shapes import Condition, Samples, times_like

LARGEST_SIGMA = 80.0
"""b / a at which a trajectory begins, where the path ends in more noise: beyond, x_t says nothing of x_0 that a
derivative could tell (as EDM, Karras et al. 2022)."""
RHO = 7.0
"""Of `falling_roots`: their seventh roots are even (Karras et al. 2022, Eq. 5)."""


@dataclass(frozen=True)
class Weighed(Snapshot):
    """A snapshot of a particle filter."""

    effective: Tensor | None = None
    """Of each sample: the smallest effective number of particles so far, from 1 to all of them."""


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A method to draw x given y. One of your own defines `trajectory`."""

    def rows_of_a_sample(self, measurement: Measurement) -> int:  # noqa: ARG002
        """Rows of the network's batch that one sample takes: its particles."""
        return 1

    def doubts(self, measurement: Measurement, path: Path) -> tuple[str, ...]:  # noqa: ARG002
        """Sentences on why samples may be wrong, before any is drawn."""
        return ()

    @abstractmethod
    def steps_of(self, path: Path) -> int:
        """Snapshots that follow the first one of a trajectory, without that of a last choice among particles."""

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
        return len(visited(self.walking(path), path, beginning(path))) - 1

    def walking(self, path: Path) -> Sampler:
        """The sampler, at times that suit y: where it names none, even in log(a / b) down to the least noise there is.

        A spread that is narrower than the noise at the last time is lost where the last step goes to a mean.
        """
        sampler = self.sampler
        if sampler.at is not None or sampler.spacing is not None or sampler.steps is None:
            return sampler
        return replace(sampler, steps=None, at=tuple(even_levels(path, min(sampler.steps, path.T))))

    def trajectory(
        self,
        model: AnyModel,
        measurement: Measurement,
        noises: NoiseSource,
        condition: Condition | None = None,
    ) -> Iterator[Snapshot]:
        knowing = replace(model, denoiser=self.denoiser(model.denoiser, measurement))
        yield from walk(
            self.walking(model.path), knowing, noises, condition, start=start_of(model.path, noises)
        )


def start_of(path: Path, noises: NoiseSource) -> Snapshot | None:
    """The noise that a trajectory begins with below T; None: it begins at T."""
    if (t := beginning(path)) is None:
        return None
    noise = noises.start()
    return Snapshot(t, noise * float(path.scale_at(times_like(t, noise))[0]))


def beginning(path: Path) -> float | None:
    """The time of b / a = `LARGEST_SIGMA`; None where T has less noise: a trajectory begins at T."""
    least = -math.log(LARGEST_SIGMA)
    return None if _level(path, path.T) >= least else time_of(path, LARGEST_SIGMA)


def smallest_sigma(path: Path) -> float:
    """b / a at t = 1, the least noise that a network has seen."""
    return math.exp(-_level(path, 1))


def noise_levels(path: Path, steps: int, high: float = LARGEST_SIGMA, low: float = 0.0) -> list[float]:
    """So many times, falling: at b / a from `high`, or that of T, to `low`, or that of t = 1. Without t = 0.

    They suit methods that need accuracy at small noise too; a single one is that of `high`.
    """
    high, low = min(high, math.exp(-_level(path, path.T))), max(low, smallest_sigma(path))
    times = [time_of(path, sigma) for sigma in falling_roots(high, min(low, high), steps)]
    return list(dict.fromkeys(times))  # one alone, where T is 1


def even_levels(path: Path, steps: int) -> list[float]:
    """So many times, falling: even in log(a / b), from b / a = `LARGEST_SIGMA`, or that of T, to that of t = 1."""
    high = -math.log(min(LARGEST_SIGMA, math.exp(-_level(path, path.T))))
    levels = torch.linspace(high, _level(path, 1), steps, dtype=torch.float64)
    times: list[float] = path.time_at(levels.clamp(_level(path, path.T), _level(path, 1))).tolist()
    return times


def falling_roots(high: float, low: float, count: int) -> list[float]:
    """So many numbers from high to low whose seventh roots are even; a single one is high."""
    roots = torch.linspace(high ** (1 / RHO), low ** (1 / RHO), count, dtype=torch.float64)
    numbers: list[float] = roots.pow(RHO).clamp(low, high).tolist()
    return numbers


def sigma_of(path: Path, t: float | int) -> float:
    """b / a at a time above 0."""
    return math.exp(-_level(path, t))


def _level(path: Path, t: float | int) -> float:
    return float(path.half_log_snr(torch.tensor([float(t)], dtype=torch.float64)))


def time_of(path: Path, sigma: float) -> float:
    """The time of a b / a, from 1 to T."""
    level = torch.tensor([-math.log(sigma)], dtype=torch.float64)
    return float(path.time_at(level.clamp(_level(path, path.T), _level(path, 1))))


def draws_of(noises: NoiseSource, step: int, count: int) -> Samples:
    """So many fresh draws of a step for each sample, (batch, count, channels, *space)."""
    draws = [
        noises.draw(step * -(-count // MOST_DRAWS) + k // MOST_DRAWS, k % MOST_DRAWS) for k in range(count)
    ]
    return torch.stack(draws, dim=1)


MOST_DRAWS = 128
"""Draws of one step: a word of randomness holds no more."""


def noise_of_y(noises: NoiseSource, step: int, k: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise of the shape of y, (batch, *shape), from draws k, k + 1, ... of a step."""
    found = noises.draw(step, k).flatten(1)
    wanted = math.prod(shape)
    more = range(1, -(-wanted // found.shape[1]))
    whole = torch.cat([found, *(noises.draw(step, k + each).flatten(1) for each in more)], dim=1)
    return whole[:, :wanted].reshape(len(whole), *shape)


def uniform(noise: Samples) -> Tensor:
    """A uniform number for each sample, in (0, 1), float64, of its noise, on the CPU."""
    found: Tensor = torch.special.ndtr(noise.flatten(1)[:, 0].cpu().double())
    return found


def repeated(condition: Condition | None, rows: Tensor) -> Condition | None:
    """The condition of these rows; one for all stays so."""
    return condition if condition is None or len(condition) == 1 else condition.rows(rows)
