"""DDIM (Song, Meng & Ermon 2021): the same guesses, a straighter way, with as much fresh noise as eta asks."""

from dataclasses import dataclass

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.forward import posterior_variance
from kakusan.errors import SettingsError
from kakusan.samplers.base import Sampler, State
from kakusan.shapes import Samples, Times, scaled


@dataclass(frozen=True, kw_only=True)
class DDIM(Sampler):
    """x_s = a_s x_0 + sqrt(b_s^2 - sigma^2) eps + sigma z, sigma^2 = eta^2 beta~ (their Eqs. 12 and 16).

    eta = 0 is deterministic in x_T; eta = 1 is ancestral sampling with the fixed-small variance.
    """

    steps: int | None = 50
    eta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eta <= 1:
            raise SettingsError(f"eta must be 0 to 1, not {self.eta}")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def step(self, denoiser: Denoiser, state: State, t: Times, s: Times, noise: Samples) -> State:
        guess = denoiser.predict(state.x, t, state.condition)
        a_s, b_s = denoiser.schedule.at(s)
        variance = self.eta**2 * posterior_variance(denoiser.schedule, t, s)
        direction = (b_s.square() - variance).clamp(min=0).sqrt()  # rounding may leave -1e-17
        x_s = scaled(a_s, guess.x_0) + scaled(direction, guess.eps) + scaled(variance.sqrt(), noise)
        return State(x_s, guess.x_0, state.condition)
