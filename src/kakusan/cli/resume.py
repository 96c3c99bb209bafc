"""kakusan resume RUN."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from kakusan.cli.arguments import parse
from kakusan.config import CheckpointSettings, SamplesSettings, Settings, checked

EXAMPLES = (
    "kakusan resume runs/photos                  go on where it stopped, bit for bit",
    "kakusan resume runs/photos --steps 40000    train a finished run for longer",
)


@dataclass(frozen=True)
class Resume:
    """Go on with a run exactly where it stopped. Only its length and its cadence may change."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    steps: int | None = None
    """The new last step, counted from the run's first."""
    samples: SamplesSettings = field(default_factory=SamplesSettings)
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    json: bool = False
    """Print each line of figures as JSON on stdout."""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    name = parse(Resume, arguments, "resume", EXAMPLES).run
    from kakusan.cli.training import train_to_the_end
    from kakusan.launching import extended, stored_settings
    from kakusan.runs import RunFolder

    stored = stored_settings(RunFolder.open(name))
    default = Resume(name, samples=stored.samples, checkpoint=stored.checkpoint)
    command = parse(Resume, arguments, "resume", EXAMPLES, default)
    changes = checked(replace(Settings(), samples=command.samples, checkpoint=command.checkpoint))
    assert stored.training.steps != "auto"
    steps = stored.training.steps if command.steps is None else command.steps
    run = extended(RunFolder.open(command.run), steps, changes)
    return train_to_the_end(run, None, as_json=command.json)
