"""Verdicts on the figures of a run, what they allow to say and what not: numbers in, a sentence out.

The report, the last lines of a training and `kakusan evaluate` all use these, so that they say the same.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from kakusan.statistics.student import student_quantile

Lines: TypeAlias = Sequence[Mapping[str, Any]]
"""Lines of metrics.jsonl, in order."""

ALWAYS_ZERO = 0.95
"""Bound of an older run's loss in eps: above it, it is hardly below 1, the loss of always predicting 0."""
NOISE_OF_BASELINE = 0.02
"""Share of the baseline's loss by which a network may be above it: on Gaussian data none can be below."""
FEW_SEEN = 5_000
"""Images over all steps, where nothing else is known: 40 batches of 128."""
GAP_OF_LOSSES = 0.1
"""A gap between losses that would matter, as a share of the loss."""
GAP_IN_BITS = 0.1
"""The same between bounds, bits/dim."""
GAP_OF_RATES = 0.1
"""The same between two copy rates."""


class Verdict(Enum):
    """The meaning of a gap between held-out and training images; of losses and bounds, as the end of a sentence."""

    SIGN = "a sign of overfitting"
    SLIGHT_SIGN = "a slight sign of overfitting"
    NO_SIGN = "no sign of overfitting"
    TOO_FEW = "too few images to tell"
    UNKNOWN = (
        "which says nothing of overfitting, since the weights may have been trained on the held-out images"
    )


SIGNS = (Verdict.SIGN, Verdict.SLIGHT_SIGN)


@dataclass(frozen=True)
class Gap:
    """Held-out minus training, where more is worse."""

    value: float
    standard_error: float
    degrees: float
    """Degrees of freedom in the standard error: pairs of images - 1, or all images - 2."""
    matters: float
    """The smallest gap of practical interest."""
    doubt: str = ""
    """The reason to doubt that the held-out images are new to the weights; empty where there is none."""

    @property
    def reach(self) -> float:
        """Half the width of its 95 % interval; nan where there is none."""
        return student_quantile(self.degrees) * self.standard_error if self.degrees >= 1 else math.nan


def verdict_on(gap: Gap) -> Verdict:
    """A gap counts beyond its 95 % interval; that there is none can be said where one that matters would have shown."""
    if gap.value > gap.reach:
        return Verdict.SIGN if gap.value >= gap.matters else Verdict.SLIGHT_SIGN
    if not gap.reach <= gap.matters:  # nan is too wide
        return Verdict.TOO_FEW
    return Verdict.UNKNOWN if gap.doubt else Verdict.NO_SIGN


def gap_of_rates(rate: float, expected: float, samples: int, held_out: int, doubt: str = "") -> Gap:
    """The gap of the copy rate of samples above that of held-out images.

    The standard error is that of Agresti & Caffo 2000, which is right at few images and at rates of 0, too.
    """
    spread = 0.0
    for share, count in ((rate, samples), (expected, held_out)):
        moderate = (share * count + 1) / (count + 2)
        spread += moderate * (1 - moderate) / (count + 2)
    return Gap(rate - expected, math.sqrt(spread), math.inf, GAP_OF_RATES, doubt)


COPYING = {
    Verdict.SIGN: "The samples sit closer to single training {many} than unseen real {many} do: the model has begun"
    " to memorize. More {many}, fewer steps, dropout or a smaller network would help.",
    Verdict.NO_SIGN: "The samples sit no closer to single training {many} than real {many} that the model never saw:"
    " no sign of memorizing.",
    Verdict.TOO_FEW: "These are too few {many} to tell: look at the pairs below.",
    Verdict.UNKNOWN: "The samples sit no closer to single training {many} than the held-out {many} do. That says"
    " nothing of memorizing, since the weights may have been trained on those",
}
COPYING[Verdict.SLIGHT_SIGN] = COPYING[Verdict.SIGN]
COPYING_IN_SHORT = {
    Verdict.SIGN: "the model has begun to memorize; more {many}, fewer steps, dropout or a smaller network would help",
    Verdict.NO_SIGN: "no sign of memorizing",
    Verdict.TOO_FEW: "too few {many} to tell",
    Verdict.UNKNOWN: "which says nothing of memorizing, since the weights may have been trained on the held-out {many}",
}
COPYING_IN_SHORT[Verdict.SLIGHT_SIGN] = COPYING_IN_SHORT[Verdict.SIGN]


