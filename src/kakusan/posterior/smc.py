"""The twisted diffusion sampler (Wu et al. 2023): a particle filter whose particles already look at y.

Each sample has a filter of its own, so samples are independent. A particle steps back by the model's own step, moved
along the slope of a twist p~(y | x_t), and its weight makes up for the move:

    w_s = w_t p(x_s | x_t) p~(y | x_s) / (p~(y | x_t) q(x_s | x_t, y)),    p~(y | x_0) = p(y | x_0)

Any positive twist gives the posterior of the model's own chain as particles grow; a good one needs few. Here it is
N(y; A x_0_hat, Sigma_y + A V A^T), with V the covariance of x_0 given x_t. Of few measured values V is Tweedie's, by a
backward pass for each; of many it is r_t^2 I, r_t^2 = b^2 / (a^2 + b^2), as of data of variance 1 (Song et al. 2023).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from kakusan.diffusion.forward import posterior_variance, q_posterior
from kakusan.diffusion.paths import Path
from kakusan.errors import SettingsError
from kakusan.posterior.base import Method, Weighed, noise_levels, repeated, several, sigma_of, uniform
from kakusan.posterior.measurement import Measurement
from kakusan.posterior.solving import solve
from kakusan.samplers.base import AnyModel
from kakusan.samplers.walk import NoiseSource, Snapshot
from kakusan.shapes import Condition, Samples, Times, per_sample, scaled, times_like

TWIST_PRODUCTS = 30
"""Of conjugate gradients, each with the operator and its adjoint alone."""


@dataclass(frozen=True, kw_only=True)
class SMC(Method):
    """Error bars that hold as particles grow, and that say when they do not; any operator, any noise.

    particles: of each sample; a call of the network and a backward pass each, in each of the steps. few: measured
    values up to which the twist has Tweedie's covariance, at a backward pass each.
    """

    particles: int = 16
    steps: int = 50
    few: int = 8

    def __post_init__(self) -> None:
        if self.particles < 1 or self.steps < 1:
            raise SettingsError(
                f"there is at least 1 particle and 1 step, not {self.particles} and {self.steps}"
            )

    @property
    def rows_of_a_sample(self) -> int:
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
        twist = Twist(model, measurement.rows(rows), repeated(condition, rows), self.few)
        times = [*noise_levels(model.path, self.steps), 0.0]
        noise = several(noises, 0, K).flatten(0, 1)
        x = scaled(model.path.scale_at(times_like(times[0], noise)), noise)
        cloud = twist.at(x, times_like(times[0], x))
        weights = Weights(cloud.nats.view(n, K))
        yield Weighed(times[0], x[::K], effective=weights.smallest)
        for step, (t, s) in enumerate(pairwise(times), start=1):
            draws = several(noises, step, K + 1)
            cloud = cloud.rows(weights.resampled(uniform(draws[:, K]).to(x.device)))
            of_x_0 = (
                cloud.x_0
                if step == 1 or not s
                else _extrapolated(model.path, cloud, times[step - 2 : step + 1])
            )
            x, gained = _ahead(model.path, cloud, of_x_0, times_like(t, x), times_like(s, x), draws[:, :K])
            last = cloud
            cloud = replace(twist.at(x, times_like(s, x)) if s else twist.end(x), past=last.x_0)
            weights.gain((gained + cloud.nats - last.nats).view(n, K))
            if s:
                yield Weighed(s, x[::K], last.x_0[::K], effective=weights.smallest)
        last = weights.one(uniform(several(noises, len(times), K + 1)[:, K]).to(x.device))
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
    few: int

    def at(self, x: Samples, t: Times) -> Cloud:
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            x_0 = self.model.predict(at, t, self.condition).x_0
            misfit = self.measurement.residual(x_0)
        found = x_0.detach()
        nats, v = self._few(at, x_0, misfit, t) if self._is_few else self._many(found, misfit.detach(), t)
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
            nats = -0.5 * (misfit.square() / variance.clamp(min=self._least**2)).flatten(1).sum(1)
        return Cloud(x_0, x_0, nats, torch.zeros_like(x_0))

    @property
    def _least(self) -> float:
        """A deviation below which a twist tells no particles apart."""
        return 0.01 * float(torch.as_tensor(self.measurement.scale, dtype=torch.float64).mean())

    @property
    def _is_few(self) -> bool:
        return len(self._measured) <= self.few

    @cached_property
    def _measured(self) -> list[int]:
        """Places of y that were measured for any of the particles."""
        found: list[int] = torch.nonzero(self.measurement.known.any(0).flatten())[:, 0].tolist()
        return found

    def _many(self, x_0: Samples, misfit: Tensor, t: Times) -> tuple[Tensor, Tensor]:
        """The exponent with V = r_t^2 I, and S^-1 (y - A x_0_hat)."""
        a, b = self.model.path.at(t)
        spread = float((b.square() / (a.square() + b.square()))[0])
        along, variance = self.measurement.derivative(x_0), self.measurement.variance(x_0)
        variance = variance.clamp(min=self._least**2)

        def product(v: Tensor) -> Tensor:
            return variance * v + spread * along.apply(along.adjoint(v))

        v = solve(product, misfit, TWIST_PRODUCTS)
        return -0.5 * (misfit.double() * v.double()).flatten(1).sum(1), v

    def _few(self, at: Samples, x_0: Samples, misfit: Tensor, t: Times) -> tuple[Tensor, Tensor]:
        """The same with Tweedie's covariance, its determinant included: S column by column."""
        a, b = self.model.path.at(t)
        found = x_0.detach()
        along, variance = self.measurement.derivative(found), self.measurement.variance(found)
        columns = []
        for place in self._measured:
            unit = torch.zeros_like(misfit).flatten(1)
            unit[:, place] = 1
            column = along.adjoint(unit.view(misfit.shape))
            (product,) = torch.autograd.grad(x_0, at, column, retain_graph=True)
            columns.append(
                along.apply(scaled(b.square() / a, product)).flatten(1)[:, self._measured].double()
            )
        S = torch.stack(columns, dim=2)
        spectrum, axes = torch.linalg.eigh((S + S.mT) / 2)
        floor = variance.clamp(min=self._least**2).flatten(1)[:, self._measured].double()
        S = axes @ torch.diag_embed(spectrum.clamp(min=0)) @ axes.mT + torch.diag_embed(floor)
        root = torch.linalg.cholesky(S)
        y = misfit.detach().flatten(1)[:, self._measured].double()[..., None]
        v = torch.cholesky_solve(y, root)
        nats = -0.5 * (y * v).sum((1, 2)) - root.diagonal(dim1=1, dim2=2).log().sum(1)
        whole = torch.zeros_like(misfit.detach()).flatten(1)
        whole[:, self._measured] = v[..., 0].to(whole)
        return nats, whole.view(misfit.shape)


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


