"""The transformer beside the automatic U-Net: python benchmarks/transformer.py [speed] [quality] [--minutes 5]

speed      milliseconds of processor time, on one thread, of a training step and of a sample (DDIM, 50 calls of the
           network), for each image, by turns, at 64x64 and 128x128 in colour, of what the automatic choice makes of
           each kind in its smallest size.
quality    pictures of many things (Debian: tuxpaint-stamps-default) at 64x64. Each network gets as many steps of the
           real training as --minutes of processor time buy it on one thread, which other work on the machine hardly
           changes. Then one loss for all: the squared error of v, at the same t and with the same noise, on pictures
           that were held out.

--out FOLDER keeps the runs of the second; `kakusan report` and `kakusan sample` show them.
"""

import argparse
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from automatic import stamps
from measuring import Figures, Spread, in_words, interleaved, leave, machine, report, table

from kakusan.config.loading import Requested, with_values
from kakusan.config.machine import set_machine
from kakusan.config.resolve import resolve
from kakusan.config.settings import DataSettings, MachineSettings, Settings
from kakusan.data import dataset_in_memory
from kakusan.randomness import Purpose, normals
from kakusan.run import Run
from kakusan.samplers import DDIM, SamplingRequest, sample
from kakusan.shapes import Samples, times_like
from kakusan.training.ladder import for_steps
from kakusan.training.launch import launch
from kakusan.training.losses import NetworkModel, Velocity
from kakusan.training.prepare import Prepared, prepare_data, reopen_data
from kakusan.training.state import Task, assemble
from kakusan.training.step import train_step
from kakusan.training.validation import compared

SIDES, CALLS, BATCH = (64, 128), 50, 16
BANDS = ((1, 100), (101, 500), (501, 1000))
"""Of t: the grain, what is seen, the whole."""
PICTURES = 1000
"""More than there are."""
WARM_STEPS, TIMED_STEPS = 2, 4
TIMES_OF_A_BAND = 12
TRANSFORMER = {"network.kind": "transformer"}
TRIALS: dict[str, dict[str, Any]] = {
    "U-Net, v": {},
    "transformer, x_0": TRANSFORMER,
    "transformer, v": {**TRANSFORMER, "process.predicts": "v"},
    "transformer, bottleneck 64": {**TRANSFORMER, "network.bottleneck": 64},
}
"""What is chosen; all else is automatic."""
FOR_SPEED = ("U-Net, v", "transformer, x_0")


def settings_of(name: str, **values: Any) -> Settings:
    """The settings of a trial, on one thread."""
    base = Settings(machine=MachineSettings(device="cpu", threads=1))
    return with_values(base, {**TRIALS[name], **values})


def task_of(settings: Settings, prepared: Prepared) -> Task:
    """A training of the automatic network of a few steps: the smallest size."""
    found = for_steps(resolve(settings, prepared.facts), prepared, TIMED_STEPS)
    set_machine(found.settings.machine)
    return assemble(found.settings, prepared)


def in_short(task: Task) -> Figures:
    """What the network is."""
    network = task.settings.network
    return {
        "network": "width {width}, {blocks} blocks, patch {patch}".format(**asdict(network)),
        "parameters": sum(p.numel() for p in task.network.parameters()),
    }


def training_step(task: Task) -> None:
    train_step(task.state, task.batches, task.loss, task.settings.training)


# Speed


def speed(repeats: int, sides: Sequence[int]) -> Figures:
    """Milliseconds for each image, of noise: time does not depend on what they show."""
    return {f"{side}x{side}": speed_at(side, repeats) for side in sides}


