"""The course of a training where it is not the planned one: a lower rate since it went back, or an earlier end.

A course is a part of the checkpoint, and changes by what stands there alone: no clock, nothing that an interruption
would leave out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from kakusan.training.stopping import UNWATCHED, Watch, how_it_ended


@dataclass(frozen=True)
class Course:
    """Departures of a training from its plan; none at first."""

    rewinds: int = 0
    """Number of times it went back since numbers were not finite: each halves the rate of all steps from there on."""
    planned: int = 0
    """The last step of the plan under which held-out losses are watched; 0 before the first of them."""
    watch: Watch = UNWATCHED

    @property
    def rate_factor(self) -> float:
        """Of the planned rate."""
        return 0.5**self.rewinds

    def last_step(self, planned: int) -> int:
        """Of the training, where its plan has so many."""
        return self.watch.measured if self.watch.is_done else planned

    def watched(self, step: int, losses: Sequence[float], planned: int) -> Self:
        """The same with the held-out losses of a step, under a plan of so many steps."""
        return replace(self, planned=planned, watch=self.watch.after(step, losses))

    def under(self, planned: int, *, watched: bool) -> Self:
        """The same where this is its plan; under another one, held-out losses are watched anew."""
        if watched and self.planned in (0, planned):
            return self
        return replace(self, planned=0, watch=UNWATCHED)

    def state(self) -> dict[str, Any]:
        """As JSON; nothing, where all goes as planned."""
        return {} if self == PLANNED else asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The inverse of `state`."""
        if not state:
            return cls()
        watch = Watch(**{**state["watch"], "losses": tuple(state["watch"]["losses"])})
        return cls(state["rewinds"], state["planned"], watch)


PLANNED = Course()
"""Nothing has come between."""


def unplanned(lines: Sequence[Mapping[str, Any]], step: int) -> dict[str, str]:
    """Departures of a training from its plan, by the lines of metrics.jsonl up to a step: label to words."""
    told = {"End": how_it_ended(lines, step)}
    if back := [line for line in lines if line.get("rewinds")]:
        rewinds, bad = back[-1]["rewinds"], back[-1]["not_finite_step"]
        times = "once" if rewinds == 1 else f"{rewinds} times, at last"
        told["Rewound"] = (
            f"went back {times} where numbers were not finite, from step {bad:,} to step {back[-1]['step'] - 1:,}:"
            f" since then {back[-1]['rate_factor']:.3g} of the learning rate"
        )
    return {label: words for label, words in told.items() if words}
