"""Paths from data to noise: x_t = a_t x_0 + b_t eps. How much is signal and how much is noise at each time.

t runs from 0, the data (a = 1, b = 0), to T, where sampling starts; whole t = 1..T are the steps of the chain. All that
reads a and b works on every path: the posterior, samplers, losses, exact denoisers.

Two paths with the same ratio a : b at each t are one process in two scales: x_t of one is x_t of the other times a
number. So every path has its variance-preserving twin, with alpha_bar = a^2 / (a^2 + b^2), and is a DDPM in disguise:
its bound is that of the twin (Karras et al. 2022, appendix B; Kingma et al. 2021, section 3.5).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int64
from torch import Tensor

from kakusan.errors import SettingsError
from kakusan.shapes import Coefficients, Samples, Times, scaled

HALVINGS = 52
"""Of an interval between two whole times: as many as float64 has digits."""


@dataclass(frozen=True)
class Path(ABC):
    """t -> (a_t, b_t) for any real t in [0, T]."""

    T: int = 1000

    def __post_init__(self) -> None:
        if isinstance(self.T, bool) or not isinstance(self.T, int) or self.T < 1:
            raise SettingsError(f"T must be a whole number of at least 1, not {self.T}", "DDPM uses T = 1000")

    @abstractmethod
    def at(self, t: Times) -> tuple[Coefficients, Coefficients]:
        """(a_t, b_t), float64, where t is; a_0 = 1 and b_0 = 0. Raises ValueError for times outside of [0, T]."""

    def alpha_bar_at(self, t: Times) -> Coefficients:
        """a^2 / (a^2 + b^2): the share of the variance that is still data, and alpha_bar of the twin."""
        a, b = self.at(t)
        return a.square() / (a.square() + b.square())

    def scale_at(self, t: Times) -> Coefficients:
        """sqrt(a^2 + b^2): how many times as large x_t is as that of the twin; 1 where variance is preserved."""
        a, b = self.at(t)
        return (a.square() + b.square()).sqrt()

    def half_log_snr(self, t: Times) -> Coefficients:
        """lambda = log(a / b), half of the log-SNR: falls from +inf at t = 0, to -inf where no data are left."""
        a, b = self.at(t)
        return torch.log(a / b)

    def time_at(self, half_log_snr: Coefficients) -> Times:
        """The time at which log(a / b) is so much, within 1e-12 of it; log(a / b) = -log sigma.

        Raises ValueError for less than there is at T.
        """
        levels, places = torch.unique(half_log_snr, return_inverse=True)
        if new := [level for level in levels.tolist() if level not in self._found]:
            self._found.update(zip(new, self._times_at(new), strict=True))
        return torch.tensor([self._found[level] for level in levels.tolist()], dtype=torch.float64)[places]

    @cached_property
    def _found(self) -> dict[float, float]:
        """Times that `time_at` has found: a walk asks for the same ones for each micro-batch."""
        return {}

    @cached_property
    def _levels(self) -> Coefficients:
        """log(a / b) at t = 0, ..., T."""
        return self.half_log_snr(torch.arange(self.T + 1, dtype=torch.float64))

    def _times_at(self, levels: list[float]) -> list[float]:
        """The whole times around each are looked up, and what lies between is the path's own affair."""
        wanted = torch.tensor(levels, dtype=torch.float64)
        if not (wanted >= self._levels[-1]).all():
            raise ValueError(
                f"log(a / b) is {float(self._levels[-1]):.6g} at T and no less before, not {min(levels):.6g}"
            )
        low = torch.searchsorted(-self._levels, -wanted, right=True).sub(1).clamp(0, self.T - 1)
        found = self._between(wanted, low).clamp(low, low + 1)
        for end in (low, low + 1):
            found = torch.where(wanted == self._levels[end], end.double(), found)
        times: list[float] = found.tolist()
        return times

    def _between(self, half_log_snr: Coefficients, low: Int64[Tensor, " times"]) -> Times:
        """The time from low to low + 1 at which log(a / b) is so much: by halves, until float64 has no more."""
        first, last = low.double(), low + 1.0
        for _ in range(HALVINGS):
            middle = (first + last) / 2
            is_above = self.half_log_snr(middle) >= half_log_snr
            first, last = torch.where(is_above, middle, first), torch.where(is_above, last, middle)
        return first

    @property
    def preserves_variance(self) -> bool:
        """Whether a^2 + b^2 = 1 at every t."""
        return False

    def x_T(self, noise: Samples) -> Samples:
        """x_T where nothing is left of the data: standard normal noise, in the path's scale."""
        if self.preserves_variance:
            return noise
        return scaled(self.scale_at(torch.full((len(noise),), float(self.T), dtype=torch.float64)), noise)

    def checked(self, t: Times) -> Times:
        """The same times, float64. Raises ValueError where one on the CPU is outside of [0, T].

        Times and their coefficients live on the CPU, whatever the samples do: they are a few numbers, and not every
        device has float64. Only a training step that a CUDA device repeats by itself draws them there, where looking
        at them would be a wait.
        """
        if t.device.type == "cuda":
            return t.double()
        t = t.to("cpu", torch.float64)
        if t.numel() and not (float(t.min()) >= 0 and float(t.max()) <= self.T):  # nan is neither
            raise ValueError(f"times lie from 0 to T = {self.T}, not at {t.tolist()}")
        return t


