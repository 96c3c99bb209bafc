"""A finding, the answer to one question: a word, sentences, and the figures behind them."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Health(Enum):
    """The verdict of an answer on the run."""

    WELL = "well"
    MORE = "more"
    """It would gain by longer training."""
    FAULT = "fault"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Finding:
    """A question, and its answer."""

    question: str
    health: Health
    answer: str
    """In a word or two: "no", "not yet"."""
    sentences: tuple[str, ...]
    figures: dict[str, Any] = field(default_factory=dict)
    """As plain values for programs."""

    @property
    def text(self) -> str:
        """All sentences in one line."""
        return " ".join(self.sentences)

    def as_json(self) -> dict[str, Any]:
        about = {"question": self.question, "health": self.health.value, "answer": self.answer}
        return {**about, "text": self.text, "figures": self.figures}


@dataclass(frozen=True)
class Diagnosis:
    """The four findings of a run, and what they are about."""

    about: dict[str, Any]
    """The run, the step of its weights, how the samples were drawn."""
    broken: Finding
    done: Finding
    copies: Finding
    colours: Finding
    notes: tuple[str, ...] = ()
    """A measurement that could not be made, and the reason."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self.broken, self.done, self.copies, self.colours

    def __str__(self) -> str:
        return "\n".join(f"{each.question} {each.answer}: {each.text}" for each in self.findings)

    __repr__ = __str__

    def as_json(self) -> dict[str, Any]:
        names = ("broken", "done", "copies", "colours")
        found = {name: each.as_json() for name, each in zip(names, self.findings, strict=True)}
        return {**self.about, **found, "notes": list(self.notes)}
