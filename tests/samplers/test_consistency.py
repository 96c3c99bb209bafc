"""Multistep consistency sampling: from the exact consistency function it reaches the law of the data."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.parametrizations import eps_from_x_0
from kakusan.diffusion.paths import EDM, FlowMatching, Path
from kakusan.diffusion.prediction import Prediction
from kakusan.diffusion.schedules import Cosine, Linear, ZeroTerminalSNR
from kakusan.samplers import DDIM, Consistency, SamplingRequest, sample, sampler_named
from kakusan.shapes import Condition, Samples, Times, per_sample

F = torch.float64
WEIGHTS, MEANS, DEVIATIONS = (1 / 3, 2 / 3), (-0.6, 0.5), (0.2, 0.3)
CELLS, MOST = 32, 83.7
"""Chi-square of 31 degrees of freedom lies above it once in a million times."""
GRID = torch.linspace(-3, 3, 20_001, dtype=F)


def shares(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """P(x_t <= x) of the mixture."""
    laws = zip(WEIGHTS, MEANS, DEVIATIONS, strict=True)
    parts = [
        w * torch.special.ndtr((x - a * mean) / (a.square() * deviation**2 + b.square()).sqrt())
        for w, mean, deviation in laws
    ]
    return torch.stack(parts).sum(0)


@dataclass(frozen=True)
class Ends(Denoiser):
    """The end of the trajectory through x_t: in one dimension, the value with as much of the data's law below it."""

    path: Path

    def predict(self, x_t: Samples, t: Times, condition: Condition | None = None) -> Prediction:  # noqa: ARG002
        a, b = self.path.at(t)
        share = shares(x_t.double(), *(per_sample(part, x_t) for part in (a, b)))
        table = shares(GRID, torch.ones((), dtype=F), torch.zeros((), dtype=F))
        place = torch.searchsorted(table, share.contiguous()).clamp(1, len(GRID) - 1)
        x_0 = (
            GRID[place - 1] + (share - table[place - 1]) / (table[place] - table[place - 1]) * GRID.diff()[0]
        )
        return Prediction(x_0.to(x_t), eps_from_x_0(x_0, x_t.double(), a, b).to(x_t))


def chi_square(x: Tensor) -> float:
    found = torch.histc(shares(x.double(), torch.ones(1, dtype=F), torch.zeros(1, dtype=F)), CELLS, 0, 1)
    expected = len(x) / CELLS
    return float((found - expected).square().sum() / expected)


@pytest.mark.parametrize("path", [Linear(), Cosine(), FlowMatching(), EDM()], ids=repr)
@pytest.mark.parametrize("calls", [1, 2, 3, 4, 7])
def test_from_the_exact_function_any_number_of_calls_has_the_law_of_the_data(path: Path, calls: int) -> None:
    request = SamplingRequest(count=8192, shape=(1,), micro_batch=8192)
    assert chi_square(sample(Ends(path), Consistency(steps=calls), request)) < MOST


def test_the_noise_between_calls_has_its_size() -> None:
    """Without it, or from a denoiser of means, the law is another."""
    request = SamplingRequest(count=8192, shape=(1,), micro_batch=8192)
    quiet = Consistency(at=(1000, 500, 400, 300, 200))

    class Half(Ends):
        def predict(self, x_t: Samples, t: Times, condition: Condition | None = None) -> Prediction:
            guess = super().predict(x_t, t, condition)
            return Prediction(0.9 * guess.x_0, guess.eps)

    assert chi_square(sample(Half(Linear()), quiet, request)) > MOST


@pytest.mark.parametrize("calls", [2, 3, 4])
def test_calls_lie_at_the_same_noise_on_every_path(calls: int) -> None:
    levels = set()
    for path in (Linear(), Cosine(), FlowMatching(), EDM(), ZeroTerminalSNR(of=Linear())):
        first, *inner, last = Consistency(steps=calls).times(path)
        assert (first, last) == (path.T - isinstance(path, FlowMatching | ZeroTerminalSNR), 0)
        assert all(s < t for t, s in pairwise((first, *inner, last)))
        a, b = path.at(torch.tensor(inner, dtype=F))
        levels.add(tuple((b / a).mul(1e6).round().tolist()))
    assert len(levels) == 1


def test_times_and_spacings_that_are_chosen_are_kept_and_a_runs_own_is_not_laid_over() -> None:
    path = Cosine()
    assert Consistency(at=(900, 300)).times(path) == (900, 300, 0)
    assert Consistency(steps=2, spacing="trailing").times(path) == (1000, 500, 0)
    assert Consistency().spaced("leading") == Consistency()
    assert DDIM().spaced("leading") == DDIM(spacing="leading")
    assert DDIM(spacing="linspace").spaced("leading").spacing == "linspace"
    assert sampler_named("consistency", 1000) == Consistency(steps=2)


def test_where_there_are_too_few_times_they_trail() -> None:
    assert Consistency(steps=2).times(EDM(T=10, sigma_max=0.5)) == (10, 5, 0)
    assert Consistency(steps=3).times(Cosine(T=3)) == (3, 2, 1, 0)
    assert Consistency(steps=1).times(FlowMatching(T=1)) == (1, 0)
    assert Consistency(steps=8).times(Linear(T=80)) == (80, 70, 60, 50, 40, 30, 20, 10, 0)
