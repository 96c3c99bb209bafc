"""kakusan distill RUN."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from kakusan.cli.arguments import parse

if TYPE_CHECKING:
    from kakusan.run import Run

EXAMPLES = (
    "kakusan distill runs/photos                 half of the training's time; makes runs/photos-distilled",
    "kakusan distill runs/photos --minutes 20    for so long",
    "kakusan sample runs/photos-distilled        two calls of the network a sample, rather than 10",
    "kakusan sample runs/photos-distilled --steps 1",
    "kakusan train DATA --from runs/photos --training.loss consistency    the same with all settings of a training",
)


@dataclass(frozen=True)
class Distill:
    """Tune the network of a run to samples in one to four calls (consistency tuning, Geng et al. 2024).

    It begins from the averaged weights and learns the run's own data. The result is a run like any other: it goes on,
    is sampled and has a report. At the end it is said what it costs: distances from real samples, before and after.
    """

    parent: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the trained run, which stays as it is."""
    run: Path | None = None
    """Folder of the new run; default: RUN-distilled. If it is a run already, it goes on, as with `kakusan train`."""
    steps: int | None = None
    """Optimizer steps; default: 3/8 of the run's, which take half of its time."""
    minutes: float | None = None
    """Length of the distillation, in place of --steps."""
    data: str | None = None
    """Data to learn, as `train` takes them; default: the run's own. Imported runs need them."""
    distance: bool = True
    """Measure distances from real samples at the end, a minute or two; --no-distance: do not."""
    json: bool = False
    """Print each line of figures as JSON on stdout, the distances last."""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    command = parse(Distill, arguments, "distill", EXAMPLES)
    from kakusan.cli.progress import begin, train_to_the_end
    from kakusan.run import Run
    from kakusan.storage.run_folder import RunFolder
    from kakusan.training.distill import distillation, folder_beside, require_same_start

    parent = RunFolder.open(command.parent)
    asked = distillation(parent, steps=command.steps, minutes=command.minutes, source=command.data)
    folder = command.run or folder_beside(parent)
    require_same_start(folder, parent)
    trainer = begin(asked, folder, command.parent)
    code = train_to_the_end(trainer, as_json=command.json)
    if code == 0 and command.distance:
        _tell_distances(Run.open(trainer.run.folder), as_json=command.json)
    return code


def _tell_distances(run: "Run", *, as_json: bool) -> None:
    """Measured, kept in RUN/evaluation and said; where they cannot be measured, why: the distillation is done."""
    from kakusan.errors import KakusanError, printable
    from kakusan.evaluation.distillation import cost_of
    from kakusan.storage import durable
    from kakusan.storage.figures import finite
    from kakusan.terminal.display import bars, console, reading

    to = console()
    try:
        with reading(to) as read, bars(to) as show:
            cost = cost_of(run, show, read)
        path = run.files.evaluation_path(cost.about["step"], "-distillation").with_suffix(".json")
        with durable.os_errors_as_run_errors(f"cannot write {path}", path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            durable.atomic_write(path, (json.dumps(finite(cost.as_json()), indent=1) + "\n").encode())
    except KakusanError as error:
        to.print(printable(f"note: no distances: {error.problem}"), markup=False)
        return
    if as_json:
        print(json.dumps(finite(cost.as_json())))
    to.print(printable(cost.words()), markup=False)
