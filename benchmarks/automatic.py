"""What `kakusan train DATA --minutes M` makes of data with no other flag: python benchmarks/automatic.py CASE ...

garments   60,000 images of Fashion-MNIST (Debian: dataset-fashion-mnist), 15 minutes, beside a plain script on
           diffusers (plain_diffusers.py) that has the same minutes: Fréchet distance of 2,000 samples (DDIM, 50 steps;
           the script's also at times that start at T) to the training images, in the features of a small classifier;
           2,000 test images say what is possible.
photos     300 pictures of animals, food, plants, towns, vehicles (Debian: tuxpaint-stamps-default), 15 minutes.
forty      40 of them, 5 minutes.
digits     the bundled digits with their preset, 2 minutes: the ratio of Fréchet distances of digits_quality.py.

Each runs the real command from outside: seconds, peak memory, losses. --out FOLDER keeps the runs and a picture of the
first samples. On two cores the four take about 55 minutes.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from garment_features import GARMENTS, TEST, TRAINING, Judge, as_images, read_idx
from measuring import Figures, in_words, leave, machine, report, table

from kakusan.errors import DataError
from kakusan.evaluation.metrics import copy_rate
from kakusan.run import Run

STAMPS = Path("/usr/share/tuxpaint/stamps")
"""Where Debian's package tuxpaint-stamps-default puts them."""
SUBJECTS = ("animals", "food", "plants", "town", "vehicles")
COUNT = 2000
CALLS = 50
MINUTES = {"garments": 15.0, "photos": 15.0, "forty": 5.0, "digits": 2.0}


def run_command(arguments: Sequence[str | os.PathLike[str]]) -> Figures:
    """Seconds and peak memory of a command, seen from outside. Its progress goes to stderr."""
    begun = time.monotonic()
    child = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"exit code {child.returncode}: {' '.join(map(str, arguments))}")
    return {"seconds": time.monotonic() - begun, "peak_gb": used.ru_maxrss / 1e6}


def trained(data: str | Path, folder: Path, minutes: float) -> Figures:
    """`kakusan train DATA --minutes M`: what it cost, and what it came to."""
    figures = run_command(
        ["-m", "kakusan", "train", str(data), "--minutes", str(minutes), "--run", str(folder)]
    )
    run = Run.open(folder)
    last = [line for line in run.files.metrics() if "held_out_loss" in line][-1]
    settings = run.settings
    figures |= {
        "parameters": sum(p.numel() for p in run.load().network.parameters()),
        "network": "width {width} x {multipliers}, patch {patch}".format_map(asdict(settings.network)),
        "steps": settings.training.steps,
        "training_loss": last["training_loss"],
        "held_out_loss": last["held_out_loss"],
    }
    return figures


def sampled(run: Path, out: Path, count: int) -> Figures:
    """`kakusan sample`, DDIM in 50 steps, to an .npz."""
    flags = [
        "--count",
        str(count),
        "--sampler",
        "ddim",
        "--steps",
        str(CALLS),
        "--out",
        str(out),
        "--overwrite",
    ]
    return {"sampling_seconds": run_command(["-m", "kakusan", "sample", str(run), *flags])["seconds"]}


def pictured(run: Path, out: Path, count: int) -> None:
    """The first samples of seed 0, none picked."""
    flags = ["--count", str(count), "--steps", str(CALLS), "--out", str(out), "--overwrite"]
    run_command(["-m", "kakusan", "sample", str(run), *flags])


def images_in(path: Path, name: str = "images") -> Any:
    with np.load(path) as stored:
        return stored[name]


