"""Random walks with an exact denoiser and exact posteriors: Lévy processes at whole times, on a lattice.

x_k = l_k + tau n_k, l_k = l_{k-1} + an increment, k = 1..64, where l lives on a lattice and the jitter tau n makes its
law smooth. l is a Markov chain of a few hundred states and each value of x_t sees its own l_k through Gaussian noise.
So the denoiser is forward-backward smoothing (Baum et al. 1970), exact for any increments; and so is the posterior
given some of the values, by filtering and backward draws. Increments as in the benchmark of Zach et al. 2026, which
draws its exact posteriors by long Gibbs chains.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.parametrizations import eps_from_x_0
from kakusan.diffusion.paths import Path
from kakusan.diffusion.prediction import Prediction
from kakusan.posterior import Measurement
from kakusan.shapes import Condition, Samples, Times

LENGTH = 64
STATES = 161
REACH = 6.0
"""The lattice goes from -REACH to REACH, in deviations of all values."""
JITTER = 0.75
"""tau, in units of the lattice."""
UNIT = (2 / LENGTH) ** 0.5
"""Deviation of an increment for which the values of a walk have a mean square of about 1."""
TINY = 1e-12

INCREMENTS: dict[str, Callable[[Tensor], Tensor]] = {
    "gauss": lambda u: (-0.5 * u.square()).exp(),
    "laplace": lambda u: (-math.sqrt(2) * u.abs()).exp(),
    "student": lambda u: (1 + 3 * u.square()).pow(-2),
    "sparse": lambda u: (
        0.9 * (u == 0) / (u == 0).sum(-1, keepdim=True) + 0.1 * _share((-u.abs() / 3**0.5).exp())
    ),
}
"""Densities of increments in their deviation, but for a factor: normal, Laplace, Student's t of 3 degrees of freedom,
and 0 but for a tenth that is Laplace."""


def _share(values: Tensor) -> Tensor:
    return values / values.sum(-1, keepdim=True)


@dataclass(frozen=True, eq=False)
class Walk(Denoiser):
    """The denoiser of random walks of `LENGTH` values, of shape (1, LENGTH)."""

    path: Path
    increments: str = "laplace"

    @cached_property
    def lattice(self) -> Tensor:
        return torch.linspace(-REACH, REACH, STATES, dtype=torch.float64)

    @cached_property
    def steps(self) -> Tensor:
        """p(l_k | l_{k-1}), rows of which sum to 1."""
        away = self.lattice[None] - self.lattice[:, None]
        away = (away / float(self.lattice[1] - self.lattice[0])).round() * float(
            self.lattice[1] - self.lattice[0]
        )
        return _share(INCREMENTS[self.increments](away / UNIT) + TINY)

    @property
    def tau(self) -> float:
        return JITTER * float(self.lattice[1] - self.lattice[0])

    @property
    def first(self) -> Tensor:
        """p(l_1): a step from 0."""
        return self.steps[STATES // 2]

    def predict(self, x_t: Samples, t: Times, condition: Condition | None = None) -> Prediction:  # noqa: ARG002
        x = x_t.double()
        a, b = (float(each[0]) for each in self.path.at(t))
        variance = (a * self.tau) ** 2 + b**2
        mean = self._smoothed((x[:, 0] - 0) / a, torch.full((LENGTH,), variance / a**2, dtype=torch.float64))
        x_0 = mean + a * self.tau**2 / variance * (x - a * mean)
        return Prediction(x_0.to(x_t), eps_from_x_0(x_0, x, *self.path.at(t)).to(x_t))

    def sample(self, count: int, seed: int = 0) -> Samples:
        """Walks, float64."""
        generator = torch.Generator().manual_seed(seed)
        state = torch.multinomial(self.first.expand(count, -1), 1, generator=generator)[:, 0]
        states = [state]
        for _ in range(LENGTH - 1):
            state = torch.multinomial(self.steps[state], 1, generator=generator)[:, 0]
            states.append(state)
        noise = torch.randn(count, LENGTH, generator=generator, dtype=torch.float64)
        return (self.lattice[torch.stack(states, 1)] + self.tau * noise)[:, None]

    def _smoothed(self, y: Tensor, variance: Tensor) -> Tensor:
        """E[l | y] where y_k = l_k + noise of these variances, (batch, 1, LENGTH)."""
        seen = self._seen(y, variance)
        ahead = self._filtered(seen)
        back, means = torch.ones_like(ahead[0]), []
        for k in reversed(range(LENGTH)):
            share = ahead[k] * back
            means.append((share @ self.lattice) / share.sum(1))
            back = (seen[k] * back) @ self.steps.T
            back = back / back.sum(1, keepdim=True).detach()
        return torch.stack(means[::-1], dim=1)[:, None]

    def _seen(self, y: Tensor, variance: Tensor) -> list[Tensor]:
        """p(y_k | l_k) of all states, but for a factor of each y_k; its floor keeps products above 0."""
        nats = -0.5 * (y[..., None] - self.lattice).square() / variance[:, None]
        seen = (nats - nats.amax(-1, keepdim=True).detach()).clamp(min=-60).exp()
        return list(seen.unbind(1))

    def _filtered(self, seen: list[Tensor]) -> list[Tensor]:
        """p(l_k | y_1, ..., y_k)."""
        found, before = [], self.first.expand(len(seen[0]), -1)
        for each in seen:
            share = before * each
            share = share / share.sum(1, keepdim=True)
            found.append(share)
            before = share @ self.steps
        return found

    def _measured(self, measurement: Measurement) -> tuple[Tensor, Tensor]:
        """y and its variance given l, of a mask and Gaussian noise; 1e6 where nothing was measured."""
        y = measurement.y.nan_to_num(0).flatten(1)
        noise = measurement.variance(measurement.y).flatten(1)[0]
        return y, (noise + self.tau**2).masked_fill(~measurement.known.flatten(1)[0], 1e6)

    def posterior_draws(self, measurement: Measurement, count: int, generator: torch.Generator) -> Tensor:
        """Draws of x given y, (count, LENGTH): filtering, then backwards; the jitter given y is Gaussian."""
        y, variance = self._measured(measurement)
        ahead = self._filtered(self._seen(y, variance))
        state = torch.multinomial(ahead[-1].expand(count, -1), 1, generator=generator)[:, 0]
        states = [state]
        for k in reversed(range(LENGTH - 1)):
            share = ahead[k] * self.steps[:, state].T
            state = torch.multinomial(share, 1, generator=generator)[:, 0]
            states.append(state)
        walk = self.lattice[torch.stack(states[::-1], 1)]
        gain = self.tau**2 / variance
        noise = torch.randn(count, LENGTH, generator=generator, dtype=torch.float64)
        return walk + gain * (y - walk) + (self.tau**2 * (1 - gain)).sqrt() * noise

    def posterior_moments(self, measurement: Measurement) -> tuple[Tensor, Tensor]:
        """The mean of x given y, (LENGTH,), and the sum of its variances."""
        draws = self.posterior_draws(measurement, 20_000, torch.Generator().manual_seed(5))
        return draws.mean(0), draws.var(0).sum()
