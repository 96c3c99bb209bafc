"""kakusan import SOURCE."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from kakusan.cli.arguments import parse

EXAMPLES = (
    "kakusan import ddpm-cat-256/                          a folder of diffusers; a run of it in runs/ddpm-cat-256",
    "kakusan import hf:google/ddpm-cifar10-32              from the hub (pip install 'kakusan[hf]')",
    "kakusan import hf:owner/name@v1.0 --run runs/theirs   a certain version, and a folder of your choice",
)


@dataclass(frozen=True)
class Import:
    """Make a run of a model that was trained elsewhere: UNet2DModel with a DDPM, DDIM, DPM-Solver++ or UniPC scheduler.

    Its files are read as data, and nothing in them is run. What is not known here is refused by its key and value.
    """

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A folder of diffusers, or hf:owner/name[@revision]."""
    run: Path | None = None
    """Folder of the new run; default: runs/NAME."""
    size: int | tuple[int, int] | None = None
    """Height and width of its images, for models that do not say."""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    command = parse(Import, arguments, "import", EXAMPLES)
    from kakusan.errors import printable, quoted
    from kakusan.interop.importing import import_model
    from kakusan.terminal.display import console

    to = console()
    made = import_model(
        command.source,
        command.run,
        size=command.size,
        say=lambda text: to.print(text, style="dim", markup=False),
    )
    run = made.run
    channels, height, width = run.data.shape
    process = run.settings.process
    to.print(
        f"{run.folder}: {made.parameters:,} parameters, images of {_size(height, width)} with {channels} "
        f"channel{'s' * (channels > 1)}, {process.schedule} schedule, T = {process.T}, predicts {process.predicts}",
        markup=False,
    )
    for note in made.notes:
        to.print(printable(f"  note: {note}"), markup=False)
    folder = quoted(run.folder)
    to.print(f"  sample     kakusan sample {folder}", markup=False)
    to.print(f"  evaluate   kakusan evaluate {folder} --data DATA --images 20 --terms 60", markup=False)
    to.print(f"  fine-tune  kakusan train DATA --from {folder}", markup=False)
    print(run.folder)
    return 0


def _size(height: int, width: int) -> str:
    return f"{height} x {width}" if height == width else f"{height} x {width} (height, width)"
