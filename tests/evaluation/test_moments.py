"""Moments of channels: the definitions, their errors, gaps, and what has none."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kakusan.data.units import Levels, Real
from kakusan.evaluation.moments import (
    MOMENTS,
    ChannelMoments,
    centre_of,
    channel_moments,
    power_sums,
    with_error,
)

UNITS = Real((10.0, -3.0), (2.0, 0.5))


def moments_of(x: torch.Tensor, units: Real | Levels = UNITS) -> ChannelMoments:
    centre = centre_of(x)
    return channel_moments(power_sums(x, centre), centre, units)


def by_definition(values: NDArray[np.float64]) -> list[float]:
    values = values[~np.isnan(values)]
    away = (values - values.mean()) / values.std()
    return [values.mean(), values.std(), (away**3).mean(), (away**4).mean() - 3]


@pytest.mark.parametrize("size", [(), (7,), (4, 5), (3, 2, 4)])
def test_moments_are_those_of_their_definition_in_the_units_of_the_data(size: tuple[int, ...]) -> None:
    x = torch.from_numpy(np.random.default_rng(0).gamma(2, 1, (30, 2, *size))).float()
    found = moments_of(x)
    for channel in range(2):
        values = UNITS.mean[channel] + UNITS.scale[channel] * x[:, channel].double().numpy().ravel()
        assert found.values[channel] == pytest.approx(by_definition(values), rel=1e-10)


def test_levels_are_counted_from_0() -> None:
    x = Levels(17).encode(np.array([[[[0]], [[16]]]], dtype=np.uint8))
    assert moments_of(x, Levels(17)).values[0] == pytest.approx([8, 8, 0, -2], abs=1e-12)  # two equal peaks


def test_values_that_are_missing_do_not_count() -> None:
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(40, 1, 6)))
    x[::3, 0, 2:4] = torch.nan
    assert moments_of(x, Real((0.0,), (1.0,))).values[0] == pytest.approx(
        by_definition(x.numpy().ravel()), rel=1e-10
    )


def test_a_large_offset_costs_no_digits() -> None:
    x = torch.from_numpy(np.random.default_rng(2).normal(size=(50, 1, 8)))
    near, far = (moments_of(x + shift, Real((0.0,), (1.0,))).values[0, 1:] for shift in (0, 1e6))
    assert far == pytest.approx(near, rel=1e-8)  # 1e6 of 2^52


def test_the_errors_cover_at_their_level() -> None:
    """Values of a sample are alike, so that samples count and not values: a shift of each, and a little more."""
    generator, hits = np.random.default_rng(3), []
    truth = [0.0, np.sqrt(1 / 3 + 1 / 48), 0.0, (1 / 5 + 6 / 3 / 48 + 1 / 1280) / (1 / 3 + 1 / 48) ** 2 - 3]
    for _ in range(400):
        shift = generator.uniform(-1, 1, (150, 1, 1))
        found = moments_of(
            torch.from_numpy(shift + generator.uniform(-0.25, 0.25, (150, 1, 5))), Real((0.0,), (1.0,))
        )
        hits.append(np.abs(found.values[0] - truth) < 1.96 * found.errors[0])
    covered = np.mean(hits, axis=0)
    assert ((covered > 0.905) & (covered < 0.985)).all(), (
        covered
    )  # binomial of 400 at 0.95: 4 deviations are 0.044


def test_what_is_constant_or_alone_has_no_shape_or_error() -> None:
    constant = moments_of(torch.ones(5, 1, 3), Real((0.0,), (1.0,)))
    assert constant.values[0, :2].tolist() == [1, 0]
    assert np.isnan(constant.values[0, 2:]).all()
    alone = moments_of(torch.randn(1, 1, 3), Real((0.0,), (1.0,)))
    assert np.isnan(alone.errors).all()
    assert list(alone.as_json()[0]) == list(MOMENTS)


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (4.83012, 0.0153, "4.830 ± 0.015"), (12345.6, 78.9, "12,346 ± 79"), (12345.6, 789.0, "12,350 ± 790"),
        (1.5, float("nan"), "1.5"), (1.5, 0.0, "1.5"), (float("nan"), 1.0, "none"), (None, None, "none"),
        (3e-13, 2e-14, "3e-13 ± 2e-14"),
    ],
)  # fmt: skip
def test_a_value_is_told_to_the_digits_that_its_error_leaves(
    value: float | None, error: float | None, words: str
) -> None:
    assert with_error(value, error) == words
