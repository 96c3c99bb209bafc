"""What `kakusan train` costs beside the training itself: python benchmarks/training_overhead.py.

On a folder of 10,000 small PNG files, made for the occasion: how long the real command takes from the start of its
process to its first step; and how much of a step passes outside of the network, the optimizer and the average, with
the network that `train` chooses for such a folder and batches of 128. For a CPU, where a call is over when it returns.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from measuring import Figures, Spread, in_words, leave, machine, report, seconds, table
from numpy.typing import NDArray
from PIL import Image

from kakusan.config.loading import settings_for
from kakusan.config.machine import set_machine
from kakusan.config.resolve import resolve
from kakusan.config.settings import Settings, answered
from kakusan.diffusion.gaussians import Gaussian
from kakusan.training import losses, step
from kakusan.training.ladder import for_steps
from kakusan.training.prepare import prepare_data
from kakusan.training.state import Task, assemble
from kakusan.training.step import Batch, BatchSource, train_step

SIDE = 32
NEEDED = ("network", "backward", "optimizer", "average")
"""What a step is for. All else is overhead."""
WARM_STEPS = 2


def make_folder(folder: Path, count: int) -> None:
    """Coloured discs on gradients, a function of their number: structure, as in photographs, and soon made."""
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(disc(np.random.default_rng(number))).save(folder / f"{number:06}.png")


def disc(random: np.random.Generator) -> NDArray[np.uint8]:
    """One image (32, 32, 3)."""
    row, column = np.mgrid[:SIDE, :SIDE] / SIDE
    x, y, radius = random.uniform((0.2, 0.2, 0.1), (0.8, 0.8, 0.4))
    inside = ((column - x) ** 2 + (row - y) ** 2 < radius**2)[..., None]
    slope, ground, colour = (
        random.uniform(-0.5, 0.5, (2, 3)),
        random.uniform(0.2, 0.8, 3),
        random.uniform(0, 1, 3),
    )
    gradient = ground + (row - 0.5)[..., None] * slope[0] + (column - 0.5)[..., None] * slope[1]
    return np.asarray(np.where(inside, colour, gradient).clip(0, 1) * 255, dtype=np.uint8)


# From the start of the process to the first step


def time_to_first_step(folder: Path, run: Path, flags: Sequence[str]) -> Figures:
    """Seconds from the start of `kakusan train FOLDER` until it is about to step, and until that step is done."""
    flags = (
        "--run",
        str(run),
        "--steps",
        "3",
        "--samples.every",
        "1000",
        "--log.every",
        "1",
        "--json",
        *flags,
    )
    begun = time.perf_counter()
    command = [sys.executable, "-m", "kakusan", "train", str(folder), *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        assert child.stdout is not None
        found, said = {}, []
        for line in child.stdout:
            now = time.perf_counter() - begun
            said.append(line)
            if " parameters, " in line:  # its opening words: all is set up
                found["until_first_step_begins"] = now
            if line.startswith("{"):
                found["until_first_step_is_done"] = now
                child.kill()  # what it does later is not asked
                break
    if len(found) < 2:
        raise SystemExit(f"kakusan train did not come to a step:\n{''.join(said)}")
    return found


# Within a step


@dataclass
class Stopwatch:
    """Adds up the seconds that named functions take."""

    total: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, and its time goes to this name."""

        def with_clock(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.total[name] += time.perf_counter() - begun

        return with_clock

    @contextmanager
    def watching(self, *places: tuple[str, Any, str]) -> Iterator[None]:
        """While the block runs, each (name, owner, attribute) is timed; of a dict, a value."""
        with ExitStack() as stack:
            for name, owner, attribute in places:
                if isinstance(owner, dict):
                    stack.enter_context(patch.dict(owner, {attribute: self.timed(name, owner[attribute])}))
                else:
                    timed = self.timed(name, getattr(owner, attribute))
                    stack.enter_context(patch.object(owner, attribute, timed))
            yield


@dataclass(frozen=True)
class TimedBatches:
    """Batches whose making is timed."""

    make: Callable[..., Batch]

    def at(self, step: int, start: int = 0, count: int | None = None) -> Batch:
        return self.make(step, start, count)


def task_for(folder: Path, batch_size: int, network: Settings) -> Task:
    """A training as `kakusan train FOLDER` sets it up, on the CPU; nothing is written."""
    settings = settings_for(str(folder))
    settings = replace(
        settings,
        network=network.network,
        training=replace(settings.training, batch_size=batch_size),
        machine=replace(settings.machine, device="cpu", threads=network.machine.threads, workers=1),
    )
    prepared = prepare_data(settings)
    settings = for_steps(resolve(settings, prepared.facts), prepared, 3).settings
    set_machine(settings.machine)
    return assemble(settings, prepared)


def places(task: Task) -> list[tuple[str, Any, str]]:
    """Where the time of a step goes: the four things it is for, and what there is beside them."""
    state = task.state
    return [
        ("network", task.network, "forward"),
        ("backward", torch.autograd, "backward"),
        ("optimizer", torch.nn.utils, "get_total_norm"),
        ("optimizer", state.optimizer, "step"),
        ("optimizer", state.optimizer, "zero_grad"),
        ("average", state.ema, "update"),
        ("draw noise", step, "normals"),
        ("draw t", state.times, "draw"),
        ("seed dropout", step, "torch_seed"),
        ("forward process", losses, "q_marginal"),
        ("forward process", Gaussian, "reparametrize"),
        ("tally", state.tally, "add"),
    ]


def time_steps(task: Task, steps: int) -> Figures:
    """Medians over the steps: the whole, its parts, and the share of it that is overhead."""
    timed = [parts_of_a_step(task) for _ in range(WARM_STEPS + steps)][WARM_STEPS:]
    order = time_of_an_order(task)
    steps_per_epoch = len(task.batches.indices) / answered(task.settings.training.batch_size)
    overhead = [
        (sum(time for name, time in parts.items() if name not in NEEDED) + order / steps_per_epoch)
        / sum(parts.values())
        for parts in timed
    ]
    return {
        "steps": steps,
        "batch_size": answered(task.settings.training.batch_size),
        "parameters": sum(p.numel() for p in task.network.parameters()),
        "precision": task.settings.machine.precision,
        "step_seconds": vars(Spread.of([sum(parts.values()) for parts in timed])),
        "parts_seconds": {name: Spread.of([parts[name] for parts in timed]).median for name in timed[0]},
        "order_of_an_epoch_seconds": order,
        "steps_per_epoch": steps_per_epoch,
        "overhead_share": vars(Spread.of(overhead)),
    }


def parts_of_a_step(task: Task) -> dict[str, float]:
    """Seconds of one real training step, by what they went into; "else" is what no clock was set to."""
    watch = Stopwatch()
    batches: BatchSource = TimedBatches(watch.timed("batch", task.batches.at))
    task.network.train()
    with watch.watching(*places(task)):
        whole = seconds(lambda: train_step(task.state, batches, task.loss, task.settings.training))
    return {**watch.total, "else": whole - sum(watch.total.values())}


def time_of_an_order(task: Task) -> float:
    """The first batch of an epoch draws the order of all images. It is spread over the epoch's steps."""
    batches, epochs = task.batches, range(100, 103)
    first = [-(-epoch * len(batches.indices) // batches.batch_size) for epoch in epochs]
    usual = Spread.of([seconds(lambda: batches.at(1)) for _ in range(5)]).median
    return max(0.0, Spread.of([seconds(partial(batches.at, step)) for step in first]).median - usual)


# What people see


def shown(figures: Figures) -> str:
    """The figures for people."""
    step = figures["step"]
    whole, share = step["step_seconds"]["median"], step["overhead_share"]
    order = step["order_of_an_epoch_seconds"] / step["steps_per_epoch"]
    seconds_of = {**step["parts_seconds"], "order of an epoch, its share": order}
    rows = [
        (name, "" if name in NEEDED else "yes", f"{1000 * part:.2f}", f"{part / whole:.2%}")
        for name, part in sorted(seconds_of.items(), key=lambda item: -item[1])
    ]
    start = figures["start"]
    return "\n".join(
        (
            in_words(figures["machine"]),
            f"\n{figures['images']:,} PNG files: the first step begins {start['until_first_step_begins']:.1f} s after"
            f" the start of `kakusan train` (goal: 10 s) and is done at {start['until_first_step_is_done']:.1f} s",
            f"\na step of {step['batch_size']} images, {step['parameters']:,} parameters, {step['precision']}:"
            f" {1000 * whole:.0f} ms (median of {step['steps']})",
            f"overhead: {share['median']:.2%} of a step, quartiles {share['low']:.2%} and {share['high']:.2%}"
            " (goal: under 2 %)\n",
            table(("part", "overhead", "ms", "of a step"), rows),
        )
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000, help="PNG files (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=15, help="steps that are timed (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=128, help="images a step (default: %(default)s)")
    parser.add_argument("--width", type=int, help="of the network; default: what `train` chooses")
    parser.add_argument("--threads", type=int, help="default: one for each core")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    flags = [f"--training.batch-size={asked.batch_size}"]
    network = Settings()
    if asked.width:
        flags.append(f"--network.width={asked.width}")
        network = replace(network, network=replace(network.network, width=asked.width))
    if asked.threads:
        flags.append(f"--machine.threads={asked.threads}")
        network = replace(network, machine=replace(network.machine, threads=asked.threads))
    with tempfile.TemporaryDirectory() as there:
        folder = Path(there) / "images"
        make_folder(folder, asked.images)
        start = time_to_first_step(folder, Path(there) / "run", flags)
        task = task_for(folder, asked.batch_size, network)
        figures = {
            "images": asked.images,
            "start": start,
            "step": time_steps(task, asked.steps),
            "machine": machine(),
        }
    return report(figures, shown(figures), as_json=asked.json)


if __name__ == "__main__":
    leave(main)
