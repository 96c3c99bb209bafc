"""From a run to its diagnosis: what can be measured is measured, and each question answered by its own file."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from kakusan.config.settings import answered
from kakusan.data.dataset import Progress, silent
from kakusan.data.space import POINTS, noun_of
from kakusan.errors import KakusanError, quoted
from kakusan.evaluation.copies import are_comparable, copy_rates
from kakusan.evaluation.diagnosis.broken import at_a_bad_step, by_noise_level, without_levels
from kakusan.evaluation.diagnosis.causes import causes_of
from kakusan.evaluation.diagnosis.colours import are_right
from kakusan.evaluation.diagnosis.copies import does_copy
from kakusan.evaluation.diagnosis.done import Course, is_done, trend
from kakusan.evaluation.diagnosis.drawing import Drawing, compared
from kakusan.evaluation.diagnosis.finding import Diagnosis, Finding, Health
from kakusan.evaluation.options import DiagnosisOptions
from kakusan.run import Loaded, Run
from kakusan.shapes import Samples
from kakusan.storage.dumps import stopped_at
from kakusan.training.build import build_loss
from kakusan.training.knowledge import Level, levels_of
from kakusan.training.prepare import Prepared
from kakusan.training.replay import replay
from kakusan.training.verdicts import Copies

Show = Callable[[float, str], None]
NO_CHECKPOINT = "there is no checkpoint yet"
NOT_COMPARED = "these samples have none"
OF_ENDS = (
    "after `kakusan distill` its guesses are ends of trajectories, not the means that exact denoisers give"
)
ENOUGH = 64
"""Samples of a report, from which something is said of their colours."""


def nobody(done: float, work: str) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A run with what is there of it: perhaps its weights, perhaps its data."""

    run: Run
    loaded: Loaded | None
    """None before the first checkpoint."""
    prepared: Prepared | None
    why: str = ""
    """The reason that the data are not here."""
    progress: Show = nobody

    @property
    def step(self) -> int:
        return 0 if self.loaded is None else self.loaded.step

    @property
    def many(self) -> str:
        return noun_of(self.run.data.shape).many

    @cached_property
    def shortfall(self) -> str:
        return self.run.hardly_learned(self.step)

    @cached_property
    def course(self) -> Course:
        settings, record = self.run.settings.training, self.run.files.data
        return Course(
            lines=[line for line in self.run.files.metrics() if line["step"] <= self.step],
            step=self.step,
            steps=answered(settings.steps),
            batch_size=answered(settings.batch_size),
            images=0 if "imported" in record else record["count"] - len(record["held_out"]),
            decay=settings.decay,
            run=str(self.run.folder),
        )


def diagnose(
    run: Run, options: DiagnosisOptions, *, reading: Progress = silent, progress: Show = nobody
) -> Diagnosis:
    """The four questions, with all that it takes to answer them. Nothing is written.

    reading: called while files are read, progress with the share that is done and the name of the work. Raises RunError
    where there is nothing to diagnose: no checkpoint, and no step that was not finite.
    """
    loaded = None
    if run.files.steps or stopped_at(run.files) is None:
        loaded = run.load(device=options.device)
    try:
        prepared, why = run.prepared(reading), ""
    except KakusanError as error:
        prepared, why = None, error.problem
    subject = Subject(run, loaded, prepared, why, progress)
    drawing = samples = None
    if loaded is not None and prepared is not None:
        drawing = Drawing(run, loaded, prepared, options.count, options.seed, progress)
        samples = drawing.samples(f"sampling {options.count:,} {subject.many}")
    return Diagnosis(
        about={"run": str(run.folder), "step": subject.step, "count": options.count, "seed": options.seed},
        broken=is_broken(subject, replays=True),
        done=is_done(subject.course),
        copies=_copies(subject, samples),
        colours=_colours(subject, drawing, samples),
        notes=tuple(run.warnings),
    )


def glance(subject: Subject, samples: Samples, copies: Copies | None, *, is_of_all: bool) -> Diagnosis:
    """The same of samples that are there already, with nothing drawn or replayed: what a report has time for.

    copies: their rates, where they were compared; is_of_all: whether they stand for all data, of whatever condition.
    """
    colours = None
    if len(samples) >= ENOUGH and is_of_all and subject.prepared is not None:
        colours = _at_a_glance(are_right(compared(samples, subject.prepared)), subject)
    course = subject.course
    gap = subject.run.loss_gap(subject.step)
    return Diagnosis(
        about={"run": str(subject.run.folder), "step": subject.step},
        broken=is_broken(subject, replays=False),
        done=is_done(course),
        copies=does_copy(course, copies, gap, subject.shortfall, subject.many, subject.why or NOT_COMPARED),
        colours=colours or _ask_for_colours(subject),
    )


