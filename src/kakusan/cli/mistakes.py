"""Errors of the argument parser, in the words of all other errors: subject first, then what to do."""

import difflib
import re
import typing
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any

import tyro

from kakusan.cli.instead import instead_of
from kakusan.config.networks import NETWORKS, NetworkOptions
from kakusan.errors import SettingsError

KINDS = {"INT": "a whole number", "FLOAT": "a number", "STR": "a word", "PATH": "a path"}


def in_our_words(kind: type, prog: str, example: str, help_command: str) -> AbstractContextManager[Any]:
    """While it lasts, a mistake that tyro finds is raised as a SettingsError; what is unknown here stays tyro's.

    tyro's hook is not part of its public face, so an event is known by its name, and without the hook there are boxes.
    """
    hook: Callable[..., AbstractContextManager[Any]] | None
    hook = getattr(import_module("tyro._errors"), "on_parse_error", None)
    if hook is None:
        return nullcontext()

    def translate(event: Any) -> None:
        error = _error(event, kind, prog, example)
        if error is not None:
            raise SettingsError(*error, f"see: {help_command}")

    context: AbstractContextManager[Any] = hook(translate)
    return context


def _error(event: Any, kind: type, prog: str, example: str) -> tuple[str, ...] | None:
    """The problem, and advice."""
    match type(event).__name__:
        case "UnrecognizedArgs":
            return unknown(event.tokens, kind, prog)
        case "MissingArgs":
            names = ", ".join(_name(missing.arg) for missing in event.missing_arguments)
            return f"{prog} needs {names}", f"such as: {example}"
        case "InvalidChoice":
            choices = ", ".join(sorted(choice for choice in event.choices if choice != "None"))
            return f"{_name(event.argument)} knows no {event.value!r}", f"there are: {choices}"
        case "BadValue" if event.reason == "too_few_values" and event.argument.is_positional():
            return f"{prog} needs {_name(event.argument)}", f"such as: {example}"
        case "BadValue" if event.reason == "too_few_values":
            return (f"{_name(event.argument)} needs {_wanted(event.argument)}",)
        case "InstantiationFailure" if event.argument is not None:
            return (f"{_name(event.argument)} takes {_wanted(event.argument)}{_given(event.message)}",)
        case _:
            return None


def _name(argument: Any) -> str:
    """The name of an argument as it is typed: DATA, or --steps."""
    return str(argument.lowered.metavar if argument.is_positional() else argument.lowered.name_or_flags[-1])


def _given(message: str) -> str:
    """The words typed, out of tyro's message: a list where several kinds were tried, else quoted at its end."""
    found = re.search(r"from \[(.*?)\]", message) or re.search(r"('[^']*')\W*$", message)
    return f", not {found[1]}" if found else ""


def _wanted(argument: Any) -> str:
    """The kind of value that is asked for: "a number or auto" for FLOAT|{auto}."""
    return " or ".join(_kind(part.strip("{}").split()) for part in str(argument.lowered.metavar).split("|"))


def _kind(words: list[str]) -> str:
    if len(words) > 1 and set(words) <= {"INT", "FLOAT"}:
        return f"{len(words)} {'whole numbers' if set(words) == {'INT'} else 'numbers'}"
    return KINDS.get(words[0], " ".join(words)) if len(words) == 1 else " ".join(words)


def unknown(tokens: list[str], kind: type, prog: str) -> tuple[str, ...]:
    """Problem and advice for an option that there is not, or for a word too many."""
    token = next((token for token in tokens if token.startswith("-")), tokens[0])
    if not token.startswith("-"):
        return (f"{prog} can do nothing with {token!r}",)
    flag = token.partition("=")[0]
    near = [f"did you mean {', '.join(found)}?"] if (found := _near(flag, [*flags_of(kind)])) else []
    elsewhere = instead_of(flag)
    return f"{prog} has no option {flag}", *([elsewhere] if elsewhere else near)


def _near(flag: str, known: list[str]) -> list[str]:
    """Flags that end in this name, else those of a similar one."""
    name = flag.lstrip("-").replace("_", "-")
    if exact := [f"--{one}" for one in known if one.rpartition(".")[2] == name]:
        return exact[:3]
    similar = difflib.get_close_matches(name, known, n=2, cutoff=0.7)
    ends = {one.rpartition(".")[2]: one for one in known}
    similar += [ends[end] for end in difflib.get_close_matches(name, ends, n=2, cutoff=0.75)]
    return [f"--{one}" for one in dict.fromkeys(similar)]


def flags_of(kind: Any, prefix: str = "") -> Iterator[str]:
    """The options of a command's dataclass, without their dashes; of a part of several kinds, those of all."""
    plain, annotated = typing.get_type_hints(kind), typing.get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        about = getattr(annotated[field.name], "__metadata__", ())
        if tyro.conf.Positional in about or tyro.conf.Suppress in about:
            continue
        name = next((word for each in about if (word := getattr(each, "name", None))), field.name)
        dotted = f"{prefix}{name.replace('_', '-')}"
        if is_dataclass(plain[field.name]):
            part = plain[field.name]
            kinds = (part, *NETWORKS.values()) if part is NetworkOptions else (part,)
            yield from dict.fromkeys(flag for each in kinds for flag in flags_of(each, f"{dotted}."))
        else:
            yield dotted
