"""Decoupled annealing (Zhang et al. 2025): a guess of x_0, a draw near it that fits y, noise of the next level on it.

    x_0_hat by a short walk of the probability flow from x_t
    x_0 ~ p(y | x_0) N(x_0; x_0_hat, r_t^2 I), r_t = b / a: exact for linear A and Gaussian noise, else Langevin's walk
    x_s = a_s x_0 + b_s z

Levels do not follow each other's paths, so that a bad beginning is left behind: what operators that are not linear
need.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch

from kakusan.diffusion.paths import Path
from kakusan.errors import SettingsError
from kakusan.posterior.base import Method, noise_levels, sigma_of
from kakusan.posterior.measurement import Measurement
from kakusan.posterior.proximal import checked_walk, drawn
from kakusan.samplers import DDIM
from kakusan.samplers.base import AnyModel, State
from kakusan.samplers.walk import NoiseSource, Snapshot
from kakusan.shapes import Condition, Samples, scaled, times_like


@dataclass(frozen=True, kw_only=True)
class DAPS(Method):
    """For operators that are not linear, as phase retrieval; its spread is that of a heuristic.

    levels: of noise. flow_steps: calls of the network in each. walk_steps: of Langevin's walk in each.
    """

    levels: int = 50
    flow_steps: int = 4
    walk_steps: int = 60

    def __post_init__(self) -> None:
        checked_walk(self.walk_steps)
        if self.levels < 1 or self.flow_steps < 1:
            raise SettingsError(
                f"there is at least 1 level of 1 step, not {self.levels} of {self.flow_steps}"
            )

    def steps_of(self, path: Path) -> int:  # noqa: ARG002
        return self.levels

    @torch.no_grad()
    def trajectory(
        self,
        model: AnyModel,
        measurement: Measurement,
        noises: NoiseSource,
        condition: Condition | None = None,
    ) -> Iterator[Snapshot]:
        times = [*noise_levels(model.path, self.levels), 0.0]
        noise = noises.start()
        x = scaled(model.path.scale_at(times_like(times[0], noise)), noise)
        yield Snapshot(times[0], x)
        for level, (t, s) in enumerate(pairwise(times)):
            guess = self._flow(model, x, t, condition)
            x_0 = drawn(guess, sigma_of(model.path, t), measurement, noises, 2 * level, self.walk_steps)
            a_s, b_s = model.path.at(times_like(s, x))
            x = scaled(a_s, x_0) + scaled(b_s, noises.draw(2 * level + 1)) if s else x_0
            yield Snapshot(s, x, x_0)

    def _flow(self, model: AnyModel, x: Samples, t: float, condition: Condition | None) -> Samples:
        """x_0 of the probability flow through x_t."""
        times = [*noise_levels(model.path, self.flow_steps, sigma_of(model.path, t)), 0.0]
        state, sampler = State(x, condition=condition), DDIM(eta=0.0)
        for here, there in pairwise([t, *times[1:]]):
            if here > there:
                state = sampler.step(model, state, times_like(here, x), times_like(there, x), lambda _=0: x)
        return state.x
