"""The figures against closed forms and against the long way round."""

from typing import Any

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from kakusan.errors import DataError, NumbersError, SettingsError
from kakusan.evaluation import metrics
from kakusan.evaluation.metrics import copy_rate, frechet, frechet_distance, nearest

Floats = NDArray[np.float64]


def images(seed: int, count: int, shape: tuple[int, ...] = (2, 5, 4)) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def the_long_way(queries: Tensor, references: Tensor) -> Tensor:
    difference = queries.flatten(1).double()[:, None] - references.flatten(1).double()[None]
    return difference.square().sum(2).sqrt()


@pytest.mark.parametrize("numbers_at_a_time", [1 << 24, 200])  # all in one block; a few rows a block
def test_the_nearest_are_those_of_the_long_way(
    numbers_at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_NUMBERS_AT_A_TIME", numbers_at_a_time)
    queries, references = images(0, 23), images(1, 57)
    expected, places = the_long_way(queries, references).sort(dim=1)
    distances, indices = nearest(queries, references, k=3)
    assert torch.equal(indices, places[:, :3])
    torch.testing.assert_close(distances, expected[:, :3], rtol=1e-14, atol=0)  # float64, sums of 40 squares


def test_the_distance_to_itself_is_exactly_0_and_tiny_ones_keep_their_digits() -> None:
    references = 100 + images(0, 40)  # |q|^2 - 2 qr + |r|^2 alone would be wrong by about 1e-5 here
    moved = references[:5].double()
    moved[:, 0, 0, 0] += 1e-7
    assert nearest(references, references, k=1).distances.max() == 0
    distances, indices = nearest(moved, references, k=1)
    assert indices[:, 0].tolist() == [0, 1, 2, 3, 4]
    torch.testing.assert_close(distances, torch.full((5, 1), 1e-7, dtype=torch.float64), rtol=1e-6, atol=0)


def test_duplicates_are_each_found() -> None:
    references = images(0, 10)[[0, 1, 1, 2, 3, 1]]
    distances, indices = nearest(references[1:2], references, k=4)
    assert set(indices[0, :3].tolist()) == {1, 2, 5}
    assert distances[0, :3].tolist() == [0, 0, 0]
    assert distances[0, 3] > 0


def test_nearest_says_what_it_cannot_do() -> None:
    with pytest.raises(SettingsError, match="there are 3 references: their 4 nearest"):
        nearest(images(0, 2), images(1, 3), k=4)
    with pytest.raises(DataError, match="no queries"):
        nearest(images(0, 0), images(1, 3))
    with pytest.raises(DataError, match=r"40 values .* of 3"):
        nearest(images(0, 2), images(1, 3, (3, 1, 1)))
    with pytest.raises(NumbersError, match="references"):
        nearest(images(0, 2), images(1, 3) / 0)


def test_a_sample_is_a_copy_if_the_second_nearest_is_more_than_three_times_as_far() -> None:
    training = torch.tensor([[0.0], [4.0], [104.0]])
    samples = torch.tensor([[0.0], [0.99], [1.01], [2.0], [3.5], [90.0]])
    found = copy_rate(samples, training)
    assert found.nearest.tolist() == [0, 0, 0, 0, 1, 2]
    np.testing.assert_allclose(found.ratios, [0, 0.99 / 3.01, 1.01 / 2.99, 1, 0.5 / 3.5, 14 / 86], rtol=1e-6)
    assert found.rate == 4 / 6


def test_a_copy_of_a_training_image_held_twice_is_still_a_copy() -> None:
    training = images(0, 30)[[0, 0, *range(1, 30), 0]]
    found = copy_rate(torch.cat([training[:1], training[:1] + 1e-3, images(5, 2)]), training)
    assert found.ratios[0] == 0
    assert found.ratios[1] < 0.01
    assert found.rate == 0.5
    assert found.nearest[:2].tolist() == [0, 0]


def test_masked_images_that_differ_in_the_sign_of_their_zeros_are_equal() -> None:
    fields = images(0, 20)
    fields[:, :1] = 0.0
    negated = torch.where(fields == 0, -0.0, fields)
    found = copy_rate(fields, torch.cat([fields, negated]))
    assert found.rate == 1
    assert found.ratios.tolist() == [0.0] * 20


def test_the_rate_misses_copies_of_near_twins_and_their_distances_do_not() -> None:
    """What the docstring says: of images held twice, a grey level apart, the second nearest is as near."""
    training = images(0, 50)
    twins = torch.cat([training, training + images(1, 50).sign() / 255])
    copies, unseen = training + 0.002 * images(2, 50), images(3, 50)
    found = copy_rate(copies, twins)
    assert found.rate == 0
    assert found.distances.max() < 0.05 * copy_rate(unseen, twins).distances.min()


def test_the_nearest_are_found_at_a_large_common_offset() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(40, 12, generator=generator, dtype=torch.float64)
    found = nearest(1e9 + values[:9], 1e9 + values[9:], k=2)
    assert torch.equal(found.indices, nearest(values[:9], values[9:], k=2).indices)


def test_places_count_in_the_training_images_as_given() -> None:
    training = images(0, 6)[[0, 0, 0, 1, 1, 2]]
    assert copy_rate(training[[5, 3, 0]], training).nearest.tolist() == [5, 3, 0]


def test_a_copy_rate_needs_two_different_images() -> None:
    with pytest.raises(DataError, match="two different"):
        copy_rate(images(0, 2), images(1, 1).expand(4, -1, -1, -1))


def test_bits_that_the_computer_calls_equal_are_copies_whatever_their_type() -> None:
    training = torch.randint(0, 2, (50, 1, 4, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    assert copy_rate(training[:9], training).rate == 1


def test_frechet_between_gaussians_of_one_dimension() -> None:
    distance = frechet_distance(np.array([1.0]), np.array([[4.0]]), np.array([-2.0]), np.array([[25.0]]))
    assert distance == pytest.approx((1 + 2) ** 2 + (2 - 5) ** 2, rel=1e-14)


def test_frechet_between_diagonal_gaussians_adds_over_the_axes() -> None:
    a, b = np.array([0.5, 2.0, 9.0, 0.0]), np.array([3.0, 2.0, 1e-6, 0.7])
    distance = frechet_distance(np.zeros(4), np.diag(a), np.ones(4), np.diag(b))
    assert distance == pytest.approx(4 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum(), rel=1e-13)


def test_frechet_between_gaussians_that_commute_after_a_rotation() -> None:
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    a, b = np.arange(1.0, 7.0), np.arange(7.0, 1.0, -1)
    covariances = [rotation @ np.diag(values) @ rotation.T for values in (a, b)]
    expected = ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    distance = frechet_distance(np.zeros(6), covariances[0], np.zeros(6), covariances[1])
    assert distance == pytest.approx(expected, rel=1e-12)


def test_frechet_between_any_two_gaussians_in_the_plane() -> None:
    """In two dimensions tr (AB)^(1/2) = sqrt(tr AB + 2 sqrt(det AB)), by Cayley and Hamilton."""
    a, b = np.array([[2.0, 0.9], [0.9, 1.0]]), np.array([[0.5, -0.3], [-0.3, 3.0]])
    overlap = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a) * np.linalg.det(b)))
    expected = np.trace(a) + np.trace(b) - 2 * overlap
    assert frechet_distance(np.zeros(2), a, np.zeros(2), b) == pytest.approx(expected, rel=1e-13)


