"""What `train`, `resume` and `demo` share: a training shown while it runs, and the report at its end."""

import json
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from kakusan.assembly import set_machine
from kakusan.cli.display import TrainingDisplay, bar, console, duration, reading
from kakusan.cli.signals import StopRequest
from kakusan.config import Asked
from kakusan.experiment import Began, Ended, Event, Sampled, Saved, Stepped, Warned, continue_training
from kakusan.launching import Launched, launch
from kakusan.opened import Run
from kakusan.report.gather import write_report
from kakusan.runs import RunFolder


def begin(asked: Asked, folder: Path, weights_from: Path | None) -> Launched:
    """`launch`, with the reading of the data shown."""
    to = console()
    if asked.settings.training.steps == "auto" and not RunFolder.exists(folder):
        to.print("reading the data, and measuring how many steps the time buys ...", style="dim")
    with reading(to) as progress:
        return launch(asked, folder, weights_from=weights_from, progress=progress)


def train_to_the_end(launched: Launched, *, as_json: bool = False) -> int:
    """Train with everything shown; then the report. The exit code: 0, or 128 + the signal that ended it."""
    to, run = console(), launched.run
    display = TrainingDisplay(to)
    with reading(to) as progress, StopRequest() as stop:
        events = continue_training(run, launched.settings, launched.task, stop=stop, progress=progress)
        try:
            for event in chain(map(Warned, launched.cautions), events):
                if isinstance(event, Began):
                    stop.arm()
                _show(event, display, run, as_json=as_json)
        finally:
            display.stop()
    if stop.signal:
        run.log(f"stopped by signal {stop.signal}")
        to.print(f"stopped and saved; to go on: kakusan resume {run.folder}", markup=False)
        return stop.exit_code
    page = report_of(Run(RunFolder.open(run.folder)))
    _closing_words(run, display, page)
    return 0


def _show(event: Event, display: TrainingDisplay, run: RunFolder, *, as_json: bool) -> None:
    match event:
        case Began():
            _opening_words(event, display, run)
        case Stepped(step, line):
            display.stepped(step, None if line is None else dict(line))
            if as_json and line is not None:
                print(json.dumps(dict(line)), flush=True)
        case Sampled(step, path):
            display.say(f"  step {step:>7,}  samples     {path}")
        case Saved(step, path):
            run.log(f"checkpoint of step {step}")
            display.say(f"  step {step:>7,}  checkpoint  {path}")
        case Warned(text):
            display.say(f"warning: {text}")
            run.log(f"warning: {text}")
        case Ended():
            pass


def _opening_words(event: Began, display: TrainingDisplay, run: RunFolder) -> None:
    parent = run.data.get("weights_from")
    start = f"from the weights of {parent['run']}" if parent else "from the start"
    where = f"from step {event.step:,} on" if event.step else start
    text = (
        f"{run.folder}: {event.parameters:,} parameters, {event.training_images:,} images"
        f" ({event.held_out_images:,} more held out), {event.steps:,} steps, {where}"
    )
    display.say(text)
    run.log(text)
    lines: Iterator[float] = (line["loss"] for line in run.metrics() if "loss" in line)
    mean: float | None = None
    for loss in lines:
        mean = loss if mean is None else 0.9 * mean + 0.1 * loss
    display.began(event.step, event.steps, mean)


def report_of(run: Run) -> Path:
    """The report, written with its progress shown."""
    to = console()
    set_machine(run.settings.machine)
    with bar("report", 1.0, to) as shown:
        return write_report(run, shown.at)


def _closing_words(run: RunFolder, display: TrainingDisplay, page: Path) -> None:
    if not display.trained:
        to = console()
        to.print(f"{run.folder} is at its last step already", markup=False)
        to.print(f"  longer  kakusan resume {run.folder} --steps N", markup=False)
        to.print(f"  report  {page}", markup=False)
        return
    losses = [line for line in run.metrics() if "held_out_loss" in line]
    parts = [f"trained in {duration(display.seconds)}"]
    if losses:
        parts += [
            f"loss {losses[-1]['training_loss']:.4f}",
            f"held-out loss {losses[-1]['held_out_loss']:.4f}",
        ]
    text = ", ".join(parts)
    run.log(text)
    to = console()
    to.print(text, markup=False)
    to.print(f"  report  {page}", markup=False)
    to.print(f"  sample  kakusan sample {run.folder} --count 64", markup=False)
    to.print(f"  longer  kakusan resume {run.folder} --steps N", markup=False)
    sys.stderr.flush()
