"""Are the colours right? Mean, deviation and histogram of each channel of samples beside those of real data.

All figures are means over images of a figure of one image, so that standard errors are of images: the pixels of an
image resemble each other and do not count as independent.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kakusan.data.units import Levels, Units
from kakusan.evaluation.diagnosis.finding import Finding, Health

BINS = 10
ERRORS = 3
"""Standard errors beyond which a difference of means or deviations is not chance."""
ERRORS_OF_A_BIN = 4
"""The same for a bin of the histogram, of which there are so many that one is often beyond three."""
FEWEST = 32
"""Images on either side, below which standard errors are themselves uncertain, and nothing is judged."""
MATTERS = 0.02
"""Share of the range of the data by which a mean or a deviation is off, that one sees."""
MATTERS_IN_A_BIN = 0.03
"""Share of all values by which a bin of the histogram is off, that one sees."""
WITHIN = (0.001, 0.999)
"""Of the real data: the ends of their range; what lies beyond counts with the first and the last bin."""
VALUES_AT_A_TIME = 1 << 21
"""Of which figures are taken in float64."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scale:
    """The range of each channel in the data: the bins, and the scale of a difference."""

    edges: Floats
    """(channels, 11)."""

    @classmethod
    def of(cls, units: Units, values: NDArray[Any]) -> "Scale":
        """values: (n, ..., channels), in the data's units; for levels all there are make the range."""
        channels = values.shape[-1]
        if isinstance(units, Levels):
            edges = np.linspace(-0.5, units.levels - 0.5, BINS + 1)
            return cls(np.tile(edges, (channels, 1)))
        flat = values.reshape(-1, channels)
        ends = np.array([np.nanquantile(flat[:, i], WITHIN) for i in range(channels)])
        whole = np.array([[np.nanmin(flat[:, i]), np.nanmax(flat[:, i])] for i in range(channels)])
        ends = np.where(
            ends[:, :1] < ends[:, 1:], ends, whole
        )  # of rare events, which lie beyond both quantiles
        return cls(np.array([np.linspace(low, high, BINS + 1) for low, high in ends]))

    @property
    def range(self) -> Floats:
        """(channels,)."""
        return np.maximum(self.edges[:, -1] - self.edges[:, 0], np.finfo(np.float64).tiny)


@dataclass(frozen=True, eq=False)
class Spread:
    """The distribution of the values of some images, by channel, with standard errors over images."""

    images: int
    mean: Floats
    """(channels,), in the data's units."""
    mean_error: Floats
    deviation: Floats
    """Over all values of all images."""
    deviation_error: Floats
    shares: Floats
    """(channels, 10): of the values in each bin."""
    shares_error: Floats


