"""The flags of a method that restores: its own dataclass fields, their help the docstrings below them."""

from collections.abc import Sequence
from dataclasses import MISSING, fields, make_dataclass
from typing import Annotated, Any, TypeVar, get_type_hints

import tyro

from kakusan.cli.arguments import parse
from kakusan.cli.choices import asks_for_help, value_of
from kakusan.config.documented import summary
from kakusan.errors import SettingsError

Command = TypeVar("Command")


def parse_with_method(
    command: type[Command], arguments: Sequence[str], prog: str, examples: Sequence[str], usual: str
) -> Command:
    """The command of these arguments, with the options of the method that they name, or of the usual one.

    Raises SettingsError as `parse` does, for a method that there is not, and for a flag that only others have.
    """
    name = value_of("--method", arguments)
    chosen = "" if name is None else f"--method {name}"
    return parse(_with_method(command, arguments, usual), arguments, prog, examples, kind_chosen=chosen)


def _with_method(command: type[Command], arguments: Sequence[str], usual: str) -> type[Command]:
    name = value_of("--method", arguments)
    if name is None and asks_for_help(arguments):
        return command
    from kakusan.config.section import named
    from kakusan.posterior import METHODS

    name = name or usual
    kind = named(METHODS, name, "--method")
    own = own_options(kind)
    _refuse_others(name, [*own], arguments)
    _refuse_a_sampler(name, kind, arguments)
    hints = get_type_hints(kind, include_extras=True)
    common = set(command.__dataclass_fields__)  # type: ignore[attr-defined]
    flags: list[Any] = [
        (each, Annotated[hints[each] | None, tyro.conf.arg(help=f"Of {name}; default: {usually}.")], None)
        for each, usually in own.items()
        if each not in common
    ]
    words = f"There are: {', '.join(METHODS)}. {summary(kind)}"
    flags.append(("method", Annotated[str, tyro.conf.arg(help=words)], name))
    return make_dataclass(
        command.__name__, flags, bases=(command,), frozen=True, namespace={"__doc__": command.__doc__}
    )


def own_options(kind: type[Any]) -> dict[str, Any]:
    """The options of a method beside its sampler, with their defaults."""
    return {
        field.name: field.default
        for field in fields(kind)
        if field.name != "sampler" and field.default is not MISSING
    }


def options_in(command: object, name: str) -> dict[str, Any]:
    """The method's own options in a command of `parse_with_method`; None where one is not given."""
    from kakusan.posterior import METHODS

    return {each: getattr(command, each) for each in own_options(METHODS[name]) if each != "steps"}


def _refuse_others(name: str, own: Sequence[str], arguments: Sequence[str]) -> None:
    from kakusan.posterior import METHODS

    for argument in arguments:
        flag = argument.partition("=")[0]
        option = flag.removeprefix("--").replace("-", "_")
        having = [
            other for other, kind in METHODS.items() if option in own_options(kind) and option != "steps"
        ]
        if flag.startswith("--") and having and option not in own:
            raise SettingsError(
                f"the method {name} has no {flag}", *(f"it belongs to --method {other}" for other in having)
            )


def _refuse_a_sampler(name: str, kind: type[Any], arguments: Sequence[str]) -> None:
    """Flags of a walk with a sampler, for a method that has a way of its own."""
    own = own_options(kind)
    if any(field.name == "sampler" for field in fields(kind)):
        return
    for flag in ("--steps", "--sampler", "--spacing"):
        if value_of(flag, arguments) is not None and flag.removeprefix("--") not in own:
            names = [f"--{each.replace('_', '-')}" for each in own]
            length = [f"it is as long as {names[0]} says"] if own and flag == "--steps" else []
            raise SettingsError(
                f"the method {name} has no {flag}", *length, f"its options: {', '.join(names) or 'none'}"
            )
