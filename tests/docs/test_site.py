"""The site of the documents: it is built without a warning, its links lead somewhere, and it has what it promises."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT, blocks

import kakusan
from kakusan import operators, posterior, samplers
from kakusan.cli import COMMANDS

pytest.importorskip("sphinx", reason="the extra `docs` is not installed")

DOCS = ROOT / "docs"
SCRIPTS = sorted((DOCS / "gallery").glob("*.py"))


def extension(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(DOCS / "_site")
    return importlib.import_module(name)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as `make docs` builds it: a warning, such as of a dead link, would be an error."""
    target = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "--quiet",
        "--fail-on-warning",
        "--doctree-dir",
        str(target / "trees"),
    ]
    calm = os.environ | {"OMP_NUM_THREADS": "1"}
    built = subprocess.run(
        [*command, str(DOCS), str(target / "html")], capture_output=True, text=True, check=False, env=calm
    )
    assert built.returncode == 0, built.stderr
    return target / "html"


def test_every_page_of_the_documents_is_in_the_site(site: Path) -> None:
    pages = [path.relative_to(DOCS) for path in DOCS.rglob("*.md")]
    assert len(pages) > 20
    assert all((site / page).with_suffix(".html").is_file() for page in pages)


def test_the_reference_has_every_public_name(site: Path) -> None:
    reference = "".join(page.read_text("utf-8") for page in (site / "api").glob("*.html"))
    found = set(re.findall(r'id="kakusan\.(?:\w+\.)*(\w+)"', reference))
    for home in (kakusan, samplers, posterior, operators):
        things = {name: getattr(home, name) for name in home.__all__}
        public = {name for name, of in things.items() if inspect.isroutine(of) or inspect.isclass(of)}
        assert public <= found, (home.__name__, public - found)


def test_the_reference_has_what_the_guides_import(site: Path) -> None:
    reference = "".join(page.read_text("utf-8") for page in (site / "api").glob("*.html"))
    guides = [page for page in DOCS.glob("*.md") if page.name != "extending.md"]  # which goes into the house
    code = "".join(block for page in (ROOT / "README.md", *guides) for block in blocks(page, "python"))
    imports = re.findall(r"^from kakusan\.([\w.]+) import ([\w, ]+)$", code, re.MULTILINE)
    names = {(home, name) for home, words in imports for name in words.split(", ")}
    assert len(names) > 10
    for home, name in names:
        assert re.search(rf'id="kakusan\.({re.escape(home)}\.)?{name}"', reference), f"kakusan.{home}.{name}"


def test_formulas_are_set_without_a_script(site: Path) -> None:
    for page in ("derivation", "derivation.ja"):
        text = (site / f"{page}.html").read_text("utf-8")
        assert len(re.findall("<math", text)) > 300
        assert [int(n) for n in re.findall(r'class="eqno">\((\d+)\)', text)] == list(range(1, 14))
        assert "$" not in re.sub(
            "<script.*?</script>|<pre.*?</pre>|<code.*?</code>", "", text, flags=re.DOTALL
        )


def test_links_to_code_lead_to_the_line_of_the_definition(site: Path) -> None:
    link = re.compile(r'href="(files/src/kakusan/diffusion/forward\.py\.html)#line-(\d+)"[^>]*>.*?q_marginal')
    page, line = link.findall((site / "derivation.html").read_text("utf-8"))[0]
    assert f'id="line-{line}"' in (site / page).read_text("utf-8")
    code = (ROOT / "src/kakusan/diffusion/forward.py").read_text("utf-8").splitlines()
    assert code[int(line) - 1].startswith("def q_marginal")


def test_the_search_works_without_a_server(site: Path) -> None:
    assert (
        (site / "searchindex.js").read_text("utf-8").startswith("Search.setIndex(")
    )  # a script, not a request


def test_every_script_of_the_gallery_is_shown(site: Path) -> None:
    page = (site / "gallery.html").read_text("utf-8")
    for script in SCRIPTS:
        assert f'src="_images/gallery-{script.stem}.svg"' in page
        assert (site / "_images" / f"gallery-{script.stem}.svg").stat().st_size > 5000
    assert page.count('class="drawn"') == len(SCRIPTS)


def test_a_dead_link_a_missing_anchor_and_a_far_picture_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = extension("links", monkeypatch)
    (tmp_path / "a.html").write_text(
        '<h1 id="here"></h1><a href="#here">x</a><a href="b.html#two">x</a><a href="https://example.org">x</a>'
        '<a href="c.html">x</a><a href="b.html#three">x</a><img src="https://example.org/x.png">'
    )
    (tmp_path / "b.html").write_text('<p id="two"></p>')
    assert links.problems(tmp_path) == [
        "a.html loads https://example.org/x.png from elsewhere",
        "a.html links to b.html#three, and the page has no such anchor",
        "a.html links to c.html, which is not there",
    ]


def test_formulas_as_github_writes_them_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    github = extension("github", monkeypatch)
    assert github.as_myst("the mean $`\\mu_t`$ of $x$, `$y`") == "the mean $\\mu_t$ of $x$, `$y`"


def test_sentences_of_docstrings_are_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    docstrings = extension("docstrings", monkeypatch)
    assert docstrings.plain("q(x_t | x_0) of `a*b`, x_ * 2") == r"q(x_t \| x_0) of ``a*b``, x\_ \* 2"


def test_every_command_has_its_help_in_the_site() -> None:
    page = (DOCS / "commands.md").read_text("utf-8")
    assert {f"help/{name}.txt" for name in COMMANDS} <= set(re.findall(r"help/[\w-]+\.txt", page))
