"""Moments of a sampling, kept as they pass by: what a film is made of, without a second sampling."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import torch

from kakusan.errors import SettingsError
from kakusan.samplers.sampling import Drawn
from kakusan.shapes import Samples


@dataclass(frozen=True)
class Moment:
    """x_t of some samples, and the prediction of x_0 with which the sampler goes on; at t = 0 both are the sample.

    It is that made of x_t itself, but where a step asks twice or corrects itself (Heun, EDM, UniPC): then the newest.
    """

    t: float | int
    x: Samples
    x_0: Samples


def spread_over(moments: int, count: int) -> list[int]:
    """So many places of a walk of so many moments, evenly spread, the first and the last among them.

    Raises SettingsError for more than there are, and for fewer than 2.
    """
    if not 2 <= count <= moments:
        raise SettingsError(
            f"a walk of {moments - 1} steps has {moments} moments to show, from noise to sample, not {count}",
            f"take 2 to {moments} frames, or another number of steps",
        )
    return [round(i * (moments - 1) / (count - 1)) for i in range(count)]


@dataclass
class Recorder:
    """Keeps the first `count` samples at these places of their walk, on the CPU: the watcher of a `sample`."""

    count: int
    places: Collection[int]
    """From 0, x_T, to the number of steps, the sample."""
    _kept: dict[int, list[Moment]] = field(default_factory=dict)
    _before: Drawn | None = None
    _place: int = -1

    def __call__(self, drawn: Drawn) -> None:
        """Look at a moment. What was seen one step before is kept now: only this step brings its prediction."""
        before = self._before
        is_same = before is not None and before.offsets == drawn.offsets
        if before is not None and is_same and drawn.still.x_0 is not None:
            self._keep(before, drawn.still.x_0)
        self._place = self._place + 1 if is_same else 0
        self._before = drawn
        if drawn.still.t == 0:
            self._keep(drawn, drawn.still.x)

    def _keep(self, drawn: Drawn, x_0: Samples) -> None:
        rows = self.count - drawn.offsets.start
        if rows > 0 and self._place in self.places:
            moment = Moment(drawn.still.t, drawn.still.x[:rows].cpu(), x_0[:rows].cpu())
            self._kept.setdefault(self._place, []).append(moment)

    def moments(self) -> Iterator[Moment]:
        """All samples together at each of the places, from noise to sample."""
        for _, parts in sorted(self._kept.items()):
            x, x_0 = (torch.cat([getattr(part, name) for part in parts]) for name in ("x", "x_0"))
            yield Moment(parts[0].t, x, x_0)
