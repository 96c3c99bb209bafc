"""Whether a training that ends early should let its rate fall to 0 before: python benchmarks/cooldown.py.

Digits, trained by the plan to a step; then on by the plan, and, from the same state, with the rate falling to 0 on a
straight line. What counts is the held-out loss of the averaged weights, at the step and after as many more.
"""

import argparse
from collections.abc import Sequence
from copy import deepcopy
from unittest.mock import patch

from measuring import Figures, in_words, leave, machine, report, table

from kakusan.config.loading import settings_for, with_values
from kakusan.config.machine import set_machine
from kakusan.config.resolve import resolve
from kakusan.config.settings import TrainingSettings
from kakusan.training import step
from kakusan.training.course import PLANNED, Course
from kakusan.training.ladder import for_steps
from kakusan.training.prepare import prepare_data
from kakusan.training.rates import learning_rate
from kakusan.training.state import Task, assemble, averaged, load_state, snapshot
from kakusan.training.step import train_step
from kakusan.training.validation import compared

RECIPE = {
    "training.ema": "auto",
    "training.learning_rate": "auto",
    "training.warmup": "auto",
    "machine.threads": 1,
}


def task_of(steps: int, held_out: int, decay: str) -> Task:
    """A training on digits, with the recipe that is automatic for so many steps."""
    asked = {"data.held_out": held_out, "training.decay": decay, "training.steps": steps}
    settings = with_values(settings_for("digits"), {**RECIPE, **asked})
    prepared = prepare_data(settings)
    resolved = resolve(settings, prepared.facts)
    set_machine(resolved.machine)
    return assemble(for_steps(resolved, prepared, steps).settings, prepared)


def trained(task: Task, step: int) -> float:
    """The held-out loss of the averaged weights after a step to train to."""
    task.network.train()
    while task.state.step < step:
        train_step(task.state, task.batches, task.loss, task.settings.training)
    data = task.prepared
    with averaged(task):
        found = compared(task.model, task.loss, data.dataset, data.split, task.state.device)
    return found.figures["held_out_loss"]


def cooled(task: Task, more: int) -> float:
    """The same after some more steps, in which the rate falls to 0."""
    start, base = task.state.step, learning_rate(task.settings.training, task.state.step)

    def falling(training: TrainingSettings, step: int, course: Course = PLANNED) -> float:  # noqa: ARG001
        return base * (1 - (step - start) / more)

    with patch.object(step, "learning_rate", falling):
        return trained(task, start + more)


def measured(task: Task, step: int, more: int) -> Figures:
    """What a training ends with at a step; after more steps by its plan; and with the rate falling to 0 in these."""
    at_once = trained(task, step)
    there = deepcopy(snapshot(task))
    cooled_down = cooled(task, more)
    load_state(task, deepcopy(there))
    planned = trained(task, step + more)
    load_state(task, there)
    return {"step": step, "more": more, "at_once": at_once, "planned": planned, "cooled": cooled_down}


def main(arguments: Sequence[str]) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--steps", type=int, default=3000, help="of the plan; default: %(default)s")
    parser.add_argument("--held-out", type=int, default=500, help="of 1,797 images; default: %(default)s")
    parser.add_argument("--decay", default="linear", help="of the rate by the plan; default: %(default)s")
    parser.add_argument("--at", type=int, nargs="+", default=[1500], help="rising steps; default: 1500")
    parser.add_argument(
        "--share", type=float, default=0.15, help="of these, more steps; default: %(default)s"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    task = task_of(asked.steps, asked.held_out, asked.decay)
    rows = [measured(task, step, max(1, int(asked.share * step))) for step in asked.at]
    cells = [
        [f"{value:,}" if isinstance(value, int) else f"{value:.4f}" for value in row.values()] for row in rows
    ]
    of = machine()
    text = table(("step", "more steps", "at once", "by the plan", "rate to 0"), cells)
    return report({"rows": rows, "machine": of}, f"{text}\n\n{in_words(of)}", as_json=asked.json)


if __name__ == "__main__":
    leave(main)
