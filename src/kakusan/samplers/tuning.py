"""Tuned times: where the steps of a few-step walk lie best for one model, by its own endpoints.

From the same noise, a walk in few steps should end where a fine one ends (LD3: Tong et al. 2025). Its times are moved
until the endpoints differ least. There, gradients are passed through whole walks; here it is a problem of least squares
with hardly more unknowns than steps, which the Levenberg-Marquardt method solves by walks alone: whatever can be
sampled can be tuned, and no activations are kept.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from kakusan.diffusion.paths import Path
from kakusan.errors import NumbersError, SettingsError
from kakusan.samplers.adams_bashforth import AdamsBashforth
from kakusan.samplers.base import AnyModel, Sampler
from kakusan.samplers.walk import NoiseSource, walk
from kakusan.shapes import Condition, Samples, with_gaps

FINE = 100
"""Steps of the walk whose endpoints are aimed at."""
NUDGE = 0.1
"""Relative change of a gap for a difference quotient: less than bends the walk."""
ROOM = 20
"""Whole times for each step, at least, that let times be whole on the way: a nudge moves them by 2 then."""
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
    batches: Sequence[tuple[NoiseSource, Condition | None]]
    """The noise of each batch, and what its samples are given."""

    def __call__(self, sampler: Sampler) -> Tensor:
        """x_0 of the walks, all values in a row, float64 on the CPU; 0 where a mask says that nothing is there.

        Raises SettingsError for samplers that draw noise of their own: each walk of theirs ends elsewhere.
        """
        return torch.cat([self._of(sampler, *batch).flatten() for batch in self.batches])

    def _of(self, sampler: Sampler, noises: NoiseSource, condition: Condition | None) -> Tensor:
        for still in walk(sampler, self.model, _StartAlone(noises), condition):
            x = still.x
        x = with_gaps(x, None if condition is None else condition.mask).nan_to_num(0)
        return x.cpu().double()

    @property
    def fine(self) -> Tensor:
        """Where the probability flow leads, as nearly as `FINE` steps of order 3 get there."""
        return self(fine(self.model.path))


@dataclass(frozen=True)
class _StartAlone:
    """The noise that a walk starts from, and none on its way."""

    noises: NoiseSource

    def start(self) -> Samples:
        return self.noises.start()

    def draw(self, step: int, k: int = 0) -> Samples:  # noqa: ARG002
        raise SettingsError(
            "a sampler that draws noise on its way ends elsewhere each time: its times cannot be tuned",
            "such as unipc, dpmpp-2m, ipndm or ddim can",
        )


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
    path = endpoints.model.path
    times = sampler.times(path)
    gaps = Gaps.of(times, whole=len(times) * ROOM <= path.T)
    target = endpoints.fine

    def off(at: tuple[float | int, ...]) -> Tensor:
        return endpoints(replace(sampler, steps=None, spacing=None, at=at)) - target

    search = LeastSquares(lambda logs: off(gaps.times(logs)), gaps.logs, most_walks(len(times) - 1), progress)
    before = search.error
    if not math.isfinite(before):
        raise NumbersError(
            "the walks of this model end at numbers that are not finite: there is nothing to tune"
        )
    search.run()
    best = Tuned(gaps.times(search.at), search.error**0.5, before**0.5)
    rounded = tuple(map(round, best.at))
    if gaps.whole or not falls(rounded):
        return best
    error = float(off(rounded).square().mean()) ** 0.5
    return Tuned(rounded, error, best.before) if error <= best.error else best


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


def falls(times: Sequence[float | int]) -> bool:
    """Whether each is below the one before, and the last above 0."""
    return all(s < t for t, s in pairwise((*times, 0)))


@dataclass(frozen=True)
class Gaps:
    """Falling times as their gaps, the one before t = 0 among them, which share what lies below the first time.

    The unknowns are the logarithms of gaps relative to the last: whatever these are, times fall and lie above 0.
    """

    first: float | int
    logs: Tensor
    whole: bool
    """Times are rounded, since networks are trained at whole ones and worse between them; where there is room."""

    @classmethod
    def of(cls, times: tuple[float | int, ...], *, whole: bool) -> "Gaps":
        """Of the times of a walk, which end with 0."""
        gaps = -torch.tensor(times, dtype=torch.float64).diff()
        return cls(times[0], (gaps[:-1] / gaps[-1]).log(), whole)

    def times(self, logs: Tensor) -> tuple[float | int, ...]:
        """Times with these gaps, without the 0 at their end; two in the same place are not made whole."""
        shares = torch.softmax(torch.cat([logs, torch.zeros(1, dtype=torch.float64)]), 0)
        left = shares.flip(0).cumsum(0).flip(0)[1:]  # summed from 0 up: small times keep their digits
        later = (self.first * left).tolist()
        whole = (self.first, *map(round, later))
        return whole if self.whole and falls(whole) else (self.first, *later)