@dataclass(frozen=True)
class Copies:
    """The copy rate of samples, beside that of held-out images, which nobody copied."""

    rate: float
    """Of the samples, 0..1."""
    expected: float | None
    """Of the held-out images; None where there are none."""
    samples: int
    held_out: int
    doubt: str = ""
    """The reason that held-out images may not be new to the weights."""

    @property
    def verdict(self) -> Verdict | None:
        """None where there is nothing to compare the rate with."""
        if self.expected is None:
            return None
        return verdict_on(gap_of_rates(self.rate, self.expected, self.samples, self.held_out, self.doubt))

    def in_short(self, shortfall: str = "", many: str = "images") -> str:
        """The rates and what they mean, without the pairs to look at."""
        words = f"{_percent(self.rate)} of {self.samples:,} samples count as copies"
        if self.expected is not None:
            words += f", and {_percent(self.expected)} of {self.held_out:,} held-out {many}"
        if shortfall:
            return f"{words}; but noise copies nothing."
        if self.verdict is None:
            return f"{words}; nothing is held out to compare with."
        return f"{words}: {COPYING_IN_SHORT[self.verdict].format(many=many)}."

    def words(self, shortfall: str = "", many: str = "images") -> str:
        """The verdict on the two rates, in a sentence; none on memorizing where hardly anything was learned."""
        if shortfall:
            return "The model has hardly learned yet, and noise copies nothing: these rates say nothing of memorizing."
        if self.verdict is None:
            return f"Without held-out {many} there is nothing to compare it with: look at the pairs below."
        said = COPYING[self.verdict].format(many=many)
        return said + (f": {self.doubt}." if self.verdict is Verdict.UNKNOWN else "")


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f}".removesuffix(".0") + " %"


@dataclass(frozen=True)
class LossGap:
    """The last losses on training and held-out images, and what their gap says."""

    training: float
    held_out: float
    images: int
    """Images of each of the two; 0 where an older version did not say."""
    gap: Gap | None
    """None where an older version wrote no standard error."""

    @property
    def words(self) -> str:
        """The gap with its standard error, as a share of the training loss where that has a meaning."""
        scale, unit = (100 / self.training, " %") if self.training > 0 else (1.0, "")
        digits = 1 if unit else 4
        value = f"{round(scale * (self.held_out - self.training), digits) + 0.0:.{digits}f}"  # never -0.0
        if self.gap is None or not math.isfinite(self.gap.standard_error):
            return value + unit
        return f"{value} ± {scale * self.gap.standard_error:.{digits}f}{unit}"

    @property
    def verdict(self) -> Verdict | None:
        return None if self.gap is None else verdict_on(self.gap)


def loss_gap(lines: Lines, doubt: str = "") -> LossGap | None:
    """The newest pair of losses; None where none was measured."""
    measured = [line for line in lines if finite(line, "training_loss", "held_out_loss")]
    if not measured:
        return None
    line = measured[-1]
    training, held_out = float(line["training_loss"]), float(line["held_out_loss"])
    if "compared_images" not in line:
        return LossGap(training, held_out, 0, None)
    error = float(line["gap_standard_error"]) if finite(line, "gap_standard_error") else math.nan
    matters = GAP_OF_LOSSES * training if training > 0 else GAP_IN_BITS
    images = int(line["compared_images"])
    return LossGap(training, held_out, images, Gap(held_out - training, error, images - 1, matters, doubt))


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The course of a training, as far as needed to say whether anything was learned."""

    lines: Lines
    step: int
    warmup: int
    batch_size: int
    predicts: str
    loss: str
    continued: bool = False
    """Whether it began from the weights of another run."""


def hardly_learned(trained: Trained) -> str:
    """A sentence where the network has learned no more of the data than their mean and power spectrum; else empty."""
    measured = [line for line in trained.lines if finite(line, "training_loss", "step")]
    line = (
        measured[-1] if measured and 2 * measured[-1]["step"] >= trained.step else {}
    )  # not one of long ago
    warming = trained.step < trained.warmup
    evidence = _evidence(trained, line, warming=warming)
    if evidence is None:
        return ""
    reasons = [f"{trained.step:,} step{'s' * (trained.step != 1)}", *([evidence] if evidence else [])]
    if warming:
        reasons.append(f"the learning rate was still warming up (over {trained.warmup:,} steps)")
    return f"Has hardly learned yet: {', '.join(reasons)}. Samples look like noise until it has trained for longer."


def _evidence(trained: Trained, line: Mapping[str, Any], *, warming: bool) -> str | None:
    """Evidence that it has hardly learned, perhaps nothing but the number of steps (""); None where it has learned."""
    loss = float(line["training_loss"]) if line else math.nan
    if finite(line, "baseline_loss"):
        baseline = float(line["baseline_loss"])
        words = (
            f"loss {loss:.4g}, where knowing only mean and power spectrum of the data gives {baseline:.4g}"
        )
        return words if loss > (1 + NOISE_OF_BASELINE) * baseline else None
    if trained.predicts == "eps" and trained.loss == "simple" and loss > ALWAYS_ZERO:
        return f"loss {loss:.4g}, where always predicting 0 gives 1"
    few = trained.step * trained.batch_size < FEW_SEEN
    return "" if trained.step and not trained.continued and (warming or few) else None


def finite(line: Mapping[str, Any], *keys: str) -> bool:
    """Whether the line has a finite number under each of these names."""
    values = [line.get(key) for key in keys]
    return all(isinstance(value, int | float) and math.isfinite(value) for value in values)
