"""From an edit to one HTML file: no script, no network, nothing from outside unescaped. In the dress of the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from kakusan.pages.report.page import data_uri, picture, show
from kakusan.pages.seal import KAKU, SAN, seal


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture of the page, as PNG bytes, with a title above it and words below."""

    png: bytes
    title: str
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """The content of the page. Strings may come from anywhere: they are escaped."""

    title: str
    subtitle: str
    words: Sequence[str]
    """Paragraphs beside the pictures."""
    pictures: Sequence[Picture]
    """Before, after, and what lies between."""
    facts: Mapping[str, str] = field(default_factory=dict)
    film: tuple[str, bytes] | None = None
    """Shown as it moves: the ending of its file, .webp, .gif or .png, and its bytes."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    """The line that makes the same again."""
    footer: str = ""


def render(edit: Edit) -> str:
    """The page as text, to be written as UTF-8."""
    return _template().render(
        edit=edit,
        film=None if edit.film is None else data_uri(f"image/{edit.film[0].lower()[1:]}", edit.film[1]),
        settings=[(key, show(value)) for key, value in edit.settings.items() if value is not None],
        style=Markup(_resource("report", "report.css")),
        seal=Markup(seal()),
        icon=data_uri("image/svg+xml", seal(KAKU, SAN, colour="#b5402c").encode()),
    )


def _resource(page: str, name: str) -> str:
    return (resources.files(f"kakusan.pages.{page}") / name).read_text("utf-8")


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["picture"] = picture
    return environment.from_string(_resource("edit", "edit.html.jinja"))
