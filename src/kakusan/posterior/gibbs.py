"""Split Gibbs sampling (Vono et al. 2019) with a diffusion prior: DPnP (Xu & Chi 2024), PnP-DM (Wu et al. 2024).

x and a copy z of it, coupled by N(x; z, eta^2 I), are drawn one after the other:

    x given z and y ~ p(y | x) N(x; z, eta^2 I)     the likelihood step: exact for linear A and Gaussian noise
    z given x       ~ p(z) N(z; x, eta^2 I)         the prior step: denoising by the probability flow from x on

eta falls from wide to narrow. z has the law p(z) N(y; A z, Sigma_y + eta^2 A A^T), the posterior as eta goes to 0. The
iterations that it takes to move grow with 1 / eta^2. So where eta is small enough, the noise of y that the likelihood
step sees is Sigma_y - eta^2 A A^T, and the law of z is the posterior itself, whatever eta.

Where the noise of y is small, eta goes on down to such an eta. A network knows the prior down to the least noise of its
path, sigma_1. So there the prior is that of z + sigma_1 noise, and at the end z moves along its score by half of
sigma_1^2, as by the probability flow. Where the noise of y is below sigma_1 / 2, eta ends there, and the sample is x.

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
from kakusan.posterior.proximal import (
    checked_walk,
    drawn,
    drawn_split,
    is_gaussian,
    log_tied,
    stiffness,
    usual_stiffness,
)
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
ADDED = 0.1
"""Share of the variance of the noise of y that it may add, where it can take over none."""


@dataclass(frozen=True, kw_only=True)
class Gibbs(Method):
    """Error bars that hold, for many calls and no derivative of the network; any operator, any noise.

    iterations: of both steps, while eta falls from `widest` to `narrowest` over the first `falling` of them.
    prior_steps: calls of the network in each. particles: chains of each sample, where A is linear and the noise
    Gaussian; else there is one. narrowest: None: where the coupling takes over half of the noise of y, at most `MOST`;
    or adds a tenth to it, where there is one chain. walk_steps: of Langevin's walk, where A is not linear or the noise
    not Gaussian.
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

    def doubts(self, measurement: Measurement, path: Path) -> tuple[str, ...]:
        """A warning where the samples are wider than the posterior by more than `LEAST`, or than the noise of y."""
        bound = self._bound(measurement)
        if self.narrowest is not None:
            added = self.couplings(path, bound)[-1]
            is_wide = added > bound * (1 + 1e-9)
        else:
            added = smallest_sigma(path)
            is_wide = self._is_narrow(bound) and added > LEAST
        if not is_wide:
            return ()
        return (
            f"the coupling of gibbs adds a deviation of {added:.3g}, in the network's units, to the noise of y: the"
            " spread may be too wide; "
            + (
                "--narrowest is above what this noise allows"
                if self.narrowest is not None
                else "that is the least noise of the path, and more times (T) have a smaller one"
            ),
        )

    def couplings(self, path: Path, bound: float) -> list[float]:
        """eta of each iteration, falling geometrically. bound: the largest that suits the noise of y."""
        wanted = min(max(LEAST, bound), MOST) if self.narrowest is None else self.narrowest
        low = max(min(wanted, self.widest), smallest_sigma(path))
        if self._is_narrow(bound):
            low = min(low, max(bound, smallest_sigma(path) / 2))
        falling = max(round(self.iterations * self.falling) - 1, 1)
        shares = [min(1.0, k / falling) for k in range(self.iterations)] if self.iterations > 1 else [1.0]
        return [self.widest * (low / self.widest) ** share for share in shares]

    def _is_narrow(self, bound: float) -> bool:
        """Whether eta is to go below `LEAST`."""
        return self.narrowest is None and bound < LEAST

    @staticmethod
    def _bound(measurement: Measurement) -> float:
        """The largest eta of which the noise of y can take over all, or if it can none, that adds little to it."""
        stiff = max(stiffness(measurement), TINY)
        if is_gaussian(measurement):
            return float((SPLIT / stiff) ** 0.5)
        return float(min((ADDED / max(usual_stiffness(measurement), TINY)) ** 0.5, LEAST))

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
        bound = self._bound(measurement)
        split = bound if is_gaussian(measurement) else 0.0
        prior = _Prior(model, given, smallest_sigma(model.path) if self._is_narrow(bound) else 0.0)
        before, eta, within = None, self.widest, False
        for iteration, eta in enumerate(self.couplings(model.path, bound)):
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
            z, sharp = self._prior_step(prior, x, eta, many.draw(3 * iteration + 1))
            before = more
            yield Snapshot(0, z[::K], z[::K])
        if prior.blur:
            z = sharp
        if prior.blur and eta > bound * (1 + 1e-9):
            z = drawn(z, eta, each, many, 3 * self.iterations + 1, self.walk_steps)
        last = weights.one(uniform(many.draw(3 * self.iterations)[::K])).to(z.device)
        yield Weighed(0, z[last], z[last], effective=weights.smallest if K > 1 else None)

    def _prior_step(self, prior: "_Prior", x: Samples, eta: float, noise: Samples) -> tuple[Samples, Samples]:
        """z given x, in `prior_steps` calls; and the same without the blur of the prior.

        z + tau noise, seen together with x, is z with less noise; its flow goes from a far tau to 0 (DPnP).
        The solver is of second order in log tau, as DPM-Solver++ (Lu et al. 2022b).
        """
        taus = falling_roots(FARTHEST * eta, NEAREST * eta, self.prior_steps - 1)
        z, past, shift = prior.mean(x, eta) + taus[0] * noise, None, torch.zeros_like(x)
        for k, (tau, after) in enumerate(pairwise([*taus, 0.0])):
            both = tau**2 + eta**2
            at, sigma = (tau**2 * x + eta**2 * z) / both, tau * eta / both**0.5
            mean = prior.mean(at, sigma)
            shift = prior.blur**2 / 2 * (mean - at) / sigma**2
            towards = mean
            if past is not None and after:
                share = math.log(tau / after) / math.log(taus[k - 1] / tau)
                towards = mean + share / 2 * (mean - past)
            z, past = after / tau * z + (1 - after / tau) * towards, mean
        return z, z + shift


@dataclass(frozen=True, eq=False)
class _Prior:
    """p(z), of z with so much noise on it: a network is never asked about less than this blur."""

    model: AnyModel
    condition: Condition | None
    blur: float

    def mean(self, at: Samples, sigma: float) -> Samples:
        """E[z | at], at = z + sigma noise: along the score of both noises, as far as sigma's share."""
        wide = math.hypot(sigma, self.blur)
        t = times_like(time_of(self.model.path, wide), at)
        x_0 = self.model.predict(scaled(self.model.path.at(t)[0], at), t, self.condition).x_0
        return at + (sigma / wide) ** 2 * (x_0 - at) if self.blur else x_0
