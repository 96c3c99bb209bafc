"""Where steps lie: the spacings, times one by one, and the time of a noise level."""

import math
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path as File
from typing import get_args, get_type_hints

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kakusan.cli.sample import Sample
from kakusan.diffusion.oracles import GaussianOracle
from kakusan.diffusion.paths import EDM, FlowMatching, Path, ends_in_pure_noise
from kakusan.diffusion.schedules import Cosine, Linear, Sigmoid, ZeroTerminalSNR
from kakusan.errors import SettingsError
from kakusan.samplers import DDIM, SAMPLERS, SPACINGS, SamplingRequest, UniPC, sample, sampler_named
from kakusan.samplers.spacings import ENTROPIC, WHOLE

F = torch.float64
PATHS: tuple[Path, ...] = (
    Linear(),
    Cosine(),
    Sigmoid(),
    ZeroTerminalSNR(of=Linear()),
    FlowMatching(),
    EDM(),
    EDM(T=7, sigma_max=3.0),
)


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_the_time_of_a_noise_level_is_found_between_any_two_whole_times(path: Path) -> None:
    last = path.T - ends_in_pure_noise(path) * 1e-3
    times = torch.cat([torch.linspace(0.25, last, 997, dtype=F), torch.arange(1, path.T, dtype=F)])
    level = path.half_log_snr(times)
    found = path.time_at(level)
    step = torch.where(times < 1, 1e-6, -1e-6)  # on the same side of any kink
    slope = ((path.half_log_snr(times + step) - level) / step).abs()
    rounding = 64 * torch.finfo(F).eps * (1 + level.abs()) / slope  # of log(a / b), in t
    assert ((found - times).abs() <= 1e-12 * path.T + rounding).all()
    assert path.time_at(torch.tensor([math.inf], dtype=F)).item() == 0


def test_the_ends_of_a_path_are_found_as_they_are() -> None:
    path = Linear()
    ends = torch.tensor([1000, 1, 500], dtype=F)
    assert path.time_at(path.half_log_snr(ends)).equal(ends)
    with pytest.raises(ValueError, match="no less before"):
        path.time_at(torch.tensor([0.0, -6.0], dtype=F))
    with pytest.raises(ValueError, match="no less before"):
        path.time_at(torch.tensor([math.nan], dtype=F))


@pytest.mark.parametrize("spacing", SPACINGS)
@given(T=st.integers(1, 300), data=st.data())
def test_times_fall_strictly_from_noise_to_the_data(spacing: str, T: int, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([Linear(T=T), FlowMatching(T=T), EDM(T=T)]))
    steps = data.draw(st.integers(1, T))
    sampler = DDIM(steps=steps, spacing=spacing)
    if (spacing == "leading" and steps == 1 < T) or (
        spacing in ("log-snr", "karras") and ends_in_pure_noise(path) and steps == T > 1 and T <= 2
    ):
        with pytest.raises(SettingsError):
            sampler.times(path)
        return
    *times, end = sampler.times(path)
    assert len(times) == steps
    assert end == 0
    assert times[-1] >= 1
    assert times[0] <= T
    assert all(s < t for t, s in pairwise(times))


SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "quadratic": torch.sqrt,
    "log-snr": Linear().half_log_snr,
    "karras": lambda t: (-Linear().half_log_snr(t) / 7).exp(),
}


@pytest.mark.parametrize("spacing", SCALES)
def test_what_is_even_is_even(spacing: str) -> None:
    t = torch.tensor(DDIM(steps=9, spacing=spacing).times(Linear())[:-1], dtype=F)
    gaps = SCALES[spacing](t).diff()
    assert torch.allclose(gaps, gaps.mean(), rtol=1e-9, atol=0)
    assert t[[0, -1]].tolist() == [1000, 1]


def test_on_the_path_of_edm_karras_spacing_is_even_in_t() -> None:
    """The path is made so that sigma^(1 / rho) is linear in t."""
    times = torch.tensor(DDIM(steps=10, spacing="karras").times(EDM())[:-1], dtype=F)
    assert torch.allclose(times, torch.linspace(1000, 1, 10, dtype=F), rtol=1e-10)


@pytest.mark.parametrize("path", [FlowMatching(), ZeroTerminalSNR(of=Linear())], ids=repr)
def test_a_scale_without_end_begins_one_step_below_pure_noise(path: Path) -> None:
    for spacing in ("log-snr", "karras"):
        assert DDIM(steps=5, spacing=spacing).times(path)[0] == 999
        assert DDIM(steps=1, spacing=spacing).times(path) == (1000, 0)
        with pytest.raises(SettingsError, match="2 steps do not fit between t = 1 and t = 1"):
            DDIM(steps=2, spacing=spacing).times(FlowMatching(T=2))


def test_times_one_by_one_are_visited() -> None:
    assert DDIM(at=(999, 700.5, 20)).times(Linear()) == (999, 700.5, 20, 0)
    assert UniPC(at=(5, 0.5), steps=2).times(FlowMatching(T=5)) == (5, 0.5, 0)
    given = sampler_named("ddim", 1000, at=(999, 700.5, 20))
    assert given == DDIM(at=(999, 700.5, 20))
    oracle = GaussianOracle(Linear(), 0.3, 0.04)
    request = SamplingRequest(count=4, shape=(1, 1, 1))
    even = DDIM(at=tuple(range(1000, 0, -100)))
    assert sample(oracle, even, request).equal(sample(oracle, DDIM(steps=10), request))


@pytest.mark.parametrize("at", [(), (5, 5), (5, 7), (5, 0), (5, -1), (math.nan, 1), (math.inf, 1)])
def test_times_that_do_not_fall_to_above_0_are_refused(at: tuple[float, ...]) -> None:
    with pytest.raises(SettingsError, match="the times of a walk fall"):
        DDIM(at=at)


def test_times_beyond_T_and_other_numbers_of_steps_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"1000\.5 lies beyond the T = 1000"):
        DDIM(at=(1000.5, 3)).times(Linear())
    with pytest.raises(SettingsError, match="3 steps and 2 times"):
        DDIM(at=(9, 3), steps=3)


def test_the_flag_knows_each_spacing_and_a_process_the_whole_numbered() -> None:
    (names, _) = get_args(get_type_hints(Sample)["spacing"])
    assert get_args(names) == (*SPACINGS, ENTROPIC)
    assert [*WHOLE] == ["trailing", "leading", "linspace"]


def test_the_page_has_a_row_for_each_sampler_and_each_spacing() -> None:
    page = (File(__file__).parents[2] / "docs" / "samplers.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z][\w-]+)` \| (?:`(\w+)`)?", page, re.MULTILINE)
    assert [row for row in rows if row[1]] == [(name, kind.__name__) for name, kind in SAMPLERS.items()]
    assert [name for name, kind in rows if not kind] == [*SPACINGS, ENTROPIC]
