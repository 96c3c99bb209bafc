"""Argument parsing: dataclasses to flags, with the help text from their docstrings."""

from collections.abc import Iterable, Sequence
from inspect import cleandoc
from typing import Any, TypeVar

import tyro

from kakusan.cli.mistakes import in_our_words
from kakusan.config.loading import known_names

Command = TypeVar("Command")


def parse(
    kind: type[Command],
    arguments: Sequence[str],
    prog: str,
    examples: Sequence[str],
    default: Command | None = None,
    kind_chosen: str = "",
) -> Command:
    """The command of these arguments. Raises SettingsError if they are none; --help prints, and exits.

    kind_chosen: the flag whose value decides which options there are, with that value.
    """
    text = "\n".join(("examples:", *(f"  {line}" for line in examples)))
    description = f"{cleandoc(kind.__doc__ or '')}\n\n{text}"
    options: dict[str, Any] = {} if default is None else {"default": default}
    example = " ".join(examples[0].partition("  ")[0].split())
    with in_our_words(kind, f"kakusan {prog}", example, f"kakusan {prog} {kind_chosen}".rstrip() + " --help"):
        parsed: Command = tyro.cli(
            kind,
            args=list(arguments),
            prog=f"kakusan {prog}",
            description=description,
            config=(tyro.conf.DisallowNone,),
            **options,
        )
    return parsed


def mentioned(arguments: Sequence[str], more: Iterable[str] = ()) -> frozenset[str]:
    """The dotted names of the settings that a command line chooses: --data.no-flip chooses data.flip.

    more: names that there are beside those known without torch.
    """
    flags = (
        argument.removeprefix("--").partition("=")[0] for argument in arguments if argument.startswith("--")
    )
    names = known_names().union(more)
    dotted = (flag.replace("-", "_").replace(".no_", ".") for flag in flags)
    return frozenset(name for name in dotted if name in names)
