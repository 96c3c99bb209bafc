"""Misfit and score of a posterior, against closed forms of Gaussian data."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from kakusan.diffusion.oracles import GaussianOracle
from kakusan.diffusion.schedules import Cosine
from kakusan.operators import Mask, function
from kakusan.posterior import Measurement
from kakusan.posterior.misfit import LARGE, STRANGE, loudest, misfit, moved_within, one_sided, standardized
from kakusan.posterior.noise import Gaussian, Noise, Poisson, Student
from kakusan.posterior.score import posterior_score
from kakusan.statistics.stein import stein_discrepancy

SHAPE, SIGMA = (1, 2, 3), 0.3
KNOWN = torch.tensor([[True, False, True], [True, True, False]])


def normals(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.Generator(np.random.Philox(seed)).standard_normal(shape))


def covariance() -> Tensor:
    root = normals(9, 6, 6) / 2
    return root @ root.T + 0.1 * torch.eye(6, dtype=torch.float64)


def posterior(y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of x ~ N(0, C) given the known values with noise."""
    C, A = covariance(), torch.eye(6, dtype=torch.float64)[KNOWN.flatten()]
    gain = C @ A.T @ torch.linalg.inv(A @ C @ A.T + SIGMA**2 * torch.eye(4, dtype=torch.float64))
    return gain @ y.flatten()[KNOWN.flatten()], C - gain @ A @ C


def measured(n: int) -> tuple[Measurement, Tensor]:
    x = (normals(1, n, 6) @ torch.linalg.cholesky(covariance()).T).view(n, *SHAPE)
    return Measurement(Mask(KNOWN), x + SIGMA * normals(2, n, *SHAPE), SIGMA, SHAPE), x


def test_the_misfit_of_the_truth_and_of_exact_samples_is_chi_square() -> None:
    """4 degrees: mean 4, variance 8; three errors of means of 400."""
    n = 400
    measurement, x = measured(n)
    samples = torch.empty(n, 1, *SHAPE, dtype=torch.float64)
    for k in range(n):
        mean, spread = posterior(measurement.y[k])
        samples[k, 0] = (mean + torch.linalg.cholesky(spread) @ normals(100 + k, 6)).view(SHAPE)
    for given in (x[:, None], samples):
        found = misfit(measurement, given)
        assert (found.degrees == 4).all()
        assert found.reduced.mean() == pytest.approx(1, abs=3 * (8 / n) ** 0.5 / 4)
        assert np.mean(found.p < 0.1) == pytest.approx(0.1, abs=3 * (0.09 / n) ** 0.5)
    away = misfit(measurement, x[:, None] + 2)
    assert (away.p < 0.01).mean() > 0.99


def test_what_was_not_measured_or_is_exact_has_no_share_in_the_misfit() -> None:
    y = torch.tensor([[[[1.0, torch.nan, 2.0], [0.0, 5.0, 9.0]]]])
    sigma = torch.tensor([[[0.5, 0.5, 0.0], [0.5, 0.5, 0.5]]])
    found = misfit(Measurement(Mask(KNOWN), y, Gaussian(sigma), SHAPE), torch.zeros(1, 2, *SHAPE))
    assert found.degrees.tolist() == [[3, 3]]  # the mask hides two, nan one of them, and one is exact
    assert found.chi_square == pytest.approx((1 + 25) / 0.25)
    exact = misfit(Measurement(Mask(KNOWN), y, 0.0, SHAPE), torch.zeros(1, 2, *SHAPE))
    assert np.isnan(exact.reduced).all()
    assert np.isnan(exact.p).all()


def test_what_was_measured_exactly_is_kept_or_said_to_be_off() -> None:
    """Data 10 x + 3 of x between 0 and 1, and samples that are off by 0.05 in one value of four."""
    x = torch.linspace(0, 1, 6).view(1, 1, *SHAPE)
    y = (10 * x + 3)[:, 0]
    asked = Measurement(Mask(KNOWN), y, 0.0, SHAPE, 10.0, 3.0)
    assert misfit(asked, x).is_kept
    assert misfit(asked, x).line == "y was measured exactly, and is kept"
    away = x.clone()
    away[..., 0, 0] += 0.05
    away[..., 0, 1] += 1  # hidden
    found = misfit(asked, away)
    assert found.off == pytest.approx(0.5)
    assert found.line == "y was measured exactly, and A(x) of samples is up to 0.5 away"
    middling = Measurement(Mask(KNOWN), torch.full_like(y, 3.0), 0.0, SHAPE, 10.0, 3.0)
    assert misfit(middling, torch.full_like(x, 1e-6)).is_kept  # y is A(0), so its own size says nothing


