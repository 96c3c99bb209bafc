"""What stands on a terminal while something runs: one line, whatever its width, and no figure cut in two."""

import io
import re
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from kakusan.terminal import display
from kakusan.terminal.display import Bar, TrainingDisplay, fitting, tell

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
LINE = {"loss": 0.39451, "images_per_second": 854.3}


def clock(seconds: int) -> SimpleNamespace:
    """Time that goes on by so many seconds whenever it is asked for."""
    return SimpleNamespace(monotonic=count(0, seconds).__next__)


def frames(width: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The frames of a long training's live display, as a terminal of this width shows them, without its escapes."""
    monkeypatch.setattr(display, "memory_in_use", lambda: "10.5 GB")
    monkeypatch.setattr(display, "time", clock(900))
    out = io.StringIO()
    shown = TrainingDisplay(Console(file=out, force_terminal=True, width=width, color_system=None))
    shown.began(100, 12_345, 0.44)
    for step in (101, 1_234, 12_344):
        shown.stepped(step, LINE)
        assert shown._bar is not None
        assert shown._bar._progress is not None
        shown._bar._progress.refresh()
    shown.stop()
    return [line for line in ESCAPES.sub("", out.getvalue()).replace("\r", "\n").split("\n") if line.strip()]


@pytest.mark.parametrize("width", [50, 60, 72, 80, 100, 120, 200])
def test_the_live_line_of_a_training_is_one_line_of_whole_figures(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = frames(width, monkeypatch)
    assert all("training" in line and len(line) <= width for line in shown)
    last = next(line for line in reversed(shown) if "12,344" in line)
    assert "step 12,344 of 12,345" in last
    assert last.rstrip().endswith(("left", "GB"))
    assert ("mean 0.4" in last) == (width >= 120)
    assert ("loss 0.3945" in last) == (width >= 72)
    assert ("10.5 GB" in last) == (width >= 100)
    assert "…" not in last


def test_the_bar_shrinks_before_figures_are_left_out() -> None:
    assert fitting(["a" * 30, "b" * 10], 60) == ("a" * 30, 24)
    assert fitting(["a" * 30, "b" * 10], 40) == ("a" * 30, 10)
    assert fitting(["a" * 30, "b" * 10], 35) == ("b" * 10, 24)
    assert fitting(["a" * 30, "b" * 10], 12) == ("b" * 10, 6)


@pytest.mark.parametrize("width", [40, 80])
def test_lines_on_a_terminal_end_between_words_and_paths_stay_whole(width: int) -> None:
    out = io.StringIO()
    text = (
        "runs/x: 603,521 parameters, 1,618 images (179 more held out), 4,000 steps, from the start of "
        + "p" * 90
    )
    tell(Console(file=out, force_terminal=True, width=width, highlight=False), text)
    assert out.getvalue().split() == text.split()
    assert all(len(line) <= width for line in out.getvalue().splitlines()[:-1])


def test_a_log_file_gets_whole_lines() -> None:
    out = io.StringIO()
    tell(Console(file=out, width=40), "word " * 30)
    assert out.getvalue() == "word " * 30 + "\n"


def test_plain_progress_says_all_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "time", clock(10))
    out = io.StringIO()
    shown: Any = Bar("sampling", 10, Console(file=out, width=40))
    shown.at(5, "all of the figures there are", "few")
    shown.stop()
    assert out.getvalue() == "sampling: 50% all of the figures there are\n"
