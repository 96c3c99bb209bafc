"""Runs of version 0.1.0 still open, sample, evaluate and go on, with the figures that they had then.

old_runs/ holds three of them, as they lay on the disk: digits with classes and a learned variance; points; two real
channels, trained from Python on fields.npy. expected.json holds what 0.1.0 made of them.
"""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from goldens import run_kakusan

import kakusan as kk

OLD = Path(__file__).with_name("old_runs")
EXPECTED = json.loads((OLD / "expected.json").read_text())
DATA = {"fields": ["--data", str(OLD / "fields.npy")]}
"""What must be said of the data where the run does not know them."""


def measured(name: str, folder: Path) -> dict[str, Any]:
    """A few numbers of two samples of each sampler, the bounds of three images, and the losses of four more steps."""
    run = folder / name
    shutil.copytree(OLD / name, run)
    found: dict[str, Any] = {}
    for sampler, flags in {
        "ancestral": ["--sampler", "ddim"],
        "ddim": ["--sampler", "ddim", "--steps", "5"],
    }.items():
        run_kakusan(["sample", run, "--count", "2", "--out", folder / "x.npz", "--overwrite", *flags])
        with np.load(folder / "x.npz") as stored:
            images = stored["images" if "images" in stored else "points"].astype(np.float64)
        found[sampler] = [images.mean(), images.std(), *images.reshape(-1)[:: max(1, images.size // 8)]]
    bits = folder / "bits.csv"
    run_kakusan(
        ["evaluate", run, "--images", "3", "--per-image", bits, "--no-memorizer", *DATA.get(name, [])]
    )
    found["bound"] = [
        [float(v) for v in [*line.values()][-6:]] for line in csv.DictReader(bits.read_text().splitlines())
    ]
    if name == "fields":
        kk.Run.open(run).resume(steps=8, data=np.load(OLD / "fields.npy"), progress=False)
    else:
        run_kakusan(["resume", run, "--steps", "8"])
        assert "machine.workers" not in (run / "log.txt").read_text("utf-8")  # older runs have no parts
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found["loss"] = [line["loss"] for line in lines if "loss" in line]
    return found


@pytest.mark.parametrize("name", ["digits", "points", "fields"])
def test_an_old_run_opens_samples_evaluates_and_goes_on(name: str, tmp_path: Path) -> None:
    found = measured(name, tmp_path)
    for figure, values in EXPECTED[name].items():
        rounded = name == "digits" and figure in (
            "ancestral",
            "ddim",
        )  # to a level: one more or less elsewhere
        rel, least = (0, 1.01) if rounded else (1e-3, 1e-4)
        assert len(found[figure]) == len(values)
        for then, now in zip(values, found[figure], strict=True):
            assert now == pytest.approx(then, rel=rel, abs=least), figure
