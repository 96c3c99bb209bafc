"""What a sampler is: a frozen value that says which times to visit and how to step from one to the next."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from kakusan.denoiser import Denoiser
from kakusan.errors import SettingsError
from kakusan.maths.schedules import NoiseSchedule
from kakusan.shapes import Images, Labels, Times


@dataclass(frozen=True)
class State:
    """Where a walk stands: x, the guess of x_0 it came by (None at the start), and whatever history a method needs."""

    x: Images
    x_0: Images | None = None
    condition: Labels | None = None


@dataclass(frozen=True, kw_only=True)
class Sampler(ABC):
    """Walks from t = T to t = 0 in `steps` steps (None: all T of them)."""

    steps: int | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise SettingsError(f"a sampler needs at least 1 step, not {self.steps}")

    def times(self, schedule: NoiseSchedule) -> tuple[int, ...]:
        """T = t_0 > t_1 > ... > 0, evenly spaced and rounded: from T, where the noise is, down to 0."""
        steps = schedule.T if self.steps is None else self.steps
        if steps > schedule.T:
            raise SettingsError(
                f"{steps} sampling steps are more than the T = {schedule.T} of the schedule",
                f"take --steps {schedule.T} or fewer",
            )
        return tuple(round(schedule.T * i / steps) for i in range(steps, -1, -1))

    @property
    def stochastic(self) -> bool:
        """Whether `step` uses its noise. Where it does not, none is drawn and zeros are given."""
        return True

    @abstractmethod
    def step(self, denoiser: Denoiser, state: State, t: Times, s: Times, noise: Images) -> State:
        """From time t to s < t, with one draw of standard normal noise to use or to leave."""
