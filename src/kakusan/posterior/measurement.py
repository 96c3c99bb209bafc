"""A measurement: y = A(x) + noise, as a likelihood of samples in the network's units."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from kakusan.diffusion.gaussians import double
from kakusan.errors import SettingsError
from kakusan.operators import Linear, LinearMap, Measured, Operator
from kakusan.posterior.noise import Gaussian, Noise, Unknown
from kakusan.samplers.walk import SeededNoise
from kakusan.shapes import Samples, by_row

PROBES = 16
"""Points at which the size of A' is looked at."""


@dataclass(frozen=True, eq=False)
class Linearized:
    """y near a point, each of its values in units of the change that x makes of it, so that units of y mean nothing."""

    residual: Measured
    """y - A(x)."""
    variance: Measured
    """Of the noise."""
    along: LinearMap
    """A'(x), whose rows have about the length 1."""
    norms: Measured
    """The units."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """y = A(x) + noise of one unknown x, or of several.

    operator: A, in the units of the data. y: (n, ...), or (n,) where A(x) is a single number, float64, nan where
    nothing was measured. noise: or a number, the deviation of Gaussian noise, in the units of y. shape: of a sample,
    (channels, *space). scale, mean: the data are scale x + mean where x is in the network's units; a number, or one
    for each channel.
    Raises SettingsError where y is not what the operator gives of such samples, or says nothing at all.
    """

    operator: Operator
    y: Tensor
    noise: Noise | float | int
    shape: tuple[int, ...]
    scale: float | int | Tensor = 1.0
    mean: float | int | Tensor = 0.0
    found_norms: Tensor | None = field(default=None, repr=False)
    """Lengths of the rows of A', where they are known already."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "y", self.y.detach().double().view(self.y.shape or (1,)))
        wanted, given = self.operator.measured_shape(self.shape), tuple(self.y.shape[1:])
        if wanted != given or not len(self.y):
            raise SettingsError(
                f"what was measured has shape {given}, and the operator gives {wanted}"
                f" of samples of shape {self.shape}",
                "y and the operator belong to samples of the size that the model has learned",
            )
        if not by_row(self.known).any(1).all():
            raise SettingsError("nothing was measured: all values of y are nan, or hidden by the mask")
        if self.y[self.known].isinf().any():
            raise SettingsError("a measured value is infinite", "nan says that a value was not measured")
        self.law.require_fit(self._filled)

    def __len__(self) -> int:
        return len(self.y)

    def rows(self, rows: Tensor) -> "Measurement":
        """The measurements of some of the x, in this order."""
        return replace(self, y=self.y[rows.to(self.y.device)], found_norms=self.norms)

    @cached_property
    def law(self) -> Noise:
        """y given A(x) as methods see both: Gaussian noise with the variance of the operator's own rounding."""
        return self._said.widened(self.operator.rounding(self.shape))

    @cached_property
    def seen(self) -> Operator:
        """A as methods see it: without its last rounding where the noise is Gaussian, since `law` has that in it.

        Other noise has no room for it: then A rounds, and its derivative is that of the unrounded value.
        """
        return self.operator.unrounded if isinstance(self._said, Gaussian | Unknown) else self.operator

    @property
    def is_linear(self) -> bool:
        return isinstance(self.seen, Linear)

    @cached_property
    def known(self) -> Tensor:
        """The values of y that hold something, booleans of its shape."""
        kept = self.operator.is_measured(self.shape)
        there = ~self.y.isnan()
        return there if kept is None else there & kept.to(there.device)

    def data(self, x: Samples) -> Samples:
        """Samples in the units of the data, in their type."""
        return x * self._laid(self.scale, x) + self._laid(self.mean, x)

    def predicted(self, x: Samples) -> Measured:
        """A(x), as `seen`, of samples in the network's units, in their type."""
        return self._seen(self.data(x))

    def _seen(self, data: Samples) -> Measured:
        """A of samples in the units of the data; parameters of an operator's own get no gradient where x has none."""
        y = self.seen(data)
        return y if data.requires_grad else y.detach()

    def residual(self, x: Samples) -> Measured:
        """y - A(x), A as `seen`, 0 where nothing was measured, in the type of x; with gradients.

        In float64, of linear operators y - A(mean) alone, so that an offset many times the scale costs no detail.
        """
        if self.is_linear:
            away = self._rest.to(x) - self._seen(x * self._laid(self.scale, x))
        else:
            wide = double(x)
            away = (self._filled.to(wide) - self.predicted(wide)).to(x)
        return away * self.known.to(x)

    def variance(self, x: Samples) -> Measured:
        """Of the noise near a prediction, as of Gaussian noise, in the type of x; 1 where nothing was measured."""
        left = double(self.residual(x))
        found = self.law.variance(left, self._filled.to(left) - left).to(x)
        return found.masked_fill(~self.known.to(x.device), 1)

    def derivative(self, x: Samples) -> LinearMap:
        """The change of A(x) with x in the network's units, where something was measured."""
        at = x if self.is_linear else double(x)
        map_, scale, known = (
            self.seen.derivative(self.data(at)),
            self._laid(self.scale, at),
            self.known.to(at),
        )
        return LinearMap(
            lambda v: (map_.apply(v.to(at) * scale).detach() * known).to(v),
            lambda w: (map_.adjoint(w.to(at) * known).detach() * scale).to(w),
        )

    def linearized(self, x: Samples) -> Linearized:
        """y - A(x), the noise and A'(x) at these samples, as what solves for x is to see them: in units of A'."""
        norms, along = self.norms.to(x), self.derivative(x)
        variance = self.variance(x.double()) / self.norms.to(x.device).square()
        return Linearized(
            self.residual(x) / norms,
            variance.to(x).masked_fill(~self.known.to(x.device), 1),
            LinearMap(lambda v: along.apply(v) / norms, lambda w: along.adjoint(w / norms)),
            norms,
        )

    @cached_property
    def norms(self) -> Tensor:
        """About how much each value of y changes where x does by 1 in all its values, (1, ...), float64; never 0.

        The root mean square over random points and signs, the same for all.
        """
        if self.found_norms is not None:
            return self.found_norms
        rows = torch.arange(PROBES)
        at, signs = (SeededNoise(seed, rows, self.shape).start().double() for seed in (0, 1))
        laid = self._laid(self.scale, at)
        change = self.seen.derivative(self.data(at)).apply(signs.sign() * laid)
        found = change.detach().double().square().mean(0, keepdim=True).sqrt()
        return torch.where(found > 0, found, torch.ones_like(found)).cpu()

    def log_likelihood(self, x: Samples) -> Tensor:
        """log p(y | x) of each sample under `law`, in nats, float64, with gradients."""
        wide = double(x)
        nats = self.law.log_density(self._filled.to(wide), self.predicted(wide))
        return by_row(nats * self.known.to(x)).sum(1)

    def log_likelihood_rounded(self, x: Samples) -> Tensor:
        """log p(y | x) of each sample under the noise about the rounded A(x), no Gaussian in place of the rounding.

        Of rounded values without noise: 0 where y is the nearest step to A(x), -inf elsewhere. It has no slope that
        could lead to y. Not for exact values that no rounding is in.
        """
        wide = double(x)
        y, rounded = self._filled.to(wide), self.operator(self.data(wide)).detach()
        step = (12 * torch.as_tensor(self.operator.rounding(self.shape)).to(wide)).sqrt()
        cell = torch.zeros_like(rounded).masked_fill((y - rounded).abs() >= step / 2, -torch.inf)
        exact = self._said.variance(y - rounded, rounded) == 0
        nats = torch.where(exact, cell, self._said.log_density(y, rounded))
        return by_row(nats.masked_fill(~self.known.to(x.device), 0)).sum(1)

    @property
    def _said(self) -> Noise:
        """The noise as it was given, as a law."""
        return self.noise if isinstance(self.noise, Noise) else Gaussian(self.noise)

    @cached_property
    def _filled(self) -> Tensor:
        return self.y.masked_fill(~self.known, 0)

    @cached_property
    def _rest(self) -> Tensor:
        """y - A(mean), float64."""
        mean = torch.zeros(1, *self.shape, dtype=torch.float64) + self._laid(
            self.mean, torch.empty(0).double()
        )
        return self._filled - self._seen(mean).to(self._filled)

    def _laid(self, values: float | Tensor, x: Tensor) -> Tensor:
        """A number for each channel, over samples, in the type of x."""
        given = torch.as_tensor(values, dtype=torch.float64).to(x)
        return given.view(-1, *[1] * (len(self.shape) - 1)) if given.ndim else given
