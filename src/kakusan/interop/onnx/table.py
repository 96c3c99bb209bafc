"""A sampler's walk as a table of numbers, from which anybody can sample without kakusan.

A row for each call of the network. Asked at x_t at ``time``, which is t - 1 or stands for the noise at t, it leads on
to the next point, with z fresh standard normal noise, by

    x_0 = guess[0] x_t + guess[1] output       what the network's output says of the image, by Eq. (2)
    x_0 held to [-clip, clip]                  where clip is not null
    x_s = next[0] x_0 + next[1] x_t + noise z + past[0][0] x_0' + past[0][1] x_t' + past[1][0] x_0'' + ...

where x_0', x_t' are those of the row before, x_0'', x_t'' of the one before that. Rows without ``past`` have none; a
table of such rows alone is of format 1, which is all that there was once, and others are of format 2.

Methods of several calls a step have as many rows for it. A corrector needs none: where x_s is predicted, asked about
and corrected by the answer, the correction is a sum of guesses, and goes into the row of that answer.

Nothing is derived here a second time: denoiser and sampler are asked, in float64, what they make of ones and zeros,
one for each point, guess and draw of noise. Then the sampler walks with a network that is a formula, and the table must
lead to the same places; a sampler whose steps are not of this form is thereby found and refused.
"""

from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate, pairwise
from typing import Any

import torch

from kakusan.diffusion.denoiser import Network, NetworkDenoiser
from kakusan.diffusion.model import Model
from kakusan.diffusion.prediction import Prediction
from kakusan.diffusion.variances import LearnedRange, StepVariance, variance_named
from kakusan.errors import ModelError
from kakusan.samplers import SAMPLERS, Sampler, SeededNoise, State, name_of, walk
from kakusan.samplers.base import Noise
from kakusan.shapes import Condition, Samples, Times, per_sample, scaled, times_like

WITHOUT_PAST, WITH_PAST = 1, 2
"""Formats of a table."""
MOST_PAST = 8
"""Rows that a row may look back on: no method keeps more, and who reads the table has them in memory."""
MOST_CALLS = 4
"""Calls of a step."""
EXACT = 1e-9  # float64 roundings, where x_0 is up to 1e4 times x_t: steps of another form differ by far more


def sampler_table(
    model: Model[NetworkDenoiser], sampler: Sampler, shape: tuple[int, int, int]
) -> dict[str, Any]:
    """The walk of this sampler with this denoiser, ready for JSON; shape: channels, height, width of an image.

    The output in it is the first ``channels`` channels of the network's. Raises ModelError for a sampler that uses a
    learned variance, and for one whose steps are no sums of points, guesses and one draw of noise.
    """
    rows = traced(model, sampler)
    _check(model, sampler, rows)
    channels, height, width = shape
    return {
        "format": WITH_PAST if any(row.past for row in rows) else WITHOUT_PAST,
        "sampler": {
            "name": name_of(sampler),
            **asdict(sampler),
            "steps": len(sampler.times(model.path)) - 1,
            "spacing": _spacing(sampler),
        },
        "predicts": model.denoiser.predicts,
        "T": model.path.T,
        "channels": channels,
        "height": height,
        "width": width,
        "clip": model.clip,
        "steps": [row.as_json() for row in rows],
    }


@dataclass(frozen=True, kw_only=True)
class Row:
    """From one point at which the network is asked to the next, or to the end."""

    t: float
    time: float
    """That the network is given at t."""
    guess: list[float]
    """Of x_t and of the output, in x_0."""
    next: list[float]
    """Of x_0 and of x_t."""
    past: list[list[float]]
    """The same of the rows before, the newest first."""
    noise: float
    ordinal: int
    """The step of the sampler whose noise it is."""

    def as_json(self) -> dict[str, Any]:
        row = {"time": self.time, "guess": self.guess, "next": self.next, "noise": self.noise}
        return {**row, "past": self.past} if self.past else row


