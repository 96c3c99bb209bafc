"""Every sampler keeps the contract of a sampler; all are read from the table that the command line reads."""

import itertools
import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kakusan.api import sample
from kakusan.diffusion.model import Model
from kakusan.diffusion.oracles import GaussianOracle
from kakusan.diffusion.schedules import Cosine, Linear
from kakusan.diffusion.variances import Analytic, Variance
from kakusan.errors import SettingsError
from kakusan.samplers import (
    DDIM,
    SAMPLERS,
    Ancestral,
    Origin,
    Sampler,
    SamplingRequest,
    SASolver,
    SeededNoise,
    Snapshot,
    State,
    visited,
    walk,
)
from kakusan.shapes import times_like

MEAN, DEVIATION = 0.3, 0.2


class Unused:
    """Noise of a walk that needs none."""

    def start(self) -> torch.Tensor:
        raise AssertionError("the walk starts elsewhere")

    def draw(self, step: int, k: int = 0) -> torch.Tensor:
        raise AssertionError(f"draw {k} of step {step} was not needed")


def oracle(variance: Variance | str = "fixed-large", T: int = 1000) -> Model[GaussianOracle]:
    return Model(GaussianOracle(Linear(T=T), MEAN, DEVIATION**2), variance)


@pytest.mark.parametrize("kind", SAMPLERS.values())
@given(T=st.integers(1, 1200), data=st.data())
def test_a_walk_starts_at_T_goes_down_and_ends_at_the_data(
    kind: type[Sampler], T: int, data: st.DataObject
) -> None:
    steps = data.draw(st.integers(1, T))
    times = kind(steps=steps).times(Linear(T=T))
    assert times[0] == T
    assert times[-1] == 0
    assert len(times) == steps + 1
    assert all(s < t for t, s in pairwise(times))


@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
@pytest.mark.parametrize("T", [1, 2, 1000])
def test_a_single_step_starts_where_the_noise_is(spacing: str, T: int) -> None:
    assert DDIM(steps=1, spacing=spacing).times(Linear(T=T)) == (T, 0)


def test_a_single_leading_step_would_return_the_noise_and_is_refused() -> None:
    with pytest.raises(SettingsError, match="starts at t = 1"):
        DDIM(steps=1, spacing="leading").times(Linear())
    assert DDIM(steps=1, spacing="leading").times(Linear(T=1)) == (1, 0)


def test_numbers_that_would_wrap_around_are_refused() -> None:
    far = sample(oracle(), DDIM(steps=2), count=1, shape=(1, 1, 1), first=2**62 - 1, exact=True)
    assert far.isfinite().all()
    with pytest.raises(SettingsError, match=r"below 2\^62"):
        sample(oracle(), DDIM(steps=2), count=1, shape=(1, 1, 1), first=2**63)


@pytest.mark.parametrize("kind", SAMPLERS.values())
def test_more_steps_than_the_schedule_has_are_refused(kind: type[Sampler]) -> None:
    with pytest.raises(SettingsError, match="more than the T = 10"):
        kind(steps=11).times(Linear(T=10))
    with pytest.raises(SettingsError, match="at least 1"):
        kind(steps=0)


@pytest.mark.parametrize("kind", SAMPLERS.values())
def test_the_same_seed_gives_the_same_image_whatever_the_split(kind: type[Sampler]) -> None:
    sampler = kind(steps=7)
    whole = sample(oracle(), sampler, count=70, shape=(1, 4, 4), seed=3, micro_batch=32)
    parts = [
        sample(oracle(), sampler, count=n, shape=(1, 4, 4), seed=3, first=k, micro_batch=16)
        for k, n in ((0, 5), (5, 40), (45, 25))
    ]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole, sample(oracle(), sampler, count=70, shape=(1, 4, 4), seed=4))


@pytest.mark.parametrize("kind", SAMPLERS.values())
def test_a_walk_shows_each_step_with_its_guess(kind: type[Sampler]) -> None:
    class Fixed:
        def start(self) -> torch.Tensor:
            return torch.ones(2, 1, 1, 1)

        def draw(self, step: int, k: int = 0) -> torch.Tensor:  # noqa: ARG002
            return torch.zeros(2, 1, 1, 1)

    stills = list(walk(kind(steps=5), oracle(), Fixed()))
    assert [still.t for still in stills] == [1000, 800, 600, 400, 200, 0]
    assert stills[0].x_0 is None
    assert all(still.x_0 is not None for still in stills[1:])
    assert stills[-1].x_0 is not None
    assert torch.allclose(
        stills[-1].x, stills[-1].x_0, atol=1e-6
    )  # the last step gives the mean: the guess itself


