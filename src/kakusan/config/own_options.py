"""Options of what settings.py does not declare: a class in a table brings its own fields, with their docstrings.

What is declared in settings.py is known without torch, so that --help answers at once. A further entry of a table needs
no line there: where it is chosen, its section is replaced by one that has the entry's fields too, marked with `Of`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, make_dataclass
from functools import cache
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import tyro

from kakusan.config.documented import docstrings
from kakusan.config.section import AUTO, Of, Section, options, tables

Part = TypeVar("Part", bound=Section)


def extended(section: Part, chosen: Mapping[str, Any]) -> Part:
    """The same with a field for each option of what is chosen, by these values or by the section's own.

    Of what is declared, the section has them already. A name that no table has is refused elsewhere.
    """
    for choice, table in tables(_type(section)).items():
        name = chosen.get(choice, getattr(section, choice))
        if not table.has_options or not isinstance(name, str) or name in (AUTO, *table.declared):
            continue
        if (entry := table.entries().get(name)) is not None:
            kind = _with_fields(_type(section), choice, name, _type(entry))
            section = kind(**vars(section))
    return section


def _type(entry: Any) -> Any:
    """A class itself, or that of a value."""
    return entry if isinstance(entry, type) else type(entry)


def own_fields(kind: type) -> Iterator[Field[Any]]:
    """The options of a path, a schedule or a loss: its fields but for T, which all have."""
    return (each for each in fields(kind) if each.init and each.name != "T")


@cache
def _with_fields(section: Any, choice: str, name: str, kind: Any) -> Any:
    """The section with the fields of a class, as options of this value of the choice; cached, since equal sections are
    of one type. Raises ValueError for a field without a default, or called as another setting."""
    hints, words = get_type_hints(kind, include_extras=True), docstrings(kind)
    declared = {of.called or key: key for key, of in options(section).items() if of.choice == choice}
    taken = {each.name for each in fields(section)}
    added: list[Any] = []
    for each in own_fields(kind):
        if each.name in declared:
            added.append(_shared(section, declared[each.name], name))
        elif each.name in taken or each.default is MISSING:
            raise ValueError(
                f"{kind.__name__}.{each.name} needs a default, and a name that {section.title} has not"
            )
        else:
            about = tyro.conf.arg(help=f"Of the {choice} {name}: {words.get(each.name, 'see its class.')}")
            added.append((each.name, Annotated[hints[each.name], Of(choice, (name,)), about], each.default))
    about_it = {"__doc__": section.__doc__, "__module__": section.__module__}
    return make_dataclass(section.__name__, added, bases=(section,), frozen=True, namespace=about_it)


def _shared(section: Any, key: str, name: str) -> tuple[str, Any, Any]:
    """A field of the section as an option of one more value of its choice."""
    hint, default = (
        get_type_hints(section, include_extras=True)[key],
        section.__dataclass_fields__[key].default,
    )
    plain, *marks = get_args(hint)
    of = options(section)[key]
    if name in of.kinds:
        return key, hint, default
    others = [mark for mark in marks if mark != of]
    return key, Annotated[(plain, *others, of._replace(kinds=(*of.kinds, name)))], default
