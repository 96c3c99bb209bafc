"""The losses by their names. A new one is a file beside this one and a line here: docs/extending.md."""

from dataclasses import replace
from typing import Any

from kakusan.config.settings import CONSISTENCY
from kakusan.diffusion.learned import LearnedPath
from kakusan.diffusion.variances import LearnedRange, variance_named
from kakusan.errors import SettingsError
from kakusan.training.consistency import Consistency
from kakusan.training.losses import Bound, Hybrid, Loss, MinSNR, NetworkModel, Simple, Velocity, Weighted

LOSSES: dict[str, Loss] = {
    "simple": Simple(),
    "weighted": Weighted(),
    "bound": Bound(),
    "hybrid": Hybrid(),
    "min-snr": MinSNR(),
    "velocity": Velocity(),
    "consistency": Consistency(),
}


def loss_for(name: str, model: NetworkModel, **options: Any) -> Loss:
    """The loss of this name with its options. Raises SettingsError where it does not go with what is to be learned."""
    loss = LOSSES[name]
    learned = isinstance(variance_named(model.variance), LearnedRange)
    if learned and loss.needs_variance and not loss.teaches_variance:
        raise SettingsError(
            f"the loss {name} does not teach the variance, which is to be learned",
            "choose --training.loss hybrid or bound, or a fixed --process.variance",
        )
    if isinstance(loss, Hybrid) and not learned:
        raise SettingsError(
            "the hybrid loss teaches a variance, and this one is fixed",
            "choose --process.variance learned, or --training.loss simple",
        )
    if isinstance(model.path, LearnedPath) and name == CONSISTENCY:
        raise SettingsError(
            "a run whose schedule was learned cannot be distilled yet: consistency tuning does not teach a schedule",
            "distill a run with a fixed schedule, or take few calls of this one: kakusan sample RUN --steps 10",
        )
    if isinstance(model.path, LearnedPath) and not loss.teaches_schedule:
        raise SettingsError(
            f"the loss {name} does not teach the schedule, which is to be learned: only the bound says which is better",
            "choose --training.loss bound, or a fixed schedule such as --process.schedule cosine",
        )
    return replace(loss, **options)  # type: ignore[type-var]