class Weights:
    """Logarithms of the weights of particles, (samples, particles), and the smallest effective number so far."""

    def __init__(self, nats: Tensor) -> None:
        self.nats = nats
        self.smallest = self.effective

    @property
    def shares(self) -> Tensor:
        return self.nats.softmax(1)

    @property
    def effective(self) -> Tensor:
        """1 / sum of the squared shares (Kong, Liu & Wong 1994)."""
        return 1 / self.shares.square().sum(1)

    def gain(self, nats: Tensor) -> None:
        self.nats = self.nats + nats
        self.smallest = torch.minimum(self.smallest, self.effective)

    def resampled(self, luck: Tensor) -> Tensor:
        """Rows of the particles that go on: where fewer than half are effective, drawn anew, systematically."""
        n, K = self.nats.shape
        places = (torch.arange(K, device=luck.device) + luck[:, None]) / K
        edges = self.shares.cumsum(1)
        drawn = torch.searchsorted(edges / edges[:, -1:], places).clamp(max=K - 1)
        poor = self.effective < K / 2
        chosen = torch.where(poor[:, None], drawn, torch.arange(K, device=luck.device))
        self.nats = torch.where(poor[:, None], 0.0, self.nats)
        return (chosen + K * torch.arange(n, device=luck.device)[:, None]).flatten()

    def one(self, luck: Tensor) -> Tensor:
        """The row of one particle of each sample, drawn by weight."""
        n, K = self.nats.shape
        edges = self.shares.cumsum(1)
        drawn = torch.searchsorted(edges / edges[:, -1:], luck[:, None]).clamp(max=K - 1)
        return drawn[:, 0] + K * torch.arange(n, device=luck.device)
