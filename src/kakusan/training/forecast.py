"""Forecasts of a training by trainings that were measured, the rows of forecast.csv.

benchmarks/forecast_table.py makes the table. A held-out loss is stated as a share of what a denoiser costs that knows
mean and power spectrum of the data alone (`validation.stationary`): the share that training leaves differs less between
data sets than the loss itself.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import groupby, pairwise
from typing import Any

import msgspec

from kakusan.config.networks.unet import FEW_IMAGES
from kakusan.config.recipe import usual_rate
from kakusan.config.settings import Settings, answered
from kakusan.data.space import noun_of

TURNED = 1.01
"""A held-out loss that ends so many times as high as it once was has turned up."""
TARGET = {"path": "vp", "schedule": "cosine", "predicts": "v"}
LOSS, OPTIMIZER = "simple", "adamw"
"""The process, the loss and the optimizer of the table: the shares of others are others."""


LARGEST = 64
"""Pixels: the largest side that the table, whose images have up to 32, is taken to say something of."""
FAR_RATE = 4.0
"""Times the usual rate, or one so many times smaller: another training."""


@dataclass(frozen=True)
class Trial:
    """A training that was measured, to its end: a row of the table. Losses are those of the averaged weights."""

    data: str
    images: int
    """Images trained on."""
    channels: int
    side: int
    """Height of an image, pixels."""
    width: int
    patch: int
    parameters: int
    batch_size: int
    steps: int
    training_loss: float
    held_out_loss: float
    baseline_loss: float
    lowest_loss: float
    """The lowest held-out loss on the way, measured every 100 steps."""
    lowest_step: int

    @property
    def left(self) -> float:
        """The share of the baseline loss that is left on held-out images."""
        return self.held_out_loss / self.baseline_loss

    @property
    def turned_up(self) -> bool:
        """Whether the held-out loss was clearly lower before the end, which is what memorizing looks like."""
        return self.held_out_loss > TURNED * self.lowest_loss

    @property
    def epochs_until_lowest(self) -> float:
        return self.lowest_step * self.batch_size / self.images


@cache
def trials() -> tuple[Trial, ...]:
    """The table that ships."""
    text = (resources.files("kakusan.training") / "forecast.csv").read_text("utf-8")
    rows = csv.DictReader(text.splitlines())
    return msgspec.convert(list(rows), tuple[Trial, ...], strict=False)


@dataclass(frozen=True)
class Left:
    """The share of the baseline loss that is left after a training, over the data sets of the table.

    From the lowest to the highest of n data sets is no bound: a further one, if it is drawn as they were, lies between
    them with probability (n - 1) / (n + 1), which is 3 of 5 for four.
    """

    low: float
    high: float
    expected: float
    """The geometric mean over the data sets; that of the data themselves where they ship and are among them."""
    is_bound: bool = False
    """Whether the training is longer than the longest of the table, whose share is given: what it leaves is less."""


def left_after(steps: int, source: str, table: Sequence[Trial] | None = None) -> Left | None:
    """The share that so many steps leave; None where the table begins later. source: the name of data that ship.

    Between lengths it is a power law in the steps. Each length was trained by itself: the rate falls to 0 over it.
    """
    curves = _curves(trials() if table is None else table)
    first = max(curve[0].steps for curve in curves.values())
    longest = min(curve[-1].steps for curve in curves.values())
    if steps < first:
        return None
    shares = {data: _at(curve, min(steps, longest)) for data, curve in curves.items()}
    middle = math.exp(sum(map(math.log, shares.values())) / len(shares))
    return Left(min(shares.values()), max(shares.values()), shares.get(source, middle), steps > longest)


def longest_trial() -> int:
    """Steps of the longest training that all data sets of the table have."""
    return min(curve[-1].steps for curve in _curves(trials()).values())


def _curves(table: Sequence[Trial]) -> dict[str, list[Trial]]:
    """The trials of each data set by length, with its smallest network. Few images say nothing of others: no trial."""
    plain = sorted(
        (trial for trial in table if trial.images >= FEW_IMAGES),
        key=lambda t: (t.data, t.steps, t.parameters),
    )
    curves: dict[str, list[Trial]] = {}
    for (data, _), group in groupby(plain, key=lambda trial: (trial.data, trial.steps)):
        curves.setdefault(data, []).append(next(group))
    return curves


def _at(curve: Sequence[Trial], steps: int) -> float:
    """The share of one data set, at steps between its first and its last length."""
    for one, other in pairwise(curve):
        if steps <= other.steps:
            way = math.log(steps / one.steps) / math.log(other.steps / one.steps)
            return math.exp((1 - way) * math.log(one.left) + way * math.log(other.left))
    return curve[-1].left


@dataclass(frozen=True)
class Copying:
    """The steps at which the held-out loss is to turn up, since the training images are learned by heart: a forecast.

    The time that takes grows in proportion to the number of images, that to good samples does not (Bonnaire et al.
    2025, arXiv 2505.17638): so it is a number of epochs, here those of the trainings of the table that turned up.
    """

    epochs: tuple[float, float]
    """The first and the last of them."""
    steps: tuple[int, int]
    """The same for these data and batches."""

    @classmethod
    def of(cls, images: int, batch_size: int, table: Sequence[Trial] | None = None) -> "Copying":
        """For so many images to train on; mirrored ones count as others."""
        turned = [t.epochs_until_lowest for t in (trials() if table is None else table) if t.turned_up]
        low, high = min(turned), max(turned)
        first, last = (max(1, round(epochs * images / batch_size)) for epochs in (low, high))
        return cls((low, high), (first, last))

    def where(self, steps: int) -> str:
        """Words before a held-out loss that is to rise again within so many steps."""
        return "at its lowest " if steps > self.steps[0] else ""


def obstacle(settings: Settings, record: Mapping[str, Any]) -> str:
    """The reason that the table has no loss for such a training; empty where it has. record: its data.json."""
    process, training = settings.process, settings.training
    if settings.data.kind != "image" or settings.network.kind != "unet":
        return "only U-Nets on images have been measured"
    if {name: getattr(process, name) for name in TARGET} != TARGET or training.loss != LOSS:
        return "only the loss simple of v on the path vp with the schedule cosine has been measured"
    if training.optimizer != OPTIMIZER:
        return "only trainings by AdamW have been measured"
    if {"pairs", "vectors", "masked"} & set(record):
        return "samples given images or numbers, or with missing values, have not been measured"
    if record["units"]["kind"] != "levels":
        return "only images of levels have been measured, not of real numbers"
    if max(record["shape"][1:]) > LARGEST:
        return f"only images of up to {LARGEST} pixels a side have been measured"
    if not record["held_out"]:
        return "nothing is held out"
    if "weights_from" in record:
        return "trainings that start from trained weights have not been measured"
    usual = usual_rate(answered(training.steps), settings.network)
    if not 1 / FAR_RATE < answered(training.learning_rate) / usual < FAR_RATE:
        return "only rates near the automatic one have been measured"
    return ""


def in_short(settings: Settings, record: Mapping[str, Any]) -> str:
    """One line on a training that begins: epochs, the share of the baseline loss, copying. record: its data.json."""
    steps, batch = answered(settings.training.steps), answered(settings.training.batch_size)
    images = record["count"] - len(record["held_out"])
    words = [f"each of the {noun_of(record['shape']).many} is seen {steps * batch / images:,.3g} times"]
    left = None if obstacle(settings, record) else left_after(steps, settings.data.source)
    if left is not None:
        copying = Copying.of(seen_as(settings, images), batch)
        at = copying.where(steps)
        words += [f"held-out loss {at}{loss_in_words(left)}", copying_in_words(copying, steps)]
    return f"forecast: {'; '.join(words)}"


def seen_as(settings: Settings, images: int) -> int:
    """The number of different images that a training sees: twice as many where they are mirrored."""
    return images * (2 if settings.data.flip else 1)


def loss_in_words(left: Left) -> str:
    """The share as per cent of the baseline, over the data sets of the table."""
    low, high = 100 * left.low, 100 * left.high
    if left.is_bound:
        return (
            f"{high:.0f} % or less of what knowing mean and power spectrum alone gives, in trainings that were measured"
            f" (up to {longest_trial():,} steps)"
        )
    return f"{low:.0f} to {high:.0f} % of what knowing mean and power spectrum alone gives"


def copying_in_words(copying: Copying, steps: int) -> str:
    """The steps at which copying is to be expected, beside those of the training, in words."""
    first, last = copying.steps
    reach = f"step {_about(first)} to {_about(last)}"
    if steps < first:
        return f"copying hardly before {reach}"
    return f"copying {'from' if steps > last else 'perhaps, from'} {reach} on"


def _about(steps: int) -> str:
    """To two digits: a forecast knows no more."""
    return f"{int(float(f'{steps:.2g}')):,}"
