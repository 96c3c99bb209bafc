"""Split Gibbs sampling (Vono et al. 2019) with a diffusion prior: DPnP (Xu & Chi 2024), PnP-DM (Wu et al. 2024).

x and a copy z of it, coupled by N(x; z, eta^2 I), are drawn one after the other:

    x given z and y ~ p(y | x) N(x; z, eta^2 I)     the likelihood step: exact for linear A and Gaussian noise
    z given x       ~ p(z) N(z; x, eta^2 I)         the prior step: denoising by the probability flow from x on

eta falls from wide to narrow. z has the law p(z) N(y; A z, Sigma_y + eta^2 A A^T), the posterior as eta goes to 0. The
iterations that it takes to move grow with 1 / eta^2. So where eta is small enough, the noise of y that the likelihood
step sees is Sigma_y - eta^2 A A^T, and the law of z is the posterior itself, whatever eta.

A chain alone keeps the mode in which it was when eta became too small to leave it. So several are annealed together
(Neal 2001, Del Moral et al. 2006): as eta falls to eta', each is weighted with the ratio of its laws, in which p(z)
cancels, N(y; A z, Sigma_y + eta'^2 A A^T) / N(y; A z, Sigma_y + eta^2 A A^T), and they are resampled by these weights.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch

from kakusan.diffusion.paths import Path
from kakusan.errors import SettingsError
from kakusan.posterior.base import Method, Weighed, falling_roots, repeated, smallest_sigma, time_of, uniform
from kakusan.posterior.measurement import Measurement
from kakusan.posterior.particles import ParticleNoise, Weights
from kakusan.posterior.proximal import checked_walk, drawn, drawn_split, is_gaussian, log_tied, stiffness
from kakusan.samplers.base import AnyModel
from kakusan.samplers.walk import NoiseSource, Snapshot
from kakusan.shapes import Condition, Samples, scaled, times_like

FARTHEST, NEAREST = 6.0, 0.1
"""Noise at which a prior step begins and takes its last call, as shares of eta: right to 3 % in variance in 7 calls."""
LEAST, MOST = 0.03, 0.1
"""Of the last eta: where y is nearly exact, one that takes many iterations and biases little; where it is vague, one
whose last call loses no detail of the data, which are about 1."""
TINY = 1e-12
"""Of a stiffness: against a division by 0, where y says nothing."""
SPLIT = 0.5
"""Largest share of the noise of y that the coupling may take over."""


@dataclass(frozen=True, kw_only=True)
class Gibbs(Method):
    """Error bars that hold, for many calls and no derivative of the network; any operator, any noise.

    iterations: of both steps, while eta falls from `widest` to `narrowest` over the first `falling` of them.
    prior_steps: calls of the network in each. particles: chains of each sample, where A is linear and the noise
    Gaussian; else there is one. narrowest: None: where the coupling takes over half of the noise of y, from `LEAST` to
    `MOST`. walk_steps: of Langevin's walk, where A is not linear or the noise not Gaussian.
    Deviations are in the network's units, in which data are about 1.
    """

    iterations: int = 40
    prior_steps: int = 5
    particles: int = 16
    widest: float = 3.0
    narrowest: float | None = None
    falling: float = 0.7
    walk_steps: int = 30

    def __post_init__(self) -> None:
        checked_walk(self.walk_steps)
        if self.particles < 1 or self.iterations < 1 or self.prior_steps < 2:
            raise SettingsError(
                f"there is at least 1 particle, and 1 iteration of 2 calls: not {self.particles}, and"
                f" {self.iterations} of {self.prior_steps}"
            )
        narrowest = self.widest if self.narrowest is None else self.narrowest
        if not (0 < narrowest <= self.widest and 0 <= self.falling <= 1):
            raise SettingsError(
                "deviations are 0 < narrowest <= widest, and they fall over a share of 0 to 1"
            )

    def rows_of_a_sample(self, measurement: Measurement) -> int:
        return self.particles if is_gaussian(measurement) else 1

    def steps_of(self, path: Path) -> int:  # noqa: ARG002
        return self.iterations

    def couplings(self, path: Path, split: float) -> list[float]:
        """eta of each iteration, falling geometrically. split: the largest that the noise of y can take over."""
        wanted = min(max(LEAST, split), MOST) if self.narrowest is None else self.narrowest
        low = max(min(wanted, self.widest), smallest_sigma(path))
        falling = max(round(self.iterations * self.falling) - 1, 1)
        shares = [min(1.0, k / falling) for k in range(self.iterations)] if self.iterations > 1 else [1.0]
        return [self.widest * (low / self.widest) ** share for share in shares]

    @torch.no_grad()
    def trajectory(
        self,
        model: AnyModel,
        measurement: Measurement,
        noises: NoiseSource,
        condition: Condition | None = None,
    ) -> Iterator[Snapshot]:
        n, K = len(measurement), self.rows_of_a_sample(measurement)
        rows = torch.arange(n).repeat_interleave(K)
        each, given, many = measurement.rows(rows), repeated(condition, rows), ParticleNoise(noises, K)
        z = many.start()
        weights = Weights(torch.zeros(n, K, dtype=torch.float64))
        yield Snapshot(model.path.T, z[::K])
        split = (SPLIT / max(stiffness(measurement), TINY)) ** 0.5
        before = None
        for iteration, eta in enumerate(self.couplings(model.path, split)):
            within = eta <= split * (1 + 1e-9)
            more = 0.0 if within else eta
            if before not in (None, more) and K > 1:
                weights.gain((log_tied(z, more, each) - log_tied(z, before, each)).view(n, K).cpu())
                z = z[weights.resampled(uniform(many.draw(3 * iteration + 2)[::K])).to(z.device)]
            x = (
                drawn_split(z, eta, each, many, 3 * iteration)
                if within
                else drawn(z, eta, each, many, 3 * iteration, self.walk_steps)
            )
            z, before = self._prior_step(model, x, eta, many.draw(3 * iteration + 1), given), more
            yield Snapshot(0, z[::K], z[::K])
        last = weights.one(uniform(many.draw(3 * self.iterations)[::K])).to(z.device)
        yield Weighed(0, z[last], z[last], effective=weights.smallest if K > 1 else None)

    def _prior_step(
        self, model: AnyModel, x: Samples, eta: float, noise: Samples, condition: Condition | None
    ) -> Samples:
        """z given x, in `prior_steps` calls.

        z + tau noise, seen together with x, is z with less noise; its flow goes from a far tau to 0 (DPnP).
        The solver is of second order in log tau, as DPM-Solver++ (Lu et al. 2022b).
        """

        def guess(at: Samples, sigma: float) -> Samples:
            t = times_like(time_of(model.path, sigma), at)
            return model.predict(scaled(model.path.at(t)[0], at), t, condition).x_0

        taus = falling_roots(FARTHEST * eta, NEAREST * eta, self.prior_steps - 1)
        z, past = guess(x, eta) + taus[0] * noise, None
        for k, (tau, after) in enumerate(pairwise([*taus, 0.0])):
            both = tau**2 + eta**2
            mean = guess((tau**2 * x + eta**2 * z) / both, tau * eta / both**0.5)
            towards = mean
            if past is not None and after:
                share = math.log(tau / after) / math.log(taus[k - 1] / tau)
                towards = mean + share / 2 * (mean - past)
            z, past = after / tau * z + (1 - after / tau) * towards, mean
        return z
