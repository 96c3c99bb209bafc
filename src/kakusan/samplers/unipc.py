"""UniPC (Zhao et al. 2023): a predictor, and a corrector that costs no call of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kakusan.diffusion.prediction import Prediction
from kakusan.errors import SettingsError
from kakusan.samplers.base import AnyModel, Noise, Sampler, State
from kakusan.samplers.exponential import Placed, Step, asked, is_last, past_of, steps_left
from kakusan.shapes import Samples, Times


@dataclass(frozen=True, kw_only=True)
class UniPC(Sampler):
    """UniP to s, a prediction there, and UniC with it; the prediction is the next step's, so N steps are N calls.

    UniP is of this order, and with the corrector one order higher. With B(h) = e^h - 1 (B_2 there), which matters where
    one other prediction is used, in UniP-2 and UniC-1. Deterministic in x_T. The last step, and one from pure noise,
    are DDIM's, uncorrected.
    """

    steps: int | None = 10
    order: int = 2
    """Predictions that UniP uses, 1 to 3."""
    corrector: bool = True
    """Correct each step by the prediction at its end; without it UniP."""
    lower_order_final: bool = False
    """The last steps use no more predictions than steps are left, as published: 2, then 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.order <= 3:
            raise SettingsError(f"the order of unipc is 1 to 3, not {self.order}")

    def step(self, model: AnyModel, state: State, t: Times, s: Times, noise: Noise) -> State:  # noqa: ARG002
        """Algorithm 1 (UniPC), of which one round asks for the prediction that the next begins with."""
        state, step = asked(model, state, t, self.order), Step(model.path, t, s)
        guess = state.guesses[-1]
        past = step.placed(past_of(state, t, self._order_at(model, t) - 1))
        predicted = _predicted(step, state.x, guess, past)
        if not self.corrector or is_last(model.path, s):
            return replace(state, x=predicted)
        there = model.predict(predicted, s, state.condition)
        x_s = _corrected(step, state.x, guess, past, step.at_end(there)) if step.is_finite else predicted
        return state.then(x_s, there, s, keep=self.order)

    def _order_at(self, model: AnyModel, t: Times) -> int:
        if not self.lower_order_final:
            return self.order
        return max(min(self.order, steps_left(self, model.path, t)), 1)


def _predicted(step: Step, x_t: Samples, guess: Prediction, past: Sequence[Placed]) -> Samples:
    """UniP: the order is one more than there are predictions of the past."""
    return step.midpoint(x_t, guess, past[0]) if len(past) == 1 else step.exact(x_t, guess, past)


def _corrected(step: Step, x_t: Samples, guess: Prediction, past: Sequence[Placed], there: Placed) -> Samples:
    """UniC: the same from x_t again, with one prediction more, that at the end of the step."""
    return step.exact(x_t, guess, [*past, there]) if past else step.midpoint(x_t, guess, there)
