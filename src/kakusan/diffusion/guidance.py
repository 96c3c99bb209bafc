"""Guidance: two denoisers as one, whose prediction goes away from the weaker of the two.

    x_0 = weak + weight (strong - weak)        eps = weak + weight (strong - weak)

Weight 1 is the strong denoiser and weight 0 the weak one, exactly. The weights sum to 1, so that Eq. (2) keeps holding
between x_0 and eps, whatever they are. A model clips what comes out of guidance, not what goes in.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.parametrizations import eps_from_x_0
from kakusan.diffusion.paths import Path
from kakusan.diffusion.prediction import Prediction
from kakusan.errors import SettingsError
from kakusan.shapes import NULL, Coefficients, Labels, Samples, Times, per_sample, scaled


@dataclass(frozen=True)
class Guided(Denoiser):
    """A denoiser, guided.

    weak: None is classifier-free guidance, whose weak side is the same denoiser without a condition (Ho & Salimans
    2022); another denoiser, of an earlier step or a smaller network, is autoguidance (Karras et al. 2024).
    interval: (lowest, highest) t at which to guide; elsewhere the weight is 1 (Kynkäänniemi et al. 2024).
    rescale: share, 0 to 1, to which the deviation of each guided x_0 is brought back to that of the strong side,
    against too much contrast (Lin et al. 2024, section 3.4).
    Raises SettingsError for a weight that is not finite, and for an interval or a rescale out of range.
    """

    of: Denoiser
    weight: float | int
    weak: Denoiser | None = None
    interval: tuple[float | int, float | int] | None = None
    rescale: float | int = 0.0
    path: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", self.of.path)
        if not torch.tensor(self.weight).isfinite():
            raise SettingsError(f"a guidance weight is a finite number, not {self.weight}", "1 is none")
        if self.interval is not None and not 0 <= self.interval[0] <= self.interval[1]:
            raise SettingsError(f"a guidance interval goes from a low to a high t, not {self.interval}")
        if not 0 <= self.rescale <= 1:
            raise SettingsError(f"a guidance rescale is 0 to 1, not {self.rescale}")

    def predict(self, x_t: Samples, t: Times, condition: Labels | None = None) -> Prediction:
        weight = self._weights(t)
        if (weight == 1).all():
            return self.of.predict(x_t, t, condition)
        if (weight == 0).all():
            return self._weak(x_t, t, condition)
        strong, weak = self._both(x_t, t, condition)
        x_0 = weak.x_0 + scaled(weight, strong.x_0 - weak.x_0)
        if self.rescale:
            x_0 = self._rescaled(x_0, strong.x_0)
            return Prediction(x_0, eps_from_x_0(x_0, x_t, *self.path.at(t)), strong.fraction)
        return Prediction(x_0, weak.eps + scaled(weight, strong.eps - weak.eps), strong.fraction)

    def _weights(self, t: Times) -> Coefficients:
        t = t.cpu()
        low, high = self.interval or (0.0, float("inf"))
        inside = (t >= low) & (t <= high)
        return torch.ones_like(t).masked_fill(inside, self.weight)

    def _weak(self, x_t: Samples, t: Times, condition: Labels | None) -> Prediction:
        return self.of.predict(x_t, t) if self.weak is None else self.weak.predict(x_t, t, condition)

    def _both(self, x_t: Samples, t: Times, condition: Labels | None) -> tuple[Prediction, Prediction]:
        """The strong and the weak prediction; those of one denoiser in one batch."""
        if self.weak is not None:
            return self.of.predict(x_t, t, condition), self.weak.predict(x_t, t, condition)
        if condition is None:
            raise SettingsError(
                "classifier-free guidance needs a condition to be guided to", "name a class: --label NAME"
            )
        twice = torch.cat([condition, torch.full_like(condition, NULL)])
        both = self.of.predict(torch.cat([x_t, x_t]), torch.cat([t, t]), twice)
        half = len(x_t)
        rows = torch.arange(2 * half, device=x_t.device)
        return both.rows(rows[:half]), both.rows(rows[half:])

    def _rescaled(self, guided: Samples, strong: Samples) -> Samples:
        ratio = _deviation(strong) / _deviation(guided).clamp(min=torch.finfo(guided.dtype).tiny)
        return per_sample(1 - self.rescale + self.rescale * ratio, guided) * guided


def _deviation(x: Samples) -> Tensor:
    return x.flatten(1).std(1, correction=0)
