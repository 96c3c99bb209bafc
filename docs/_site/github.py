"""Markdown that GitHub and MyST read differently."""

import re

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

QUOTED_FORMULA = re.compile(r"\$`([^`\n]+)`\$")


def as_myst(text: str) -> str:
    """GitHub's safest way to write a formula in a line, a code span between dollars, without the backticks."""
    return QUOTED_FORMULA.sub(r"$\1$", text)


def read(app: Sphinx, docname: str, source: list[str]) -> None:
    source[0] = as_myst(source[0])


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
