"""Paths: the posterior, the bound and DDIM hold on each, and paths of one ratio a : b are one process in two scales."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from kakusan.diffusion import tables
from kakusan.diffusion.forward import (
    noise_between,
    posterior_variance,
    posterior_weights,
    q_marginal,
    q_posterior,
)
from kakusan.diffusion.likelihood import variational_bound
from kakusan.diffusion.model import Model
from kakusan.diffusion.oracles import GaussianOracle, MixtureOracle
from kakusan.diffusion.paths import EDM, FlowMatching, Path, ends_in_pure_noise
from kakusan.diffusion.schedules import Cosine, Linear, NoiseSchedule, ZeroTerminalSNR, twin
from kakusan.errors import SettingsError
from kakusan.samplers import DDIM, Ancestral, SeededNoise, walk
from kakusan.shapes import per_sample, scaled, times_like

F = torch.float64
T = 60
OTHERS = tuple(kind(T) for name, kind in tables.PATHS.items() if name != "vp")
PATHS: tuple[Path, ...] = (Linear(T=T), Cosine(T=T), *OTHERS, EDM(T, 0.01, 5.0, 3.0))
ON_PATHS = pytest.mark.parametrize("path", PATHS, ids=repr)
SPACES = pytest.mark.parametrize(
    "space", [(), (7,), (3, 2), (2, 3, 2)], ids=["points", "signals", "images", "volumes"]
)
T_TO_S = [(T, T - 1), (T, 3), (17.5, 4.25), (2, 1), (9, 0)]


def at(t: float) -> Tensor:
    return torch.tensor([t], dtype=F)


@ON_PATHS
def test_a_path_goes_from_the_data_to_noise(path: Path) -> None:
    a, b = path.at(torch.arange(T + 1, dtype=F))
    assert (float(a[0]), float(b[0])) == (1, 0)
    assert ((b / a).diff() > 0).all()
    between, _ = path.at(torch.linspace(0, T, 997, dtype=F))
    assert (between.diff() <= 0).all()
    assert torch.allclose(
        path.alpha_bar_at(at(5.5)), 1 / (1 + (path.at(at(5.5))[1] / path.at(at(5.5))[0]).square())
    )
    for outside in (-0.1, T + 0.1):
        with pytest.raises(ValueError, match="from 0 to T"):
            path.at(at(outside))


def test_edm_is_the_spacing_of_karras_et_al() -> None:
    """Eq. 5: (max^(1/rho) + i/(N-1) (min^(1/rho) - max^(1/rho)))^rho for i = 0, ..., N-1."""
    _, sigma = EDM(18).at(torch.arange(18, 0, -1, dtype=F))
    expected = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)]
    assert sigma.tolist() == pytest.approx(expected, rel=1e-12)


@ON_PATHS
@pytest.mark.parametrize(("t", "s"), T_TO_S)
def test_the_posterior_of_a_path_is_that_of_its_twin_in_another_scale(path: Path, t: float, s: float) -> None:
    """Eq. (7) for a and b, against the derivation's form for alpha_bar."""
    bar_t, bar_s = (float(path.alpha_bar_at(at(u))) for u in (t, s))
    scale_t, scale_s = (float(path.scale_at(at(u))) for u in (t, s))
    ratio = bar_t / bar_s
    of_x_t, of_x_0 = posterior_weights(path, at(t), at(s))
    expected_t = math.sqrt(ratio) * (1 - bar_s) / (1 - bar_t) * scale_s / scale_t
    expected_0 = math.sqrt(bar_s) * (1 - ratio) / (1 - bar_t) * scale_s
    tilde = (1 - bar_s) / (1 - bar_t) * (1 - ratio) * scale_s**2
    # a difference of numbers near 1, 1e-16 each, against 1 - ratio >= 1e-5
    assert float(of_x_t) == pytest.approx(expected_t, rel=1e-9, abs=1e-14)
    assert float(of_x_0) == pytest.approx(expected_0, rel=1e-9)
    assert float(posterior_variance(path, at(t), at(s))) == pytest.approx(tilde, rel=1e-9, abs=1e-14)
    assert float(noise_between(path, at(t), at(s))) > 0


