"""DiffPIR (Zhu et al. 2023): a step towards y between two steps of a sampler, without a derivative of the network.

x_0_hat is moved to the x that is nearest to it and to y, as if x_0 given x_t were N(x_0_hat, b^2 / (a^2 weight) I). The
noise of the next step is that which the moved x_0 leaves in x_t, and a share of it is fresh.
"""

from dataclasses import dataclass, field

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.parametrizations import eps_from_x_0
from kakusan.diffusion.paths import Path
from kakusan.diffusion.prediction import Prediction
from kakusan.errors import SettingsError
from kakusan.posterior.base import Guiding, sigma_of
from kakusan.posterior.measurement import Measurement
from kakusan.posterior.proximal import nearest
from kakusan.samplers import Sampler
from kakusan.samplers.base import AnyModel, Noise, State
from kakusan.shapes import Condition, Samples, Times, scaled


@dataclass(frozen=True, kw_only=True)
class Renoise(Sampler):
    """x_s = a_s x_0 + b_s (sqrt(1 - fresh) eps + sqrt(fresh) z): Algorithm 1, lines 6 and 7, there zeta."""

    steps: int | None = 100
    fresh: float = 0.3
    """Share of the noise that is fresh, 0 to 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.fresh <= 1:
            raise SettingsError(f"the share of fresh noise is 0 to 1, not {self.fresh}")

    def step(self, model: AnyModel, state: State, t: Times, s: Times, noise: Noise) -> State:
        guess = model.predict(state.x, t, state.condition)
        a_s, b_s = model.path.at(s)
        eps = (1 - self.fresh) ** 0.5 * guess.eps
        if self.fresh:
            eps = eps + self.fresh**0.5 * noise()
        return state.then(scaled(a_s, guess.x_0) + scaled(b_s, eps), guess, t)


@dataclass(frozen=True, kw_only=True)
class DiffPIR(Guiding):
    """Fast, and the network is only called, never differentiated; its spread is no error bar.

    weight: how much the guess weighs against y, lambda in the paper, where 1 to 25 are used. Of an operator that is not
    linear, its derivative at x_0_hat.
    """

    sampler: Sampler = field(default_factory=Renoise)
    weight: float = 7.0

    def __post_init__(self) -> None:
        if not 0 < self.weight < float("inf"):
            raise SettingsError(f"a weight is above 0, not {self.weight}")

    def denoiser(self, of: Denoiser, measurement: Measurement) -> "Near":
        return Near(of, measurement, self.weight)


@dataclass(frozen=True, eq=False)
class Near(Denoiser):
    """A denoiser whose guess is moved towards y. Line 4 of the paper's Algorithm 1."""

    of: Denoiser
    measurement: Measurement
    weight: float
    path: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", self.of.path)

    def predict(self, x_t: Samples, t: Times, condition: Condition | None = None) -> Prediction:
        guess = self.of.predict(x_t, t, condition)
        rho = sigma_of(self.path, float(t[0])) / self.weight**0.5
        x_0 = nearest(guess.x_0, rho, self.measurement)
        return Prediction(x_0, eps_from_x_0(x_0, x_t, *self.path.at(t)))
