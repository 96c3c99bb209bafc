"""A training shown while it runs, for `kakusan.train` and its like: a live line, or words to Python's log."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from kakusan.storage.run_folder import RunFolder
from kakusan.terminal.display import TrainingDisplay, console
from kakusan.training.trainer import Began, Event, Stepped, Turned, Warned

Watch: TypeAlias = Callable[[Event], None]

LOGGER = logging.getLogger("kakusan")


def is_seen(progress: bool | None) -> bool:
    """Whether to show progress: as asked for, else where stderr is a terminal or a notebook's cell."""
    if progress is not None:
        return progress
    return "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())


def _notes(run: RunFolder, began: Began) -> list[str]:
    """Notes on what was chosen, left out or not used while the data were read, when a training begins."""
    return [] if began.step else [str(note) for note in run.data.get("notes", ())]


def _log_words(run: RunFolder, event: Event) -> None:
    """Warnings and notes to the logger "kakusan"."""
    match event:
        case Began():
            for note in _notes(run, event):
                LOGGER.warning("%s: %s", run.folder, note)
        case Warned(text) | Turned(text=text):
            LOGGER.warning("%s: %s", run.folder, text)


@contextmanager
def training_shown(run: RunFolder, progress: bool | None) -> Iterator[Watch]:
    """A live line of the training, its warnings and notes; without a display, these go to Python's log."""
    if not is_seen(progress):
        yield lambda event: _log_words(run, event)
        return
    display = TrainingDisplay(console())

    def show(event: Event) -> None:
        match event:
            case Began():
                display.say(
                    f"{run.folder}: {event.parameters:,} parameters, {event.training_images:,} images"
                )
                for note in _notes(run, event):
                    display.say(f"note: {note}")
                display.began(event.step, event.steps, None)
            case Stepped(step, line):
                display.stepped(step, None if line is None else dict(line))
            case Turned(step, steps, text):
                display.turned(step, steps)
                display.say(f"step {step:,}: {text}")
            case Warned(text):
                display.say(f"warning: {text}")

    try:
        yield show
    finally:
        display.stop()