def long_distance(cov_1: NDArray[Any], cov_2: NDArray[Any]) -> float:
    """tr (A + B - 2 (A B)^(1/2)) to 60 digits, Heusel et al. 2017, Eq. 6: by the matrix root itself where A and B have
    full rank, else by the roots of the eigenvalues of A B, whose sum is its trace."""
    with mpmath.workdps(60):
        a, b = (mpmath.matrix(cov.tolist()) for cov in (cov_1, cov_2))
        values, _ = mpmath.eig(a * b)
        overlap = sum(mpmath.sqrt(mpmath.re(value)) for value in values if mpmath.re(value) > 0)
        if min(map(np.linalg.matrix_rank, (cov_1, cov_2))) == len(cov_1):
            root = mpmath.sqrtm(a * b)
            overlap = mpmath.re(sum(root[i, i] for i in range(len(cov_1))))
        return float(sum(a[i, i] + b[i, i] for i in range(len(cov_1))) - 2 * overlap)


@pytest.mark.parametrize("rank", [6, 3, 1])
def test_frechet_is_that_of_the_matrix_root_to_many_digits(rank: int) -> None:
    generator = np.random.default_rng(rank)
    halves = (generator.normal(size=(6, rank)) * np.logspace(0, -3, 6)[:, None] for _ in range(2))
    a, b = (half @ half.T for half in halves)
    zero = np.zeros(6)
    assert frechet_distance(zero, a, zero, b) == pytest.approx(long_distance(a, b), rel=1e-9)


