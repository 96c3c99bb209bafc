"""Bits back along the chain: images on the stack, at the length of the bound (Kingma, Abbeel & Ho 2019, Bit-Swap).

For each step from s up to t: x_t is popped by q(x_t | x_s), and x_s pushed by p_theta(x_s | x_t); at the end x_T is
pushed by N(0, I). What that adds is log q / p of a draw from q, whose mean is the bound of Eq. (11). To read, the
same is done backwards, and x_t, once it is known where it leads to, goes back on the stack. One level of latents is
borrowed at a time, not all.

Images go one by one until the stack is long enough to lend for more. So what the first one borrows is paid once.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.forward import noise_between, posterior_variance, q_posterior
from kakusan.diffusion.gaussians import Gaussian
from kakusan.diffusion.likelihood import BITS
from kakusan.diffusion.model import Model, p_given
from kakusan.errors import NumbersError
from kakusan.evaluation.coding.bins import SURPRISE, Bins, pop_all, push_all
from kakusan.evaluation.coding.stack import Stack
from kakusan.randomness import Purpose, normals
from kakusan.shapes import times_like

FINENESS = 0.7
"""Bins a deviation of the narrowest law. See `_in_bins`: finer ones gain nothing, and borrow more."""
REACH = 8
"""Deviations from the mean that bins cover."""
MOST_AT_ONCE = 64
PROBE = 1
"""Seed of what a fingerprint is made with."""
BORROWED = 6
"""Bits a value that an image borrows, at the most."""

Levels: TypeAlias = NDArray[np.uint8]
Law: TypeAlias = tuple[list[float], list[float]]
"""Means and deviations, value by value."""


@dataclass(frozen=True)
class Chain:
    """The model at few times: T last, rising, each a whole number of 1..T. Its levels say what x_0 is."""

    model: Model[Denoiser]
    times: tuple[int, ...]
    shape: tuple[int, ...]
    """Of an image, (channels, ...)."""

    @cached_property
    def bins(self) -> tuple[Bins, ...]:
        """Those of the data, and of x_t at each time."""
        assert self.model.levels is not None
        return (Bins.of_levels(self.model.levels), *map(self._bins_at, range(len(self.times))))

    def _bins_at(self, place: int) -> Bins:
        """Fine beside the law that x_t is popped by, and those that it is pushed by."""
        path, t = self.model.path, _time(self.times[place])
        s = _time(self.times[place - 1] if place else 0)
        (a, b), narrowest = path.at(t), float(noise_between(path, t, s))
        if place + 1 < len(self.times):
            narrowest = min(narrowest, float(posterior_variance(path, _time(self.times[place + 1]), t)))
        return Bins.around_0(float(a + REACH * b), math.sqrt(narrowest) / FINENESS)

    def push(self, stack: Stack, images: Levels) -> float:
        """Put images (n, channels, ...) on the stack, in a batch. Gives their bound in bits, with these draws.

        Raises NumbersError where the network gives numbers that are not finite.
        """
        numbers = images.reshape(-1).tolist()
        x_0 = x_s = self._values(0, numbers)
        bits = 0.0
        for place, (s, t) in enumerate(pairwise((0, *self.times))):
            popped = pop_all(stack, self.bins[place + 1], *self._noised(x_s, place))
            x_t = self._values(place + 1, popped)
            law = self._law(x_t, t, s)
            bits += self._term(law, x_t, x_0, t, s)
            push_all(stack, self.bins[place], numbers, *self._in_bins(law, place))
            numbers, x_s = popped, x_t
        push_all(stack, self.bins[-1], numbers, *self._prior(len(images)))
        return bits + self._prior_term(x_0)

    def pop(self, stack: Stack, count: int) -> Levels:
        """Take a batch of images from the stack: the exact inverse. Raises EmptyStackError, NumbersError."""
        numbers = pop_all(stack, self.bins[-1], *self._prior(count))
        for place, (s, t) in reversed([*enumerate(pairwise((0, *self.times)))]):
            law = self._law(self._values(place + 1, numbers), t, s)
            found = pop_all(stack, self.bins[place], *self._in_bins(law, place))
            push_all(stack, self.bins[place + 1], numbers, *self._noised(self._values(place, found), place))
            numbers = found
        return np.array(numbers, dtype=np.uint8).reshape(count, *self.shape)

    def fingerprint(self, sizes: Sequence[int]) -> bytes:
        """A hash of laws in batches of these sizes: where one bit of a network comes out otherwise, so does this."""
        digest = hashlib.sha256()
        for number, size in enumerate(sizes):
            place = number % len(self.times)
            x_t = normals(PROBE, Purpose.CODING, number, torch.arange(size), self.shape).double()
            law = self._law(x_t, self.times[place], (0, *self.times)[place])
            means, deviations = self._in_bins(law, place)
            bins = self.bins[place]
            below = [
                bins.below(1, mean, deviation) for mean, deviation in zip(means, deviations, strict=True)
            ]
            digest.update(repr((means, deviations, below)).encode())
        return digest.digest()

    def _values(self, place: int, numbers: list[int]) -> torch.Tensor:
        """The middles of bins, (n, channels, ...), float64."""
        bins = self.bins[place]
        middles = bins.low + (torch.tensor(numbers, dtype=torch.float64) + 0.5) * bins.width
        return middles.view(-1, *self.shape)

    def _noised(self, x_s: torch.Tensor, place: int) -> Law:
        """q(x_t | x_s) for the step up from this place: the steps of Eq. (1) from s to t in one."""
        path, s, t = self.model.path, *map(_time, (0, *self.times)[place : place + 2])
        ratio = path.at(t)[0] / path.at(s)[0]
        return self._in_bins(Gaussian(ratio * x_s, noise_between(path, t, s)), place + 1)

    def _in_bins(self, law: Gaussian, place: int) -> Law:
        """Means and deviations of a law whose mass in each bin is its density in the middle, times the width.

        With a variance that is less by width^2 / 12 (Sheppard's correction): then x_t, which stands at middles, has the
        variance that the network knows, and nothing is lost, though bins are wider than a deviation. The error is
        that of a sum in place of an integral, exp(-2 pi^2 FINENESS^2) of it. Levels of the data are bins by themselves.
        """
        less = self.bins[place].width ** 2 / 12 if place else 0.0
        deviation = (law.variance - less).sqrt().expand_as(law.mean)
        return law.mean.flatten().tolist(), deviation.flatten().tolist()

    @torch.no_grad()
    def _law(self, x_t: torch.Tensor, t: int, s: int) -> Gaussian:
        """p_theta(x_s | x_t) of Eq. (5), by the network in float32 and in float64 from its guess on."""
        then, until = times_like(t, x_t), times_like(s, x_t)
        guess = self.model.predict(x_t.float(), then).double()
        law = p_given(self.model, guess, x_t, then, until)
        if not (law.mean.isfinite().all() and law.variance.isfinite().all()):
            raise NumbersError(f"the network gives numbers that are not finite at t = {t}")
        return law

    def _prior(self, count: int) -> Law:
        """N(0, a_T^2 + b_T^2) for each value of so many images."""
        variance = self.model.path.scale_at(_time(self.times[-1])).square()
        return self._in_bins(Gaussian(torch.zeros(count, *self.shape), variance), len(self.times))

    def _term(self, law: Gaussian, x_t: torch.Tensor, x_0: torch.Tensor, t: int, s: int) -> float:
        """The bits of a step by the bound: a divergence, and at the end the mass of the level."""
        if s == 0:
            assert self.model.levels is not None
            mass = law.log_mass(x_0, self.model.levels).exp()
            return float(-((1 - SURPRISE) * mass + SURPRISE / self.model.levels).log().sum()) * BITS
        posterior = q_posterior(self.model.path, x_t, x_0, times_like(t, x_t), times_like(s, x_t))
        return float(posterior.kl(law).sum()) * BITS

    def _prior_term(self, x_0: torch.Tensor) -> float:
        T = _time(self.times[-1])
        a, b = self.model.path.at(T)
        start = Gaussian(torch.zeros_like(x_0), self.model.path.scale_at(T).square())
        return float(Gaussian(a * x_0, b.square()).kl(start).sum()) * BITS


def _time(t: int) -> torch.Tensor:
    return torch.tensor([t], dtype=torch.float64)


def batches(count: int, pace: int) -> list[slice]:
    """So many images in batches: one for each `pace` that are on the stack already, at least 1 and at most 64."""
    return [slice(a, b) for a, b in pairwise(accumulate(_sizes(count, pace), initial=0))]


def pace_for(bits: float) -> int:
    """The images that have to be on the stack before it lends for one more, at so many bits a value each."""
    return min(max(math.ceil(BORROWED / max(bits, 1e-3)), 1), 255)


def _sizes(count: int, pace: int) -> Iterator[int]:
    done = 0
    while done < count:
        size = min(max(done // pace, 1), MOST_AT_ONCE, count - done)
        yield size
        done += size
