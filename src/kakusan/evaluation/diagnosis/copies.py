"""Does it copy, or will it? The copy rate, the gap of the losses, and how far the run itself lets one look ahead.

The number of steps until a model memorizes grows in proportion to the number of training images, and that until it
makes good samples does not (Bonnaire et al. 2025, "Why diffusion models don't memorize", arXiv 2505.17638). So what
counts is the number of epochs, and nothing is forecast but from signs that the run shows.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

from kakusan.evaluation.diagnosis.done import (
    FEWEST,
    HELD_OUT,
    TRAINING,
    Course,
    lowest,
    measured,
    overfits,
)
from kakusan.evaluation.diagnosis.finding import Finding, Health
from kakusan.statistics.fits import straight_line
from kakusan.training.verdicts import GAP_OF_LOSSES, SIGNS, Copies, LossGap, Verdict

QUESTION = "Does it copy, or will it?"
FURTHEST = 10
"""Times the epochs so far, beyond which nothing is forecast."""
SOURCE = (
    "That grows in proportion to the number of {many}, the time to good samples does not (Bonnaire et al. 2025):"
    " twice the {many} would bear twice the steps."
)


@dataclass(frozen=True)
class Growth:
    """The gap of the losses, as a share of the training loss, over the epochs of the last half of the run."""

    slope: float
    """Per cent an epoch."""
    reach: float
    """Half the width of its 95 % interval."""
    now: float
    """Per cent."""
    epochs: float

    @property
    def epoch_of_sign(self) -> float | None:
        """The epoch at which a straight line reaches a gap that matters; None where it does not, or not so soon."""
        if not self.slope > self.reach:
            return None
        epoch = self.epochs + (100 * GAP_OF_LOSSES - self.now) / self.slope
        return epoch if self.epochs < epoch <= FURTHEST * self.epochs else None


def growth_of(course: Course) -> Growth | None:
    """None where fewer than four gaps were measured in the last half of the run, or losses are not above 0."""
    training = dict(measured(course.lines, TRAINING))
    gaps = [
        (course.epochs_at(step), 100 * (loss - training[step]) / training[step])
        for step, loss in measured(course.lines, HELD_OUT)
        if training.get(step, 0) > 0
    ]
    half = [point for point in gaps if 2 * point[0] >= gaps[-1][0]]
    if len(half) < FEWEST or not math.isfinite(half[-1][0]):
        return None
    line = straight_line(*map(list, zip(*half, strict=True)))
    return Growth(line.slope, line.reach, half[-1][1], half[-1][0])


def does_copy(
    course: Course,
    copies: Copies | None,
    gap: LossGap | None,
    shortfall: str = "",
    many: str = "images",
    why: str = "no samples were compared",
) -> Finding:
    """copies: the rates of samples and held-out images, None where they have none: then why says it."""
    growth = growth_of(course)
    figures = _figures(course, copies, gap, growth)
    health, answer = _answer(copies, gap, shortfall, is_overfitting=overfits(course.lines))
    rates = f"The copy rate is not known: {why}." if copies is None else copies.in_short(shortfall, many)
    said = [
        rates,
        _of_losses(gap, shortfall, many),
        _outlook(course, growth, many, is_told=bool(shortfall) or health is Health.FAULT),
    ]
    return Finding(QUESTION, health, answer, tuple(filter(None, said)), figures)


def _figures(
    course: Course, copies: Copies | None, gap: LossGap | None, growth: Growth | None
) -> dict[str, Any]:
    return {
        "epochs": course.epochs if math.isfinite(course.epochs) else None,
        "training_images": course.images,
        "copies": None if copies is None else asdict(copies),
        "gap": None
        if gap is None
        else {"training": gap.training, "held_out": gap.held_out, "words": gap.words},
        "epoch_of_sign": None if growth is None else growth.epoch_of_sign,
    }


def _answer(
    copies: Copies | None, gap: LossGap | None, shortfall: str, *, is_overfitting: bool
) -> tuple[Health, str]:
    if shortfall:
        return Health.UNKNOWN, "not yet known"
    verdicts = [each for each in (copies and copies.verdict, gap and gap.verdict) if each is not None]
    if copies is not None and copies.verdict in SIGNS:
        return Health.FAULT, "yes"
    if is_overfitting or any(verdict in SIGNS for verdict in verdicts):
        return Health.FAULT, "it begins to"
    if not verdicts or Verdict.UNKNOWN in verdicts:
        return Health.UNKNOWN, "not known"
    if all(verdict is Verdict.TOO_FEW for verdict in verdicts):
        return Health.UNKNOWN, "too few to tell"
    return Health.WELL, "no sign of it"


def _of_losses(gap: LossGap | None, shortfall: str, many: str) -> str:
    """The gap with its standard error, and what it says where something was learned."""
    if gap is None:
        return ""
    verdict = "" if gap.verdict is None or shortfall else f": {gap.verdict.value.replace('images', many)}"
    number = f" ({gap.images:,} {many} of each)" if gap.images > 1 else ""
    return f"The held-out loss is above that of training {many} by {gap.words}{number}{verdict}."


def _outlook(course: Course, growth: Growth | None, many: str, *, is_told: bool) -> str:
    """A forecast from what the run shows; else that it shows nothing, after how many epochs.

    is_told: whether there is a sign already, or nothing to be seen yet.
    """
    if not math.isfinite(course.epochs):
        return ""
    seen = f"{course.images:,} {many} were seen {_times(course.epochs)} times each"
    if overfits(course.lines):
        step = lowest(course.lines, HELD_OUT)
        best = f"{seen}; the held-out loss was lowest after {_times(course.epochs_at(step))} (step {step:,})."
        return f"{best} {SOURCE.format(many=many)}"
    if growth is not None and (epoch := growth.epoch_of_sign) is not None:
        grows = f"the gap grows by {growth.slope:.2g} % an epoch (± {growth.reach:.1g}, 95 %)"
        mark = f"{100 * GAP_OF_LOSSES:.0f} %"
        return (
            f"{seen}; {grows}, and on a straight line would reach {mark} after about {_times(epoch)} epochs."
            f" {SOURCE.format(many=many)}"
        )
    if is_told:
        return f"{seen}."
    return f"{seen}, and nothing in the losses shows that this grows."


def _times(epochs: float) -> str:
    return f"{epochs:,.0f}" if epochs >= 100 else f"{epochs:.3g}"
