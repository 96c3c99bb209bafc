"""The exact likelihood of a model's probability flow (Song et al. 2021, section 4.3 and appendix D.2).

Without the noise of its steps, a denoiser moves x_t along a differential equation whose law at each t is that of the
chain, where the denoiser is exact. Such a flow is invertible, so its density is known: that of the noise it ends in,
and the integral of its divergence.

The variable is an angle: sigma = b / a = tan(phi). In the scale of the variance-preserving twin, on any path,
z = cos(phi) x_0 + sin(phi) eps, and its flow is dz / dphi = cos(phi) eps_hat - sin(phi) x_0_hat: the velocity v
(Salimans & Ho 2022, appendix D). It is finite at both ends, pure noise (phi = pi / 2) among them.

    log p(z at the start) = log p(z at T) + integral of div v dphi

The flow begins at t_min, below which a network has learned nothing, and p(x_0 | x_t_min) of the last step is one of
three, `LAST_STEPS`. Each gives an upper bound of -log p(x_0) that is tight but for this step; between t_min and T
nothing is bounded, and the only errors are those of solver and trace.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.forward import q_marginal
from kakusan.diffusion.gaussians import Gaussian, Nats, double, log_normal_interval
from kakusan.diffusion.likelihood import BITS, check_levels, decoder_term
from kakusan.diffusion.model import Model, as_model
from kakusan.diffusion.paths import Path
from kakusan.diffusion.solving import Position, State, solve
from kakusan.errors import SettingsError
from kakusan.randomness import Purpose, normals, uniforms
from kakusan.shapes import Condition, Samples, Times, per_sample, times_like

EXACT_UP_TO = 16
"""Values of a sample up to which the trace is exact unless probes are asked for: as many backward passes a call."""
PROBES = 2
"""Probes of others: their error is that of one sample, and falls with the samples as well as with the probes."""
TOLERANCE = 1e-4
"""Of a step: deviation of z from that of the lower order, and of the log density in nats/dim."""
ROWS = 32
"""Samples that are moved together."""
T_MIN = 1.0
"""The least noise that a network has seen."""


@dataclass(frozen=True, kw_only=True)
class FlowOptions:
    """How the flow is solved. Raises SettingsError for an unknown last step and for a negative number of probes."""

    last_step: str = "decoder"
    """In `LAST_STEPS`."""
    probes: int | None = None
    """Random directions of the trace; 0: the exact trace; None: exact up to 16 values, and else 2."""
    tolerance: float = TOLERANCE
    """Local error of a step, in z and in nats/dim."""
    t_min: float = T_MIN
    """Where the flow begins."""

    def __post_init__(self) -> None:
        if self.last_step not in LAST_STEPS:
            raise SettingsError(
                f"unknown last step {self.last_step!r}", f"there are: {', '.join(LAST_STEPS)}"
            )
        if self.probes is not None and self.probes < 0:
            raise SettingsError(f"a trace has 0 probes (exact) or more, not {self.probes}")

    def directions(self, values: int) -> int:
        """Probes of samples with so many values; 0: exact."""
        return self.probes if self.probes is not None else 0 if values <= EXACT_UP_TO else PROBES


@dataclass(frozen=True)
class FlowDensity:
    """log of the density at x_t, in nats a sample; one column a probe, or a single one where the trace is exact."""

    by_probe: Float64[Tensor, "batch probes"]
    calls: Int64[Tensor, " batch"]
    """Network calls."""

    @property
    def nats(self) -> Float64[Tensor, " batch"]:
        return self.by_probe.mean(1)

    @property
    def standard_error(self) -> Float64[Tensor, " batch"]:
        """Of the trace, over its probes; 0 where it is exact, nan for a single probe."""
        if self.by_probe.shape[1] == 1:
            return torch.full_like(self.nats, math.nan)
        deviation: Tensor = self.by_probe.std(1)
        return deviation / math.sqrt(self.by_probe.shape[1])


@dataclass(frozen=True)
class ExactLikelihood:
    """-log p(x_0) of some samples by the flow, in bits/dim."""

    total: Float64[Tensor, " batch"]
    probes_error: Float64[Tensor, " batch"]
    """Standard error of each for the probes of its trace; 0 where it is exact, nan for a single probe."""
    calls: Int64[Tensor, " batch"]
    """Network calls."""

    @property
    def mean(self) -> float:
        """Bits/dim over all samples."""
        return float(self.total.mean())

    @property
    def mean_standard_error(self) -> float:
        """Of the mean, over samples and all that is drawn for each. nan for a single sample."""
        return float(self.total.std() / len(self.total) ** 0.5) if len(self.total) > 1 else math.nan


End = Callable[[Samples], Float64[Tensor, " batch"]]
"""x_T -> log of its density, in nats."""


def flow_density(
    model: Model[Denoiser] | Denoiser,
    x: Samples,
    options: FlowOptions | None = None,
    *,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
    condition: Condition | None = None,
    end: End | None = None,
) -> FlowDensity:
    """log p(x_t) of the flow at t_min, where x is x_t on the path; guesses are clipped as the model's are.

    end: log density of x_T; None: N(0, a_T^2 + b_T^2), where sampling starts. The probes are a function of (seed, the
    sample's number). State and solver are float64, the denoiser is asked in the type of x.
    Raises SettingsError for t_min outside of 0 < t_min < T, and what `solve` raises.
    """
    model, options = as_model(model), options or FlowOptions()
    path, values = model.path, x[0].numel()
    if not 0 < options.t_min < path.T:
        raise SettingsError(
            f"a flow begins above 0 and below T = {path.T}, not at t = {options.t_min}",
            "exact likelihoods are for T of 2 or more",
        )
    first, last = (_angle(path, times_like(t, x)) for t in (options.t_min, path.T))
    probes = _probes(options.directions(values), seed, _numbers(x, numbers), x)
    flow = _Flow(model, x, probes, condition)
    start = torch.cat([_twin(path, x, options.t_min), torch.zeros(len(x), flow.columns).double()], 1)
    solved = solve(flow.slope, start, first, last, options.tolerance, flow.size)
    z_T, gained = solved.state[:, :values], solved.state[:, values:] * values
    scales = [path.scale_at(times_like(t, x)) for t in (options.t_min, path.T)]
    x_T = per_sample(scales[1], x) * z_T.view(x.shape)
    at_end = _prior(path, x_T) if end is None else end(x_T.to(x.device)).cpu()
    of_scale = values * (scales[1] / scales[0]).log()
    return FlowDensity((at_end + of_scale)[:, None] + gained, solved.calls)


def _prior(path: Path, x_T: Samples) -> Float64[Tensor, " batch"]:
    variance = per_sample(path.scale_at(times_like(path.T, x_T)).square(), x_T)
    return Gaussian(torch.zeros_like(x_T), variance).log_density(x_T).flatten(1).sum(1)


def _angle(path: Path, t: Times) -> Position:
    a, b = path.at(t)
    return torch.atan2(b, a)


def _twin(path: Path, x: Samples, t: float) -> State:
    """x_t in the scale of the twin, as rows, on the CPU."""
    return double(x).cpu().flatten(1) / path.scale_at(times_like(t, x))[:, None]


def _numbers(x: Samples, numbers: Sequence[int] | None) -> Int64[Tensor, " batch"]:
    return torch.arange(len(x)) if numbers is None else torch.as_tensor(numbers, dtype=torch.int64)


def _probes(count: int, seed: int, numbers: Int64[Tensor, " batch"], x: Samples) -> Samples | None:
    """Random signs (Hutchinson 1990), of shape (batch, probes, values); None for the exact trace."""
    if not count:
        return None
    drawn = [uniforms(seed, Purpose.PROBE, k, numbers, x[0].numel()) for k in range(count)]
    return torch.stack(drawn, 1).sub(0.5).sign().to(x)


@dataclass(frozen=True, eq=False)
class _Flow:
    """The slope of (z, divergence per value): the second as many columns as there are probes, or 1."""

    model: Model[Denoiser]
    x: Samples
    probes: Samples | None
    condition: Condition | None

    @property
    def columns(self) -> int:
        return 1 if self.probes is None else self.probes.shape[1]

    @property
    def values(self) -> int:
        return self.x[0].numel()

    def slope(self, angle: Position, state: State, rows: Int64[Tensor, " rows"]) -> State:
        z = state[:, : self.values].view(len(rows), *self.x.shape[1:]).to(self.x)
        given = None if self.condition is None else self.condition.rows(rows)
        t = self._time(angle)
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            v = self._velocity(z, angle, t, given)
            divergence = self._divergence(v, z, rows)
        return torch.cat([double(v.detach()).cpu().flatten(1), divergence / self.values], 1)

    def _time(self, angle: Position) -> Times:
        """At which sigma is the tangent of the angle; rounding leads no further than to T."""
        lowest = self.model.path.half_log_snr(times_like(self.model.path.T, self.x[:1]))
        return self.model.path.time_at(torch.maximum(-torch.tan(angle.clamp(max=math.pi / 2)).log(), lowest))

    def _velocity(self, z: Samples, angle: Position, t: Times, condition: Condition | None) -> Samples:
        """cos(phi) eps_hat - sin(phi) x_0_hat, in the type of z."""
        scale = per_sample(self.model.path.scale_at(t), z).to(z)
        guess = self.model.predict(scale * z, t, condition)
        cosine, sine = (per_sample(part, z).to(z) for part in (angle.cos(), angle.sin()))
        return cosine * guess.eps - sine * guess.x_0

    def _divergence(
        self, v: Samples, z: Samples, rows: Int64[Tensor, " rows"]
    ) -> Float64[Tensor, "rows columns"]:
        """The trace of dv / dz: exactly, a backward pass a value, or e^T (dv / dz) e for each probe e."""
        count = self.values if self.probes is None else self.columns
        found = []
        for k in range(count):
            if self.probes is None:
                e = torch.zeros_like(v).flatten(1)
                e[:, k] = 1
            else:
                e = self.probes[rows.to(self.probes.device), k]
            (gradient,) = torch.autograd.grad(v, z, e.view_as(v), retain_graph=k + 1 < count)
            found.append((double(gradient).flatten(1) * double(e)).sum(1).cpu())
        columns = torch.stack(found, 1)
        return columns.sum(1, keepdim=True) if self.probes is None else columns

    def size(self, difference: State, state: State) -> Position:
        """The larger of two errors: root mean square of z, relative where z is above 1; nats/dim of the density."""
        moved = difference[:, : self.values] / state[:, : self.values].abs().clamp(min=1)
        density = difference[:, self.values :].mean(1).abs()
        return torch.maximum(moved.square().mean(1).sqrt(), density)


# The last step, from t_min to the data

Last = tuple[Samples, Nats]
"""x at t_min, and log q - log p: what is added, in nats, to -log p of the flow there."""
LastStep = Callable[[Model[Denoiser], Samples, Times, int, Int64[Tensor, " batch"], Condition | None], Last]


def _decoder(
    model: Model[Denoiser],
    x_0: Samples,
    t: Times,
    seed: int,
    numbers: Int64[Tensor, " batch"],
    condition: Condition | None,
) -> Last:
    """x_1 ~ q(x_1 | x_0) and the decoder p(x_0 | x_1) of the chain: L_0 of the bound, on the same noise."""
    if not (t == 1).all():
        raise SettingsError("the decoder is that of t = 1, where the flow must begin", "leave t_min as it is")
    shape = tuple(x_0.shape[1:])
    one = torch.ones(1, dtype=torch.int64, device=x_0.device)
    drawn = [normals(seed, Purpose.EVALUATION_NOISE, int(n), one, shape) for n in numbers]
    law = q_marginal(model.path, x_0, t)
    x_1 = law.reparametrize(torch.cat(drawn).to(x_0))
    with torch.no_grad():
        decoded = decoder_term(model, model.predict(x_1, t, condition), x_1, x_0)
    return x_1, law.log_density(x_1) + decoded


def _uniform(
    model: Model[Denoiser],
    x_0: Samples,
    t: Times,
    seed: int,
    numbers: Int64[Tensor, " batch"],
    condition: Condition | None,  # noqa: ARG001
) -> Last:
    """Uniform dequantization (Theis et al. 2016): the density at t_min, in the scale of the data, over each bin."""
    half, drawn = _bins(model, x_0, seed, numbers)
    y = double(x_0) + (2 * drawn - 1) * half
    return _scaled_down(model.path, y, x_0, t, torch.full_like(y, -math.log(2 * half)))


def _truncated(
    model: Model[Denoiser],
    x_0: Samples,
    t: Times,
    seed: int,
    numbers: Int64[Tensor, " batch"],
    condition: Condition | None,  # noqa: ARG001
) -> Last:
    """Variational dequantization (Ho et al. 2019) by the noise at t_min, cut off at the edges of the bin.

    What the flow expects at t_min is this noise: a law without parameters of its own (Zheng et al. 2023).
    """
    half, drawn = _bins(model, x_0, seed, numbers)
    a, b = model.path.at(t)
    sigma = per_sample(b / a, x_0).to(drawn)
    edge = half / sigma
    low, high = (torch.special.ndtr(each) for each in (-edge, edge))
    tau = torch.special.ndtri(low + drawn * (high - low)).clamp(-edge, edge)
    log_mass = log_normal_interval(-edge, edge)
    log_q = -0.5 * (tau.square() + math.log(2 * math.pi)) - sigma.log() - log_mass
    return _scaled_down(model.path, double(x_0) + sigma * tau, x_0, t, log_q)


def _bins(
    model: Model[Denoiser], x_0: Samples, seed: int, numbers: Int64[Tensor, " batch"]
) -> tuple[float, Float64[Tensor, "batch channels *space"]]:
    """Half the width of a bin, and uniform numbers, one a value. Raises SettingsError where the data are real."""
    if model.levels is None:
        raise SettingsError("real data have no levels to dequantize", "leave the last step to the decoder")
    drawn = uniforms(seed, Purpose.EVALUATION_NOISE, 0, numbers, x_0[0].numel())
    return 1 / (model.levels - 1), drawn.view(x_0.shape).to(double(x_0).device)


def _scaled_down(path: Path, y: Samples, like: Samples, t: Times, log_q: Nats) -> Last:
    """a y for x at t_min, with what the change of scale adds: log p(y) = log p(a y) + D log a."""
    a, _ = path.at(t)
    scale = per_sample(a, y).to(y)
    return (scale * y).to(like), log_q - scale.log()


LAST_STEPS: dict[str, LastStep] = {"decoder": _decoder, "uniform": _uniform, "truncated": _truncated}
"""From t_min to the data: the decoder of the chain, or the density there over each level's bin."""


def exact_likelihood(
    model: Model[Denoiser] | Denoiser,
    x_0: Samples,
    options: FlowOptions | None = None,
    *,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
    condition: Condition | None = None,
) -> ExactLikelihood:
    """-log p(x_0) of each sample by the probability flow from t_min to T, in bits/dim.

    x_0: in the network's units. numbers: of the samples, for their noise and probes, as of `variational_bound`, with
    which the decoder's noise is shared: L_0 is the same. Exact between t_min and T; the last step, with one draw a
    sample, is bounded from above.
    Raises DataError where the data should be levels and are not, SettingsError as `flow_density` does and for a last
    step that the data have not, ValueError for a condition with a mask: a flow is of whole samples.
    """
    parts = list(likelihoods(model, x_0, options, seed=seed, numbers=numbers, condition=condition))
    return joined_likelihoods(parts)


def likelihoods(
    model: Model[Denoiser] | Denoiser,
    x_0: Samples,
    options: FlowOptions | None = None,
    *,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
    condition: Condition | None = None,
) -> Iterator[ExactLikelihood]:
    """`exact_likelihood` in parts, 32 samples at a time."""
    model, options = as_model(model), options or FlowOptions()
    if condition is not None and condition.mask is not None:
        raise ValueError("a flow has the density of whole samples, and a mask says that values are missing")
    if model.levels is not None:
        check_levels(x_0, model.levels)
    known = _numbers(x_0, numbers)
    for start in range(0, len(x_0), ROWS):
        part = slice(start, start + ROWS)
        given = None if condition is None else condition.rows(part)
        yield _measured(model, x_0[part], options, seed, known[part], given)


def joined_likelihoods(parts: Sequence[ExactLikelihood]) -> ExactLikelihood:
    """Those of all the samples of the parts."""
    columns: dict[str, Any] = {
        f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(ExactLikelihood)
    }
    return ExactLikelihood(**columns)


def _measured(
    model: Model[Denoiser],
    x_0: Samples,
    options: FlowOptions,
    seed: int,
    numbers: Int64[Tensor, " batch"],
    condition: Condition | None,
) -> ExactLikelihood:
    last_step = LAST_STEPS[options.last_step]
    x, added = last_step(model, x_0, times_like(options.t_min, x_0), seed, numbers, condition)
    found = flow_density(model, x, options, seed=seed, numbers=numbers.tolist(), condition=condition)
    values = x_0[0].numel()
    total = (added.flatten(1).sum(1).cpu() - found.nats) * BITS / values
    error = found.standard_error * BITS / values
    is_exact = options.directions(values) == 0
    return ExactLikelihood(total, torch.zeros_like(error) if is_exact else error, found.calls)
