"""Guidance of a sampling: the model that it leads away from, and which early weights of a run are fit to be that."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path as Folder
from typing import Any, Protocol

from kakusan.data.record import DataRecord
from kakusan.diffusion.paths import Path
from kakusan.errors import RunError, SettingsError, quoted
from kakusan.storage.run_folder import RunFolder

EARLY = "early"
"""The guide that is an early snapshot of the same run; early:STEP names one."""
EARLY_SHARE, EARLY_STEPS = 16, 500
"""Early weights that guide have had at least such a part of the training of the guided ones, and so many steps."""


@dataclass(frozen=True)
class Guidance:
    """Guidance of a sampling: see `kakusan.diffusion.guidance.Guided`.

    weight: 1 is none, 0 the weak side alone. interval: (lowest, highest) t at which to guide. rescale: 0 to 1.
    guide: for autoguidance, the folder of a weaker run, or "early": a snapshot of the same run, the first of at least a
    16th of the training (Karras et al. 2024) and 500 steps, or "early:STEP"; None: the same weights without a class
    (classifier-free). A folder of the name "early" is ./early, or a `Path`.
    """

    weight: float
    interval: tuple[float, float] | None = None
    rescale: float = 0.0
    guide: Folder | str | None = None
    classes: tuple[tuple[int, float], ...] = ()
    """(class, share) pairs: several classes at once, each with its share of the weight (composition)."""

    @property
    def is_early(self) -> bool:
        """Whether the guide is a snapshot of the same run."""
        return isinstance(self.guide, str) and self.guide.partition(":")[0] == EARLY

    @property
    def early_step(self) -> int | None:
        """The step of the snapshot that is named; None where none is. Raises SettingsError for what is no step."""
        _, colon, step = str(self.guide).partition(":")
        if colon and not step.isdecimal():
            advice = "a guide is a folder, early or early:STEP, such as early:500"
            raise SettingsError(f"{step!r} is no step", advice)
        return int(step) if colon else None

    def as_json(self) -> dict[str, Any]:
        about = {**asdict(self), "guide": None if self.guide is None else str(self.guide)}
        return {name: value for name, value in about.items() if name != "classes" or value}


class WithData(Protocol):
    """A run, of which its folder and its data are looked at."""

    @property
    def folder(self) -> Folder: ...

    @property
    def data(self) -> DataRecord: ...


def early_of(steps: Sequence[int], step: int) -> int:
    """The one of these steps, in rising order, that is to guide the weights of a later one.

    The first of at least a 16th of it, as Karras et al. (2024) found best, and of at least 500 steps: after fewer, a
    network errs in ways of its own, rather than more in the ways of the later one. Where there is none, the last.
    """
    earlier = [kept for kept in steps if kept < step]
    enough = (kept for kept in earlier if kept >= max(EARLY_STEPS, step / EARLY_SHARE))
    return next(enough, earlier[-1])


def snapshot_to_guide(run: RunFolder, guided: int, step: int | None = None) -> int:
    """The snapshot of this step, or the one of `early_of`. Raises RunError where there is none.

    guided: the step of the weights that are to be guided.
    """
    earlier = [kept for kept in run.snapshot_steps if kept < guided]
    if earlier and step is None:
        return early_of(earlier, guided)
    if step in earlier:
        return step
    wanted = "no early snapshot" if step is None else f"no snapshot of step {step}"
    there = [f"there are: {', '.join(map(str, earlier))}"] if earlier else []
    last = run.steps[-1]
    longer = f"kakusan resume {quoted(run.folder)} --steps {2 * last} --checkpoint.snapshots {last}"
    raise RunError(
        f"{run.folder} has {wanted} to guide its weights of step {guided}",
        *there,
        *([f"to keep one of where it stands, and train on from there: {longer}"] if last else []),
        "or name a weaker run: --guide RUN (new runs of 200 steps and more keep snapshots by themselves)",
    )


def composed_of(guidance: Guidance | None, parts: tuple[tuple[int, float], ...]) -> Guidance:
    """The guidance towards several classes at once. Raises SettingsError for what composition does not have."""
    guidance = guidance or Guidance(1.0)
    if guidance.guide is not None or guidance.interval is not None or guidance.rescale:
        raise SettingsError("several classes at once take no guide, interval or rescale", "leave them out")
    return replace(guidance, classes=parts)


def require_same_samples(guide: WithData, guided: WithData, paths: tuple[Path, Path]) -> None:
    """Raises SettingsError where a run cannot guide another: its samples, path or conditions are others."""
    theirs, ours, pair = guide.data, guided.data, f"{guide.folder} cannot guide {guided.folder}"
    if theirs.shape != ours.shape or paths[0] != paths[1]:
        raise SettingsError(
            f"{pair}: its samples are of {theirs.shape} on {paths[0]}, these of {ours.shape} on {paths[1]}",
            "a guide is a smaller or less trained run on the same data and the same process",
        )
    if theirs.class_names not in ((), ours.class_names):
        raise SettingsError(f"{pair}: it has learned other classes")
    if (theirs.vectors, theirs.pairs) != (ours.vectors, ours.pairs):
        raise SettingsError(f"{pair}: it has learned other vectors or pairs")
    if theirs.masked != ours.masked:
        raise SettingsError(
            f"{pair}: one of the two takes masks of missing values",
            "a guide is trained on the same data, missing values and all",
        )
