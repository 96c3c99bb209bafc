"""The twisted diffusion sampler (Wu et al. 2023): a particle filter whose particles already look at y.

Each sample has a filter of its own, so samples are independent. A particle steps back by the model's own step, moved
along the slope of a twist p~(y | x_t), and its weight makes up for the move:

    w_s = w_t p(x_s | x_t) p~(y | x_s) / (p~(y | x_t) q(x_s | x_t, y)),    p~(y | x_0) = p(y | x_0)

Any positive twist gives the posterior of the model's own chain as particles grow; a good one needs few. Here it is
N(y; A x_0_hat, Sigma_y + A V A^T) with Tweedie's V, as in moment matching (Rozet et al. 2024): its exponent by a few
conjugate gradients, its determinant by that of Sigma_y + r^2 I with the mean r^2 of A V A^T along one probe. Steps are
of second order, so that fifty of them make a chain near the model's continuous one.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from math import prod

import torch
from torch import Tensor

from kakusan.diffusion.forward import posterior_variance, q_posterior
from kakusan.diffusion.paths import Path
from kakusan.errors import SettingsError
from kakusan.posterior.base import Method, Weighed, draws_of, noise_levels, repeated, sigma_of, uniform
from kakusan.posterior.measurement import Measurement
from kakusan.posterior.particles import Weights
from kakusan.posterior.solving import conjugate_gradients, whitened
from kakusan.randomness import Purpose, uniforms
from kakusan.samplers.base import AnyModel
from kakusan.samplers.walk import NoiseSource, Snapshot
from kakusan.shapes import Condition, Samples, Times, by_row, moved, per_sample, scaled, times_like

LEAST = 0.01
"""A deviation of x, in the network's units, below which a twist tells no particles apart."""


@dataclass(frozen=True, kw_only=True)
class SMC(Method):
    """Error bars that hold as particles grow, and that say when they do not; any operator, any noise.

    particles: of each sample; in each of the steps each takes a call of the network. solver_steps: products of
    conjugate gradients, each a backward pass; two more are taken anyway.
    """

    particles: int = 16
    steps: int = 50
    solver_steps: int = 4

    def __post_init__(self) -> None:
        if self.particles < 1 or self.steps < 1:
            raise SettingsError(
                f"there is at least 1 particle and 1 step, not {self.particles} and {self.steps}"
            )

    def rows_of_a_sample(self, measurement: Measurement) -> int:  # noqa: ARG002
        return self.particles

    def steps_of(self, path: Path) -> int:  # noqa: ARG002
        return self.steps

    @torch.no_grad()
    def trajectory(
        self,
        model: AnyModel,
        measurement: Measurement,
        noises: NoiseSource,
        condition: Condition | None = None,
    ) -> Iterator[Snapshot]:
        n, K = len(measurement), self.particles
        rows = torch.arange(n).repeat_interleave(K)
        twist = Twist(model, measurement.rows(rows), repeated(condition, rows), self.solver_steps)
        times = [*noise_levels(model.path, self.steps), 0.0]
        noise = draws_of(noises, 0, K).flatten(0, 1)
        x = scaled(model.path.scale_at(times_like(times[0], noise)), noise)
        cloud = twist.at(x, times_like(times[0], x))
        weights = Weights(cloud.nats.view(n, K))
        yield Weighed(times[0], x[::K], effective=weights.smallest)
        for step, (t, s) in enumerate(pairwise(times), start=1):
            draws = draws_of(noises, step, K + 1)
            cloud = cloud.rows(weights.resampled(uniform(draws[:, K]).to(x.device)))
            of_x_0 = (
                cloud.x_0
                if step == 1 or not s
                else _extrapolated(model.path, cloud, times[step - 2 : step + 1])
            )
            x, gained = _ahead(model.path, cloud, of_x_0, times_like(t, x), times_like(s, x), draws[:, :K])
            left = cloud
            cloud = replace(twist.at(x, times_like(s, x)) if s else twist.end(x), past=left.x_0)
            weights.gain((gained + cloud.nats - left.nats).view(n, K))
            if s:
                yield Weighed(s, x[::K], left.x_0[::K], effective=weights.smallest)
        last = weights.one(uniform(draws_of(noises, len(times), K + 1)[:, K]).to(x.device))
        yield Weighed(0, x[last], x[last], effective=weights.smallest)


@dataclass(frozen=True, eq=False)
class Cloud:
    """Particles of all samples, one after the other, and what the twist says of each."""

    x: Samples
    x_0: Samples
    nats: Tensor
    """log p~(y | x_t), float64, but for a number that they share."""
    slope: Samples
    """Its gradient in x_t."""
    past: Samples | None = None
    """The x_0_hat of the step before."""

    def rows(self, rows: Tensor) -> "Cloud":
        past = None if self.past is None else self.past[rows]
        return Cloud(self.x[rows], self.x_0[rows], self.nats[rows], self.slope[rows], past)


