"""Exact denoisers of known data: what a perfect network would say. For tests of samplers, bounds and metrics.

All of them are one formula. The data are a mixture of parts. A part explains x_t more or less well, by its density
q(x_t, part), and has a guess of its own, E[x_0 | x_t, part]; the guess of the whole is the mean of theirs, weighted
by q(part | x_t). A part is a Gaussian, or a few of the single images of a finite set.

All is computed in float64 and returned in the type of x_t, at any time 0 < t <= T, whole or not. Where alpha_bar
is 0, x_t says nothing: the guess is the mean of the data, and eps is x_t itself.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.gaussians import double
from kakusan.diffusion.parametrizations import eps_from_x_0
from kakusan.diffusion.paths import Path
from kakusan.diffusion.prediction import Prediction
from kakusan.errors import SettingsError
from kakusan.randomness import Purpose, integers, normals, uniforms
from kakusan.shapes import Coefficients, Condition, Samples, Times, per_sample, scaled, times_like

Values: TypeAlias = Float64[Tensor, "batch values"]
"""Images as rows: the values of an image in the order channels, height, width."""
PerRow: TypeAlias = Float64[Tensor, "batch 1"]
Part: TypeAlias = tuple[PerRow, Values]
"""log q(x_t, part), in nats, and E[x_0 | x_t, part]."""

LOG_2_PI = math.log(2 * math.pi)
DRAWS = 64
"""Images that are drawn together, always as many: so image k is the same to the last bit whatever the count."""
WORKING_BYTES = 64 << 20
"""Memory that a finite set may take at a time, in bytes, for x_t of up to a few hundred images."""
NO_DENSITY = (
    "single points and singular covariances have no density",
    "ask for log_density(x_t, t) at t > 0",
)


class Oracle(Denoiser):
    """A denoiser of a known data distribution, hence an exact one."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """(channels, ...) of a sample."""

    @abstractmethod
    def parts(self, x_t: Values, a: PerRow, b: PerRow) -> Iterator[Part]:
        """Density and guess of each part at x_t = a x_0 + b eps. Raises SettingsError where there is no density."""

    @abstractmethod
    def drawn(self, seed: int, indices: Int64[Tensor, " batch"]) -> Values:
        """The images of these numbers."""

    def predict(self, x_t: Samples, t: Times, condition: Condition | None = None) -> Prediction:  # noqa: ARG002
        """E[x_0 | x_t], and the eps that goes with it. Eq. (2) ties the two."""
        x = double(x_t)
        a, b = self.path.at(t)
        x_0 = self._whole(x, a, b)[1].view(x.shape)
        return Prediction(x_0.to(x_t), eps_from_x_0(x_0, x, a, b).to(x_t))

    def log_density(self, x_t: Samples, t: Times | None = None) -> Float64[Tensor, " batch"]:
        """log q(x_t) of each image, in nats, with gradients; without t, that of the data: t = 0.

        Raises SettingsError at t = 0 where the data have no density: single images, or a singular covariance.
        """
        x = double(x_t)
        a, b = self.path.at(times_like(0, x) if t is None else t)
        return self._whole(x, a, b)[0][:, 0]

    def sample(self, count: int, seed: int = 0) -> Samples:
        """Images number 0, ..., count - 1 of a seed, float64, on the CPU: the same whatever the count."""
        if count < 1:
            raise SettingsError(f"a sample needs a count of at least 1, not {count}")
        rows = [self.drawn(seed, torch.arange(k, k + DRAWS)) for k in range(0, count, DRAWS)]
        return torch.cat(rows)[:count].view(count, *self.shape)

    def _whole(self, x: Samples, a: Coefficients, b: Coefficients) -> Part:
        """The parts as one: the sum of their densities, and the mean of their guesses, weighted by q(part | x_t)."""
        values = math.prod(self.shape)
        if values not in (1, x[0].numel()):
            raise ValueError(f"images of {x[0].numel()} values, but the data of this oracle have {values}")
        parts = self.parts(x.flatten(1), a.to(x)[:, None], b.to(x)[:, None])
        log_density, x_0 = next(parts)
        for part_log_density, part_x_0 in parts:
            log_density = torch.logaddexp(log_density, part_log_density)
            x_0 = torch.lerp(x_0, part_x_0, (part_log_density - log_density).exp())
        return log_density, x_0


@dataclass(frozen=True, eq=False)
class Normal:
    """N(mean, covariance) in the axes of the covariance, where values are independent. A single one fits any image."""

    mean: Float64[Tensor, " values"]
    spectrum: Float64[Tensor, " values"]
    """The variances along the axes."""
    axes: Float64[Tensor, "values values"] | None
    """The axes, in columns; None where they are those of the image."""

    def part(self, x_t: Values, a: PerRow, b: PerRow) -> Part:
        mean, spectrum = self.mean.to(x_t), self.spectrum.to(x_t)
        axes = None if self.axes is None else self.axes.to(x_t)
        variance = a.square() * spectrum + b.square()
        if (variance == 0).any():
            raise SettingsError(*NO_DENSITY)
        away = x_t - a * mean if axes is None else (x_t - a * mean) @ axes
        nats = -0.5 * (away.square() / variance + variance.log() + LOG_2_PI).sum(1, keepdim=True)
        back = a * spectrum / variance * away
        return nats, mean + (back if axes is None else back @ axes.T)

    def of_noise(self, noise: Values) -> Values:
        """A draw as a function of standard normal noise."""
        along = self.spectrum.sqrt() * noise
        return self.mean + (along if self.axes is None else along @ self.axes.T)


def normal(mean: float | int | Tensor, covariance: float | int | Tensor) -> Normal:
    """mean: a number or of a sample's shape; covariance: a number, of that shape, or (D, D) for the D values in order.

    Raises SettingsError where the shapes do not fit or the covariance is none.
    """
    mean, covariance = (torch.as_tensor(v, dtype=torch.float64, device="cpu") for v in (mean, covariance))
    shapes = tuple(mean.shape), tuple(covariance.shape)
    if not (() in shapes or shapes[1] in (shapes[0], (mean.numel(),) * 2)):
        advice = "a mean is a number or (c, ...), a covariance a number, (c, ...) or (D, D) for D values"
        raise SettingsError("a mean and a covariance of shapes {} and {} do not fit".format(*shapes), advice)
    is_matrix = _is_matrix(mean, covariance)
    spectrum, axes = _axes(covariance) if is_matrix else (covariance.flatten(), None)
    if not (mean.isfinite().all() and spectrum.isfinite().all() and (spectrum >= 0).all()):
        advice = "covariances hold no deviations or logarithms; C @ C.T has no negative eigenvalue"
        raise SettingsError("a mean or variance is not finite, or a variance or eigenvalue below 0", advice)
    values = max(mean.numel(), spectrum.numel())
    return Normal(mean.flatten().expand(values), spectrum.expand(values), axes)


def _is_matrix(mean: Tensor, covariance: Tensor) -> bool:
    """Whether it has a row and a column for each value, rather than the shape of a sample."""
    return covariance.ndim == 2 and (mean.ndim == 0 or covariance.shape != mean.shape)


def _axes(covariance: Float64[Tensor, "rows columns"]) -> tuple[Tensor, Tensor]:
    """Eigenvalues, and eigenvectors in columns. Eigenvalues that rounding may have made of 0 are 0."""
    size = len(covariance) * float(covariance.abs().max())
    slack = 1e-6 * size  # a covariance may have been computed in float32
    if covariance.shape[0] != covariance.shape[1] or not ((covariance - covariance.T).abs() <= slack).all():
        raise SettingsError("a covariance is not square, symmetric, finite", "take (C + C.T) / 2 or C @ C.T")
    spectrum, axes = torch.linalg.eigh((covariance + covariance.T) / 2)
    lost = torch.finfo(torch.float64).eps * size  # eigh cannot tell such a value from 0
    return spectrum.masked_fill((spectrum > -slack) & (spectrum < lost), 0), axes


@dataclass(frozen=True, eq=False)
class GaussianOracle(Oracle):
    """Data that are N(mean, covariance).

    mean: a number or a tensor of a sample's shape, (c, h, w) for images; covariance: a number (the variance of
    independent values), a tensor of that shape (each value its own) or a symmetric, positive semidefinite matrix (D, D)
    of the D values in this order; eigenvalues may be 0. Two numbers fit images of any shape; `sample` then gives single
    values, and `entropy` is that of one. Raises SettingsError for anything else.
    """

    path: Path
    mean: float | int | Tensor = 0.0
    covariance: float | int | Tensor = 1.0

    def __post_init__(self) -> None:
        _ = self.law  # its checks belong here

    @cached_property
    def law(self) -> Normal:
        """With the eigendecomposition that all else needs."""
        return normal(self.mean, self.covariance)

    @property
    def shape(self) -> tuple[int, ...]:
        mean, covariance = torch.as_tensor(self.mean), torch.as_tensor(self.covariance)
        of_values = mean if mean.ndim else covariance
        known = of_values.ndim and not _is_matrix(mean, of_values)
        return tuple(of_values.shape) if known else (len(self.law.mean), 1, 1)

    def parts(self, x_t: Values, a: PerRow, b: PerRow) -> Iterator[Part]:
        yield self.law.part(x_t, a, b)

    def drawn(self, seed: int, indices: Int64[Tensor, " batch"]) -> Values:
        return self.law.of_noise(normals(seed, Purpose.ORACLE, 0, indices, self.law.mean.shape).double())

    @property
    def entropy(self) -> float:
        """Nats an image: -E log q(x_0). -inf where the covariance is singular."""
        return float(0.5 * (LOG_2_PI + 1 + self.law.spectrum.log()).sum())

    def errors(self) -> Float64[Tensor, " entries"]:
        """E|x_0 - x_0_hat|^2 / D at t = 0, ..., T, which `Analytic` takes: with it the variance is the best one."""
        spectrum, times = self.law.spectrum, torch.arange(1, self.path.T + 1, dtype=torch.float64)
        table = self.path.alpha_bar_at(times).tolist()
        errors = [float((spectrum * (1 - s) / (s * spectrum + 1 - s)).mean()) for s in table]
        return torch.tensor([0.0, *errors], dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class MixtureOracle(Oracle):
    """Data from one of k Gaussians.

    weights: (k,), above 0, in any scale; means: (k, c, ...); covariances: (k,), (k, c, ...) or (k, D, D), each as in
    `GaussianOracle`. The mean squared errors of its guess have no closed form: the `squared_error` of a
    `VariationalBound` measures them. Raises SettingsError where the shapes do not fit or a covariance is none.
    """

    path: Path
    weights: Tensor
    means: Tensor
    covariances: Tensor

    def __post_init__(self) -> None:
        lengths = {given.shape[:1] for given in (self.weights, self.means, self.covariances)}
        above_0 = ((self.weights > 0) & self.weights.isfinite()).all()
        if self.weights.ndim != 1 or self.means.ndim < 2 or len(lengths) > 1 or not above_0:
            advice = "weights (k,), above 0, means (k, c, ...), covariances (k,), (k, c, ...) or (k, D, D)"
            raise SettingsError("these are not the weights, means and covariances of k Gaussians", advice)
        _ = self.laws  # their checks belong here

    @cached_property
    def laws(self) -> tuple[Normal, ...]:
        """The components, with an eigendecomposition each."""
        return tuple(map(normal, self.means, self.covariances))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.means.shape[1:])

    def parts(self, x_t: Values, a: PerRow, b: PerRow) -> Iterator[Part]:
        log_shares = double(self.weights).log().log_softmax(0).tolist()
        for log_share, law in zip(log_shares, self.laws, strict=True):
            nats, x_0 = law.part(x_t, a, b)
            yield nats + log_share, x_0

    def predict(self, x_t: Samples, t: Times, condition: Condition | None = None) -> Prediction:
        """Prediction of the whole mixture or, where the condition has a label, of that component alone."""
        whole = super().predict(x_t, t)
        if condition is None or condition.label is None:
            return whole
        labels = (
            condition.label
            if condition.dropped is None
            else condition.label.masked_fill(condition.dropped, -1)
        )
        x_0, (a, b) = double(whole.x_0), self.path.at(t)
        for number, law in enumerate(self.laws):
            rows = labels == number
            own = law.part(double(x_t).flatten(1), a.to(x_0)[:, None], b.to(x_0)[:, None])[1].view(x_0.shape)
            x_0 = torch.where(per_sample(rows.to(x_t.device), x_t), own, x_0)
        return Prediction(x_0.to(x_t), eps_from_x_0(x_0, double(x_t), a, b).to(x_t))

    def drawn(self, seed: int, indices: Int64[Tensor, " batch"]) -> Values:
        noise = normals(seed, Purpose.ORACLE, 0, indices, (math.prod(self.shape),)).double()
        edges = double(self.weights).cpu().cumsum(0)
        which = torch.searchsorted(edges / edges[-1], uniforms(seed, Purpose.ORACLE, 1, indices, 1)[:, 0])
        return torch.stack([law.of_noise(noise) for law in self.laws])[which, torch.arange(len(which))]


@dataclass(frozen=True, eq=False)
class LinearOracle(Denoiser):
    """Data that are N(mean + slope v, covariance) given a vector v, which is N(0, I).

    slope: (c, ..., k) for vectors of k numbers; mean, covariance: as in `GaussianOracle`. Without a condition, or where
    it is dropped, the data are N(mean, covariance + slope slope^T). Raises SettingsError where the shapes do not fit.
    """

    path: Path
    slope: Tensor
    mean: float | int | Tensor = 0.0
    covariance: float | int | Tensor = 1.0

    @cached_property
    def given(self) -> GaussianOracle:
        """The law of x_0 - slope v."""
        return GaussianOracle(self.path, self.mean, self.covariance)

    @cached_property
    def marginal(self) -> GaussianOracle:
        """The law of x_0 without its vector."""
        rows, law = double(self.slope).flatten(0, -2), normal(self.mean, self.covariance)
        D = len(rows)
        axes = torch.eye(D, dtype=torch.float64) if law.axes is None else law.axes
        inner = axes @ torch.diag(law.spectrum.expand(D)) @ axes.T
        mean = law.mean.expand(D).reshape(self.slope.shape[:-1])
        return GaussianOracle(self.path, mean, inner + rows @ rows.T)

    def shift(self, vector: Tensor) -> Samples:
        """slope v, for each sample."""
        return torch.einsum("...k,nk->n...", double(self.slope).to(vector.device), double(vector))

    def predict(self, x_t: Samples, t: Times, condition: Condition | None = None) -> Prediction:
        """E[x_0 | x_t, v], and E[x_0 | x_t] where no vector is given."""
        if condition is None or condition.vector is None:
            return self.marginal.predict(x_t, t)
        x, (a, b) = double(x_t), self.path.at(t)
        shift = self.shift(condition.vector)
        x_0 = self.given.predict(x - scaled(a, shift), t).x_0 + shift
        if condition.dropped is not None:
            x_0 = torch.where(per_sample(condition.dropped, x), self.marginal.predict(x, t).x_0, x_0)
        return Prediction(x_0.to(x_t), eps_from_x_0(x_0, x, a, b).to(x_t))


@dataclass(frozen=True, eq=False)
class FiniteSetOracle(Oracle):
    """Data that are one of these images, each as likely: the optimal denoiser of a training set.

    images: (n, c, ...), raises SettingsError for others. A softmax over all of -|x_t - a x_0|^2 / (2 (1 - alpha_bar)),
    as matrix products in float64; those in float32 are off by 2e-5 for 784 values, exponents at 1 - alpha_bar = 1e-4
    by 0.2, and a weight by 0.05 where two images are nearly as far. The images pass by in blocks: memory stays bounded.
    """

    path: Path
    images: Tensor

    def __post_init__(self) -> None:
        if self.images.ndim < 2 or not self.images.numel():
            raise SettingsError(f"samples have the shape (n, c, ...), not {tuple(self.images.shape)}")

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.images.shape[1:])

    def parts(self, x_t: Values, a: PerRow, b: PerRow) -> Iterator[Part]:
        """A part is a block of images."""
        if (b == 0).any():
            raise SettingsError(*NO_DENSITY)
        values, n = x_t.shape[1], len(self.images)
        blocks = 1 + n * 8 * (2 * values + 4 * len(x_t)) // WORKING_BYTES
        common = x_t.square().sum(1, keepdim=True) / b.square() + values * (2 * b.log() + LOG_2_PI)
        for block in self.images.chunk(blocks):
            x_0 = block.flatten(1).to(x_t)
            exponent = (a * (x_t @ x_0.T) - 0.5 * a.square() * x_0.square().sum(1)) / b.square()
            nats = exponent.logsumexp(1, keepdim=True) - 0.5 * common - math.log(n)
            yield nats, exponent.softmax(1) @ x_0

    def drawn(self, seed: int, indices: Int64[Tensor, " batch"]) -> Values:
        which = integers(uniforms(seed, Purpose.ORACLE, 1, indices, 1)[:, 0], len(self.images))
        return double(self.images[which.to(self.images.device)].flatten(1)).cpu()
