"""The loss of consistency tuning, on functions that are known exactly."""

import pytest
import torch
from torch import Tensor, nn

from kakusan.diffusion.denoiser import NetworkDenoiser
from kakusan.diffusion.forward import q_marginal
from kakusan.diffusion.model import Model
from kakusan.diffusion.paths import EDM, FlowMatching, Path
from kakusan.diffusion.schedules import Cosine, Linear, ZeroTerminalSNR
from kakusan.networks.dropout import dropout, dropout_seed
from kakusan.shapes import mean_by_sample, per_sample
from kakusan.training.consistency import Consistency, ConsistencyAt, earlier, sigma_at, sigmas

MEAN, DEVIATION = 0.2, 0.5
PATHS: tuple[Path, ...] = (
    Cosine(),
    Linear(),
    FlowMatching(),
    EDM(),
    ZeroTerminalSNR(of=Linear()),
    Cosine(T=3),
)


class Gauss(nn.Module):
    """In the network's place, of data N(m, v): f(x_t, t) = m + s sqrt(v) (x_t - a m) / sqrt(a^2 v + b^2).

    With s = 1 it is the consistency function of the probability flow; `is_denoiser`: the mean of x_0 instead.
    """

    def __init__(self, path: Path, *, is_denoiser: bool = False) -> None:
        super().__init__()
        self.path, self.is_denoiser = path, is_denoiser
        self.s = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor, time: Tensor, _: Tensor | None = None) -> Tensor:
        a, b = (per_sample(part, x) for part in self.path.at(time.double() + 1))
        variance = a.square() * DEVIATION**2 + b.square()
        along = (x - a * MEAN) / variance.sqrt()
        share = a * DEVIATION / variance.sqrt() if self.is_denoiser else 1.0
        return MEAN + self.s * DEVIATION * share * along


class Exactly(NetworkDenoiser):
    """The denoiser without the rounding to float32."""

    def output(self, x_t: Tensor, t: Tensor, condition: object = None) -> tuple[Tensor, None]:  # noqa: ARG002
        return self.network(x_t, t - 1), None


def model(network: nn.Module, path: Path) -> Model[NetworkDenoiser]:
    return Model(Exactly(network, path, "x_0"))


def drawn(rows: int = 64, values: int = 64) -> tuple[Tensor, Tensor]:
    """x_0 and noise; their first two moments, on which quadratic forms depend, are exactly those of the law."""
    generator = torch.Generator().manual_seed(0)
    both = torch.randn(2, rows * values, generator=generator, dtype=torch.float64)
    both = both - both.mean(1, keepdim=True)
    both = torch.linalg.solve_triangular(
        torch.linalg.cholesky(torch.cov(both, correction=0)), both, upper=False
    )
    x_0, noise = both.view(2, rows, 1, values)
    return MEAN + DEVIATION * x_0, noise


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize("gap", [0.5, 1 / 256])
def test_the_earlier_time_has_the_share_of_noise_that_is_said(path: Path, gap: float) -> None:
    table, t = sigmas(path), torch.arange(1, path.T + 1).double()
    assert table.isfinite().all()
    assert (table.diff() > 0).all()
    r = earlier(table, t, gap)
    assert ((r < t) & ((r >= 1) | (r == 0))).all()
    at_t = sigma_at(table, t)
    wanted = at_t * (1 - gap * (1 + 8 / (1 + at_t.exp()))).clamp(min=0)
    assert torch.equal(r == 0, wanted < table[1])
    assert torch.allclose(sigma_at(table, r)[r > 0], wanted[r > 0], rtol=1e-9)


def test_times_between_whole_ones_are_taken_too() -> None:
    table, t = sigmas(Cosine()), torch.tensor([1.5, 700.25], dtype=torch.float64)
    assert (earlier(table, t, 0.5) < t).all()


