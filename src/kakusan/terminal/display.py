"""The display of work in progress: a live line on a terminal, plain lines elsewhere. All of it on stderr."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from kakusan.data.dataset import Progress as Report

PLAIN_EVERY = 5.0
"""Seconds between two plain lines."""
PATIENCE = 2.0
"""Seconds that pass before plain progress is shown at all."""
WIDEST_BAR, NARROWEST_BAR = 24, 6
AROUND = 9
"""Columns that the spinner, the percentage and four spaces take."""


def console() -> Console:
    """The console, on stderr; figures for programs go to stdout."""
    return Console(
        stderr=True, highlight=False, soft_wrap=True, force_jupyter=False
    )  # plain lines in a notebook


def duration(seconds: float) -> str:
    """0:05, 1:02:03."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def memory_in_use() -> str:
    """Peak memory of this process, and of the GPU if there is one in use."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB GPU"
    try:
        import resource
    except ImportError:  # Windows
        return ""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"{peak / (1e9 if sys.platform == 'darwin' else 1e6):.1f} GB"


def fitting(figures: Sequence[str], room: int) -> tuple[str, int]:
    """The first of several ways to say it that leaves room for a bar, and the width of that bar; else the last."""
    for words in figures:
        width = min(WIDEST_BAR, room - cell_len(words))
        if width >= NARROWEST_BAR:
            return words, width
    return figures[-1], NARROWEST_BAR


def tell(to: Console, text: str) -> None:
    """Print text as it is; on a terminal, lines end between words. Paths stay in one piece, to be copied."""
    to.print(text, markup=False, soft_wrap=not to.is_terminal, overflow="ignore", crop=False)


class _Figures(ProgressColumn):
    """The column with the `figures` field of a task."""

    def __init__(self) -> None:
        super().__init__(table_column=Column(no_wrap=True, overflow="ellipsis"))

    def render(self, task: Task) -> Text:
        return Text(task.fields.get("figures", ""), style="dim")


class Bar:
    """One piece of work with a known length."""

    def __init__(self, title: str, total: float, to: Console) -> None:
        self._title, self._total, self._console = title, total, to
        self._began = self._shown = time.monotonic()
        self._progress: Progress | None = None
        self._column = BarColumn(bar_width=WIDEST_BAR)
        if to.is_terminal:
            self._progress = Progress(
                SpinnerColumn("dots"),
                TextColumn("{task.description}"),
                self._column,
                TextColumn("{task.percentage:>3.0f}%"),
                _Figures(),
                console=to,
                transient=True,
            )
            self._task = self._progress.add_task(title, total=total)
            self._progress.start()

    def at(self, done: float, *figures: str) -> None:
        """Show how far the work has come. figures: what else to say; of several, the first that fits the line."""
        figures = figures or ("",)
        if self._progress is not None:
            room = self._console.width - AROUND - cell_len(self._title)
            words, self._column.bar_width = fitting(figures, room)
            self._progress.update(self._task, completed=done, figures=words)
            return
        now = time.monotonic()
        if now - self._shown >= PLAIN_EVERY or (done >= self._total and now - self._began > PATIENCE):
            self._shown = now
            tell(self._console, f"{self._title}: {done / self._total:.0%} {figures[0]}".rstrip())

    def say(self, text: str) -> None:
        """A line that stays."""
        tell(self._console, text)

    def stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()


@contextmanager
def bar(title: str, total: float, to: Console) -> Iterator[Bar]:
    """A bar while the block runs."""
    shown = Bar(title, total, to)
    try:
        yield shown
    finally:
        shown.stop()


@contextmanager
def bars(to: Console) -> Iterator[Callable[[float, str], None]]:
    """One bar for each piece of the work, with the time that is left."""
    shown: Bar | None = None
    what, begun = "", 0.0

    def show(done: float, work: str) -> None:
        nonlocal shown, what, begun
        if shown is None or work != what:
            if shown is not None:
                shown.stop()
            what, begun, shown = work, time.monotonic(), Bar(work, 1.0, to)
        left = (time.monotonic() - begun) / max(done, 1e-9) * (1 - done)
        shown.at(done, f"{duration(left)} left" if done else "")

    try:
        yield show
    finally:
        if shown is not None:
            shown.stop()


@contextmanager
def reading(to: Console, title: str = "reading the data") -> Iterator[Report]:
    """A progress function for reading data; nothing is shown where nothing is reported."""
    shown: list[Bar] = []

    def report(done: int, total: int) -> None:
        if not shown:
            shown.append(Bar(title, max(total, 1), to))
        shown[0].at(done, f"{done:,} of {total:,}")

    try:
        yield report
    finally:
        for each in shown:
            each.stop()


class TrainingDisplay:
    """Step, loss, its moving mean, images a second, time left and memory, from the events of a training."""

    def __init__(self, to: Console) -> None:
        self._console = to
        self._bar: Bar | None = None
        self._mean: float | None = None
        self._loss = self._pace = ""
        self._steps = 0
        self._first = 0
        self._began = time.monotonic()
        self.trained = False

    def began(self, step: int, steps: int, mean: float | None) -> None:
        self._steps, self._first, self._mean = steps, step, mean
        self._began = time.monotonic()
        self._bar = Bar("training", steps, self._console)

    def stepped(self, step: int, line: dict[str, Any] | None) -> None:
        assert self._bar is not None
        self.trained = True
        if line is not None:
            loss = line["loss"]
            self._mean = loss if self._mean is None else 0.9 * self._mean + 0.1 * loss
            speed = line["images_per_second"]
            self._loss, self._pace = f"loss {loss:.4f}", f"{speed:,.0f} images/s" if speed else ""
        left = (time.monotonic() - self._began) / max(step - self._first, 1) * (self._steps - step)
        self._bar.at(step, *self._ways_to_say(f"step {step:,} of {self._steps:,}", f"{duration(left)} left"))

    def turned(self, step: int, steps: int) -> None:
        """It goes on from another step, perhaps one that it has shown already, to another last one."""
        self._first, self._steps = min(self._first, step), steps

    def _ways_to_say(self, step: str, left: str) -> Iterator[str]:
        """From all figures to few: without the mean, then without memory, pace and loss."""
        mean = f"{self._loss}, mean {self._mean:.4f}" if self._loss else ""
        for parts in (
            (step, mean, self._pace, left, memory_in_use()),
            (step, self._loss, self._pace, left, memory_in_use()),
            (step, self._loss, self._pace, left),
            (step, self._loss, left),
            (step, left),
        ):
            yield "  ".join(filter(None, parts))

    def say(self, text: str) -> None:
        """A line that stays."""
        tell(self._console, text)

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def seconds(self) -> float:
        """Since the first step of this session."""
        return time.monotonic() - self._began
