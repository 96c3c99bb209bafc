"""The trials behind the automatic choice, on Fashion-MNIST with one thread: python benchmarks/recipe_trials.py.

Each line of `TRIALS` is `kakusan train` for some minutes with its flags, then the Fréchet distance of 1,000 samples
(DDIM, 25 steps) to the training images, in the features of automatic.py's classifier. About an hour for all.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from automatic import run_command
from garment_features import GARMENTS, TRAINING, Judge
from measuring import Figures, in_words, leave, machine, report, table

from kakusan.run import Run

TRIALS: dict[str, tuple[float, str]] = {
    "width 32": (4.5, "--network.width 32"),
    "width 32, patch 2": (4.5, "--network.width 32 --network.patch 2"),
    "width 48, patch 2": (4.5, "--network.width 48 --network.patch 2"),
    "width 32, linear and eps": (4.5, "--network.width 32 --process.schedule linear --process.predicts eps"),
    "width 32, patch 2, shorter": (3.3, "--network.width 32 --network.patch 2"),
    "the same, rate 6e-3": (3.3, "--network.width 32 --network.patch 2 --training.learning-rate 6e-3"),
    "the same, batch 32": (3.3, "--network.width 32 --network.patch 2 --training.batch-size 32"),
    "width 32, longer": (8.3, "--network.width 32"),
    "width 32, patch 2, longer": (8.3, "--network.width 32 --network.patch 2"),
}
ONE_THREAD = "--machine.threads 1"


def trial(name: str, judge: Judge, out: Path) -> Figures:
    """Train, sample, judge."""
    minutes, flags = TRIALS[name]
    folder, samples = out / name.replace(" ", "-"), out / "samples.npz"
    words = [*flags.split(), *ONE_THREAD.split(), "--minutes", str(minutes), "--run", str(folder)]
    run_command(["-m", "kakusan", "train", str(GARMENTS / TRAINING), *words])
    drawn = ["--count", "1000", "--steps", "25", "--out", str(samples), "--overwrite"]
    run_command(["-m", "kakusan", "sample", str(folder), *drawn])
    with np.load(samples) as stored:
        distance = judge.distance(stored["images"])
    return {"minutes": minutes, "steps": Run.open(folder).settings.training.steps, "distance": distance}


def main(arguments: Sequence[str]) -> int:
    """Run the trials."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/trials"), help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    judge = Judge.of()
    found = {name: trial(name, judge, asked.out) for name in TRIALS}
    rows = [
        [name, f"{of['minutes']:g}", f"{of['steps']:,}", f"{of['distance']:.2f}"]
        for name, of in found.items()
    ]
    text = table(["trial", "minutes", "steps", "distance"], rows)
    of = machine()
    return report({**found, "machine": of}, f"{text}\n\n{in_words(of)}", as_json=asked.json)


if __name__ == "__main__":
    leave(main)
