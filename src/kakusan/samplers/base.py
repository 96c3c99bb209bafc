"""The interface of samplers: a frozen value with the times to visit and the step from one to the next."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.model import Model
from kakusan.diffusion.paths import Path
from kakusan.diffusion.prediction import Prediction
from kakusan.errors import SettingsError
from kakusan.samplers.spacings import OF_RUNS, SPACINGS, checked
from kakusan.shapes import Condition, Samples, Times

AnyModel: TypeAlias = Model[Denoiser]


@dataclass(frozen=True)
class State:
    """The state of a trajectory: x_t, and the predictions that led there, as many as a method keeps."""

    x: Samples
    condition: Condition | None = None
    guesses: tuple[Prediction, ...] = ()
    """The newest last."""
    times: tuple[Times, ...] = ()
    """At which they were made."""

    @property
    def x_0(self) -> Samples | None:
        """The newest prediction of x_0; None at the start."""
        return self.guesses[-1].x_0 if self.guesses else None

    def then(self, x: Samples, guess: Prediction, t: Times, *, keep: int = 1) -> "State":
        """The state after a step to x by this prediction, made at t; the last `keep` predictions are kept."""
        guesses, times = (*self.guesses, guess)[-keep:], (*self.times, t)[-keep:]
        return State(x, self.condition, guesses, times)


@runtime_checkable
class Noise(Protocol):
    """Fresh standard normal noise of a step. What is never asked for is never drawn."""

    def __call__(self, k: int = 0) -> Samples:
        """The k-th of the step, for methods that need several."""


@dataclass(frozen=True, kw_only=True)
class Sampler(ABC):
    """Walks from t = T to t = 0 in `steps` steps (None: all T of them), which lie as `spacing` says, or at given times.

    spacing: None means "trailing", but for a run (`Run.sample`), which has its own.
    at: the times that are visited before t = 0, strictly falling, any real numbers in (0, T]; steps and spacing then
    say nothing, but for "tuned", "best" and "entropic", where these come from. A walk that starts below T takes noise
    for x_t there.
    """

    has_own_times: ClassVar[bool] = False
    """Whether it knows better times than those of a run's spacing, which is then not laid over it."""

    steps: int | None = None
    spacing: str | None = None
    at: tuple[float | int, ...] | None = None

    def __post_init__(self) -> None:
        if self.at is not None:
            object.__setattr__(self, "at", checked(tuple(self.at)))  # a record in JSON has a list
            if self.steps not in (None, self.usual_steps(), len(self.at)):
                raise SettingsError(
                    f"{self.steps} steps and {len(self.at)} times were asked for", "leave out the steps"
                )
        if self.spacing in OF_RUNS and self.at is None:
            raise SettingsError(
                f"{self.spacing} times are those of a run",
                f"run.sampler(name, spacing={self.spacing!r}) has them",
            )
        if self.spacing not in (None, *SPACINGS, *OF_RUNS):
            raise SettingsError(f"unknown spacing {self.spacing!r}", f"there are: {', '.join(SPACINGS)}")
        if self.steps is not None and self.steps < 1:
            raise SettingsError(f"a sampler needs at least 1 step, not {self.steps}")

    @classmethod
    def usual_steps(cls) -> int | None:
        """The default of its `steps`; None: all T."""
        return cls.steps

    def times(self, path: Path) -> tuple[float | int, ...]:
        """t_0 > t_1 > ... > 0: from where the noise is, T unless the spacing starts below it, down to 0.

        Raises SettingsError for more steps than T, and for times beyond it.
        """
        if self.at is not None:
            if self.at[0] > path.T:
                raise SettingsError(
                    f"the time {self.at[0]} lies beyond the T = {path.T} of the schedule",
                    f"times of a walk lie above 0 and up to {path.T}",
                )
            return (*self.at, 0)
        steps = path.T if self.steps is None else self.steps
        if steps > path.T:
            raise SettingsError(
                f"{steps} sampling steps are more than the T = {path.T} of the schedule",
                f"take {path.T} steps or fewer",
            )
        return (*SPACINGS[self.spacing or "trailing"](path, steps), 0)

    def spaced(self, spacing: str) -> "Sampler":
        """The same with the spacing of a run, unless it has one or knows better times."""
        return self if self.spacing is not None or self.has_own_times else replace(self, spacing=spacing)

    @abstractmethod
    def step(self, model: AnyModel, state: State, t: Times, s: Times, noise: Noise) -> State:
        """From time t to s < t. `model.predict` may be called as often as the method needs."""