def traced(model: Model[NetworkDenoiser], sampler: Sampler) -> list[Row]:
    """The rows of a walk, by symbols. Raises ModelError where a step is of another form."""
    times = sampler.times(model.path)
    trace = _Trace(_with(model, lambda *_: torch.zeros(()), "x_0", None), sampler, len(times) - 1)
    state = State(trace.point(0))
    for ordinal, (t, s) in enumerate(pairwise(times)):
        at, to = (times_like(time, state.x) for time in (t, s))
        state = sampler.step(trace, state, at, to, trace.noise_of(ordinal))
        state = trace.at_the_end(state, s)
    return [_row(model, trace, k) for k in range(len(trace.times))]


def _row(model: Model[NetworkDenoiser], trace: "_Trace", k: int) -> Row:
    points, guesses, noises = trace.terms(trace.leads_to[k])
    t = trace.times[k]
    first, last = min([k, *points, *guesses]), max([k, *points, *guesses])
    if len(noises) > 1 or k - first > MOST_PAST or last > k:
        raise _no_sum(
            trace.sampler, f"call {k + 1} looks too far back, or ahead, or there is noise of several draws"
        )
    pairs = [[guesses.get(j, 0.0), points.get(j, 0.0)] for j in range(k, first - 1, -1)]
    drawn = [*noises.items()]
    ordinal, noise = drawn[0] if drawn else (0, 0.0)
    return Row(
        t=t, time=_time(model, t), guess=_guess(model, t), next=pairs[0], past=pairs[1:], noise=noise, ordinal=ordinal,
    )  # fmt: skip


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
                "take the sampler ddim, which needs no variance",
            )
        return super().variance_of(guess, t, s)


def _with(
    model: Model[NetworkDenoiser], network: Network, predicts: str, clip: float | None
) -> _FixedVariance:
    """The same model with a formula for its network."""
    formula = _Formula(network, model.path, predicts)
    return _FixedVariance(formula, model.variance, model.sigma_1, clip, model.levels)


class _Trace(_FixedVariance):
    """A model that answers with symbols: a sample has a value for each point, each guess and each draw of noise, which
    are 1 at a place of their own, so that what a sampler makes of them has their coefficients as its values."""

    def __init__(self, model: _FixedVariance, sampler: Sampler, steps: int) -> None:
        super().__init__(model.denoiser, model.variance, model.sigma_1, None, model.levels)
        calls = MOST_CALLS * steps + 1
        object.__setattr__(self, "sampler", sampler)
        object.__setattr__(self, "sizes", (calls, calls, steps))
        object.__setattr__(self, "times", [])
        object.__setattr__(self, "leads_to", [])

    sampler: Sampler = field(init=False)
    sizes: tuple[int, int, int] = field(init=False)
    """Places of points, guesses and draws of noise."""
    times: list[float] = field(init=False)
    """Of each call."""
    leads_to: list[Samples] = field(init=False)
    """The next point after each call."""

    def _symbol(self, kind: int, number: int) -> Samples:
        x = torch.zeros(1, 1, 1, sum(self.sizes), dtype=torch.float64)
        if number >= self.sizes[kind]:
            raise _no_sum(self.sampler, f"more than {MOST_CALLS} calls a step")
        x[..., sum(self.sizes[:kind]) + number] = 1
        return x

    def point(self, k: int) -> Samples:
        """x_t of call k."""
        return self._symbol(0, k)

    def terms(self, x: Samples) -> list[dict[int, float]]:
        """The coefficients of points, of guesses and of noise that are not 0, by their numbers."""
        values, found = x.flatten(), []
        for begin, size in zip(accumulate(self.sizes, initial=0), self.sizes, strict=False):
            part = values[begin : begin + size]
            found.append({int(place): float(part[place]) for place in part.nonzero().flatten()})
        return found

    def noise_of(self, ordinal: int) -> Noise:
        def noise(k: int = 0) -> Samples:
            if k:
                raise _no_sum(self.sampler, "several draws of noise in a step")
            return self._symbol(2, ordinal)

        return noise

    def predict(self, x_t: Samples, t: Times, condition: Condition | None = None) -> Prediction:  # noqa: ARG002
        """The symbol of a guess, and the eps that follows from it, for the next call."""
        k = len(self.times)
        if len(self.leads_to) < k:
            self.leads_to.append(x_t)  # within a step
        elif not x_t.equal(self.point(k)):
            raise _no_sum(self.sampler, "noise is added before the network is asked")
        self.times.append(float(t))
        x_0, x, (a, b) = self._symbol(1, k), self.point(k), self.path.at(t)
        return Prediction(x_0, scaled(1 / b, x) - scaled(a / b, x_0))

    def at_the_end(self, state: State, s: float) -> State:
        """A step's end as it begins the next: as a point to be asked about, or as one of which is known what the
        network says, and what has been added to it since."""
        k = len(self.times) - 1
        if s > 0 and self.times[-1] == s:
            return replace(state, x=self.point(k) + (state.x - self.leads_to[k - 1]))
        if len(self.leads_to) > k:
            raise _no_sum(self.sampler, "a step asks nothing of the network")
        self.leads_to.append(state.x)
        return replace(state, x=self.point(k + 1))


