"""The settings to and from TOML: from presets, files and flags to one tree."""

import dataclasses
import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from kakusan.config.networks import NETWORKS, choose
from kakusan.config.own_options import extended
from kakusan.config.section import Section
from kakusan.config.settings import BUDGETS, CHANGEABLE, DataSettings, Settings, sections
from kakusan.errors import SettingsError

OF_DATA_SETS = ("digits", "kanji", "swiss-roll", "two-moons")
"""Presets that belong to a data set of their name, which ships with kakusan: no other name chooses one by itself."""


@dataclass(frozen=True)
class Requested:
    """Settings, and the dotted names of those that the user chose; the rest come from presets, and may yield."""

    settings: Settings
    chosen: frozenset[str] = frozenset()


def flat(settings: Settings) -> dict[str, Any]:
    """Dotted names and values, in order."""
    return {
        f"{name}.{key}": value
        for name, section in sections(settings)
        for key, value in dataclasses.asdict(section).items()
    }


def usual_for(settings: Settings, base: Settings | None = None) -> dict[str, Any]:
    """The defaults of these settings, or their values in a base, by dotted names; with the options of their choices."""
    base = base or Settings()
    own = Settings(**{name: type(section)() for name, section in sections(settings)})
    return {**flat(own), **flat(base)}


def foreign(settings: Settings) -> frozenset[str]:
    """The dotted names of options that belong to what was not chosen."""
    return frozenset(f"{name}.{key}" for name, section in sections(settings) for key in section.foreign())


def known_names() -> frozenset[str]:
    """All dotted names that there are, the options of every kind of network among them."""
    of_networks = {f"network.{name}" for network in NETWORKS.values() for name in network.names()}
    return frozenset(flat(Settings())) | of_networks


def to_mapping(settings: Settings) -> dict[str, Any]:
    """Plain nested tables, ready for TOML; without the options of what was not chosen."""
    mapping: dict[str, dict[str, Any]] = {name: {} for name, _ in sections(settings)}
    others, usual = foreign(settings), usual_for(settings)
    for name, value in flat(settings).items():
        if name not in others or value != usual[name]:
            section, _, key = name.partition(".")
            mapping[section][key] = list(value) if isinstance(value, tuple) else value
    return mapping


def from_mapping(mapping: Mapping[str, Any], where: str, base: Settings | None = None) -> Settings:
    """Settings of nested tables laid over a base. Raises SettingsError on unknown keys and wrong types or values."""
    base = with_choices(with_network(base or Settings(), mapping.get("network"), f" in {where}"), mapping)
    merged = {name: dataclasses.asdict(section) for name, section in sections(base)}
    entries = list(_entries(mapping, merged, where))
    for section, name, value in entries:
        merged[section][name] = value
    names = {f"{section}.{name}" for section, name, value in entries if value != "auto"}
    for budget, other in (BUDGETS, BUDGETS[::-1]):  # the budget of this layer, not the one below it
        if budget in names and other not in names:
            merged["training"][other.partition(".")[2]] = "auto"
    return Settings(**{name: _section(type(of), name, merged[name], where) for name, of in sections(base)})


def with_network(settings: Settings, table: object, where: str = "") -> Settings:
    """The same with the kind of network that a table of its options chooses. Raises SettingsError: `choose`."""
    if not isinstance(table, Mapping) or not table:
        return settings
    kind = table.get("kind")
    network = choose(settings.network, None if kind is None else str(kind), [*table], where)
    return dataclasses.replace(settings, network=network)


def with_choices(settings: Settings, mapping: Mapping[str, Any]) -> Settings:
    """The same with the options of what nested tables choose, where settings.py does not declare them: `extended`."""
    tables = {name: table for name, table in mapping.items() if isinstance(table, Mapping)}
    changed = {name: extended(section, tables.get(name, {})) for name, section in sections(settings)}
    return dataclasses.replace(settings, **changed)


