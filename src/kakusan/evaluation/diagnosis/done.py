"""Is it done? The trend of the loss over the last half of the run, and what longer training would bring.

Losses fall about as straight lines over the logarithm of the steps, so the slope is a fall a doubling, and a forecast
is the last loss and one slope more. The losses are those of the averaged weights on held-out images, which are measured
on the same images with the same noise each time, so that their scatter is small. Where there are fewer than four of
them in the last half, too few for a standard error, they still say how steep it is; that it is more than chance is then
known by the losses of the batches, of which there are many, where it falls, and by a gap to the training loss where it
rises.
"""

import math
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from kakusan.errors import quoted
from kakusan.evaluation.diagnosis.finding import Finding, Health
from kakusan.statistics.fits import StraightLine, straight_line
from kakusan.training.stopping import how_it_ended
from kakusan.training.verdicts import SIGNS, Lines, finite, loss_gap

QUESTION = "Is it done?"
FEWEST = 4
"""Measurements in the last half, from which a slope has a standard error that says something."""
MATTERS = 1.0
"""Per cent a doubling, below which a loss no longer falls, or does not rise."""
STEEP = 50.0
"""Per cent a doubling, above which a loss is no straight line yet, and nothing is forecast."""
SPEEDS = 20
"""Lines of figures, the newest, whose median is the speed."""
HELD_OUT, TRAINING, BATCHES = "held_out_loss", "training_loss", "loss"
NAMES = {HELD_OUT: "held-out loss", TRAINING: "training loss", BATCHES: "loss of the batches"}


@dataclass(frozen=True, kw_only=True)
class Course:
    """The state of a training, as far as a forecast depends on it."""

    lines: Lines
    """Of metrics.jsonl, up to `step`."""
    step: int
    """Of the weights."""
    steps: int
    """The last step of the run's settings."""
    batch_size: int
    images: int
    """Training images; 0 where it is not known."""
    decay: str = "constant"
    """Of the learning rate: see `training.decay`."""
    run: str = "RUN"
    """Its folder, for commands."""

    @property
    def epochs(self) -> float:
        return self.epochs_at(self.step)

    def epochs_at(self, step: float) -> float:
        return step * self.batch_size / self.images if self.images else math.nan

    @property
    def minutes_for_as_many(self) -> float:
        """That as many steps again take, at the speed of the last lines; nan where it is not known."""
        speeds = [line["images_per_second"] for line in self.lines if finite(line, "images_per_second")]
        speeds = [speed for speed in speeds[-SPEEDS:] if speed > 0]
        return self.step * self.batch_size / median(speeds) / 60 if speeds else math.nan


@dataclass(frozen=True)
class Trend:
    """A loss over log2(step), fitted over the last half of the run."""

    key: str
    first: int
    last: int
    loss: float
    """The last one."""
    line: StraightLine
    batches_fall: bool = False
    """The trend where the line has too few points: whether the losses of the batches fall."""
    has_gap: bool = False
    """Likewise: whether the last held-out loss is above the training loss, beyond chance."""

    @property
    def unit(self) -> float:
        """Per cent of the loss in one unit of it; 1 for losses below 0, of which a share has no meaning."""
        return 100 / self.loss if self.loss > 0 else 1.0

    @property
    def fall(self) -> float:
        """Per cent of the loss, or its own units, a doubling of the steps; below 0 where it rises."""
        return 0.0 - self.unit * self.line.slope

    @property
    def error(self) -> float:
        """Its standard error; nan with two points."""
        return self.unit * self.line.slope_error

    @property
    def matters(self) -> float:
        return MATTERS if self.loss > 0 else MATTERS / 100

    @property
    def falls(self) -> bool:
        """Beyond chance, and by what matters."""
        return self.fall >= self.matters and (self.batches_fall or self.fall > self.unit * self.line.reach)

    @property
    def rises(self) -> bool:
        return -self.fall >= self.matters and (self.has_gap or -self.fall > self.unit * self.line.reach)

    @property
    def is_flat(self) -> bool:
        """Neither, and a change of twice what matters would have shown."""
        return not self.falls and not self.rises and self.unit * self.line.reach <= 2 * self.matters

    @property
    def words(self) -> str:
        """The size of the change: "3.1 % a doubling of the steps (± 0.4)"."""
        error = f" (± {self.error:.{self._digits}f})" if math.isfinite(self.error) else ""
        return f"{abs(self.fall):.{self._digits}f}{self._per_cent} a doubling of the steps{error}"

    @property
    def signed_words(self) -> str:
        """The same where it may be anything: "0.1 ± 0.4 % a doubling of the steps"."""
        fall, error = (f"{value:.{self._digits}f}" for value in (self.fall, self.error))
        return f"{fall} ± {error}{self._per_cent} a doubling of the steps"

    @property
    def _per_cent(self) -> str:
        return " %" if self.loss > 0 else ""

    @property
    def _digits(self) -> int:
        return 1 if self.loss > 0 else 4

    def as_json(self) -> dict[str, Any]:
        return {
            "loss": self.key,
            "from_step": self.first,
            "to_step": self.last,
            "measurements": self.line.points,
            "last": self.loss,
            "slope_per_doubling": self.line.slope,
            "slope_standard_error": self.line.slope_error,
            "fall_in_per_cent" if self.loss > 0 else "fall": self.fall,
        }