def spread_of(values: NDArray[Any], scale: Scale) -> Spread:
    """values: (n, ..., channels), in the data's units; nan is missing."""
    rows = max(1, VALUES_AT_A_TIME * len(values) // max(1, values.size))
    parts = [_of_images(values[start : start + rows], scale) for start in range(0, len(values), rows)]
    means, squares, shares = (np.concatenate(column) for column in zip(*parts, strict=True))
    centre = scale.edges.mean(1)
    mean = np.nanmean(means, 0)
    away = squares - 2 * (mean - centre) * (means - centre) + (mean - centre) ** 2  # about the mean of all
    variance = np.nanmean(away, 0)
    deviation = np.sqrt(np.maximum(variance, 0))
    return Spread(
        images=len(means),
        mean=mean,
        mean_error=_error(means),
        deviation=deviation,
        deviation_error=_error(away) / np.maximum(2 * deviation, np.finfo(np.float64).tiny),
        shares=np.nanmean(shares, 0),
        shares_error=_error(shares),
    )


def _of_images(values: NDArray[Any], scale: Scale) -> tuple[Floats, Floats, Floats]:
    """Of each image and channel the mean, the mean square about the middle of the scale, and the shares of the bins."""
    count, channels = len(values), values.shape[-1]
    x = values.reshape(count, -1, channels).astype(np.float64)
    there = np.maximum((~np.isnan(x)).sum(1), 1).astype(np.float64)
    there[np.isnan(x).all(1)] = np.nan  # an image without a value in this channel has no figures
    centre = scale.edges.mean(1)
    bins = np.stack([np.searchsorted(scale.edges[i][1:-1], x[..., i], "right") for i in range(channels)], -1)
    bins[np.isnan(x)] = -1
    shares = np.stack([(bins == k).sum(1) / there for k in range(BINS)], -1)
    return np.nansum(x, 1) / there, np.nansum((x - centre) ** 2, 1) / there, shares


def _error(each: Floats) -> Floats:
    """The standard error of the mean over images, of figures (images, ...); nan for one image."""
    count = (~np.isnan(each)).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        squares = np.nansum((each - np.nanmean(each, 0)) ** 2, 0)
        return np.asarray(np.sqrt(squares / (count - 1) / count), dtype=np.float64)


@dataclass(frozen=True)
class Difference:
    """One figure of the samples beside that of the data."""

    what: str
    """"mean", "deviation" or "bin"."""
    channel: int
    bin: int
    """Of a histogram, from 0."""
    samples: float
    data: float
    standard_error: float
    """Of the difference."""
    matters: float

    @property
    def value(self) -> float:
        return self.samples - self.data

    @property
    def weight(self) -> float:
        """The difference in units of what matters, without its sign."""
        return abs(self.value) / self.matters

    @property
    def by_chance(self) -> float:
        """The largest difference that chance explains."""
        return (ERRORS_OF_A_BIN if self.what == "bin" else ERRORS) * self.standard_error

    @property
    def is_off(self) -> bool:
        """Beyond chance, by an amount that one sees."""
        return abs(self.value) > max(self.by_chance, self.matters)

    @property
    def is_known(self) -> bool:
        """Whether one that matters twice as much would have shown."""
        return self.by_chance <= 2 * self.matters

    def of(self, spread: Spread) -> float:
        """The same figure of other images."""
        if self.what == "bin":
            return float(spread.shares[self.channel, self.bin])
        return float((spread.mean if self.what == "mean" else spread.deviation)[self.channel])


def differences(samples: Spread, data: Spread, scale: Scale) -> list[Difference]:
    """All figures of all channels."""
    found = []
    for i, width in enumerate(scale.range):
        matters = MATTERS * float(width)
        for what in ("mean", "deviation"):
            ours, theirs = (float(getattr(each, what)[i]) for each in (samples, data))
            error = float(np.hypot(*(getattr(each, f"{what}_error")[i] for each in (samples, data))))
            found.append(Difference(what, i, 0, ours, theirs, error, matters))
        for k in range(BINS):
            ours, theirs = (float(each.shares[i, k]) for each in (samples, data))
            error = float(np.hypot(samples.shares_error[i, k], data.shares_error[i, k]))
            found.append(Difference("bin", i, k, ours, theirs, error, MATTERS_IN_A_BIN))
    return found


@dataclass(frozen=True, eq=False)
class Compared:
    """Samples beside real data."""

    samples: Spread
    data: Spread
    scale: Scale
    levels: bool
    """Whether the data are levels, as common images are: their values are then colours."""
    of_data: str
    """Their name: "held-out images"."""

    @property
    def all(self) -> list[Difference]:
        return differences(self.samples, self.data, self.scale)

    @property
    def off(self) -> list[Difference]:
        """Differences beyond chance that one sees, the largest first; none of too few images."""
        if not self.is_enough:
            return []
        return sorted((each for each in self.all if each.is_off), key=lambda each: -each.weight)

    @property
    def is_enough(self) -> bool:
        """Whether there are images enough to judge."""
        return min(self.samples.images, self.data.images) >= FEWEST

    @property
    def question(self) -> str:
        return f"Are the {self.noun} right?"

    @property
    def noun(self) -> str:
        return "colours" if self.levels else "values"


def are_right(compared: Compared, causes: tuple[str, ...] | None = None) -> Finding:
    """Whether samples have the values that the data have.

    causes: what the figures support as the cause of a difference, in sentences; None where nobody has looked for one.
    """
    figures, off = _figures(compared), compared.off
    figures["causes"] = None if causes is None or not off else list(causes)
    if off:
        why = () if causes is None else causes or ("Cause unknown: none of the usual ones changes it.",)
        return Finding(compared.question, Health.FAULT, "no", (*_off_words(compared, off), *why), figures)
    largest = max((each for each in compared.all if each.what != "bin"), key=lambda each: each.weight)
    share = [
        100 * MATTERS * value / largest.matters for value in (abs(largest.value), largest.standard_error)
    ]
    counts = f"{compared.samples.images:,} samples, {compared.data.images:,} {compared.of_data}"
    words = f"Means and deviations differ by {share[0]:.1f} % of the range at the most (± {share[1]:.1f}; {counts})."
    if compared.is_enough and all(each.is_known for each in compared.all):
        return Finding(compared.question, Health.WELL, "yes", (words,), figures)
    words = f"{words} A difference that one sees might not show with so few."
    return Finding(
        compared.question,
        Health.UNKNOWN,
        "too few to tell",
        (words,),
        figures,
    )


def _off_words(compared: Compared, off: list[Difference]) -> Iterator[str]:
    """The largest difference of each kind; of many channels, how many more are off."""
    counts = f" ({compared.samples.images:,} samples, {compared.data.images:,} {compared.of_data})"
    for what in ("mean", "deviation"):
        of_kind = [each for each in off if each.what == what]
        if of_kind:
            yield f"{_one(compared, of_kind[0])}{_more(of_kind)}{counts}."
            counts = ""  # said once
    bins = [each for each in off if each.what == "bin"]
    if bins:
        worst, edges = bins[0], compared.scale.edges[bins[0].channel]
        low, high = (f"{edges[worst.bin + k]:.4g}" for k in (0, 1))
        more, than = ("more", "than") if worst.value > 0 else ("fewer", "than")
        yield (
            f"Of the values{_of_channel(compared, worst.channel)}, {100 * worst.samples:.1f} % lie in {low} to {high},"
            f" {more} {than} the {100 * worst.data:.1f} % of the data (± {100 * worst.standard_error:.1f})."
        )


def _one(compared: Compared, each: Difference) -> str:
    share = 100 * each.value / float(compared.scale.range[each.channel])
    return (
        f"{_channel(compared, each.channel)} {each.what} is {each.samples:.4g}, that of the data {each.data:.4g}"
        f" (± {each.standard_error:.2g}): off by {share:+.1f} % of the range"
    )


def _channel(compared: Compared, i: int) -> str:
    return f"In channel {i} the" if len(compared.samples.mean) > 1 else "The"


def _of_channel(compared: Compared, i: int) -> str:
    return f" of channel {i}" if len(compared.samples.mean) > 1 else ""


def _more(of_kind: list[Difference]) -> str:
    rest = len(of_kind) - 1
    return f"; {rest} more channel{'s' * (rest > 1)} too" if rest else ""


def _figures(compared: Compared) -> dict[str, Any]:
    """By channel, as plain values."""
    said = {}
    for name, each in (("samples", compared.samples), ("data", compared.data)):
        arrays = {key: value for key, value in vars(each).items() if key != "images"}
        said[name] = {"images": each.images, **{key: value.tolist() for key, value in arrays.items()}}
    return {**said, "of_data": compared.of_data, "edges": compared.scale.edges.tolist()}
