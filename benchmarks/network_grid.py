"""Whether the automatic network is the right one: a grid of networks by the clock, on four data sets.

    python benchmarks/network_grid.py clock > clock.jsonl           how long a step takes here, for each network
    python benchmarks/network_grid.py train clock.jsonl >> losses.jsonl
    python benchmarks/network_grid.py show losses.jsonl

digits, kanji     the bundled data
garments          60,000 images of Fashion-MNIST (Debian: dataset-fashion-mnist)
photos            the 796 pictures of Debian's tuxpaint-stamps-default, at 32x32, in colour

A cell of the grid is a network of `LADDER` and a budget: it gets the steps that the machine of the clock affords in so
many minutes, and the recipe that `kakusan train` gives to so many steps. What comes out, the held-out loss of the
averaged weights, depends on steps and not on the clock, so a GPU may do the training: there, several at once, each on a
stream of its own. The automatic choice is right where its loss is within a tenth of the lowest of its budget.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from forecast_table import STAMPS, rounded
from garment_features import GARMENTS, TRAINING
from measuring import in_words, leave, machine, table

from kakusan.config.facts import Size
from kakusan.config.machine import set_machine
from kakusan.config.networks.unet import LADDER
from kakusan.config.resolve import resolve, resolve_for
from kakusan.config.settings import Settings, answered
from kakusan.training.ladder import FOR_STEPS, _step_seconds
from kakusan.training.loop import check_finite, take_step
from kakusan.training.prepare import Prepared, prepare_data
from kakusan.training.state import Task, assemble, averaged
from kakusan.training.validation import compared

DATA = ("digits", "kanji", "garments", "photos")
SIZES = LADDER[:6]
BUDGETS = (2, 15, 60)
"""Minutes."""
BATCH = 64
"""As `kakusan train` has it on a CPU."""
PATIENCE = 4.0
"""Seconds that each network is timed for."""
WITHIN = 1.1


@dataclass(frozen=True)
class Cell:
    """A network on some data for some minutes, and how many steps that is."""

    data: str
    width: int
    blocks: int
    patch: int
    parameters: int
    minutes: float
    steps: int
    chosen: bool
    """Whether it is what `kakusan train` would choose."""


@cache
def prepared_of(name: str, device: str, garments: Path, photos: Path) -> tuple[Settings, Prepared]:
    """The data, and settings in which only network and recipe are open."""
    source = {"garments": str(garments), "photos": str(photos)}.get(name, name)
    settings = Settings()
    data = replace(settings.data, source=source)
    if name == "photos" and photos.is_dir():
        data = replace(data, size=(32, 32), bad_share=1.0)
    settings = replace(
        settings,
        data=data,
        training=replace(settings.training, batch_size=BATCH, accumulation=1),
        machine=replace(settings.machine, device=device),
    )
    prepared = prepare_data(settings)
    settings = resolve(settings, prepared.facts)
    set_machine(settings.machine)
    return settings, prepared


def networks(settings: Settings, prepared: Prepared) -> Iterator[tuple[Size, Settings]]:
    """The sizes of the ladder that are different networks for these data."""
    seen = []
    for size in SIZES:
        resolved = resolve_for(settings, prepared.facts, 10**9, size)
        if resolved.network not in seen:
            seen.append(resolved.network)
            yield size, resolved


# The clock


def clock(asked: argparse.Namespace) -> int:
    """Seconds of a step of each network here."""
    for name in asked.data.split(","):
        settings, prepared = prepared_of(name, "cpu", asked.garments, asked.photos)
        for size, resolved in networks(settings, prepared):
            network: Any = resolved.network
            seconds = _step_seconds(resolved, prepared, PATIENCE)
            print(json.dumps({
                "data": name, "size": asdict(size), "patch": answered(network.patch), "seconds": seconds,
            }), flush=True)  # fmt: skip
    print(in_words(machine()), file=sys.stderr)
    return 0


# The training


def cells(lines: Sequence[dict[str, Any]]) -> Iterator[tuple[Cell, Size]]:
    """All cells, the cheapest budgets first."""
    for minutes in BUDGETS:
        for name in DATA:
            found = [line for line in lines if line["data"] == name]
            affords = [int(FOR_STEPS * 60 * minutes / line["seconds"]) for line in found]
            chosen = 0
            for place, (line, steps) in enumerate(zip(found, affords, strict=True)):
                if steps < line["size"]["steps"]:
                    break
                chosen = place
            for place, (line, steps) in enumerate(zip(found, affords, strict=True)):
                size = Size(**line["size"])
                yield (
                    Cell(
                        name,
                        size.width,
                        size.blocks,
                        line["patch"],
                        0,
                        minutes,
                        steps,
                        chosen=place == chosen,
                    ),
                    size,
                )


class Lane:
    """A training on a stream of its own, step by step."""

    def __init__(self, cell: Cell, size: Size, asked: argparse.Namespace) -> None:
        self.cell, self.cuda = cell, asked.device == "cuda"
        self.stream = torch.cuda.Stream() if self.cuda else None  # type: ignore[no-untyped-call]
        with self.here():
            settings, prepared = prepared_of(cell.data, asked.device, asked.garments, asked.photos)
            self.task: Task = assemble(resolve_for(settings, prepared.facts, cell.steps, size), prepared)
            self.task.network.train()

    def here(self) -> Any:
        return torch.cuda.stream(self.stream) if self.stream is not None else nullcontext()

    def step(self) -> bool:
        """Whether it was the last one."""
        task = self.task
        with self.here():
            take_step(task.state, task.batches, task.loss, task.settings.training)
        return task.state.step >= self.cell.steps

    def result(self) -> dict[str, Any]:
        """The losses at the end."""
        task = self.task
        with self.here():
            check_finite(task.state)
            prepared = task.prepared
            with averaged(task):
                losses = compared(task.model, task.loss, prepared.dataset, prepared.split, task.state.device)
        figures = {name: rounded(float(losses.figures[name])) for name in LOSSES}
        parameters = sum(p.numel() for p in task.network.parameters())
        channels, side, _ = prepared.dataset.shape
        of_data = {"images": len(prepared.split.training), "channels": channels, "side": side}
        return {**asdict(replace(self.cell, parameters=parameters)), **of_data, **figures}


LOSSES = ("training_loss", "held_out_loss", "baseline_loss")


def train(asked: argparse.Namespace) -> int:
    """Train the cells that are not there yet; those that the time does not suffice for are left out."""
    begun = time.monotonic()
    lines = [json.loads(line) for line in asked.clock.read_text("utf-8").splitlines()]
    waiting = [
        (cell, size)
        for cell, size in cells(lines)
        if cell.data in asked.data.split(",") and str(cell.minutes) in asked.minutes.split(",")
    ]
    waiting.sort(key=lambda item: (item[0].minutes, -item[0].steps))  # long ones first: they end together
    lanes: list[Lane] = []
    while waiting or lanes:
        if time.monotonic() - begun > asked.seconds:
            break
        while waiting and len(lanes) < asked.lanes:
            lanes.append(Lane(*waiting.pop(0), asked))
        for lane in list(lanes):
            for _ in range(20):
                if lane.step():
                    print(json.dumps(lane.result()), flush=True)
                    lanes.remove(lane)
                    break
    for lane in lanes:
        print(f"not done: {lane.cell} at step {lane.task.state.step}", file=sys.stderr)
    for cell, _ in waiting:
        print(f"not begun: {cell}", file=sys.stderr)
    return 0


# What people see


def show(asked: argparse.Namespace) -> int:
    print(shown(asked.losses))
    return 0


def shown(file: Path) -> str:
    """The tables of docs/recipe.md."""
    found = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    right, of, parts = 0, 0, []
    for name in DATA:
        rows = []
        for minutes in BUDGETS:
            of_budget = [line for line in found if line["data"] == name and line["minutes"] == minutes]
            if not of_budget:
                continue
            best = min(line["held_out_loss"] for line in of_budget)
            for line in sorted(of_budget, key=lambda line: line["parameters"]):
                ratio = line["held_out_loss"] / best
                if line["chosen"]:
                    right, of = right + (ratio <= WITHIN), of + 1
                network = f"width {line['width']}, {line['blocks']} block{'s' * (line['blocks'] > 1)}"
                network += f", patch {line['patch']}" * (line["patch"] > 1)
                rows.append(
                    (
                        f"{minutes} min", network, f"{line['parameters'] / 1e6:.1f} M", f"{line['steps']:,}",
                        f"{line['training_loss']:.4g}", f"{line['held_out_loss']:.4g}", f"{ratio:.3f}",
                        "chosen" * line["chosen"],
                    )
                )  # fmt: skip
        if rows:
            head = ("", "network", "parameters", "steps", "training loss", "held-out loss", "of the best", "")
            parts.append(f"{name}\n\n{table(head, rows)}")
    return "\n\n".join([*parts, f"the choice is within a tenth of the best in {right} of {of} budgets"])


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    work = parser.add_subparsers(required=True)
    for name, action in (("clock", clock), ("train", train), ("show", show)):
        part = work.add_parser(name)
        part.set_defaults(action=action)
        if name == "show":
            part.add_argument("losses", type=Path)
            continue
        part.add_argument("--data", default=",".join(DATA), help="default: %(default)s")
        part.add_argument("--garments", type=Path, default=GARMENTS / TRAINING)
        part.add_argument("--photos", type=Path, default=STAMPS, help="a folder, or an array of 32x32")
        if name == "train":
            part.add_argument("clock", type=Path)
            part.add_argument("--device", default="cpu", help="default: %(default)s")
            part.add_argument("--lanes", type=int, default=1, help="trainings at once, on a GPU")
            part.add_argument("--seconds", type=float, default=1e9, help="end after these")
            part.add_argument("--minutes", default=",".join(map(str, BUDGETS)), help="default: %(default)s")
    asked = parser.parse_args(arguments)
    done: int = asked.action(asked)
    return done


if __name__ == "__main__":
    leave(main)
