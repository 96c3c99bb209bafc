"""The content of an explanation: plain numbers, words and pictures as text, put together by `gather`."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kakusan.pages.explain.equation import Check
from kakusan.pages.explain.numbers import careful, is_told, shown


@dataclass(frozen=True)
class Bell:
    """A Gaussian in one dimension."""

    mean: float
    deviation: float


@dataclass(frozen=True)
class BayesBells:
    """(6) for one pixel, as functions of x_{t-1}: where x_t may have come from, where the image was likely to be,
    and both together. None at t = 1, where the answer is a point.
    """

    step: Bell
    prior: Bell
    posterior: Bell


@dataclass(frozen=True)
class Curves:
    """The curves of guidance: guesses of x_0 over x_t from -reach to reach, one for each weight."""

    weights: tuple[float, ...]
    reach: float
    nodes: int


CURVES = Curves(weights=(0.0, 1.0, 3.0), reach=2.5, nodes=41)


@dataclass(frozen=True, kw_only=True)
class Stop:
    """One place of the slider: all that depends on t."""

    t: int
    numbers: Mapping[str, float | None]
    """None: there is no such number at this t."""
    pictures: Mapping[str, str]
    """As `drawing` writes them."""
    notes: Mapping[str, str]
    bells: BayesBells | None
    guesses: tuple[tuple[float, ...], ...]
    """As `CURVES` says."""
    is_answered: bool = True
    """The denoiser answered finite numbers here."""


@dataclass(frozen=True, kw_only=True)
class Story:
    """The whole explanation. Strings may come from anywhere: the page escapes them."""

    image: str
    """The name of the image: a character, a number."""
    who: str
    """The denoiser in a sentence: "the network"."""
    facts: Mapping[str, str]
    remark: str
    warnings: tuple[str, ...]
    is_points: bool
    shape: tuple[int, int]
    """Height and width of a picture."""
    t: int
    T: int
    stops: tuple[Stop, ...]
    always: Mapping[str, float | None]
    """The numbers that are the same at every t."""
    notes: Mapping[str, str]
    pictures: Mapping[str, str]
    alpha_bar: tuple[float, ...]
    """The whole table, from t = 0."""
    pixels: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    """x_0, x_t and the guess at the asked t, (height, width, 1 or 3), for a terminal; empty for points."""

    @property
    def asked(self) -> int:
        """The place of the asked t among the stops."""
        return [stop.t for stop in self.stops].index(self.t)

    @property
    def unanswered(self) -> tuple[int, ...]:
        """Times at which the denoiser answered nan or inf."""
        return tuple(stop.t for stop in self.stops if not stop.is_answered)

    @property
    def now(self) -> Stop:
        """The stop of the asked t."""
        return self.stops[self.asked]

    def text(self, name: str) -> str:
        """A number or a note, as it is read at the asked t; "name()" is a number in parentheses if negative."""
        return self.text_at(self.now, name)

    def text_at(self, stop: Stop, name: str) -> str:
        """The same at any stop."""
        for words in (stop.notes, self.notes, {"who": self.who}):
            if name in words:
                return words[name]
        written = careful if name.endswith("()") else shown
        bare = name.removesuffix("()")
        return written(stop.numbers[bare] if bare in stop.numbers else self.always[bare])

    def number(self, name: str) -> float:
        """One that is the same at every t; nan where there is none."""
        value = self.always[name]
        return math.nan if value is None else value

    def holds(self, check: Check) -> bool:
        """Whether both sides agree, at every stop."""
        return check.holds(self.gap_at(self.worst(check), check))

    def worst(self, check: Check) -> Stop:
        """The stop where both sides differ most; the asked one where no other differs more."""
        return max((self.now, *self.stops), key=lambda stop: check.size(self.gap_at(stop, check)))

    def gap_at(self, stop: Stop, check: Check) -> float | None:
        """The difference of both sides at this stop, or that of all t."""
        numbers = stop.numbers if check.gap in stop.numbers else self.always
        return numbers[check.gap]

    def largest(self, check: Check) -> str:
        """The difference at the worst stop, as it is read."""
        return shown(self.gap_at(self.worst(check), check))

    def where(self, check: Check) -> str:
        """The words " at t = 3" for the worst stop; none where the difference has no t."""
        return "" if check.gap in self.always else f" at t = {self.worst(check).t:,}"

    def tells(self, names: Iterable[str]) -> bool:
        """Whether all these are finite numbers, or words, at the asked t: what is not is left out."""
        return all(is_told(self.text(name)) for name in names)
