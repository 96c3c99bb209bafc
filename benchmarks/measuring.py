"""What the benchmarks share: clocks, tables, the machine, and how a script begins and ends."""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch

from kakusan.assembly import Prepared, prepare_data, processor_name
from kakusan.errors import KakusanError, RunError
from kakusan.opened import Run

Figures: TypeAlias = dict[str, Any]
"""What a benchmark finds, ready for JSON."""

LOAD: float | None = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
"""Before the start. Well above 0, somebody else was at work, and figures of speed are no good."""


@dataclass(frozen=True)
class Spread:
    """Repeated measurements of one thing: their median and their quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        low, median, high = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
        return cls(median, low, high)


def seconds(action: Callable[[], object]) -> float:
    """How long one call takes."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def interleaved(
    actions: Mapping[str, Callable[[], object]], repeats: int, warm: int = 2
) -> dict[str, list[float]]:
    """Seconds of each action, in turn: A B A B. So a slow minute of the machine is a slow minute for all."""
    for action in actions.values():
        for _ in range(warm):
            action()
    rounds = [[seconds(action) for action in actions.values()] for _ in range(repeats)]
    return dict(zip(actions, map(list, zip(*rounds, strict=True)), strict=True))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned for the eye, and Markdown: it can go into a README as it is."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * width for width in widths]
    lines = [
        [cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in (header, rule, *rows)
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def machine() -> Figures:
    """Where the figures come from."""
    return {
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load_before": LOAD,
    }


def in_words(of: Figures) -> str:
    """`machine`, as a line."""
    load = "" if of["load_before"] is None else f", load {of['load_before']:.1f} before the start"
    return f"{of['processor']}, {of['threads']} threads, torch {of['torch']}{load}"


def prepared_as(run: Run, name: str) -> Prepared:
    """The data of a run with the run's own split. Raises RunError if it learned other data than these."""
    if run.data.name != name:
        raise RunError(f"{run.folder} learned {run.data.name}, not {name}", f"kakusan train {name}")
    prepared = prepare_data(run.settings)
    if prepared.dataset.fingerprint != run.data.fingerprint:
        raise RunError(f"the {name} of this version are not those that {run.folder} learned")
    return prepared


def report(figures: Figures, text: str, *, as_json: bool) -> int:
    """Print one of the two. The exit code is 0 whatever the figures are: a benchmark measures."""
    print(json.dumps(figures, ensure_ascii=False) if as_json else text, flush=True)
    return 0


def leave(main: Callable[[Sequence[str]], int]) -> None:
    """Run a script's main on the command line, and end with its exit code."""
    try:
        sys.exit(main(sys.argv[1:]))
    except KakusanError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
