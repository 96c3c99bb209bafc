"""DDIM inversion beside the closed-form flow of a Gaussian, the way back, and the arc between two latents."""

import math
from itertools import pairwise

import pytest
import torch

from kakusan.diffusion.model import as_model
from kakusan.diffusion.oracles import GaussianOracle
from kakusan.diffusion.paths import EDM, FlowMatching, Path
from kakusan.diffusion.schedules import Cosine, Linear, ZeroTerminalSNR
from kakusan.errors import SettingsError
from kakusan.samplers import DDIM, SeededNoise, Snapshot, State, edits, invert, slerp, spread_over, walk
from kakusan.samplers.inversion import _upwards
from kakusan.shapes import Samples, times_like

F = torch.float64
SHAPE = (1, 4, 4)
VARIANCE = 0.25
PATHS: dict[str, Path] = {
    "linear": Linear(),
    "cosine": Cosine(),
    "pure noise": ZeroTerminalSNR(Linear()),
    "flow": FlowMatching(),
    "edm": EDM(),
}


def oracle(path: Path) -> GaussianOracle:
    return GaussianOracle(path, torch.full(SHAPE, 0.3, dtype=F), VARIANCE)


def images(count: int = 3) -> Samples:
    return oracle(Linear()).sample(count)


def flowed(path: Path, x_0: Samples, t: float) -> Samples:
    """The probability flow of N(0.3, VARIANCE) from 0 to t, in closed form: it keeps every quantile."""
    a, b = (float(part[0]) for part in path.at(times_like(t, x_0)))
    return a * 0.3 + math.sqrt(a**2 * VARIANCE + b**2) * (x_0 - 0.3) / math.sqrt(VARIANCE)


def up(path: Path, steps: int, rounds: int, spacing: str = "trailing") -> Samples:
    *_, end = invert(oracle(path), images(), DDIM(steps=steps, spacing=spacing).times(path), rounds=rounds)
    return end.x


def back(path: Path, x_T: Samples, steps: int) -> Samples:
    sampler = DDIM(steps=steps)
    start = Snapshot(sampler.times(path)[0], x_T)
    noises = SeededNoise(0, torch.arange(len(x_T)), SHAPE)
    *_, end = walk(sampler, oracle(path), noises, start=start)
    return end.x


@pytest.mark.parametrize("rounds", [0, 1, 4])
def test_an_inversion_converges_to_the_flow_in_first_order(rounds: int) -> None:
    path = Cosine()
    exact = flowed(path, images(), path.T)
    errors = [float((up(path, steps, rounds) - exact).abs().max()) for steps in (125, 250, 500)]
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize(("rounds", "order"), [(0, 1), (1, 2), (2, 3)])
def test_each_round_adds_an_order_to_the_way_back(rounds: int, order: int) -> None:
    """Even in the log-SNR, without the step from the data itself, which is infinitely long there."""
    errors = [round_trip_in_the_middle(Linear(), steps, rounds) for steps in (40, 80, 160)]
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.3)


def round_trip_in_the_middle(path: Path, steps: int, rounds: int) -> float:
    """The largest error from sigma = e^-2 up to e^2 and back."""
    model = as_model(oracle(path))
    rising = path.time_at(torch.linspace(2, -2, steps + 1, dtype=F)).tolist()
    *_, end = _upwards(model, images(), rising, None, rounds)
    state = State(end.x)
    for t, s in pairwise(reversed(rising)):
        state = DDIM().step(model, state, times_like(t, state.x), times_like(s, state.x), no_noise)
    return float((state.x - images()).abs().max())


def no_noise(k: int = 0) -> Samples:
    raise AssertionError(f"noise {k} was not needed")


@pytest.mark.parametrize("name", PATHS)
def test_enough_rounds_lead_back_exactly_on_every_path(name: str) -> None:
    path = PATHS[name]
    found = back(path, up(path, 25, rounds=60), 25)
    tolerance = (
        1e-4 if name == "pure noise" else 1e-6
    )  # the last fixed point is reached at the rate of the step
    assert float((found - images()).abs().max()) < tolerance


