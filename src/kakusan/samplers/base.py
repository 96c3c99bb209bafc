"""What a sampler is: a frozen value that says which times to visit and how to step from one to the next."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.paths import Path
from kakusan.errors import SettingsError
from kakusan.shapes import Labels, Samples, Times


@dataclass(frozen=True)
class State:
    """Where a walk stands: x, the guess of x_0 it came by (None at the start), and whatever history a method needs."""

    x: Samples
    x_0: Samples | None = None
    condition: Labels | None = None


def trailing(T: int, steps: int) -> list[int]:
    """Evenly spaced and rounded, from T on."""
    return [round(T * i / steps) for i in range(steps, 0, -1)]


def leading(T: int, steps: int) -> list[int]:
    """Every (T // steps)-th time from 1 up. A walk starts below T, as if there were noise alone.

    Raises SettingsError for a single step, which would start at t = 1 and return the noise.
    """
    if steps == 1 < T:
        raise SettingsError(
            "one step with the leading spacing starts at t = 1, where noise is taken for an image",
            "take 2 steps or more, or the spacing trailing",
        )
    return [1 + T // steps * i for i in reversed(range(steps))]


def linspace(T: int, steps: int) -> list[int]:
    """Evenly spaced and rounded, from T to 1, both included; a single step starts at T."""
    if steps == 1:
        return [T]
    return [1 + round((T - 1) / (steps - 1) * i) for i in reversed(range(steps))]


SPACINGS: dict[str, Callable[[int, int], list[int]]] = {
    "trailing": trailing,
    "leading": leading,
    "linspace": linspace,
}
"""The three of Lin et al. 2024, table 2. Only the first starts at T and takes its last step over a full gap."""


@dataclass(frozen=True, kw_only=True)
class Sampler(ABC):
    """Walks from t = T to t = 0 in `steps` steps (None: all T of them), which lie as `spacing` says.

    spacing: None means "trailing", but for a run (`Run.sample`), which knows its own.
    """

    steps: int | None = None
    spacing: str | None = None

    def __post_init__(self) -> None:
        if self.spacing is not None and self.spacing not in SPACINGS:
            raise SettingsError(f"unknown spacing {self.spacing!r}", f"there are: {', '.join(SPACINGS)}")
        if self.steps is not None and self.steps < 1:
            raise SettingsError(f"a sampler needs at least 1 step, not {self.steps}")

    def times(self, schedule: Path) -> tuple[int, ...]:
        """t_0 > t_1 > ... > 0: from where the noise is, T unless the spacing starts below it, down to 0."""
        steps = schedule.T if self.steps is None else self.steps
        if steps > schedule.T:
            raise SettingsError(
                f"{steps} sampling steps are more than the T = {schedule.T} of the schedule",
                f"take {schedule.T} steps or fewer",
            )
        return (*SPACINGS[self.spacing or "trailing"](schedule.T, steps), 0)

    @property
    def stochastic(self) -> bool:
        """Whether `step` uses its noise. Where it does not, none is drawn and zeros are given."""
        return True

    @abstractmethod
    def step(self, denoiser: Denoiser, state: State, t: Times, s: Times, noise: Samples) -> State:
        """From time t to s < t, with one draw of standard normal noise to use or to leave."""
