"""The speed of this machine on these data: steps of the training that would begin, and calls of its network.

It is measured in the way that was chosen and, by turns (A B A B, so that a slow moment is one for all), in the others
that one might choose. Beside it stands how fast 3x3 convolutions alone run in the same minute. The weights are those
before the first step, and then of some steps of a training that is thrown away.
"""

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

import torch

from kakusan.config.loading import to_mapping
from kakusan.config.machine import has_bf16
from kakusan.config.settings import MachineSettings, Settings, answered
from kakusan.samplers import DDIM, SamplingRequest, sample
from kakusan.training.build import build_model
from kakusan.training.clocks import Limit, Timed, convolution_limit, in_turns
from kakusan.training.flop import flop_of_call, flop_of_step
from kakusan.training.launch import Settled
from kakusan.training.loop import check_finite, take_step
from kakusan.training.plan import DataPlan
from kakusan.training.state import Task, advice_on_memory, may_repeat

WORKS = ("training", "sampling", "alone")
CALLS = 50
"""Calls of the network for the image that is drawn alone."""
FEW_CALLS = 4
"""Calls in a row for a micro-batch."""
AS_CHOSEN = "as chosen"

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Work:
    """The speed of one kind of work."""

    seconds: float
    """The median of a step, or of a call with a micro-batch."""
    images: int
    """Images that go through the network in it."""
    flop_of_an_image: int

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds

    @property
    def flop_per_second(self) -> float:
        return self.images_per_second * self.flop_of_an_image


@dataclass(frozen=True)
class Way:
    """A way to use the machine, and its speed."""

    name: str
    machine: MachineSettings
    training: Work
    sampling: Work
    alone_seconds: float
    """Of one image in `CALLS` calls of the network, or all T."""


@dataclass(frozen=True)
class Speed:
    """What this machine reaches on these data."""

    settings: Settings
    parameters: int
    data: DataPlan
    ways: tuple[Way, ...]
    """The first is the one that was chosen."""
    limit: Limit
    memory: int | None
    """Peak of the memory in use, bytes: of this program up to its first steps in the way that was chosen; on a GPU, of
    the tensors there. None where the system does not tell."""
    calls: int

    @property
    def chosen(self) -> Way:
        return self.ways[0]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "data": asdict(self.data),
            "parameters": self.parameters,
            "settings": to_mapping(self.settings),
            "memory": self.memory,
            "limit_flop_per_second": asdict(self.limit),
            "calls_of_an_image": self.calls,
            "ways": {way.name: self._way(way) for way in self.ways},
        }

    def _way(self, way: Way) -> dict[str, Any]:
        return {
            "precision": way.machine.precision,
            "workers": way.machine.workers,
            **{name: self._work(name, getattr(way, name)) for name in ("training", "sampling")},
            "alone_seconds": way.alone_seconds,
        }

    def _work(self, name: str, work: Work) -> dict[str, Any]:
        return {
            **asdict(work),
            "images_per_second": work.images_per_second,
            "flop_per_second": work.flop_per_second,
            "of_the_limit": work.flop_per_second / getattr(self.limit, name),
        }


def speed(ready: Settled, progress: Progress = lambda _, __: None) -> Speed:
    """The speed of the training that `launch` would begin, and of samplings with its network. Nothing is written.

    progress: called with the share that is done and what is measured. About half a minute for a network that half an
    hour buys, longer for larger ones. Raises SettingsError where the memory does not suffice.
    """
    task = ready.task
    with advice_on_memory(ready.settings):
        trials = {name: _Trial(task, machine) for name, machine in ways_of(ready.settings.machine).items()}
        progress(0.0, "a first step")
        trials[AS_CHOSEN].training.warm_up()
        memory = peak_memory(task.state.device)
        timed = [getattr(trial, work) for work in WORKS for trial in trials.values()]
        in_turns(timed, lambda done: progress(done, "measuring"))
        limit = convolution_limit(ready.settings.machine)
    check_finite(task.state)
    flop = flop_of_step(task), flop_of_call(task)
    return Speed(
        settings=ready.settings,
        parameters=sum(weight.numel() for weight in task.network.parameters()),
        data=DataPlan.of(task.prepared),
        ways=tuple(trial.found(name, *flop) for name, trial in trials.items()),
        limit=limit,
        memory=memory,
        calls=calls_of(task),
    )


def ways_of(machine: MachineSettings) -> dict[str, MachineSettings]:
    """The machine as it was chosen, and what else one might choose, where that differs."""
    ways = {AS_CHOSEN: machine}
    other: Literal["fp32", "bf16"] = "fp32" if machine.precision == "bf16" else "bf16"
    if other == "fp32" or has_bf16(machine.device):  # without the hardware it takes minutes
        ways[f"in {other}"] = replace(machine, precision=other)
    if answered(machine.workers) > 1:
        ways["one part at a time"] = replace(machine, workers=1)
    if machine.graphs is True:
        ways["without graphs"] = replace(machine, graphs=False)
    return ways


# What is timed


class _Trial:
    """One way to use the machine. All ways share the weights: there may be no room for two sets."""

    def __init__(self, task: Task, machine: MachineSettings) -> None:
        self.machine = machine
        settings = replace(task.settings, machine=machine)
        self._model = build_model(settings, task.network, task.record.units)
        self._state = replace(task.state, model=self._model, graphs=may_repeat(settings), repeated=None)
        self._task = task
        self.training = Timed(machine, self._step)
        self.sampling = Timed(
            machine, partial(self._sample, machine.micro_batch, min(FEW_CALLS, task.model.path.T))
        )
        self.alone = Timed(machine, partial(self._sample, 1, calls_of(task)))

    def found(self, name: str, step: int, call: int) -> Way:
        """The speeds; step, call: FLOP of an image."""
        batch, few = (
            answered(self._task.settings.training.batch_size),
            min(FEW_CALLS, self._task.model.path.T),
        )
        return Way(
            name=name,
            machine=self.machine,
            training=Work(self.training.seconds, batch, step),
            sampling=Work(self.sampling.seconds / few, self.machine.micro_batch, call),
            alone_seconds=self.alone.seconds,
        )

    def _step(self) -> None:
        self._task.network.train()
        take_step(self._state, self._task.batches, self._task.loss, self._task.settings.training)

    def _sample(self, count: int, calls: int) -> None:
        self._task.network.eval()
        request = SamplingRequest(
            count=count,
            shape=self._task.record.shape,
            condition=self._task.shown,
            micro_batch=self.machine.micro_batch,
            device=self.machine.device,
        )
        sample(self._model, DDIM(steps=calls), request)


def calls_of(task: Task) -> int:
    """Calls of the network for an image that is drawn alone."""
    return min(CALLS, task.model.path.T)


def peak_memory(device: torch.device) -> int | None:
    """Bytes at the peak so far: of this process, or reserved on a GPU; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
