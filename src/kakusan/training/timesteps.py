"""Distributions of t in training. A new one is a class and a line in `TIMES`.

A draw is a function of (seed, step, slot) and, for ways that learn, of a history that is part of the checkpoint.
Losses at t are multiplied by 1 / (T p_t), so that whatever p is, their mean estimates the mean over uniform t.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TypeAlias

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from kakusan.randomness import Purpose, integers, uniforms
from kakusan.shapes import Times

Weights: TypeAlias = Float64[Tensor, " batch"]

REMEMBERED = 10
"""Losses that are kept for each t (Nichol & Dhariwal 2021, section 3.3)."""
UNIFORM_SHARE = 0.001
"""Share of the draws that is uniform, so that no t is left out."""
DECODER_PART = 8
"""One in so many is at t = 1, in `DecoderTimes`."""


class TimeSampler(ABC):
    """Draws t in 1..T for the slots of a batch."""

    learns: bool = False
    """Whether the draws depend on the losses of earlier steps."""

    def __init__(self, T: int) -> None:
        self.T = T

    @abstractmethod
    def draw(
        self, seed: int, step: int | Tensor, slots: Tensor, batch_size: int
    ) -> tuple[Times, Weights | None]:
        """t, and the weight of each loss (None: all 1), where the slots are.

        step: or a whole number in a tensor without axes, if the sampler does not learn.
        """

    def learn(self, t: Times, losses: Float[Tensor, " batch"]) -> None:  # noqa: B027
        """Update by the unweighted losses of a step; called after the step, once for each of its micro-batches."""

    def state(self) -> dict[str, Tensor]:
        """The history, for a checkpoint; empty where there is none."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:  # noqa: B027
        """Go on with this history."""


def _offsets(seed: int, step: int | Tensor, slots: Tensor) -> Float64[Tensor, " batch"]:
    return uniforms(seed, Purpose.TIMES, step, slots, 1)[:, 0]


class UniformTimes(TimeSampler):
    """t uniform over 1..T, independently. Algorithm 1."""

    def draw(
        self,
        seed: int,
        step: int | Tensor,
        slots: Tensor,
        batch_size: int,  # noqa: ARG002
    ) -> tuple[Times, Weights | None]:
        return 1 + integers(_offsets(seed, step, slots), self.T).double(), None


class StratifiedTimes(TimeSampler):
    """One t from each of as many equal parts of 1..T as the batch has images: less noise in the gradient.

    For each image t is uniform over 1..T, since which part it gets is drawn anew at each step.
    """

    def draw(
        self, seed: int, step: int | Tensor, slots: Tensor, batch_size: int
    ) -> tuple[Times, Weights | None]:
        spread = (slots + _offsets(seed, step, slots)) / batch_size
        return 1 + integers(spread, self.T).double(), None


class ImportantTimes(TimeSampler):
    """p_t in proportion to the root mean square of the last losses at t (Nichol & Dhariwal 2021, Eq. 18).

    Least noise in an estimate of the bound, whose terms differ by orders of magnitude. Until every t has its ten
    losses, t is uniform; always it is spread evenly over the batch. Reading them waits for the device once a step.
    """

    learns = True

    def __init__(self, T: int) -> None:
        super().__init__(T)
        self.losses = torch.zeros(T, REMEMBERED, dtype=torch.float64)
        self.count = torch.zeros(T, dtype=torch.int64)

    def probabilities(self) -> Float64[Tensor, " {self.T}"]:
        """p_1, ..., p_T."""
        uniform = torch.full((self.T,), 1 / self.T, dtype=torch.float64)
        size = self.losses.square().mean(1).sqrt()
        if self.count.min() < REMEMBERED or size.sum() == 0:
            return uniform
        return UNIFORM_SHARE * uniform + (1 - UNIFORM_SHARE) * size / size.sum()

    def draw(
        self, seed: int, step: int | Tensor, slots: Tensor, batch_size: int
    ) -> tuple[Times, Weights | None]:
        p = self.probabilities()
        spread = (slots + _offsets(seed, step, slots)) / batch_size
        place = torch.searchsorted(p.cumsum(0), spread).clamp(max=self.T - 1)
        return 1 + place.double(), 1 / (self.T * p[place])

    def learn(self, t: Times, losses: Float[Tensor, " batch"]) -> None:
        places = (t.long() - 1).tolist()
        for place, loss in zip(places, losses.double().tolist(), strict=True):
            self.losses[place, self.count[place] % REMEMBERED] = loss
            self.count[place] += 1

    def state(self) -> dict[str, Tensor]:
        return {"losses": self.losses, "count": self.count}

    def load(self, state: Mapping[str, Tensor]) -> None:
        if state:
            self.losses, self.count = state["losses"].cpu().clone(), state["count"].cpu().clone()


class DecoderTimes(TimeSampler):
    """t = 1 for an eighth of the batch, and all others spread evenly over 2..T.

    The bound's term of t = 1, the decoder's, is another kind of number than the others, and a schedule that is learned
    weighs it against their sum: drawn once in T, it would hardly be heard. The eighth is one of the whole
    batch, however many micro-batches it has, and is rounded up: 2 of 12 samples. Of a batch of one, t is uniform.
    """

    def draw(
        self, seed: int, step: int | Tensor, slots: Tensor, batch_size: int
    ) -> tuple[Times, Weights | None]:
        spread = (slots + _offsets(seed, step, slots)) / batch_size
        share = -(-batch_size // DECODER_PART) / batch_size
        if batch_size == 1 or self.T == 1:
            return 1 + integers(spread, self.T).double(), None
        others = 2 + integers(((spread - share) / (1 - share)).clamp(min=0), self.T - 1).double()
        is_first = spread < share
        t = others.masked_fill(is_first, 1.0)
        weights = torch.full_like(t, (self.T - 1) / (1 - share)).masked_fill(is_first, 1 / share) / self.T
        return t, weights


TIMES: dict[str, type[TimeSampler]] = {
    "uniform": UniformTimes,
    "stratified": StratifiedTimes,
    "importance": ImportantTimes,
    "decoder": DecoderTimes,
}
