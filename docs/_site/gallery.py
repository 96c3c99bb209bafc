"""The directive `gallery`: a script of docs/gallery is run when the site is built, and shown below its picture.

A script is a module with a function `draw` that returns a figure of matplotlib; its docstring is the legend.
"""

import html
import runpy
from pathlib import Path
from typing import Any

from docutils import nodes
from matplotlib.figure import Figure
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

FOLDER = "gallery"


def drawn(script: Path) -> tuple[Figure, str]:
    """Picture and legend of a script. Raises what the script raises, and TypeError where it draws no figure."""
    names: dict[str, Any] = runpy.run_path(str(script))
    figure = names["draw"]()
    if not isinstance(figure, Figure):
        raise TypeError(f"{script}: draw() must return a figure of matplotlib, not {type(figure).__name__}")
    return figure, " ".join(names["__doc__"].split())


class Gallery(SphinxDirective):
    """The picture of the script that is named, its legend, and the script."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        script = Path(self.env.srcdir) / FOLDER / f"{self.arguments[0]}.py"
        self.env.note_dependency(str(script))
        figure, legend = drawn(script)
        target = Path(self.env.app.outdir) / "_images" / f"{FOLDER}-{script.stem}.svg"
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(target, bbox_inches="tight")
        image = f'<img class="drawn" src="_images/{target.name}" alt="{html.escape(legend)}">'
        code = script.read_text("utf-8").partition('"""\n\n')[2]  # the legend is shown already
        return [
            nodes.raw("", image, format="html"),
            nodes.paragraph("", "", nodes.emphasis("", legend)),
            nodes.literal_block(code, code, language="python"),
        ]


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_directive(FOLDER, Gallery)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