def measured(lines: Lines, key: str) -> list[tuple[int, float]]:
    """(step, loss), one for each step, in order."""
    # a line with the lowest step is of weights that were put back at the end, not of those of its step
    known = [
        line for line in lines if finite(line, "step", key) and line["step"] > 0 and "lowest_step" not in line
    ]
    return sorted({int(line["step"]): float(line[key]) for line in known}.items())


def trend_of(lines: Lines, key: str, fewest: int = FEWEST) -> Trend | None:
    """The trend of one loss over the last half of the run; None with fewer measurements there."""
    points = measured(lines, key)
    half = [(step, loss) for step, loss in points if 2 * step >= points[-1][0]]
    if len(half) < max(fewest, 2):
        return None
    line = straight_line([math.log2(step) for step, _ in half], [loss for _, loss in half])
    return Trend(key, half[0][0], half[-1][0], half[-1][1], line)


def trend(lines: Lines) -> Trend | None:
    """Of held-out images; of the batches where none are measured, or fewer than two in the last half of the run."""
    batches, held_out = trend_of(lines, BATCHES), trend_of(lines, HELD_OUT, 2)
    if held_out is None or held_out.line.points >= FEWEST:
        return held_out or trend_of(lines, TRAINING) or batches
    gap = loss_gap(lines)
    has_gap = gap is not None and gap.verdict in SIGNS
    return replace(held_out, batches_fall=batches is not None and batches.falls, has_gap=has_gap)


def overfits(lines: Lines) -> bool:
    """Whether the held-out loss rises, beyond chance, while that of training images falls."""
    found, training = trend(lines), trend_of(lines, TRAINING, 2)
    is_rising = found is not None and found.key == HELD_OUT and found.rises
    return is_rising and training is not None and training.line.slope < 0


def lowest(lines: Lines, key: str) -> int:
    """The step of the lowest loss."""
    return min(measured(lines, key), key=lambda point: point[1])[0]


def is_done(course: Course) -> Finding:
    """Whether longer training would help."""
    if ended := how_it_ended(course.lines, course.step):
        sentence = (
            f"The training {ended}." if ended.startswith("stopped") else f"{ended[0].upper()}{ended[1:]}."
        )
        return Finding(QUESTION, Health.WELL, "yes", (sentence,), {"epochs": course.epochs})
    found = trend(course.lines)
    if found is None:
        words = (
            "There are too few figures to show a trend: it takes some losses in the last half of the steps."
        )
        return Finding(QUESTION, Health.UNKNOWN, "not known", (words,))
    figures, name = {**found.as_json(), "epochs": course.epochs}, NAMES[found.key]
    if found.rises:
        return Finding(QUESTION, Health.FAULT, "past it", (_rising(course, found),), figures)
    if found.falls and found.loss > 0 and found.fall > STEEP:
        words = (
            f"The {name} falls by more than half with each doubling of the steps: too early for a forecast."
        )
        way = _how_to_go_on(replace(course, decay="constant"))  # no word on a forecast that is none
        return Finding(QUESTION, Health.MORE, "not yet", (words, way), figures)
    if found.falls:
        then, minutes = found.loss + found.line.slope, course.minutes_for_as_many
        figures |= {"forecast": then, "minutes": minutes}
        time = (
            f"another {in_time(minutes)}, twice the steps," if math.isfinite(minutes) else "twice the steps"
        )
        words = f"The {name} falls {found.words}: {time} would bring about {then:.4g} from {found.loss:.4g}."
        return Finding(QUESTION, Health.MORE, "not yet", (words, _how_to_go_on(course)), figures)
    if found.is_flat:
        words = f"The {name} no longer falls ({found.signed_words})."
        return Finding(QUESTION, Health.WELL, "yes", (words,), figures)
    way = "falls" if found.fall > 0 else "rises"
    words = f"The {name} {way} {found.words}, which may be chance, with {found.line.points} measurements."
    return Finding(QUESTION, Health.UNKNOWN, "too few to tell", (words,), figures)


def _rising(course: Course, found: Trend) -> str:
    """Overfitting, where the loss on training images falls meanwhile; else the training itself goes wrong."""
    words = f"The {NAMES[found.key]} rises {found.words}, since step {lowest(course.lines, found.key):,}"
    if overfits(course.lines):
        return (
            f"{words}, while the training loss falls: overfitting. A training that ends there is the better one; more"
            " images, dropout or a smaller network would let it go on."
        )
    return f"{words}: the training goes wrong. A smaller training.learning-rate often helps."


def in_time(minutes: float) -> str:
    """In words: 1 second, 40 seconds, 15 minutes, 3.5 hours."""
    if minutes < 2:
        seconds = max(1, round(60 * minutes))
        return f"{seconds} second{'s' * (seconds > 1)}"
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"


def _how_to_go_on(course: Course) -> str:
    """The command, and what a falling learning rate does to the forecast."""
    run, twice = quoted(course.run), 2 * course.step
    if course.step < course.steps:
        return f"It stands at step {course.step:,} of {course.steps:,}; to go on: kakusan resume {run}."
    if course.decay == "constant":
        return f"To go on: kakusan resume {run} --steps {twice}."
    return (
        "The learning rate fell to 0, which makes the end steep: take it as the most to expect. To go on, at the rate"
        f" of the longer schedule: kakusan resume {run} --steps {twice}."
    )
