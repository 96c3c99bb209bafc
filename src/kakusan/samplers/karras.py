"""Heun's method and the stochastic sampler of Karras et al. 2022, in x / a and sigma = b / a: two calls a step."""

import math
from dataclasses import dataclass

from kakusan.errors import SettingsError
from kakusan.samplers.base import AnyModel, Noise, Sampler, State
from kakusan.samplers.exponential import Step
from kakusan.shapes import Coefficients, Samples, Times, scaled

MOST_CHURN = math.sqrt(2) - 1
"""The largest share by which a step may raise sigma: no more new noise than there is (their Algorithm 2)."""


@dataclass(frozen=True, kw_only=True)
class Heun(Sampler):
    """An Euler step along eps, then the mean of eps at both ends in its place (Algorithm 1). Two calls a step.

    Of order 2, deterministic in x_T. The last step is Euler's, one call, and one from pure noise (infinite sigma) too.
    """

    steps: int | None = 18

    def step(self, model: AnyModel, state: State, t: Times, s: Times, noise: Noise) -> State:  # noqa: ARG002
        return heun(model, state, t, s)


def heun(model: AnyModel, state: State, t: Times, s: Times) -> State:
    """A step of Heun's method, or of Euler's where it is infinitely long in the log-SNR."""
    guess, step = model.predict(state.x, t, state.condition), Step(model.path, t, s)
    x_s = step.first_order(state.x, guess.x_0)
    if step.is_finite:
        (a_t, b_t), (a_s, b_s) = step.at_t, step.at_s
        change = a_s * (b_s / a_s - b_t / a_t)
        x_s = x_s + scaled(change / 2, model.predict(x_s, s, state.condition).eps - guess.eps)
    return state.then(x_s, guess, t)


@dataclass(frozen=True, kw_only=True)
class EDMSampler(Sampler):
    """Some noise is added first, which raises sigma, and Heun's step goes from there (Algorithm 2). Two calls a step.

    New noise forgets errors of earlier steps. sigma is not raised beyond that of T, the most that a network knows, so a
    step from T on adds none. sigma is in units of the data that the network sees.
    """

    steps: int | None = 25
    s_churn: float = 5.0
    """Noise added over all steps: each of N raises sigma by the share s_churn / N, at most sqrt(2) - 1; 0: Heun."""
    s_tmin: float = 0.05
    """The least sigma at which noise is added."""
    s_tmax: float = 50.0
    """The largest sigma at which noise is added."""
    s_noise: float = 1.0
    """Deviation of the noise that is added; a little above 1 makes up for detail that a network loses."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.s_churn < math.inf:
            raise SettingsError(f"s_churn must be 0 or more, not {self.s_churn}")
        if not 0 <= self.s_tmin <= self.s_tmax:
            raise SettingsError(
                f"s_tmin and s_tmax must be 0 <= s_tmin <= s_tmax, not {self.s_tmin}, {self.s_tmax}"
            )
        if not 0 <= self.s_noise < math.inf:
            raise SettingsError(f"s_noise must be 0 or more, not {self.s_noise}", "1 keeps the law of x_t")

    def step(self, model: AnyModel, state: State, t: Times, s: Times, noise: Noise) -> State:
        higher = self._raised(model, t)
        if higher.equal(t):
            return heun(model, state, t, s)
        x = self._churned(model, state.x, t, higher, noise)
        return heun(model, State(x, state.condition, state.guesses, state.times), higher, s)

    def _raised(self, model: AnyModel, t: Times) -> Times:
        """The time at which sigma is 1 + gamma times that of t; T at most, and t where no noise is added."""
        path = model.path
        level = path.half_log_snr(t)  # -log sigma
        gamma = min(self.s_churn / (len(self.times(path)) - 1), MOST_CHURN)
        inside = (level <= -_log(self.s_tmin)) & (level >= -_log(self.s_tmax)) & (t < path.T)
        if not gamma or not inside.any():
            return t
        lowest = path.half_log_snr(t.new_full((1,), path.T))
        return path.time_at((level - math.log1p(gamma)).clamp(min=lowest)).where(inside, t)

    def _churned(self, model: AnyModel, x_t: Samples, t: Times, higher: Times, noise: Noise) -> Samples:
        """x at the higher time: x_t in its scale, and new noise for what sigma^2 has grown by."""
        (a_t, b_t), (a, b) = model.path.at(t), model.path.at(higher)
        fresh: Coefficients = (b.square() - (a * b_t / a_t).square()).clamp(min=0).sqrt()
        return scaled(a / a_t, x_t) + scaled(self.s_noise * fresh, noise())


def _log(sigma: float) -> float:
    return math.log(sigma) if sigma else -math.inf
