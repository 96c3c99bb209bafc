"""From samples given y to one HTML file, in the dress of the report: no script, nothing from outside unescaped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from kakusan.pages.report.page import data_uri, picture, show
from kakusan.pages.restore.maps import Panel
from kakusan.pages.seal import KAKU, SAN, seal


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart, as SVG of our own, with a title above it and words below."""

    chart: str
    title: str = ""
    caption: str = ""
    narrow: bool = False
    """Half as wide as the page."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """One measurement: pictures side by side, charts, and samples."""

    title: str
    panels: Sequence[Panel]
    figures: Sequence[Figure]
    samples: Panel | None
    scale: str = ""
    """The values that are black and white in them, in a sentence, where the run's own are not."""
    large: bool = False
    """Its pictures have many pixels, and are shown larger."""
    wide: bool = False
    """Its pictures are wide, as of volumes by their slices."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A calibration, in words, charts and figures."""

    words: Sequence[str]
    """The verdict first."""
    holds: bool
    """Whether intervals hold at least as many truths as they should."""
    coverage: str
    ranks: str
    rows: Sequence[tuple[str, str, str]]
    of: str
    """What was judged."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """The content of the page. Strings may come from anywhere: they are escaped; charts are our own."""

    title: str
    subtitle: str
    blocks: Sequence[Block]
    facts: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    reading: str = ""
    """Sentences on what the spread of so many samples says."""
    more: str = ""
    """A sentence on measurements that are not shown."""
    residuals: str = ""
    """The chart of what is left of y."""
    judgement: Judgement | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    """The line that makes the same again."""
    footer: str = ""


def render(page: Page) -> str:
    """The page as text, to be written as UTF-8."""
    return _template().render(
        page=page,
        settings=[(key, show(value)) for key, value in page.settings.items() if value is not None],
        style=Markup(_resource("report", "report.css") + _resource("restore", "restore.css")),
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
    environment.filters["chart"] = Markup
    return environment.from_string(_resource("restore", "restore.html.jinja"))
