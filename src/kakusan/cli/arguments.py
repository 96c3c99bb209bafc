"""Argument parsing: dataclasses to flags, with the help text from their docstrings."""

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
