"""What is seen while something runs: a live line on a terminal, plain lines elsewhere. All of it on stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from kakusan.data.dataset import Progress as Report

PLAIN_EVERY = 5.0
"""Seconds between two plain lines."""
PATIENCE = 2.0
"""Seconds that pass before plain progress is shown at all."""


def console() -> Console:
    """Where people look; figures for programs go to stdout."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


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


class _Figures(ProgressColumn):
    """What a task says of itself in its `figures` field."""

    def render(self, task: Task) -> Text:
        return Text(task.fields.get("figures", ""), style="dim")


class Bar:
    """One piece of work with a known length."""

    def __init__(self, title: str, total: float, to: Console) -> None:
        self._title, self._total, self._console = title, total, to
        self._began = self._shown = time.monotonic()
        self._progress: Progress | None = None
        if to.is_terminal:
            self._progress = Progress(
                SpinnerColumn("dots"),
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.percentage:>3.0f}%"),
                _Figures(),
                console=to,
                transient=True,
            )
            self._task = self._progress.add_task(title, total=total)
            self._progress.start()

    def at(self, done: float, figures: str = "") -> None:
        """Show how far the work has come."""
        if self._progress is not None:
            self._progress.update(self._task, completed=done, figures=figures)
            return
        now = time.monotonic()
        if now - self._shown >= PLAIN_EVERY or (done >= self._total and now - self._began > PATIENCE):
            self._shown = now
            self._console.print(f"{self._title}: {done / self._total:.0%} {figures}".rstrip(), markup=False)

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, markup=False)

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
def reading(to: Console, title: str = "reading the data") -> Iterator[Report]:
    """A progress function for whoever reads data; nothing is shown where nothing is reported."""
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
        self._line = ""
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
            pace = f"{speed:,.0f} images/s" if speed else ""
            self._line = f"loss {loss:.4f}, mean {self._mean:.4f}  {pace}"
        left = (time.monotonic() - self._began) / max(step - self._first, 1) * (self._steps - step)
        figures = f"step {step:,} of {self._steps:,}  {self._line}  {duration(left)} left  {memory_in_use()}"
        self._bar.at(step, figures)

    def say(self, text: str) -> None:
        (self._bar.say if self._bar else self._console.print)(text)

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def seconds(self) -> float:
        """Since the first step of this session."""
        return time.monotonic() - self._began
