"""A schedule that is learned: what it may be, what it is trained on, and the optimum that it finds on Gaussian data.

Data N(0, s^2) and their exact denoiser, with sigma^2 = beta~, make a step from t to t - 1 cost (SNR_{t-1} - SNR_t) / 2
times the error s^2 / (1 + s^2 SNR_t) nats. With y = log(1 + s^2 SNR), twice the information of x_t on x_0, that is
(exp(y_{t-1} - y_t) - 1) / 2: the same at all t, and hence of least variance and least sum, where y is a straight line.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from diffusion.test_likelihood import expected_excess
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float64
from torch import Tensor

from kakusan.diffusion.denoiser import HIGHEST, LOWEST, TIMES, NetworkDenoiser
from kakusan.diffusion.forward import q_marginal
from kakusan.diffusion.learned import Learned, LearnedPath
from kakusan.diffusion.likelihood import BITS, prior_term, terms
from kakusan.diffusion.model import Model
from kakusan.diffusion.schedules import Cosine, NoiseSchedule
from kakusan.errors import SettingsError
from kakusan.networks.log_snr import EVEN, PIECES, UNIT, LogSNR
from kakusan.randomness import Purpose, normals
from kakusan.shapes import Condition, Samples
from kakusan.training.losses import Bound

T = PIECES + 1  # so that each t is a knot, and the best table is within reach
VARIANCE = 0.25
VALUES = 64
NATS = 1 / BITS


def guess(x_t: Samples, time: Tensor, condition: Condition | None = None) -> Samples:  # noqa: ARG001
    """E[x_0 | x_t] for N(0, VARIANCE), by the log-SNR that a network is told in the place of a time."""
    level = HIGHEST - time.double() * (HIGHEST - LOWEST) / TIMES
    a, a2, b2 = level.sigmoid().sqrt(), level.sigmoid(), (-level).sigmoid()
    return (VARIANCE * a / (a2 * VARIANCE + b2))[:, None].to(x_t) * x_t


def exact(path: LearnedPath | NoiseSchedule) -> Model[NetworkDenoiser]:
    denoiser = NetworkDenoiser(guess, path, "x_0", told="log-snr")
    return Model(denoiser, variance="fixed-small", sigma_1="beta_1")


def path_of(first: float = 6.0, last: float = -3.0, times: int = T) -> LearnedPath:
    return LearnedPath(times, log_snr=LogSNR(first, last))


def with_numbers(seed: int, size: float) -> LearnedPath:
    """One whose parameters are any."""
    path = path_of()
    drawn = size * torch.randn(PIECES, generator=torch.Generator().manual_seed(seed))
    path.log_snr.load_state_dict({"moves": drawn[:2].clamp(-0.3, 0.3), "falls": drawn})
    return path


def levels(path: LearnedPath) -> Float64[Tensor, " {T}"]:
    """The log-SNR at t = 1, ..., T."""
    return path.table().log_snr[1:]


def information(level: Tensor) -> Tensor:
    """y = log(1 + s^2 SNR)."""
    return torch.log1p(VARIANCE * level.exp())


def bound(first: Tensor, last: Tensor) -> Tensor:
    """The bound of the best interior between these ends, in bits a value: L_T, T - 1 equal terms, and L_0."""
    fall = information(first) - information(last)
    steps = (T - 1) / 2 * torch.expm1(fall / (T - 1))
    L_T = (last.sigmoid() * (VARIANCE - 1) - (-last).sigmoid().log()) / 2
    sigma_1, error = (-first).sigmoid(), VARIANCE / (1 + VARIANCE * first.exp())
    L_0 = (2 * math.pi * sigma_1).log() / 2 + error / (2 * sigma_1)
    return (L_T + steps + L_0) / NATS


def best_ends() -> Tensor:
    """The ends of the least bound, by Newton's method."""
    ends = torch.tensor([3.0, -4.0], dtype=torch.float64)
    for _ in range(50):
        at = ends.requires_grad_()
        (slope,) = torch.autograd.grad(bound(at[0], at[1]), at, create_graph=True)
        curve = torch.stack([torch.autograd.grad(part, at, retain_graph=True)[0] for part in slope])
        ends = (at - torch.linalg.solve(curve, slope)).detach()
    return ends


def best() -> LearnedPath:
    """The best ends, and y a straight line between them."""
    first, last = best_ends()
    y = torch.linspace(float(information(first)), float(information(last)), T, dtype=torch.float64)
    falls = -(torch.expm1(y) / VARIANCE).log().diff()
    path = path_of(float(first), float(last))
    with torch.no_grad():
        path.log_snr.falls.copy_((falls / falls.sum() - EVEN / PIECES).log())
    return path


