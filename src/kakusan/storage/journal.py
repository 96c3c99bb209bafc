"""The lines that a training writes into metrics.jsonl: one that the disk refuses is kept, and written later."""

from collections.abc import Mapping
from typing import Any

from kakusan.errors import RunError
from kakusan.storage.run_folder import RunFolder


class Journal:
    """The figures of one training. That they cannot be written is no reason to stop it."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._waiting: list[Mapping[str, Any]] = []
        self._told = False

    def add(self, line: Mapping[str, Any]) -> str | None:
        """Write a line, after those that still wait; what to say where that fails for the first time."""
        self._waiting.append(line)
        return self.write_what_waits()

    def write_what_waits(self) -> str | None:
        try:
            while self._waiting:
                self._run.append_metrics(self._waiting[0])
                del self._waiting[0]
        except RunError as error:
            told, self._told = self._told, True
            return (
                None if told else f"{error.problem}; its lines are kept, and written as soon as they can be"
            )
        self._told = False
        return None

    def end(self) -> str | None:
        """A last try; what to say of lines that could not be written."""
        self.write_what_waits()
        count = len(self._waiting)
        return f"{count:,} lines of figures could not be written to {self._run.folder}" if count else None
