"""DDIM (Song, Meng & Ermon 2021): the same predictions, a straighter way, with as much fresh noise as eta asks."""

from dataclasses import dataclass

from kakusan.diffusion.forward import posterior_variance
from kakusan.errors import SettingsError
from kakusan.samplers.base import AnyModel, Noise, Sampler, State
from kakusan.shapes import Times, scaled


@dataclass(frozen=True, kw_only=True)
class DDIM(Sampler):
    """x_s = a_s x_0 + sqrt(b_s^2 - sigma^2) eps + sigma z, sigma^2 = eta^2 beta~ (their Eqs. 12 and 16).

    eta = 0 is deterministic in x_T, and Euler's method on the probability flow; eta = 1 is ancestral sampling with the
    fixed-small variance.
    """

    steps: int | None = 50
    eta: float = 0.0
    """Fresh noise: 0 none, 1 as much as ancestral."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eta <= 1:
            raise SettingsError(f"eta must be 0 to 1, not {self.eta}")

    def step(self, model: AnyModel, state: State, t: Times, s: Times, noise: Noise) -> State:
        guess = model.predict(state.x, t, state.condition)
        a_s, b_s = model.path.at(s)
        variance = self.eta**2 * posterior_variance(model.path, t, s)
        direction = (b_s.square() - variance).clamp(min=0).sqrt()  # rounding may leave -1e-17
        x_s = scaled(a_s, guess.x_0) + scaled(direction, guess.eps)
        if self.eta:
            x_s = x_s + scaled(variance.sqrt(), noise())
        return state.then(x_s, guess, t)