def _guess(model: Model[NetworkDenoiser], t: float) -> list[float]:
    """The coefficients of x_t and of the output in the guess of x_0, before it is clipped."""
    x_t, output = torch.eye(2, dtype=torch.float64).view(2, 2, 1, 1, 1)
    return _numbers(model.denoiser.to_prediction(output, None, x_t, times_like(t, x_t)).x_0)


def _time(model: Model[NetworkDenoiser], t: float) -> float:
    """The time that the network is given at t."""
    return float(model.denoiser.time(torch.tensor([t], dtype=torch.float64)))


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


def _check(model: Model[NetworkDenoiser], sampler: Sampler, rows: list["Row"]) -> None:
    """Each point of the sampler's own walk follows, by the table, from those before it."""
    asked: list[Samples] = []

    def network(x_t: Samples, t: Times) -> Samples:
        asked.append(x_t)
        return _bent(x_t, t)

    noises = _DoubleNoise(seed=0, indices=torch.arange(4), shape=(1, 2, 2))
    *_, end = walk(sampler, _with(model, network, model.denoiser.predicts, model.clip), noises)
    guesses = [_guessed(row, x, model.clip) for row, x in zip(rows, asked, strict=False)]
    for k, (row, there) in enumerate(zip(rows, [*asked[1:], end.x], strict=False)):
        x_s = row.next[0] * guesses[k] + row.next[1] * asked[k] + row.noise * noises.draw(row.ordinal)
        for back, (of_x_0, of_x_t) in enumerate(row.past, start=1):
            x_s = x_s + of_x_0 * guesses[k - back] + of_x_t * asked[k - back]
        if len(asked) != len(rows) or not (there - x_s).abs().max() <= EXACT * there.abs().max().clamp(min=1):
            raise _no_sum(sampler, f"call {k + 1} of {len(asked)} does not lead where the table leads")


def _guessed(row: "Row", x_t: Samples, clip: float | None) -> Samples:
    """x_0, as the table has it, where the formula stands for the network."""
    x_0 = row.guess[0] * x_t + row.guess[1] * _bent(x_t, times_like(row.t, x_t))
    return x_0 if clip is None else x_0.clamp(-clip, clip)


def _no_sum(sampler: Sampler, why: str) -> ModelError:
    return ModelError(
        f"the walk of {name_of(sampler)} is no sum of points, guesses of x_0 and one draw of noise after each call of"
        f" the network, which is all that a table holds: {why}",
        f"samplers that fit: {', '.join(SAMPLERS)}",
    )


def _spacing(sampler: Sampler) -> str | None:
    """The name of where its steps lie; None where it has times of its own."""
    return sampler.spacing or (None if sampler.has_own_times or sampler.at is not None else "trailing")
