"""Guidance: two denoisers as one, whose prediction goes away from the weaker of the two.

    x_0 = weak + weight (strong - weak)        eps = weak + weight (strong - weak)

Weight 1 is the strong denoiser and weight 0 the weak one, exactly. The weights sum to 1, so that Eq. (2) keeps holding
between x_0 and eps, whatever they are. A model clips what comes out of guidance, not what goes in.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.parametrizations import eps_from_x_0
from kakusan.diffusion.paths import Path
from kakusan.diffusion.prediction import Prediction
from kakusan.errors import SettingsError
from kakusan.shapes import Coefficients, Condition, Samples, Times, joined, mean_by_sample, per_sample, scaled


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

    def predict(self, x_t: Samples, t: Times, condition: Condition | None = None) -> Prediction:
        weight = self._weights(t)
        if (weight == 1).all():
            return self.of.predict(x_t, t, condition)
        if (weight == 0).all():
            return self._weak(x_t, t, condition)
        strong, weak = self._both(x_t, t, condition)
        x_0 = weak.x_0 + scaled(weight, strong.x_0 - weak.x_0)
        if self.rescale:
            x_0 = self._rescaled(x_0, strong.x_0, None if condition is None else condition.mask)
            return Prediction(x_0, eps_from_x_0(x_0, x_t, *self.path.at(t)), strong.fraction)
        return Prediction(x_0, weak.eps + scaled(weight, strong.eps - weak.eps), strong.fraction)

    def _weights(self, t: Times) -> Coefficients:
        t = t.cpu()
        low, high = self.interval or (0.0, float("inf"))
        inside = (t >= low) & (t <= high)
        return torch.ones_like(t).masked_fill(inside, self.weight)

    def _weak(self, x_t: Samples, t: Times, condition: Condition | None) -> Prediction:
        if self.weak is not None:
            return self.weak.predict(x_t, t, condition)
        return self.of.predict(x_t, t, None if condition is None else condition.null())

    def _both(self, x_t: Samples, t: Times, condition: Condition | None) -> tuple[Prediction, Prediction]:
        """The strong and the weak prediction; those of one denoiser in one batch."""
        if self.weak is not None:
            return self.of.predict(x_t, t, condition), self.weak.predict(x_t, t, condition)
        if condition is None:
            raise SettingsError(
                "classifier-free guidance needs a condition to be guided to",
                "name a class (label), or give a vector or a condition",
            )
        strong, weak = _at_once(self.of, x_t, t, [condition, condition.null()])
        return strong, weak

    def _rescaled(self, guided: Samples, strong: Samples, mask: Samples | None) -> Samples:
        ratio = _deviation(strong, mask) / _deviation(guided, mask).clamp(min=torch.finfo(guided.dtype).tiny)
        return per_sample(1 - self.rescale + self.rescale * ratio, guided) * guided


@dataclass(frozen=True)
class Composed(Denoiser):
    """Several classes at once: x_0 = null + sum of weight_i (x_0 of class i - null) (Liu et al. 2022, conjunction).

    parts: (class, weight) pairs. A weight below 0 goes away from its class. All predictions are made in one batch.
    Raises SettingsError where there is no class, or a weight is not finite.
    """

    of: Denoiser
    parts: tuple[tuple[int, float | int], ...]
    path: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", self.of.path)
        if not self.parts or not torch.tensor([weight for _, weight in self.parts]).isfinite().all():
            raise SettingsError(f"a composition has classes with finite weights, not {self.parts}")

    def predict(self, x_t: Samples, t: Times, condition: Condition | None = None) -> Prediction:
        """condition: what else is given, such as a mask; its labels are those of the parts in turn."""
        shown = [self._with_label(condition, label, x_t) for label, _ in self.parts]
        null, *each = _at_once(self.of, x_t, t, [shown[0].null(), *shown])
        x_0, eps = null.x_0, null.eps
        for (_, weight), guess in zip(self.parts, each, strict=True):
            x_0 = x_0 + weight * (guess.x_0 - null.x_0)
            eps = eps + weight * (guess.eps - null.eps)
        return Prediction(x_0, eps, each[0].fraction)

    @staticmethod
    def _with_label(condition: Condition | None, label: int, x_t: Samples) -> Condition:
        labels = torch.full((len(x_t),), label, device=x_t.device)
        return Condition(label=labels) if condition is None else replace(condition, label=labels)


def _at_once(of: Denoiser, x_t: Samples, t: Times, conditions: Sequence[Condition]) -> tuple[Prediction, ...]:
    """The predictions under each of these conditions, made in one batch."""
    n, count = len(conditions), len(x_t)
    batch = of.predict(torch.cat([x_t] * n), torch.cat([t] * n), joined(conditions))
    rows = torch.arange(n * count, device=x_t.device).view(n, count)
    return tuple(batch.rows(each) for each in rows)


def _deviation(x: Samples, mask: Samples | None) -> Tensor:
    """The deviation of all values of each sample, or of those where the mask is 1."""
    if mask is None:
        return x.flatten(1).std(1, correction=0)
    mean = per_sample(mean_by_sample(x, mask), x)
    return mean_by_sample((x - mean).square(), mask).sqrt()
