"""The settings of a distillation: a training from a run's averaged weights, with the loss of consistency tuning."""

from dataclasses import replace
from pathlib import Path

from kakusan.config.loading import Requested
from kakusan.config.settings import (
    CONSISTENCY,
    CheckpointSettings,
    SamplesSettings,
    Settings,
    TrainingSettings,
)
from kakusan.errors import RunError, SettingsError, quoted
from kakusan.storage.run_folder import RunFolder
from kakusan.training.launch import absolute_source, stored_settings

SHARE = 3 / 8
"""Of the steps of the run: half of its time, a step costs four thirds: one call more, without a gradient."""
KEPT = ("batch_size", "accumulation", "optimizer", "betas", "weight_decay", "clip_norm", "seed")
"""Settings of the run's training that stay."""


def distillation(
    parent: RunFolder, *, steps: int | None = None, minutes: float | None = None, source: str | None = None
) -> Requested:
    """The settings of a run that begins from the averaged weights of this one, for models of one to four calls.

    steps or minutes: its length, by default half of the parent's time. source: other data than the parent's own.
    Raises SettingsError where both lengths are given, or none is and the parent has no steps to take half of, and for a
    parent that was distilled itself.
    """
    stored = stored_settings(parent)
    if stored.is_distilled:
        raise SettingsError(
            f"{parent.folder} was distilled already",
            f"to train it for longer: kakusan resume {quoted(parent.folder)} --minutes 15",
        )
    if steps is not None and minutes is not None:
        raise SettingsError("steps and minutes are two lengths", "give one of them")
    settings = replace(
        stored,
        training=_training(parent, stored, steps, minutes),
        samples=SamplesSettings(count=stored.samples.count, seed=stored.samples.seed),
        checkpoint=replace(CheckpointSettings(), snapshots="none"),  # of weak models, to be guided away from
    )
    chosen = {"data.source", "training.loss", "training.minutes" if minutes else "training.steps"}
    if source is not None:
        settings = replace(settings, data=replace(settings.data, source=absolute_source(source)))
    return Requested(settings, frozenset(chosen))


def _training(
    parent: RunFolder, stored: Settings, steps: int | None, minutes: float | None
) -> TrainingSettings:
    kept = {name: getattr(stored.training, name) for name in KEPT}
    if minutes is not None:
        return TrainingSettings(loss=CONSISTENCY, minutes=minutes, **kept)
    return TrainingSettings(loss=CONSISTENCY, steps=_usual_steps(parent) if steps is None else steps, **kept)


def _usual_steps(parent: RunFolder) -> int:
    done = parent.steps[-1] if parent.steps else 0
    if not done:
        raise SettingsError(
            f"{parent.folder} has no steps of its own, of which a distillation would take some",
            f"say how long it is to take: kakusan distill {quoted(parent.folder)} --minutes 15",
        )
    return max(1, round(SHARE * done))


def folder_beside(parent: RunFolder) -> Path:
    """RUN-distilled, beside the run."""
    return parent.folder.parent / f"{parent.folder.resolve().name}-distilled"


def require_same_start(folder: Path, parent: RunFolder) -> None:
    """Raises RunError where a distillation that is there already began from weights that its run has left behind."""
    if not RunFolder.exists(folder):
        return
    begun = RunFolder.open(folder).data.get("weights_from", {})
    newest = parent.steps[-1] if parent.steps else 0
    if begun.get("run") == str(parent.folder.resolve()) and begun.get("step") != newest:
        raise RunError(
            f"{folder} began from step {begun.get('step')} of {parent.folder}, which has {newest} steps by now",
            f"to go on with it as it is: kakusan resume {quoted(folder)}",
            f"to begin anew: kakusan distill {quoted(parent.folder)} --run {quoted(f'{folder}-{newest}')}",
        )