def test_a_line_names_the_target_and_the_range_over_samples() -> None:
    asked = Measurement(Mask(KNOWN), torch.zeros(1, *SHAPE), 0.5, SHAPE)
    line = misfit(asked, torch.tensor([0.25, 0.5]).view(1, 2, 1, 1, 1).expand(1, 2, *SHAPE)).line
    assert line == (
        "misfit: chi-square by degree of freedom 0.625 over 4 values, where 1 is noise alone; 0.25 to 1 by sample"
    )
    near = misfit(asked, torch.zeros(1, 2, *SHAPE))
    assert near.words.endswith("more steps may help, or the noise is smaller than was said")
    far = misfit(asked, torch.full((1, 2, *SHAPE), 4e7))
    assert "by degree of freedom is 6.4e15 times that of noise" in far.words


def test_samples_that_leave_their_range_to_fit_y_are_told_and_small_strays_are_not() -> None:
    asked = Measurement(Mask(KNOWN), torch.full((1, *SHAPE), -4.0), 0.0, SHAPE, 8.0, 8.0)
    samples = torch.full((1, 5, *SHAPE), -1.5)
    assert moved_within(asked, samples, 2 / 16) == (4.0, 1.0)
    assert moved_within(asked, samples + 0.4, 2 / 16) == (0.0, 0.0)  # 0.8 of a level beyond
    noisy = Measurement(Mask(KNOWN), asked.y, 2.0, SHAPE, 8.0, 8.0)
    assert moved_within(noisy, samples, 2 / 16) == (0.0, 0.0)  # two deviations of the noise
    hidden = samples.where(~KNOWN, torch.tensor(0.0))
    assert moved_within(asked, hidden, 2 / 16) == (0.0, 0.0)


def test_a_code_among_many_values_is_named_and_a_misfit_of_all_is_not() -> None:
    y = normals(3, 1, 1, 8, 8)
    samples = y[None][:, 0, None] + 0.1 * normals(4, 1, 5, 1, 8, 8)
    y[0, 0, 2, 3] = -999
    everywhere = Mask(torch.ones(8, 8, dtype=torch.bool))
    code = Measurement(everywhere, y, 0.1, (1, 8, 8))
    assert loudest(code, samples) == (1, -999.0)
    assert STRANGE in misfit(code, samples).words
    noisy = replace(code, y=y.clamp(min=-3))
    assert loudest(noisy, samples + 5)[0] == 0
    assert misfit(noisy, samples + 5).reduced.min() > LARGE


def test_a_single_number_has_one_degree() -> None:
    mean = function(lambda x: x.mean((1, 2, 3)))
    measurement = Measurement(mean, torch.tensor([1.0, 2.0, 3.0]), 0.5, SHAPE)
    found = misfit(measurement, torch.zeros(3, 2, *SHAPE))
    assert found.degrees.tolist() == [[1, 1]] * 3
    assert found.chi_square[:, 0] == pytest.approx([4, 16, 36])
    assert len(Measurement(mean, torch.tensor(1.0), 0.5, SHAPE)) == 1


@pytest.mark.parametrize("noise", [Poisson(2.0), Student(0.4, 2.0), Gaussian(0.4)])
def test_the_misfit_of_the_truth_has_the_mean_of_its_degrees_whatever_the_noise(noise: Noise) -> None:
    """Also of Student's noise of 2 degrees, which has no variance. Six errors of a mean of 40,000 with variance 2."""
    truth = 60 + 5 * normals(5, 100, 1, 20, 20)
    y = torch.from_numpy(noise.draw(truth.numpy(), np.random.Generator(np.random.Philox(6))))
    measurement = Measurement(Mask(torch.ones(20, 20, dtype=torch.bool)), y, noise, (1, 20, 20))
    assert misfit(measurement, truth[:, None]).reduced.mean() == pytest.approx(1, abs=6 * (2 / 40_000) ** 0.5)


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 3.0, 1e6])
def test_the_misfit_of_counts_is_chi_square_down_to_the_smallest_rates(rate: float) -> None:
    """300 truths of 400 values: the mean within six errors, and one in ten in the upper tenth, within four."""
    noise, n = Poisson(2.0), 300
    truth = torch.full((n, 1, 20, 20), 2 * rate, dtype=torch.float64)
    y = torch.from_numpy(noise.draw(truth.numpy(), np.random.Generator(np.random.Philox(7))))
    measurement = Measurement(Mask(torch.ones(20, 20, dtype=torch.bool)), y, noise, (1, 20, 20))
    found = misfit(measurement, truth[:, None])
    assert found.reduced.mean() == pytest.approx(1, abs=6 * (2 / 400 / n) ** 0.5)
    assert np.mean(found.p < 0.1) == pytest.approx(0.1, abs=4 * (0.09 / n) ** 0.5)
    assert found.words == ""
    beyond = misfit(measurement, 1.5 * truth[:, None] + 4)
    assert (beyond.p < 1e-3).mean() > 0.99


