"""Noise schedules: how fast the data dissolve. The beta_t of Eq. (1) as float64 tables.

Every table has T + 1 entries and t = 0 is the data: ``alpha_bar[0] == 1``, so no index is ever shifted.
A schedule is a frozen value: its parameters are the fields, its tables follow from them.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from kakusan.diffusion.paths import Path
from kakusan.errors import SettingsError
from kakusan.shapes import Coefficients, Times

BETA_MAX = 0.999
"""The cap of betas that are derived, not given (Nichol & Dhariwal 2021)."""


@dataclass(frozen=True)
class NoiseSchedule(Path):
    """T steps of noise that preserve variance: a = sqrt(alpha_bar), b = sqrt(1 - alpha_bar)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_betas()

    @property
    def preserves_variance(self) -> bool:
        return True

    def at(self, t: Times) -> tuple[Coefficients, Coefficients]:
        alpha_bar = self.alpha_bar_at(t)
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    @abstractmethod
    def betas(self) -> Float64[Tensor, " {self.T}"]:
        """beta_1, ..., beta_T, each in (0, 1], float64."""

    @cached_property
    def beta(self) -> Float64[Tensor, " {self.T+1}"]:
        """The beta_t in Eq. (1), with beta[0] = 0."""
        return torch.cat([torch.zeros(1, dtype=torch.float64), self.betas()])

    @cached_property
    def alpha(self) -> Float64[Tensor, " {self.T+1}"]:
        """alpha_t = 1 - beta_t, with alpha[0] = 1."""
        return 1 - self.beta

    @cached_property
    def alpha_bar(self) -> Float64[Tensor, " {self.T+1}"]:
        """alpha_bar_t = alpha_1 ... alpha_t: the share of the variance that is still data. alpha_bar[0] = 1."""
        return self.alpha.cumprod(0)

    @cached_property
    def log_snr(self) -> Float64[Tensor, " {self.T+1}"]:
        """log(alpha_bar_t / (1 - alpha_bar_t)): +inf at t = 0."""
        return torch.logit(self.alpha_bar)

    def alpha_bar_at(self, t: Times) -> Coefficients:
        """alpha_bar at any time 0 <= t <= T. Between whole times the log-SNR is interpolated.

        Where one end of the interval has an infinite log-SNR (t = 0, or a schedule that ends in pure noise),
        alpha_bar itself is interpolated there. Raises ValueError for other times.
        """
        t = self.checked(t)
        alpha_bar, log_snr = self._tables(t.device)
        if t.device.type != "cuda" and t.equal(t.floor()):  # steps of the chain: most times there are
            return alpha_bar[t.long()]
        low = t.floor().clamp_(0, self.T - 1).long()
        fraction = t - low
        straight = torch.lerp(alpha_bar[low], alpha_bar[low + 1], fraction)
        curved = torch.lerp(log_snr[low], log_snr[low + 1], fraction).sigmoid()
        whole = (fraction == 0) | (fraction == 1)
        unbounded = log_snr[low].isinf() | log_snr[low + 1].isinf()
        return torch.where(whole | unbounded, straight, curved)

    def _between(self, half_log_snr: Coefficients, low: Int64[Tensor, " times"]) -> Times:
        """`alpha_bar_at` turned round: on a straight line in the log-SNR, or in alpha_bar where an end is infinite."""
        first, last = self.log_snr[low], self.log_snr[low + 1]
        curved = (first - 2 * half_log_snr) / (first - last)
        signal, noise = torch.sigmoid(2 * half_log_snr), torch.sigmoid(-2 * half_log_snr)
        at_first, at_last = self.alpha_bar[low], self.alpha_bar[low + 1]
        of_signal, of_noise = (at_first - signal) / (at_first - at_last), noise / (1 - at_last)
        straight = torch.where(low == 0, of_noise, of_signal)  # near the data, alpha_bar is 1 to many digits
        return low + torch.where(first.isinf() | last.isinf(), straight, curved)

    def _tables(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """alpha_bar and log_snr on a device; a copy is made once."""
        if device.type == "cpu":
            return self.alpha_bar, self.log_snr
        if device not in self._copies:
            self._copies[device] = self.alpha_bar.to(device), self.log_snr.to(device)
        return self._copies[device]

    @cached_property
    def _copies(self) -> dict[torch.device, tuple[Tensor, Tensor]]:
        return {}

    def _check_betas(self) -> None:
        beta = self.betas()
        wrong = ~((beta > 0) & (beta <= 1))
        wrong[:-1] |= beta[:-1] == 1  # after pure noise there is nothing left to dissolve
        if wrong.any():
            t = int(wrong.nonzero()[0]) + 1
            raise SettingsError(
                f"beta must be above 0 and at most 1 (1 at T alone), "
                f"but beta_{t} is {float(beta[t - 1]):.6g} in {self!r}",
                "DDPM uses beta_1 = 1e-4 and beta_T = 0.02 at T = 1000",
            )


@dataclass(frozen=True)
class BetweenEnds(NoiseSchedule):
    """A way from beta_1 to beta_T. Where T = 1, the only step is the last: beta_T, unless beta_1 alone is given.

    Given values are literal; None is the usual value at T = 1000, scaled by 1000/T and capped at 0.999, so that from
    T = 50 on about as much noise is added in all: for `Linear`, log(1/alpha_bar_T) is 10.1 at T = 1000 and 11.8 at
    T = 50, but 23.6 at T = 20, where the cap begins to hold, and 7 at T = 1 and 2.
    """

    beta_1: float | None = None
    beta_T: float | None = None
    usual: ClassVar[tuple[float, float]] = (1e-4, 0.02)

    @property
    def ends(self) -> tuple[float, float]:
        """beta_1 and beta_T, given or by default."""
        first, last = (min(value * 1000 / self.T, BETA_MAX) for value in self.usual)
        if self.T == 1 and self.beta_1 is not None:
            last = self.beta_1
        return (first if self.beta_1 is None else self.beta_1), (last if self.beta_T is None else self.beta_T)

    def _spaced(self, low: float, high: float) -> Float64[Tensor, " {self.T}"]:
        """T even steps from low to high; a single one is high."""
        return torch.linspace(high if self.T == 1 else low, high, self.T, dtype=torch.float64)


@dataclass(frozen=True)
class Linear(BetweenEnds):
    """beta_t on a straight line from beta_1 to beta_T (Ho et al. 2020, section 4).

    None means 1e-4 and 0.02, scaled by 1000/T and capped at 0.999; given values are literal.
    """

    def betas(self) -> Float64[Tensor, " {self.T}"]:
        return self._spaced(*self.ends)


@dataclass(frozen=True)
class ScaledLinear(BetweenEnds):
    """sqrt(beta_t) on a straight line (Rombach et al. 2022). None means 8.5e-4 and 0.012, scaled by 1000/T."""

    usual: ClassVar[tuple[float, float]] = (8.5e-4, 0.012)

    def betas(self) -> Float64[Tensor, " {self.T}"]:
        first, last = self.ends
        if first < 0 or last < 0:
            raise SettingsError(f"beta must be above 0, not {min(first, last):.6g}")
        return self._spaced(math.sqrt(first), math.sqrt(last)).square()


@dataclass(frozen=True)
class SigmoidBetas(BetweenEnds):
    """beta_t rises like a sigmoid from beta_1 towards beta_T (Xu et al. 2022, GeoDiff); None as in `Linear`.

    The sigmoid runs from -6 to 6, and so stops 0.25 % of the way short of either end.
    """

    def betas(self) -> Float64[Tensor, " {self.T}"]:
        first, last = self.ends
        rise = self._spaced(-6.0, 6.0).sigmoid()
        return first + (last - first) * rise


@dataclass(frozen=True)
class Cosine(NoiseSchedule):
    """alpha_bar_t = cos^2((t/T + s) / (1 + s) pi/2), normalized, with beta capped (Nichol & Dhariwal 2021, Eq. 17)."""

    s: float = 0.008
    beta_max: float = BETA_MAX

    def betas(self) -> Float64[Tensor, " {self.T}"]:
        u = torch.arange(self.T + 1, dtype=torch.float64) / self.T
        return betas_of(((u + self.s) / (1 + self.s) * (math.pi / 2)).cos().square(), self.beta_max)


@dataclass(frozen=True)
class Sigmoid(NoiseSchedule):
    """alpha_bar_t falls like a sigmoid from start to end (Jabri et al. 2022, Algorithm 1; Chen 2023)."""

    start: float = -3.0
    end: float = 3.0
    tau: float = 1.0
    beta_max: float = BETA_MAX

    def betas(self) -> Float64[Tensor, " {self.T}"]:
        if not (self.start < self.end and self.tau > 0):
            raise SettingsError(f"a sigmoid schedule needs start < end and tau > 0, not {self!r}")
        u = torch.linspace(self.start, self.end, self.T + 1, dtype=torch.float64) / self.tau
        fall = u.sigmoid()
        return betas_of((fall[-1] - fall) / (fall[-1] - fall[0]), self.beta_max)


@dataclass(frozen=True)
class Given(NoiseSchedule):
    """beta_1, ..., beta_T one by one; T is their number."""

    T: int = field(init=False, repr=False)
    values: tuple[float, ...] = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "T", len(self.values))
        super().__post_init__()

    def betas(self) -> Float64[Tensor, " {self.T}"]:
        return torch.tensor(self.values, dtype=torch.float64)


