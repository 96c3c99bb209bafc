"""Orders of convergence, in float64: twice the steps divide the error by 2 to the order.

Steps are even in the log-SNR, between fixed times above 0; the last jump to the data, whose length is infinite there,
is left out. Methods with a past begin with an exact one: a first step of order 1 would bound what follows to order 2.
"""

import math
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.model import Model
from kakusan.diffusion.oracles import MixtureOracle
from kakusan.diffusion.paths import EDM, FlowMatching, Path
from kakusan.diffusion.prediction import Prediction
from kakusan.diffusion.schedules import Linear
from kakusan.samplers import (
    DDIM,
    IPNDM,
    AdamsBashforth,
    DPMpp2M,
    DPMpp3M,
    DPMppSDE2M,
    EDMSampler,
    Heun,
    Sampler,
    SASolver,
    State,
    UniPC,
    walk,
)
from kakusan.samplers.exponential import Step, moments, polynomial_weights
from kakusan.shapes import times_like

F = torch.float64
COARSEST, DOUBLINGS, PAST = 20, 3, 3
FINE = 4
"""Steps of the reference within the finest step."""
METHODS: dict[str, tuple[Sampler, int]] = {
    "ddim": (DDIM(), 1),
    "dpmpp-2m, unip-2": (DPMpp2M(), 2),
    "heun": (Heun(), 2),
    "dpmpp-3m as published": (DPMpp3M(published=True), 2),
    "dpmpp-3m, adams-bashforth-3": (DPMpp3M(), 3),
    "adams-bashforth-2": (AdamsBashforth(order=2), 2),
    "adams-bashforth-4": (AdamsBashforth(order=4), 4),
    "unip-3": (UniPC(order=3, corrector=False), 3),
    "unipc-1": (UniPC(order=1), 2),
    "unipc-2": (UniPC(order=2), 3),
    "unipc-3": (UniPC(order=3), 4),
    "ipndm": (IPNDM(), 2),
    "sa-solver-1 without noise": (SASolver(order=1, eta=0.0), 2),
    "sa-solver-2 without noise": (SASolver(order=2, eta=0.0), 3),
    "sa-solver-3 without noise": (SASolver(order=3, eta=0.0), 4),
}


def mixture(path: Path) -> Denoiser:
    means = torch.tensor([[-0.5], [0.6]], dtype=F)
    return MixtureOracle(path, torch.tensor([1.0, 2.0]), means, torch.tensor([0.1, 0.2], dtype=F))


def unused(k: int = 0) -> Tensor:
    raise AssertionError(f"noise {k} was not needed")


@dataclass(frozen=True)
class Reference:
    """The probability flow on a fine grid: `PAST` of the coarsest steps, and then from start to end."""

    model: Model[Denoiser]
    times: list[float]
    points: list[Tensor]

    def error(self, sampler: Sampler, steps: int) -> float:
        """The largest error at the end, after this many steps from an exact past."""
        stride = FINE * COARSEST * 2**DOUBLINGS // steps
        first = PAST * FINE * 2**DOUBLINGS
        before = range(first - PAST * stride, first, stride)
        guesses = tuple(self.model.predict(self.points[k], self.at(k)) for k in before)
        state = State(self.points[first], guesses=guesses, times=tuple(self.at(k) for k in before))
        for t, s in pairwise(range(first, len(self.times), stride)):
            state = sampler.step(self.model, state, self.at(t), self.at(s), unused)
        return float((state.x - self.points[-1]).abs().max())

    def at(self, k: int) -> Tensor:
        return times_like(self.times[k], self.points[0])


@cache
def reference() -> Reference:
    """Of a mixture, from t = 850 to 350, at three points, one of them far out."""
    path = Linear()
    model = Model(mixture(path))
    first, last = path.half_log_snr(torch.tensor([850, 350], dtype=F)).tolist()
    count, begin = FINE * 2**DOUBLINGS * (COARSEST + PAST), first - (last - first) / COARSEST * PAST
    times = path.time_at(torch.linspace(begin, last, count + 1, dtype=F)).tolist()
    state, best = State(torch.tensor([[-1.0], [0.4], [2.5]], dtype=F)), UniPC(order=3)
    points = [state.x]
    for t, s in pairwise(times):
        state = best.step(model, state, times_like(t, state.x), times_like(s, state.x), unused)
        points.append(state.x)
    return Reference(model, times, points)