@ON_PATHS
@SPACES
def test_the_posterior_has_the_samples_shape_in_every_space(path: Path, space: tuple[int, ...]) -> None:
    """Each sample has the coefficients of its own time, whatever the rank: no sample's, no channel's, of another."""
    x = torch.randn(3, 2, *space, generator=torch.Generator().manual_seed(0), dtype=F)
    t, s = torch.tensor([5.0, 20, 60], dtype=F), torch.tensor([1.0, 3, 7], dtype=F)
    together = q_posterior(path, x, -x, t, s)
    assert together.mean.shape == x.shape
    for k in range(3):
        alone = q_posterior(path, x[k : k + 1], -x[k : k + 1], t[k : k + 1], s[k : k + 1])
        assert together.mean[k].equal(alone.mean[0])
        assert float(together.variance[k].flatten()[0]) == float(alone.variance.flatten()[0])
        assert q_marginal(path, x, t).mean[k].equal(q_marginal(path, x[k : k + 1], t[k : k + 1]).mean[0])


def test_coefficients_that_are_not_one_a_sample_are_refused() -> None:
    for wrong in (torch.ones(2, dtype=F), torch.ones(3, 1, dtype=F), torch.ones((), dtype=F)):
        with pytest.raises(ValueError, match="do not fit samples"):
            per_sample(wrong, torch.zeros(3, 1, 4))


@pytest.mark.parametrize("path", PATHS[2:], ids=repr)
@pytest.mark.parametrize("sampler", [DDIM(steps=12), DDIM(steps=12, eta=0.7), Ancestral(steps=12)])
def test_a_walk_on_a_path_is_that_on_its_twin(path: Path, sampler: DDIM | Ancestral) -> None:
    """The same oracle and the same noise give the same samples, to 1e-8, after the change of scale."""
    weights, spreads = torch.tensor([1.0, 2.0], dtype=F), torch.tensor([0.05, 0.2], dtype=F)
    means = torch.tensor([-0.8, 0.5], dtype=F).view(2, 1, 1)

    class Doubled(SeededNoise):
        def start(self) -> Tensor:
            return super().start().double()

        def draw(self, step: int, k: int = 0) -> Tensor:
            return super().draw(step, k).double()

    noises = Doubled(0, torch.arange(5), (1, 4))
    for variance in ("fixed-large", "fixed-small"):
        ours, known = (
            list(walk(sampler, Model(MixtureOracle(p, weights, means, spreads), variance), noises))
            for p in (path, twin(path))
        )
        for here, there in zip(ours, known, strict=True):
            scale = path.scale_at(times_like(here.t, here.x))
            assert torch.allclose(here.x, scaled(scale, there.x), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("path", PATHS[2:], ids=repr)
@pytest.mark.parametrize("sigma_1", ["beta~_2", "beta_1"])
@pytest.mark.parametrize("levels", [None, 17])
def test_the_bound_of_a_path_is_that_of_its_twin(path: Path, sigma_1: str, levels: int | None) -> None:
    x_0 = torch.linspace(-1, 1, 17, dtype=F).view(17, 1, 1)
    totals = [
        variational_bound(Model(GaussianOracle(p, 0.1, 0.3), "fixed-small", sigma_1, None, levels), x_0).total
        for p in (path, twin(path))
    ]
    assert torch.allclose(totals[0], totals[1], rtol=1e-8)


def test_a_twin_of_a_schedule_is_itself_and_pure_noise_is_seen() -> None:
    schedule = Linear(T=9)
    assert twin(schedule) is schedule
    assert isinstance(twin(FlowMatching(9)), NoiseSchedule)
    pure = (FlowMatching(9), ZeroTerminalSNR(of=schedule))
    assert all(map(ends_in_pure_noise, pure))
    assert not any(map(ends_in_pure_noise, (schedule, EDM(9))))


@pytest.mark.parametrize("wrong", [{"sigma_min": 0.0}, {"sigma_min": 90.0}, {"rho": 0.5}, {"T": 0}])
def test_what_is_no_path_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError):
        EDM(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", PATHS[2:], ids=repr)
def test_halving_the_steps_of_ddim_halves_its_error_on_every_path(path: Path) -> None:
    """A point one deviation above the mean of x_T comes out one deviation above that of the data."""
    fine = type(path)(T=960)
    oracle = GaussianOracle(fine, 0.2, 0.25)
    a, b = fine.at(at(960))
    start = a * 0.2 + (a.square() * 0.25 + b.square()).sqrt()

    def error(steps: int) -> float:
        state = start.view(1, 1)
        sampler = DDIM(steps=steps)
        for t, s in pairwise(sampler.times(fine)):
            guess = oracle.predict(state, at(t))
            a_s, b_s = fine.at(at(s))
            state = scaled(a_s, guess.x_0) + scaled(b_s, guess.eps)
        return abs(float(state) - 0.7)

    assert 1.7 < error(240) / error(480) < 2.4
