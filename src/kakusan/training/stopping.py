"""The end of a training that is done: its held-out loss is known to fall no more. Numbers in, a verdict out.

Held-out losses are measured on the same samples at the same times with the same noise, so that of two measurements the
differences sample by sample show far less chance than the losses do, and have a standard error. A training is done
where, for a quarter of its steps (`PATIENCE`) and at the last `IN_A_ROW` measurements, it is known (95 %) that the loss
has fallen by less than is worth the time (`WORTHWHILE`): where it stays, and where it rises, which is overfitting.
Chance ends no training: where few samples are held out, one goes on until they show a clear rise.

It ends at once: the rate need not fall to 0 before, since what that brings, the averaged weights have already
(benchmarks/README.md has the figures). They become those of the measurement with the lowest loss.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any, Self

from kakusan.statistics.student import student_quantile

WORTHWHILE = 0.01
"""A fall of the held-out loss, as a share of it."""
PATIENCE = 0.25
"""A share of the steps so far."""
IN_A_ROW = 3
"""Measurements that must agree."""


@dataclass(frozen=True)
class Watch:
    """The last measurement at which a worthwhile fall was seen, and what has been measured since."""

    step: int = 0
    losses: tuple[float, ...] = ()
    """Of each held-out sample."""
    flat: int = 0
    """Measurements in a row, up to the last, at which it is known that there was none since."""
    measured: int = 0
    """The step of the last measurement; 0 before the first."""
    lowest_step: int = 0
    """Of the measurement with the lowest loss of all."""
    lowest: float | None = None

    def after(self, step: int, losses: Sequence[float]) -> Self:
        """The same with one more measurement. One that it knows already, or that is not finite, changes nothing."""
        if step <= self.measured or not all(map(math.isfinite, losses)):
            return self
        mean = fmean(losses)
        now = replace(self, measured=step)
        if self.lowest is None or mean < self.lowest:
            now = replace(now, lowest_step=step, lowest=mean)
        if not self.losses:
            return replace(now, step=step, losses=tuple(losses))
        fall, reach = fall_between(self.losses, losses)
        worthwhile = WORTHWHILE * abs(fmean(self.losses))
        if fall >= worthwhile:
            return replace(now, step=step, losses=tuple(losses), flat=0)
        return replace(now, flat=self.flat + 1 if fall + reach < worthwhile else 0)

    @property
    def is_done(self) -> bool:
        """Whether the loss is known to fall no more."""
        return self.flat >= IN_A_ROW and self.measured - self.step >= PATIENCE * self.measured


UNWATCHED = Watch()
"""Nothing has been measured yet."""


def fall_between(earlier: Sequence[float], later: Sequence[float]) -> tuple[float, float]:
    """By how much the mean loss fell, and half the width of the 95 % interval of that; infinite for a single sample.

    earlier, later: of the same samples, in the same order.
    """
    falls = [before - after for before, after in zip(earlier, later, strict=True)]
    if len(falls) < 2:
        return fmean(falls), math.inf
    return fmean(falls), student_quantile(len(falls) - 1) * stdev(falls) / math.sqrt(len(falls))


def end_in_figures(watch: Watch, step: int, planned: int) -> dict[str, int]:
    """For metrics.jsonl, at the last step of a training that was watched: what `how_it_ended` reads."""
    early = {"planned_steps": planned, "last_fall_step": watch.step} if step < planned else {}
    return {**early, "lowest_step": watch.lowest_step}


def how_it_ended(lines: Sequence[Mapping[str, Any]], step: int) -> str:
    """Words on the end of a training at this step, by the lines of metrics.jsonl; perhaps none."""
    ends = [line for line in lines if line.get("step") == step and "lowest_step" in line]
    words = []
    if ends and "planned_steps" in ends[-1]:
        planned, fall = ends[-1]["planned_steps"], ends[-1]["last_fall_step"]
        words.append(
            f"stopped at step {step:,} of {planned:,}: the held-out loss had not fallen by {WORTHWHILE:.0%} since"
            f" step {fall:,}"
        )
    if ends and (lowest := ends[-1]["lowest_step"]) < step:
        words.append(f"the averaged weights are those of step {lowest:,}, where the held-out loss was lowest")
    return "; ".join(words)
