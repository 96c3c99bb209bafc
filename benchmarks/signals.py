"""Whether signals come out as what they were: python benchmarks/signals.py [--steps 2000]

Three families of 2,000 signals, 128 values each, made here: sines of 1 to 5 cycles; sums of two sines, the second three
times as fast and half as high; and beats like those of an electrocardiogram, 2 to 4 in a window, at any phase. For
each the real command trains with no flag but --steps, and samples. A sample's residual is the share of its energy that
is left when the member of the family that is nearest to it is taken away, among a dense grid of all of them: near 0 for
a signal of the family, near 1 for noise. --picture FILE draws real signals and samples, the first of seed 0.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from measuring import Figures, leave, report, table
from numpy.typing import NDArray
from PIL import Image

from kakusan.data.rendering import grid
from kakusan.run import Run

Signals: TypeAlias = NDArray[np.float64]
COUNT, LENGTH, SAMPLES, SHOWN = 2000, 128, 256, 8
TIME = np.arange(LENGTH) / LENGTH
PHASES = np.linspace(0, 1, 192, endpoint=False)
BEAT = (
    (0.18, 0.025, 0.15),
    (0.285, 0.008, -0.12),
    (0.3, 0.010, 1.0),
    (0.32, 0.010, -0.25),
    (0.55, 0.045, 0.3),
)
"""Of P, Q, R, S and T: place in the beat, width, height."""


def sines(rate: Signals, phase: Signals) -> Signals:
    """One sine each."""
    return np.sin(2 * np.pi * (rate[:, None] * TIME + phase[:, None]))


def sums(rate: Signals, phase: Signals) -> Signals:
    """Two sines each, in a fixed relation."""
    angle = 2 * np.pi * (rate[:, None] * TIME + phase[:, None])
    return np.sin(angle) + 0.5 * np.sin(3 * angle)


def beats(rate: Signals, phase: Signals) -> Signals:
    """Beats at a steady rate: a sum of five bells in each."""
    place = (rate[:, None] * TIME + phase[:, None]) % 1
    bells: list[Signals] = [h * np.exp(-(((place - c) / w) ** 2) / 2) for c, w, h in BEAT]
    whole: Signals = np.sum(bells, axis=0)
    return whole


FAMILIES: dict[str, tuple[Callable[[Signals, Signals], Signals], tuple[float, float]]] = {
    "sines": (sines, (1.0, 5.0)),
    "sums of sines": (sums, (1.0, 3.0)),
    "beats": (beats, (2.0, 4.0)),
}


def drawn(name: str, count: int, seed: int) -> Signals:
    """Members of a family, at random rates and phases."""
    make, (low, high) = FAMILIES[name]
    random = np.random.default_rng(seed)
    return make(random.uniform(low, high, count), random.uniform(0, 1, count))


def residuals(name: str, signals: Signals) -> Signals:
    """The share of the energy of each, less its mean, that no member of the family accounts for."""
    make, (low, high) = FAMILIES[name]
    rates = np.repeat(np.linspace(low, high, 400), len(PHASES))
    members = make(rates, np.tile(PHASES, 400))
    members -= members.mean(1, keepdims=True)
    members /= np.linalg.norm(members, axis=1, keepdims=True)
    away = signals - signals.mean(1, keepdims=True)
    best = np.concatenate([(rows @ members.T).max(1) for rows in np.array_split(away, 16)])
    left: Signals = 1 - np.square(np.maximum(best, 0)) / np.square(away).sum(1)
    return left


def measured(name: str, folder: Path, steps: int) -> tuple[Figures, Image.Image]:
    """Train, sample, compare; and a picture: real signals above, samples below."""
    stem = folder / name.replace(" ", "-")
    real = drawn(name, COUNT, 0)
    np.save(stem.with_suffix(".npy"), real)
    kakusan = [sys.executable, "-m", "kakusan"]
    run, out = folder / f"run-{stem.name}", folder / f"{stem.name}.npz"
    data = str(stem.with_suffix(".npy"))
    subprocess.run([*kakusan, "train", data, "--steps", str(steps), "--run", str(run)], check=True)
    flags = ["--count", str(SAMPLES), "--out", str(out), "--overwrite"]
    subprocess.run([*kakusan, "sample", str(run), *flags], check=True, stdout=subprocess.DEVNULL)
    with np.load(out) as stored:
        samples: Signals = stored["images"].reshape(SAMPLES, LENGTH)
    noise = np.random.default_rng(1).standard_normal((SAMPLES, LENGTH))
    units = Run.open(run).data.units
    both = np.concatenate([real[:SHOWN], samples[:SHOWN]])
    picture = grid(torch.as_tensor(units.encode(both[..., None])), units, columns=SHOWN)
    return {
        "samples": float(np.median(residuals(name, samples))),
        "nine of ten samples below": float(np.quantile(residuals(name, samples), 0.9)),
        "other real signals": float(np.median(residuals(name, drawn(name, SAMPLES, 7)))),
        "noise": float(np.median(residuals(name, noise))),
    }, picture


def main(arguments: Sequence[str]) -> int:
    """Run the families."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("runs/signals"), help="default: %(default)s")
    parser.add_argument("--picture", type=Path, help="a PNG to write")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    found = {name: measured(name, asked.out, asked.steps) for name in FAMILIES}
    if asked.picture is not None:
        pictures = [picture for _, picture in found.values()]
        height = sum(picture.height for picture in pictures) + 24 * (len(pictures) - 1)
        whole = Image.new("RGB", (max(picture.width for picture in pictures), height), "white")
        top = 0
        for picture in pictures:
            whole.paste(picture, (0, top), picture)  # a picture of lines is transparent between them
            top += picture.height + 24
        whole.save(asked.picture)
    figures = {name: each for name, (each, _) in found.items()}
    lines = [[name, *(f"{value:.2%}" for value in each.values())] for name, each in figures.items()]
    heads = list(next(iter(figures.values())))
    return report({**figures}, table(["median residual", *heads], lines), as_json=asked.json)


if __name__ == "__main__":
    leave(main)
