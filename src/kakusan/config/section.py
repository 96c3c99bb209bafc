"""The base of all sections of the settings: frozen fields, with their range and their choice beside them.

`Range` bounds a number. `Of` says that a field is an option of one choice among several, such as sigma_min of the path
edm: then it is shown, written and accepted with that choice alone. `Table` says where the values of a choice stand;
one that is not declared with the setting brings its own fields as options (`config/own_options.py`).
"""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from functools import cache
from importlib import import_module
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeAlias, TypeVar, get_args, get_type_hints

from kakusan.errors import SettingsError

AUTO = "auto"
Auto: TypeAlias = Literal["auto"]

Value = TypeVar("Value", int, float)
Given = TypeVar("Given")
Mark = TypeVar("Mark")


class Range(NamedTuple):
    """The least and the greatest value of a setting."""

    low: float
    high: float


class Of(NamedTuple):
    """The choice that an option belongs to: the field that makes it, and those of its values that have the option."""

    choice: str
    kinds: tuple[str, ...]
    called: str = ""
    """The name of the option in the chosen part, where that is another one."""


class Table(NamedTuple):
    """The table of the values of a choice, by their names. It is read only for names that are not declared with the
    setting: most tables need torch, which takes a second to import, and --help answers at once."""

    place: str
    """"module:NAME"."""
    declared: tuple[str, ...]
    """Those whose options are fields of the settings."""
    has_options: bool = True

    def entries(self) -> Mapping[str, Any]:
        """All values by their names."""
        module, _, name = self.place.partition(":")
        table: Mapping[str, Any] = getattr(import_module(module), name)
        return table


def named(table: Mapping[str, Any], name: str, setting: str) -> Any:
    """The entry of this name. Raises SettingsError with those there are."""
    if name not in table:
        near = difflib.get_close_matches(name.lower(), table, n=1)
        raise SettingsError(
            f"{setting} knows no {name!r}",
            *[f"did you mean {each}?" for each in near],
            f"there are: {', '.join(table)}",
        )
    return table[name]


def answered(value: Value | Auto) -> Value:
    """The number that a setting's "auto" came to."""
    assert value != "auto"
    return value


def given(value: Given | Auto) -> Given | None:
    """The value of a setting, or None where it is "auto"."""
    return None if value == "auto" else value


def _marks(section: type, kind: type[Mark]) -> dict[str, Mark]:
    """The marks of one kind beside the fields, by field name."""
    hints = get_type_hints(section, include_extras=True)
    return {name: mark for name, hint in hints.items() for mark in get_args(hint) if isinstance(mark, kind)}


@cache
def ranges(section: type) -> dict[str, Range]:
    """The ranges of the numbers of a section, by field name."""
    return _marks(section, Range)


@cache
def options(section: type) -> dict[str, Of]:
    """The fields of a section that belong to a choice."""
    return _marks(section, Of)


@cache
def tables(section: type) -> dict[str, Table]:
    """The choices of a section whose values stand in a table."""
    return _marks(section, Table)


@cache
def defaults(section: type) -> dict[str, Any]:
    """The values of fields that were not chosen."""
    return {each.name: each.default for each in fields(section) if each.default is not MISSING}


@dataclass(frozen=True)
class Section:
    """A part of the settings. Raises SettingsError for the first value that is out of its range."""

    title: ClassVar[str] = ""
    """Its name in files and flags; by default that of the class."""

    def __init_subclass__(cls) -> None:
        cls.title = cls.title or cls.__name__.removesuffix("Settings").lower()

    @property
    def _type(self) -> type:
        return type(self)

    def __post_init__(self) -> None:
        for name, (low, high) in ranges(self._type).items():
            value = getattr(self, name)
            if value != AUTO and not low <= value <= high:
                raise SettingsError(f"{self.title}.{name} must be {low:g} to {high:g}, not {value}")

    def foreign(self) -> dict[str, Of]:
        """The options of what was not chosen, and what they belong to. A choice still open has all of its options."""
        belonging = {name: self._lacking(of) for name, of in options(self._type).items()}
        return {name: of for name, of in belonging.items() if of is not None}

    def _lacking(self, of: Of) -> Of | None:
        """The choice on which an option fails: its own, or one that this choice is an option of."""
        outer = options(self._type).get(of.choice)
        if outer is not None and (lacking := self._lacking(outer)) is not None:
            return lacking
        chosen = getattr(self, of.choice)
        return None if chosen in (*of.kinds, AUTO) else of

    def of(self, choice: str) -> dict[str, Any]:
        """The options of what was chosen, by the names that it has for them, save for those that are "auto"."""
        return {
            of.called or name: value
            for name, of in options(self._type).items()
            if of.choice == choice
            and getattr(self, choice) in of.kinds
            and (value := getattr(self, name)) != AUTO
        }

    def chosen_by_options(self, choice: str) -> str | None:
        """The first kind that has the first option of a choice which is not as usual; None where all are."""
        usual = defaults(self._type)
        belonging = ((name, of) for name, of in options(self._type).items() if of.choice == choice)
        return next((of.kinds[0] for name, of in belonging if getattr(self, name) != usual[name]), None)

    def yielded(self, chosen: Collection[str]) -> Self:
        """The same where options of what was not chosen are as usual, but for those that were chosen by name."""
        usual = defaults(self._type)
        free = {name: usual[name] for name in self.foreign() if f"{self.title}.{name}" not in chosen}
        return replace(self, **free)

    def require_own(self, chosen: Collection[str] | None = None) -> None:
        """Raises SettingsError for an option of what was not chosen: one that is chosen by its dotted name or, where it
        is not known what was, one that is not as usual."""
        usual = defaults(self._type)
        for name, of in self.foreign().items():
            is_usual = getattr(self, name) in (usual[name], "none")
            if f"{self.title}.{name}" in chosen if chosen is not None else not is_usual:
                raise SettingsError(
                    f"{self.title}.{name} belongs to {self.title}.{of.choice} {' and '.join(of.kinds)},"
                    f" not to {getattr(self, of.choice)}",
                    "leave one of them out",
                )
