"""What the benchmarks share: clocks, tables, the machine, and how a script begins and ends."""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from kakusan.config.loading import settings_for
from kakusan.config.machine import processor_name, set_machine
from kakusan.config.resolve import resolve
from kakusan.config.settings import Settings
from kakusan.data.memory import dataset_in_memory
from kakusan.errors import KakusanError, RunError
from kakusan.run import Run
from kakusan.training.ladder import for_steps
from kakusan.training.prepare import Prepared, prepare_data
from kakusan.training.state import Task, assemble

Figures: TypeAlias = dict[str, Any]
"""What a benchmark finds, ready for JSON."""


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


def seconds(action: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """How long one call takes. clock: `time.process_time` counts the processor's time alone, not that of other work."""
    begun = clock()
    action()
    return clock() - begun


def interleaved(
    actions: Mapping[str, Callable[[], object]],
    repeats: int,
    warm: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each action, in turn: A B A B. So a slow minute of the machine is a slow minute for all."""
    for action in actions.values():
        for _ in range(warm):
            action()
    rounds = [[seconds(action, clock) for action in actions.values()] for _ in range(repeats)]
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
    """Where the figures come from, and whether it was quiet there since the script began."""
    return {
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "taken_by_others": taken_by_others(),
    }


def taken_by_others() -> float | None:
    """The share of all processors' time that went to other work since the script began; Linux alone tells."""
    if BEGUN is None:
        return None
    every, ours = (now - then for now, then in zip(processor_seconds(), BEGUN, strict=True))
    return max(0.0, every - ours) / ((time.monotonic() - BEGUN_AT) * (os.cpu_count() or 1))


def processor_seconds() -> tuple[float, float]:
    """Busy seconds of all processors since the machine began, and of this process and its finished children."""
    user, nice, system, _idle, _wait, irq, soft_irq, steal = map(int, STATISTICS.read_text().split()[1:9])
    busy = (user + nice + system + irq + soft_irq + steal) / os.sysconf("SC_CLK_TCK")
    return busy, sum(os.times()[:4])


STATISTICS = Path("/proc/stat")
BEGUN = processor_seconds() if STATISTICS.exists() else None
BEGUN_AT = time.monotonic()


def in_words(of: Figures) -> str:
    """`machine`, as a line. Figures of speed are no good where others took more than a few per cent."""
    others = of["taken_by_others"]
    quiet = "" if others is None else f"; other work took {others:.0%} of the time"
    return f"{of['processor']}, {of['threads']} threads, torch {of['torch']}{quiet}"


NOISE_IMAGES, LONG = 2048, 20_000
"""Images of a training on noise, and the steps that its network is chosen for."""


def training_on_noise(
    shape: tuple[int, int, int],
    batch_size: int,
    *,
    preset: str | None = None,
    accumulation: int | Literal["auto"] = 1,
    way: Mapping[str, Any],
) -> Task:
    """A training as `kakusan train` would set it up, on images (channels, height, width) of noise.

    way: settings of the machine, by name. Threads and allocator are set up for the whole process.
    """
    channels, height, width = shape
    images = np.random.default_rng(0).integers(
        0, 256, (NOISE_IMAGES, height, width, channels), dtype=np.uint8
    )
    settings = settings_for("", preset=preset) if preset else Settings()
    settings = replace(
        settings,
        machine=replace(settings.machine, **way),
        training=replace(settings.training, batch_size=batch_size, accumulation=accumulation),
    )
    prepared = prepare_data(settings, in_memory=dataset_in_memory(images, settings.data))
    resolved = resolve(settings, prepared.facts)
    set_machine(resolved.machine)
    return assemble(for_steps(resolved, prepared, LONG).settings, prepared)


def prepared_as(run: Run, name: str) -> Prepared:
    """The data of a run with the run's own split. Raises RunError if it learned other data than these."""
    if run.data.name != name:
        raise RunError(f"{run.folder} learned {run.data.name}, not {name}", f"kakusan train {name}")
    prepared = prepare_data(run.settings)
    if prepared.dataset.fingerprint != run.data.fingerprint:
        raise RunError(f"the {name} of this version are not those that {run.folder} learned")
    return prepared


def report(figures: Figures, text: str, *, as_json: bool) -> int:
    """Print the text; or the figures, and the text on stderr. The exit code is 0: people judge."""
    print(text, file=sys.stderr if as_json else sys.stdout, flush=True)
    if as_json:
        print(json.dumps(figures, ensure_ascii=False), flush=True)
    return 0


def leave(main: Callable[[Sequence[str]], int]) -> None:
    """Run a script's main on the command line, and end with its exit code."""
    try:
        sys.exit(main(sys.argv[1:]))
    except KakusanError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
