"""A training in memory, with all its parts, and how its state goes into a checkpoint and comes back."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kakusan.config.machine import environment
from kakusan.config.networks.own import OWN
from kakusan.config.settings import WHEN_DONE, Settings, answered, given
from kakusan.data import Batches
from kakusan.data.record import DataRecord
from kakusan.diffusion.variances import LearnedRange
from kakusan.errors import SettingsError
from kakusan.shapes import Condition
from kakusan.storage.agreement import DATA_HASHES, data_hashes, frozen_settings
from kakusan.storage.checkpoints import Checkpoint
from kakusan.training.build import build_batches, build_loss, build_model, build_network, default_condition
from kakusan.training.course import Course
from kakusan.training.loop import new_state
from kakusan.training.losses import Loss, NetworkModel
from kakusan.training.own import require_answers
from kakusan.training.prepare import Prepared, data_record, example_condition
from kakusan.training.rates import learning_rate
from kakusan.training.step import TrainState
from kakusan.training.tally import Tally


@dataclass(frozen=True)
class Task:
    """The parts of a training."""

    settings: Settings
    record: DataRecord
    prepared: Prepared
    network: nn.Module
    model: NetworkModel
    batches: Batches
    loss: Loss
    state: TrainState
    shown: Condition | None
    """The condition of the samples on the way."""
    data_hashes: Mapping[str, str]
    """Of the run's data.json, for its checkpoints."""

    @property
    def steps(self) -> int:
        """The last step of the training, on the course that it is on."""
        return self.state.course.last_step(answered(self.settings.training.steps))


def assemble(settings: Settings, prepared: Prepared, stored: Mapping[str, Any] | None = None) -> Task:
    """All parts of a training before its first step. stored: the data.json of a run that is there already.

    Raises SettingsError for settings that do not go with one another, or with these data.
    """
    _require_held_out(settings, prepared)
    made = data_record(prepared)
    record = DataRecord.read(made)
    network = build_network(settings, record, prepared.network)
    model = build_model(settings, network, record.units)
    device = next(network.parameters()).device
    return Task(
        settings=settings,
        record=record,
        prepared=prepared,
        network=network,
        model=model,
        state=new_state(model, network, settings.training, device, graphs=may_repeat(settings)),
        batches=build_batches(settings, prepared),
        loss=build_loss(settings, model),
        shown=default_condition(settings, record, example_condition(prepared)),
        data_hashes=data_hashes(made if stored is None else stored),
    )


def may_repeat(settings: Settings) -> bool:
    """Whether a CUDA device may repeat the step by itself. A module of one's own may wait for it, or look at it."""
    return settings.machine.graphs is True and settings.network.kind != OWN


def _require_held_out(settings: Settings, prepared: Prepared) -> None:
    if settings.training.stop == WHEN_DONE and len(prepared.split.held_out) < 2:
        raise SettingsError(
            f"training.stop {WHEN_DONE} watches the loss of samples that are held out, of which there are too few here:"
            f" {len(prepared.split.held_out)}",
            "hold some out, a new run with --data.held-out 0.1, or give the training a length: --steps, --minutes",
        )


def require_fit(settings: Settings, prepared: Prepared) -> None:
    """Raises SettingsError where a module of one's own cannot be called, or its answer is of another shape.

    A copy of it is asked for two samples, in all ways that a training and a sampling ask. Nothing of it changes.
    """
    network = prepared.for_a_trial().network
    if network is None:
        return
    record, device = DataRecord.read(data_record(prepared)), settings.machine.device
    outputs = 2 if settings.process.variance == LearnedRange.name else 1
    model = build_model(settings, network.to(device).eval(), record.units)
    condition = prepared.dataset.condition(np.array([0, 1]))
    if condition is not None:
        condition = condition.without(torch.tensor([False, True])).to(device)
    require_answers(model.denoiser, torch.zeros(2, *record.shape, device=device), condition, outputs)


def snapshot(task: Task) -> Checkpoint:
    """All that the next step depends on."""
    state = task.state
    return Checkpoint(
        step=state.step,
        tensors={
            "model": task.network.state_dict(),
            "ema": state.ema.state(),
            "optimizer": _moments(task),
            **({"times": history} if (history := state.times.state()) else {}),
            **({"lowest": state.lowest} if state.lowest is not None else {}),
        },
        state={
            **_circumstances(task),
            "tally": state.tally.state(),
            **({"course": course} if (course := state.course.state()) else {}),
        },
    )


def early_weights(task: Task) -> Checkpoint:
    """The averaged weights alone, in half precision: a weak model to be guided away from, an eighth of a checkpoint.

    At any step they are an average over about the last tenth of the steps so far: see `EMA`.
    """
    learned = {name for name, p in task.network.named_parameters(remove_duplicate=False) if p.requires_grad}
    weights = {
        name: halved(weight) if name in learned else weight for name, weight in task.state.ema.state().items()
    }
    return Checkpoint(task.state.step, {"ema": weights}, _circumstances(task))


def halved(weight: Tensor) -> Tensor:
    """In float16, whose rounding (2^-11) is far below what a weak model is off by; as it is if that cannot hold it."""
    half = weight.detach().half() if weight.is_floating_point() else weight
    return half if torch.isfinite(half).all() else weight