def garments(out: Path, minutes: float) -> Figures:
    """Ours and theirs, one after the other, then the same eyes for both."""
    data = GARMENTS / TRAINING
    if not data.exists():
        raise DataError(f"there is no {data}", "apt install dataset-fashion-mnist")
    ours = trained(data, out / "garments", minutes)
    ours |= sampled(out / "garments", out / "ours.npz", COUNT)
    np.savez(out / "training.npz", images=read_idx(data)[..., None])
    script = Path(__file__).with_name("plain_diffusers.py")
    theirs = run_command([script, out / "training.npz", out / "theirs.npz", "--minutes", str(minutes)])
    with np.load(out / "theirs.npz") as stored:
        theirs |= {"parameters": int(stored["parameters"]), "steps": int(stored["steps"])}
        theirs |= {"sampling_seconds": float(stored["seconds"])}
    judge = Judge.of()
    known = as_images(read_idx(data))
    trailing: Figures = {}
    test: Figures = {}
    for figures, images in (
        (ours, images_in(out / "ours.npz")),
        (theirs, images_in(out / "theirs.npz")),
        (trailing, images_in(out / "theirs.npz", "images_trailing")),
        (test, read_idx(GARMENTS / TEST)[:COUNT]),
    ):
        figures["distance"] = judge.distance(images)
        figures["copy_rate"] = copy_rate(as_images(images), known).rate
        figures["mean_level"] = float(images.mean())
    pictured(out / "garments", out / "garments.png", 64)
    return {
        "kakusan": ours,
        "diffusers": theirs,
        "diffusers, trailing times": trailing,
        "test images": test,
    }


def stamps(folder: Path, count: int, every: int) -> Path:
    """A folder with so many pictures, the first by name of every so many."""
    if not STAMPS.exists():
        raise DataError(f"there is no {STAMPS}", "apt install tuxpaint-stamps-default")
    found = sorted(p for subject in SUBJECTS for p in (STAMPS / subject).rglob("*.png"))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, path in enumerate(found[::every][:count]):
        shutil.copy(path, folder / f"{number:03}.png")
    return folder


def photos(out: Path, minutes: float) -> Figures:
    """300 pictures of many sizes."""
    figures = trained(stamps(out / "photos-data", 300, 1), out / "photos", minutes)
    pictured(out / "photos", out / "photos.png", 32)
    return {"kakusan": figures}


def forty(out: Path, minutes: float) -> Figures:
    """40 pictures of many sizes."""
    figures = trained(stamps(out / "forty-data", 40, 7), out / "forty", minutes)
    pictured(out / "forty", out / "forty.png", 32)
    return {"kakusan": figures}


def digits(out: Path, minutes: float) -> Figures:
    """The bundled digits, judged by digits_quality.py."""
    figures = trained("digits", out / "digits", minutes)
    script = Path(__file__).with_name("digits_quality.py")
    judged = subprocess.run(
        [sys.executable, script, out / "digits", "--json"], check=True, capture_output=True, text=True
    )
    judgement = json.loads(judged.stdout)
    return {"kakusan": {**figures, "ratio": judgement["frechet_ratio"], "judgement": judgement}}


CASES: dict[str, Callable[[Path, float], Figures]] = {
    "garments": garments,
    "photos": photos,
    "forty": forty,
    "digits": digits,
}
COLUMNS = (
    "parameters",
    "steps",
    "training_loss",
    "held_out_loss",
    "distance",
    "copy_rate",
    "mean_level",
    "ratio",
    "seconds",
    "sampling_seconds",
    "peak_gb",
)


def shown(value: Any) -> str:
    """A figure as a cell of a table."""
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def in_table(found: dict[str, Figures]) -> str:
    """A line for each system of each case."""
    lines = [
        [case, who, *(shown(figures.get(column)) for column in COLUMNS)]
        for case, systems in found.items()
        for who, figures in systems.items()
    ]
    return table(["case", "", *(column.replace("_", " ") for column in COLUMNS)], lines)


def main(arguments: Sequence[str]) -> int:
    """Run the cases."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(CASES)}; default: all")
    parser.add_argument("--out", type=Path, default=Path("runs/automatic"), help="default: %(default)s")
    parser.add_argument("--minutes", type=float, help="for each training; default: 15, 15, 5, 2")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.cases) - set(CASES):
        parser.error(f"there is no case {min(unknown)!r}")
    asked.out.mkdir(parents=True, exist_ok=True)
    found = {case: CASES[case](asked.out, asked.minutes or MINUTES[case]) for case in asked.cases or CASES}
    of = machine()
    return report({**found, "machine": of}, f"{in_table(found)}\n\n{in_words(of)}", as_json=asked.json)


if __name__ == "__main__":
    leave(main)
