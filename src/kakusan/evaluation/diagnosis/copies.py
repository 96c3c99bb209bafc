"""Does it copy, or will it? The copy rate, the gap of the losses, and how far the run itself lets one look ahead.

The number of steps until a model memorizes grows in proportion to the number of training images, and that until it
makes good samples does not (Bonnaire et al. 2025, "Why diffusion models don't memorize", arXiv 2505.17638). So what
counts is the number of epochs, and nothing is forecast but from signs that the run shows.
"""

import math
from collections.abc import Iterator
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
from kakusan.training.verdicts import GAP_OF_LOSSES, Copies, LossGap, Verdict

QUESTION = "Does it copy, or will it?"
SIGNS = (Verdict.SIGN, Verdict.SLIGHT_SIGN)
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
        """Where a straight line reaches a gap that matters; None where it does not grow, or not so soon."""
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
    said = [*_of_rates(copies, shortfall, many, why), *_of_losses(gap, shortfall, many)]
    said.append(_outlook(course, growth, many, shortfall))
    health, answer = _answer(copies, gap, shortfall, is_overfitting=overfits(course.lines))
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


def _of_rates(copies: Copies | None, shortfall: str, many: str, why: str) -> Iterator[str]:
    if copies is None:
        yield f"The copy rate is not known: {why}."
        return
    beside = (
        ""
        if copies.expected is None
        else f", {_percent(copies.expected)} of {copies.held_out:,} held-out {many}"
    )
    yield f"{_percent(copies.rate)} of {copies.samples:,} samples count as copies{beside}."
    yield copies.words(shortfall, many)


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f}".removesuffix(".0") + " %"


def _of_losses(gap: LossGap | None, shortfall: str, many: str) -> Iterator[str]:
    """The gap with its standard error, and what it says where something was learned."""
    if gap is None:
        return
    verdict = "" if gap.verdict is None or shortfall else f": {gap.verdict.value.replace('images', many)}"
    number = f"{gap.images:,} {many} of each" if gap.images else f"{many} of each"
    yield f"On {number}, with the same times and noise, the gap of held-out and training loss is {gap.words}{verdict}."


def _outlook(course: Course, growth: Growth | None, many: str, shortfall: str) -> str:
    """What the run shows of things to come; else that it shows nothing, after how many epochs."""
    if not math.isfinite(course.epochs):
        return ""
    seen = f"{course.images:,} {many} were seen {course.epochs:,.3g} times each"
    if shortfall:
        return f"{seen}."
    if overfits(course.lines):
        step = lowest(course.lines, HELD_OUT)
        best = f"{seen}; the held-out loss was lowest after {course.epochs_at(step):,.3g} (step {step:,})."
        return f"{best} {SOURCE.format(many=many)}"
    if growth is not None and (epoch := growth.epoch_of_sign) is not None:
        grows = f"the gap grows by {growth.slope:.2g} % an epoch (± {growth.reach:.1g}, 95 %)"
        mark = f"{100 * GAP_OF_LOSSES:.0f} %"
        return (
            f"{seen}; {grows}, and on a straight line would reach {mark} after about {epoch:,.3g} epochs."
            f" {SOURCE.format(many=many)}"
        )
    return f"{seen}; the course of the losses shows no sign that this grows."