def test_at_the_least_noise_the_guess_is_held_to_the_data() -> None:
    """The boundary condition, f(x_0, 0) = x_0, whatever the network says there."""
    path, (x_0, noise) = Cosine(), drawn(4, 64)
    t = torch.ones(4, dtype=torch.float64)
    network = Gauss(path)
    guess = network(q_marginal(path, x_0, t).reparametrize(noise), t - 1)
    distance = ((guess - x_0).square().flatten(1).mean(1) + 1e-6).sqrt() - 1e-3
    found = ConsistencyAt(0.01, 1e-3).per_image(model(network, path), x_0, t, noise)
    assert torch.allclose(found, distance / 0.01)  # less noise than that weighs no more


def test_the_earlier_guess_learns_nothing() -> None:
    path, (x_0, noise) = Linear(), drawn(8, 64)
    network, t = Gauss(path), torch.linspace(100, 900, 8, dtype=torch.float64)
    loss = ConsistencyAt(0.3, 1e-3)
    (gradient,) = torch.autograd.grad(loss.per_image(model(network, path), x_0, t, noise).sum(), [network.s])
    table = sigmas(path)
    r = earlier(table, t, 0.3)
    guess, target = (network(q_marginal(path, x_0, u).reparametrize(noise), u - 1) for u in (t, r))
    error = mean_by_sample((guess - target.detach()).square())
    by_hand = ((error + 1e-6).sqrt() / (sigma_at(table, t) - sigma_at(table, r))).sum()
    assert torch.allclose(gradient, torch.autograd.grad(by_hand, [network.s])[0], rtol=1e-9)


@pytest.mark.parametrize("path", [Linear(), FlowMatching(), EDM()], ids=repr)
def test_the_exact_consistency_function_is_where_the_loss_pulls_nowhere(path: Path) -> None:
    """Its pull is of second order in the gap, that on a denoiser of first: a quarter and a half when it is halved."""
    x_0, noise = drawn()
    t = path.time_at(-torch.tensor(0.9, dtype=torch.float64).log().expand(64)).round()

    def pull(gap: float, *, is_denoiser: bool) -> float:
        """d E (f_t - f_r)^2 / d s, the earlier guess held, over the square of the size of f."""
        network = Gauss(path, is_denoiser=is_denoiser)
        r = earlier(sigmas(path), t, gap)
        guess, target = (network(q_marginal(path, x_0, u).reparametrize(noise), u - 1) for u in (t, r))
        loss = (guess - target.detach()).square().mean() / 2
        return float(torch.autograd.grad(loss, [network.s])[0]) / DEVIATION**2

    exact, others = ([pull(gap, is_denoiser=which) for gap in (0.02, 0.01)] for which in (False, True))
    assert exact[0] / exact[1] == pytest.approx(4, rel=0.1)  # gaps of a tenth, where the next order shows
    assert others[0] / others[1] == pytest.approx(2, rel=0.1)
    assert abs(exact[1]) < 0.1 * abs(others[1])


def test_the_gap_falls_evenly_in_its_logarithm() -> None:
    loss = Consistency(first_gap=0.5, last_gap=1 / 128)
    gaps = [loss.at(progress).gap for progress in (0, 0.5, 1)]
    assert gaps == pytest.approx([1 / 2, 1 / 16, 1 / 128])


@pytest.mark.parametrize("seeded", [True, False])
def test_both_sides_drop_the_same(seeded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left of the distance with a network that is dropout alone, whether or not its calls are split."""

    class Drops(nn.Module):
        rows_are_independent = True

        def forward(self, x: Tensor, *_: object) -> Tensor:
            return dropout(dropout(torch.ones_like(x), 0.5), 0.5)

    monkeypatch.setattr("kakusan.diffusion.denoiser.shares", lambda rows: [slice(0, 2), slice(2, rows)])
    x_0, noise = (part.float() for part in drawn(4, 64))
    t = torch.full((4,), 700.0, dtype=torch.float64)
    of = Model(NetworkDenoiser(Drops(), Cosine(), "x_0"))
    if seeded:
        with dropout_seed(3):
            found = Consistency().per_image(of, x_0, t, noise)
    else:
        found = Consistency().per_image(of, x_0, t, noise)
    assert (found == 0).all()
