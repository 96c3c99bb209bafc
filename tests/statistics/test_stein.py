"""Kernel Stein discrepancies: the formula by autograd, the null law, and the power against wrong spreads."""

import math

import numpy as np
import pytest
import torch

from kakusan.errors import DataError
from kakusan.statistics.stein import stein_discrepancy


def normals(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.Generator(np.random.Philox(seed)).standard_normal(shape))


def by_autograd(x: torch.Tensor, s: torch.Tensor, c: float) -> float:
    """The root of the mean of u over all pairs, its derivatives by autograd."""

    def k(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (c**2 + (a - b).square().sum()) ** -0.5

    total = 0.0
    for i in range(len(x)):
        for j in range(len(x)):
            along = torch.func.grad(k, argnums=(0, 1))(x[i], x[j])
            mixed = torch.func.jacrev(torch.func.grad(k, argnums=0), argnums=1)(x[i], x[j])
            total += float(s[i] @ s[j] * k(x[i], x[j]) + s[i] @ along[1] + s[j] @ along[0] + mixed.trace())
    return math.sqrt(total / len(x) ** 2)


def test_the_formula_is_that_of_its_derivatives() -> None:
    x, s = normals(0, 7, 3) + 5, normals(1, 7, 3)
    assert stein_discrepancy(x, s, scale=0.8).value == pytest.approx(by_autograd(x, s, 0.8), rel=1e-9)


def test_samples_of_the_law_are_at_the_reference_and_seldom_surprise() -> None:
    found = [stein_discrepancy(x := normals(seed, 40, 5), -x, seed=seed) for seed in range(200)]
    ratio = np.mean([f.value**2 for f in found]) / np.mean([f.reference**2 for f in found])
    assert ratio == pytest.approx(1, abs=0.08)  # three errors of a mean of 200
    assert np.mean([f.p < 0.05 for f in found]) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_wrong_spreads_and_wrong_means_are_seen(factor: float) -> None:
    x = factor * normals(3, 100, 4)
    assert stein_discrepancy(x, -x).p < 0.01
    y = normals(4, 100, 4) + 0.5
    assert stein_discrepancy(y, -y).p < 0.01


def test_the_same_seed_gives_the_same_and_shapes_are_checked() -> None:
    x = normals(5, 9, 2, 3)
    assert stein_discrepancy(x, -x, seed=1) == stein_discrepancy(x.numpy(), -x.numpy(), seed=1)
    for samples, scores in ((x[:1], x[:1]), (x, x[:, :1])):
        with pytest.raises(DataError):
            stein_discrepancy(samples, scores)