@pytest.mark.parametrize("name", METHODS)
def test_a_sampler_is_of_its_order(name: str) -> None:
    sampler, order = METHODS[name]
    errors = [reference().error(sampler, COARSEST * 2**k) for k in range(DOUBLINGS + 1)]
    assert errors[0] < 2e-2
    assert errors[-1] > 1e-10
    slopes = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert sum(slopes) / DOUBLINGS == pytest.approx(order, abs=0.2)


def test_another_method_ends_where_the_reference_does() -> None:
    """In steps of two of its own: what is left is nearly all this method's own error, at the next doubling but one."""
    assert reference().error(AdamsBashforth(order=4), COARSEST * FINE * 2 ** (DOUBLINGS - 1)) < 1e-9


ALIKE: dict[str, tuple[Sampler, Sampler]] = {
    "unip-1": (UniPC(order=1, corrector=False), DDIM()),
    "adams-bashforth-1": (AdamsBashforth(order=1), DDIM()),
    "ipndm-1": (IPNDM(order=1), DDIM()),
    "unip-2": (UniPC(order=2, corrector=False), DPMpp2M()),
    "dpmpp-sde-2m without noise": (DPMppSDE2M(eta=0.0), DPMpp2M()),
    "edm without noise": (EDMSampler(s_churn=0.0), Heun()),
    "dpmpp-3m": (DPMpp3M(), AdamsBashforth(order=3)),
    "sa-solver-1 without noise": (SASolver(order=1, eta=0.0, corrector=False), DDIM()),
    "sa-solver-3 without noise": (SASolver(order=3, eta=0.0, corrector=False), AdamsBashforth(order=3)),
}


@pytest.mark.parametrize("path", [Linear(), FlowMatching(), EDM()], ids=lambda path: type(path).__name__)
@pytest.mark.parametrize("name", ALIKE)
def test_methods_that_are_one_give_the_same(name: str, path: Path) -> None:
    """All the way, from noise to the data; to rounding errors at the scale of x_T."""
    one, other = [
        list(walk(replace(sampler, steps=12), mixture(path), Start(path)))[-1].x for sampler in ALIKE[name]
    ]
    assert torch.allclose(
        one, other, rtol=0, atol=1e-12 * float(path.scale_at(torch.tensor([1000.0], dtype=F)))
    )


@dataclass(frozen=True)
class Start:
    """Three points of noise, and no more."""

    path: Path

    def start(self) -> Tensor:
        return torch.tensor([[-1.0], [0.4], [2.5]], dtype=F)

    def draw(self, step: int, k: int = 0) -> Tensor:
        raise AssertionError(f"draw {k} of step {step} was not needed")


