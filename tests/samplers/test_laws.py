"""Samplers that draw noise reach the law of the data; and every sampler walks wherever there is a path."""

from functools import cached_property
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from kakusan.diffusion.guidance import Guided
from kakusan.diffusion.model import Model
from kakusan.diffusion.oracles import GaussianOracle, MixtureOracle
from kakusan.diffusion.paths import EDM, FlowMatching, Path
from kakusan.diffusion.prediction import Prediction
from kakusan.diffusion.schedules import Cosine, Linear, ZeroTerminalSNR
from kakusan.errors import SettingsError
from kakusan.samplers import (
    IPNDM,
    SAMPLERS,
    AdamsBashforth,
    Ancestral,
    DPMpp2M,
    DPMpp3M,
    DPMppSDE2M,
    EDMSampler,
    Heun,
    Sampler,
    SamplingRequest,
    SASolver,
    State,
    UniPC,
    sample,
)
from kakusan.shapes import Condition, Samples, Times, times_like

F = torch.float64
WEIGHTS, MEANS, DEVIATIONS = (1 / 3, 2 / 3), (-0.6, 0.5), (0.2, 0.3)
CELLS = 32
MOST = 83.7
"""Chi-square of 31 degrees of freedom lies above it once in a million times."""


def mixture(path: Path) -> MixtureOracle:
    means, deviations = torch.tensor(MEANS, dtype=F)[:, None], torch.tensor(DEVIATIONS, dtype=F)
    return MixtureOracle(path, torch.tensor(WEIGHTS), means, deviations.square())


def chi_square(x: Tensor) -> float:
    """Of how many fall into each of 32 cells of the same probability under the mixture."""
    laws = zip(WEIGHTS, MEANS, DEVIATIONS, strict=True)
    shares = sum(w * torch.special.ndtr((x.double() - mean) / deviation) for w, mean, deviation in laws)
    expected = len(x) / CELLS
    return float((torch.histc(torch.as_tensor(shares), CELLS, 0, 1) - expected).square().sum() / expected)


@pytest.mark.parametrize(
    "sampler",
    [
        DPMppSDE2M(steps=60, spacing="log-snr"),
        DPMppSDE2M(steps=60, eta=0.5, spacing="log-snr"),
        EDMSampler(steps=80, s_churn=10.0, spacing="karras"),
        SASolver(steps=40, spacing="log-snr"),
        SASolver(steps=40, eta=1.0, order=3, spacing="log-snr"),
    ],
    ids=repr,
)
def test_samples_have_the_law_of_the_data(sampler: Sampler) -> None:
    request = SamplingRequest(count=8192, shape=(1,), micro_batch=8192)
    assert chi_square(sample(mixture(Linear()), sampler, request)) < MOST


def test_the_law_is_looked_at_closely_enough() -> None:
    """Noise that is 10 % too large is found."""
    request = SamplingRequest(count=8192, shape=(1,), micro_batch=8192)
    loud = EDMSampler(steps=80, s_churn=40.0, s_noise=1.1, spacing="karras")
    assert chi_square(sample(mixture(Linear()), loud, request)) > MOST


@pytest.mark.parametrize("sde", [DPMppSDE2M(), SASolver(eta=1.0, corrector=False)], ids=repr)
def test_a_first_step_of_the_sde_is_ancestral(sde: Sampler) -> None:
    """eta = 1: the posterior at the guess of x_0, mean and variance. Eq. (7)"""
    model, x = Model(mixture(FlowMatching()), "fixed-small"), torch.randn(5, 1, dtype=F)
    t, s = torch.tensor([1000, 900, 500, 30, 1], dtype=F), torch.tensor([999.5, 100, 499, 10, 0.5], dtype=F)
    ours, theirs = (
        sampler.step(model, State(x), t, s, lambda _=0: x.flip(0)).x for sampler in (sde, Ancestral())
    )
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)


PATHS: tuple[Path, ...] = (
    Linear(T=50),
    Cosine(T=50),
    ZeroTerminalSNR(of=Linear(T=50)),
    FlowMatching(T=50),
    EDM(T=50),
)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_walks_every_path_with_guidance(name: str, path: Path) -> None:
    """Also from pure noise, and in one step."""
    guided = Guided(mixture(path), 1.5)
    for steps in (1, 2, 12):
        request = SamplingRequest(count=4, shape=(1,), condition=Condition(label=torch.tensor([0, 1])))
        x = sample(guided, SAMPLERS[name](steps=steps), request)
        assert x.isfinite().all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_steps_of_samples_at_different_times_are_those_of_each_alone(name: str) -> None:
    """No sample of a batch changes what another one gets, where all steps are of finite length."""
    model, sampler = Model(mixture(Linear())), SAMPLERS[name](steps=20)
    x, noise = torch.randn(2, 3, 1, generator=torch.Generator().manual_seed(0), dtype=F)
    times = torch.tensor([[900, 700, 300], [700, 650, 200], [500, 600, 150], [450, 200, 20]], dtype=F)
    whole = _walked(sampler, model, x, times, noise)
    for k in range(3):
        alone = _walked(sampler, model, x[k : k + 1], times[:, k : k + 1], noise[k : k + 1])
        assert torch.allclose(whole[k], alone[0], rtol=0, atol=1e-12)


