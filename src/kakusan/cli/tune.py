"""kakusan tune RUN."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from kakusan.cli.arguments import parse
from kakusan.evaluation.options import TuneOptions

if TYPE_CHECKING:
    from kakusan.evaluation.best import Best
    from kakusan.storage.times import TunedTimes

EXAMPLES = (
    "kakusan tune runs/demo --calls 8                      then: kakusan sample runs/demo --steps tuned:8",
    "kakusan tune runs/demo --calls 5 10 --sampler ipndm   for this sampler, in 5 steps and in 10",
    "kakusan tune runs/demo --best 10 25                   then: kakusan sample runs/demo --steps best:10",
    "kakusan tune runs/demo --entropic                     then: kakusan sample runs/demo --spacing entropic",
)


@dataclass(frozen=True)
class Tune(TuneOptions):
    """Find the times of a few-step walk that suit this model best, and keep them in the run.

    From the same noise, a walk in few steps should end where one in 100 steps ends: the times are moved until the ends
    differ least. Stored in RUN/times.json; `kakusan sample` takes them with --steps tuned:N, and by itself where it is
    asked for N steps and no sampler.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    json: bool = False
    """Print the times as JSON, on stdout."""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    command = parse(Tune, arguments, "tune", EXAMPLES)
    from kakusan.config.machine import set_machine_for_use
    from kakusan.evaluation.best import find_best_steps
    from kakusan.evaluation.tuning import measure_errors, tune_times
    from kakusan.run import Run
    from kakusan.terminal.display import bar, console, reading

    run = Run.open(command.run)
    set_machine_for_use(run.settings.machine)
    to = console()
    if command.entropic:
        with reading(to) as read, bar("errors by time", 1.0, to) as shown:
            errors = measure_errors(run, command, shown.at, read)
        to.print(f"errors at {len(errors.times)} times, of {errors.samples} held-out samples", markup=False)
        _end(command, asdict(errors), "--spacing entropic")
        return 0
    if command.best:
        with reading(to) as read, bar("errors at all times", 1.0, to) as shown:
            best = find_best_steps(run, command, shown.at, read)
        for each in best:
            to.print(_best_words(each), markup=False)
        _end(command, [asdict(each) for each in best], f"--steps best:{best[0].steps}")
        return 0
    with bar("tuning", 1.0, to) as shown:
        found = tune_times(run, command, shown.at)
    for times in found:
        to.print(_words(times), markup=False)
    _end(command, [asdict(times) for times in found], f"--steps tuned:{found[0].calls}")
    return 0


def _best_words(best: "Best") -> str:
    at = ", ".join(map(str, best.at))
    return (
        f"ancestral, {best.steps} steps: t = {at}\n  the bound is {best.bits:.4f} bits/dim, with as many even steps"
        f" {best.trailing:.4f}: fewer bits are not always better samples"
    )


def _words(times: "TunedTimes") -> str:
    at = ", ".join(f"{t:.6g}" for t in times.at)
    fallen = 1 - times.error / times.before if times.before else 0.0
    return (
        f"{times.sampler}, {times.calls} calls: t = {at}\n  ends {times.error:.4g} from those of a fine walk (root mean"
        f" square), {fallen:.0%} less than at even times"
    )


def _end(command: Tune, found: object, flags: str) -> None:
    from kakusan.errors import quoted
    from kakusan.terminal.display import console

    if command.json:
        print(json.dumps(found))
    console().print(f"  sample  kakusan sample {quoted(command.run)} {flags}", markup=False, soft_wrap=True)
