"""The tables of docs/compression.md are those of the committed lines."""

import importlib
import json
from pathlib import Path

import pytest
from documents import ROOT


def test_the_tables_are_those_of_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    compression = importlib.import_module("compression")
    lines = [
        json.loads(line) for line in Path(ROOT / "benchmarks/compression.jsonl").read_text().splitlines()
    ]
    assert compression.shown(lines) in (ROOT / "docs/compression.md").read_text("utf-8")
    for run in {line["run"] for line in lines}:
        sizes = {line["coder"]: line["bytes"] for line in lines if line["run"] == run}
        assert min(sizes, key=sizes.__getitem__) == compression.OURS


def test_coders_of_the_benchmark_have_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    compression = importlib.import_module("compression")
    images = np.random.default_rng(0).integers(0, 2, (10, 8, 8), dtype=np.uint8)
    assert (compression.sheet(images)[:8, :8] == images[0]).all()
    sizes = {name: coder(images) for name, coder in compression.coders(2).items()}
    assert sizes["lzma of bits"] >= 80  # nothing takes less than the bits of chance
    assert all(size >= 80 for size in sizes.values())
