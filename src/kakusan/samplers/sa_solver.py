"""SA-Solver (Xue et al. 2023): a stochastic Adams predictor, and a corrector that costs no call of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kakusan.diffusion.prediction import Prediction
from kakusan.errors import SettingsError
from kakusan.samplers.base import AnyModel, Noise, Sampler, State
from kakusan.samplers.exponential import (
    Placed,
    Step,
    asked,
    is_last,
    past_of,
    polynomial_weights,
    reverse_step,
)
from kakusan.shapes import Samples, Times, scaled


@dataclass(frozen=True, kw_only=True)
class SASolver(Sampler):
    """Along the reverse SDE by the polynomial through the predictions of x_0, with fresh noise at each step.

    A step is predicted from this prediction and those before; the one at its end corrects it, with the same noise, and
    is the next step's, so N steps are N calls. eta is the paper's tau^2. Without noise the predictor is of this order,
    and with the corrector of one more. The last step, and one from pure noise, are uncorrected.
    """

    steps: int | None = 10
    order: int = 2
    """Predictions that the predictor uses, 1 to 3; the corrector uses one more."""
    eta: float = 0.5
    """Fresh noise: 0 none, 1 as much as the reverse SDE has."""
    corrector: bool = True
    """Correct each step by the prediction at its end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.order <= 3:
            raise SettingsError(f"the order of sa-solver is 1 to 3, not {self.order}")
        if not 0 <= self.eta <= 1:
            raise SettingsError(f"eta must be 0 to 1, not {self.eta}")

    def step(self, model: AnyModel, state: State, t: Times, s: Times, noise: Noise) -> State:
        """Algorithm 1, of which one round asks for the prediction that the next begins with."""
        state, step = asked(model, state, t, self.order), Step(model.path, t, s)
        guess, drawn = state.guesses[-1], noise() if self.eta else None
        past = step.placed(past_of(state, t, self.order - 1))
        predicted = self._led(step, state.x, guess, past, drawn)
        if not self.corrector or is_last(model.path, s):
            return replace(state, x=predicted)
        there = model.predict(predicted, s, state.condition)
        corrects = [step.at_end(there)] if step.is_finite else []
        return state.then(
            self._led(step, state.x, guess, [*past, *corrects], drawn), there, s, keep=self.order
        )

    def _led(
        self, step: Step, x_t: Samples, guess: Prediction, others: Sequence[Placed], noise: Samples | None
    ) -> Samples:
        """The step for the polynomial through the guess at t and the others."""
        x_s = reverse_step(step, x_t, guess.x_0, self.eta, noise)
        weights = polynomial_weights((1 + self.eta) * step.h, [place for _, place in others])
        for (other, _), weight in zip(others, weights, strict=True):
            x_s = x_s + scaled(step.at_s[0] * weight, other.x_0 - guess.x_0)
        return x_s
