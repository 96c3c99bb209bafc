"""Tuned times: where the steps of a few-step walk lie best for one model, by its own endpoints.

From the same noise, a walk in few steps should end where a fine one ends (LD3: Tong et al. 2025). Its times are moved
until the endpoints differ least. There, gradients are passed through whole walks; here it is a problem of least squares
with hardly more unknowns than steps, which the Levenberg-Marquardt method solves by walks alone: whatever can be
sampled can be tuned, and no activations are kept.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from kakusan.diffusion.paths import Path
from kakusan.samplers.adams_bashforth import AdamsBashforth
from kakusan.samplers.base import AnyModel, Sampler
from kakusan.samplers.walk import NoiseSource, walk
from kakusan.shapes import Condition

FINE = 100
"""Steps of the walk whose endpoints are aimed at."""
NUDGE = 0.1
"""Relative change of a gap for a difference quotient: more than whole times hide, less than bends the walk."""
TRIES = 5
"""Moves that are tried with one derivative, each more damped."""
FARTHEST = 1.0
"""Most that the logarithm of a gap changes in one move."""
ENOUGH = 0.003
"""Relative fall of the mean square below which the tuning ends."""

Progress = Callable[[int, str], None]
"""Called with the walks that are done, and the error so far."""


@dataclass(frozen=True)
class Tuned:
    """Times of a walk, and how far its endpoints lie from those of the fine one."""

    at: tuple[float | int, ...]
    error: float
    """Root mean square over all values, in the network's units."""
    before: float
    """The same at the times that the tuning began with."""


@dataclass(frozen=True)
class Endpoints:
    """A function from samplers to the samples that they make of one batch of noise."""

    model: AnyModel
    noises: NoiseSource
    condition: Condition | None = None

    def __call__(self, sampler: Sampler) -> Tensor:
        """x_0 of the walk, all values in a row, float64."""
        for still in walk(sampler, self.model, self.noises, self.condition):
            x = still.x
        return x.flatten().double()

    @property
    def fine(self) -> Tensor:
        """Where the probability flow leads, as nearly as `FINE` steps of order 3 get there."""
        return self(fine(self.model.path))


def fine(path: Path) -> Sampler:
    """The walk that is taken for exact."""
    return AdamsBashforth(steps=min(FINE, path.T), order=3)


def most_walks(steps: int) -> int:
    """Walks of a tuning, at most."""
    return 4 * steps + 20


def tune(sampler: Sampler, endpoints: Endpoints, progress: Progress = lambda _, __: None) -> Tuned:
    """Times, as many as the sampler has, at which its endpoints are nearest to those of a fine walk.

    The first stays. Deterministic in the model and the noise. A walk of one step has nothing to tune.
    """
    gaps = Gaps.of(sampler.times(endpoints.model.path))
    target = endpoints.fine

    def off(logs: Tensor) -> Tensor:
        at = gaps.times(logs)
        return endpoints(replace(sampler, steps=None, spacing=None, at=at)) - target

    search = LeastSquares(off, gaps.logs, most_walks(len(gaps.logs) + 1), progress)
    before = search.error
    search.run()
    return Tuned(gaps.times(search.at), search.error**0.5, before**0.5)


class LeastSquares:
    """Minimizes the mean square of a vector of few unknowns (Levenberg 1944; Marquardt 1963).

    Each value is a walk, so the derivative is taken by differences once, then kept up to date by what each move shows
    (Broyden 1965), and taken anew where no move helps.
    """

    def __init__(
        self,
        off: Callable[[Tensor], Tensor],
        start: Tensor,
        most: int,
        progress: Progress = lambda _, __: None,
    ) -> None:
        self._off, self._most, self._progress = off, most, progress
        self._calls, self._damping = 0, 0.01
        self.at, self.here = start, self._value(start)

    @property
    def error(self) -> float:
        """The mean square here."""
        return float(self.here.square().mean())

    def run(self) -> None:
        """Move until moves hardly help, or the calls are used up."""
        while self._calls + len(self.at) < self._most and len(self.at):
            begun, slopes = self.error, self._slopes()
            while self._calls < self._most and (moved := self._move(slopes)) is not None:
                slopes = moved
            if self.error > begun * (1 - ENOUGH):
                return

    def _value(self, at: Tensor) -> Tensor:
        value = self._off(at)
        self._calls += 1
        error = self.error if self._calls > 1 else float(value.square().mean())
        self._progress(self._calls, f"error {error**0.5:.3g}")
        return value

    def _slopes(self) -> Tensor:
        """The derivative by differences, (values, unknowns)."""
        nudges = torch.eye(len(self.at), dtype=torch.float64) * NUDGE
        return torch.stack([(self._value(self.at + nudge) - self.here) / NUDGE for nudge in nudges], 1)

    def _move(self, slopes: Tensor) -> Tensor | None:
        """Move downhill, with more damping after a try in vain; the derivative after it, or None where none helps."""
        normal, pull = slopes.T @ slopes, slopes.T @ self.here
        for _ in range(TRIES):
            damped = normal + self._damping * torch.diag(normal.diagonal().clamp(min=1e-12))
            move = torch.linalg.solve(damped, -pull).clamp(-FARTHEST, FARTHEST)
            there = self._value(self.at + move)
            if float(there.square().mean()) < self.error * (1 - ENOUGH):
                change = (there - self.here - slopes @ move) / move.square().sum()
                self.at, self.here, self._damping = self.at + move, there, self._damping / 5
                return slopes + torch.outer(change, move)
            self._damping *= 8
        return None


@dataclass(frozen=True)
class Gaps:
    """Falling times as their gaps, the one before t = 0 among them, which share what lies below the first time.

    The unknowns are the logarithms of gaps relative to the last: whatever these are, times fall and lie above 0. They
    are whole where there is room, since networks are trained at whole times: between these, predictions are worse.
    """

    first: float | int
    logs: Tensor

    @classmethod
    def of(cls, times: tuple[float | int, ...]) -> "Gaps":
        """Of the times of a walk, which end with 0."""
        gaps = -torch.tensor(times, dtype=torch.float64).diff()
        return cls(times[0], (gaps[:-1] / gaps[-1]).log())

    def times(self, logs: Tensor) -> tuple[float | int, ...]:
        """Times with these gaps, without the 0 at their end; two in the same place are not made whole."""
        shares = torch.softmax(torch.cat([logs, torch.zeros(1, dtype=torch.float64)]), 0)
        left = shares.flip(0).cumsum(0).flip(0)[1:]  # summed from 0 up: small times keep their digits
        later = (self.first * left).tolist()
        whole = (self.first, *map(round, later))
        return whole if all(s < t for t, s in pairwise((*whole, 0))) else (self.first, *later)
