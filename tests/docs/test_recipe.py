"""The tables of docs/recipe.md are those that the scripts make of the committed figures."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("mark", "script"), [("recipe", "recipe"), ("grid", "network_grid")])
def test_the_tables_are_those_of_the_figures(mark: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    __import__(script)
    page = (ROOT / "docs" / "recipe.md").read_text("utf-8")
    (found,) = re.findall(f"<!-- begin: {mark} -->\\n(.*?)\\n<!-- end -->", page, re.DOTALL)
    assert found == sys.modules[script].shown(ROOT / "benchmarks" / f"{script}.jsonl")
