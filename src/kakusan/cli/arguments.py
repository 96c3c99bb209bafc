"""Argument parsing: dataclasses to flags, with the help text from their docstrings."""

import sys
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

Command = TypeVar("Command")


def parse(
    kind: type[Command],
    arguments: Sequence[str],
    prog: str,
    examples: Sequence[str],
    default: Command | None = None,
) -> Command:
    """The command of these arguments; exits with code 2, after saying why, if they are none."""
    text = "\n".join(("examples:", *(f"  {line}" for line in examples)))
    description = f"{(kind.__doc__ or '').strip()}\n\n{text}"
    options: dict[str, Any] = {} if default is None else {"default": default}
    parsed: Command = tyro.cli(
        kind,
        args=list(arguments),
        prog=f"kakusan {prog}",
        description=description,
        config=(tyro.conf.DisallowNone,),
        **options,
    )
    return parsed


def peek(arguments: Sequence[str], flag: str) -> str | None:
    """The value of a flag before the real parsing, since other defaults depend on it."""
    for i, argument in enumerate(arguments):
        if argument == flag and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2]
    return None


def first_positional(arguments: Sequence[str]) -> str | None:
    """The word that stands first, if the command line begins with one."""
    return arguments[0] if arguments and not arguments[0].startswith("-") else None


def on_terminal() -> bool:
    """Whether somebody is watching."""
    return sys.stderr.isatty()
