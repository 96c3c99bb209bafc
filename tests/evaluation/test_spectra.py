"""Power by frequency: waves, white noise, the sum of its definition, and distances in decibels."""

from itertools import product

import numpy as np
import pytest
import torch

from kakusan.evaluation.spectra import (
    MOST_SHELLS,
    Spectrum,
    has_spectrum,
    log_spectral_distance,
    radial_power,
    shells_of,
)

SIZES: list[tuple[int, ...]] = [(32,), (12, 16), (8, 6, 8)]


@pytest.mark.parametrize("sides", SIZES)
def test_white_noise_has_its_variance_at_all_frequencies(sides: tuple[int, ...]) -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(3, 2, (2000, 1, *sides)))
    spectrum = Spectrum.of(radial_power(x))
    away = (spectrum.power - 4) / spectrum.errors
    lost = 1.5 * len(
        sides
    )  # the mean that is taken out is part of the lowest frequencies, through the window
    assert np.abs(away[0, 2:]).max() < 4.5  # of at most 15 shells: one false alarm in 10,000
    assert (spectrum.power[0, :2] > 4 - lost).all()
    assert (spectrum.power[0, :2] < 4.2).all()


@pytest.mark.parametrize("sides", SIZES)
def test_a_wave_has_its_power_in_its_own_shell(sides: tuple[int, ...]) -> None:
    shells = shells_of(sides)
    assert shells.frequency[-1] <= 0.5 + 0.5 / max(sides)
    cycles, longest = max(sides) // 4, max(sides)  # along the longest side
    form = [-1 if axis == sides.index(longest) else 1 for axis in range(len(sides))]
    x = np.cos(2 * np.pi * cycles * np.arange(longest) / longest).reshape(form)
    power = radial_power(torch.from_numpy(np.broadcast_to(x, (1, 1, *sides)).copy()))[0, 0]
    assert abs(int(power.argmax()) + 1 - cycles) == 0
    assert (
        power[shells.frequency > (cycles + 2.5) / max(sides)].max(initial=0) < 1e-12 * power.max()
    )  # Hann: two rings


def test_power_is_that_of_its_definition() -> None:
    sides = (5, 8)
    x = np.random.default_rng(1).normal(size=(1, 1, *sides))
    window = np.outer(*(np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in sides))
    values = (x[0, 0] - x.mean()) * window
    sums: dict[int, list[float]] = {}
    for k, m in product(range(-2, 3), range(-4, 4)):
        ring = round(float(np.hypot(k / 5, m / 8)) * 8)
        wave = np.exp(-2j * np.pi * np.add.outer(k * np.arange(5) / 5, m * np.arange(8) / 8))
        sums.setdefault(ring, []).append(abs((values * wave).sum()) ** 2 / (window**2).sum())
    expected = [np.mean(sums[ring]) for ring in range(1, 5)]
    assert radial_power(torch.from_numpy(x))[0, 0] == pytest.approx(expected, rel=1e-12)


def test_what_does_not_go_on_at_its_other_end_does_not_hide_high_frequencies() -> None:
    ramp = torch.linspace(0, 1, 256, dtype=torch.float64).view(1, 1, -1)
    power = radial_power(ramp)[0, 0]
    assert power[-1] < 1e-9 * power[0]  # without a window: 1e-4


def test_long_sides_have_shells_of_equal_steps_of_the_logarithm() -> None:
    shells = shells_of((4096,))
    assert len(shells.frequency) <= MOST_SHELLS
    assert shells.counts.sum() == 4095
    assert (np.diff(shells.frequency) > 0).all()


def test_points_and_the_smallest_samples_have_no_spectrum() -> None:
    assert [has_spectrum(shape) for shape in ((2,), (1, 3), (1, 3, 3), (1, 4), (3, 1, 8))] == [0, 0, 0, 1, 1]
    assert np.isfinite(radial_power(torch.randn(2, 3, 1, 8))).all()


def test_the_distance_is_in_decibels() -> None:
    power = np.random.default_rng(0).uniform(1, 9, (2, 5))
    assert log_spectral_distance(power, power) == 0
    assert log_spectral_distance(4 * power, power) == pytest.approx(10 * np.log10(4), rel=1e-12)
    one = power.copy()
    one[0, 0] *= 10
    assert log_spectral_distance(one, power) == pytest.approx(np.sqrt(100 / 10), rel=1e-12)


def test_channels_without_power_are_left_out_and_lost_power_is_far_and_finite() -> None:
    power = np.ones((2, 5))
    power[1] = 0
    other = 2 * power
    assert log_spectral_distance(other, power) == pytest.approx(10 * np.log10(2), rel=1e-12)
    assert log_spectral_distance(0 * power, power) == pytest.approx(120, rel=1e-12)
    assert log_spectral_distance(power, 0 * power) == 0


def test_the_error_of_power_covers_at_its_level() -> None:
    generator = np.random.default_rng(4)
    hits = []
    for _ in range(300):
        spectrum = Spectrum.of(radial_power(torch.from_numpy(generator.normal(size=(100, 1, 16)))))
        hits.append(np.abs(spectrum.power[0, 3:] - 1) < 1.96 * spectrum.errors[0, 3:])
    assert (
        0.92 < np.mean(hits) < 0.965
    )  # 5 shells of 300 draws, correlated; a normal law of chi-squares is a bit narrow
