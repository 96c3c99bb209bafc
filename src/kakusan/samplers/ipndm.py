"""iPNDM (Zhang & Chen 2023; after PNDM, Liu et al. 2022): Adams-Bashforth with constant coefficients."""

from dataclasses import dataclass

from kakusan.errors import SettingsError
from kakusan.samplers.base import AnyModel, Noise, Sampler, State
from kakusan.samplers.exponential import Step, past_of
from kakusan.shapes import Times, scaled

COEFFICIENTS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
"""Of the newest prediction first, for one prediction to four, as if steps were even in sigma."""


@dataclass(frozen=True, kw_only=True)
class IPNDM(Sampler):
    """x / a moves by the change of sigma = b / a times a fixed mean of this prediction of eps and earlier ones.

    The coefficients are those of even steps in sigma, which steps here are not: so it is of order 2, whatever the
    number of predictions, with a small error constant where steps change slowly. Deterministic in x_T. The last step,
    and one from pure noise, are DDIM's. One network call a step.
    """

    steps: int | None = 20
    order: int = 4
    """Predictions that a step uses, 1 to 4; 1 is DDIM."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.order <= 4:
            raise SettingsError(f"the order of ipndm is 1 to 4, not {self.order}")

    def step(self, model: AnyModel, state: State, t: Times, s: Times, noise: Noise) -> State:  # noqa: ARG002
        guess, step = model.predict(state.x, t, state.condition), Step(model.path, t, s)
        past = step.placed(past_of(state, t, self.order - 1))
        x_s = step.first_order(state.x, guess.x_0)
        (a_t, b_t), (a_s, b_s) = step.at_t, step.at_s
        for (other, _), share in zip(past, COEFFICIENTS[len(past)][1:], strict=True):
            x_s = x_s + scaled(share * a_s * (b_s / a_s - b_t / a_t), other.eps - guess.eps)
        return state.then(x_s, guess, t, keep=max(self.order - 1, 1))
