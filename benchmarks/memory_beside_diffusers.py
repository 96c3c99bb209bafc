"""The memory of a training on a CPU beside diffusers: python benchmarks/memory_beside_diffusers.py.

Each contender takes three steps in a process of its own, since a process keeps the peak of all that it ever did. The
figure is the peak of its resident memory less what is resident after the imports; both are stated. kakusan runs as
`kakusan train` does, with its data, its averaged weights and the optimizer; diffusers in a plain loop without an
average, as shipped (float32, torch's AdamW), and tuned (autocast to bfloat16 where the processor has it,
channels-last, the fused AdamW). Linux alone tells the peak of a process by itself.
"""

import argparse
import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from measuring import Figures, in_words, leave, machine, report, table, training_on_noise
from versus_diffusers import Case as Match
from versus_diffusers import Contender, Theirs, Way, settings_on_cpu

from kakusan.config.machine import has_bf16
from kakusan.config.networks import UNetOptions
from kakusan.config.settings import answered
from kakusan.training.loop import check_finite, take_step

STATUS = Path("/proc/self/status")
STEPS = 3
SHIPPED, TUNED = "diffusers, as shipped", "diffusers, tuned"
WAYS: dict[str, dict[str, Any]] = {
    "kakusan": {},
    "kakusan, one part": {"workers": 1},
    "kakusan, fp32": {"precision": "fp32"},
}
"""Of ours, as settings of the machine: as it comes, with all threads in every operation, in float32."""
CONTENDERS = (*WAYS, SHIPPED, TUNED)


@dataclass(frozen=True)
class Case:
    """A preset's network, the images it is for, (channels, height, width), and how many a step."""

    shape: tuple[int, int, int]
    batch_size: int


CASES = {"demo": Case((1, 16, 16), 128), "cifar10": Case((3, 32, 32), 16)}


# In a process of its own


def resident(name: str = "VmRSS") -> int:
    """Bytes of this process in memory now, or at their peak: VmHWM.

    Not getrusage: the peak that it tells begins with that of the process that started this one.
    """
    found = re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


def alone(name: str, preset: str, case: Case, threads: int | None) -> Figures:
    """The memory of one contender, measured in this process: bytes."""
    importlib.import_module("diffusers.models.unets.unet_2d")  # all have imported the same
    before = resident()
    step, about = training_of(name, preset, case, threads)
    for _ in range(STEPS):
        step()
    peak = resident("VmHWM")
    return {"after_imports": before, "peak": peak, "training": peak - before, **about}


def training_of(
    name: str, preset: str, case: Case, threads: int | None
) -> tuple[Callable[[], object], Figures]:
    """The step of one contender, and what is to be said of it."""
    return ours(name, preset, case, threads) if name in WAYS else theirs(name, preset, case, threads)


def ours(name: str, preset: str, case: Case, threads: int | None) -> tuple[Callable[[], object], Figures]:
    """A step as `kakusan train` takes it."""
    way = {"device": "cpu", "threads": threads or "auto", **WAYS[name]}
    task = training_on_noise(case.shape, case.batch_size, preset=preset, accumulation="auto", way=way)

    def step() -> None:
        take_step(task.state, task.batches, task.loss, task.settings.training)
        check_finite(task.state)

    settings = task.settings
    return step, {
        "parameters": sum(weight.numel() for weight in task.network.parameters()),
        "precision": settings.machine.precision,
        "parts_at_once": settings.machine.workers,
        "micro_batches": answered(settings.training.accumulation),
    }


def theirs(name: str, preset: str, case: Case, threads: int | None) -> tuple[Callable[[], object], Figures]:
    """A step of diffusers' network in a plain loop."""
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    settings = settings_on_cpu(preset, case.shape, threads)  # the allocator stays as it comes
    match, options = Match(settings, case.shape, case.batch_size), settings.network
    assert isinstance(options, UNetOptions)
    network = Theirs(options, case.shape[0])
    network.train()
    bf16 = has_bf16("cpu")
    tuned = Way("autocast" if bf16 else "fp32", "channels-last")
    contender = Contender(network, Way(fused=False) if name == SHIPPED else tuned, match.question())
    about = {
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "precision": "bf16" if bf16 and name == TUNED else "fp32",
        "parts_at_once": 1,
        "micro_batches": 1,
    }
    return contender.step, about


# All of them


def measured(name: str, preset: str, batch_size: int, threads: int | None) -> Figures:
    """`alone`, in a process of its own. Raises CalledProcessError where that ends with an error."""
    words = [sys.executable, str(Path(__file__)), "--alone", name, "--case", preset]
    words += ["--batch-size", str(batch_size), *(["--threads", str(threads)] if threads else [])]
    told = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    figures: Figures = json.loads(told.stdout)
    return figures


def measure(preset: str, case: Case, threads: int | None, contenders: Sequence[str]) -> Figures:
    """The figures of one network."""
    found = {name: measured(name, preset, case.batch_size, threads) for name in contenders}
    return {
        "shape": list(case.shape),
        "batch_size": case.batch_size,
        "memory": found,
        "machine": machine(),
    }


def shown(preset: str, figures: Figures) -> str:
    """The figures of one network for people."""
    found = figures["memory"]
    shipped = found.get(SHIPPED, {}).get("training")
    rows = [
        (
            name,
            each["precision"],
            str(each["parts_at_once"]),
            str(each["micro_batches"]),
            f"{each['after_imports'] / 1e6:,.0f}",
            f"{each['peak'] / 1e6:,.0f}",
            f"{each['training'] / 1e6:,.0f}",
            f"{each['training'] / shipped:.2f}" if shipped else "",
        )
        for name, each in found.items()
    ]
    channels, height, width = figures["shape"]
    parameters = next(iter(found.values()))["parameters"]
    head = (
        "", "precision", "parts at once", "micro-batches", "MB after imports", "MB at the peak", "MB of the training",
        "of diffusers' as shipped",
    )  # fmt: skip
    return (
        f"{preset}: {parameters:,} parameters, {figures['batch_size']} images of {height} x {width} x {channels};"
        f" {in_words(figures['machine'])}\n{table(head, rows)}"
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=CASES, help="default: all")
    parser.add_argument(
        "--batch-size", type=int, help="default: 128 for the demo's network, 16 for CIFAR-10's"
    )
    parser.add_argument("--threads", type=int, help="default: one for each core")
    parser.add_argument("--alone", choices=CONTENDERS, help="this contender in this process, as JSON")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    if importlib.util.find_spec("diffusers") is None:
        print("there is nothing to compare with: diffusers is not installed (pip install 'kakusan[bench]')")
        return 0
    if not STATUS.exists():
        print("this system does not tell the peak memory of a process: Linux does")
        return 0
    cases = {
        name: Case(case.shape, asked.batch_size or case.batch_size)
        for name, case in CASES.items()
        if asked.case in (None, name)
    }
    if asked.alone:
        ((name, case),) = cases.items()
        print(json.dumps(alone(asked.alone, name, case, asked.threads)))
        return 0
    figures = {name: measure(name, case, asked.threads, CONTENDERS) for name, case in cases.items()}
    text = "\n\n".join(shown(name, found) for name, found in figures.items())
    return report(figures, text, as_json=asked.json)


if __name__ == "__main__":
    leave(main)
