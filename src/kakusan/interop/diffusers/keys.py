"""An untrusted configuration, read key by key: each value is checked, and keys that are not read are refused."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

from kakusan.config.networks.base import WIDEST
from kakusan.errors import ModelError, printable

Config: TypeAlias = Mapping[str, Any]

LONGEST = 64
"""Entries of a list, such as the levels of a network."""


@dataclass
class Keys:
    """A configuration, the keys read so far, and notes for the user on how it was read.

    All readers raise ModelError, with key and value, for a value that is not of their kind.
    """

    config: Config
    what: str
    asked: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def refuse(self, key: str, value: Any, why: str) -> NoReturn:
        """Raise the ModelError that names key and value."""
        raise ModelError(f"{brief(key)} = {shown(value)} of {self.what} is not supported", why)

    def take(self, key: str, default: Any) -> Any:
        """The value as it stands there, unchecked."""
        self.asked.add(key)
        return self.config.get(key, default)

    def done(self, silent: set[str]) -> None:
        """Check that all has been read. Raises ModelError for a key of which nothing is known."""
        for key in sorted(set(self.config) - self.asked - silent):
            why = "this key is not known here, so what it changes is not known either"
            self.refuse(key, self.config[key], why)

    def choice(self, key: str, default: Any, known: Sequence[Any]) -> Any:
        """One of the known values, of the very type."""
        value = self.take(key, default)
        if not any(type(value) is type(each) and value == each for each in known):
            self.refuse(key, value, f"known here: {', '.join(map(shown, known))}")
        return value

    def only(self, key: str, known: Any) -> None:
        """Raise ModelError for any value but the one known."""
        self.choice(key, known, (known,))

    def flag(self, key: str, *, default: bool) -> bool:
        return bool(self.choice(key, default, (True, False)))

    def count(self, key: str, default: int, most: int = WIDEST) -> int:
        value = self.take(key, default)
        if not is_count(value, most):
            self.refuse(key, value, f"it has to be a whole number, 1 to {most:,}")
        return int(value)

    def optional_count(self, key: str, default: int | None = None) -> int | None:
        """The same, or null."""
        return None if self.take(key, default) is None else self.count(key, default or 1)

    def number(self, key: str, default: float, within: tuple[float, float] | None = None) -> float:
        value = self.take(key, default)
        if not is_number(value):
            self.refuse(key, value, "it has to be a finite number")
        if within is not None and not within[0] <= value <= within[1]:
            self.refuse(key, value, f"it has to be {within[0]:g} to {within[1]:g}")
        return float(value)

    def counts(self, key: str, default: Sequence[int], longest: int = LONGEST) -> tuple[int, ...]:
        values = self._list(key, default, longest)
        if not all(is_count(value) for value in values):
            self.refuse(key, values, f"it has to be a list of whole numbers, 1 to {WIDEST:,}")
        return tuple(values)

    def texts(self, key: str, default: Sequence[str]) -> tuple[str, ...]:
        values = self._list(key, default)
        if not all(isinstance(value, str) for value in values):
            self.refuse(key, values, "it has to be a list of names")
        return tuple(values)

    def _list(self, key: str, default: Sequence[Any], longest: int = LONGEST) -> list[Any]:
        values = self.take(key, list(default))
        if not isinstance(values, list) or not 0 < len(values) <= longest:
            self.refuse(key, values, f"it has to be a list of 1 to {longest} values")
        return values


def is_count(value: Any, most: int = WIDEST) -> bool:
    """A whole number of at least 1, and no monster."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def is_number(value: Any) -> bool:
    """A finite number; JSON's 1 and 1.0 are one and the same."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 2**53 if isinstance(value, int) else math.isfinite(value)


def brief(text: str) -> str:
    """An untrusted string, made fit for a terminal: on one line, without control characters, of no great length."""
    return printable(text, 120)


def shown(value: Any) -> str:
    """A value as JSON has it, on one line of no great length."""
    text = {"None": "null", "True": "true", "False": "false"}.get(repr(value), repr(value))
    return text if len(text) <= 80 else f"{text[:77]}..."
