"""Ctrl-C and SIGTERM while training: the step is finished and saved first; a second one stops at once."""

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any] | int | None

WORDS = b"\nfinishing this step, then saving (once more to stop at once, without)\n"
STDERR = 2


class StopRequest:
    """Asked to stop? A context manager that listens to the two signals; before `arm` they stop at once."""

    def __init__(self) -> None:
        self.signal = 0
        self._armed = False
        self._before: dict[int, Handler] = {}

    def __call__(self) -> bool:
        return self.signal != 0

    @property
    def exit_code(self) -> int:
        """128 + the signal, as shells have it; 0 without one."""
        return 128 + self.signal if self.signal else 0

    def arm(self) -> None:
        """From now on there is something to save."""
        self._armed = True

    def __enter__(self) -> "StopRequest":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._notice)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _notice(self, number: int, _: FrameType | None) -> None:
        if self.signal or not self._armed:
            raise KeyboardInterrupt
        self.signal = number
        os.write(STDERR, WORDS)  # a handler may come amidst a print, and must not print itself