@dataclass(frozen=True)
class Batch:
    x_0: Samples
    t: Tensor
    noise: Samples


def batches(count: int, rows: int = 4 * T) -> Iterator[Batch]:
    """Each t four times."""
    for ordinal in range(count):
        x_0, noise = (normals(seed, Purpose.NOISE, ordinal, torch.arange(rows), (VALUES,)) for seed in (0, 1))
        t = (1 + torch.arange(rows) % T).double()
        yield Batch(VARIANCE**0.5 * x_0, t, noise)


def gradients(path: LearnedPath, batch: Batch) -> tuple[Tensor, Tensor]:
    """Of the loss of a training, by the ends in nats and by the interior."""
    losses = Bound().per_image(exact(path), batch.x_0, batch.t, batch.noise)
    moves, falls = torch.autograd.grad(losses.mean(), [path.log_snr.moves, path.log_snr.falls])
    return moves.double() / UNIT, falls.double()


# What it may be


@given(st.integers(0, 1000), st.floats(0, 30))
def test_it_falls_whatever_its_numbers_are(seed: int, size: float) -> None:
    path = with_numbers(seed, size)
    table = path.table()
    assert (table.log_snr.diff() < 0).all()
    first, last = (
        start + UNIT * move for start, move in zip((6.0, -3.0), path.log_snr.moves.tolist(), strict=True)
    )
    # a beta is formed from a difference of numbers near 1, and their product is alpha_bar again
    assert float(table.log_snr[1]) == pytest.approx(first, abs=1e-9)
    assert float(table.log_snr[-1]) == pytest.approx(last, abs=1e-9)


def test_it_begins_as_a_straight_line() -> None:
    process = Learned(T=T, log_snr_1=6.0, log_snr_T=-3.0)
    line = torch.linspace(6.0, -3.0, T, dtype=torch.float64)
    assert torch.allclose(process.log_snr[1:], line, rtol=0, atol=1e-9)
    assert torch.allclose(levels(path_of()), line, rtol=0, atol=1e-9)


def test_its_table_is_the_path_that_was_trained_from_the_data_to_noise() -> None:
    path = with_numbers(3, 1.0)
    t = torch.tensor([0, 0.3, 1, 2, 7, T], dtype=torch.float64)
    for ours, theirs in zip(path.at(t), path.table().at(t), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=0)  # of 1 - alpha_bar, which is 2e-3 or more
    assert [x[0].item() for x in path.at(t)] == [1, 0]


def test_all_gradients_are_finite_at_the_data_and_at_the_noise() -> None:
    path = path_of()
    a, b = path.at(torch.tensor([0.0, 1.0, float(T)], dtype=torch.float64))
    found = torch.autograd.grad((a + b).sum(), list(path.log_snr.parameters()))
    assert all(torch.isfinite(each).all() for each in found)


def test_what_cannot_be_a_learned_schedule_is_refused() -> None:
    with pytest.raises(SettingsError, match="needs two times at least"):
        LearnedPath(1, log_snr=LogSNR(1.0, 0.0))
    with pytest.raises(SettingsError, match="falls from log_snr_1 to log_snr_T"):
        Learned(log_snr_1=-5.0, log_snr_T=3.0)
    with pytest.raises(SettingsError, match="is told t or log-snr"):
        NetworkDenoiser(guess, Cosine(), told="sigma")


def test_nothing_of_it_is_remembered_while_it_changes() -> None:
    path = path_of()
    before = path.time_at(torch.tensor([0.0], dtype=torch.float64))
    with torch.no_grad():
        path.log_snr.moves.add_(0.1)
    after = path.time_at(torch.tensor([0.0], dtype=torch.float64))
    # all levels have risen by 1 nat, a half in log(a / b), on a line that falls by 9 nats
    assert float(after - before) == pytest.approx((T - 1) / 9, abs=1e-5)


# What it is trained on


def test_its_ends_get_the_gradient_of_the_bound_and_its_interior_that_of_half_its_square() -> None:
    path, (batch,) = with_numbers(5, 1.0), batches(1)
    model = exact(path)
    x_t = q_marginal(path, batch.x_0, batch.t).reparametrize(batch.noise)
    found = model.denoiser.to_prediction(*model.denoiser.output(x_t, batch.t), x_t, batch.t)
    bits = T * terms(model, found, x_t, batch.x_0, batch.t)
    L_T = prior_term(path, batch.x_0).mean(1) * BITS
    ends = torch.autograd.grad((bits + L_T).mean(), path.log_snr.moves, retain_graph=True)[0]
    square = (bits[batch.t > 1].square() / 2).sum() / len(batch.t)
    interior = torch.autograd.grad(square, path.log_snr.falls)[0]
    moves, falls = gradients(path, batch)
    assert torch.allclose(UNIT * moves, ends.double(), rtol=1e-4)  # float32, summed in another order
    assert torch.allclose(falls, interior.double(), rtol=1e-4, atol=1e-6 * float(interior.abs().max()))
    losses = Bound().per_image(model, batch.x_0, batch.t, batch.noise)
    assert torch.allclose(losses.double(), bits + L_T, rtol=1e-6)


