"""A denoiser: the prediction of x_0, and of eps, from x_t. A network on a path, with what its output means.

Here alone it is known that networks are given t - 1, or a number that stands for the noise. All else counts t = 1..T.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from kakusan.config.parallel import at_once, shares
from kakusan.diffusion.parametrizations import Parametrization
from kakusan.diffusion.paths import Path
from kakusan.diffusion.prediction import Prediction
from kakusan.diffusion.tables import PARAMETRIZATIONS
from kakusan.errors import SettingsError
from kakusan.shapes import Condition, Samples, Times, scaled

Network = Callable[..., Tensor]
"""(x_t, time, condition=None) -> tensor of the samples' shape; time = t - 1, float32, shape (batch,)."""

HIGHEST, LOWEST = 20.0, -20.0
"""The log-SNR at 0 and at 1000 of a network that is told it: far beyond the ends of any schedule."""
TIMES = 1000
"""Of the networks' sinusoids, which are made for as many."""
TOLD = ("t", "log-snr")


class Denoiser(ABC):
    """Predicts x_0 from x_t, and nothing else. Exact oracles and networks are denoisers; guidance wraps one and is one.

    One of your own has a `path` and defines `predict`.
    """

    path: Path

    @abstractmethod
    def predict(self, x_t: Samples, t: Times, condition: Condition | None = None) -> Prediction:
        """The prediction of x_0, and of the eps in x_t, at times 1 <= t <= T. Never clipped: that is the model's."""


@dataclass(frozen=True)
class NetworkDenoiser(Denoiser):
    """A network with the path it was trained on and the meaning of its output.

    network: gives as many channels as a sample has, or twice as many if it predicts the variance too;
    predicts: in `PARAMETRIZATIONS`; autocast: the type of convolutions and products (None: as the weights are).
    told: "t", or "log-snr" for a network that knows how much noise there is on any path, as one whose schedule is
    learned must.
    Raises SettingsError on unknown names, and for eps on a path that ends in pure noise.
    """

    network: Network = field(repr=False)
    path: Path
    predicts: str = "eps"
    autocast: torch.dtype | None = None
    told: str = "t"

    def __post_init__(self) -> None:
        if self.told not in TOLD:
            raise SettingsError(f"a network is told {' or '.join(TOLD)}, not {self.told!r}")
        if self.predicts not in PARAMETRIZATIONS:
            raise SettingsError(
                f"unknown name {self.predicts!r}", f"there are: {', '.join(PARAMETRIZATIONS)}"
            )
        end = self.path.at(torch.tensor([self.path.T], dtype=torch.float64))
        if not self.parametrization.gain(*end).isfinite().all():
            raise SettingsError(
                f"this schedule ends in pure noise, where {self.predicts} says nothing of x_0 (a division by zero)",
                "let the network predict v or x_0 (--process.predicts v)",
            )

    def on(self, path: Path) -> "NetworkDenoiser":
        """The same network on another path, which one that is told how much noise there is knows as well as its own."""
        return replace(self, path=path) if self.told == "log-snr" else self

    @property
    def parametrization(self) -> Parametrization:
        return PARAMETRIZATIONS[self.predicts]

    def time(self, t: Times) -> Times:
        """The time that the network is given at t: t - 1, or the place of the log-SNR between its bounds."""
        if self.told == "t":
            return t - 1
        return (HIGHEST - 2 * self.path.half_log_snr(t)) * (TIMES / (HIGHEST - LOWEST))

    def output(
        self, x_t: Samples, t: Times, condition: Condition | None = None
    ) -> tuple[Samples, Samples | None]:
        """Raw network output, float32, and the fraction of a learned variance if there is one: what losses look at.

        The second half v of the channels, in [-1, 1], stands for the fraction (v + 1) / 2, as in the code of Nichol &
        Dhariwal 2021.
        """
        if (taken := getattr(self.network, "channels", x_t.shape[1])) != x_t.shape[1]:
            raise ValueError(f"the network is for samples of {taken} channels, and these have {x_t.shape[1]}")
        time = self.time(t).float().to(x_t.device, non_blocking=x_t.device.type == "cuda")
        out = self._called(self._input(x_t, t), time, condition)
        channels = x_t.shape[1]
        if out.shape[1] not in (channels, 2 * channels):
            raise ValueError(
                f"the network gives {out.shape[1]} channels for {channels}: it must be as many, or twice"
            )
        return out[:, :channels], (out[:, channels:] + 1) / 2 if out.shape[1] > channels else None

    def _called(self, x: Samples, time: Tensor, condition: Condition | None) -> Tensor:
        """The output of the network, float32; without gradients, parts of the batch are computed at once.

        Not of a network in training: who trains it has its batch in parts already, and seeds the dropout of each.
        """
        grad = torch.is_grad_enabled()

        def part(rows: slice) -> Tensor:
            given = None if condition is None else condition.rows(rows)
            with torch.set_grad_enabled(grad):
                return self._asked(x[rows], time[rows], given)

        if x.device.type == "cuda" and not grad and (replayed := getattr(self.network, "replayed", None)):
            out: Tensor = replayed(self._asked, self.network, self.autocast, x, time, condition)
            return out
        is_trained = grad or getattr(self.network, "training", False)
        if is_trained or x.device.type != "cpu" or not getattr(self.network, "rows_are_independent", False):
            return part(slice(None))
        return torch.cat(at_once(part, shares(len(x))))

    def _asked(self, x: Samples, time: Tensor, condition: Condition | None) -> Tensor:
        with torch.autocast(x.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            return self.network(x, time, condition).float()

    def _input(self, x_t: Samples, t: Times) -> Samples:
        """x_t in the scale of the variance-preserving twin, so that its size hardly depends on t."""
        return x_t if self.path.preserves_variance else scaled(1 / self.path.scale_at(t), x_t)

    def to_prediction(self, output: Samples, fraction: Samples | None, x_t: Samples, t: Times) -> Prediction:
        """The prediction that a network output stands for."""
        x_0, eps = self.parametrization.guess(output, x_t, *self.path.at(t))
        return Prediction(x_0, eps, fraction)

    def predict(self, x_t: Samples, t: Times, condition: Condition | None = None) -> Prediction:
        return self.to_prediction(*self.output(x_t, t, condition), x_t, t)
