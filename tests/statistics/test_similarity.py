"""PSNR and SSIM against closed forms, and against the formula written out place by place."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from kakusan.errors import DataError
from kakusan.statistics.similarity import psnr, ssim

Floats = NDArray[np.float64]


def pictures(*shape: int, seed: int = 0) -> Floats:
    values: Floats = np.random.Generator(np.random.Philox(seed)).random(shape)
    return values


def test_psnr_of_a_known_error() -> None:
    truth = pictures(2, 1, 5, 5) * 255
    assert psnr(truth + 25.5, truth, 255) == pytest.approx([20, 20])
    assert np.isinf(psnr(truth, truth, 255)).all()
    holes = truth.copy()
    holes[0, 0, 0] = np.nan
    assert psnr(holes + 25.5, truth, 255) == pytest.approx([20, 20])


def written_out(x: Floats, y: Floats, peak: float) -> float:
    """SSIM of one channel, (height, width): the formula of the paper at each place, by sums over 121 pixels."""
    axis = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    w = np.outer(axis, axis) / axis.sum() ** 2
    found = []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            m, n = (w * a).sum(), (w * b).sum()
            s, t, both = (w * (a - m) ** 2).sum(), (w * (b - n) ** 2).sum(), (w * (a - m) * (b - n)).sum()
            c, d = (0.01 * peak) ** 2, (0.03 * peak) ** 2
            found.append((2 * m * n + c) * (2 * both + d) / ((m**2 + n**2 + c) * (s + t + d)))
    return float(np.mean(found))


def test_ssim_is_the_formula_written_out() -> None:
    x, y = pictures(2, 3, 15, 18), pictures(2, 3, 15, 18, seed=1)
    y = 0.7 * x + 0.3 * y
    expected = [np.mean([written_out(a[c], b[c], 1.0) for c in range(3)]) for a, b in zip(x, y, strict=True)]
    assert ssim(x, y, 1.0) == pytest.approx(expected, rel=1e-10)
    assert ssim(255 * x, 255 * y, 255) == pytest.approx(expected, rel=1e-10)


def test_ssim_keeps_its_digits_far_from_0() -> None:
    """Of pressures in Pa the factor of the means is 1, and what is left is that of the spreads."""
    x, y = pictures(1, 1, 12, 14), pictures(1, 1, 12, 14)[..., ::-1]
    near, far = (ssim(0.01 * x + mean, 0.01 * y + mean, 0.01) for mean in (1e3, 1e5))
    assert far == pytest.approx(near, rel=1e-5)


def test_ssim_of_shifted_brightness_has_a_closed_form() -> None:
    """Of a constant c and c + d all variances are 0: (2 m n + C_1) / (m^2 + n^2 + C_1)."""
    x = np.full((1, 1, 12, 12), 0.5)
    assert ssim(x, x + 0.2, 1.0) == pytest.approx((2 * 0.5 * 0.7 + 1e-4) / (0.25 + 0.49 + 1e-4), rel=1e-9)
    assert ssim(x, x, 1.0) == pytest.approx(1)


def test_signals_and_volumes_have_windows_of_their_own_rank() -> None:
    signal = pictures(2, 1, 40)
    tall = np.repeat(signal[..., None], 11, axis=-1)  # an image that is constant across
    other = 0.5 * signal + 0.2
    assert ssim(signal, other, 1.0) == pytest.approx(
        ssim(tall, np.repeat(other[..., None], 11, axis=-1), 1.0), rel=1e-9
    )
    assert ssim(pictures(1, 1, 11, 11, 11), pictures(1, 1, 11, 11, 11), 1.0) == pytest.approx(1)


def test_what_has_no_window_has_no_ssim() -> None:
    assert np.isnan(ssim(pictures(2, 2), pictures(2, 2), 1.0)).all()
    assert np.isnan(ssim(pictures(2, 1, 8, 8), pictures(2, 1, 8, 8), 1.0)).all()
    holed = pictures(1, 1, 30, 30)
    whole = ssim(holed, holed + 0.1, 1.0)
    holed[0, 0, 0, 0] = math.nan
    assert ssim(holed, pictures(1, 1, 30, 30) + 0.1, 1.0) == pytest.approx(whole, rel=0.01)
    with pytest.raises(DataError):
        ssim(pictures(1, 1, 12, 12), pictures(1, 1, 12, 13), 1.0)
