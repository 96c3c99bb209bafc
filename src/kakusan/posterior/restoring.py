"""Samples of x given y: as many as are asked for of each measurement, each a function of seed and numbers."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.model import as_model
from kakusan.errors import SettingsError
from kakusan.posterior.base import Method
from kakusan.posterior.exactly import kept_exactly
from kakusan.posterior.measurement import Measurement
from kakusan.samplers.base import AnyModel
from kakusan.samplers.walk import SeededNoise
from kakusan.shapes import Condition

OBSERVATION = 32
"""Bits of a sample's number that count the samples of one measurement; those above count the measurements."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Restoration:
    """Samples number first, ..., first + count - 1 of a seed, of each measurement.

    condition: of the measured x, one row for each, or one for all. micro_batch: samples that go through the network at
    once. device: on which. Raises SettingsError for counts and numbers that cannot be.
    """

    count: int = 16
    seed: int = 0
    first: int = 0
    condition: Condition | None = None
    micro_batch: int = 64
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.first <= (1 << OBSERVATION) - self.count:
            raise SettingsError(
                f"a count is at least 1, and samples are numbered below 2^{OBSERVATION}:"
                f" not {self.count} from {self.first}"
            )


def restore(
    model: AnyModel | Denoiser,
    measurement: Measurement,
    method: Method,
    request: Restoration | None = None,
    progress: Callable[[float, str], None] = lambda _, __: None,
) -> Tensor:
    """Samples of x given y, (n, count, channels, *space), in the network's units, on the CPU.

    A sample is a function of (seed; measurement, number), whatever the count, but for methods that couple a batch.
    Where a linear operator measured without noise, y is kept exactly. Raises SettingsError where the method is not for
    such an operator, or y cannot be (two exact values that contradict each other).
    """
    model, request = as_model(model), request or Restoration()
    if method.for_linear and not measurement.is_linear:
        raise SettingsError(
            f"{type(method).__name__} needs a linear operator, and this one is not", "take mmps, daps or smc"
        )
    n, count, size = len(measurement), request.count, request.micro_batch
    steps, found = method.steps_of(model.path), []
    for begin in range(0, n * count, size):
        places = torch.arange(begin, min(begin + size, n * count))
        of, number = places // count, places % count + request.first
        noises = SeededNoise(request.seed, (of << OBSERVATION | number).to(request.device), measurement.shape)
        rows, given = measurement.rows(of), _given(request, of)
        still = None
        for step, still in enumerate(method.trajectory(model, rows, noises, given)):
            progress((begin + len(places) * step / steps) / (n * count), f"t = {still.t:g}")
        assert still is not None
        found.append(kept_exactly(still.x, rows).cpu())
    return torch.cat(found).view(n, count, *measurement.shape)


def _given(request: Restoration, of: Tensor) -> Condition | None:
    """The conditions of samples of these measurements."""
    if request.condition is None:
        return None
    given = replace(request.condition) if len(request.condition) > 1 else request.condition
    return given.rows(of % len(given)).to(request.device)
