"""Choices on the command line: of several kinds, the flags and the help of the one that is named."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, get_type_hints

import tyro

from kakusan.cli.arguments import mentioned
from kakusan.config.networks import NETWORKS, NetworkOptions, choose, having, purposes
from kakusan.config.own_options import extended
from kakusan.config.section import AUTO, Section, options, tables
from kakusan.config.settings import Settings, sections


def value_of(flag: str, arguments: Sequence[str]) -> str | None:
    """The value of a flag, the last time that it is given: --flag value, or --flag=value."""
    found = None
    for i, word in enumerate(arguments):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") == flag:
            found = value if equals else next(iter(arguments[i + 1 :]), None)
    return found


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Whether these are answered by a help text."""
    return not {"-h", "--help"}.isdisjoint(arguments)


def network_of(current: NetworkOptions, arguments: Sequence[str]) -> NetworkOptions:
    """The network that the flags choose, laid over the current one. Raises SettingsError for those of another kind."""
    kind = value_of("--network.kind", arguments)
    return choose(current, kind, _network_flags(arguments))


def first_network(arguments: Sequence[str]) -> NetworkOptions:
    """The same before preset and file are known: where the flags leave it open, the first kind that has them all."""
    flags = _network_flags(arguments)
    fitting = [network for network in NETWORKS.values() if network.names().issuperset(flags)]
    if value_of("--network.kind", arguments) in (None, AUTO) and fitting:
        return fitting[0]()
    return network_of(NetworkOptions(), arguments)


def _network_flags(arguments: Sequence[str]) -> list[str]:
    names = (argument.partition("=")[0].replace("-", "_") for argument in arguments)
    flags = (
        name.removeprefix("__network.").removeprefix("no_") for name in names if name.startswith("__network.")
    )
    return [flag for flag in dict.fromkeys(flags) if having(flag)]


def with_choices(settings: Settings, arguments: Sequence[str]) -> Settings:
    """The same with flags for the options of what the arguments choose: `extended`."""
    changed = {
        name: extended(section, _named(section, name, arguments)) for name, section in sections(settings)
    }
    return replace(settings, **changed)


def _named(section: Section, title: str, arguments: Sequence[str]) -> dict[str, str]:
    """The choices that the flags of a section make, of all that have options: name -> value."""
    kind: type = type(section)
    choices = {of.choice for of in options(kind).values()} | {*tables(kind)}
    values = {name: value_of(f"--{title}.{name.replace('_', '-')}", arguments) for name in choices}
    return {name: value for name, value in values.items() if value}


def settings_for_help(arguments: Sequence[str]) -> Settings:
    """Settings by default, but for the choices that the flags make; with the options of what is chosen alone."""
    settings = replace(Settings(), network=first_network(arguments))
    shown = {name: _shown(section, name, arguments) for name, section in sections(settings)}
    settings = replace(settings, **shown)
    settings.require_own(mentioned(arguments))
    return settings


def _shown(section: Section, title: str, arguments: Sequence[str]) -> Any:
    """The same in a type of its own, of which --help leaves out the options of what is not chosen."""
    named = _named(section, title, arguments)
    section = extended(replace(section, **named), {})
    kind: type = type(section)
    hints = get_type_hints(kind, include_extras=True)
    marked: dict[str, Any] = {name: Annotated[hints[name], tyro.conf.Suppress] for name in section.foreign()}
    for name, table in tables(kind).items():
        if named.get(name, AUTO) not in (AUTO, *table.declared):
            words = tyro.conf.arg(help=f"There are: {', '.join(table.entries())}.")
            marked[name] = Annotated[str, words]
    if isinstance(section, NetworkOptions):
        words = tyro.conf.arg(metavar="KIND", help=_kinds(), help_behavior_hint="(default: auto)")
        marked["kind"] = Annotated[str, words]
    values = {name: getattr(section, name) for name in marked}
    body = {"__annotations__": marked, "__doc__": kind.__doc__, "__module__": kind.__module__, **values}
    shown: Any = dataclass(frozen=True)(type(kind.__name__, (kind,), body))
    return shown(**vars(section))


def _kinds() -> str:
    """The help text of --network.kind: the purpose of each kind, and where its options are listed."""
    others = ", ".join(f"--network.kind {kind} --help" for kind in NETWORKS)
    return f"{'; '.join(purposes())}; auto: by the data, or by the options given. Options of each: {others}."
