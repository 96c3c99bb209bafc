"""DPM-Solver++ (Lu et al. 2022b): multistep, by predictions of x_0 in the log-SNR. One network call a step."""

from dataclasses import dataclass

from kakusan.diffusion.prediction import Prediction
from kakusan.errors import SettingsError
from kakusan.samplers.base import AnyModel, Noise, Sampler, State
from kakusan.samplers.exponential import (
    Placed,
    Step,
    in_the_middle,
    moments,
    past_of,
    reverse_step,
    steps_left,
)
from kakusan.shapes import Samples, Times, scaled


@dataclass(frozen=True, kw_only=True)
class DPMpp2M(Sampler):
    """DPM-Solver++(2M): x_0 is extrapolated from this prediction and the last to the middle of the step (Algorithm 2).

    Of order 2, deterministic in x_T. The first step has no past, and the last and one from pure noise an infinite
    length in the log-SNR: these are DDIM's.
    """

    steps: int | None = 20

    def step(self, model: AnyModel, state: State, t: Times, s: Times, noise: Noise) -> State:  # noqa: ARG002
        guess, step = model.predict(state.x, t, state.condition), Step(model.path, t, s)
        past = step.placed(past_of(state, t, 1))
        x_s = step.midpoint(state.x, guess, past[0]) if past else step.first_order(state.x, guess.x_0)
        return state.then(x_s, guess, t)


@dataclass(frozen=True, kw_only=True)
class DPMpp3M(Sampler):
    """DPM-Solver++(3M), corrected: exact for the parabola through this prediction of x_0 and the last two.

    Of order 3, deterministic in x_T, and the same as adams-bashforth of order 3. The coefficient of the second
    difference that the paper's program has, and others after it, is half of what the parabola needs, which leaves
    order 2.
    """

    steps: int | None = 20
    published: bool = False
    """The coefficients as published, of order 2, to compare with other programs."""
    lower_order_final: bool = False
    """With less than 15 steps, the last but one is of order 2, as published."""

    def step(self, model: AnyModel, state: State, t: Times, s: Times, noise: Noise) -> State:  # noqa: ARG002
        guess, step = model.predict(state.x, t, state.condition), Step(model.path, t, s)
        past = step.placed(past_of(state, t, self._past(model, t)))
        if not self.published:
            x_s = step.exact(state.x, guess, past)
        elif len(past) == 2:
            x_s = _published(step, state.x, guess, *past)
        else:
            x_s = step.midpoint(state.x, guess, past[0]) if past else step.first_order(state.x, guess.x_0)
        return state.then(x_s, guess, t, keep=2)

    def _past(self, model: AnyModel, t: Times) -> int:
        few = self.lower_order_final and len(self.times(model.path)) - 1 < FEW
        return 1 if few and steps_left(self, model.path, t) <= 2 else 2


FEW = 15
"""Steps below which their program ends with lower orders."""


def _published(step: Step, x_t: Samples, guess: Prediction, last: Placed, before: Placed) -> Samples:
    """The step with D_1 and D_2 of their program, differences divided by steps, and half of D_2's integral."""
    r, q = -last[1], -before[1]
    newer = scaled(1 / r, guess.x_0 - last[0].x_0)
    older = scaled(1 / (q - r), last[0].x_0 - before[0].x_0)
    second = scaled(1 / q, newer - older)
    first = newer + scaled(r, second)
    _, of_first, of_second = (step.at_s[0] * step.h * each for each in moments(step.h, 3))
    return step.first_order(x_t, guess.x_0) + scaled(of_first, first) + scaled(of_second / 2, second)


@dataclass(frozen=True, kw_only=True)
class DPMppSDE2M(Sampler):
    """SDE-DPM-Solver++(2M): the same extrapolation along the reverse SDE, with fresh noise at each step.

    eta = 1 is the reverse process in the limit of small steps; with first steps alone it is ancestral sampling with the
    fixed-small variance. eta = 0 is DPM-Solver++(2M). Strong order 1, but weak errors are small.
    """

    steps: int | None = 25
    eta: float = 1.0
    """Fresh noise: 0 none, 1 as much as the reverse SDE has."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eta <= 1:
            raise SettingsError(f"eta must be 0 to 1, not {self.eta}")

    def step(self, model: AnyModel, state: State, t: Times, s: Times, noise: Noise) -> State:
        guess, step = model.predict(state.x, t, state.condition), Step(model.path, t, s)
        past = step.placed(past_of(state, t, 1))
        x_0 = in_the_middle(guess, past[0]) if past else guess.x_0
        return state.then(reverse_step(step, state.x, x_0, self.eta, noise() if self.eta else None), guess, t)
