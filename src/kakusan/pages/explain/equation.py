"""An equation for the terminal and the page: words, symbols, numbers, pictures, checks and the names of functions.

Formulas are in the TeX of `formula`; "&" marks where a line may be broken. Words may hold $formulas$ and {names} of
numbers and notes; {who} is the denoiser: "the network", or "the exact denoiser".
"""

import math
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class View:
    """A picture that stands in an equation for its symbol."""

    name: str
    symbol: str


@dataclass(frozen=True)
class Check:
    """Two sides that are computed anew and must agree."""

    words: str
    """A sentence on what was compared, which the difference ends."""
    gap: str
    """The name of the difference."""
    most: float
    """Its largest absolute value: the rounding of float64, or the error of an integral; none for a bound."""
    is_bound: bool = False
    """Whether one side is a bound of the other: the difference may be large, and not below 0."""

    def holds(self, gap: float | None) -> bool:
        """Whether the sides agree; None says that there is nothing to compare, and holds."""
        return self.size(gap) <= self.most

    def size(self, gap: float | None) -> float:
        """How far apart the sides are, the wrong way for a bound: endless where nan or inf came out, -inf for None."""
        if gap is None:
            return -math.inf
        if not math.isfinite(gap):
            return math.inf
        return -gap if self.is_bound else abs(gap)


@dataclass(frozen=True, kw_only=True)
class Equation:
    """One equation, or a section beyond the thirteen, which has a name in place of a number.

    `numbers` are its formulas again, with the numbers of this t in place of the symbols.
    """

    number: int | None = None
    name: str = ""
    """Of a section, for links: "score"."""
    title: str
    term: str
    """The same in Japanese."""
    words: str
    symbols: tuple[str, ...]
    numbers: tuple[str, ...]
    functions: tuple[str, ...]
    """The functions that compute it, below `kakusan`; for an identity, those that compute both sides."""
    identity: bool = False
    """Whether it defines nothing: it says that two sides agree."""
    checks: tuple[Check, ...] = ()
    """The checks of the functions named here, made anew for this page."""
    picture: tuple[View | str, ...] = ()
    """The equation in pictures, with formulas between them."""
    chart: str = ""
    caption: str = ""
    """The caption of the picture or the chart, where there is one."""
    note: str = ""
    """One more sentence, about the numbers."""

    @property
    def anchor(self) -> str:
        """The id of its place on the page."""
        return self.name if self.number is None else f"eq-{self.number}"

    @property
    def sign(self) -> str:
        """The sign that stands before its title: "(7)", or that of a section."""
        return "§" if self.number is None else f"({self.number})"


@dataclass(frozen=True)
class Chapter:
    title: str
    term: str
    words: str
    equations: tuple[Equation, ...]


def names_in(words: str) -> tuple[str, ...]:
    """The {names} of the numbers and notes in words."""
    return tuple(re.findall(r"\{(\w+)\}", re.sub(r"\$[^$]*\$", "", words)))
