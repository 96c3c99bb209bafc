"""The walk from noise to image that every sampler shares."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.paths import Path
from kakusan.errors import SettingsError
from kakusan.randomness import Purpose, normals
from kakusan.samplers.base import Sampler, State
from kakusan.shapes import Labels, Samples, times_like


@runtime_checkable
class NoiseSource(Protocol):
    """Where a walk's noise comes from: a function of the ordinal of the draw, never of t."""

    def start(self) -> Samples:
        """Standard normal noise: with it the chain in Eq. (4) begins, x_T in the scale of the path."""

    def draw(self, ordinal: int) -> Samples:
        """The fresh noise of a step."""


@dataclass(frozen=True)
class SeededNoise:
    """The noise of images `indices` of a seed, each of this shape: the same whatever the batch they are drawn in."""

    seed: int
    indices: torch.Tensor
    shape: tuple[int, ...]

    def start(self) -> Samples:
        return normals(self.seed, Purpose.X_T, 0, self.indices, self.shape)

    def draw(self, ordinal: int) -> Samples:
        return normals(self.seed, Purpose.WALK, ordinal, self.indices, self.shape)


@dataclass(frozen=True)
class Still:
    """One moment of a walk: the images at time t and, but for the first, the guess of x_0 that led there."""

    t: int
    x: Samples
    x_0: Samples | None = None


def visited(sampler: Sampler, schedule: Path, t: int | None = None) -> tuple[int, ...]:
    """The times of a walk: the sampler's own or, from t on, t and those of the sampler's that lie below it.

    Raises SettingsError where t is not one of 1..T.
    """
    times = sampler.times(schedule)
    if t is None:
        return times
    if not 1 <= t <= schedule.T:
        raise SettingsError(f"a walk starts at a time from 1 to T = {schedule.T}, not at {t}")
    return (t, *(s for s in times if s < t))


@torch.no_grad()
def walk(
    sampler: Sampler,
    denoiser: Denoiser,
    noises: NoiseSource,
    condition: Labels | None = None,
    *,
    start: Still | None = None,
) -> Iterator[Still]:
    """From x_T ~ N(0, I) down to x_0, one p_theta step after the other; each is shown. Eq. (4).

    With `Ancestral` this is Algorithm 2; other samplers put a step of their own in the place of p_theta's.
    start: begin there, with x_t at some t <= T: images that noise was added to, or a still of another walk.
    The caller decides what a still is for: a progress bar, a film strip, a web page or nothing.
    """
    times = visited(sampler, denoiser.schedule, None if start is None else start.t)
    state = State(denoiser.schedule.x_T(noises.start()) if start is None else start.x, condition=condition)
    yield Still(times[0], state.x)
    for ordinal, (t, s) in enumerate(pairwise(times)):
        noise = noises.draw(ordinal) if sampler.stochastic else torch.zeros(()).to(state.x).expand_as(state.x)
        state = sampler.step(denoiser, state, times_like(t, state.x), times_like(s, state.x), noise)
        yield Still(s, state.x, state.x_0)