def _at_a_glance(found: Finding, subject: Subject) -> Finding:
    """With who looks for the cause, where something is off."""
    if found.health is not Health.FAULT:
        return found
    words = f"To look for the cause: kakusan diagnose {quoted(subject.run.folder)}."
    return replace(found, sentences=(*found.sentences, words))


def is_broken(subject: Subject, *, replays: bool) -> Finding:
    """replays: whether a step that was not finite is done again, which takes the time of the steps before it."""
    prepared = subject.prepared
    if (step := stopped_at(subject.run.files)) is not None:
        return _at_a_bad_step(subject, step, replays=replays)
    if prepared is None or subject.loaded is None:
        return without_levels(subject.shortfall, subject.why)
    if subject.run.settings.is_distilled:
        return without_levels(subject.shortfall, OF_ENDS)
    levels, knows_training = _levels(subject), False
    if any(level.is_no_better for level in levels) and len(prepared.split.held_out):
        knows_training = not any(level.is_no_better for level in _levels(subject, held_out=False))
    found = trend(subject.course.lines)
    return by_noise_level(
        levels,
        subject.shortfall,
        subject.many,
        knows_training=knows_training,
        still_falls=found is not None and found.falls,
    )


def _levels(subject: Subject, *, held_out: bool = True) -> list[Level]:
    """The losses by noise level, of weights and data that are there."""
    loaded, prepared = subject.loaded, subject.prepared
    assert loaded is not None
    assert prepared is not None
    loss, device = build_loss(loaded.settings, loaded.model), torch.device(loaded.device)
    return levels_of(
        loaded.model, loss, prepared.dataset, prepared.split, device, subject.progress, held_out=held_out
    )


def _at_a_bad_step(subject: Subject, step: int, *, replays: bool) -> Finding:
    run, prepared = subject.run, subject.prepared
    checkpoint = run.files.steps[-1] if run.files.steps else None
    if prepared is None:
        unknown = f"It cannot be replayed, to see which layer and which {subject.many} it was: {subject.why}."
    elif not replays:
        unknown = f"Which layer and which {subject.many} it was: kakusan diagnose {quoted(run.folder)}."
    else:
        found = replay(run.task(prepared), step, subject.progress)
        return at_a_bad_step(step, checkpoint, found, prepared.dataset.captions)
    return at_a_bad_step(step, checkpoint, None, unknown=unknown)


def _copies(subject: Subject, samples: Samples | None) -> Finding:
    course, gap, copies, why = subject.course, subject.run.loss_gap(subject.step), None, subject.why
    if samples is not None and subject.prepared is not None:
        if subject.many == POINTS.many:
            why = "of points, copies mean nothing"
        elif not are_comparable(subject.prepared.dataset):
            why = f"not in all {subject.many} the same values are missing"
        else:
            subject.progress(0.0, f"comparing with the training {subject.many}")
            rates = copy_rates(samples, subject.prepared)
            copies = None if rates is None else rates.copies(subject.run.doubt)
            why = f"there are fewer than two different training {subject.many}"
    return does_copy(
        course, copies, gap, subject.shortfall, subject.many, why or "there is no checkpoint yet"
    )


def _colours(subject: Subject, drawing: Drawing | None, samples: Samples | None) -> Finding:
    if drawing is None or samples is None or subject.prepared is None:
        why = subject.why or NO_CHECKPOINT
        words = f"There is nothing to compare samples with: {why}."
        return Finding("Are the colours right?", Health.UNKNOWN, "not known", (words,))
    found = compared(samples, subject.prepared)
    if not found.off:
        return are_right(found)
    causes = causes_of(drawing, samples, found, subject.shortfall, trend(subject.course.lines))
    return are_right(found, causes)


def _ask_for_colours(subject: Subject) -> Finding:
    """A report has too few samples, or not of all conditions, or no data: `kakusan diagnose` draws what it needs."""
    if subject.prepared is None:
        return _colours(subject, None, None)
    words = f"Measured by: kakusan diagnose {quoted(subject.run.folder)}."
    return Finding("Are the colours right?", Health.UNKNOWN, "not measured here", (words,))