def test_the_corrected_third_order_doubles_the_second_difference() -> None:
    """The formula of the paper's program with a_s (1 - 2/h + 2 (1 - e^-h) / h^2) for its half: the same step."""
    flow, h, (r0, r1) = reference(), 0.7, (0.9, 1.3)  # in steps; their r_0, r_1
    step, guesses = between(flow, h, (r0, r0 + r1))
    D0, last, before = (guess.x_0 for guess, _ in guesses)
    newer, older = (D0 - last) / r0, (last - before) / r1
    first, second = newer + r0 / (r0 + r1) * (newer - older), (newer - older) / (r0 + r1)
    decay, a_s = math.exp(-h), step.at_s[0]
    theirs = step.first_order(flow.points[0], D0) + a_s * ((decay - 1) / h + 1) * first
    half = (decay - 1 + h) / h**2 - 0.5
    state = State(
        flow.points[0],
        guesses=tuple(guess for guess, _ in reversed(guesses[1:])),
        times=tuple(u for _, u in reversed(guesses[1:])),
    )
    for factor, published in ((1, True), (2, False)):
        ours = DPMpp3M(published=published).step(flow.model, state, step.t, step.s, unused).x
        assert torch.allclose(ours, theirs - a_s * factor * half * second, rtol=0, atol=1e-13)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_stochastic_step_is_exact_for_a_polynomial_in_the_log_snr(eta: float) -> None:
    """Its mean is the reverse SDE's: a_s (1 + eta) int e^((1 + eta)(tau - h)) x_0(tau) and what is kept of x_t."""
    flow, h = reference(), 0.7
    step, guesses = between(flow, h, (0.9, 2.2))

    def cubic(tau: Tensor) -> Tensor:
        return 0.3 - 1.1 * tau + 0.8 * tau**2 - 0.5 * tau**3

    known = [
        (replace(guess, x_0=cubic(torch.full_like(flow.points[0], h * back))), u)
        for (guess, u), back in zip(guesses, (0, -0.9, -2.2), strict=True)
    ]
    at_end = replace(guesses[0][0], x_0=cubic(torch.full_like(flow.points[0], h)))
    state = State(
        flow.points[0],
        guesses=tuple(guess for guess, _ in reversed(known)),
        times=tuple(u for _, u in reversed(known)),
    )
    model = Told(flow.model.denoiser, at_end)
    sampler = SASolver(order=3, eta=eta)
    x_s = sampler.step(Model(model), state, step.t, step.s, lambda _=0: torch.zeros_like(state.x)).x
    nodes, shares = (torch.from_numpy(each) for each in np.polynomial.legendre.leggauss(20))
    tau = h * (nodes + 1) / 2
    mean = float((h / 2 * shares * (1 + eta) * torch.exp((1 + eta) * (tau - h)) * cubic(tau)).sum())
    kept = step.at_s[1] / step.at_t[1] * math.exp(-eta * h)
    assert torch.allclose(x_s, kept * state.x + step.at_s[0] * mean, rtol=0, atol=1e-12)


@dataclass(frozen=True)
class Told(Denoiser):
    """A denoiser that says the same of everything."""

    of: Denoiser
    says: Prediction

    @property
    def path(self) -> Path:  # type: ignore[override]
        return self.of.path

    def predict(self, x_t: Tensor, t: Tensor, condition: object = None) -> Prediction:  # noqa: ARG002
        return self.says


def between(
    flow: Reference, h: float, back: tuple[float, ...]
) -> tuple[Step, list[tuple[Prediction, Tensor]]]:
    """A step of length h from t = 700, and predictions at t and at these many steps before."""
    path, x = flow.model.path, flow.points[0]
    here = float(path.half_log_snr(torch.tensor([700.0], dtype=F)))
    levels = torch.tensor([here + h * k for k in (0, 1, *(-each for each in back))], dtype=F)
    t, s, *past = (times_like(each, x) for each in path.time_at(levels).tolist())
    return Step(path, t, s), [(flow.model.predict(x, u), u) for u in (t, *past)]


@pytest.mark.parametrize("h", [1e-6, 0.01, 0.5, 0.999999, 1.0, 1.7, 12.0, 700.0])
def test_the_moments_are_those_of_quadrature(h: float) -> None:
    """Gauss and Legendre's, in pieces; and the weights sum over 1, u, u^2, u^3 to the moments."""
    nodes, shares = (torch.from_numpy(each) for each in np.polynomial.legendre.leggauss(20))
    edges = torch.cat([torch.zeros(1, dtype=F), torch.logspace(-6, 0, 200, dtype=F)])  # of 1 - u
    width = edges.diff()
    v = (edges[:-1, None] + width[:, None] * (nodes + 1) / 2).flatten()
    share = (width[:, None] / 2 * shares).flatten()
    found = moments(torch.tensor([h], dtype=F), 4)
    for k, each in enumerate(found):
        assert float(each) == pytest.approx(
            float((share * torch.exp(-v * h) * (1 - v) ** k).sum()), rel=1e-12
        )
    places = [torch.tensor([place], dtype=F) for place in (-1.4, 1.0, -0.6)]
    weights = polynomial_weights(torch.tensor([h], dtype=F), places)
    for k in range(1, 4):
        total = sum(float(w) * float(u) ** k for w, u in zip(weights, places, strict=True))
        assert total == pytest.approx(h * float(found[k]), rel=1e-10)
