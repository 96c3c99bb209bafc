"""Steps towards y from a guess: x ~ N(guess, rho^2 I), given y. Shared by methods that part prior and likelihood.

Of a linear operator and Gaussian noise x is Gaussian, with mean guess + rho^2 A^T S^-1 (y - A guess) and
S = Sigma_y + rho^2 A A^T. A draw needs no root of its covariance: a sample of the prior and one of the noise are moved
by the same formula (perturb and solve, Papandreou & Yuille 2010). For all else there is Langevin's walk with
Metropolis' rule (Roberts & Tweedie 1996), which keeps the law of x whatever its step.
"""

from dataclasses import replace

import torch
from torch import Tensor

from kakusan.diffusion.gaussians import double
from kakusan.errors import SettingsError
from kakusan.operators import LinearMap, Measured
from kakusan.posterior.base import noise_of_y, uniform
from kakusan.posterior.measurement import PROBES, Linearized, Measurement
from kakusan.posterior.noise import Gaussian
from kakusan.posterior.solving import conjugate_gradients, whitened
from kakusan.samplers.walk import NoiseSource, SeededNoise
from kakusan.shapes import Samples, by_row, per_sample

MOST_PRODUCTS = 200
"""Of conjugate gradients, each with the operator and its adjoint alone."""
BEST_SHARE = 0.574
"""Of Langevin's proposals that are taken, in many dimensions (Roberts & Rosenthal 1998)."""
POWER_STEPS = 20
SERIES = 18
"""Terms of a binomial series: the last is below 1e-7 at a half."""
MOST_OF_WALK = 100
"""Steps of a walk: two draws each, and a word of randomness holds no more."""


def is_gaussian(measurement: Measurement) -> bool:
    """Whether y is a linear function of x and Gaussian noise."""
    return measurement.is_linear and isinstance(measurement.law, Gaussian)


def nearest(guess: Samples, rho: float, measurement: Measurement) -> Samples:
    """The mean of x; of an operator that is not linear, its derivative at the guess."""
    wide = double(guess)
    return _moved(wide, measurement.residual(wide), rho, measurement, wide).to(guess)


def drawn(
    guess: Samples, rho: float, measurement: Measurement, noises: NoiseSource, step: int, walk_steps: int
) -> Samples:
    """A draw of x: exact, or the end of a walk of so many steps from the guess. step: of the noise that it takes.

    Raises SettingsError for an exact measurement of an operator that is not linear.
    """
    wide = double(guess)
    if not is_gaussian(measurement):
        return langevin(wide, rho, measurement, noises, step, walk_steps).to(guess)
    of_prior = wide + rho * noises.draw(step, 0).to(wide)
    e = noise_of_y(noises, step, 1, tuple(measurement.y.shape[1:])).to(wide)
    misfit = measurement.residual(of_prior) + measurement.variance(wide).sqrt() * e * measurement.known.to(
        wide
    )
    return _moved(of_prior, misfit, rho, measurement, wide).to(guess)


def drawn_split(
    guess: Samples, rho: float, measurement: Measurement, noises: NoiseSource, step: int
) -> Samples:
    """A draw of x where the noise of y is Sigma_y - rho^2 A A^T: of it, a share is that of x about the guess.

    N(guess + rho^2 A^T Sigma_y^-1 (y - A guess), rho^2 (I - M)), M = rho^2 A^T Sigma_y^-1 A, for M of at most about a
    half; its root is the binomial series of sqrt(1 - M).
    """
    wide = double(guess)
    along, variance = measurement.derivative(wide), measurement.variance(wide)
    mean = wide + rho**2 * along.adjoint(measurement.residual(wide) / variance)
    power = noises.draw(step, 0).to(wide)
    root, factor = power, 1.0
    for k in range(1, SERIES):
        power = rho**2 * along.adjoint(along.apply(power) / variance)
        factor *= (k - 1.5) / k
        root = root + factor * power
    return (mean + rho * root).to(guess)


def log_tied(z: Samples, rho: float, measurement: Measurement) -> Tensor:
    """log N(y; A z, Sigma_y + rho^2 A A^T) of each z, but for a number that all share; float64.

    It is log p(y | z) of an x ~ N(z, rho^2 I).
    """
    near = measurement.linearized(double(z))
    v = _solved(near, near.residual, rho)
    return -0.5 * by_row(near.residual * v).sum(1)


def stiffness(measurement: Measurement) -> float:
    """The largest eigenvalue of A^T Sigma_y^-1 A, were all of y measured; inf for exact values or other noise."""
    if not is_gaussian(measurement):
        return float("inf")
    whole = replace(measurement, y=measurement.y[:1].nan_to_num(0))
    x = SeededNoise(0, torch.tensor([0]), measurement.shape).start().double()
    exact = (whole.variance(x) == 0).any()
    return float("inf") if exact else float(_curvature(x, whole, x))


