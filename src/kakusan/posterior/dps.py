"""Diffusion posterior sampling (Chung et al. 2023): ancestral steps, each pushed along the slope of the misfit.

    x_s <- x_s - step_size grad_{x_t} |y - A(x_0_hat)|

in the units of the network, on the variance-preserving twin of the path. For comparison: the size of the push is tuned
by hand, and the spread is what comes of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import torch

from kakusan.diffusion.paths import Path
from kakusan.diffusion.prediction import Prediction
from kakusan.errors import SettingsError
from kakusan.posterior.base import Method, beginning, start_of
from kakusan.posterior.measurement import Measurement
from kakusan.samplers import DDIM, Sampler
from kakusan.samplers.base import AnyModel, State
from kakusan.samplers.walk import NoiseSource, Snapshot, visited
from kakusan.shapes import Condition, Samples, Times, by_row, times_like


@dataclass(frozen=True, kw_only=True)
class DPS(Method):
    """Known everywhere, hence a yardstick: a step at each of the T times, any differentiable operator, no error bars.

    sampler: ancestral, or another one of single steps. step_size: zeta' in the paper, where 0.3 to 1 are used.
    """

    sampler: Sampler = field(default_factory=lambda: DDIM(steps=None, eta=1.0))
    step_size: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.step_size < float("inf"):
            raise SettingsError(f"a step size is above 0, not {self.step_size}")

    def steps_of(self, path: Path) -> int:
        return len(visited(self.sampler, path, beginning(path))) - 1

    @torch.no_grad()
    def trajectory(
        self,
        model: AnyModel,
        measurement: Measurement,
        noises: NoiseSource,
        condition: Condition | None = None,
    ) -> Iterator[Snapshot]:
        start = start_of(model.path, noises) or Snapshot(model.path.T, model.path.x_T(noises.start()))
        state = State(start.x, condition=condition)
        yield start
        for ordinal, (t, s) in enumerate(pairwise(visited(self.sampler, model.path, start.t))):
            state = self._step(model, measurement, state, (t, s), partial(noises.draw, ordinal))
            yield Snapshot(s, state.x, state.x_0)

    def _step(
        self,
        model: AnyModel,
        measurement: Measurement,
        state: State,
        times: tuple[float, float],
        noise: partial[Samples],
    ) -> State:
        t, s = (times_like(each, state.x) for each in times)
        with torch.enable_grad():
            x = state.x.detach().requires_grad_()
            ahead = self.sampler.step(model, State(x, state.condition), t, s, noise)
            assert ahead.x_0 is not None
            misfit = measurement.residual(ahead.x_0) / _unit(measurement)
            length = by_row(misfit).norm(dim=1)
            (slope,) = torch.autograd.grad(length.sum(), x)
        push = self.step_size * _on_scales(model.path, t, s) * slope
        guess = Prediction(ahead.x_0.detach(), ahead.guesses[-1].eps.detach())
        return State(ahead.x.detach() - push, state.condition, (guess,), (t,))


def _on_scales(path: Path, t: Times, s: Times) -> float:
    """What a push on the variance-preserving twin is in the scale of the path, for a slope in the scale of x_t."""
    return float(path.scale_at(t)[0] * path.scale_at(s)[0])


def _unit(measurement: Measurement) -> float:
    """Of the data in a unit of the network: the step size is meant for these."""
    return float(torch.as_tensor(measurement.scale, dtype=torch.float64).mean())
