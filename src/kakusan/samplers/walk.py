"""The trajectory from noise to sample that every sampler shares."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.model import as_model
from kakusan.diffusion.paths import Path
from kakusan.errors import SettingsError
from kakusan.randomness import Purpose, normals
from kakusan.samplers.base import AnyModel, Sampler, State
from kakusan.shapes import Condition, Samples, times_like

SEVERAL = 24
"""Bits of an ordinal that count the steps; those above count the draws within a step."""


@runtime_checkable
class NoiseSource(Protocol):
    """The noise of a trajectory: a function of the ordinals of step and draw, never of t."""

    def start(self) -> Samples:
        """Standard normal noise: with it the chain in Eq. (4) begins, x_T in the scale of the path."""

    def draw(self, step: int, k: int = 0) -> Samples:
        """The k-th fresh noise of a step."""


@dataclass(frozen=True)
class SeededNoise:
    """The noise of samples `indices` of a seed, each of this shape: the same whatever the batch they are drawn in."""

    seed: int
    indices: torch.Tensor
    shape: tuple[int, ...]

    def start(self) -> Samples:
        return normals(self.seed, Purpose.X_T, 0, self.indices, self.shape)

    def draw(self, step: int, k: int = 0) -> Samples:
        return normals(self.seed, Purpose.WALK, step | k << SEVERAL, self.indices, self.shape)


@dataclass(frozen=True)
class Snapshot:
    """x_t and, but for the first, the prediction of x_0 that led there, at one step of a trajectory."""

    t: float | int
    x: Samples
    x_0: Samples | None = None


def visited(sampler: Sampler, path: Path, t: float | int | None = None) -> tuple[float | int, ...]:
    """The times of a trajectory: the sampler's own or, from t on, t and those of the sampler's that lie below it.

    Raises SettingsError where t is not from 1 to T.
    """
    times = sampler.times(path)
    if t is None:
        return times
    if not 1 <= t <= path.T:
        raise SettingsError(f"a walk starts at a time from 1 to T = {path.T}, not at {t}")
    return (t, *(s for s in times if s < t))


@torch.no_grad()
def walk(
    sampler: Sampler,
    model: AnyModel | Denoiser,
    noises: NoiseSource,
    condition: Condition | None = None,
    *,
    start: Snapshot | None = None,
) -> Iterator[Snapshot]:
    """From x_T ~ N(0, I) down to x_0, one p_theta step after the other; each is yielded. Eq. (4).

    With `Ancestral` this is Algorithm 2; other samplers put a step of their own in the place of p_theta's.
    model: or a denoiser, with the usual variance and unclipped. start: begin there, with x_t at some t <= T: samples
    that noise was added to, or a snapshot of another trajectory.
    The caller decides what a snapshot is for: a progress bar, a film strip, a web page or nothing.
    """
    model = as_model(model)
    times = visited(sampler, model.path, None if start is None else start.t)
    state = State(model.path.x_T(noises.start()) if start is None else start.x, condition=condition)
    yield Snapshot(times[0], state.x)
    for ordinal, (t, s) in enumerate(pairwise(times)):
        at, to = times_like(t, state.x), times_like(s, state.x)
        state = sampler.step(model, state, at, to, partial(noises.draw, ordinal))
        yield Snapshot(s, state.x, state.x_0)
