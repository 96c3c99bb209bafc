"""A schedule that is learned with the network, by its log-SNR (Kingma et al. 2021, Variational Diffusion Models).

Before its training it is a straight line, `Learned`; in training it is read off its parameters each time,
`LearnedPath`; afterwards it is a table of betas as any other, `LearnedPath.table`. docs/schedule.md derives what it is
trained on.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import torch
from jaxtyping import Float64
from torch import Tensor

from kakusan.diffusion.paths import Path
from kakusan.diffusion.schedules import NoiseSchedule, betas_of, twin
from kakusan.errors import SettingsError
from kakusan.networks.log_snr import LogSNR
from kakusan.shapes import Coefficients, Times

Factors: TypeAlias = Callable[[], Float64[Tensor, " batch"]]
"""One for each sample of a batch, as they are when they are asked for."""


@dataclass(frozen=True)
class Learned(NoiseSchedule):
    """The log-SNR on a straight line from log_snr_1 at t = 1 to log_snr_T at T: where a learned schedule begins.

    In nats; the usual values are those that Kingma et al. 2021 begin with. Where T = 1, the only step is the last.
    Raises SettingsError unless log_snr_1 > log_snr_T.
    """

    log_snr_1: float = 13.3
    log_snr_T: float = -5.0

    def __post_init__(self) -> None:
        if not self.log_snr_1 > self.log_snr_T:
            raise SettingsError(
                f"the log-SNR falls from log_snr_1 to log_snr_T, not from {self.log_snr_1:g} to {self.log_snr_T:g}",
                "Kingma et al. 2021 begin with 13.3 and -5",
            )
        super().__post_init__()

    def betas(self) -> Float64[Tensor, " {self.T}"]:
        start = self.log_snr_T if self.T == 1 else self.log_snr_1
        levels = torch.linspace(start, self.log_snr_T, self.T, dtype=torch.float64)
        return betas_of(torch.cat([torch.ones(1, dtype=torch.float64), levels.sigmoid()]), beta_max=1.0)


@dataclass(frozen=True, eq=False)
class LearnedPath(Path):
    """A schedule that is being learned: a^2 = sigmoid(log-SNR), b^2 = sigmoid(-log-SNR), with gradients.

    Nothing of it is remembered, since the next step changes it. Between t = 0 and 1 the noise grows evenly, as in all
    schedules. Raises SettingsError for T = 1, where there is nothing between the ends.
    """

    log_snr: LogSNR = field(kw_only=True, repr=False)
    factors: Factors | None = field(default=None, kw_only=True, repr=False)
    """Of the gradient that each sample of a batch gives to the interior: see `weighed`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.T < 2:
            raise SettingsError(
                f"a learned schedule needs two times at least, and T = {self.T}", "usual is --process.T 1000"
            )

    @property
    def preserves_variance(self) -> bool:
        return True

    def at(self, t: Times) -> tuple[Coefficients, Coefficients]:
        t = self.checked(t)
        level = self.log_snr((t.clamp(min=1) - 1) / (self.T - 1), self._mark)
        share = t.clamp(max=1)  # of the noise at t = 1
        signal = torch.where(t < 1, 1 - share * (-level).sigmoid(), level.sigmoid())
        return signal.sqrt(), share.sqrt() * (-level).sigmoid().sqrt()  # apart: at t = 0 a root has no slope

    def weighed(self, factors: Factors) -> "LearnedPath":
        """The same for one batch, whose i-th time is always that of the i-th sample: the gradient that reaches the
        interior from it is multiplied by the i-th factor, asked for in the backward pass. The ends get theirs as it is.
        """
        return replace(self, factors=factors)

    def _mark(self, fallen: Tensor) -> Tensor:
        if self.factors is not None and fallen.requires_grad:
            fallen.register_hook(_multiplied_by(self.factors))  # type: ignore[no-untyped-call]
        return fallen

    @torch.no_grad()
    def table(self) -> NoiseSchedule:
        """The betas as they are now."""
        return twin(self)

    def time_at(self, half_log_snr: Coefficients) -> Times:
        """As `Path.time_at`, at this moment."""
        return self.table().time_at(half_log_snr)


def _multiplied_by(factors: Factors) -> Callable[[Tensor], Tensor]:
    return lambda gradient: gradient * factors()
