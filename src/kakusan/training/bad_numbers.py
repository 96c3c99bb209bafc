"""Losses, gradients and weights that are not finite: the inputs are kept, and the way back to where all was well."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from safetensors.torch import save as tensor_bytes
from torch import Tensor

from kakusan.config.networks.own import OWN
from kakusan.config.settings import REWIND, answered
from kakusan.errors import NumbersError, RunError
from kakusan.storage import checkpoints, durable
from kakusan.storage.agreement import fitting
from kakusan.storage.checkpoints import Checkpoint
from kakusan.storage.run_folder import RunFolder
from kakusan.training.state import Task, begin_anew, load_state
from kakusan.training.step import drawn

MOST_REWINDS = 3
"""In a run: what three halvings of the rate do not cure has another cause."""
DRAWN = ("t", "noise", "weights")
"""Inputs of a step that are no data."""


def explained(task: Task, run: RunFolder, error: NumbersError) -> NumbersError:
    """The same error with all that helps: the cause where it is in the data, what was fed, what was tried."""
    step = int(task.state.first_bad)
    fed = _fed(task, step) if step >= 0 else {}
    problem, advice = error.problem, error.advice
    if strange := _not_finite(fed):
        problem = f"what was fed at step {step + 1} is not finite itself: {', '.join(strange)}"
        advice = ("no other rate helps: find the value in the data; missing ones: --data.missing mask",)
    return NumbersError(problem, *advice, *_dump(run, step, fed), *_history(task, run))


def _history(task: Task, run: RunFolder) -> Iterator[str]:
    if rewinds := task.state.course.rewinds:
        times = "once" if rewinds == 1 else f"{rewinds} times"
        yield f"it went back {times} before, each time with half the rate"
    yield f"the last checkpoint is of step {run.steps[-1]}" if run.steps else "there is no checkpoint yet"


def may_rewind(task: Task) -> bool:
    """Whether going back may help, and is wanted: not where what was fed is not finite itself."""
    wanted = task.settings.training.on_nan == REWIND and task.state.course.rewinds < MOST_REWINDS
    step = int(task.state.first_bad)
    return wanted and not (step >= 0 and _not_finite(_fed(task, step)))


def rewind(task: Task, run: RunFolder, complain: Callable[[str], None]) -> None:
    """Back to the last checkpoint of checkpoint.every, or to the first weights, with half the rate from there on.

    All that came later is forgotten. Where it goes back to is a function of the step alone, not of what an interruption
    or the clock has saved between, so that a run that is killed and resumed goes back to the same.
    """
    rewinds = task.state.course.rewinds
    checkpoint = _to_go_back_to(task, run, complain)
    begin_anew(task)
    if checkpoint is not None:
        with fitting(run, checkpoint):
            load_state(task, checkpoint)
    step = task.state.step
    task.state.course = replace(task.state.course, rewinds=rewinds + 1)
    with durable.os_errors_as_run_errors(f"cannot remove what is in {run.checkpoints}", run.folder):
        checkpoints.drop_after(run.checkpoints, step)
    run.truncate_snapshots(step)
    run.truncate_samples(step)
    run.truncate_metrics(step)


def spared_for_a_rewind(task: Task) -> tuple[int, ...]:
    """The steps whose checkpoints must stay, so that a rewind finds them."""
    return (_anchor(task),) if task.settings.training.on_nan == REWIND else ()


def last_well(task: Task) -> int:
    """The last step after which all was well, as far as is known."""
    bad = int(task.state.first_bad)
    return (
        bad if bad >= 0 else max(0, task.state.step - 1)
    )  # weights may be found not to be finite after a step


def _anchor(task: Task) -> int:
    """The last multiple of checkpoint.every at which all was well."""
    every = task.settings.checkpoint.every
    return last_well(task) // every * every


def _to_go_back_to(task: Task, run: RunFolder, complain: Callable[[str], None]) -> Checkpoint | None:
    """The checkpoint of the anchor; None for the first weights. Where it is damaged or gone, the newest good one."""
    anchor, device = _anchor(task), task.settings.machine.device
    if anchor in run.steps:
        try:
            return run.load(complain, step=anchor, device=device)
        except RunError as error:
            complain(error.problem)
    elif anchor == 0 and not (run.data.get("weights_from") or task.settings.network.kind == OWN):
        return None
    return run.load(complain, device=device)


# What was fed


def _fed(task: Task, step: int) -> dict[str, Tensor]:
    """All that the micro-batches of a step were fed, by name and number."""
    tensors: dict[str, Tensor] = {}
    for micro in range(answered(task.settings.training.accumulation)):
        fed = drawn(task.state, task.batches, task.settings.training, step, micro)
        given: dict[str, Any] = dict(fed.condition.tensors()) if fed.condition is not None else {}
        named = {**vars(fed), "condition": None, **given}
        tensors |= {f"{name}.{micro}": x.cpu().contiguous() for name, x in named.items() if x is not None}
    return tensors


def _not_finite(fed: dict[str, Tensor]) -> list[str]:
    """The names of the data among it that hold a NaN or an infinity."""
    data = {name: tensor for name, tensor in fed.items() if name.partition(".")[0] not in DRAWN}
    return [name for name, tensor in data.items() if not tensor.isfinite().all()]


def _dump(run: RunFolder, step: int, fed: dict[str, Tensor]) -> tuple[str, ...]:
    """The inputs of the step, on the disk, for a look at the cause."""
    if not fed:
        return ()
    path = run.dump_path(step + 1)
    try:
        durable.atomic_write(path, tensor_bytes(fed))
    except OSError as error:
        return (f"what was fed could not be written to {path}: {error.strerror}",)
    return (f"what was fed: {path}",)
