"""The best K steps: against all ways there are, and the terms of pairs against the bound of the chain."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch

from kakusan.diffusion.best_steps import BestSteps, best_steps, cost_of, step_costs
from kakusan.diffusion.likelihood import variational_bound
from kakusan.diffusion.model import Model
from kakusan.diffusion.oracles import GaussianOracle, MixtureOracle
from kakusan.diffusion.paths import EDM, FlowMatching, Path
from kakusan.diffusion.schedules import Cosine, Given, Linear, betas_of, twin
from kakusan.diffusion.variances import Analytic
from kakusan.errors import SettingsError

F = torch.float64
PATHS = (Linear(T=12), Cosine(T=9), EDM(T=10), FlowMatching(T=11))


def model_on(path: Path, variance: str) -> Model[GaussianOracle]:
    oracle = GaussianOracle(path, 0, torch.tensor([0.05, 0.9], dtype=F).view(2, 1, 1))
    return Model(oracle, Analytic(oracle.errors()) if variance == "analytic" else variance)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
@pytest.mark.parametrize("variance", ["fixed-large", "fixed-small", "analytic"])
def test_dynamic_programming_finds_what_enumeration_finds(path: Path, variance: str) -> None:
    model = model_on(path, variance)
    costs = step_costs(model, model.denoiser.errors())
    for steps in range(1, path.T + 1):
        ways = [(path.T, *reversed(between)) for between in combinations(range(1, path.T), steps - 1)]
        found = best_steps(costs, steps)
        assert found.bits == pytest.approx(min(cost_of(costs, way) for way in ways), rel=1e-13)
        assert found.at in ways
        assert cost_of(costs, found.at) == pytest.approx(found.bits, rel=1e-13)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
def test_all_steps_cost_the_bound(path: Path) -> None:
    """Errors and bound from the same draws: L(t - 1, t) is linear in the error, so the sums are equal to rounding."""
    model = model_on(path, "fixed-large")
    bound = variational_bound(model, model.denoiser.sample(50))
    errors = torch.cat([torch.zeros(1, dtype=F), bound.squared_error.mean(0)])
    costs = step_costs(model, errors)
    each = torch.stack([costs[t - 1, t] for t in range(1, path.T + 1)])
    assert each.tolist() == pytest.approx(bound.bits.mean(0).tolist(), rel=1e-9)
    assert best_steps(costs, path.T).bits == pytest.approx(float((bound.total - bound.L_T).mean()), rel=1e-9)


@pytest.mark.parametrize("variance", ["fixed-large", "fixed-small"])
def test_a_way_through_some_times_costs_the_bound_of_the_chain_that_has_no_others(variance: str) -> None:
    """The times 12, 7, 3 of a schedule are all the times of another, whose bound is measured from end to end."""
    path, at = Linear(T=12), (3, 7, 12)
    left = torch.cat([torch.ones(1, dtype=F), path.alpha_bar[list(at)]])
    thin = Given(tuple(betas_of(left, 1.0).tolist()))
    oracle = GaussianOracle(thin, 0, torch.tensor([0.05, 0.9], dtype=F).view(2, 1, 1))
    bound = variational_bound(Model(oracle, variance, sigma_1="beta_1"), oracle.sample(50))
    errors = torch.zeros(13, dtype=F)
    errors[list(at)] = bound.squared_error.mean(0)
    model = replace(model_on(path, variance), sigma_1="beta_1")
    cost = cost_of(step_costs(model, errors), tuple(reversed(at)))
    assert cost == pytest.approx(float((bound.total - bound.L_T).mean()), rel=1e-9)


def test_paths_in_two_scales_have_the_same_steps() -> None:
    exploding = EDM(T=12, sigma_min=0.05, sigma_max=20)
    found = []
    for path in (exploding, twin(exploding)):
        model = model_on(path, "fixed-small")
        found.append(best_steps(step_costs(model, model.denoiser.errors()), 5))
    assert found[0].at == found[1].at
    assert found[0].bits == pytest.approx(found[1].bits, rel=1e-9)


def test_a_measured_decoder_takes_the_place_of_the_density() -> None:
    model, decoders = (
        model_on(Linear(T=6), "fixed-large"),
        torch.tensor([0, 0.1, 0.2, 0.3, 0.4, 0.5, 9.0], dtype=F),
    )
    costs = step_costs(model, model.denoiser.errors(), decoders)
    assert costs[0].tolist()[1:] == decoders.tolist()[1:]
    assert best_steps(costs, 1) == BestSteps((6,), 9.0)


def test_what_has_no_best_steps_is_refused() -> None:
    model = model_on(Linear(T=6), "fixed-large")
    costs = step_costs(model, model.denoiser.errors())
    for steps in (0, 7):
        with pytest.raises(SettingsError, match="do not fit"):
            best_steps(costs, steps)
    with pytest.raises(SettingsError, match="learned variance"):
        step_costs(Model(model.denoiser, "learned"), model.denoiser.errors())
    with pytest.raises(ValueError, match="do not fit a path"):
        step_costs(model, torch.zeros(3, dtype=F))


def test_best_steps_of_a_mixture_beat_even_ones() -> None:
    """Two narrow peaks: most bits are spent where the peaks part, and there the steps belong."""
    oracle = MixtureOracle(
        Cosine(T=60), torch.ones(2), torch.tensor([-0.7, 0.7]).view(2, 1, 1, 1), torch.full((2,), 0.01)
    )
    bound = variational_bound(oracle, oracle.sample(100))
    costs = step_costs(Model(oracle), torch.cat([torch.zeros(1, dtype=F), bound.squared_error.mean(0)]))
    for steps in (5, 10, 20):
        even = tuple(round(60 * i / steps) for i in range(steps, 0, -1))
        assert best_steps(costs, steps).bits < cost_of(costs, even) - 0.05
