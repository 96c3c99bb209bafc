"""A check of the built site: every link inside of it leads somewhere, and nothing is loaded from elsewhere."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.typing import ExtensionMetadata

LOADED = {"img": "src", "script": "src", "link": "href", "source": "src", "iframe": "src"}
"""The elements that a browser loads something for, and the attribute that names it."""


@dataclass
class Page(HTMLParser):
    """The anchors of a page, its links, and what it loads."""

    anchors: set[str] = field(default_factory=lambda: {"", "top"})
    links: set[str] = field(default_factory=set)
    loads: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    @classmethod
    def read(cls, path: Path) -> "Page":
        page = cls()
        page.feed(path.read_text("utf-8"))
        return page

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        of = {name: value for name, value in attributes if value is not None}
        self.anchors |= {of[name] for name in ("id", "name") if name in of}
        if tag == "a" and "href" in of:
            self.links.add(of["href"])
        if (attribute := LOADED.get(tag)) and attribute in of:
            self.loads.add(of[attribute])


def problems(site: Path) -> list[str]:
    """What is wrong with the links of a built site, a sentence each."""
    pages = {path.resolve(): Page.read(path) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        here = path.relative_to(site.resolve())
        found += [f"{here} loads {url} from elsewhere" for url in sorted(page.loads) if urlsplit(url).netloc]
        for url in sorted(page.links | page.loads):
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue  # another site's: nothing here can tell
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                found.append(f"{here} links to {url}, which is not there")
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{here} links to {url}, and the page has no such anchor")
    return found


def check(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        for problem in problems(Path(app.outdir)):
            logging.getLogger(__name__).warning("%s", problem)


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("build-finished", check, priority=900)  # when all others have written their files
    return {"parallel_read_safe": True, "parallel_write_safe": True}
