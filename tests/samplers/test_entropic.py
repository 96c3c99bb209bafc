"""Entropic times against Gaussian data, whose error and entropy are known in closed form."""

from itertools import pairwise

import pytest
import torch

from kakusan.diffusion.paths import EDM, FlowMatching, Path, ends_in_pure_noise
from kakusan.diffusion.schedules import Cosine, Linear
from kakusan.errors import SettingsError
from kakusan.samplers.entropic import entropic
from kakusan.shapes import Coefficients

F = torch.float64
SPREAD = 0.5
"""Deviation of the data."""


def measured(path: Path) -> tuple[Coefficients, Coefficients]:
    """Times, and the least errors there: s^2 sigma^2 / (s^2 + sigma^2)."""
    start = path.T - 1 if ends_in_pure_noise(path) else path.T
    levels = path.half_log_snr(torch.tensor([start, 1.0], dtype=F))
    inner = torch.linspace(float(levels[0]), float(levels[1]), 400, dtype=F)[1:-1]
    t = torch.cat([torch.tensor([float(start)], dtype=F), path.time_at(inner), torch.ones(1, dtype=F)])
    variance = torch.exp(-2 * path.half_log_snr(t))
    return t, SPREAD**2 * variance / (SPREAD**2 + variance)


@pytest.mark.parametrize("path", [Linear(), Cosine(), FlowMatching(), EDM()], ids=lambda p: type(p).__name__)
def test_each_step_removes_the_same_share(path: Path) -> None:
    """Its rate in lambda is sigma s^2 / (s^2 + sigma^2): it falls as s atan(sigma / s) does."""
    steps = 12
    at = entropic(path, steps, *measured(path))
    assert len(at) == steps
    assert at[0] == path.T
    ends = torch.tensor([*at, 1.0], dtype=F)
    if ends_in_pure_noise(path):
        ends[0] = path.T - 1
    sigma = torch.exp(-path.half_log_snr(ends))
    removed = -torch.atan(sigma / SPREAD).diff()
    rounding = 2 * float(torch.atan(sigma / SPREAD).diff().abs().max()) / min(t - s for t, s in pairwise(at))
    assert (removed / removed.mean() - 1).abs().max() < 0.02 + rounding / float(removed.mean())


def test_times_are_whole_where_there_is_room() -> None:
    assert all(isinstance(t, int) for t in entropic(Cosine(), 10, *measured(Cosine())))


def test_more_steps_than_whole_times_allow_still_fall() -> None:
    path = Linear(T=40)
    at = entropic(path, 40, *measured(path))
    assert all(s < t for t, s in pairwise((*at, 0)))


def test_more_steps_than_t_are_refused() -> None:
    with pytest.raises(SettingsError, match="do not fit"):
        entropic(Linear(T=10), 11, *measured(Linear(T=10)))
