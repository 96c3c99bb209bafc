"""kakusan report RUN."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from kakusan.cli.arguments import parse

EXAMPLES = ("kakusan report runs/demo                    writes runs/demo/report.html",)


@dataclass(frozen=True)
class Report:
    """One self-contained HTML page: samples, film strip, curves, neighbours, settings."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    command = parse(Report, arguments, "report", EXAMPLES)
    from kakusan.cli.progress import report_of
    from kakusan.run import Run

    print(report_of(Run.open(command.run)))
    return 0
