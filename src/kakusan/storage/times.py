"""times.json of a run: times of few-step walks that were tuned for it, and the errors by time behind others.

Behind entropic times, which need a few errors, and behind the best steps of the bound, which need them all.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kakusan.errors import RunError
from kakusan.storage import durable
from kakusan.storage.manifest import json_bytes

TIMES = "times.json"
PATIENCE = 10.0
"""Seconds to wait for another program that writes."""
REMAKE = "remove it; kakusan tune makes another"


@dataclass(frozen=True)
class TunedTimes:
    """Times that were tuned for a sampler, and what came of it."""

    sampler: str
    options: dict[str, Any]
    """Of the sampler, as its flags are."""
    calls: int
    at: tuple[float, ...]
    step: int
    """Of the weights."""
    error: float
    """Root mean square distance of endpoints from those of a fine walk."""
    before: float
    """The same at the times that the tuning began with."""
    samples: int

    def __post_init__(self) -> None:
        numbers = (*self.at, self.error, self.before, self.step, self.samples)
        if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
            raise TypeError("times and errors are numbers")
        if (
            len(self.at) != self.calls
            or not isinstance(self.options, dict)
            or not isinstance(self.sampler, str)
        ):
            raise TypeError("there are as many times as calls, of a sampler with its options")


@dataclass(frozen=True)
class ErrorsByTime:
    """Mean square error of the prediction of x_0 per value, at some times."""

    times: tuple[float, ...]
    errors: tuple[float, ...]
    step: int
    samples: int

    def __post_init__(self) -> None:
        numbers = (*self.times, *self.errors, self.step, self.samples)
        if len(self.times) != len(self.errors) or not all(
            isinstance(number, int | float) for number in numbers
        ):
            raise TypeError("there are as many errors as times, and all are numbers")


@dataclass(frozen=True)
class StepErrors:
    """Of which the terms of all pairs of times follow, at t = 1, ..., T each."""

    errors: tuple[float, ...]
    """Mean square error of the prediction of x_0 per value."""
    decoders: tuple[float, ...]
    """-log2 p(x_0 | x_t) per value, of a step from t to the data; empty where the data are real."""
    variance: str
    """Of the steps to the data."""
    step: int
    """Of the weights."""
    samples: int

    def __post_init__(self) -> None:
        numbers = (*self.errors, *self.decoders, self.step, self.samples)
        if len(self.decoders) not in (0, len(self.errors)) or not all(
            isinstance(number, int | float) and math.isfinite(number) for number in numbers
        ):
            raise TypeError("there are as many decoders as errors, or none, and all are numbers")


class TimesFile:
    """The file. Its writer replaces it whole."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / TIMES

    def tuned(self) -> list[TunedTimes]:
        """All that were tuned, the newest last. Raises RunError where the file cannot be read."""
        return self._parsed("tuned", lambda entry: TunedTimes(**{**entry, "at": tuple(entry["at"])}))

    def errors(self) -> ErrorsByTime | None:
        """As measured last."""
        found = self._parsed(
            "errors",
            lambda entry: ErrorsByTime(
                **{**entry, "times": tuple(entry["times"]), "errors": tuple(entry["errors"])}
            ),
        )
        return found[-1] if found else None

    def step_errors(self) -> StepErrors | None:
        """As measured last, for the best steps."""
        found = self._parsed(
            "steps",
            lambda entry: StepErrors(
                **{**entry, "errors": tuple(entry["errors"]), "decoders": tuple(entry["decoders"])}
            ),
        )
        return found[-1] if found else None

    def add(self, new: TunedTimes) -> None:
        """Store it in the place of others of the same sampler, options and number of calls."""
        with self._alone():
            kept = [asdict(old) for old in self.tuned() if _what(old) != _what(new)]
            self._write({**self._content(), "tuned": [*kept, asdict(new)]})

    def keep_errors(self, new: ErrorsByTime) -> None:
        """Store these in the place of the last."""
        with self._alone():
            self._write({**self._content(), "errors": [asdict(new)]})

    def keep_step_errors(self, new: StepErrors) -> None:
        """Store these in the place of the last."""
        with self._alone():
            self._write({**self._content(), "steps": [asdict(new)]})

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """A context in which no other program writes the file."""
        try:
            with FileLock(self.path.with_suffix(".lock"), timeout=PATIENCE):
                yield
        except (OSError, Timeout) as error:
            raise RunError(f"cannot lock {self.path}: {error}") from error

    def _parsed(self, name: str, parse: Callable[[Mapping[str, Any]], Any]) -> list[Any]:
        try:
            return [parse(entry) for entry in self._content().get(name, [])]
        except (TypeError, KeyError, AttributeError) as error:
            raise RunError(f"{self.path} is not as kakusan writes it", REMAKE) from error

    def _content(self) -> dict[str, Any]:
        if not self.path.exists():
            return {}
        try:
            return dict(json.loads(self.path.read_bytes()))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise RunError(f"{self.path} cannot be read: {error}", REMAKE) from error

    def _write(self, content: Mapping[str, Any]) -> None:
        with durable.os_errors_as_run_errors(f"cannot write {self.path}", self.path.parent):
            durable.atomic_write(self.path, json_bytes(dict(content)))


def _what(of: TunedTimes) -> tuple[Any, ...]:
    return of.sampler, sorted(of.options.items()), of.calls
