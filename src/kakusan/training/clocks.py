"""Clocks for work that is repeated: measured in turns with other work, on any device; and the limit of this machine."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn

from kakusan.config.machine import set_threads_of
from kakusan.config.settings import MachineSettings

ROUNDS, MOMENT = 3, 0.8
"""Turns of each work, and the seconds of a turn, in which it is done once at the least."""
PATIENCE = 30.0
"""Seconds after which nothing that has had a turn gets another one."""
WARM_ON_GPU = 6
"""Times that work is done before it is measured, since a graph may be captured first."""
LIMIT_MOMENT = 0.25
"""Seconds of a turn of a convolution alone."""
CONVOLUTIONS = ((16, 128, 32), (16, 256, 16), (128, 128, 8), (128, 64, 16))
"""Batch, channels and side of the convolutions that set the limit: the best of them counts."""
BACKWARD_TOO = 3
"""Times the FLOP of a forward that it takes with both backward passes."""

Progress = Callable[[float], None]


class Timed:
    """Something that is done again and again, in turns of a moment each."""

    def __init__(self, machine: MachineSettings, action: Callable[[], object]) -> None:
        self._machine, self._action = machine, action
        self._times = 1
        self._seconds: list[float] = []

    def warm_up(self, moment: float | None = None) -> None:
        """Do it a few times, and see how often a moment of so many seconds allows."""
        on_gpu = self._machine.device.startswith("cuda")  # where a graph is captured first
        self._once(WARM_ON_GPU if on_gpu else 1)
        once, moment = self._once(1), MOMENT if moment is None else moment
        self._times = max(1, round(moment / once))
        if self._times == 1:  # as good as a turn
            self._seconds.append(once)

    def turn(self) -> None:
        """Measure it."""
        self._seconds.append(self._once(self._times))

    @property
    def is_measured(self) -> bool:
        return bool(self._seconds)

    @property
    def seconds(self) -> float:
        """The median over the turns."""
        return median(self._seconds)

    def _once(self, times: int) -> float:
        set_threads_of(self._machine)
        _wait(self._machine.device)
        begun = time.perf_counter()
        for _ in range(times):
            self._action()
        _wait(self._machine.device)
        return (time.perf_counter() - begun) / times


def _wait(device: str) -> None:
    """Let the device finish."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device.startswith("mps"):
        torch.mps.synchronize()


def in_turns(timed: Sequence[Timed], progress: Progress) -> None:
    """Measure each in turn, several times, or fewer where a busy machine takes too long."""
    begun = time.perf_counter()
    for number in range(ROUNDS + 1):
        for place, each in enumerate(timed):
            if each.is_measured and time.perf_counter() - begun > PATIENCE:
                continue
            progress((number + place / len(timed)) / (ROUNDS + 1))
            each.turn() if number else each.warm_up()


@dataclass(frozen=True)
class Limit:
    """FLOP/s of 3x3 convolutions alone, in the precision that was chosen: the best of some shapes."""

    training: float
    """Forward and both backward passes."""
    sampling: float


def convolution_limit(machine: MachineSettings, shapes: Sequence[tuple[int, int, int]] = ()) -> Limit:
    """What 3x3 convolutions alone reach with all threads, in the machine's precision.

    shapes: batch, channels and side of each; by default those of `CONVOLUTIONS`, which fill a CPU.
    """
    found = [_convolutions(machine, *shape) for shape in shapes or CONVOLUTIONS]
    return Limit(*(max(speeds) for speeds in zip(*found, strict=True)))


def _convolutions(machine: MachineSettings, batch: int, channels: int, side: int) -> tuple[float, float]:
    """FLOP/s forward with both backward passes, and forward alone."""
    dtype = torch.bfloat16 if machine.precision == "bf16" else torch.float32
    layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False, dtype=dtype, device=machine.device)
    layer = layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(batch, side, side, channels, dtype=dtype, device=machine.device)
    x = x.permute(0, 3, 1, 2).requires_grad_()
    both = Timed(replace(machine, workers=1), partial(_there_and_back, layer, x))
    there = Timed(replace(machine, workers=1), torch.no_grad()(partial(layer, x)))
    for each in (both, there):
        each.warm_up(LIMIT_MOMENT)
        each.turn()
    flop = 2 * 9 * channels**2 * batch * side**2
    return BACKWARD_TOO * flop / both.seconds, flop / there.seconds


def _there_and_back(layer: nn.Module, x: Tensor) -> object:
    out = layer(x)
    return torch.autograd.grad(out, [x, *layer.parameters()], out)
