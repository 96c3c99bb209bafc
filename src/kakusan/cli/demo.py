"""kakusan demo."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kakusan.cli.arguments import parse

EXAMPLES = (
    "kakusan demo                        two minutes of training, then runs/demo/report.html",
    "kakusan demo --run runs/mine        in another folder",
)


@dataclass(frozen=True)
class Demo:
    """Train on the kanji that ship with kakusan, sample kanji that never were, and write the report."""

    run: Path = Path("runs/demo")
    """Folder of the run. If it is there already, it goes on where it stands."""
    steps: int | None = None
    """Another number of steps than the preset's."""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    command = parse(Demo, arguments, "demo", EXAMPLES)
    from kakusan.cli.progress import begin, train_to_the_end
    from kakusan.config.loading import Requested, settings_for, with_values

    asked = Requested(settings_for("kanji", preset="demo"))
    if command.steps is not None:
        asked = Requested(
            with_values(asked.settings, {"training.steps": command.steps}), frozenset({"training.steps"})
        )
    return train_to_the_end(begin(asked, command.run, None))
