"""Pages that list files of the repository, for links such as ../src/kakusan/api.py and for each entry of the reference.

A link whose words end with a name that the file defines leads to the line of the definition.
"""

import inspect
import posixpath
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.highlighting import PygmentsBridge
from sphinx.util.osutil import relative_uri
from sphinx.util.typing import ExtensionMetadata

ROOT = Path(__file__).parents[2]
FOLDER = "files"
"""Where the listings lie in the site."""


def line_of(name: str, code: str) -> int | None:
    """The line, from 1 on, where Python code defines `name`, or None."""
    found = re.search(rf"^ *(?:async def |def |class )?{re.escape(name)}\b", code, re.MULTILINE)
    return code.count("\n", 0, found.start()) + 1 if found else None


def named(module: str, path: str) -> Any:
    """The thing of a dotted path in a module, or None."""
    thing: Any = import_module(module)
    for name in path.split("."):
        thing = inspect.getattr_static(thing, name, None) or getattr(thing, name, None)
    return thing


def place_of(thing: Any) -> tuple[Path, int] | None:
    """The file of the repository and the line where a class, function or property is defined, or None."""
    thing = getattr(thing, "fget", None) or getattr(thing, "func", None) or getattr(thing, "__func__", thing)
    thing = inspect.unwrap(thing)  # of decorators
    try:
        path, (_, line) = Path(inspect.getfile(thing)), inspect.getsourcelines(thing)
    except (TypeError, OSError):  # a field of a dataclass, or made when the program ran
        return None
    return (path, line) if path.is_relative_to(ROOT) else None


class Listings:
    """The files that have been linked to, and their pages."""

    def __init__(self) -> None:
        self.files: set[Path] = set()

    def uri(self, app: Sphinx, docname: str, path: Path, line: int | None) -> str:
        """The address of a listing as seen from a document."""
        self.files.add(path)
        page = posixpath.join(FOLDER, path.relative_to(ROOT).as_posix())
        here, there = (app.builder.get_target_uri(name) for name in (docname, page))
        uri: str = relative_uri(here, there)
        return uri + (f"#line-{line}" if line else "")

    def link(self, app: Sphinx, doctree: nodes.document, docname: str) -> None:
        """Links to listings in the place of links to downloads, and beside the names of the reference."""
        for node in list(doctree.findall(addnodes.download_reference)):
            path = Path(app.srcdir, node["refdoc"]).parent.joinpath(node["reftarget"]).resolve()
            if path.suffix == ".py" and path.is_relative_to(ROOT):
                name = node.astext().rpartition(".")[2]
                line = line_of(name, path.read_text("utf-8")) if name.isidentifier() else None
                uri = self.uri(app, docname, path, line)
                node.replace_self(nodes.reference("", "", *node.children, internal=True, refuri=uri))
        for signature in doctree.findall(addnodes.desc_signature):
            if place := place_of(named(signature["module"], signature["fullname"])):
                words = nodes.inline("", "[source]", classes=["viewcode-link"])
                signature += nodes.reference(
                    "", "", words, internal=True, refuri=self.uri(app, docname, *place)
                )

    def pages(self, app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
        """A page for each file that is linked to."""
        bridge = PygmentsBridge("html", app.config.pygments_style)
        for path in sorted(self.files):
            name = path.relative_to(ROOT).as_posix()
            code = path.read_text("utf-8")
            listing = bridge.highlight_block(code, "python", lineanchors="line", linenos="inline")
            yield f"{FOLDER}/{name}", {"title": name, "body": f"<h1>{name}</h1>{listing}"}, "page.html"


def setup(app: Sphinx) -> ExtensionMetadata:
    listings = Listings()
    app.connect("doctree-resolved", listings.link)
    app.connect("html-collect-pages", listings.pages)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