@pytest.mark.parametrize("name", PATHS)
def test_one_round_is_nearer_than_euler_at_the_same_calls(name: str) -> None:
    path = PATHS[name]
    euler, one = (float((back(path, up(path, 50, r), 50) - images()).abs().max()) for r in (0, 1))
    assert one < euler / 2


def test_an_inversion_costs_one_call_a_step_and_round() -> None:
    class Counting(GaussianOracle):
        calls = 0

        def predict(self, *given: object, **named: object):  # type: ignore[no-untyped-def]
            type(self).calls += 1
            return super().predict(*given, **named)  # type: ignore[arg-type]

    counting, times = (
        Counting(Linear(), torch.full(SHAPE, 0.3, dtype=F), VARIANCE),
        DDIM(steps=10).times(Linear()),
    )
    for rounds, calls in ((0, 10), (1, 11), (3, 31)):
        Counting.calls = 0
        list(invert(counting, images(), times, rounds=rounds))
        assert Counting.calls == calls


def test_impossible_inversions_are_refused_at_once() -> None:
    with pytest.raises(SettingsError, match="0 rounds or more"):
        invert(oracle(Linear()), images(), (1000, 0), rounds=-1)
    for times in ((), (0,), (1000, 500), (500, 1000, 0)):
        with pytest.raises(SettingsError, match="fall to 0"):
            invert(oracle(Linear()), images(), times)


def test_the_arc_keeps_the_length_and_the_angle() -> None:
    a, b = SeededNoise(0, torch.arange(2), (3, 8, 8)).start().double().chunk(2)
    b = b * a.norm() / b.norm()
    arc = slerp(a, b, [i / 8 for i in range(9)])
    assert torch.allclose(arc.flatten(1).norm(dim=1), a.norm().expand(9), rtol=1e-12)
    assert torch.allclose(arc[0], a[0], rtol=0, atol=1e-14)
    assert torch.allclose(arc[-1], b[0], rtol=0, atol=1e-14)
    turns = torch.nn.functional.cosine_similarity(arc[:-1].flatten(1), arc[1:].flatten(1)).arccos()
    assert torch.allclose(turns, turns[:1].expand(8), atol=1e-7)


def test_float32_ends_of_an_arc_are_kept_to_the_bit() -> None:
    a, b = SeededNoise(7, torch.arange(2), (1, 28, 28)).start().chunk(2)
    arc = slerp(a, b, [0, 0.5, 1])
    assert torch.equal(arc[[0]], a)
    assert torch.equal(arc[[2]], b)


def test_along_one_line_the_arc_is_that_line() -> None:
    a = torch.ones(1, 1, 2, 2)
    assert torch.equal(slerp(a, 3 * a, [0.5]), 2 * a)
    assert torch.equal(slerp(a, a, [0.25]), a)
    assert torch.equal(slerp(a, 0 * a, [0.5]), slerp(0 * a, a, [0.5]))


def test_strength_is_the_share_of_the_steps_as_in_diffusers() -> None:
    path, sampler = Linear(), DDIM(steps=50)
    times = sampler.times(path)
    assert edits.start_of(sampler, path, 0.6) == 600
    assert edits.start_of(sampler, path, 0.75) == times[50 - 37]
    assert edits.start_of(sampler, path, 1) == 1000
    assert edits.start_of(sampler, path, 0) is None
    assert edits.start_of(DDIM(steps=100), path, 0.29) == 290  # 28.999999999999996 in floating point
    with pytest.raises(SettingsError, match=r"0 to 1, not 1\.5"):
        edits.start_of(sampler, path, 1.5)
    with pytest.raises(SettingsError, match="not a whole one"):
        edits.start_of(sampler, path, 0.01)


def test_moments_are_spread_from_noise_to_sample() -> None:
    assert spread_over(51, 2) == [0, 50]
    assert spread_over(4, 4) == [0, 1, 2, 3]
    assert len(set(spread_over(1001, 60))) == 60
    for count in (1, 5):
        with pytest.raises(SettingsError, match="2 to 4 frames"):
            spread_over(4, count)
