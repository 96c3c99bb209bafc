"""The error of a guess of x_0, by the guess: the variance of a step for values that a network is more or less sure of.

A network that predicts no variance has one anyway: a guess near to the darkest or brightest level is nearly always
right, one between them hardly ever. The variance of a step is that of `Analytic`, with an error for each group of
guesses in place of one for all (Bao et al. 2022 with more than one group). What groups there are is a choice by
length.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from kakusan.diffusion.forward import posterior_variance, posterior_weights
from kakusan.diffusion.paths import Path
from kakusan.diffusion.prediction import Prediction
from kakusan.diffusion.variances import SMALLEST, StepVariance, Variance
from kakusan.shapes import Samples, Times, per_sample

Groups: TypeAlias = Int64[Tensor, "batch channels *space"]
"""The number of the group that each value belongs to."""

NEAR = (2**-9, 2**-7, 2**-5, 2**-3, 2**-1)
"""Distances of a guess from the nearer end of [-1, 1], between groups."""
FRACTIONS = 8
CODES_AN_OCTAVE = 8
LARGEST = 2
"""log2 of the largest error that has a code: x_0 lies in [-1, 1], and a guess is mostly there too."""


def _one(guess: Prediction) -> Groups:
    return torch.zeros(guess.x_0.shape, dtype=torch.int64)


def _nearness(guess: Prediction) -> Groups:
    edges = torch.tensor(NEAR, dtype=torch.float64)
    return torch.bucketize(1 - guess.x_0.double().abs(), edges)


def _signed_nearness(guess: Prediction) -> Groups:
    return _nearness(guess) + (len(NEAR) + 1) * (guess.x_0 > 0)


def _fraction(guess: Prediction) -> Groups:
    if guess.fraction is None:
        return _one(guess)
    return (guess.fraction.double() * FRACTIONS).long().clamp(0, FRACTIONS - 1)


@dataclass(frozen=True)
class Grouping:
    """A division of guesses into so many groups."""

    count: int
    of: Callable[[Prediction], Groups]


GROUPINGS = (
    Grouping(1, _one),
    Grouping(len(NEAR) + 1, _nearness),
    Grouping(2 * len(NEAR) + 2, _signed_nearness),
    Grouping(FRACTIONS, _fraction),
)
"""By their number in a file: a new one comes last."""


@dataclass(frozen=True, eq=False)
class Calibrated(Variance):
    """beta~ + w^2 E|x_0 - x_0_hat|^2 as in `Analytic`, with the error of the group that a guess belongs to.

    times: at which errors are known; codes: those of the errors, one for each group at each of the times.
    """

    times: tuple[int, ...]
    grouping: int
    codes: tuple[bytes, ...]
    name = "calibrated"

    def of(
        self,
        path: Path,
        t: Times,
        s: Times,
        sigma_1: str,  # noqa: ARG002
        guess: Prediction,
    ) -> StepVariance:
        """sigma^2, float64. Raises ValueError for a t that is none of the times; all of a batch have the same."""
        errors = decoded(self.codes[self.times.index(int(t[0]))])
        of_group = errors[GROUPINGS[self.grouping].of(guess)]
        _, of_x_0 = posterior_weights(path, t, s)
        left = per_sample(posterior_variance(path, t, s), guess.x_0)
        return (left + per_sample(of_x_0.square(), guess.x_0) * of_group).clamp(min=SMALLEST)


def group_errors(
    guess: Prediction, x_0: Samples, grouping: Grouping
) -> tuple[Float64[Tensor, " groups"], Float64[Tensor, " groups"]]:
    """(mean squared error, share of the values) of each group; an empty one has the error of all."""
    groups = grouping.of(guess).flatten()
    squares = (guess.x_0.double() - x_0.double()).square().flatten()
    counts = torch.bincount(groups, minlength=grouping.count).double()
    sums = torch.bincount(groups, squares, minlength=grouping.count)
    return torch.where(counts > 0, sums / counts.clamp(min=1), squares.mean()), counts / counts.sum()


def encoded(errors: Sequence[float]) -> bytes:
    """A byte for each error: an eighth of an octave, from 4 down to 1e-9."""
    octaves = [LARGEST - math.log2(max(error, 1e-12)) for error in errors]
    return bytes(min(max(round(CODES_AN_OCTAVE * octave), 0), 255) for octave in octaves)


def decoded(codes: bytes) -> Float64[Tensor, " groups"]:
    """The errors of these codes. Powers of 2 of a table, so that no library's exp is asked."""
    return torch.tensor([2.0 ** (LARGEST - code / CODES_AN_OCTAVE) for code in codes], dtype=torch.float64)
