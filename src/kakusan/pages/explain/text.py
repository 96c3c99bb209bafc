"""The explanation as text for a terminal: thirteen equations in their order, in symbols and in numbers."""

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

from kakusan.pages.explain.content import Story
from kakusan.pages.explain.equation import Check, Equation, names_in
from kakusan.pages.explain.equations import CHAPTERS, EQUATIONS
from kakusan.pages.explain.typeset import numbers_in, plain

WIDEST = 96
INDENT = 5
MOST_PIXELS = 24
"""Pixels of a picture's side: three pictures fit in 80 columns."""


def show(story: Story, to: Console) -> None:
    """Print the explanation; on a console without colours, without them, without pictures and control codes."""
    to.print(Text("Diffusion in thirteen equations", style="bold"))
    to.print()
    for label, value in (*story.facts.items(), ("t", f"{story.t:,} of {story.T:,}")):
        to.print(Text.assemble((f"{label:<10}", "dim"), value))
    for words in (words_of(story.remark, story), *(f"note: {warning}" for warning in story.warnings)):
        if words:
            to.print()
            _paragraph(to, words)
    if story.pixels and to.is_terminal and not to.no_color and to.color_system in ("256", "truecolor"):
        to.print()
        to.print(pictures(story))
    for chapter in CHAPTERS:
        to.print()
        to.print(Text.assemble((chapter.title, "bold"), f"  {chapter.term}"))
        _paragraph(to, words_of(chapter.words, story))
        for equation in chapter.equations:
            to.print()
            _equation(equation, story, to)


def _equation(equation: Equation, story: Story, to: Console) -> None:
    to.print(Text.assemble((f"{equation.sign:>4} ", "dim"), (equation.title, "bold"), f"  {equation.term}"))
    for line in equation.symbols:
        for row in broken(line, story, _width(to) - INDENT):
            _paragraph(to, row, INDENT, style="cyan")
    _numbers(equation, story, to)
    _paragraph(to, words_of(equation.words, story), INDENT)
    _checks(equation, story, to)
    if story.tells(names_in(equation.note)) and (note := words_of(equation.note, story)):
        _paragraph(to, note, INDENT)
    _paragraph(to, ", ".join(f"kakusan.{name}" for name in equation.functions), INDENT, style="dim")


def _checks(equation: Equation, story: Story, to: Console) -> None:
    """A sentence each; those that fail, at this t or at another stop, in red."""
    told = [check for check in equation.checks if story.tells([check.gap]) and story.holds(check)]
    words = [*["Identity, tested."] * equation.identity, *(_compared(check, story) for check in told)]
    if words:
        _paragraph(to, " ".join(words), INDENT)
    for check in equation.checks:
        if not story.holds(check):
            _paragraph(to, _denied(check, story), INDENT, style="bold red")


def _compared(check: Check, story: Story) -> str:
    return f"{words_of(check.words, story)} {story.text(check.gap)}."


def _denied(check: Check, story: Story) -> str:
    """The same of a check that fails, with the difference where it is largest."""
    return f"This does not hold{story.where(check)}. {words_of(check.words, story)} {story.largest(check)}."


def _numbers(equation: Equation, story: Story, to: Console) -> None:
    """The formulas in numbers; "t = 500:" stands before those that depend on t."""
    lines = [line for line in equation.numbers if story.tells(numbers_in(line))]
    names = {name for line in lines for name in numbers_in(line)}
    head = f"t = {story.t}:  " if names & set(story.now.numbers) else ""
    rows = [row for line in lines for row in broken(line, story, _width(to) - INDENT - len(head))]
    for place, row in enumerate(rows):
        _paragraph(to, row, INDENT + bool(place) * len(head), head="" if place else head, style="green")


def _paragraph(to: Console, words: str, indent: int = 0, *, head: str = "", style: str = "") -> None:
    """Words, wrapped and indented, without spaces at the ends of lines."""
    for line in Text(head + words, style=style).wrap(to, _width(to) - indent):
        line.rstrip()
        line.pad_left(indent)
        to.print(line, soft_wrap=True)


