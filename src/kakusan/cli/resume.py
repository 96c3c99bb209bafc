"""kakusan resume RUN."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from kakusan.cli.arguments import mentioned, parse
from kakusan.config.loading import flat
from kakusan.config.settings import NEVER, WHEN_DONE, CheckpointSettings, SamplesSettings, Settings
from kakusan.errors import SettingsError

EXAMPLES = (
    "kakusan resume runs/photos                  go on where it stopped, bit for bit",
    "kakusan resume runs/photos --minutes 30     train a finished run for longer",
    "kakusan resume runs/photos --steps 40000    the same, to a step",
)


@dataclass(frozen=True)
class Resume:
    """Go on with a run exactly where it stopped. Only its length and its cadence may change."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    steps: int | None = None
    """The new last step, counted from the run's first."""
    minutes: float | None = None
    """Train for about so long from here, at the speed of the run so far: another way to give a new last step."""
    stop_when_done: bool | None = None
    """End before the last step where the held-out loss falls no more; --no-...: train to it all the same; where neither
    is said, as the run has it."""
    on_nan: Literal["stop", "rewind"] | None = None
    """Response to numbers that are not finite: stop, or rewind (with half the rate); default: as the run has it."""
    device: str | None = None
    """Another device than the run began on: cpu, cuda or mps. No longer bit for bit."""
    samples: SamplesSettings = field(default_factory=SamplesSettings)
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    json: bool = False
    """Print each line of figures as JSON on stdout."""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    command = parse(Resume, arguments, "resume", EXAMPLES)
    settings = Settings(samples=command.samples, checkpoint=command.checkpoint)
    changes: dict[str, Any] = {name: flat(settings)[name] for name in sorted(mentioned(arguments))}
    if command.steps is not None:
        changes["training.steps"] = command.steps
    if command.stop_when_done is not None:
        changes["training.stop"] = WHEN_DONE if command.stop_when_done else NEVER
    if command.on_nan is not None:
        changes["training.on_nan"] = command.on_nan
    if command.device is not None:
        changes["machine.device"] = command.device
    from kakusan.cli.progress import train_to_the_end
    from kakusan.storage.run_folder import RunFolder
    from kakusan.training.launch import adjusted, steps_after
    from kakusan.training.trainer import Trainer

    if command.steps is not None and command.minutes is not None:
        raise SettingsError("--steps and --minutes are two lengths", "give one of them")
    run = RunFolder.open(command.run)
    if command.minutes is not None:
        changes["training.steps"] = steps_after(run, command.minutes)
    return train_to_the_end(Trainer(run, adjusted(run, changes)), as_json=command.json)
