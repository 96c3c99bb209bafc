"""What helps by the clock, and what does not: techniques of training, one by one, beside the automatic recipe.

    python benchmarks/recipe.py train --data digits >> recipe.jsonl
    python benchmarks/recipe.py train --data garments --seeds 0,1,2 --only "base;muon" >> recipe.jsonl
    python benchmarks/recipe.py show recipe.jsonl

digits      the bundled digits, 8x8; samples against held-out images in the features of digits_quality.py, as a ratio to
            the same distance of the training images
garments    60,000 images of Fashion-MNIST, 28x28; samples against the training images in the features of
            garment_features.py

Every training has the processor time of two minutes of the automatic network on two cores: as many steps as its own
step leaves of that. So other work may run beside. Beside the distance: the bound of held-out images in bits/dim, which
does not depend on what a network predicts or is trained on; how many samples are copies; and the loss of other averages
of the same training, which is what an average chosen afterwards would win. What is tried here and not in the library
stands in this file alone.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from digits_quality import trained_classifier
from garment_features import GARMENTS, TRAINING, Judge
from measuring import leave, table
from torch import Tensor
from torch.nn import functional as F

from kakusan.config.loading import with_values
from kakusan.config.machine import set_machine
from kakusan.config.networks.unet import LADDER
from kakusan.config.resolve import resolve, resolve_for
from kakusan.config.settings import Settings, answered
from kakusan.data.builtin import digits
from kakusan.diffusion.paths import Path as NoisePath
from kakusan.evaluation.metrics import copy_rate, frechet
from kakusan.randomness import Purpose, uniforms
from kakusan.run import usual_sampler
from kakusan.samplers import SamplingRequest, sample
from kakusan.shapes import Times
from kakusan.training import rates
from kakusan.training.ema import EMA
from kakusan.training.loop import check_finite
from kakusan.training.prepare import Prepared, prepare_data
from kakusan.training.state import Task, assemble, averaged
from kakusan.training.step import Batch, BatchSource, train_step
from kakusan.training.timesteps import TimeSampler, Weights
from kakusan.training.validation import bounds_of, compared, spread

STEPS = {"digits": 2_600, "garments": 1_580}
"""Of the automatic network in two minutes on two cores: network_grid.py."""
COUNT = {"digits": 1_000, "garments": 1_000}
CALLS = {"digits": 50, "garments": 25}
SHARES = (4, 10, 20, 40)
"""Averages over about this part of the training, which are kept beside the usual one, a tenth."""
BOUNDED, TERMS = 128, 16
"""Held-out images whose bound is measured, and its terms."""
NOISE = 0.06
"""Differences of cost that are none."""
TIMED = 12
"""Steps whose processor time is taken."""


@dataclass(frozen=True)
class Technique:
    """A departure from the automatic recipe."""

    settings: dict[str, Any] = field(default_factory=dict)
    begin: Callable[[Task], Callable[[], None]] | None = None
    """Makes what takes the next step of a training; None: as the library does."""
    data: tuple[str, ...] = ("digits", "garments")
    as_many_steps: bool = False
    """Whether it gets the steps of the automatic recipe, whatever they cost."""


# Techniques that the library does not have


class LogNormalTimes(TimeSampler):
    """The logarithm of noise over data normal, and no weight: more of the middle (Karras et al. 2022, table 1)."""

    def __init__(self, path: NoisePath, mean: float = -1.2, deviation: float = 1.2) -> None:
        super().__init__(path.T)
        a, b = path.at(torch.arange(1, path.T + 1, dtype=torch.float64))
        self.log_sigma, self.mean, self.deviation = (b / a).log(), mean, deviation

    def draw(
        self, seed: int, step: int | Tensor, slots: Tensor, batch_size: int
    ) -> tuple[Times, Weights | None]:
        offset = uniforms(seed, Purpose.TIMES, step, slots, 1)[:, 0]
        wanted = self.mean + self.deviation * torch.special.ndtri((slots + offset) / batch_size)
        return 1 + torch.searchsorted(self.log_sigma, wanted).clamp(max=self.T - 1).double(), None


def log_normal(mean: float) -> Callable[[Task], Callable[[], None]]:
    def begin(task: Task) -> Callable[[], None]:
        task.state.times = LogNormalTimes(task.model.path, mean)
        return plain(task)

    return begin


def plain(task: Task) -> Callable[[], None]:
    return lambda: train_step(task.state, task.batches, task.loss, task.settings.training)


def growing(task: Task) -> Callable[[], None]:
    """A third of the batch for the first half of the images, then as much more: equally many images in all."""
    steps = answered(task.settings.training.steps)
    small, large = 32, 128
    first = steps * 4 // 5  # (4/5 of the steps) x 32 = half of the images, (1/5) x 128 the other
    sizes = {n: replace(task.batches, batch_size=n) for n in (small, large)}

    def take() -> None:
        n = small if task.state.step < first else large
        training = replace(task.settings.training, batch_size=n)
        train_step(task.state, sizes[n], task.loss, training)

    return take


@dataclass(frozen=True)
class Halved:
    """Batches at half the size."""

    batches: BatchSource

    def at(self, step: int, start: int = 0, count: int | None = None) -> Batch:
        batch: Any = self.batches.at(step, start, count)
        halved: Batch = replace(
            batch, x_0=F.avg_pool2d(batch.x_0, 2).contiguous(memory_format=torch.channels_last)
        )
        return halved


def progressive(task: Task) -> Callable[[], None]:
    """Half the size for the first half of the steps."""
    steps, small = answered(task.settings.training.steps), Halved(task.batches)

    def take() -> None:
        batches: BatchSource = small if task.state.step < steps // 2 else task.batches
        train_step(task.state, batches, task.loss, task.settings.training)

    return take


def late_decay(progress: float) -> float:
    """The rate stays for four fifths, then falls to 0 on a straight line."""
    return min(1.0, 5 * (1 - progress))


EDM_PATH = {"process.path": "edm", "process.predicts": "edm"}
FLOW = {"process.path": "flow", "process.predicts": "flow"}
TECHNIQUES = {
    "base": Technique(),
    "t independent": Technique({"training.times": "uniform"}),
    "t by the loss": Technique({"training.times": "importance"}),
    "t log-normal, mean -1.2": Technique(begin=log_normal(-1.2)),
    "t log-normal, mean -0.4": Technique(begin=log_normal(-0.4)),
    "min-SNR-5": Technique({"training.loss": "min-snr"}),
    "EDM, uniform t": Technique(EDM_PATH),
    "EDM, log-normal t": Technique(EDM_PATH, begin=log_normal(-1.2)),
    "flow": Technique(FLOW),
    "flow, logit-normal t": Technique(FLOW, begin=log_normal(0.0)),
    "rate: cosine": Technique({"training.decay": "cosine"}),
    "rate: constant": Technique({"training.decay": "constant"}),
    "rate: constant, then linear": Technique({"training.decay": "late"}),
    "muon": Technique({"training.optimizer": "muon"}),
    "muon, twice the rate": Technique({"training.optimizer": "muon", "training.learning_rate": 6e-3}),
    "batch 32, then 128": Technique(begin=growing),
    "half the size, then whole": Technique(begin=progressive, data=("garments",)),
    "float32, as many steps": Technique({"machine.precision": "fp32"}, as_many_steps=True),
    "mirrored": Technique({"data.flip": True}, data=("garments",)),
}


# A training, and what it came to


@cache
def prepared_of(name: str) -> tuple[Settings, Prepared]:
    source = str(GARMENTS / TRAINING) if name == "garments" else name
    settings = with_values(
        Settings(),
        {
            "data.source": source,
            "training.batch_size": 64,
            "training.accumulation": 1,
            "machine.threads": 1,
            "machine.device": "cpu",
        },
    )
    return settings, prepare_data(settings)


def task_of(name: str, technique: Technique, seed: int, steps: int) -> Task:
    """The training before its first step; all seeds have the same held-out images."""
    settings, prepared = prepared_of(name)
    settings = with_values(settings, {**technique.settings, "training.seed": seed})
    settings = resolve(settings, prepared.facts)
    settings = resolve_for(settings, prepared.facts, steps, LADDER[0])
    set_machine(settings.machine)
    return assemble(settings, prepared)


@contextmanager
def taking(task: Task, technique: Technique) -> Iterator[Callable[[], None]]:
    with patch.dict(rates.DECAYS, {"late": late_decay}):
        task.network.train()
        yield (technique.begin or plain)(task)


def cost(name: str, technique: Technique) -> float:
    """Processor time of a step, over a whole training: its beginning and its end."""
    spent = []
    for begun in (0.0, 0.9):
        task = task_of(name, technique, 0, 10 * TIMED)
        task.state.step = int(begun * 10 * TIMED)
        with patch.dict(rates.DECAYS, {"late": late_decay}), taking(task, technique) as take:
            for number in range(TIMED):
                if number == 2:
                    start = time.process_time()
                take()
        spent.append((time.process_time() - start) / (TIMED - 2))
    if technique.begin is growing:
        return (4 * spent[0] + spent[1]) / 5
    return sum(spent) / 2


def trial(name: str, which: str, seed: int, base_steps: int) -> dict[str, Any]:
    """One training, judged. base_steps: those of the automatic recipe in this time."""
    technique = TECHNIQUES[which]
    with patch.dict(rates.DECAYS, {"late": late_decay}):
        ratio = 1.0 if which == "base" else cost(name, technique) / cost(name, TECHNIQUES["base"])
        steps = base_steps
        if abs(ratio - 1) > NOISE and not technique.as_many_steps:
            steps = round(steps / ratio)
        task = task_of(name, technique, seed, steps)
    averages = {share: EMA(task.network, 1 - share / steps) for share in SHARES}
    with taking(task, technique) as take:
        for number in range(steps):
            take()
            for average in averages.values():
                average.update(number)
    check_finite(task.state)
    prepared, device = task.prepared, torch.device("cpu")
    others = {}
    for share, average in averages.items():
        weights = {key: value.clone() for key, value in task.network.state_dict().items()}
        task.network.load_state_dict(average.state())
        task.network.eval()
        others[share] = compared(task.model, task.loss, prepared.dataset, prepared.split, device).figures
        task.network.load_state_dict(weights)
    with averaged(task):
        figures = judged(name, task)
    return {
        "data": name, "technique": which, "seed": seed, "base_steps": base_steps, "cost": round(ratio, 3),
        "steps": steps, **figures,
        "losses_of_averages": {share: of["held_out_loss"] for share, of in others.items()},
    }  # fmt: skip


def judged(name: str, task: Task) -> dict[str, float]:
    """Distance of samples, copies, and the bound of held-out images, of the weights as they are."""
    dataset, split = task.prepared.dataset, task.prepared.split
    units: Any = dataset.units
    sampler: Any = usual_sampler(task.settings)
    request = SamplingRequest(count=COUNT[name], shape=dataset.shape, seed=0)
    levels = units.decode(sample(task.model, replace(sampler, steps=CALLS[name]), request))
    some = spread(split.held_out, BOUNDED)
    bits = [
        float(b)
        for bound in bounds_of(task.model, dataset, some, torch.device("cpu"), terms=TERMS)
        for b in bound.total
    ]
    copies = copy_rate(units.encode(levels), dataset.x_0(spread(split.training, 10_000))).rate
    loss = compared(task.model, task.loss, dataset, split, torch.device("cpu")).figures
    return {
        "distance": distance_of(name)(levels, task), "bits": float(np.mean(bits)), "copies": copies,
        "held_out_loss": loss["held_out_loss"], "training_loss": loss["training_loss"],
    }  # fmt: skip


@cache
def distance_of(name: str) -> Callable[[Any, Task], float]:
    if name == "garments":
        judge = Judge.of()
        return lambda levels, _: judge.distance(levels)

    def ratio(levels: Any, task: Task) -> float:
        dataset, split = task.prepared.dataset, task.prepared.split
        labels = torch.from_numpy(digits().labels)
        training, held_out = dataset.x_0(split.training), dataset.x_0(split.held_out)
        of = trained_classifier(training, labels[split.training]).features
        own = frechet(of(dataset.units.encode(levels)), of(held_out))
        return own / frechet(of(training), of(held_out))

    return ratio


# What people see


HEAD = ("", "runs", "cost of a step", "steps", "distance", "bits/dim", "copies")


def show(asked: argparse.Namespace) -> int:
    print(shown(asked.file))
    return 0


def shown(file: Path) -> str:
    """The tables of docs/recipe.md."""
    found = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    parts = []
    names = list(TECHNIQUES)
    found.sort(key=lambda line: (*_kind(line), names.index(line["technique"]), line["seed"]))
    for (name, steps), lines in groupby(found, _kind):
        rows = []
        for which, of_technique in groupby(lines, lambda line: line["technique"]):
            runs = list(of_technique)
            rows.append(
                (
                    which, str(len(runs)), f"{runs[0]['cost']:.2f}", f"{runs[0]['steps']:,}",
                    in_all(runs, "distance", ".2f"), in_all(runs, "bits", ".3f"),
                    f"{np.mean([run['copies'] for run in runs]):.2%}",
                )
            )  # fmt: skip
        minutes = 2 * steps / STEPS[name]
        parts.append(f"{name}, the time of {steps:,} steps ({minutes:.1f} minutes)\n\n{table(HEAD, rows)}")
    return "\n\n".join(parts)


def _kind(line: dict[str, Any]) -> tuple[str, int]:
    return line["data"], line["base_steps"]


def in_all(runs: Sequence[dict[str, Any]], name: str, form: str) -> str:
    """The mean, and the deviation of several."""
    values = [run[name] for run in runs]
    spread_of = f" ± {np.std(values, ddof=1):{form}}" if len(values) > 1 else ""
    return f"{np.mean(values):{form}}{spread_of}"


def train(asked: argparse.Namespace) -> int:
    for seed in map(int, asked.seeds.split(",")):
        for which in asked.only.split(";") if asked.only else TECHNIQUES:
            if asked.data in TECHNIQUES[which].data:
                begun = time.monotonic()
                print(
                    json.dumps(trial(asked.data, which, seed, asked.steps or STEPS[asked.data])), flush=True
                )
                print(f"{which}, seed {seed}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return 0


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    work = parser.add_subparsers(required=True)
    part = work.add_parser("train")
    part.set_defaults(action=train)
    part.add_argument("--data", choices=sorted(STEPS), required=True)
    part.add_argument("--seeds", default="0", help="default: %(default)s")
    part.add_argument("--only", default="", help="techniques, with ; between them; default: all")
    part.add_argument(
        "--steps", type=int, help="of the automatic recipe in the time; default: two minutes of them"
    )
    part = work.add_parser("show")
    part.set_defaults(action=show)
    part.add_argument("file", type=Path)
    asked = parser.parse_args(arguments)
    done: int = asked.action(asked)
    return done


if __name__ == "__main__":
    leave(main)