def _circumstances(task: Task) -> dict[str, Any]:
    """The provenance of the weights of this step."""
    training, step = task.settings.training, task.state.step
    return {
        "images_seen": step * answered(training.batch_size),
        "seed": training.seed,
        "settings": frozen_settings(task.settings),
        "learning_rate": learning_rate(training, step, task.state.course),
        "data_fingerprint": task.record.fingerprint,
        DATA_HASHES: dict(task.data_hashes),
        "environment": environment(task.settings.machine),
    }


def load_state(task: Task, checkpoint: Checkpoint) -> None:
    """Go on from this checkpoint: the inverse of `snapshot`."""
    state = task.state
    task.network.load_state_dict(checkpoint.tensors["model"])
    state.ema.load(dict(checkpoint.tensors["ema"]))
    if checkpoint.step:
        _load_moments(task, checkpoint.tensors["optimizer"])
    state.repeated = None  # it knows the optimizer's former tensors
    state.tally = Tally.from_state(checkpoint.state["tally"], state.device)
    state.times.load(checkpoint.tensors.get("times", {}))
    state.step = checkpoint.step
    state.course = course_of(task.settings, checkpoint)
    lowest = checkpoint.tensors.get("lowest") if state.course.watch.measured else None
    state.lowest = None if lowest is None else dict(lowest)


def _moments(task: Task) -> dict[str, Tensor]:
    """All that the optimizer keeps of each parameter, by the parameter's name and what it is: "conv.weight.exp_avg"."""
    kept = task.state.optimizer.state
    return {
        f"{name}.{key}": value
        for name, parameter in task.network.named_parameters()
        for key, value in kept.get(parameter, {}).items()
    }


def _load_moments(task: Task, moments: Mapping[str, Tensor]) -> None:
    """The inverse of `_moments`. Raises KeyError where a parameter's are not those of this optimizer."""
    optimizer = task.state.optimizer
    wanted = {p: set(group.get("moments", ())) for group in optimizer.param_groups for p in group["params"]}
    by_parameter: dict[str, dict[str, Tensor]] = {}
    for full_name, value in moments.items():
        name, _, key = full_name.rpartition(".")
        by_parameter.setdefault(name, {})[key] = value
    optimizer.state.clear()
    for name, weight in task.network.named_parameters():
        kept = by_parameter.get(name)
        if kept is None:  # it is frozen, or no step has used it
            continue
        if not wanted[weight] <= kept.keys():
            raise KeyError(
                f"the optimizer keeps {', '.join(sorted(wanted[weight]))} of {name}, not {', '.join(kept)}"
            )
        optimizer.state[weight] = {key: _placed(value, weight) for key, value in kept.items()}


def _placed(value: Tensor, weight: Tensor) -> Tensor:
    """A copy on the device of a weight and, where it has its shape, in its layout: files know none."""
    if value.shape != weight.shape:
        return value.to(weight.device, copy=True)
    return torch.empty_like(weight, dtype=value.dtype, requires_grad=False).copy_(value)


def course_of(settings: Settings, checkpoint: Checkpoint) -> Course:
    """The course that a training is on at this checkpoint, under settings that may have another plan."""
    training = settings.training
    course = Course.from_state(checkpoint.state.get("course", {}))
    return course.under(answered(training.steps), watched=training.stop == WHEN_DONE)


def watch(task: Task, losses: Sequence[float]) -> None:
    """Take the held-out losses of this step into the course. At the last step, planned or not, the averaged weights
    become those of the lowest."""
    state, planned = task.state, answered(task.settings.training.steps)
    state.course = state.course.watched(state.step, losses, planned)
    if state.course.watch.lowest_step == state.step:
        state.lowest = {name: value.clone() for name, value in state.ema.state().items()}
    if state.step == task.steps and state.lowest is not None:
        state.ema.load(state.lowest)
        state.lowest = None


def begin_anew(task: Task) -> None:
    """As before the first step: the first weights, which are a function of the seed, and nothing in the optimizer.

    A module of one's own keeps the weights that it has.
    """
    settings = task.settings
    own = task.network if settings.network.kind == OWN else None
    task.network.load_state_dict(build_network(settings, task.record, own).state_dict())
    fresh = new_state(
        task.model, task.network, settings.training, task.state.device, graphs=task.state.graphs
    )
    vars(task.state).update(vars(fresh))


@contextmanager
def averaged(task: Task) -> Iterator[None]:
    """For a while, the network has its averaged weights and is not training."""
    weights = {name: value.clone() for name, value in task.network.state_dict().items()}
    task.network.load_state_dict(task.state.ema.state())
    task.network.eval()
    try:
        yield
    finally:
        task.network.load_state_dict(weights)
        task.network.train()


def is_out_of_memory(error: Exception) -> bool:
    """Whether this is what Python or PyTorch raises where memory runs out."""
    is_said = any(words in str(error) for words in ("can't allocate memory", "not enough memory"))
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or is_said


@contextmanager
def advice_on_memory(settings: Settings) -> Iterator[None]:
    """A context that turns running out of memory into a SettingsError on what needs less."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        batch = answered(settings.training.batch_size)
        parts = given(settings.training.accumulation) or 1
        finer = next((n for n in range(parts + 1, batch + 1) if batch % n == 0), batch)
        raise SettingsError(
            f"out of memory with micro-batches of {batch // parts}",
            f"the same step in less memory, for a new run: --training.accumulation {finer}",
            "or a smaller step: --training.batch-size, or a smaller network: --network.width",
        ) from error
