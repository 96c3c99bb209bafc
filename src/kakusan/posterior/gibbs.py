"""Split Gibbs sampling (Vono et al. 2019) with a diffusion prior: DPnP (Xu & Chi 2024), PnP-DM (Wu et al. 2024).

x and a copy z of it, tied by a spring of deviation eta, are drawn in turns:

    x given z and y ~ p(y | x) N(x; z, eta^2 I)     the likelihood step: exact for linear A and Gaussian noise
    z given x       ~ p(z) N(z; x, eta^2 I)         the prior step: the reverse process from b / a = eta on

eta falls from wide to narrow. z has the law p(z) N(y; A z, Sigma_y + eta^2 A A^T), the posterior as eta goes to 0.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch

from kakusan.diffusion.paths import Path
from kakusan.errors import SettingsError
from kakusan.posterior.base import Method, noise_levels, smallest_sigma
from kakusan.posterior.measurement import Measurement
from kakusan.posterior.proximal import checked_walk, drawn
from kakusan.samplers import DDIM
from kakusan.samplers.base import AnyModel, State
from kakusan.samplers.walk import NoiseSource, Snapshot
from kakusan.shapes import Condition, Samples, scaled, times_like

SPAN = 30.0
"""Of a prior step: from b / a = eta to eta / SPAN, beyond which the mean is as good as a draw."""


@dataclass(frozen=True, kw_only=True)
class Gibbs(Method):
    """Error bars that hold, for many calls and no derivative of the network; any operator, any noise.

    iterations: turns, while eta falls from `widest` to `narrowest` over the first `falling` of them. prior_steps: calls
    of the network in a turn. walk_steps: of Langevin's walk, where A is not linear or the noise not Gaussian.
    Deviations are in the network's units, in which data are about 1.
    """

    iterations: int = 100
    prior_steps: int = 8
    widest: float = 10.0
    narrowest: float = 0.03
    falling: float = 0.8
    walk_steps: int = 30

    def __post_init__(self) -> None:
        checked_walk(self.walk_steps)
        if self.iterations < 1 or self.prior_steps < 1:
            raise SettingsError(
                f"there is at least 1 turn of 1 step, not {self.iterations} of {self.prior_steps}"
            )
        if not (0 < self.narrowest <= self.widest and 0 <= self.falling <= 1):
            raise SettingsError(
                "deviations are 0 < narrowest <= widest, and they fall over a share of 0 to 1"
            )

    def steps_of(self, path: Path) -> int:  # noqa: ARG002
        return self.iterations

    def springs(self, path: Path) -> list[float]:
        """eta of each turn."""
        floor = max(self.narrowest, 2 * smallest_sigma(path))
        falling = round(self.iterations * self.falling)
        widest = max(self.widest, floor)
        shares = [min(1.0, k / max(falling - 1, 1)) for k in range(self.iterations)]
        return [widest * (floor / widest) ** share for share in shares]

    @torch.no_grad()
    def trajectory(
        self,
        model: AnyModel,
        measurement: Measurement,
        noises: NoiseSource,
        condition: Condition | None = None,
    ) -> Iterator[Snapshot]:
        z = noises.start()
        yield Snapshot(model.path.T, z)
        stride = self.prior_steps + 1
        for turn, eta in enumerate(self.springs(model.path)):
            x = drawn(z, eta, measurement, noises, turn * stride, self.walk_steps)
            z = self._prior_step(model, x, eta, noises, turn * stride + 1, condition)
            yield Snapshot(0, z, z)

    def _prior_step(
        self,
        model: AnyModel,
        x: Samples,
        eta: float,
        noises: NoiseSource,
        ordinal: int,
        condition: Condition | None,
    ) -> Samples:
        times = [*noise_levels(model.path, self.prior_steps, eta, eta / SPAN), 0.0]
        a, _ = model.path.at(times_like(times[0], x))
        state, sampler = State(scaled(a, x), condition=condition), DDIM(eta=1.0)
        for k, (t, s) in enumerate(pairwise(times)):
            at, to = times_like(t, x), times_like(s, x)
            state = sampler.step(model, state, at, to, partial(noises.draw, ordinal + k))
        return state.x
