"""Causes of wrong colours: each suspect is changed alone, and the samples are drawn again.

A cause is named where the samples of the same noise are then off by less than half as much. Whatever changes nothing is
not named: the figures decide.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from kakusan.config.settings import LEARNED, ProcessSettings
from kakusan.evaluation.diagnosis.colours import Compared, Difference, spread_of
from kakusan.evaluation.diagnosis.done import Trend
from kakusan.evaluation.diagnosis.drawing import Drawing
from kakusan.shapes import Samples

REDRAWN = 64
"""Samples of a trial, at the most."""
STEPS_MORE = 4
"""Times the sampler's steps, where it is asked whether they are too few."""
NO_SIGNAL = 1e-7
"""alpha_bar_T below which nothing is left of the data."""
SHORT = "Likely cause: short training, since the loss still falls by {words}."


@dataclass(frozen=True)
class Trial:
    """One thing changed, and what the samples then are."""

    cause: str
    """In words, with what to do."""
    off: float
    """The figure in question minus that of the data."""


def causes_of(
    drawing: Drawing, samples: Samples, found: Compared, shortfall: str = "", trend: Trend | None = None
) -> tuple[str, ...]:
    """Sentences, the likeliest cause first; none where the figures support none.

    samples: those that were compared. shortfall: what `verdicts.hardly_learned` says, which explains everything.
    """
    if shortfall:
        return ("Likely cause: short training, since the network has hardly learned yet.",)
    worst, count = found.off[0], min(REDRAWN, len(samples))
    base = _off(drawing, samples[:count], found, worst)
    trials = [trial for trial in _trials(drawing, found, worst, count) if abs(trial.off) < abs(base) / 2]
    if not trials and trend is not None and trend.falls:
        return (SHORT.format(words=trend.words),)
    unit = 100 if worst.what == "bin" else 100 / float(found.scale.range[worst.channel])
    of = "of all values" if worst.what == "bin" else "of the range"
    return tuple(
        f"Likely cause: {trial.cause} (then off by {unit * trial.off:+.1f} % {of}, not {unit * base:+.1f})."
        for trial in sorted(trials, key=lambda trial: abs(trial.off))
    )


def _trials(drawing: Drawing, found: Compared, worst: Difference, count: int) -> Iterator[Trial]:
    """Each suspicion that there is ground for, tried."""
    for cause, samples in _suspects(drawing, count):
        yield Trial(cause, _off(drawing, samples, found, worst))


def _suspects(drawing: Drawing, count: int) -> Iterator[tuple[str, Samples]]:
    """A possible cause, in words, and samples without it."""
    model, loaded = drawing.loaded.model, drawing.loaded
    left = float(model.path.alpha_bar_at(torch.tensor([drawing.T], dtype=torch.float64)))
    if left > NO_SIGNAL:
        yield (
            f"the schedule leaves signal at T (alpha_bar_T = {left:.2g}), and sampling starts from pure noise:"
            f" {_other_end(loaded.settings.process)}",
            drawing.samples("trying a start with the signal left at T", count=count, from_data=True),
        )
    if model.clip is not None:
        free = replace(loaded, model=replace(model, clip=None))
        yield (
            f"guesses of x_0 are clipped to ±{model.clip:g}: --process.clip False, or a larger process.clip-range",
            drawing.samples("trying without clipping", count=count, loaded=free),
        )
    steps = drawing.sampler.steps or drawing.T
    if steps < drawing.T:
        more = min(STEPS_MORE * steps, drawing.T)
        yield (
            f"{steps} steps of the sampler are too few: kakusan sample --steps {more}",
            drawing.samples(f"trying {more} steps", count=count, sampler=drawing.in_steps(more)),
        )
    if loaded.step and loaded.weights == "ema":
        raw = drawing.run.load(weights="model", device=loaded.device)
        yield (
            f"the averaged weights are too young ({_memory(drawing)}): train for longer, or with a smaller"
            " training.ema",
            drawing.samples("trying the weights of the last step", count=count, loaded=raw),
        )


def _other_end(process: ProcessSettings) -> str:
    """The flags of a training whose schedule leaves less signal at T; a learned one is not stretched to its end."""
    if process.schedule == LEARNED:
        return f"a lower --process.log-snr-T, which was {process.log_snr_T:g}"
    return "--process.schedule cosine, or --process.zero-terminal-snr"


def _memory(drawing: Drawing) -> str:
    """The memory of the average in steps, beside the steps that there were."""
    decay = float(drawing.loaded.settings.training.ema)
    memory = "all" if decay >= 1 else f"the last {1 / (1 - decay):,.0f}"
    return f"they average over about {memory} of {drawing.loaded.step:,} steps, and the weights themselves do better"


def _off(drawing: Drawing, samples: Samples, found: Compared, worst: Difference) -> float:
    values = drawing.prepared.dataset.units.decode(samples)
    return worst.of(spread_of(values, found.scale)) - worst.data
