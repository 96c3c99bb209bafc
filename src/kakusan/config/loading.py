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

from kakusan.config.settings import BUDGETS, CHANGEABLE, DataSettings, Settings
from kakusan.errors import SettingsError

OF_DATA_SETS = ("digits", "kanji", "swiss-roll", "two-moons")
"""Presets that belong to a data set of their name, which ships with kakusan: no other name chooses one by itself."""


@dataclass(frozen=True)
class Asked:
    """Settings, and the dotted names of those that somebody chose; the rest come from presets, and may yield."""

    settings: Settings
    chosen: frozenset[str] = frozenset()


def flat(settings: Settings) -> dict[str, Any]:
    """Dotted names and values, in order."""
    sections = dataclasses.asdict(settings)
    return {
        f"{section}.{name}": value for section, table in sections.items() for name, value in table.items()
    }


def to_mapping(settings: Settings) -> dict[str, Any]:
    """Plain nested tables, ready for TOML."""
    mapping = dataclasses.asdict(settings)
    return {s: {k: list(v) if isinstance(v, tuple) else v for k, v in t.items()} for s, t in mapping.items()}


def from_mapping(mapping: Mapping[str, Any], where: str, base: Settings | None = None) -> Settings:
    """Settings of nested tables laid over a base. Raises SettingsError on unknown keys and wrong types or values."""
    merged = to_mapping(base or Settings())
    entries = list(_entries(mapping, merged, where))
    for section, name, value in entries:
        merged[section][name] = value
    names = {f"{section}.{name}" for section, name, value in entries if value != "auto"}
    for budget, other in (BUDGETS, BUDGETS[::-1]):  # the budget of this layer, not the one below it
        if budget in names and other not in names:
            merged["training"][other.partition(".")[2]] = "auto"
    try:
        return msgspec.convert(merged, Settings)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$.")
        raise SettingsError(f"{place.rstrip('`') or 'a setting'} in {where}: {problem}") from error


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
                names = [f"{s}.{n}" for s, table in known.items() for n in table]
                raise _unknown(f"{section}.{name}", names, where)
            yield section, name, value


def _unknown(name: str, known: Any, where: str) -> SettingsError:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    advice = [f"did you mean {', '.join(near)}?"] if near else []
    return SettingsError(f"unknown setting {name} in {where}", *advice)


def with_values(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """The same settings with other values for these dotted names."""
    sections: dict[str, dict[str, Any]] = {}
    for dotted, value in values.items():
        section, _, name = dotted.partition(".")
        sections.setdefault(section, {})[name] = value
    changed = {s: dataclasses.replace(getattr(settings, s), **table) for s, table in sections.items()}
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


def differences(asked: Asked, stored: Settings) -> dict[str, tuple[Any, Any]]:
    """What was chosen and is not what a run has: name -> (asked, stored). "auto" asks for nothing."""
    wanted, had = flat(asked.settings), flat(stored)
    given = {"network.width", "network.multipliers"} if asked.settings.network.widths else set()
    return {
        name: (wanted[name], had[name])
        for name in wanted
        if name in asked.chosen - given  # widths one by one stand in their place
        and not name.startswith(CHANGEABLE)
        and wanted[name] not in ("auto", had[name])
    }
