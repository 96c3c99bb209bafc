"""Mathematics as MathML, made when the site is built: no script, no network, and a wrong formula is a warning."""

import re
from importlib.resources import files
from pathlib import Path
from shutil import copyfileobj

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.typing import ExtensionMetadata
from sphinx.writers.html5 import HTML5Translator

FONT = "fonts/STIXTwoMath-Regular.ttf"
"""A font with the measures that browsers set formulas by. Most machines have none."""

TAG = re.compile(r"\\tag\{([^}]*)\}")
MATHML = LatexToMathML(fancy_error=False)


def mathml(latex: str, *, display: bool) -> str:
    """A formula as MathML. Raises LatexError."""
    found: str = MATHML.convert_with_local_state(latex.strip(), displaystyle=display)
    return found


def shown(node: nodes.Element, *, display: bool) -> str:
    """The formula of a node, with its number at the margin. One that is wrong is told, and shown as it was written."""
    latex = node.astext()
    tag = TAG.search(latex)
    try:
        formula = mathml(TAG.sub("", latex), display=display)
    except LatexError as error:
        logging.getLogger(__name__).warning("this formula cannot be set: %s: %s", latex, error, location=node)
        return f"<code>{nodes.unescape(latex)}</code>"
    return formula + (f'<span class="eqno">({tag[1]})</span>' if tag else "")


def inline(translator: HTML5Translator, node: nodes.Element) -> None:
    """A formula in a line."""
    translator.body.append(shown(node, display=False))
    raise nodes.SkipNode


def block(translator: HTML5Translator, node: nodes.Element) -> None:
    """A formula on lines of its own."""
    translator.body.append(f'<div class="formula">{shown(node, display=True)}</div>\n')
    raise nodes.SkipNode


def copy_font(app: Sphinx, error: Exception | None) -> None:
    """The font beside the style sheet that names it."""
    if error is None:
        target = Path(app.outdir) / "_static" / Path(FONT).name
        with files("ziamath").joinpath(FONT).open("rb") as font, target.open("wb") as copy:
            copyfileobj(font, copy)


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.config.html_math_renderer = "mathml"
    app.connect("build-finished", copy_font)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
