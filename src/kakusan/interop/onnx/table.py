"""A sampler's walk as a table of numbers, from which anybody can sample without kakusan.

A step from x_t to x_s, with z fresh standard normal noise, is

    x_0 = guess[0] x_t + guess[1] output       what the network's output says of the image, by Eq. (2)
    x_0 held to [-clip, clip]                  where clip is not null
    x_s = next[0] x_0 + next[1] x_t + noise z

and the network is asked at ``time`` = t - 1. Nothing is derived here a second time: the denoiser and the sampler are
asked, in float64, what they make of ones and zeros. Then the sampler walks with a network that is a formula, and the
table must lead to the same places; a sampler whose steps are not of this form is thereby found and refused.
"""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch

from kakusan.diffusion.denoiser import Network, NetworkDenoiser
from kakusan.diffusion.model import Model
from kakusan.diffusion.prediction import Prediction
from kakusan.diffusion.variances import LearnedRange, StepVariance, variance_named
from kakusan.errors import ModelError
from kakusan.samplers import SAMPLERS, Sampler, SeededNoise, State, walk
from kakusan.shapes import Condition, Samples, Times, per_sample, times_like

FORMAT = 1
EXACT = 1e-9  # float64 roundings, where x_0 is up to 1e4 times x_t: steps of another form differ by far more


def sampler_table(
    model: Model[NetworkDenoiser], sampler: Sampler, shape: tuple[int, int, int]
) -> dict[str, Any]:
    """The walk of this sampler with this denoiser, ready for JSON; shape: channels, height, width of an image.

    The output in it is the first ``channels`` channels of the network's. Raises ModelError for a sampler that uses a
    learned variance, and for one whose steps depend on more than x_t, one output and one draw of noise, linearly.
    """
    times = sampler.times(model.path)
    steps = [
        {"time": float(t - 1), "guess": _guess(model, t), **_next(model, sampler, t, s)}
        for t, s in pairwise(times)
    ]
    _check(model, sampler, steps)
    channels, height, width = shape
    return {
        "format": FORMAT,
        "sampler": {
            "name": _name(sampler),
            **asdict(sampler),
            "steps": len(steps),
            "spacing": sampler.spacing or "trailing",
        },
        "predicts": model.denoiser.predicts,
        "T": model.path.T,
        "channels": channels,
        "height": height,
        "width": width,
        "clip": model.clip,
        "steps": steps,
    }


@dataclass(frozen=True)
class _Formula(NetworkDenoiser):
    """A denoiser whose network is a formula of (x_t, t) in float64."""

    def output(
        self,
        x_t: Samples,
        t: Times,
        condition: Condition | None = None,  # noqa: ARG002
    ) -> tuple[Samples, None]:
        return self.network(x_t, t), None


@dataclass(frozen=True)
class _FixedVariance(Model[NetworkDenoiser]):
    """A model that must not ask the network for its variance."""

    def variance_of(self, guess: Prediction, t: Times, s: Times) -> StepVariance:
        if isinstance(variance_named(self.variance), LearnedRange):
            raise ModelError(
                "this sampler takes its variance from the network, and the table of a walk has fixed numbers only",
                "take --sampler ddim, which needs no variance",
            )
        return super().variance_of(guess, t, s)


def _with(
    model: Model[NetworkDenoiser], network: Network, predicts: str, clip: float | None
) -> _FixedVariance:
    """The same model with a formula for its network."""
    formula = _Formula(network, model.path, predicts)
    return _FixedVariance(formula, model.variance, model.sigma_1, clip, model.levels)


def _guess(model: Model[NetworkDenoiser], t: float) -> list[float]:
    """The coefficients of x_t and of the output in the guess of x_0, before it is clipped."""
    x_t, output = torch.eye(2, dtype=torch.float64).view(2, 2, 1, 1, 1)
    return _numbers(model.denoiser.to_prediction(output, None, x_t, times_like(t, x_t)).x_0)


def _next(model: Model[NetworkDenoiser], sampler: Sampler, t: float, s: float) -> dict[str, Any]:
    """Coefficients of x_0, x_t and the noise in x_s; eps follows from x_0 and x_t, as it does after clipping."""
    x_0, x_t, noise = torch.eye(3, dtype=torch.float64).view(3, 3, 1, 1, 1)
    told = _with(model, lambda *_: x_0, "x_0", None)
    state = sampler.step(told, State(x_t), times_like(t, x_t), times_like(s, x_t), lambda _=0: noise)
    *of_images, of_noise = _numbers(state.x)
    return {"next": of_images, "noise": of_noise}


def _numbers(x: Samples) -> list[float]:
    numbers: list[float] = (x.flatten() + 0.0).tolist()  # -0.0 becomes 0.0
    return numbers


@dataclass(frozen=True)
class _DoubleNoise(SeededNoise):
    """Noise in float64, so that a walk is too."""

    def start(self) -> Samples:
        return super().start().double()

    def draw(self, step: int, k: int = 0) -> Samples:
        return super().draw(step, k).double()


def _bent(x_t: Samples, t: Times) -> Samples:
    """A formula in the network's place, linear in nothing."""
    return torch.sin(2 * x_t + per_sample(t, x_t))


def _check(model: Model[NetworkDenoiser], sampler: Sampler, steps: list[dict[str, Any]]) -> None:
    """Each step of the sampler's own walk, from where it stands, is that of the table."""
    formula = _with(model, _bent, model.denoiser.predicts, model.clip)
    noises = _DoubleNoise(seed=0, indices=torch.arange(4), shape=(1, 2, 2))
    for ordinal, (here, there) in enumerate(pairwise(walk(sampler, formula, noises))):
        step = steps[ordinal]
        output = _bent(here.x, times_like(step["time"] + 1, here.x))
        x_0 = step["guess"][0] * here.x + step["guess"][1] * output
        if model.clip is not None:
            x_0 = x_0.clamp(-model.clip, model.clip)
        x_s = step["next"][0] * x_0 + step["next"][1] * here.x + step["noise"] * noises.draw(ordinal)
        if not (there.x - x_s).abs().max() <= EXACT * there.x.abs().max().clamp(min=1):
            raise ModelError(
                f"the step of {_name(sampler)} to t = {there.t} is no fixed sum of x_t, one guess of x_0 and noise,"
                " and the table of a walk holds only such steps: none with earlier guesses, or a second call",
                "samplers that fit: ancestral, ddim",
            )


def _name(sampler: Sampler) -> str:
    """Its name on the command line, or that of its class."""
    names = (name for name, kind in SAMPLERS.items() if kind is type(sampler))
    return next(names, type(sampler).__name__)