def usual_stiffness(measurement: Measurement) -> float:
    """The largest eigenvalue of A'^T Sigma^-1 A' at random points, in the median, of the nearest Gaussian noise.

    It is no function of y, so that a sample does not depend on those beside it.
    """
    rows = torch.arange(PROBES)
    at, direction = (SeededNoise(seed, rows, measurement.shape).start().double() for seed in (0, 1))
    predicted = measurement.predicted(at)
    variance = measurement.law.variance(torch.zeros_like(predicted), predicted)
    if (variance <= 0).any():
        return float("inf")
    whole = replace(measurement, y=measurement.y[:1].nan_to_num(0))
    return float(_largest(whole.derivative(at), variance, direction).median())


def _moved(x: Samples, misfit: Measured, rho: float, measurement: Measurement, at: Samples) -> Samples:
    """x + rho^2 A^T S^-1 misfit, with the derivative and the noise at a point."""
    near = measurement.linearized(at)
    return x + rho**2 * near.along.adjoint(_solved(near, misfit / near.norms, rho))


def _solved(near: Linearized, misfit: Measured, rho: float) -> Measured:
    """S^-1 misfit, S = Sigma_y + rho^2 A A^T, all in the units of `near`."""

    def product(v: Measured) -> Measured:
        return near.variance * v + rho**2 * near.along.apply(near.along.adjoint(v))

    deviation = (near.variance + rho**2).sqrt()
    return whitened(conjugate_gradients, product, misfit, deviation, MOST_PRODUCTS)


def langevin(
    guess: Samples, rho: float, measurement: Measurement, noises: NoiseSource, step: int, walk_steps: int
) -> Samples:
    """The end of a walk from the guess; each sample's step adapts to the share of proposals that are taken."""
    _require_noise(guess, measurement)

    def energy(x: Samples) -> tuple[Tensor, Samples]:
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            near = (at - guess).square().flatten(1).sum(1) / (2 * rho**2)
            nats = measurement.log_likelihood(at) - near
            (slope,) = torch.autograd.grad(nats.sum(), at)
        return nats.detach(), slope

    x, (nats, slope) = guess, energy(guess)
    h = 1 / (1 / rho**2 + _curvature(guess, measurement, noises.draw(step, 0).to(guess)))
    for k in range(walk_steps):
        z = noises.draw(step, 1 + 2 * k).to(guess)
        luck = uniform(noises.draw(step, 2 + 2 * k)).to(guess)
        ahead = x + _laid(h / 2, x) * slope + _laid(h.sqrt(), x) * z
        nats_ahead, slope_ahead = energy(ahead)
        back = _step_nats(x, ahead, slope_ahead, h) - _step_nats(ahead, x, slope, h)
        share = (nats_ahead - nats + back).nan_to_num(-torch.inf).clamp(max=0).exp()
        taken = luck < share
        x = torch.where(_laid(taken, x), ahead, x)
        slope = torch.where(_laid(taken, x), slope_ahead, slope)
        nats = torch.where(taken, nats_ahead, nats)
        h = h * ((share - BEST_SHARE) / (1 + k) ** 0.5).exp()
    return x


def _step_nats(to: Samples, of: Samples, slope: Samples, h: Tensor) -> Tensor:
    """log of the density of Langevin's step between two points, but for a constant."""
    return -(to - of - _laid(h / 2, of) * slope).square().flatten(1).sum(1) / (2 * h)


def _curvature(x: Samples, measurement: Measurement, direction: Samples) -> Tensor:
    """The largest curvature of the misfit at x, for each sample, from a few powers of A'^T Sigma^-1 A'."""
    return _largest(measurement.derivative(x), measurement.variance(x), direction)


def _largest(along: LinearMap, variance: Measured, direction: Samples) -> Tensor:
    found = direction.new_zeros(len(direction))
    for _ in range(POWER_STEPS):
        direction = direction / _laid(direction.flatten(1).norm(dim=1).clamp(min=1e-30), direction)
        direction = along.adjoint(along.apply(direction) / variance)
        found = direction.flatten(1).norm(dim=1)
    return found


def checked_walk(steps: int) -> None:
    """Raises SettingsError for a number of steps of a walk that cannot be."""
    if not 1 <= steps <= MOST_OF_WALK:
        raise SettingsError(f"a walk has 1 to {MOST_OF_WALK} steps, not {steps}")


def _require_noise(x: Samples, measurement: Measurement) -> None:
    if (measurement.variance(x) <= 0).any():
        raise SettingsError(
            "a noise of 0 and an operator that is not linear: the samples that fit exactly have no volume to walk in",
            "say how large the noise is, such as --noise 0.01",
        )


def _laid(values: Tensor, like: Samples) -> Tensor:
    return per_sample(values, like)
