"""A training described before it begins: its data, what was chosen for them, and what it is likely to come to.

All of it is settled by the code that starts a training (`launch.settle`): a plan is what the training then does.
Nothing is written, and nothing is trained but some steps of a copy, to time them.
"""

from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from kakusan.config.loading import Requested, to_mapping
from kakusan.config.settings import Settings, answered
from kakusan.data.compression import Compressed, compressed
from kakusan.data.dataset import Dataset, Progress, silent
from kakusan.data.space import noun_of, size_in_words
from kakusan.data.survey import duplicates_of
from kakusan.data.units import Levels
from kakusan.training.forecast import Copying, Left, left_after, obstacle, seen_as
from kakusan.training.ladder import FOR_STEPS, timed
from kakusan.training.launch import Settled, settle
from kakusan.training.memory import Memory
from kakusan.training.prepare import Prepared
from kakusan.training.state import advice_on_memory
from kakusan.training.validation import baseline_loss


@dataclass(frozen=True)
class DataPlan:
    """The data as the training is to see them."""

    name: str
    source: str
    kind: str
    """points, signals, images or volumes."""
    shape: tuple[int, ...]
    """(channels, ...) of a sample."""
    size: str
    """The same in words."""
    levels: int | None
    """None for real values."""
    count: int
    training: int
    held_out: int
    duplicates: int
    """Samples that are equal to an earlier one in every value."""
    compressed: Compressed | None
    fingerprint: str
    notes: tuple[str, ...]

    @classmethod
    def of(cls, prepared: Prepared) -> "DataPlan":
        """The data of a training, opened and divided."""
        dataset, split = prepared.dataset, prepared.split
        units = dataset.units
        return cls(
            name=dataset.name,
            source=dataset.source,
            kind=noun_of(dataset.shape).many,
            shape=dataset.shape,
            size=size_in_words(dataset.shape),
            levels=units.levels if isinstance(units, Levels) else None,
            count=len(dataset),
            training=len(split.training),
            held_out=len(split.held_out),
            duplicates=sum(len(group) - 1 for group in duplicates_of(dataset)),
            compressed=compressed(dataset, split.training),
            fingerprint=dataset.fingerprint,
            notes=(*dataset.notes, *prepared.notes),
        )


@dataclass(frozen=True)
class Forecast:
    """The forecast of a training. Figures of time are those of this machine, as it is now."""

    step_seconds: float
    """Of the fastest quarter of some steps, now measured."""
    seconds: float
    """Of the training, with its pictures, held-out figures and checkpoints."""
    images_seen: int
    epochs: float
    memory: Memory
    baseline_loss: float
    """Of a denoiser that knows mean and power spectrum of the data alone."""
    left: Left | None
    """The share of it that is left in the end, on held-out images; None where nothing comparable was measured."""
    reason: str
    """The reason that there is none; empty where there is one."""
    copying: Copying | None

    @property
    def held_out_loss(self) -> tuple[float, float] | None:
        """The lowest and the highest that is expected."""
        if self.left is None:
            return None
        return self.left.low * self.baseline_loss, self.left.high * self.baseline_loss


@dataclass(frozen=True)
class Plan:
    """A training before it begins."""

    settings: Settings
    """Without any "auto": the config.toml of the run, up to the number of steps where minutes were given."""
    parameters: int
    data: DataPlan
    forecast: Forecast
    cautions: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        forecast, held_out = self.forecast, self.forecast.held_out_loss
        return {
            "data": asdict(self.data),
            "parameters": self.parameters,
            "settings": to_mapping(self.settings),
            "forecast": {
                **asdict(forecast),
                "memory": {**asdict(forecast.memory), "total": forecast.memory.total},
                "held_out_loss": None if held_out is None else list(held_out),
            },
            "cautions": list(self.cautions),
        }

    def __repr__(self) -> str:
        steps, minutes = answered(self.settings.training.steps), self.forecast.seconds / 60
        return f"<Plan {self.data.name}: {self.parameters:,} parameters, {steps:,} steps, about {minutes:,.0f} minutes>"


def plan(
    asked: Requested,
    *,
    weights_from: Path | None = None,
    progress: Progress = silent,
    in_memory: Dataset | None = None,
    network: nn.Module | None = None,
) -> Plan:
    """The training that `launch` would begin with these settings. Raises what it raises; nothing is written."""
    ready = settle(
        asked,
        weights_from=weights_from,
        progress=progress,
        in_memory=in_memory,
        network=deepcopy(network),
        write_cache=False,
    )
    task = ready.task
    return Plan(
        settings=ready.settings,
        parameters=sum(p.numel() for p in task.network.parameters()),
        data=DataPlan.of(task.prepared),
        forecast=_forecast(ready),
        cautions=(*ready.cautions, *task.loss.cautions(task.model)),
    )


def _forecast(ready: Settled) -> Forecast:
    task, training = ready.task, ready.settings.training
    steps, batch = answered(training.steps), answered(training.batch_size)
    with advice_on_memory(ready.settings):
        step_seconds = timed(ready.found, task.prepared).step_seconds
        memory = Memory.of(task)
    dataset, split = task.prepared.dataset, task.prepared.split
    reason = obstacle(ready.settings, ready.record)
    left = None if reason else left_after(steps, ready.settings.data.source)
    if left is None and not reason:
        reason = "so short a training has not been measured"
    return Forecast(
        step_seconds=step_seconds,
        seconds=steps * step_seconds / FOR_STEPS,
        images_seen=steps * batch,
        epochs=steps * batch / len(split.training),
        memory=memory,
        baseline_loss=baseline_loss(task.model, task.loss, dataset, split, task.state.device),
        left=left,
        reason=reason,
        copying=None if left is None else Copying.of(seen_as(ready.settings, len(split.training)), batch),
    )
