"""kakusan evaluate RUN --distance."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from kakusan.cli.arguments import parse
from kakusan.evaluation.options import DistanceOptions

if TYPE_CHECKING:
    from kakusan.evaluation.quality import Quality

FLAG = "--distance"
EXAMPLES = (
    "kakusan evaluate runs/demo --distance                         1,000 samples of 3 seeds beside as many real images",
    "kakusan evaluate runs/demo --distance --steps 10 --sampler ddim    of samples in 10 steps",
    "kakusan evaluate runs/demo --distance --features clip.onnx    in the features of a network of yours",
)
NAMES = {
    "frechet": ("Fréchet distance", "lower"),
    "kernel": ("kernel distance (KID)", "lower"),
    "precision": ("precision", "higher"),
    "recall": ("recall", "higher"),
    "density": ("density", "higher"),
    "coverage": ("coverage", "higher"),
}


@dataclass(frozen=True)
class Distance(DistanceOptions):
    """How far samples are from real images: Fréchet and kernel distance, precision and recall, density and coverage.

    Real images that are none of the reference, as many as there are samples, get the same figures: that is what a
    perfect model comes to. Prints a table; writes the figures as JSON into RUN/evaluation.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    distance: bool = False
    """Distances of samples, rather than the bound of images."""
    out: Path | None = None
    """Write the figures here; default: RUN/evaluation/step-...-distance.json."""
    json: bool = False
    """Print the figures as JSON, on stdout, in place of the table."""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    command = parse(Distance, arguments, f"evaluate {FLAG}", EXAMPLES)
    from kakusan.config.machine import set_machine
    from kakusan.evaluation.quality import measure_quality
    from kakusan.run import Run
    from kakusan.storage import durable
    from kakusan.storage.figures import finite
    from kakusan.terminal.display import bars, console, reading

    run = Run.open(command.run)
    set_machine(run.settings.machine)
    to = console()
    with reading(to) as read, bars(to) as show:
        found = measure_quality(run, command, show, read)
    for warning in run.warnings:
        to.print(f"warning: {warning}", markup=False)
    path = command.out or run.files.evaluation_path(found.about["step"], "-distance").with_suffix(".json")
    text = (json.dumps(finite(found.as_json()), indent=1) + "\n").encode()
    with durable.os_errors_as_run_errors(f"cannot write {path}", path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.atomic_write(path, text)
    if command.json:
        print(json.dumps(finite({**found.as_json(), "out": str(path)})))
        return 0
    _show(found, path)
    return 0


def _show(found: "Quality", path: Path) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    about, to = found.about, Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    table.add_column(f"samples ({about['count']:,})", justify="right")
    table.add_column(f"{about['real']} {about['noun']} ({about['count']:,})", justify="right")
    table.add_column("better", justify="right")
    for name, (words, better) in NAMES.items():
        of = found.figures[name]
        error = "" if of["deviation"] is None else f" ± {of['deviation']:.3g}"
        real = "" if of["real"] is None else f"{of['real']:.4g}"
        table.add_row(words, f"{of['mean']:.4g}{error}", real, better)
    to.print(table)
    words = (
        f"from {about['reference_count']:,} {about['reference']} {about['noun']}; in the features of {about['of']}"
        f" ({about['features']}); {about['sampler']}, {about['steps'] or 'all'} steps; averaged weights of step"
        f" {about['step']:,}; {about['seeds']} seed{'s' * (about['seeds'] > 1)}, whose deviation is the error. All"
        " figures depend on the count."
    )
    to.print(words, style="dim", markup=False)
    if about["count"] < about["asked_for"]:
        fewer = f"{about['count']:,} samples, not {about['asked_for']:,}"
        to.print(f"note: {fewer}: there are no more {about['real']} {about['noun']}", markup=False)
    to.print(f"  {path}", markup=False, soft_wrap=True)