@dataclass(frozen=True, eq=False)
class Twist:
    """log p~(y | x_t) of particles, a row of the measurement for each."""

    model: AnyModel
    measurement: Measurement
    condition: Condition | None
    solver_steps: int

    def at(self, x: Samples, t: Times) -> Cloud:
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            x_0 = self.model.predict(at, t, self.condition).x_0
            misfit = self.measurement.residual(x_0) / self.measurement.norms.to(x_0)
        found = x_0.detach()
        nats, v = self._moments(at, x_0, misfit, t)
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(misfit, at, -v.to(misfit))
        return Cloud(x, found, nats, slope)

    def end(self, x_0: Samples) -> Cloud:
        """The likelihood itself; exact values are taken as nearly exact, and are set right later."""
        wide = x_0.double()
        misfit, variance = self.measurement.residual(wide), self.measurement.variance(wide)
        if (variance > 0).all():
            nats = self.measurement.log_likelihood(wide)
        else:
            units = self.measurement.norms.to(wide)
            nats = -0.5 * by_row(misfit.square() / variance.clamp(min=(LEAST * units) ** 2)).sum(1)
        return Cloud(x_0, x_0, nats, torch.zeros_like(x_0))

    @cached_property
    def _probe(self) -> Tensor:
        """Signs, of the shape of y: the same for all."""
        shape = tuple(self.measurement.y.shape[1:])
        luck = uniforms(0, Purpose.WALK, 0, torch.arange(1), prod(shape))
        return torch.where(luck < 0.5, -1.0, 1.0).view(1, *shape)

    def _moments(self, at: Samples, x_0: Samples, misfit: Tensor, t: Times) -> tuple[Tensor, Tensor]:
        """log of the twist, and S^-1 (y - A x_0_hat)."""
        found, misfit = x_0.detach(), misfit.detach()
        near, (a, b) = self.measurement.linearized(found), self.model.path.at(t)
        along, variance = near.along, near.variance.clamp(min=LEAST**2)

        def covariance(u: Tensor) -> Tensor:
            (product,) = torch.autograd.grad(x_0, at, u, retain_graph=True)
            return scaled(b.square() / a, product)

        def product(v: Tensor) -> Tensor:
            return variance * v + along.apply(covariance(along.adjoint(v)))

        ratio = (b / a).square()
        deviation = (variance + moved(per_sample(ratio / (1 + ratio), variance), variance)).sqrt()
        v = whitened(conjugate_gradients, product, misfit, deviation, self.solver_steps)
        probe = along.adjoint(self._probe.expand_as(misfit).to(at))
        spread = _dot(probe, covariance(probe)).clamp(min=0) / _dot(probe, probe)
        known = by_row(self.measurement.known.to(at.device))
        mean = spread * _dot(probe, probe) / known.sum(1)
        total = ((by_row(variance.double()) + mean[:, None]).log() * known).sum(1)
        return -0.5 * (_dot(misfit, v) + total), v


def _dot(u: Tensor, v: Tensor) -> Tensor:
    """<u, v> of each row, float64."""
    return by_row(u.double() * v.double()).sum(1)


def _extrapolated(path: Path, cloud: Cloud, times: Sequence[float]) -> Samples:
    """x_0_hat carried on to the middle of the step, in log(a / b): second order (DPM-Solver++, Lu et al. 2022b)."""
    assert cloud.past is not None
    before, here, after = (math.log(sigma_of(path, t)) for t in times)
    return cloud.x_0 + 0.5 * (here - after) / (before - here) * (cloud.x_0 - cloud.past)


def _ahead(
    path: Path, cloud: Cloud, x_0: Samples, t: Times, s: Times, noise: Tensor
) -> tuple[Samples, Tensor]:
    """x_s of the moved step, and log p(x_s | x_t) / q(x_s | x_t, y). The last step, without noise, is not moved."""
    mean = q_posterior(path, cloud.x, x_0, t, s).mean
    variance = posterior_variance(path, t, s)
    deviation = variance.sqrt().to(mean.device)
    if not variance.any():
        return mean, torch.zeros(len(mean), dtype=torch.float64, device=mean.device)
    z = noise.flatten(0, 1).to(mean)
    on_s = (path.scale_at(t) / path.scale_at(s)).to(mean.device)
    move = scaled(variance.to(mean.device) * on_s, cloud.slope)
    x = mean + move + scaled(deviation, z)
    along = move.double() / per_sample(deviation, move)
    return x, -(along * z.double() + 0.5 * along.square()).flatten(1).sum(1)
