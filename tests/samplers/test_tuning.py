"""Tuned times: the search against problems whose answer is known, and walks of an exact denoiser."""

from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from kakusan.diffusion.model import as_model
from kakusan.diffusion.oracles import MixtureOracle
from kakusan.diffusion.paths import EDM, FlowMatching, Path
from kakusan.diffusion.schedules import Cosine, Linear
from kakusan.errors import SettingsError
from kakusan.samplers import DDIM, Ancestral, Consistency, SeededNoise, UniPC
from kakusan.samplers.tuning import Endpoints, Gaps, LeastSquares, most_walks, tune
from kakusan.shapes import Condition

F = torch.float64
PATHS = (Linear(), Cosine(), FlowMatching(), EDM())


def endpoints(path: Path) -> Endpoints:
    """Of three narrow peaks in one dimension."""
    means = torch.tensor([[[[-0.8]]], [[[0.1]]], [[[0.7]]]], dtype=F)
    oracle = MixtureOracle(path, torch.ones(3), means, torch.full((3,), 0.01, dtype=F))
    return Endpoints(
        as_model(oracle),
        [(SeededNoise(0, part, (1, 1, 1)), None) for part in torch.split(torch.arange(256), 100)],
    )


def test_a_linear_problem_is_solved_in_a_round() -> None:
    matrix = torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, -1.0]], dtype=F)
    wanted = torch.tensor([0.3, -0.5], dtype=F)
    search = LeastSquares(lambda x: matrix @ (x - wanted), torch.zeros(2, dtype=F), 40)
    search.run()
    assert search.at.allclose(wanted, atol=1e-3)  # ends where a round wins less than 0.3 % of what is left


def test_a_curved_valley_is_followed() -> None:
    """Rosenbrock's, from its usual start: least 0 at (1, 1)."""

    def off(x: Tensor) -> Tensor:
        return torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])

    search = LeastSquares(off, torch.tensor([-1.2, 1.0], dtype=F), 400)
    begun = search.error
    search.run()
    assert begun > 10
    assert search.at.allclose(torch.ones(2, dtype=F), atol=0.05)


def test_no_more_values_are_asked_for_than_allowed() -> None:
    asked = []

    def counted(x: Tensor) -> Tensor:
        asked.append(x)
        return x.sin() + 2

    search = LeastSquares(counted, torch.zeros(3, dtype=F), 11)
    search.run()
    assert len(asked) <= 11


@pytest.mark.parametrize("steps", [1, 2, 8, 50])
def test_gaps_give_back_their_times(steps: int) -> None:
    times = DDIM(steps=steps).times(Linear())
    gaps = Gaps.of(times, whole=True)
    assert (*gaps.times(gaps.logs), 0) == times


def test_times_fall_wherever_the_search_goes() -> None:
    gaps = Gaps.of(DDIM(steps=6).times(Linear()), whole=True)
    for seed in range(20):
        far = 8 * torch.randn(5, generator=torch.Generator().manual_seed(seed), dtype=F)
        at = gaps.times(far)
        assert at[0] == 1000
        assert all(s < t for t, s in pairwise((*at, 0)))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
@pytest.mark.parametrize("sampler", [DDIM(steps=5), UniPC(steps=5)], ids=["ddim", "unipc"])
def test_endpoints_come_nearer_to_those_of_a_fine_walk(path: Path, sampler: Any) -> None:
    found = tune(sampler, endpoints(path))
    again = endpoints(path)
    off = again(replace(sampler, steps=None, at=found.at)) - again.fine
    assert float(off.square().mean().sqrt()) == pytest.approx(found.error, rel=1e-9)
    assert found.error < (0.7 if isinstance(sampler, UniPC) else 0.95) * found.before
    assert len(found.at) == 5


def test_the_same_noise_gives_the_same_times() -> None:
    first, second = (tune(DDIM(steps=4), endpoints(Linear())) for _ in range(2))
    assert first == second


def test_progress_ends_within_what_was_announced() -> None:
    told: list[int] = []
    tune(DDIM(steps=4), endpoints(Linear()), lambda walks, _: told.append(walks))
    assert told == [*range(1, len(told) + 1)]
    assert len(told) <= most_walks(4)


def test_one_step_has_nothing_to_tune() -> None:
    found = tune(DDIM(steps=1), endpoints(Linear()))
    assert found.at == (1000,)
    assert found.error == found.before


@pytest.mark.parametrize("steps", [2, 3])
def test_few_times_are_tuned_too(steps: int) -> None:
    """T = 20, where gaps are of a few whole times: nearly the best of all whole times there are."""
    path = Linear(T=20)
    ends = endpoints(path)
    found, goal = tune(DDIM(steps=steps), ends), ends.fine
    best = min(
        float((ends(DDIM(at=(20, *later))) - goal).square().mean().sqrt())
        for later in combinations(range(19, 0, -1), steps - 1)
    )
    assert found.error <= 1.15 * best
    assert found.error < found.before


@pytest.mark.parametrize("sampler", [DDIM(steps=3, eta=0.5), Ancestral(steps=3), Consistency(steps=3)])
def test_samplers_that_draw_noise_are_refused(sampler: Any) -> None:
    with pytest.raises(SettingsError, match="cannot be tuned"):
        tune(sampler, endpoints(Linear()))


def test_what_a_mask_hides_does_not_count() -> None:
    ends = endpoints(Linear())
    hidden = replace(
        ends, batches=[(noises, Condition(mask=torch.zeros(1, 1, 1, 1))) for noises, _ in ends.batches]
    )
    assert not hidden(DDIM(steps=3)).any()


def test_times_of_a_run_are_not_made_up() -> None:
    with pytest.raises(SettingsError, match="those of a run"):
        DDIM(steps=4, spacing="tuned")
    assert DDIM(at=(1000, 3), spacing="tuned").times(Linear()) == (1000, 3, 0)
