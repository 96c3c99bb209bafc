"""The reference: docstrings as they are, plain sentences with code in backticks, and types by their short names."""

import re
from typing import Any

from numpy.typing import ArrayLike, NDArray
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata, stringify_annotation

CODE = re.compile(r"(``[^`]+``|`[^`]+`)")
MARKUP = re.compile(r"([*|])|(?<=\w)(_)(?!\w)")
"""In sentences x_ , * and | are no markup."""

SHORT = {
    stringify_annotation(of, "smart"): name
    for name, of in {"ArrayLike": ArrayLike, "NDArray": NDArray[Any]}.items()
}


def plain(line: str) -> str:
    """The line with what reStructuredText would take for markup escaped, but for code."""
    return "".join(
        f"``{piece.strip('`')}``" if CODE.fullmatch(piece) else MARKUP.sub(r"\\\g<0>", piece)
        for piece in CODE.split(line)
    )


def read(app: Sphinx, kind: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    lines[:] = [plain(line) for line in lines]


def shortened(
    app: Sphinx,
    kind: str,
    name: str,
    thing: object,
    options: object,
    arguments: str | None,
    result: str | None,
) -> tuple[str | None, str | None]:
    """A signature in which types of NumPy go by their names, not by what they are made of."""
    for long, short in SHORT.items():
        arguments = arguments and arguments.replace(long, short)
        result = result and result.replace(long, short)
    return arguments, result


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("autodoc-process-docstring", read)
    app.connect("autodoc-process-signature", shortened)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
