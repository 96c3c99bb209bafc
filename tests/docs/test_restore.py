"""docs/restore.md: its Python runs, and its tables name what there is."""

import importlib
import json
import re
from pathlib import Path

import pytest
from documents import ROOT, run_page

from kakusan.data.measuring import OPERATORS
from kakusan.data.units import Levels
from kakusan.run.noise import LAWS, noise_named

PAGE = ROOT / "docs" / "restore.md"


def rows() -> list[str]:
    """The words in the first column of its tables."""
    first = re.findall(r"^\| (`[^|]+) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    return [word for cell in first for word in re.findall(r"`([^`]+)`", cell)]


def test_its_python_runs_and_finds_what_it_says(tmp_path: Path) -> None:
    with run_page(PAGE, tmp_path) as names:
        assert names["samples"].shape == (1, 8, 1, 64)
        assert names["after"].measured_shape((1, 64)) == (1, 32)
        off = (names["samples"].mean(1) - names["truth"]).square().mean().sqrt()
        assert off < 0.3  # of deviation 1
        assert 0.06 < names["found"].sigma < 0.14  # 4 deviations, of one signal


def test_every_operator_and_every_noise_has_its_row() -> None:
    words = rows()
    assert {word.partition(":")[0] for word in words} >= {*OPERATORS}
    assert {*LAWS} <= {*words}
    for word in ("0.05", "5%", "auto"):
        assert word in words
        noise_named(word, Levels(), (1, 2, 2))


def test_the_table_of_trained_networks_is_that_of_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    restoring = importlib.import_module("restoring")
    lines = [json.loads(line) for line in (ROOT / "benchmarks/restoring.jsonl").read_text().splitlines()]
    assert restoring.show(lines).strip() in PAGE.read_text("utf-8")


def test_the_tables_of_exact_posteriors_are_those_of_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    posterior = importlib.import_module("posterior")
    lines = [json.loads(line) for line in (ROOT / "benchmarks/posterior.jsonl").read_text().splitlines()]
    _, between, _ = re.split("<!-- /?posterior -->", PAGE.read_text("utf-8"))
    assert between.strip() == posterior.shown(lines)