def test_the_closed_form_of_the_bound_is_that_of_all_gaussian_data() -> None:
    path = best()
    excess = expected_excess(path.table(), 0.0, VARIANCE**0.5, "fixed-small", "beta_1")
    entropy = math.log(2 * math.pi * math.e * VARIANCE) / 2
    table = levels(path)
    assert float(bound(table[0], table[-1])) * NATS == pytest.approx(
        entropy + excess, abs=1e-5
    )  # of float32 falls


@pytest.mark.parametrize("seed", range(5))
def test_its_bound_is_never_below_the_exact_likelihood(seed: int) -> None:
    table = with_numbers(seed, 1.0).table()
    for variance in ("fixed-small", "fixed-large"):
        assert expected_excess(table, 0.0, VARIANCE**0.5, variance, "beta_1") > 0


# What it finds


def expected_gradients(path: LearnedPath) -> tuple[Tensor, Tensor]:
    """Those of `gradients` in closed form: of the bound, and of half the second moment of T times a term.

    Squared errors of VALUES independent normal guesses have a second moment of 1 + 2 / VALUES times their squared mean.
    """
    level = path.log_snr(torch.linspace(0, 1, T, dtype=torch.float64))
    y = information(level)
    steps = torch.expm1(y[:-1] - y[1:]) / 2 / NATS
    ends = bound(level[0], level[-1]) - (T - 1) / 2 * torch.expm1((y[0] - y[-1]) / (T - 1)) / NATS
    moves = torch.autograd.grad(ends + steps.sum(), path.log_snr.moves, retain_graph=True)[0]
    second = T * (steps.square() * (1 + 2 / VALUES) / 2).sum()
    return moves.double() / UNIT, torch.autograd.grad(second, path.log_snr.falls)[0].double()


@pytest.mark.parametrize("path", [best(), path_of(), with_numbers(7, 0.5)], ids=["best", "straight", "any"])
def test_gradients_are_those_of_the_closed_form_on_average(path: LearnedPath) -> None:
    found = zip(*[gradients(path, batch) for batch in batches(100)], strict=True)
    for draws, expected in zip(map(torch.stack, found), expected_gradients(path), strict=True):
        error = draws.std(0) / len(draws) ** 0.5
        assert (
            (draws.mean(0) - expected).abs() < 4.5 * error
        ).all()  # 102 numbers: one in 1,400 is so far by chance


def test_at_the_optimum_known_in_closed_form_both_gradients_vanish() -> None:
    at_best, elsewhere = expected_gradients(best()), expected_gradients(path_of())
    for small, large in zip(at_best, elsewhere, strict=True):
        assert float(small.norm()) < 1e-5 * float(large.norm())  # its numbers are rounded to float32


def test_its_training_finds_that_optimum() -> None:
    path = path_of()
    parameters = list(path.log_snr.parameters())
    steps, rate = 250, 0.03
    optimizer = torch.optim.Adam(parameters, betas=(0.9, 0.99))
    for step, batch in enumerate(batches(steps)):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        torch.autograd.backward(Bound().per_image(exact(path), batch.x_0, batch.t, batch.noise).mean())
        optimizer.step()
        optimizer.zero_grad()
    table, (first, last) = levels(path), best_ends()
    # the ends wander by what batches differ in: the last one by a nat, which costs 3e-4 bits, where it began at 0.15
    assert float(table[0]) == pytest.approx(float(first), abs=0.1)
    assert float(bound(table[0], table[-1]) - bound(first, last)) < 1e-3
    assert bend(path) < 0.1  # of the whole fall of y; 250 steps leave 0.06
    assert bend(path_of(float(table[0]), float(table[-1]))) > 0.3


def bend(path: LearnedPath) -> float:
    """The largest distance of y from a straight line, as a share of its fall."""
    y = information(levels(path))
    line = torch.linspace(float(y[0]), float(y[-1]), T, dtype=torch.float64)
    return float((y - line).abs().max() / (y[0] - y[-1]))
