"""kakusan compare RUN [RUN ...]."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from kakusan.cli.arguments import parse
from kakusan.evaluation.options import CompareOptions

if TYPE_CHECKING:
    from kakusan.evaluation.comparison import Comparison, Figure, Outcome

FEW = 200
"""Samples below which a distance of features says little."""
EXAMPLES = (
    "kakusan compare runs/demo                                        three samplers, in 5, 10 and 20 steps",
    "kakusan compare runs/demo --samplers ddim,unipc,dpmpp-3m --steps 5,10,20,50",
    "kakusan compare runs/demo --seeds 3                              with error bars",
    "kakusan compare runs/demo --samplers sa-solver --steps 8,tuned:8     usual times and those of kakusan tune",
    "kakusan compare runs/digits --guidance 1,2,4 --samplers unipc --steps 10      weights of guidance",
    "kakusan compare runs/a runs/b --samplers auto --steps 10         two runs",
)


@dataclass(frozen=True)
class Compare(CompareOptions):
    """Ways to sample, side by side from the same noise: samplers, steps, weights of guidance, runs.

    A picture with the same seeds in a row and a column for each way, and charts below; a table of the Fréchet distance
    from real images, beside that of as many other real images, of the difference from a fine walk (100 steps) from the
    same noise, and of the time. Distances of few samples are large: compare those of one table alone.
    """

    run: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folders of runs."""
    out: Path | None = None
    """Where the picture goes, a .png; the figures beside it, in NAME.png.json. Default: the next in RUN/comparisons."""
    overwrite: bool = False
    """Replace what is at --out."""
    json: bool = False
    """Print the figures as JSON, on stdout, in place of the table."""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    command = parse(Compare, arguments, "compare", EXAMPLES)
    from kakusan.data.saving import free_output
    from kakusan.errors import SettingsError
    from kakusan.evaluation.comparison import compare
    from kakusan.run import Run
    from kakusan.terminal.display import bars, console, reading

    if not command.run:
        raise SettingsError("there is no run to compare", "kakusan compare runs/demo")
    runs = [Run.open(folder) for folder in command.run]
    path = command.out or free_output(runs[0].folder / "comparisons", "comparison")
    _check(path, overwrite=command.overwrite)
    to = console()
    with reading(to) as read, bars(to) as show:
        found = compare(runs, command, show, read)
    for warning in (warning for run in runs for warning in run.warnings):
        to.print(f"warning: {warning}", markup=False)
    _write(found, path)
    if command.json:
        print(json.dumps({**found.as_json(), "out": str(path)}))
        return 0
    _show(found)
    print(path)
    return 0


def _check(path: Path, *, overwrite: bool) -> None:
    from kakusan.errors import SettingsError

    if path.suffix.lower() != ".png":
        raise SettingsError(f"--out {path} is no picture", "such as --out compared.png")
    for each in (path, _figures(path)):
        if each.exists() and not overwrite:
            raise SettingsError(f"{each} is there already", "--overwrite replaces it")


def _figures(path: Path) -> Path:
    """Beside the picture."""
    return path.with_name(path.name + ".json")


def _write(found: "Comparison", path: Path) -> None:
    from kakusan.evaluation.comparison_picture import comparison_png
    from kakusan.storage import durable
    from kakusan.storage.figures import finite

    figures = (json.dumps(finite(found.as_json()), indent=1) + "\n").encode()
    with durable.os_errors_as_run_errors(f"cannot write {path}", path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.atomic_write(path, comparison_png(found))
        durable.atomic_write(_figures(path), figures)


def _show(found: "Comparison") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from kakusan.evaluation.comparison_picture import series

    about, to = found.about, Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for name in ("calls", "Fréchet distance", "from the fine walk", "seconds"):
        table.add_column(name, justify="right")
    for name, outcomes in (*series(found.fine).items(), *series(found.outcomes).items()):
        for outcome in outcomes:
            table.add_row(name, *_cells(outcome))
    if found.real is not None:
        table.add_row(f"{about['real']} {about['noun']}", "", f"{found.real:.4g}", "", "")
    to.print(table)
    features = f", in the features of {about['of']} ({about['features']})" if about["features"] else ""
    words = (
        f"{about['count']:,} samples of {_seeds(about['seed'], about['seeds'])} each; distances from"
        f" {about['reference']} {about['noun']}{features}; the difference is the root mean square, in the network's"
        " units. "
    )
    words += (
        "One seed: small differences of distances are chance (--seeds 3 shows how small)."
        if about["seeds"] == 1
        else "± the 95 % interval of the mean over seeds."
    )
    to.print(words, style="dim", markup=False)
    if about["count"] < about["asked_for"]:
        to.print(
            f"note: {about['count']:,} samples, not {about['asked_for']:,}: there are no more {about['real']}"
        )
    if about["count"] < FEW:
        to.print(f"note: a distance of {about['count']} samples says little; --count 500 says more")


def _seeds(first: int, count: int) -> str:
    return f"seed {first}" if count == 1 else f"the seeds {first} to {first + count - 1}"


def _cells(outcome: "Outcome") -> tuple[str, ...]:
    calls, seconds = str(outcome.way.calls), f"{outcome.seconds:.2f}"
    return calls, _figure(outcome.frechet), _figure(outcome.from_fine), seconds


def _figure(figure: "Figure | None") -> str:
    return "" if figure is None else str(figure)
