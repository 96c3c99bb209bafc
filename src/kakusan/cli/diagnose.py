"""kakusan diagnose RUN."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from kakusan.cli.arguments import parse
from kakusan.evaluation.options import DiagnosisOptions

if TYPE_CHECKING:
    from rich.console import Console

    from kakusan.evaluation.diagnosis.finding import Diagnosis, Finding

EXAMPLES = (
    "kakusan diagnose runs/demo                     four answers, with the figures behind them",
    "kakusan diagnose runs/demo --count 1024        finer differences of the colours",
    "kakusan diagnose runs/demo --json              all figures for programs",
)
MARKS = {"well": "✓", "more": "→", "fault": "✗", "unknown": "?"}
STYLES = {"well": "green", "more": "yellow", "fault": "red", "unknown": "yellow"}
MOST_CHANNELS = 4
"""Whose mean and deviation are shown."""


@dataclass(frozen=True)
class Diagnose(DiagnosisOptions):
    """Is it broken? Is it done? Does it copy, or will it? Are the colours right? In words, with the figures.

    Measures the loss by noise level beside denoisers that were taught nothing, fits the trend of the held-out loss,
    and compares samples with training and held-out data. Where a step was not finite, it is done again in memory, from
    the last checkpoint on, to say which layer and which images it was. Nothing is written.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    json: bool = False
    """Print the figures as JSON, on stdout, in place of the text."""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    command = parse(Diagnose, arguments, "diagnose", EXAMPLES)
    from kakusan.config.machine import set_machine_for_use
    from kakusan.evaluation.diagnosis.diagnose import diagnose
    from kakusan.run import Run
    from kakusan.storage.figures import finite
    from kakusan.terminal.display import bars, console, reading

    run = Run.open(command.run)
    set_machine_for_use(run.settings.machine)
    to = console()
    with reading(to) as read, bars(to) as show:
        found = diagnose(run, command, reading=read, progress=show)
    for note in found.notes:
        to.print(f"warning: {note}", markup=False)
    if command.json:
        print(json.dumps(finite(found.as_json()), ensure_ascii=False))
        return 0
    _show(found)
    return 0


def _show(found: "Diagnosis") -> None:
    from rich.console import Console

    to = Console(highlight=False)
    for finding in found.findings:
        _answer(to, finding)
        if finding is found.broken:
            _table(to, list(_by_t(finding.figures)))
        if finding is found.colours:
            _table(to, list(_by_channel(finding.figures)))


def _answer(to: "Console", finding: "Finding") -> None:
    """The question and its answer; below, indented, the sentences."""
    from rich.padding import Padding
    from rich.text import Text

    from kakusan.errors import printable

    mark = Text(f"{MARKS[finding.health.value]} ", STYLES[finding.health.value])
    to.print(mark + Text(f"{finding.question} {finding.answer[0].upper()}{finding.answer[1:]}.", "bold"))
    to.print(Padding(Text(printable(finding.text)), (0, 0, 0, 2)))


def _table(to: "Console", rows: list[list[str]]) -> None:
    """Rows of equal length, the first a head; nothing where there are none."""
    if not rows:
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        name, *cells = (
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        to.print("    " + " ".join([name, *cells]), style="dim", markup=False, soft_wrap=True)


def _by_t(figures: dict[str, Any]) -> Iterator[list[str]]:
    """The losses of all denoisers, by parts of t."""
    levels = figures.get("by_t", [])
    if levels:
        yield ["loss for t from", *(f"{level['first']:,}" for level in levels)]
        for name in levels[0]["losses"]:
            yield [name, *(_short(level["losses"][name]) for level in levels)]


def _by_channel(figures: dict[str, Any]) -> Iterator[list[str]]:
    """Mean and deviation of the channels, samples beside data."""
    if not figures:
        return
    samples, data = figures["samples"], figures["data"]
    shown = range(min(MOST_CHANNELS, len(samples["mean"])))
    yield ["", *(f"channel {i}: {what}" for i in shown for what in ("mean", "deviation"))]
    for name, each in (("samples", samples), (figures["of_data"], data)):
        cells = [
            f"{each[what][i]:.4g} ± {each[f'{what}_error'][i]:.2g}"
            for i in shown
            for what in ("mean", "deviation")
        ]
        yield [name, *cells]


def _short(loss: float) -> str:
    """A loss in at most six characters, where it is neither huge nor tiny."""
    return f"{loss:.3f}" if 1e-3 < abs(loss) < 10 else f"{loss:.3g}"
