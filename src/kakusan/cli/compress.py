"""kakusan compress RUN DATA FILE."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from kakusan.cli.arguments import parse
from kakusan.errors import SettingsError
from kakusan.evaluation.coding.options import CodingOptions

if TYPE_CHECKING:
    from kakusan.evaluation.coding.packing import Compression

EXAMPLES = (
    "kakusan compress runs/photos more-photos/ photos.kks     a folder of images, with their names",
    "kakusan compress runs/digits digits.npz digits.kks       an array; kakusan decompress gives it back",
    "kakusan compress runs/digits digits.npz digits.kks --steps 8    fewer steps: less time, more bytes",
)


@dataclass(frozen=True)
class Compress(CodingOptions):
    """Write images in as few bytes as the model of a run allows, without loss: bits back along the chain, with ANS.

    To read the file needs the run, the same kind of processor and the same version of torch. Levels only: images, and
    arrays of whole numbers; of a folder, the pixels and the names are kept, as PNG.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """A folder of images, an array file, or the name of a data set that ships."""
    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """A new file."""
    json: bool = False
    """Print the figures as JSON."""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    command = parse(Compress, arguments, "compress", EXAMPLES)
    if command.file.exists():
        raise SettingsError(f"{command.file} is there already", "name a new file")
    from kakusan.config.machine import set_machine_for_use
    from kakusan.evaluation.coding.packing import compress
    from kakusan.run import Run
    from kakusan.storage import durable
    from kakusan.terminal.display import bars, console, reading

    run, to = Run.open(command.run), console()
    set_machine_for_use(run.settings.machine)
    with reading(to) as read, bars(to) as show:
        made = compress(run, command.data, command, reading=read, progress=show)
    for warning in run.warnings:
        to.print(f"warning: {warning}", markup=False)
    with durable.os_errors_as_run_errors(f"cannot write {command.file}", command.file.parent):
        durable.make_folders(command.file.parent)
        durable.atomic_write(command.file, made.packed.to_bytes())
    if command.json:
        print(json.dumps({**made.as_json(), "out": str(command.file)}))
        return 0
    to.print(_in_words(made), markup=False)
    print(command.file)
    return 0


def _in_words(made: "Compression") -> str:
    """The size, beside the bound, and the time."""
    figures = made.as_json()
    names = f", their names {figures['bytes_of_names']:,}" * bool(figures["bytes_of_names"])
    return (
        f"{made.packed.count:,} images in {figures['bytes']:,} bytes, {figures['bits_per_dim']:.4f} bits/dim:"
        f" the images {made.image_bytes:,}{names}\n"
        f"  the images alone {figures['bytes_of_images'] * 8 / made.values:.4f} bits/dim, the net bound of this chain"
        f" {figures['net_bound_bits_per_dim']:.4f}; {figures['steps']} steps,"
        f" {figures['seconds_an_image']:.3g} seconds an image"
    )
