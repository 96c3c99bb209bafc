"""The table behind `kakusan plan`: what a training leaves of the loss of a denoiser that knows mean and spectrum alone.

    python benchmarks/forecast_table.py [CASE ...] [--photos FOLDER] [--out FOLDER]

digits, kanji     the bundled data, with the automatic network rather than their presets
garments          60,000 images of Fashion-MNIST (Debian: dataset-fashion-mnist)
photos            the pictures of a folder, at 32x32; by default the 796 of Debian's tuxpaint-stamps-default
few               100, 200 and 400 of the digits: when the held-out loss turns up; with it, 300 pictures of automatic.py

Each length is a run of its own, since the rate decays to 0 over its steps: the held-out loss at a step of a longer run
is another. Losses are those of the averaged weights at the end, on held-out images, as metrics.jsonl has them; they
depend on steps, not on the clock, so other work may run beside. A run that is there already is read, and one that was
stopped goes on: the same line again finishes the table. --out FOLDER keeps the runs. Alone on two cores all take about
half an hour.

The table goes to stdout, as CSV: src/kakusan/training/forecast.csv is the one that ships.
"""

import argparse
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from garment_features import GARMENTS, TRAINING
from measuring import leave, report

from kakusan.config.settings import answered
from kakusan.errors import DataError
from kakusan.run import Run
from kakusan.training.forecast import Trial

STAMPS = Path("/usr/share/tuxpaint/stamps")
"""Where Debian's package tuxpaint-stamps-default puts them."""
LENGTHS = (300, 1_000, 3_000)
EVERY = 100
"""Steps between two held-out losses."""
DIGITS = 1_797
SMALLEST = dict.fromkeys(("garments", "photos"), ("--network.width", "32", "--network.patch", "2"))
"""Flags that keep the smallest automatic network in longer trainings, where it is another."""
FEW = {100: 3_000, 200: 1_500, 400: 3_000}
"""Digits to train on, and steps enough for the held-out loss to turn up."""


PICTURES = Trial("photos", 270, 3, 32, 32, 2, 707_692, 64, 10_816, 0.124, 0.214, 0.32, 0.196, 4_056)
"""A training of automatic.py (300 pictures, 15 minutes: README.md), whose held-out loss turned up much later."""


@dataclass(frozen=True)
class Case:
    """A training: what tells it from a plain `kakusan train DATA --steps N`."""

    name: str
    data: str
    steps: int
    flags: tuple[str, ...] = ()


def cases(name: str, photos: Path) -> Iterator[Case]:
    """The trainings of a case, the shortest first."""
    if name == "few":
        for count, steps in FEW.items():
            flags = ("--data.held-out", str(DIGITS - count))
            yield Case(f"digits-{count}-{steps}", "digits", steps, flags)
        return
    source = {"garments": str(GARMENTS / TRAINING), "photos": str(photos)}.get(name, name)
    of_folder = ("--data.size", "32", "32", "--data.bad-share", "1") if name == "photos" else ()
    for steps in LENGTHS:
        yield Case(f"{name}-{steps}", source, steps, (*of_folder, *SMALLEST.get(name, ())))


def trained(case: Case, out: Path) -> Trial:
    """The run of a case: trained where it is not there, or not at its end."""
    folder = out / case.name
    if not _is_done(folder, case.steps):
        command = [
            sys.executable,
            "-m",
            "kakusan",
            "train",
            case.data,
            "--preset",
            "none",
            "--steps",
            str(case.steps),
        ]
        cadence = ["--samples.every", str(EVERY), "--samples.count", "1", "--samples.steps", "1"]
        plain = ["--machine.threads", "1", "--checkpoint.snapshots", "none", "--run", str(folder)]
        subprocess.run([*command, *cadence, *plain, *case.flags], check=True, stdout=subprocess.DEVNULL)
    return row_of(case, Run.open(folder))


def _is_done(folder: Path, steps: int) -> bool:
    return (folder / "config.toml").exists() and Run.open(folder).files.steps[-1:] == [steps]


def row_of(case: Case, run: Run) -> Trial:
    """The figures of a run that is at its end."""
    lines = [line for line in run.files.metrics() if "held_out_loss" in line]
    lowest, last = min(lines, key=lambda line: line["held_out_loss"]), lines[-1]
    network: Any = run.settings.network
    channels, side, *_ = run.data.shape
    return Trial(
        data=case.name.split("-")[0],
        images=run.files.data["count"] - len(run.files.data["held_out"]),
        channels=channels,
        side=side,
        width=answered(network.width),
        patch=answered(network.patch),
        parameters=sum(p.numel() for p in run.load().network.parameters()),
        batch_size=answered(run.settings.training.batch_size),
        steps=case.steps,
        training_loss=rounded(last["training_loss"]),
        held_out_loss=rounded(last["held_out_loss"]),
        baseline_loss=rounded(last["baseline_loss"]),
        lowest_loss=rounded(lowest["held_out_loss"]),
        lowest_step=lowest["step"],
    )


def rounded(value: float) -> float:
    """To four digits: the chance in a held-out loss is in the third."""
    return round(value, 3 - math.floor(math.log10(abs(value))))


def as_csv(found: Sequence[Trial]) -> str:
    """A line of names and one of figures for each."""
    names = ",".join(field.name for field in fields(Trial))
    return "\n".join((names, *(",".join(map(str, asdict(trial).values())) for trial in found)))


CASES = ("digits", "kanji", "garments", "photos", "few")


def main(arguments: Sequence[str]) -> int:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(CASES)}; default: all")
    parser.add_argument("--photos", type=Path, default=STAMPS, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("runs/forecast"), help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.cases) - set(CASES):
        parser.error(f"there is no case {min(unknown)!r}")
    wanted = [case for name in asked.cases or CASES for case in cases(name, asked.photos)]
    for case in wanted:
        if case.data not in ("digits", "kanji") and not Path(case.data).exists():
            raise DataError(f"there is no {case.data}", "leave its case out, or name a folder with --photos")
    asked.out.mkdir(parents=True, exist_ok=True)
    found = [trained(case, asked.out) for case in wanted]
    found += [PICTURES] * ("few" in (asked.cases or CASES))
    return report({"trials": [asdict(trial) for trial in found]}, as_csv(found), as_json=asked.json)


if __name__ == "__main__":
    leave(main)
