"""The tables of speed are those that benchmarks/tables.py writes from the committed results."""

import importlib
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT
from PIL import Image


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("tables")


def test_the_pages_hold_what_the_results_say(tables: Any) -> None:
    results = tables.newest(tables.RESULTS.read_text("utf-8"))
    for page in tables.PAGES:
        text = page.read_text("utf-8")
        assert tables.filled(text, results) == text, "write them anew: python benchmarks/tables.py"


def test_every_table_has_its_place(tables: Any) -> None:
    text = "".join(page.read_text("utf-8") for page in tables.PAGES)
    places = [found[2] for found in tables.PLACE.finditer(text)]
    assert sorted(places) == sorted(tables.PLACES)
    assert text.count("<!-- begin: ") == len(places)


def test_the_newest_line_of_a_script_counts(tables: Any) -> None:
    line = '{"command": "gpu.py --repeats %d", "commit": "c", "day": "d", "figures": {}}'
    results = tables.newest("\n".join(line % repeats for repeats in (3, 7)))
    assert results["gpu"].command == "gpu.py --repeats 7"
    page = "before\n<!-- begin: other_peers -->\nold\n<!-- end -->\nafter"
    filled = tables.filled(page, results)
    assert filled.splitlines()[2].startswith("Not measured yet")
    assert "old" not in filled
    assert filled.endswith("<!-- end -->\nafter")


def test_the_picture_is_drawn_from_the_results(tables: Any, tmp_path: Path) -> None:
    results = tables.newest(tables.RESULTS.read_text("utf-8"))
    tables.write_picture({name: result.figures for name, result in results.items()}, tmp_path / "speed.png")
    with Image.open(tmp_path / "speed.png") as drawn, Image.open(tables.PICTURE) as stored:
        assert drawn.size == stored.size
