"""What each technique does to the bound: python benchmarks/bits_table.py FOLDER [--data kanji --preset demo].

Trains one model for each line of `TRAININGS` with `kakusan train`, measures it with `kakusan evaluate` under each of
its `READINGS`, and prints a table of bits/dim; the command lines go to stderr. All that is not named is as the preset
says. A run that is in FOLDER already is not trained again, but measured.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from measuring import Figures, leave, table

LEARNED = ("--process.variance", "learned")
BOUND = ("--training.loss", "bound")
SCHEDULE = ("--process.schedule", "learned")
WAVES = ("--network.fourier-features", "2", "3")
"""Of the 17 levels of the digits."""
LINEAR = ("--process.schedule", "linear")
FIXED = ("fixed-large", "fixed-small", "analytic")

TRAININGS: dict[str, tuple[str, ...]] = {
    "cosine, simple": (),
    "linear, simple": LINEAR,
    "linear, simple, eps": (*LINEAR, "--process.predicts", "eps"),
    "cosine, min-snr": ("--training.loss", "min-snr"),
    "cosine, weighted": ("--training.loss", "weighted", "--process.variance", "fixed-small"),
    "cosine, bound, fixed": (*BOUND, "--process.variance", "fixed-small"),
    "cosine, hybrid": LEARNED,
    "linear, hybrid": (*LINEAR, *LEARNED),
    "cosine, bound": (*LEARNED, *BOUND),
    "cosine, bound, importance": (*LEARNED, *BOUND, "--training.times", "importance"),
    "linear, bound, importance": (*LINEAR, *LEARNED, *BOUND, "--training.times", "importance"),
    "learned": (*SCHEDULE, *LEARNED),
    "linear, bound, importance, waves": (*LINEAR, *LEARNED, *BOUND, "--training.times", "importance", *WAVES),
    "learned, waves": (*SCHEDULE, *LEARNED, *WAVES),
}
"""Name -> flags of `kakusan train`."""

READINGS: dict[str, tuple[tuple[str, ...], ...]] = {
    "cosine, simple": (
        *(("--variance", name) for name in FIXED),
        ("--variance", "fixed-small", "--sigma-1", "beta_1"),
        ("--variance", "fixed-small", "--clip", "no"),
    ),
    "linear, simple": tuple(("--variance", name) for name in FIXED),
    "linear, simple, eps": tuple(("--variance", name) for name in FIXED),
    "cosine, min-snr": (("--variance", "fixed-small"), ("--variance", "analytic")),
    "cosine, weighted": (("--variance", "fixed-small"), ("--variance", "analytic")),
    "cosine, bound, fixed": (("--variance", "fixed-small"), ("--variance", "analytic")),
}
"""Name -> flags of each `kakusan evaluate`; those that are not here learned their variance, and are read with it."""


@dataclass(frozen=True)
class Order:
    """What all trainings share."""

    folder: Path
    data: str
    train: tuple[str, ...]
    evaluate: tuple[str, ...]


def kakusan(arguments: Sequence[str]) -> str:
    """What a command of kakusan prints."""
    command = [sys.executable, "-m", "kakusan", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def measured(order: Order, name: str, seed: int | None = None) -> list[Figures]:
    """One training and its readings."""
    run = order.folder / (name.replace(", ", "-") + ("" if seed is None else f"-seed-{seed}"))
    seeded = () if seed is None else ("--training.seed", str(seed))
    train = ["train", order.data, "--run", str(run), *order.train, *TRAININGS[name], *seeded]
    print(f"kakusan {shlex.join(train)}", file=sys.stderr, flush=True)
    kakusan(train)
    found = []
    for place, flags in enumerate(READINGS.get(name, ((),))):
        out = run / "evaluation" / f"reading-{place}"
        evaluate = ["evaluate", str(run), *order.evaluate, *flags]
        figures: dict[str, Any] = json.loads(
            kakusan([*evaluate, "--json", "--no-memorizer", "--out", str(out)])
        )
        found.append(
            {
                **figures,
                "name": name,
                "seed": seed,  # of the training: that of the evaluation is the same in all lines
                "train": shlex.join(train),
                "evaluate": shlex.join(evaluate),
            }
        )
    return found


def row(figures: Figures) -> list[str]:
    """A line of the table: the model, how it is read, and bits/dim."""
    held_out, training = (figures["parts"][name] for name in ("held-out", "training"))
    return [
        figures["name"] + ("" if figures["seed"] is None else f", seed {figures['seed']}"),
        figures["variance"],
        str(figures["sigma_1"]),
        f"{figures['clip']:g}" if figures["clip"] else "no",
        f"{held_out['L_T']:.5f}",
        f"{held_out['L_steps']:.4f}",
        f"{held_out['L_0']:.4f}",
        f"{held_out['bits_per_dim']:.4f} ± {held_out['standard_error']:.4f}",
        f"{training['bits_per_dim']:.4f} ± {training['standard_error']:.4f}",
    ]


HEADER = ("schedule, loss", "variance", "sigma_1²", "clip", "L_T", "Σ L_{t-1}", "L_0", "held-out", "training")


def main(arguments: Sequence[str]) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where the runs go")
    parser.add_argument("--data", default="digits", help="digits, kanji, or anything that kakusan trains on")
    parser.add_argument("--preset", help="default: the one called like the data")
    parser.add_argument("--steps", type=int, help="default: as the preset says")
    parser.add_argument(
        "--seeds", type=int, nargs="*", help="of each training; default: that of the settings"
    )
    parser.add_argument("--images", type=int, default=500, help="of each split")
    parser.add_argument("--terms", type=int, help="of each image; default: all T")
    parser.add_argument("--parallel", type=int, default=1, help="trainings at a time")
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps")
    parser.add_argument("--threads", type=int, help="CPU threads of each training")
    parser.add_argument("--only", nargs="*", default=list(TRAININGS), help="some of the trainings")
    parser.add_argument("--json", type=Path, help="write all figures here, too")
    asked = parser.parse_args(arguments)
    train = ["--machine.device", asked.device]
    for flag, value in (
        ("--preset", asked.preset),
        ("--steps", asked.steps),
        ("--machine.threads", asked.threads),
    ):
        train += [flag, str(value)] * (value is not None)
    evaluate = ["--images", str(asked.images)] + ["--terms", str(asked.terms)] * (asked.terms is not None)
    order = Order(asked.folder, asked.data, tuple(train), tuple(evaluate))
    with ThreadPoolExecutor(asked.parallel) as pool:
        found = [
            figures
            for part in pool.map(
                lambda job: measured(order, *job), product(asked.only, asked.seeds or [None])
            )
            for figures in part
        ]
    if asked.json:
        asked.json.write_text(json.dumps(found))
    first = found[0]
    print(table(HEADER, [row(figures) for figures in found]))
    counts = ", ".join(f"{first['parts'][name]['images']} {name}" for name in ("held-out", "training"))
    print(
        f"\n{first['data']}: {counts} images, T = {first['T']}, {first['terms']} terms, {first['weights']} weights, "
        f"{first['precision']} evaluation, {first['environment']['device']}"
    )
    return 0


if __name__ == "__main__":
    leave(main)