def _walked(sampler: Sampler, model: Model[MixtureOracle], x: Tensor, times: Tensor, noise: Tensor) -> Tensor:
    state = State(x)
    for t, s in pairwise(times.unbind()):
        state = sampler.step(model, state, t, s, lambda _=0: noise)
    return state.x


class Watched(GaussianOracle):
    """An exact denoiser that writes down at which times it is asked."""

    @cached_property
    def asked(self) -> list[float]:
        return []

    def predict(self, x_t: Samples, t: Times, condition: Condition | None = None) -> Prediction:
        self.asked.append(float(t[0]))
        return super().predict(x_t, t, condition)


@pytest.mark.parametrize("name", SAMPLERS)
def test_calls_are_as_many_as_the_documents_say(name: str) -> None:
    """One a step; with Heun's method two, but for the last. None below t = 1 or beyond T."""
    watched = Watched(Linear(), 0.0, 0.25)
    sample(watched, SAMPLERS[name](steps=10), SamplingRequest(count=1, shape=(1, 1, 1)))
    assert len(watched.asked) == (19 if name in ("heun", "edm") else 10)
    assert all(1 <= t <= 1000 for t in watched.asked)


@pytest.mark.parametrize(
    ("sigma", "raised", "sampler"),
    [
        (5.0, 5.5, EDMSampler(steps=20, s_churn=2.0, s_tmin=1.0, s_tmax=10.0)),
        (0.9, 0.9, EDMSampler(steps=20, s_churn=2.0, s_tmin=1.0, s_tmax=10.0)),
        (11.0, 11.0, EDMSampler(steps=20, s_churn=2.0, s_tmin=1.0, s_tmax=10.0)),
        (2.0, 2.0 * 2**0.5, EDMSampler(steps=2, s_churn=100.0)),
        (79.0, 80.0, EDMSampler(steps=2, s_churn=100.0, s_tmax=100.0)),
    ],
)
def test_churn_raises_sigma_where_it_should(sigma: float, raised: float, sampler: Sampler) -> None:
    """By s_churn / steps within its bounds, by sqrt(2) - 1 at most, and not beyond the sigma of T."""
    watched, x = Watched(EDM(), 0.0, 0.25), torch.ones(1, 1, dtype=F)
    t = watched.path.time_at(-torch.tensor([sigma], dtype=F).log())
    sampler.step(Model(watched), State(x), t, t / 2, lambda _=0: x)
    first = watched.path.at(torch.tensor(watched.asked[:1], dtype=F))[1]
    assert float(first) == pytest.approx(raised, rel=1e-12)


FALLING = (1000, 700, 400, 150, 50)


@pytest.mark.parametrize(
    ("falling", "second"),
    [
        (DPMpp3M(at=FALLING, lower_order_final=True), AdamsBashforth(order=2)),
        (UniPC(at=FALLING, order=3, lower_order_final=True, corrector=False), DPMpp2M()),
    ],
    ids=["dpmpp-3m", "unip-3"],
)
def test_the_last_but_one_step_is_of_order_2_where_it_is_asked_for(falling: Sampler, second: Sampler) -> None:
    model, x = Model(mixture(Linear())), torch.randn(2, 1, dtype=F)
    *times, t, s = (times_like(u, x) for u in FALLING)
    state = State(x)
    for before, after in pairwise([*times, t]):
        state = AdamsBashforth(order=3).step(model, state, before, after, unused)
    ends = [each.step(model, state, t, s, unused).x for each in (falling, second, AdamsBashforth(order=3))]
    assert torch.allclose(ends[0], ends[1], rtol=0, atol=1e-12)
    assert not torch.allclose(ends[0], ends[2], rtol=0, atol=1e-6)


def unused(k: int = 0) -> Tensor:
    raise AssertionError(f"noise {k} was not needed")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: AdamsBashforth(order=0), "order of adams-bashforth is 1 to 4"),
        (lambda: IPNDM(order=5), "order of ipndm is 1 to 4"),
        (lambda: UniPC(order=4), "order of unipc is 1 to 3"),
        (lambda: DPMppSDE2M(eta=1.5), "eta must be 0 to 1"),
        (lambda: SASolver(eta=-0.1), "eta must be 0 to 1"),
        (lambda: SASolver(order=4), "order of sa-solver is 1 to 3"),
        (lambda: EDMSampler(s_churn=-1.0), "s_churn must be 0 or more"),
        (lambda: EDMSampler(s_tmin=2.0, s_tmax=1.0), "s_tmin <= s_tmax"),
        (lambda: EDMSampler(s_noise=float("nan")), "s_noise must be 0 or more"),
        (lambda: Heun(steps=0), "at least 1 step"),
    ],
)
def test_options_out_of_range_are_refused(make: object, says: str) -> None:
    assert callable(make)
    with pytest.raises(SettingsError, match=says):
        make()
