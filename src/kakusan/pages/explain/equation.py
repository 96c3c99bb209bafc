"""An equation for the terminal and the page: words, symbols, numbers, pictures and the names of functions.

Formulas are in the TeX of `formula`; "&" marks where a line may be broken. Words may hold $formulas$ and {names} of
numbers and notes; {who} is the denoiser: "the network", or "the exact denoiser".
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class View:
    """A picture that stands in an equation for its symbol."""

    name: str
    symbol: str


@dataclass(frozen=True, kw_only=True)
class Equation:
    """One equation. `numbers` are its formulas again, with the numbers of this t in place of the symbols."""

    number: int
    title: str
    term: str
    """The same in Japanese."""
    words: str
    symbols: tuple[str, ...]
    numbers: tuple[str, ...]
    functions: tuple[str, ...]
    """The functions that compute it, below `kakusan`; for an identity, those that compute both sides."""
    agreement: tuple[str, str] | None = None
    """For an identity: what was compared, and the name of the difference."""
    picture: tuple[View | str, ...] = ()
    """The equation in pictures, with formulas between them."""
    chart: str = ""
    caption: str = ""
    """The caption of the picture or the chart, where there is one."""
    note: str = ""
    """One more sentence, about the numbers."""

    @property
    def identity(self) -> bool:
        return self.agreement is not None


@dataclass(frozen=True)
class Chapter:
    title: str
    term: str
    words: str
    equations: tuple[Equation, ...]


def names_in(words: str) -> tuple[str, ...]:
    """The {names} of the numbers and notes in words."""
    return tuple(re.findall(r"\{(\w+)\}", re.sub(r"\$[^$]*\$", "", words)))