def propagated(denoiser: Model[GaussianOracle], sampler: Sampler) -> tuple[float, float]:
    """Mean and variance of the last x, exactly: every step is affine in x, known from two points, and adds noise."""
    times = torch.tensor(sampler.times(denoiser.path)).double()
    t, s = times[:-1], times[1:]
    zero = torch.zeros(len(t), 1, 1, 1, dtype=torch.float64)
    low, high = (sampler.step(denoiser, State(x), t, s, lambda _=0: zero).x for x in (zero, zero + 1))
    fresh = denoiser.variance_of(denoiser.predict(zero, t), t, s).flatten() * (s > 0)
    mean, spread = 0.0, 1.0
    for offset, slope, noise in torch.stack([low.flatten(), (high - low).flatten(), fresh], dim=1).tolist():
        mean, spread = offset + slope * mean, slope**2 * spread + noise
    return mean, spread


@pytest.mark.parametrize("variance", ["fixed-small", "fixed-large"])
@pytest.mark.parametrize("steps", [None, 50])
def test_ancestral_samples_have_the_mean_and_variance_of_the_exact_chain(
    variance: str, steps: int | None
) -> None:
    mean, spread = propagated(oracle(variance), Ancestral(steps=steps))
    n = 16 * 1024
    x = sample(
        oracle(variance), Ancestral(steps=steps), count=1024, shape=(1, 4, 4), seed=1, micro_batch=1024
    ).double()
    assert abs(float(x.mean()) - mean) < 4.5 * math.sqrt(spread / n)
    assert abs(float(x.var()) / spread - 1) < 4.5 * math.sqrt(2 / n)


def test_the_exact_chain_reaches_the_data_law_as_steps_grow() -> None:
    spreads = [propagated(oracle(T=T), Ancestral())[1] for T in (250, 500, 1000)]
    errors = [abs(spread - DEVIATION**2) for spread in spreads]
    assert errors[2] < 3e-3 * DEVIATION
    assert all(1.7 < coarse / fine < 2.3 for coarse, fine in pairwise(errors))  # first order in 1/T


def test_ddim_reaches_the_data_law_and_halves_its_error_when_steps_double() -> None:
    """Deterministic: a point one deviation above the mean of x_T must come out one deviation above the data's."""

    def error(steps: int) -> float:
        denoiser, schedule = oracle(), Linear(T=1000)
        a_T = math.sqrt(float(schedule.alpha_bar[-1]))
        spread_T = math.sqrt(a_T**2 * DEVIATION**2 + 1 - a_T**2)
        state = State(torch.full((1, 1, 1, 1), a_T * MEAN + spread_T, dtype=torch.float64))
        sampler = DDIM(steps=steps)
        for t, s in pairwise(sampler.times(denoiser.path)):
            state = sampler.step(
                denoiser, state, times_like(t, state.x), times_like(s, state.x), partial(Unused().draw, 0)
            )
        return abs(MEAN + DEVIATION - float(state.x))

    coarse, fine = error(125), error(250)
    assert 0 < fine < 0.01
    assert 1.8 < coarse / fine < 2.2


def test_ddim_with_eta_1_is_ancestral_sampling_with_the_small_variance() -> None:
    a = sample(oracle("fixed-small"), Ancestral(steps=20), count=4, shape=(1, 4, 4), seed=2)
    b = sample(oracle(), DDIM(steps=20, eta=1.0), count=4, shape=(1, 4, 4), seed=2)
    assert torch.allclose(a, b, atol=2e-6)  # float32 roundings of 20 steps


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("t", "s"), [(1000, 900), (260, 259), (2, 1)])
def test_whatever_eta_is_ddim_keeps_the_variance_of_equation_3(eta: float, t: int, s: int) -> None:
    """With the right guess of data at one point, whose noise is that of x_t: the coefficients of eps and z, squared."""
    point, path = Model(GaussianOracle(Linear(), MEAN, 0.0)), Linear()

    def moved(eps: float, z: float) -> float:
        a_t, b_t = (part.view(1, 1, 1, 1) for part in path.at(torch.tensor([float(t)], dtype=torch.float64)))

        def noise(k: int = 0) -> torch.Tensor:  # noqa: ARG001
            return torch.full_like(a_t, z)

        state = State(MEAN * a_t + eps * b_t)
        return float(DDIM(eta=eta).step(point, state, times_like(t, a_t), times_like(s, a_t), noise).x)

    signal = moved(0, 0)
    assert signal == pytest.approx(MEAN * float(path.alpha_bar[s].sqrt()), abs=1e-12)
    of_eps, of_z = moved(1, 0) - signal, moved(0, 1) - signal
    assert of_eps**2 + of_z**2 == pytest.approx(1 - float(path.alpha_bar[s]), rel=1e-9)


def test_sa_solver_of_order_1_without_noise_is_ddim() -> None:
    plain = SASolver(steps=10, order=1, eta=0.0, corrector=False)
    drawn = [sample(oracle(), sampler, count=4, shape=(1, 2, 2)) for sampler in (plain, DDIM(steps=10))]
    assert drawn[0].allclose(drawn[1], atol=1e-5)  # float32