def speed_at(side: int, repeats: int) -> Figures:
    noise = np.random.default_rng(0).integers(0, 256, (2 * BATCH, side, side, 3), dtype=np.uint8)
    data = dataset_in_memory(noise, DataSettings())
    tasks = {}
    for name in FOR_SPEED:
        settings = settings_of(name, **{"training.batch_size": BATCH, "training.accumulation": 1})
        tasks[name] = task_of(settings, prepare_data(settings, in_memory=data))
    request = SamplingRequest(count=BATCH, shape=(3, side, side), micro_batch=BATCH)
    steps = {name: partial(training_step, task) for name, task in tasks.items()}
    samplings = {
        name: partial(sample, task.model, DDIM(steps=CALLS), request) for name, task in tasks.items()
    }
    step_times = interleaved(steps, repeats, clock=time.process_time)
    sampling_times = interleaved(samplings, max(1, repeats // 3), warm=0, clock=time.process_time)
    return {
        name: {
            **in_short(task),
            "step_ms": vars(Spread.of([1e3 * s / BATCH for s in step_times[name]])),
            "sample_ms": vars(Spread.of([1e3 * s / BATCH for s in sampling_times[name]])),
        }
        for name, task in tasks.items()
    }


# Quality


def quality(out: Path, minutes: float, names: Sequence[str], side: int) -> Figures:
    """Each network trained for the same processor time, then the same loss on the same held-out pictures."""
    pictures = stamps(out / "pictures", PICTURES, 1)
    found = {}
    for name in names:
        settings = settings_of(name, **{"data.source": str(pictures), "data.size": side})
        found[name] = trained(settings, out / "-".join(name.replace(",", "").split()), minutes)
    return found


def trained(settings: Settings, folder: Path, minutes: float) -> Figures:
    """A training of so many minutes of processor time, and what it came to."""
    task = task_of(settings, prepare_data(settings))
    steps = max(1, int(60 * minutes / step_seconds(task)))
    shutil.rmtree(folder, ignore_errors=True)
    begun = time.process_time()
    asked = Requested(with_values(settings, {"training.steps": steps}), frozenset({"training.steps"}))
    for _ in launch(asked, folder).events():
        pass
    used = time.process_time() - begun
    run = Run.open(folder)
    prepared = reopen_data(run.settings, run.files.data)
    model = run.load(device="cpu").model
    losses = dict(compared(model, Velocity(), prepared.dataset, prepared.split, torch.device("cpu")).figures)
    x_0 = prepared.dataset.x_0(prepared.split.held_out)
    losses |= {f"held_out_{low}_to_{high}": loss_within(model, x_0, low, high) for low, high in BANDS}
    return {**in_short(task), "steps": steps, "processor_seconds": used, **losses}


@torch.no_grad()
def loss_within(model: NetworkModel, x_0: Samples, low: int, high: int) -> float:
    """The loss of these pictures at times spread evenly over a band of t."""
    numbers, found = torch.arange(len(x_0)), []
    for t in np.linspace(low, high, TIMES_OF_A_BAND).round().tolist():
        noise = normals(0, Purpose.EVALUATION, int(t), numbers, tuple(x_0.shape[1:]))
        found.append(float(Velocity().per_image(model, x_0, times_like(t, x_0), noise).mean()))
    return float(np.mean(found))


def step_seconds(task: Task) -> float:
    """Processor time of a training step."""
    for _ in range(WARM_STEPS):
        training_step(task)
    begun = time.process_time()
    for _ in range(TIMED_STEPS):
        training_step(task)
    return (time.process_time() - begun) / TIMED_STEPS


# Words


def in_tables(found: dict[str, Figures]) -> str:
    """A table for each case."""
    return "\n\n".join(TABLES[case](figures) for case, figures in found.items())


def table_of_speed(found: Figures) -> str:
    lines = [
        [side, name, *described(of), within(of["step_ms"]), within(of["sample_ms"])]
        for side, each in found.items()
        for name, of in each.items()
    ]
    header = ["size", "", "network", "parameters", "training step, ms", f"sample in {CALLS} calls, ms"]
    return table(header, lines)


def table_of_quality(found: Figures) -> str:
    lines = [
        [name, *described(of), f"{of['steps']:,}", f"{of['processor_seconds']:.0f}", *losses(of)]
        for name, of in found.items()
    ]
    bands = [f"t {low} to {high}" for low, high in BANDS]
    header = [
        "",
        "network",
        "parameters",
        "steps",
        "processor seconds",
        "held out",
        *bands,
        "training",
        "baseline",
    ]
    return table(header, lines)


TABLES = {"speed": table_of_speed, "quality": table_of_quality}


def described(of: Figures) -> tuple[str, str]:
    return of["network"], f"{of['parameters'] / 1e6:.2f} M"


def within(spread: Figures) -> str:
    """A median with its quartiles."""
    return f"{spread['median']:.1f} ({spread['low']:.1f} to {spread['high']:.1f})"


def losses(of: Figures) -> list[str]:
    """Held out, at all t and by bands; on as many training pictures; the same of mean and power spectrum alone."""
    bands = [f"held_out_{low}_to_{high}" for low, high in BANDS]
    return [f"{of[name]:.3f}" for name in ("held_out_loss", *bands, "training_loss", "baseline_loss")]


def main(arguments: Sequence[str]) -> int:
    """Run the cases."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(TABLES)}; default: all")
    parser.add_argument(
        "--repeats", type=int, default=9, help="of each step that is timed; default: %(default)s"
    )
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES, help="pixels; default: 64 128")
    parser.add_argument("--minutes", type=float, default=5.0, help="for each training; default: %(default)s")
    parser.add_argument("--trials", nargs="+", choices=TRIALS, default=list(TRIALS), help="default: all")
    parser.add_argument("--out", type=Path, default=Path("runs/transformer"), help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.cases) - set(TABLES):
        parser.error(f"there is no case {min(unknown)!r}")
    cases, found = asked.cases or list(TABLES), dict[str, Figures]()
    if "speed" in cases:
        found["speed"] = speed(asked.repeats, asked.sides)
    if "quality" in cases:
        asked.out.mkdir(parents=True, exist_ok=True)
        found["quality"] = quality(asked.out, asked.minutes, asked.trials, asked.sides[0])
    of = machine()
    return report({**found, "machine": of}, f"{in_tables(found)}\n\n{in_words(of)}", as_json=asked.json)


if __name__ == "__main__":
    leave(main)
