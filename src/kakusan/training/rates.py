"""The learning rate of each step: warm-up, then one of the ways in `DECAYS`."""

import math
from collections.abc import Callable

from kakusan.config.settings import TrainingSettings, answered
from kakusan.training.course import PLANNED, Course


def constant_rate(progress: float) -> float:  # noqa: ARG001
    """The rate stays."""
    return 1.0


def linear_rate(progress: float) -> float:
    """The rate falls to 0 on a straight line."""
    return 1 - progress


def cosine_rate(progress: float) -> float:
    """The rate falls to 0 along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * progress))


DECAYS: dict[str, Callable[[float], float]] = {
    "constant": constant_rate,
    "linear": linear_rate,
    "cosine": cosine_rate,
}


def learning_rate(training: TrainingSettings, step: int, course: Course = PLANNED) -> float:
    """The rate of a step (counted from 0), in optimizer steps: accumulation and ranks do not matter."""
    warmup = answered(training.warmup)
    warm = min(1.0, (step + 1) / warmup) if warmup else 1.0
    decay = DECAYS[training.decay](min(step / answered(training.steps), 1.0))
    return answered(training.learning_rate) * warm * decay * course.rate_factor
