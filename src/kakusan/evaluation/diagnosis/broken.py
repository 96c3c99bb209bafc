"""Is it broken? What the network knows at each noise level, and what happened at a step that was not finite."""

from collections.abc import Sequence
from dataclasses import asdict

from kakusan.evaluation.diagnosis.finding import Finding, Health
from kakusan.training.knowledge import MEAN, NETWORK, SPECTRUM, WHITE, Level
from kakusan.training.replay import FirstBad

QUESTION = "Is it broken?"
KNOWING = {
    WHITE: "mean and deviation of the data",
    SPECTRUM: "mean and power spectrum of the data",
    MEAN: "the mean of the training {many}",
}
"""The knowledge of the best of the exact denoisers that is no worse."""
NAMED = 3
"""Images of a bad step that are named."""
REMEDIES = "A smaller training.learning-rate, a longer training.warmup or machine.precision fp32 often helps."


def by_noise_level(
    levels: Sequence[Level],
    shortfall: str,
    many: str = "images",
    *,
    knows_training: bool = False,
    still_falls: bool = False,
) -> Finding:
    """Whether the network knows more than denoisers that were taught nothing, in every part of 1..T.

    shortfall: what `verdicts.hardly_learned` says. knows_training: whether it does on training images, where these
    levels are of held-out ones. still_falls: whether the trend of the loss does.
    """
    figures = {"by_t": [asdict(level) for level in levels]}
    lost = [level for level in levels if not level.is_finite]
    poor = [level for level in levels if level.is_finite and level.is_no_better]
    if lost:
        words = (
            f"The network's answer is not finite for t = {ranges(lost)}: its weights or activations overflow."
        )
        return Finding(QUESTION, Health.FAULT, "yes", (words,), figures)
    if shortfall:
        return Finding(QUESTION, Health.MORE, "not yet known", (shortfall,), figures)
    if poor:
        said = _no_better(poor, many)
        if knows_training:
            learned = f"That is on held-out {many}; on training {many} it is ahead everywhere."
            return Finding(QUESTION, Health.FAULT, "no: it overfits", (*said, learned), figures)
        if not any(level.is_worse or level.best != SPECTRUM for level in poor):
            words = f"Where the {many} are no more than that, as Gaussian fields are, nobody can know more."
            return Finding(QUESTION, Health.UNKNOWN, "not known", (*said, words), figures)
        if still_falls:
            said.append("The loss still falls: train for longer before looking for a fault.")
        answer = "yes" if 2 * len(poor) > len(levels) else "in part"
        return Finding(QUESTION, Health.FAULT, answer, tuple(said), figures)
    if not all(level.is_known for level in levels):
        unknown = [level for level in levels if not level.is_known]
        words = f"No fault is seen, but these are too few {many} to tell for t = {ranges(unknown)}."
        return Finding(QUESTION, Health.UNKNOWN, "too few to tell", (words,), figures)
    return Finding(QUESTION, Health.WELL, "no", (_all_well(levels, many),), figures)


def _no_better(poor: Sequence[Level], many: str) -> list[str]:
    """A sentence for each of the other denoisers that the network does not beat, or is worse than."""
    said = []
    for name, is_worse in dict.fromkeys((level.best, level.is_worse) for level in poor):
        here = [level for level in poor if (level.best, level.is_worse) == (name, is_worse)]
        own, other = (sum(level.losses[each] for level in here) / len(here) for each in (NETWORK, name))
        said.append(
            f"For t = {ranges(here)} the network is {'worse' if is_worse else 'no better'} than knowing only"
            f" {KNOWING[name].format(many=many)} (loss {own:.4g}, where that gives {other:.4g})."
        )
    return said


def _all_well(levels: Sequence[Level], many: str) -> str:
    """The loss over all t beside that of the best denoiser that was taught nothing; where nobody can know more."""
    telling = [level for level in levels if level.difference < 0] or list(levels)
    own, other = (
        sum(level.losses[name or level.best] for level in levels) / len(levels) for name in (NETWORK, "")
    )
    words = f"The network's loss is {own:.4g}, where the best of what needs no learning gives {other:.4g}"
    if len(telling) == len(levels):
        return f"{words}; it is ahead at every noise level."
    rest = [level for level in levels if level not in telling]
    hidden = f"x_t hardly shows the {many}, and nobody can know more than the mean"
    return f"{words}; only for t = {ranges(rest)} it is not ahead, where {hidden}."


def without_levels(shortfall: str, why: str) -> Finding:
    """The answer where the losses by t cannot be measured, with the reason; there may be evidence all the same."""
    if shortfall:
        return Finding(QUESTION, Health.MORE, "not yet known", (shortfall,))
    return Finding(QUESTION, Health.UNKNOWN, "not known", (f"The loss by noise level is not known: {why}.",))


def at_a_bad_step(
    step: int, checkpoint: int | None, found: FirstBad | None, names: Sequence[str] = (), unknown: str = ""
) -> Finding:
    """The run stopped at a step (counted from 1) that was not finite.

    checkpoint: the step of the last one; found: what the step showed when it was done again, None where it is finite
    here; names: of the images of the data set, or none; unknown: a sentence, where it was not done again.
    """
    last = "there is no checkpoint yet"
    if checkpoint is not None:
        last = f"the last checkpoint is of step {checkpoint:,}"
    happened = f"The training stopped at step {step:,}, whose numbers were not finite; {last}."
    where = "Replayed here, the step is finite: another machine, version or number of threads changes the last digits."
    if found is not None:
        where = f"{_where(found, step)}{_images(found, names)}."
    figures = {
        "stopped_at": step,
        "checkpoint": checkpoint,
        "first": None if found is None else asdict(found),
    }
    return Finding(QUESTION, Health.FAULT, "yes", (happened, unknown or where, REMEDIES), figures)


def _where(found: FirstBad, step: int) -> str:
    when = "Replayed" if found.step == step else f"Replayed here, already in step {found.step:,}"
    return f"{when}, the first that is not finite is {found.what}"


def _images(found: FirstBad, captions: Sequence[str]) -> str:
    """For which images of the batch, by number and name."""
    count = len(found.images)
    if not count:
        return ""
    names = [f"{i} ({captions[i]})" if captions else str(i) for i in found.images[:NAMED]]
    named = f"number {', '.join(names)}{', ...' * (count > NAMED)}"
    if count == found.batch:
        return f", for all {count} images of the batch ({named}): no single image's fault"
    return f", for {count} of the {found.batch} images of the batch: {named}"


def ranges(levels: Sequence[Level]) -> str:
    """The parts of 1..T, neighbours joined: "1 to 300, 901 to 1,000"."""
    joined: list[list[int]] = []
    for level in levels:
        if joined and joined[-1][1] + 1 == level.first:
            joined[-1][1] = level.last
        else:
            joined.append([level.first, level.last])
    return ", ".join(f"{a:,}" if a == b else f"{a:,} to {b:,}" for a, b in joined)