def ends_in_pure_noise(path: Path) -> bool:
    """Whether nothing of the data is left in x_T: a_T = 0."""
    a, _ = path.at(torch.tensor([path.T], dtype=torch.float64))
    return float(a) == 0


@dataclass(frozen=True)
class FlowMatching(Path):
    """a = 1 - u, b = u with u = t / T: a straight line (Lipman et al. 2023; rectified flow, Liu et al. 2023).

    At T nothing of the data is left, so a network predicts v, x_0 or the flow eps - x_0, not eps.
    """

    def at(self, t: Times) -> tuple[Coefficients, Coefficients]:
        u = self.checked(t) / self.T
        return 1 - u, u

    def _between(self, half_log_snr: Coefficients, low: Int64[Tensor, " times"]) -> Times:  # noqa: ARG002
        return self.T * torch.sigmoid(-half_log_snr)


@dataclass(frozen=True)
class EDM(Path):
    """a = 1, b = sigma_t, from 0 over sigma_min at t = 1 to sigma_max at t = T (Karras et al. 2022, Eq. 5).

    sigma^(1/rho) is linear in t between t = 1 and T, and sigma is linear between t = 0 and 1.
    Raises SettingsError unless 0 < sigma_min < sigma_max, both in the network's units, and rho >= 1.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.sigma_min < self.sigma_max:
            raise SettingsError(
                f"sigma_min and sigma_max must be 0 < sigma_min < sigma_max, not {self.sigma_min}, {self.sigma_max}",
                "Karras et al. 2022 use 0.002 and 80",
            )
        if not self.rho >= 1:
            raise SettingsError(f"rho must be at least 1, not {self.rho}", "Karras et al. 2022 use 7")

    def at(self, t: Times) -> tuple[Coefficients, Coefficients]:
        t = self.checked(t)
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        share = (t - 1).clamp(min=0) / max(self.T - 1, 1)
        sigma = (low + share * (high - low)) ** self.rho
        return torch.ones_like(t), torch.where(t < 1, t * self.sigma_min, sigma)

    def _between(self, half_log_snr: Coefficients, low: Int64[Tensor, " times"]) -> Times:  # noqa: ARG002
        sigma = torch.exp(-half_log_snr)
        first, last = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        later = 1 + (self.T - 1) * (sigma ** (1 / self.rho) - first) / (last - first)
        return torch.where(sigma < self.sigma_min, sigma / self.sigma_min, later)