def test_frechet_of_one_feature_and_of_very_few_rows() -> None:
    a, b = np.array([[1.0], [3.0]]), np.array([[5.0], [5.5], [9.0]])
    deviations = [float(x.std(ddof=1)) for x in (a, b)]
    expected = (2 - b.mean()) ** 2 + (deviations[0] - deviations[1]) ** 2
    assert frechet(a, b) == pytest.approx(expected, rel=1e-12)
    wide = np.random.default_rng(0).normal(size=(2, 300))  # two rows of 300 features: rank one
    assert frechet(wide, wide + 1) == pytest.approx(300, rel=1e-10)
    assert frechet(np.ones((5, 3)), np.full((4, 3), 2.0)) == 3  # no variance at all


def test_frechet_between_known_gaussians_is_approached_from_above() -> None:
    """The bias of n rows falls as 1 / n: eight times the rows leave an eighth of it."""
    truth = 4 * 0.25 + 4 * (1.5 - 1) ** 2
    few, many = (
        np.mean([
            frechet(generator.normal(size=(n, 4)), 0.5 + 1.5 * generator.normal(size=(n, 4)))
            for generator in map(np.random.default_rng, range(200))
        ]) - truth
        for n in (50, 400)
    )  # fmt: skip
    assert 0 < many < few
    assert 4 < few / many < 16  # the mean of 200 draws has a tenth of the bias as its error


def test_frechet_to_itself_is_0_even_where_the_rank_is_far_below_the_dimension() -> None:
    few = np.random.default_rng(0).normal(size=(20, 200)) * 50
    scale = np.trace(np.cov(few.T))
    assert frechet(few, few) < 1e-12 * scale


def test_frechet_of_low_rank_sees_a_turn_of_the_subspace() -> None:
    """Rank one along u and along v, unit variance: 2 - 2 |u v|, whatever the dimension around them."""
    generator = np.random.default_rng(0)
    u, v = (w / np.linalg.norm(w) for w in generator.normal(size=(2, 300)))
    zero = np.zeros(300)
    distance = frechet_distance(zero, np.outer(u, u), zero, np.outer(v, v))
    assert distance == pytest.approx(2 - 2 * abs(u @ v), rel=1e-13)


def test_frechet_of_features_is_that_of_their_moments() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(50, 4)), 1 + 2 * generator.normal(size=(70, 4))
    expected = frechet_distance(a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T))
    assert frechet(a.astype(np.float64), b) == pytest.approx(expected, rel=1e-12)
    assert frechet(a, a + np.array([3.0, 0, 4, 0])) == pytest.approx(25, rel=1e-12)


@pytest.mark.parametrize("features", [np.zeros((1, 4)), np.zeros(4)])
def test_frechet_needs_two_rows_of_features(features: NDArray[Any]) -> None:
    with pytest.raises(DataError, match=r"\(n, d\) features"):
        frechet(features, features)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_frechet_of_values_that_are_not_finite_is_an_error_of_ours(bad: float) -> None:
    features = np.random.default_rng(0).normal(size=(9, 4))
    spoiled = features.copy()
    spoiled[3, 2] = bad
    with pytest.raises(NumbersError, match="not finite"):
        frechet(features, spoiled)
    with pytest.raises(NumbersError, match="not finite"):
        frechet_distance(np.zeros(2), np.full((2, 2), bad), np.zeros(2), np.eye(2))