def _width(to: Console) -> int:
    return min(to.width, WIDEST)


def words_of(text: str, story: Story) -> str:
    """Words with their $formulas$ in plain letters, and their {numbers} and {notes}."""

    def put(found: re.Match[str]) -> str:
        tex, name = found.groups()
        if tex is not None:
            return plain(tex, story.text)
        return words_of(story.notes[name], story) if name in story.notes else story.text(name)

    return re.sub(r"\$([^$]+)\$|\{(\w+)\}", put, text).strip()


def broken(tex: str, story: Story, room: int) -> list[str]:
    """A formula in as many rows as it needs, broken where "&" allows it."""
    rows: list[str] = []
    for piece in tex.split("&"):
        text = plain(piece.strip(), story.text)
        if rows and cell_len(f"{rows[-1]} {text}") <= room:
            rows[-1] = f"{rows[-1]} {text}"
        else:
            rows.append("  " * bool(rows) + text)
    return rows


def pictures(story: Story) -> Text:
    """The image, in noise, and as it is guessed, side by side: two pixels a character, the upper half and the lower."""
    small = [_reduced(story.pixels[name]) for name in ("x_0", "x_t", "guess")]
    names = ("x_0", f"x_{story.t}", plain(r"\hat x_0"))
    lines = []
    for row in range(0, small[0].shape[0], 2):
        line = Text("     ")
        for picture in small:
            for upper, lower in zip(picture[row], picture[min(row + 1, len(picture) - 1)], strict=True):
                line.append("▀", Style(color=_colour(upper), bgcolor=_colour(lower)))
            line.append("   ")
        lines.append(line)
    width = small[0].shape[1] + 3
    caption = "     " + "".join(name + " " * (width - cell_len(name)) for name in names)
    return Text("\n").join([*lines, Text(caption.rstrip(), style="dim")])


def _reduced(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Every second, third, ... pixel of a large one, in three channels."""
    step = -(-max(picture.shape[:2]) // MOST_PIXELS)
    small = picture[::step, ::step]
    return small.repeat(3, axis=2) if small.shape[2] == 1 else small


def _colour(pixel: NDArray[np.uint8]) -> Color:
    red, green, blue = (int(value) for value in pixel)
    return Color.from_rgb(red, green, blue)


def as_json(story: Story) -> dict[str, Any]:
    """The same for programs: the equations with their formulas, and the numbers of this t; null where there is none."""
    numbers = {**story.now.numbers, **story.always}
    return {
        "t": story.t,
        "T": story.T,
        "facts": dict(story.facts),
        "equations": [_equation_json(equation, story) for equation in EQUATIONS],
        "numbers": {name: _finite(value) for name, value in numbers.items()},
        "failed": list(failed(story)),
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def failed(story: Story) -> tuple[str, ...]:
    """The names of the checks whose sides differ, at any stop: none, unless a function is wrong."""
    checks = (check for equation in EQUATIONS for check in equation.checks)
    return tuple(check.gap for check in checks if not story.holds(check))


def _equation_json(equation: Equation, story: Story) -> dict[str, Any]:
    names = {name.removesuffix("()") for line in equation.numbers for name in numbers_in(line)}
    return {
        "number": equation.number,
        "name": equation.name or None,
        "title": equation.title,
        "formula": [_joined(line, story) for line in equation.symbols],
        "in_numbers": [_joined(line, story) for line in equation.numbers],
        "numbers": sorted(names),
        "identity": equation.identity,
        "checks": [
            {"gap": check.gap, "compared": check.words, "holds": story.holds(check)}
            for check in equation.checks
        ],
        "functions": [f"kakusan.{name}" for name in equation.functions],
    }


def _joined(tex: str, story: Story) -> str:
    return " ".join(broken(tex, story, room=10**6))
