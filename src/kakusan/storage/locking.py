"""One holder at a time, over all processes of a machine, and the holder's name for the others."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from kakusan.errors import RunError
from kakusan.storage import durable


@contextmanager
def hold(lock: Path, holder: Path, problem: str) -> Iterator[None]:
    """Hold a lock, with this process's name in the file ``holder``; RunError at once, with that name, if another does.

    The system drops the lock of a process that dies, however it dies; its name is then written over.
    """
    guard = FileLock(lock, timeout=0)
    try:
        guard.acquire()
    except Timeout:
        raise RunError(f"{problem} by {_name(holder)}", "wait for it or stop it") from None
    except OSError as error:
        raise RunError(f"cannot lock {lock}: {error.strerror or error}") from error
    try:
        with durable.os_errors_as_run_errors(f"cannot write {holder}", holder.parent):
            durable.atomic_write(holder, json.dumps(_ourselves()).encode())
        yield
    finally:
        with suppress(OSError):
            durable.remove(holder)
        guard.release()


def _ourselves() -> dict[str, str | int]:
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return {"process": os.getpid(), "host": socket.gethostname(), "since": since}


def _name(holder: Path) -> str:
    try:
        who = json.loads(holder.read_bytes())
        return f"process {who['process']} on {who['host']}, since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it holds the lock and is about to write its name
        return "another process"
