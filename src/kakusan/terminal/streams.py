"""Standard output and standard error that may be closed, full, or without a reader.

Words on stderr are for people: if they cannot be written, the work goes on. What is written to stdout is an answer: if
it cannot be given, `OutputLost` says so.
"""

import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, cast

FINISHED_BY_PIPE = 141


class OutputLost(Exception):  # noqa: N818 (it is the output that is lost)
    """Standard output takes no more."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(cause.strerror or str(cause))
        self.exit_code = FINISHED_BY_PIPE if cause.errno in (errno.EPIPE, errno.ESHUTDOWN) else 1

    def tell(self) -> None:
        """One line on stderr; none where the reader has gone, as is usual in a pipe."""
        if self.exit_code != FINISHED_BY_PIPE:
            print(f"error: standard output cannot be written: {self}", file=sys.stderr)


class _Stream:
    """A text stream whose refusals are silence, or (the answer) an `OutputLost`, and which is not asked again."""

    def __init__(self, stream: TextIO, *, is_answer: bool) -> None:
        self._stream, self._is_answer = stream, is_answer
        self._lost = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._unless_lost(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._unless_lost(self._stream.flush)

    def _unless_lost(self, act: Callable[[], object]) -> None:
        if self._lost:
            return
        try:
            act()
        except OSError as error:
            self._lost = True
            _forget(self._stream)
            if self._is_answer:
                raise OutputLost(error) from error


def _forget(stream: TextIO) -> None:
    """Discard what is still in the buffer, rather than complain of it at the end of the process."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextmanager
def guarded() -> Iterator[None]:
    """While the block runs, sys.stdout and sys.stderr are as this module says."""
    _open_what_is_closed()
    before = sys.stdout, sys.stderr
    for stream in before:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no kanji gets question marks
    sys.stdout = cast(TextIO, _Stream(sys.stdout, is_answer=True))
    sys.stderr = cast(TextIO, _Stream(sys.stderr, is_answer=False))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _open_what_is_closed() -> None:
    """Give a closed standard stream to the null device: else the next file to be opened would be in its place."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 (it stays)