def _section(kind: type[Section], name: str, values: Mapping[str, Any], where: str) -> Any:
    """One of the parts, its values checked."""
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$.")
        setting = f"{name}.{place.rstrip('`')}" if place else "a setting"
        raise SettingsError(f"{setting} in {where}: {problem}") from error


def _entries(
    mapping: Mapping[str, Any], known: Mapping[str, Any], where: str
) -> Iterator[tuple[str, str, Any]]:
    for section, values in mapping.items():
        if section not in known:
            raise _unknown(section, known, where)
        if not isinstance(values, Mapping):
            advice = f"write [{section}] and its keys below"
            raise SettingsError(f"{section} in {where} is a section, not a value", advice)
        for name, value in values.items():
            if name not in known[section]:
                raise _unknown(f"{section}.{name}", known_names(), where)
            yield section, name, value


def _unknown(name: str, known: Any, where: str) -> SettingsError:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    advice = [f"did you mean {', '.join(near)}?"] if near else []
    return SettingsError(f"unknown setting {name} in {where}", *advice)


def with_values(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """The same settings with other values for these dotted names; options of a network choose its kind: `choose`."""
    tables: dict[str, dict[str, Any]] = {}
    for dotted, value in values.items():
        section, _, name = dotted.partition(".")
        tables.setdefault(section, {})[name] = value
    settings = with_choices(with_network(settings, tables.get("network")), tables)
    changed = {s: dataclasses.replace(getattr(settings, s), **table) for s, table in tables.items()}
    return dataclasses.replace(settings, **changed)


def presets() -> dict[str, str]:
    """The presets that ship with the package, and the text of each."""
    folder = resources.files("kakusan.config") / "presets"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    return {f.name.removesuffix(".toml"): f.read_text("utf-8") for f in files}


def from_preset(name: str, base: Settings | None = None) -> Settings:
    """The settings of a preset laid over a base. Raises SettingsError if there is none of this name."""
    known = presets()
    if name not in known:
        near = [f"did you mean {near}?" for near in difflib.get_close_matches(name, known, n=1, cutoff=0.4)]
        raise SettingsError(f"there is no preset {name!r}", *near, f"presets: {', '.join(known)}")
    return from_mapping(tomllib.loads(known[name]), f"preset {name}", base)


def from_file(path: Path, base: Settings | None = None) -> Settings:
    """The settings of a TOML file laid over a base. Raises SettingsError if it cannot be read."""
    try:
        mapping = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from error
    return from_mapping(mapping, str(path), base)


def settings_for(source: str, *, preset: str | None = None, file: Path | None = None) -> Settings:
    """The settings of a training on this source: the preset, then the file.

    preset: by default that of the data set that ships under this name; other data, whatever their file is called, start
    from the defaults, which follow from their shape. "none" starts there too. Raises SettingsError for what is unknown
    or out of range.
    """
    settings = Settings(data=DataSettings(source=source))
    if preset is None:
        preset = source if source in OF_DATA_SETS else "none"
    if preset != "none":
        settings = from_preset(preset, settings)
    return settings if file is None else from_file(file, settings)


def chosen_in(mapping: Mapping[str, Any]) -> frozenset[str]:
    """The dotted names that nested tables set, save for budgets: those are chosen on the command line only."""
    names = {f"{section}.{name}" for section, table in mapping.items() for name in table}
    return frozenset(names - set(BUDGETS))


def differences(asked: Requested, stored: Settings) -> dict[str, tuple[Any, Any]]:
    """The chosen values that differ from those of a run: name -> (asked, stored). "auto" asks for nothing."""
    wanted, had = flat(asked.settings), flat(stored)
    given = {f"network.{name}" for name in asked.settings.network.replaced}
    return {
        name: (wanted[name], had.get(name, "no such option"))
        for name in wanted
        if name in asked.chosen - given  # others stand in their place
        and not name.startswith(CHANGEABLE)
        and wanted[name] not in ("auto", had.get(name))
    }