def test_ddim_without_noise_draws_none() -> None:
    class Greedy:
        def start(self) -> torch.Tensor:
            return torch.ones(1, 1, 1, 1)

        def draw(self, step: int, k: int = 0) -> torch.Tensor:
            raise AssertionError(f"draw {k} of step {step} was not needed")

    assert len(list(walk(DDIM(steps=3), oracle(), Greedy()))) == 4


def test_one_step_of_ddim_is_the_guess() -> None:
    x = sample(oracle(), DDIM(steps=1), count=8, shape=(1, 2, 2), seed=0)
    assert float((x - MEAN).abs().max()) < 0.01  # from pure noise the best guess is nearly the mean


@pytest.mark.parametrize("eta", [-0.1, 1.1, math.nan])
def test_eta_outside_of_0_to_1_is_refused(eta: float) -> None:
    with pytest.raises(SettingsError, match="eta"):
        DDIM(eta=eta)


def test_a_schedule_that_ends_in_pure_noise_can_be_walked() -> None:
    denoiser = GaussianOracle(Linear(T=100, beta_T=1.0), MEAN, DEVIATION**2)
    for sampler in (Ancestral(), DDIM(steps=10)):
        assert sample(denoiser, sampler, count=2, shape=(1, 1, 1), seed=0).isfinite().all()


def test_times_are_those_of_any_schedule() -> None:
    for steps, schedule in itertools.product((1, 3), (Linear(T=3), Cosine(T=3))):
        assert DDIM(steps=steps).times(schedule)[0] == 3


@pytest.mark.parametrize("t", [200, 400, 700])
def test_ancestral_samples_from_noised_images_follow_the_posterior_of_the_data(t: int) -> None:
    """x_t ~ N(a c, b^2) of an image c; then x_0 ~ q(x_0 | x_t), which for Gaussian data is known."""
    plain = oracle()
    best = oracle(Analytic(plain.denoiser.errors()))
    c, n = 1.5, 16 * 1024
    image = torch.full((1024, 1, 4, 4), c)
    x = sample(best, Ancestral(), seed=1, micro_batch=1024, images=image, t=t)
    alpha_bar = float(Linear().alpha_bar[t])
    a, b_2, s_2 = math.sqrt(alpha_bar), 1 - alpha_bar, DEVIATION**2
    gain = a * s_2 / (alpha_bar * s_2 + b_2)
    mean, spread = MEAN + gain * a * (c - MEAN), gain**2 * b_2 + s_2 * b_2 / (alpha_bar * s_2 + b_2)
    last = s_2 * plain.denoiser.errors()[1] / DEVIATION**2  # the last step gives its mean, without noise
    assert abs(float(x.double().mean()) - mean) < 4.5 * math.sqrt(spread / n)
    assert abs(float(x.double().var()) / (spread - float(last)) - 1) < 4.5 * math.sqrt(2 / n)


def test_ddim_from_a_time_on_takes_the_law_there_to_that_of_the_data() -> None:
    t = 400
    denoiser = oracle()
    alpha_bar = float(Linear().alpha_bar[t])
    spread = math.sqrt(alpha_bar * DEVIATION**2 + 1 - alpha_bar)
    x_t = torch.full((1, 1, 1, 1), math.sqrt(alpha_bar) * MEAN + 2 * spread, dtype=torch.float64)
    stills = list(walk(DDIM(steps=1000), denoiser, Unused(), start=Snapshot(t, x_t)))
    assert [still.t for still in stills] == [*range(400, -1, -1)]
    assert float(stills[-1].x) == pytest.approx(MEAN + 2 * DEVIATION, abs=0.005)  # first order in the step


def test_a_walk_goes_on_from_one_of_its_stills() -> None:
    noises = SeededNoise(0, torch.arange(2), (1, 2, 2))
    stills = list(walk(DDIM(steps=10), oracle(), noises))
    again = list(walk(DDIM(steps=10), oracle(), Unused(), start=stills[4]))
    assert [still.t for still in again] == [600, 500, 400, 300, 200, 100, 0]
    assert again[-1].x.equal(stills[-1].x)


def test_a_walk_starts_within_the_schedule() -> None:
    for t in (0, 1001):
        with pytest.raises(SettingsError, match="from 1 to T = 1000"):
            next(walk(DDIM(), oracle(), Unused(), start=Snapshot(t, torch.zeros(1, 1, 1, 1))))
    with pytest.raises(ValueError, match="images to start from"):
        SamplingRequest(count=2, shape=(1, 1, 1), origin=Origin(torch.zeros(3, 1, 1, 1), 5))
    (first, *_, end) = visited(DDIM(steps=10), Linear(), 77)
    assert (first, end) == (77, 0)
