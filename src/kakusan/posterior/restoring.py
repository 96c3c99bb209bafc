"""Samples of x given y: as many as are asked for of each measurement, each a function of seed and numbers."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral

import torch
from torch import Tensor

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.model import as_model
from kakusan.errors import SettingsError
from kakusan.posterior.base import Method, Weighed
from kakusan.posterior.counting import Counted, Counter
from kakusan.posterior.exactly import kept_exactly
from kakusan.posterior.measurement import Measurement
from kakusan.randomness import require_seed
from kakusan.samplers.base import AnyModel
from kakusan.samplers.walk import SeededNoise
from kakusan.shapes import Condition, Samples

OBSERVATION = 32
"""Bits of a sample's number that count the samples of one measurement; those above count the measurements."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Restoration:
    """Samples number first, ..., first + count - 1 of a seed, of each measurement.

    condition: of the measured x, one row for each, or one for all. micro_batch: rows that go through the network at
    once. device: on which. dtype: of the samples; networks take float32, oracles float64 too.
    Raises SettingsError for counts and numbers that cannot be.
    """

    count: int = 16
    seed: int = 0
    first: int = 0
    condition: Condition | None = None
    micro_batch: int = 64
    device: str = "cpu"
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        numbers: dict[str, object] = {"count": self.count, "first": self.first, "seed": self.seed}
        for name, number in numbers.items():
            if not isinstance(number, Integral):
                raise SettingsError(f"the {name} of samples is a whole number, not {number!r}")
        require_seed(self.seed)
        if self.count < 1:
            raise SettingsError(f"a count is at least 1, not {self.count}")
        if self.first < 0:
            raise SettingsError(f"the first sample has a number from 0 on, not {self.first}")
        if self.first + self.count > 1 << OBSERVATION:
            raise SettingsError(
                f"samples are numbered below 2^{OBSERVATION}, and {self.count:,} from {self.first:,} go beyond"
            )


@dataclass(frozen=True, eq=False)
class Restored:
    """Samples of x given y, and what they cost."""

    samples: Tensor
    """(n, count, channels, *space), in the network's units, on the CPU."""
    calls: float
    """Of the network, for each sample."""
    backward: float
    """Backward passes through the network, for each sample."""
    effective: Tensor | None = None
    """Of particle filters, (n, count): the smallest effective number of particles on the way to each sample."""


def restore(
    model: AnyModel | Denoiser,
    measurement: Measurement,
    method: Method,
    request: Restoration | None = None,
    progress: Callable[[float, str], None] = lambda _, __: None,
) -> Tensor:
    """The samples of `restored` alone."""
    return restored(model, measurement, method, request, progress).samples


def restored(
    model: AnyModel | Denoiser,
    measurement: Measurement,
    method: Method,
    request: Restoration | None = None,
    progress: Callable[[float, str], None] = lambda _, __: None,
) -> Restored:
    """Samples of x given y, in the network's units, on the CPU.

    A sample is a function of (seed; measurement, number), whatever the count, but for the rounding of other batches.
    Where a linear operator measured without noise, y is kept exactly. Raises SettingsError where y cannot be (two exact
    values that contradict each other), and where conditions are not one for each measurement, nor one for all.
    """
    model, request = as_model(model), request or Restoration()
    counter = Counter()
    counted = replace(model, denoiser=Counted(model.denoiser, counter))
    n, count = len(measurement), request.count
    _require_a_condition_for_each(request.condition, n)
    size = max(1, request.micro_batch // method.rows_of_a_sample(measurement))
    steps = method.steps_of(model.path)
    found, effective = [], []
    for begin in range(0, n * count, size):
        places = torch.arange(begin, min(begin + size, n * count))
        of, number = places // count, places % count + request.first
        seeded = SeededNoise(request.seed, (of << OBSERVATION | number).to(request.device), measurement.shape)
        rows, given = measurement.rows(of), _given(request, of)
        still = None
        for step, still in enumerate(method.trajectory(counted, rows, OfType(seeded, request.dtype), given)):
            part = min(step / steps, 1.0)  # a choice among particles comes after the last step
            progress((begin + len(places) * part) / (n * count), f"t = {still.t:g}")
        assert still is not None
        found.append(kept_exactly(still.x, rows).cpu())
        if isinstance(still, Weighed) and still.effective is not None:
            effective.append(still.effective.cpu())
    return Restored(
        torch.cat(found).view(n, count, *measurement.shape),
        counter.forward / (n * count),
        counter.backward / (n * count),
        torch.cat(effective).view(n, count) if effective else None,
    )


@dataclass(frozen=True)
class OfType:
    """The same noise in another type."""

    of: SeededNoise
    dtype: torch.dtype

    def start(self) -> Samples:
        return self.of.start().to(self.dtype)

    def draw(self, step: int, k: int = 0) -> Samples:
        return self.of.draw(step, k).to(self.dtype)


def _require_a_condition_for_each(given: Condition | None, n: int) -> None:
    if given is not None and len(given) not in (1, n):
        raise SettingsError(
            f"{len(given):,} conditions and {n:,} measurement{'s' * (n > 1)}: their numbers differ",
            "give one for each, in the same order, or one for all",
        )


def _given(request: Restoration, of: Tensor) -> Condition | None:
    """The conditions of samples of these measurements."""
    given = request.condition
    return None if given is None else given.rows(of % len(given)).to(request.device)
