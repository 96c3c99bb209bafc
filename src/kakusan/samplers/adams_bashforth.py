"""Adams-Bashforth in the log-SNR, with exact weights (Hochbruck & Ostermann 2010; Zhang & Chen 2023)."""

from dataclasses import dataclass

from kakusan.errors import SettingsError
from kakusan.samplers.base import AnyModel, Noise, Sampler, State
from kakusan.samplers.exponential import Step, past_of
from kakusan.shapes import Times


@dataclass(frozen=True, kw_only=True)
class AdamsBashforth(Sampler):
    """Exact for the polynomial through this prediction of x_0 and earlier ones, with steps of any lengths.

    As many predictions as the order says; fewer in the first steps, and one, DDIM's, in the last and in one from pure
    noise. Deterministic in x_T. One network call a step.
    """

    steps: int | None = 20
    order: int = 3
    """Predictions that a step uses, 1 to 4; 1 is DDIM."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.order <= 4:
            raise SettingsError(f"the order of adams-bashforth is 1 to 4, not {self.order}")

    def step(self, model: AnyModel, state: State, t: Times, s: Times, noise: Noise) -> State:  # noqa: ARG002
        guess, step = model.predict(state.x, t, state.condition), Step(model.path, t, s)
        x_s = step.exact(state.x, guess, step.placed(past_of(state, t, self.order - 1)))
        return state.then(x_s, guess, t, keep=max(self.order - 1, 1))