@dataclass(frozen=True)
class ZeroTerminalSNR(NoiseSchedule):
    """Another schedule, stretched so that x_T is pure noise (Lin et al. 2024, Algorithm 1).

    sqrt(alpha_bar) is shifted to end at 0 and scaled to begin as before; the linear schedule otherwise keeps 0.6 % of
    the image at T, which samplers, who start at pure noise, never see. T is that of the other schedule.
    At T eps says nothing of x_0 (a division by zero): such a schedule goes with v or x_0.
    """

    T: int = field(init=False, repr=False)
    of: NoiseSchedule = field(default_factory=Linear)

    def __post_init__(self) -> None:
        if self.of.T < 2:
            raise SettingsError("a schedule of T = 1 cannot begin as before and end in pure noise")
        object.__setattr__(self, "T", self.of.T)
        super().__post_init__()

    def betas(self) -> Float64[Tensor, " {self.T}"]:
        root = self.of.alpha_bar.sqrt()
        first, last = root[1], root[-1]
        stretched = ((root - last) * (first / (first - last))).square()
        stretched[0] = 1
        return 1 - stretched[1:] / stretched[:-1]


def betas_of(alpha_bar: Float64[Tensor, " entries"], beta_max: float) -> Float64[Tensor, " entries-1"]:
    """The betas whose products are these alpha_bar, capped at beta_max: 1 - alpha_bar_t / alpha_bar_{t-1}."""
    if not 0 < beta_max <= 1:
        raise SettingsError(f"beta_max must be above 0 and at most 1, not {beta_max}")
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=beta_max)


def twin(path: Path) -> NoiseSchedule:
    """The schedule whose alpha_bar is that of the path at t = 0, ..., T: the path as a DDPM; itself if it is one."""
    if isinstance(path, NoiseSchedule):
        return path
    alpha_bar = path.alpha_bar_at(torch.arange(path.T + 1, dtype=torch.float64))
    return Given(tuple((1 - alpha_bar[1:] / alpha_bar[:-1]).tolist()))
