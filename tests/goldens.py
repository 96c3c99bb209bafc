"""Losses and samples of tiny trainings, through the command line: the net under a redesign.

python tests/goldens.py writes goldens.json anew, which `git diff` then compares to the last digit. The test allows for
other machines' rounding. A change of these figures is a change of the mathematics: its commit says which, and why.
"""

import csv
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kakusan.cli import main

STORED = Path(__file__).with_name("goldens.json")
STEPS = 10
TINY = [
    *("--steps", str(STEPS), "--network.width", "16", "--training.batch-size", "8", "--process.T", "50"),
    *("--log.every", "1", "--samples.count", "2", "--samples.steps", "2", "--samples.every", "100"),
    *("--machine.threads", "1", "--machine.device", "cpu", "--machine.precision", "fp32"),
]
UNET = ["--network.multipliers", "1", "2", "--network.blocks", "1", "--network.attention", "1"]
RECIPE = [
    *("--training.learning-rate", "3e-3", "--training.warmup", "0", "--training.decay", "linear"),
    *("--training.betas", "0.9", "0.99", "--training.ema", "0.999"),
]
KANJI = [*UNET, *RECIPE]
CASES: dict[str, tuple[str, list[str]]] = {
    "plain": ("digits", UNET),
    "paper": ("digits", [*UNET, "--process.schedule", "linear", "--process.predicts", "eps"]),
    "classes": ("digits", [*UNET, "--data.labels", "--training.times", "uniform"]),
    "learned": ("kanji", [*KANJI, "--process.variance", "learned", "--network.dropout", "0.1"]),
    "bound": (
        "kanji",
        [*KANJI, "--network.dropout", "0.05", "--training.loss", "bound", "--training.times", "importance"],
    ),
    "weighted": ("digits", [*UNET, "--training.loss", "weighted", "--training.accumulation", "2"]),
    "min-snr": (
        "digits",
        [*UNET, "--training.loss", "min-snr", "--process.predicts", "x_0", "--process.schedule", "sigmoid"],
    ),
    "terminal": ("digits", [*UNET, "--process.zero-terminal-snr", "--network.patch", "2"]),
    "points": ("two-moons", ["--process.variance", "fixed-small"]),
    "fields": ("fields.npy", [*UNET, "--data.flip", "--network.scale-shift"]),
}
"""The data and what is chosen."""
SAMPLERS = {
    "ancestral": ["--sampler", "ddim", "--steps", "10"],
    "ddim": ["--sampler", "ddim", "--steps", "5"],
}


def fields(folder: Path) -> None:
    """Twenty smooth fields in two channels, far from zero: fields.npy."""
    y, x = np.mgrid[0:12, 0:10]
    phase = np.arange(20)[:, None, None]
    waves = [np.sin(0.5 * x + phase) + 0.1 * y, np.cos(0.4 * y - 0.2 * phase) * x]
    np.save(folder / "fields.npy", 1000 + np.stack(waves, -1))


def run_kakusan(arguments: Sequence[str | Path]) -> None:
    """A command that must work."""
    code = main([str(argument) for argument in arguments])
    assert code == 0, arguments


def measured(name: str, folder: Path) -> dict[str, Any]:
    """The losses of every step, those of the held-out images, numbers of two samples of each sampler, four bounds."""
    data, flags = CASES[name]
    torch.set_num_threads(1)
    if data.endswith(".npy"):
        fields(folder)
        data = str(folder / data)
    run = folder / "run"
    run_kakusan(["train", data, "--run", run, *TINY, *flags])
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found: dict[str, Any] = {
        "loss": [line["loss"] for line in lines if "loss" in line],
        "held_out": [
            [line["training_loss"], line["held_out_loss"], line["baseline_loss"]]
            for line in lines
            if "held_out_loss" in line
        ],
    }
    for sampler, choice in SAMPLERS.items():
        out = folder / f"{sampler}.npz"
        run_kakusan(["sample", run, "--count", "2", "--out", out, *choice])
        with np.load(out) as stored:
            images = stored["images" if "images" in stored else "points"].astype(np.float64)
        found[sampler] = [images.mean(), images.std(), *images.reshape(-1)[:: max(1, images.size // 8)]]
    run_kakusan(["evaluate", run, "--images", "4", "--per-image", folder / "bits.csv", "--no-memorizer"])
    bits = list(csv.DictReader((folder / "bits.csv").read_text().splitlines()))
    found["bound"] = [[float(value) for value in [*line.values()][-6:]] for line in bits[:4]]
    return found


if __name__ == "__main__":
    figures = {}
    for case in CASES:
        with tempfile.TemporaryDirectory() as made:
            figures[case] = measured(case, Path(made))
    STORED.write_text(json.dumps(figures, indent=1) + "\n")
    sys.stderr.write(f"wrote {STORED}\n")
