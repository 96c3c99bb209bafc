"""The site of the documents: `make docs` builds it into build/site, with warnings as errors. It needs no server.

The pages are the files beside this one, as they are; what they need beyond Sphinx is in the extensions of `_site`.
A new page is one line in index.md.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_site"))

project = "kakusan"
author = "the authors of kakusan"
version = "0.1.0"
language = "en"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "docstrings",
    "gallery",
    "github",
    "links",
    "listings",
    "mathematics",
]

# GitHub's Markdown: $ and $$, ```math, <img>, and anchors of headings as GitHub spells them
myst_enable_extensions = ["dollarmath", "html_image"]
myst_dmath_double_inline = True
myst_fence_as_directive = {"math"}
myst_heading_anchors = 4

smartquotes = False  # quotes in docstrings are those of code
highlight_language = "bash"  # blocks without a name are commands
default_role = "code"  # single backticks in docstrings
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
add_module_names = False

html_theme = "furo"
html_title = "kakusan 拡散"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
pygments_style = "friendly"
pygments_dark_style = "monokai"
copybutton_exclude = ".linenos"