def test_counts_where_none_can_be_are_far_but_finite() -> None:
    """A prediction of 0 and below counts as a rate of 1e-3: P(N >= 5) is 1e-17, of which 8.5 is the quantile."""
    y = torch.tensor([[[0.0, 5.0, 0.0, 5.0]]])
    measurement = Measurement(Mask(torch.ones(4, dtype=torch.bool)), y, Poisson(1.0), (1, 4))
    left = standardized(measurement, torch.tensor([[[0.0, 0.0, -3.0, -3.0]]]))[0, 0]
    assert left.isfinite().all()
    assert left[[1, 3]] == pytest.approx([8.5, 8.5], abs=0.3)
    assert (left[[0, 2]].abs() < 5).all()


def test_missing_values_of_samples_count_as_the_mean() -> None:
    measurement, x = measured(2)
    gaps = x[:, None].clone()
    gaps[..., 0, 0] = torch.nan
    filled = gaps.nan_to_num(0)
    assert misfit(measurement, gaps).chi_square.tolist() == misfit(measurement, filled).chi_square.tolist()


def test_the_score_is_that_of_the_closed_form_at_any_noise_level() -> None:
    measurement, _ = measured(1)
    oracle = GaussianOracle(Cosine(T=1000), torch.zeros(SHAPE), covariance())
    x_0, noise = normals(3, 5, *SHAPE), normals(4, 5, *SHAPE)
    rows = measurement.rows(torch.zeros(5, dtype=torch.long))
    mean, spread = posterior(measurement.y[0])
    for sigma in (0.05, 0.5):
        z, score = posterior_score(oracle, rows, x_0, noise, sigma)
        wide = spread + sigma**2 * torch.eye(6, dtype=torch.float64)
        expected = torch.linalg.solve(wide, (mean - z.flatten(1)).T).T
        assert torch.allclose(z, x_0 + sigma * noise, rtol=1e-9)
        assert torch.allclose(score.flatten(1), expected, rtol=1e-4, atol=1e-4)


def test_exact_samples_are_at_the_reference_and_narrow_ones_are_seen() -> None:
    """Ratios of squared discrepancies, of 40 draws of 40 samples each: 1, three errors of the mean are 0.2."""
    measurement, _ = measured(1)
    mean, spread = posterior(measurement.y[0])
    oracle = GaussianOracle(Cosine(T=1000), torch.zeros(SHAPE), covariance())
    root, rows = torch.linalg.cholesky(spread), measurement.rows(torch.zeros(40, dtype=torch.long))
    ratio = {}
    for width in (1.0, 0.3):
        found = []
        for seed in range(40):
            x = (mean + width * normals(2 * seed, 40, 6) @ root.T).view(40, *SHAPE)
            pair = posterior_score(oracle, rows, x, normals(2 * seed + 1, 40, *SHAPE), 0.05)
            found.append(stein_discrepancy(*pair, seed=seed))
        ratio[width] = sum(f.value**2 for f in found) / sum(f.reference**2 for f in found)
    assert ratio[1.0] == pytest.approx(1, abs=0.2)
    assert ratio[0.3] > 1.5


def test_y_that_lies_to_one_side_of_all_samples() -> None:
    """64 values with noise of 0.3: their mean has an error of 1/8; the one of two y that is 0.5 too high is told."""
    exact = normals(3, 2, 1, 8, 8)
    y = exact + SIGMA * normals(4, 2, 1, 8, 8)
    of = Mask(torch.ones(8, 8, dtype=torch.bool))
    assert one_sided(Measurement(of, y, SIGMA, (1, 8, 8)), exact[:, None]) == 0
    y[1] -= 0.5
    found = one_sided(Measurement(of, y, SIGMA, (1, 8, 8)), exact[:, None].expand(-1, 3, -1, -1, -1))
    assert found == pytest.approx(-0.5 / SIGMA, abs=3 / 8)


def test_a_warning_names_the_measurements_that_samples_miss() -> None:
    measurement, x = measured(12)
    samples = x[:, None].repeat(1, 3, 1, 1, 1)
    samples[[2, 7]] += 5
    assert misfit(measurement, samples).words.endswith(
        "; of the 12 measurements, counted from 0, it is 2: 2, 7"
    )
    samples[:] = x[:, None] + 5
    assert "counted from 0" not in misfit(measurement, samples).words
    samples[0] = x[0]
    assert misfit(measurement, samples).words.endswith("it is 11: 1, 2, 3, 4, 5, 6, 7, 8 and others")
