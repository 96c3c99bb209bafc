"""The common part of `train`, `resume` and `demo`: a training shown while it runs, and the report at its end."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kakusan.config.loading import Requested
from kakusan.config.machine import set_machine_for_use
from kakusan.config.settings import Settings
from kakusan.data.asking import EACH
from kakusan.data.record import DataRecord
from kakusan.data.space import noun_of
from kakusan.errors import RunError, printable, quoted
from kakusan.pages.report.gather import write_report
from kakusan.run import Run
from kakusan.storage.run_folder import RunFolder
from kakusan.terminal.display import TrainingDisplay, bar, console, duration, reading
from kakusan.terminal.signals import StopRequest
from kakusan.terminal.streams import OutputLost
from kakusan.training.forecast import in_short
from kakusan.training.launch import launch
from kakusan.training.trainer import Began, Ended, Event, Sampled, Saved, Stepped, Trainer, Turned, Warned
from kakusan.training.verdicts import LossGap

SOME_GUIDANCE = 1.5
"""A weight to begin with: samples show their class, and are hardly less varied."""


def begin(asked: Requested, folder: Path, weights_from: Path | None) -> Trainer:
    """`launch`, with the reading of the data shown."""
    to = console()
    if asked.settings.training.steps == "auto" and not RunFolder.exists(folder):
        to.print(
            "reading the data, and measuring how many steps the time buys (longer for long trainings) ...",
            style="dim",
        )
    with reading(to) as progress:
        return launch(asked, folder, weights_from=weights_from, progress=progress)


def train_to_the_end(trainer: Trainer, *, as_json: bool = False) -> int:
    """Train with everything shown; then the report. The exit code: 0, or 128 + the signal that ended it.

    Words that cannot be said or written end the words, not the training. Raises OutputLost at the end if stdout was
    not there for all figures.
    """
    to, run = console(), trainer.run
    told = _Told(run, trainer.settings, TrainingDisplay(to), as_json=as_json)
    with reading(to) as progress, StopRequest() as stop:
        try:
            for event in trainer.events(stop, progress):
                if isinstance(event, Began):
                    stop.arm()
                told.show(event)
        finally:
            told.display.stop()
    if stop.signal:
        told.log(f"stopped by signal {stop.signal}")
        told.stopping_words()
        return stop.exit_code
    _require_the_folder(run)
    page = run.report_path if told.is_told_already() else report_of(Run(RunFolder.open(run.folder)))
    told.closing_words(page)
    if told.lost is not None:
        raise told.lost
    return 0


def _require_the_folder(run: RunFolder) -> None:
    if not RunFolder.exists(run.folder):
        raise RunError(
            f"{run.folder} was moved away, or removed, while it was trained",
            f"what was saved since stands in {run.checkpoints}: move it into the checkpoints of the run",
        )


NAMED = 5
"""Unreadable files that are named."""


@dataclass
class _Told:
    """A training, as it is shown on the terminal, in log.txt and, in figures, on stdout."""

    run: RunFolder
    settings: Settings
    display: TrainingDisplay
    as_json: bool
    lost: OutputLost | None = None
    first: int = 0
    """The step it went on from."""
    logs: bool = True

    def show(self, event: Event) -> None:
        match event:
            case Began():
                self._opening_words(event)
            case Stepped(step, line):
                self.display.stepped(step, None if line is None else dict(line))
                if self.as_json and line is not None:
                    self._print(json.dumps(dict(line)))
            case Sampled(step, path):
                self.say(f"  step {step:>7,}  samples     {path}")
            case Saved(step, path):
                self.log(f"checkpoint of step {step}")
                self.say(f"  step {step:>7,}  checkpoint  {path}")
            case Warned(text):
                self._warn(text)
            case Turned(step, steps, text):
                self.display.turned(step, steps)
                self.say(f"  step {step:>7,}  {text}")
                self.log(f"step {step:,}: {text}")
            case Ended():
                pass

    def say(self, text: str) -> None:
        self.display.say(printable(text))

    def log(self, text: str) -> None:
        try:
            if self.logs:
                self.run.log(text)
        except RunError as error:
            self.logs = False  # said once
            self.say(f"warning: {error.problem}")

    def _warn(self, text: str) -> None:
        self.say(f"warning: {text}")
        self.log(f"warning: {text}")

    def _print(self, text: str) -> None:
        if self.lost is None:
            try:
                print(text, flush=True)
            except OutputLost as lost:
                self.lost = lost
                self._warn(f"standard output cannot be written ({lost}): the training goes on without")

    def _opening_words(self, event: Began) -> None:
        run, self.first = self.run, event.step
        parent, shown = run.data.get("weights_from"), noun_of(DataRecord.read(run.data).shape).many
        start = f"from the weights of {parent['run']}" if parent else "from the start"
        where = f"from step {event.step:,} on" if event.step else start
        text = (
            f"{run.folder}: {event.parameters:,} parameters, {event.training_images:,} {shown}"
            f" ({event.held_out_images:,} more held out), {event.steps:,} steps, {where}"
        )
        self.say(text)
        self.log(text)
        if not event.step:
            self._notes_on_the_data()
            forecast = in_short(self.settings, run.data)
            self.say(forecast)
            self.log(forecast)
        mean: float | None = None
        for line in self._figures():
            if (loss := line.get("loss")) is not None:
                mean = loss if mean is None else 0.9 * mean + 0.1 * loss
        self.display.began(event.step, event.steps, mean)

    def _figures(self) -> list[dict[str, Any]]:
        try:
            return self.run.metrics()
        except RunError:
            return []

    def is_told_already(self) -> bool:
        """Whether nothing has been trained, and the report is younger than the last checkpoint."""
        if self.display.trained:
            return False
        last = self.run.checkpoint_path(self.run.steps[-1])
        report = self.run.report_path
        return report.exists() and report.stat().st_mtime > last.stat().st_mtime

    def _notes_on_the_data(self) -> None:
        """Print and log what was chosen, left out or not used while the data were read and divided: one line each."""
        bad = [str(file["name"]) for file in self.run.data.get("bad_files", ())]
        notes = [str(note) for note in self.run.data.get("notes", ())]
        if bad:
            more = ", ..." * (len(bad) > NAMED)
            notes.append(f"unreadable images left out: {len(bad)} ({', '.join(bad[:NAMED])}{more})")
        for note in notes:
            self.say(f"note: {note}")
            self.log(f"note: {note}")

    def stopping_words(self) -> None:
        """Print that it is saved, and first of all whether it has hardly learned yet."""
        to = console()
        if shortfall := Run(RunFolder.open(self.run.folder)).hardly_learned(self.run.steps[-1]):
            self.log(shortfall)
            to.print(printable(shortfall), markup=False)
        to.print(f"stopped and saved; to go on: kakusan resume {quoted(self.run.folder)}", markup=False)

    def closing_words(self, page: Path) -> None:
        to, name = console(), quoted(self.run.folder)
        if self.display.trained:
            for words in self._results():
                self.log(words)
                to.print(printable(words), markup=False)
        else:
            to.print(printable(f"{self.run.folder} is at its last step already"), markup=False)
            for words in Run(RunFolder.open(self.run.folder)).unplanned(self.run.steps[-1]).values():
                to.print(printable(words), markup=False)
        to.print(printable(f"  report  {page}"), markup=False)
        if self.display.trained:
            asking = _asking(Run(RunFolder.open(self.run.folder)).data)
            to.print(f"  sample  kakusan sample {name} --count 64{asking}", markup=False)
        to.print(f"  longer  kakusan resume {name} --minutes 15", markup=False)
        sys.stderr.flush()

    def _results(self) -> Iterator[str]:
        """First what the training has hardly learned, if so; then its length and its losses."""
        opened, step = Run(RunFolder.open(self.run.folder)), self.run.steps[-1]
        shortfall, gap = opened.hardly_learned(step), opened.loss_gap(step)
        if shortfall:
            yield shortfall
        since = f" since step {self.first:,}" if self.first else ""
        words = f"trained in {duration(self.display.seconds)}{since}"
        if gap is not None:
            words += (
                f", loss {gap.training:.4f}, held-out loss {gap.held_out:.4f} ({_of_gap(gap, shortfall)})"
            )
        yield words
        yield from opened.unplanned(step).values()


def report_of(run: Run) -> Path:
    """The report, written with its progress shown."""
    to = console()
    set_machine_for_use(run.settings.machine)
    with bar("report", 1.0, to) as shown:
        return write_report(run, shown.at)


def _asking(data: DataRecord) -> str:
    """Flags that ask for what a run has learned, each after a space; none where it has learned no conditions."""
    flags = ""
    if data.class_names:
        flags += f" --label {EACH} --guidance {SOME_GUIDANCE}"
    if data.vectors is not None:
        flags += f" --vector {quoted(f'{data.vectors.names[0]}={data.vectors.mean[0]:.3g}')}"
    if data.pairs is not None:
        flags += " --condition FILE"
    return flags


def _of_gap(gap: LossGap, shortfall: str) -> str:
    """The gap of the two losses; what it says of memorizing only where something was learned."""
    words = f"gap {gap.words}"
    return words if shortfall or gap.verdict is None else f"{words}: {gap.verdict.value}"
