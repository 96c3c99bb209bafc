"""The deviation of unknown Gaussian noise, by the evidence of y over samples of the posterior.

The sigma under which y is likeliest satisfies sigma^2 = |y - A E[x|y]|^2 / (n - p), where p = tr(A C A^T) / sigma^2, of
the posterior covariance C, is how many of the n values of y the unknown x takes up (MacKay 1992, Bayesian
interpolation). Samples are drawn under a guess of it, they give the next, and so on from above. It is as good as they
are: a method whose posterior is too narrow finds too little.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kakusan.diffusion.denoiser import Denoiser
from kakusan.errors import SettingsError
from kakusan.posterior.base import Method
from kakusan.posterior.measurement import Measurement
from kakusan.posterior.restoring import Restoration, restore
from kakusan.samplers.base import AnyModel

MOST_PASSES = 12
CLOSE = 0.02
"""Of the logarithm of sigma: a change after which nothing more is to be found."""
LEAST = 1e-4
"""Of the first guess, the deviation of y itself: noise below cannot be told from rounding."""
FEWEST = 0.02
"""Of the values of y, that the unknown x must leave to the noise: with fewer, one cannot be told from the other."""
TOLD = 0.25
"""Of the values of y, that the noise must have for its deviation to be told: samples whose spread is 4 % off, as those
of 30 steps are, are 12 % off in sigma^2 there, and passes, each of which takes over a half of that, as much again."""
RISE = 0.1
"""Of that share, while sigma falls, which it cannot do where samples are those of the posterior."""
LOST = 2.0
"""Of one guess, that the next is at most: sigma falls to where it stays, unless a method fails at so small a noise."""
NOT_TOLD = "; noise so small is not told from what is measured: say how large it is"


@dataclass(frozen=True)
class FittedNoise:
    """The deviation of Gaussian noise that was found."""

    sigma: float
    """In the units of y."""
    error: float
    """One standard error, sigma / sqrt(2 (n - p)): by chance alone, no bias of the model or the method is in it."""
    guesses: tuple[float, ...]
    """Those before it, one a pass."""
    share: float
    """(n - p) / n: of the values of y that say how large the noise is."""
    last_share: float
    """The same by the last samples alone: much larger, their spread is too small for the noise, and sigma too."""
    is_bound: bool = False
    """The noise is below sigma: samples under a smaller one, the last of the guesses, miss y by more than it."""

    @property
    def is_settled(self) -> bool:
        """The last pass changed it by less than 2 %, and the samples told noise from what was measured."""
        if self.is_bound:
            return False
        is_told = self.share > TOLD and self.last_share < self.share + RISE
        return is_told and abs(math.log(self.sigma / self.guesses[-1])) < CLOSE

    @property
    def words(self) -> str:
        """A sentence."""
        passes = f"fitted in {len(self.guesses)} pass{'es' * (len(self.guesses) > 1)}"
        if self.is_bound:
            return (
                f"noise of deviation {self.sigma:.3g} or less, {passes}: under {self.guesses[-1]:.3g} samples of this"
                f" method miss y by more, so {self.sigma:.3g} is taken; say how large it is, 0 where y is exact"
            )
        doubt = "" if self.is_settled else NOT_TOLD
        return f"noise of deviation {self.sigma:.3g} +- {self.error:.2g}, {passes}{doubt}"


def fitted_noise(
    model: AnyModel | Denoiser,
    measurement: Measurement,
    method: Method,
    request: Restoration | None = None,
    progress: Callable[[float, str], None] = lambda _, __: None,
) -> FittedNoise:
    """The deviation of the noise of all measurements together, by passes of `restore` with the same draws.

    measurement: its own noise is not looked at. request: by default 8 samples of each measurement a pass; at least 2.
    Raises SettingsError for a single one, where y is A(mean) itself, and as `restore` does.
    """
    request = request or Restoration(count=8)
    if request.count < 2:
        raise SettingsError("the spread of samples takes at least 2 of each measurement", "8 are usual")
    at_mean = measurement.residual(torch.zeros(len(measurement), *measurement.shape, dtype=torch.float64))
    first = math.sqrt(_mean(at_mean.square(), measurement.known))
    if not first:
        raise SettingsError(
            "what was measured is that of the mean of the data, to the last digit: it has no noise"
        )
    guesses, sigma, share, found, is_bound = [first], first, 1.0, 1.0, False
    for done in range(MOST_PASSES):

        def show(part: float, _: str, done: int = done, sigma: float = sigma) -> None:
            progress((done + part) / MOST_PASSES, f"noise of {sigma:.3g}")

        x = restore(model, replace(measurement, noise=sigma), method, request, show).double()
        mean_square, spread = _misfit(measurement, x)
        found = 1 - spread / sigma**2
        less = max(min(found, share), FEWEST)  # p only grows as sigma falls, whatever a method's samples say
        sigma = max(math.sqrt(max(mean_square, 0.0) / less), LEAST * first)
        if is_bound := len(guesses) > 1 and sigma > LOST * guesses[-1]:
            sigma = guesses[-2]
            break
        share = less
        if abs(math.log(sigma / guesses[-1])) < CLOSE:
            break
        guesses.append(sigma)
    values = int(measurement.known.sum())
    return FittedNoise(
        sigma, sigma / math.sqrt(2 * share * values), tuple(guesses[:MOST_PASSES]), share, found, is_bound
    )


def _misfit(measurement: Measurement, x: Tensor) -> tuple[float, float]:
    """|y - A E[x|y]|^2 / n, A unrounded, less the variance of the rounding, and tr(A C A^T) / n.

    x: samples, (measurements, count, ...). The mean of few is off by the covariance over their number.
    """
    count = x.shape[1]
    each = [measurement.rows(torch.full((count,), row)).residual(x[row]) for row in range(len(x))]
    left, known = torch.stack(each), measurement.known
    rounding = torch.as_tensor(measurement.operator.rounding(measurement.shape), dtype=torch.float64)
    spread = _mean(left.var(1), known)
    return _mean(left.mean(1).square() - rounding, known) - spread / count, spread


def _mean(values: Tensor, known: Tensor) -> float:
    """Over what was measured."""
    kept = known.to(values)
    return float((values * kept).sum() / kept.expand_as(values).sum())
