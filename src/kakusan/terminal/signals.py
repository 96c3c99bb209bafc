"""Signals that stop a command: Ctrl-C, a lost terminal, a batch system. A training finishes its step and saves."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any] | int | None

WORDS = b"\nfinishing this step, then saving (once more to stop at once, without)\n"
STDERR = 2
INSISTENT = {getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGQUIT") if hasattr(signal, name)}
"""Signals of a user: the second one stops at once. All others may come in pairs, as when a terminal is lost."""
NOTICES = {getattr(signal, name) for name in ("SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)}
"""A terminal that is lost; the warnings of batch systems, which kill soon after."""


class Stopped(KeyboardInterrupt):
    """Ended by a signal other than Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


@contextmanager
def listening(to: set[int], act: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """While the block runs, these signals call `act`; one that is ignored (nohup) stays so."""
    before: dict[int, Handler] = {}
    try:
        for number in sorted(to):
            handler = signal.getsignal(number)
            if handler != signal.SIG_IGN and threading.current_thread() is threading.main_thread():
                before[number] = handler
                signal.signal(number, act)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stopping() -> Iterator[None]:
    """Signals that would kill the process raise `Stopped`, so that nothing half written is left."""
    with listening((INSISTENT | NOTICES) - {signal.SIGINT}, _stop):
        yield


def _stop(number: int, _: FrameType | None) -> None:
    raise Stopped(number)


class StopRequest:
    """Requested to stop? A context manager that listens to signals; before `arm` they stop at once."""

    def __init__(self) -> None:
        self.signal = 0
        self._armed = False
        self._insisted = False
        self._listening = listening(INSISTENT | NOTICES, self._notice)

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
        self._listening.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._listening.__exit__(*error)

    def _notice(self, number: int, _: FrameType | None) -> None:
        if not self._armed or (self._insisted and number in INSISTENT):
            raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)
        self._insisted |= number in INSISTENT
        if not self.signal:
            with suppress(OSError):  # the terminal may be what was lost
                os.write(STDERR, WORDS)  # a handler may come amidst a print, and must not print itself
        self.signal = self.signal or number
