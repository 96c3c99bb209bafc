"""The exact posterior where the denoiser is an oracle: the truth that methods are measured by.

Gaussians and mixtures, with linear A and Gaussian noise, in closed form: each component by linear regression, its
weight by p(y | component). A finite set of images, with any A and any noise, by enumeration: weights p(y | x), in
which what rounds is rounded, and no Gaussian is in its place.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float64
from torch import Tensor

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.gaussians import double
from kakusan.diffusion.oracles import FiniteSetOracle, GaussianOracle, LinearOracle, MixtureOracle, Normal
from kakusan.diffusion.paths import Path
from kakusan.errors import SettingsError
from kakusan.operators import Linear
from kakusan.posterior.base import Method, uniform
from kakusan.posterior.counting import Counted
from kakusan.posterior.measurement import Measurement
from kakusan.posterior.proximal import is_gaussian
from kakusan.samplers.base import AnyModel
from kakusan.samplers.walk import NoiseSource, Snapshot
from kakusan.shapes import Condition, by_row

NOTHING = 1e-10
"""Eigenvalues of the covariance of y in its deviations, as a share of the largest, that rounding may have made of 0."""
CHUNK = 1024
"""Images of a finite set that are measured at once."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """The posterior of one measurement, float64: k Gaussians on the D values of a sample, in order."""

    weights: Float64[Tensor, " k"]
    means: Float64[Tensor, "k D"]
    roots: Float64[Tensor, "k D D"] | None
    """C with C C^T the covariance; None: single points."""

    @property
    def mean(self) -> Float64[Tensor, " D"]:
        return self.weights @ self.means

    @property
    def covariance(self) -> Float64[Tensor, "D D"]:
        away = self.means - self.mean
        between = (self.weights[:, None] * away).T @ away
        if self.roots is None:
            return between
        return between + torch.einsum("k,kij,klj->il", self.weights, self.roots, self.roots)

    def drawn(self, luck: Float64[Tensor, " n"], noise: Float64[Tensor, "n D"]) -> Float64[Tensor, "n D"]:
        """Draws as a function of uniform numbers and standard normal noise."""
        edges = self.weights.cumsum(0)
        which = torch.searchsorted(edges / edges[-1], luck).clamp(max=len(edges) - 1)
        x = self.means[which].clone()
        if self.roots is not None:
            for k in range(len(edges)):
                x[which == k] += noise[which == k] @ self.roots[k].T
        return x


@dataclass(frozen=True, kw_only=True)
class Exact(Method):
    """Draws of the posterior itself, for oracles; a network is none."""

    def steps_of(self, path: Path) -> int:  # noqa: ARG002
        return 1

    @torch.no_grad()
    def trajectory(
        self,
        model: AnyModel,
        measurement: Measurement,
        noises: NoiseSource,
        condition: Condition | None = None,
    ) -> Iterator[Snapshot]:
        start = noises.start()
        yield Snapshot(model.path.T, start)
        luck, noise = uniform(noises.draw(0)).cpu(), double(start).flatten(1).cpu()
        x = torch.empty_like(noise)
        for rows in _alike(measurement, condition):
            given = condition.rows(rows[:1]) if condition is not None and len(condition) > 1 else condition
            law = posterior(model.denoiser, measurement.rows(rows[:1]), given)
            x[rows] = law.drawn(luck[rows], noise[rows])
        found = x.view(start.shape).to(start)
        yield Snapshot(0, found, found)


def no_oracle() -> SettingsError:
    """The error of an exact posterior of a network."""
    return SettingsError(
        "an exact posterior is that of an oracle, and this denoiser is a network or one of your own",
        "take mmps, or gibbs and smc where error bars have to hold",
    )


def posterior(oracle: Denoiser, measurement: Measurement, condition: Condition | None = None) -> Mixture:
    """p(x | y) of the first y, given the first condition.

    Raises SettingsError where the denoiser is no oracle, or the noise not of its kind.
    """
    while isinstance(oracle, Counted):
        oracle = oracle.of
    first = torch.zeros(1, dtype=torch.long)
    measurement = measurement.rows(first)
    condition = condition.rows(first) if condition is not None and len(condition) > 1 else condition
    if isinstance(oracle, FiniteSetOracle):
        return _of_points(oracle, measurement)
    if not isinstance(oracle, GaussianOracle | MixtureOracle | LinearOracle):
        raise no_oracle()
    if not (
        is_gaussian(measurement) and isinstance(measurement.operator, Linear)
    ):  # a rounding is no Gaussian
        raise SettingsError(
            "Gaussians have an exact posterior where A is linear and the noise Gaussian, which is not so here",
            "take smc",
        )
    return _of_gaussians(*_components(oracle, prod(measurement.shape), condition), measurement)


def _components(
    oracle: GaussianOracle | MixtureOracle | LinearOracle, D: int, condition: Condition | None
) -> tuple[Tensor, list[Normal], Tensor]:
    """Weights, laws, and what is added to their means."""
    nothing, is_known = (
        torch.zeros(D, dtype=torch.float64),
        condition is not None and condition.dropped is None,
    )
    if isinstance(oracle, GaussianOracle):
        return torch.ones(1, dtype=torch.float64), [oracle.law], nothing
    if isinstance(oracle, LinearOracle):
        if condition is None or condition.vector is None or not is_known:
            return torch.ones(1, dtype=torch.float64), [oracle.marginal.law], nothing
        return (
            torch.ones(1, dtype=torch.float64),
            [oracle.given.law],
            oracle.shift(condition.vector).flatten(),
        )
    if condition is not None and condition.label is not None and is_known:
        return torch.ones(1, dtype=torch.float64), [oracle.laws[int(condition.label[0])]], nothing
    return double(oracle.weights).cpu(), list(oracle.laws), nothing


def _of_gaussians(weights: Tensor, laws: list[Normal], shift: Tensor, measurement: Measurement) -> Mixture:
    """Linear regression of each component on y, and its weight.

    Each value of y in its deviation under all components, the same for all, so that the units of y mean nothing.
    """
    D, shape = prod(measurement.shape), measurement.shape
    origin = torch.zeros(1, *shape, dtype=torch.float64)
    known = measurement.known[0].flatten()
    A = _matrix(measurement)[known]
    y = measurement.residual(origin).flatten()[known]
    Sigma = measurement.variance(origin).flatten()[known].diag()
    of_laws = [(law.mean.expand(D) + shift, _covariance(law, D)) for law in laws]
    spread = torch.stack([((A @ C) * A).sum(1) for _, C in of_laws]).amax(0) + Sigma.diagonal()
    unit = torch.where(spread > 0, spread.sqrt(), torch.ones_like(spread))
    A, y, Sigma = A / unit[:, None], y / unit, Sigma / unit.square()
    nats, means, roots = [], [], []
    for mean, C in of_laws:
        spectrum, axes = torch.linalg.eigh(A @ C @ A.T + Sigma)
        there = spectrum > NOTHING * spectrum[-1]
        spectrum, axes = spectrum[there], axes[:, there]
        gain = C @ A.T @ (axes / spectrum) @ axes.T
        away = y - A @ mean
        nats.append(-0.5 * ((axes.T @ away).square() / spectrum + spectrum.log()).sum())
        means.append(mean + gain @ away)
        left = torch.eye(D, dtype=torch.float64) - gain @ A
        covariance = left @ C @ left.T + gain @ Sigma @ gain.T  # Joseph's form: never below 0
        values, vectors = torch.linalg.eigh((covariance + covariance.T) / 2)
        roots.append(vectors * values.clamp(min=0).sqrt())
    shares = (weights.log() + torch.stack(nats)).softmax(0)
    return Mixture(shares, torch.stack(means), torch.stack(roots))


def _covariance(law: Normal, D: int) -> Float64[Tensor, "D D"]:
    axes = torch.eye(D, dtype=torch.float64) if law.axes is None else law.axes
    root = law.spectrum.expand(D).sqrt() * axes
    return root @ root.T


def _matrix(measurement: Measurement) -> Float64[Tensor, "m D"]:
    """A of the first y, in the network's units, as a matrix: what it makes of each unit vector."""
    D = prod(measurement.shape)
    units = torch.eye(D, dtype=torch.float64).view(D, *measurement.shape)
    return by_row(measurement.derivative(units).apply(units)).T


def _of_points(oracle: FiniteSetOracle, measurement: Measurement) -> Mixture:
    """The weight of each image, from its likelihood alone."""
    images = double(oracle.images).cpu()
    variance = measurement.variance(images[:1])
    if (variance == 0).any():
        raise SettingsError(
            "exact values fit one image of a finite set or none",
            "say how large the noise is, such as --noise 0.01",
        )
    nats = torch.cat([measurement.log_likelihood_rounded(block) for block in torch.split(images, CHUNK)])
    if (nats == -torch.inf).all():
        raise SettingsError(
            "no image of the finite set is rounded to these values", "say how large the noise is"
        )
    return Mixture(nats.softmax(0), images.flatten(1), None)


def _alike(measurement: Measurement, condition: Condition | None) -> list[Tensor]:
    """Rows with the same y and the same condition: they have one posterior."""
    values = [by_row(measurement.y.nan_to_num(torch.inf)).cpu()]
    if condition is not None and len(condition) > 1:
        values += [tensor.double().flatten(1).cpu() for _, tensor in condition.tensors()]
    group = torch.unique(torch.cat(values, dim=1), dim=0, return_inverse=True)[1]
    return [torch.nonzero(group == k)[:, 0] for k in range(int(group.max()) + 1)]
