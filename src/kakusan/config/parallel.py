"""Parts of a batch at once, on a CPU: each thread takes some rows through the whole network.

Where all threads share every operation, they meet at the end of each one, hundreds of times a step; and where another
program uses a core, each meeting lasts until the thread that had to wait has had its turn. Parts meet once. The result
depends on the number of parts alone, not on the cores that are free, nor on the order in which parts are done.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from threading import Barrier
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")

ROWS = 16
"""Rows of multiples of so many come out the same to the last bit, whatever the others are."""
FEWEST = 4
"""Rows of a part in training: fewer are not worth a thread."""


class _Thread(threading.local):
    """Per thread: whether it computes a part just now."""

    in_a_part = False


@dataclass(frozen=True)
class _Workers:
    """As many parts at once as there are workers, each on its share of the threads."""

    threads: int
    count: int
    pool: ThreadPoolExecutor | None
    """For all parts but the first."""

    @property
    def threads_of_each(self) -> int:
        return max(1, self.threads // self.count)


_thread = _Thread()
_workers: _Workers | None = None


def set_threads(threads: int, workers: int) -> None:
    """Compute up to `workers` parts of a batch at once, each on its share of the threads; in the whole process.

    Parts that are being computed just now keep the threads that they have.
    """
    global _workers  # as torch.set_num_threads
    if _workers is None or (_workers.threads, _workers.count) != (threads, workers):
        _workers = _Workers(threads, workers, _pool(workers - 1, max(1, threads // workers)))
    torch.set_num_threads(threads)


def _pool(threads: int, threads_of_each: int) -> ThreadPoolExecutor | None:
    """A pool whose threads have all begun: torch keeps the number that the last one set for threads yet to come."""
    if not threads:
        return None
    pool, all_begun = (
        ThreadPoolExecutor(threads, "kakusan-part", _begin_thread, (threads_of_each,)),
        Barrier(threads),
    )
    wait([pool.submit(all_begun.wait) for _ in range(threads)])
    return pool


def are_set() -> bool:
    """Whether `set_threads` was called in this process."""
    return _workers is not None


@contextmanager
def threads_of_a_part() -> Iterator[None]:
    """A context in which operations of this thread have the threads of a part, for what lies between two parts."""
    workers = _workers
    with nullcontext() if workers is None or _thread.in_a_part else _threads(workers.threads_of_each):
        yield


def shares(rows: int, multiple: int = ROWS) -> list[slice]:
    """The parts of so many rows, each a multiple but the last: as many as there are workers, or fewer."""
    count = 1 if _workers is None else _workers.count
    size = -(-rows // (multiple * count)) * multiple
    return [slice(begin, min(begin + size, rows)) for begin in range(0, rows, size)]


@contextmanager
def one_part(threads: int) -> Iterator[None]:
    """A context in which batches are one part each, on so many threads: the same bits, whatever was set before."""
    global _workers
    before, _workers = _workers, _Workers(threads, 1, None)
    try:
        with _threads(threads):
            yield
    finally:
        _workers = before


def dealt(works: Sequence[Part]) -> list[Sequence[Part]]:
    """Works of their own, the next one to the next worker in turn: parts for `at_once`."""
    count = 1 if _workers is None else _workers.count
    return [works[first::count] for first in range(min(count, len(works)))]


def at_once(function: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """The results for these parts, in their order. The calling thread computes the first; a single one has all threads.

    Modes of torch that belong to a thread (no_grad, autocast) have to be set within the function.
    """
    workers = _workers
    if workers is None or workers.pool is None or _thread.in_a_part:
        return [function(part) for part in parts]
    if len(parts) == 1:
        with _threads(workers.threads):
            return [function(parts[0])]
    others: list[Future[Result]] = []
    with _threads(workers.threads_of_each):
        try:
            others += [workers.pool.submit(function, part) for part in parts[1:]]
            with _in_a_part():
                first = function(parts[0])
        finally:
            wait(others)
    return [first, *(other.result() for other in others)]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """A context in which an operation of this thread has so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _in_a_part() -> Iterator[None]:
    _thread.in_a_part = True
    try:
        yield
    finally:
        _thread.in_a_part = False


def _begin_thread(threads: int) -> None:
    torch.set_num_threads(threads)
    _thread.in_a_part = True


def _forget() -> None:
    """A fork copies the calling thread alone."""
    global _workers
    _workers = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
