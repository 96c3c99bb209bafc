"""kakusan decompress RUN FILE OUT."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from kakusan.cli.arguments import parse

EXAMPLES = (
    "kakusan decompress runs/photos photos.kks photos/        a folder of .png, by their names",
    "kakusan decompress runs/digits digits.kks digits.npz     an array `images`, and its `levels`",
)


@dataclass(frozen=True)
class Decompress:
    """Read the images of a file that `kakusan compress` wrote, as they were, with the run that it wrote them with.

    Other weights, another machine that computes other last bits, and damage are noticed.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """The compressed images."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """A new .npz file, or a new folder of .png."""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    command = parse(Decompress, arguments, "decompress", EXAMPLES)
    from kakusan.config.machine import set_machine_for_use
    from kakusan.evaluation.coding.container import read_file
    from kakusan.evaluation.coding.packing import decompress
    from kakusan.evaluation.coding.writing import Unpacked, check_target
    from kakusan.run import Run
    from kakusan.terminal.display import bars, console

    packed, to = read_file(command.file), console()
    run = Run.open(command.run)
    check_target(command.out, packed.shape)
    set_machine_for_use(run.settings.machine)
    with bars(to) as show:
        images = decompress(run, packed, str(command.file), progress=show)
    Unpacked.of(packed, images, str(command.file)).save(command.out)
    for warning in run.warnings:
        to.print(f"warning: {warning}", markup=False)
    print(command.out)
    return 0
