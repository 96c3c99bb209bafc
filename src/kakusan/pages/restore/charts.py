"""The charts of the page. Every function gives "" where there is nothing to draw."""

import math
from collections.abc import Sequence

import numpy as np

from kakusan.pages.svg import Floats, Frame, Scale
from kakusan.statistics.ensembles import Coverage, Histogram

FAR = 4.5
"""Deviations to either side in the histogram of what is left of y."""
BINS = 45
MOST_DOTS = 400


def coverage_chart(curve: Sequence[Coverage]) -> str:
    """Coverage by level, with the band of a calibrated ensemble around the diagonal."""
    known = [c for c in curve if math.isfinite(c.share.value)]
    if len(known) < 2:
        return ""
    frame = Frame(
        x=Scale(0, 100), y=Scale(0, 100), x_name="level of the interval, %", y_text=_percent, height=300
    )
    level, share = (
        100 * np.array(values) for values in zip(*((c.level, c.share.value) for c in known), strict=True)
    )
    band, reach = (
        100 * np.array(pairs).T for pairs in zip(*((c.band, _reach(c)) for c in known), strict=True)
    )
    ends = np.array([0.0, 100.0])
    return frame.close(
        "Share of truths within central intervals, by their level",
        frame.ribbon(level, band[0], band[1], "second"),
        frame.line(ends, ends, "dashed"),
        frame.ribbon(level, reach[0], reach[1], "accent"),
        frame.line(level, share, "accent"),
    )


def _reach(coverage: Coverage) -> tuple[float, float]:
    return coverage.share.low, coverage.share.high


def rank_chart(histogram: Histogram) -> str:
    """Share of truths by their rank among the members, in those expected, with the band of a calibrated ensemble."""
    shares = np.array([share.value for share in histogram.shares]) / histogram.expected
    if not np.isfinite(shares).all():
        return ""
    bands = (
        np.array([s.band(float(e)) for s, e in zip(histogram.shares, histogram.expected, strict=True)])
        / histogram.expected[:, None]
    )
    edges, top = histogram.edges, max(float(shares.max()), float(bands.max()), 2.0)
    frame = Frame(
        x=Scale(float(edges[0]), float(edges[-1])),
        y=Scale(0, top * 1.05),
        x_name="rank of the truth among the samples",
        height=300,
    )
    x = np.repeat(edges, 2)[1:-1]
    return frame.close(
        "Share of truths by rank, 1 where calibrated",
        frame.ribbon(x, np.repeat(bands[:, 0], 2), np.repeat(bands[:, 1], 2), "second"),
        frame.bars(edges, shares, "accent"),
        frame.stairs(edges, shares, "accent"),
        frame.line(edges[[0, -1]], np.ones(2), "dashed"),
    )


def residual_chart(standardized: Floats) -> str:
    """Histogram of (y - A(x)) / sigma of all samples beside N(0, 1)."""
    if not len(standardized):
        return ""
    edges = np.linspace(-FAR, FAR, BINS + 1)
    counts = np.histogram(np.clip(standardized, -FAR, FAR), edges)[0]
    density = counts / (len(standardized) * (edges[1] - edges[0]))
    z = np.linspace(-FAR, FAR, 181)
    normal = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    frame = Frame(
        x=Scale(-FAR, FAR),
        y=Scale(0, 1.08 * max(float(density.max()), float(normal.max()))),
        x_name="y - A(x), in deviations of the noise",
    )
    return frame.close(
        "What is left of y, beside its noise",
        frame.bars(edges, density, "accent"),
        frame.stairs(edges, density, "accent thin"),
        frame.line(z, normal, "second"),
    )


def signal_chart(
    low: Floats, mean: Floats, high: Floats, one: Floats, truth: Floats | None, y: Floats | None
) -> str:
    """One channel of a signal: the band from the 5 % to the 95 % quantile, mean, one sample, truth, and y as dots."""
    x = np.arange(len(mean), dtype=np.float64)
    there = np.isfinite(low) & np.isfinite(high)
    if there.sum() < 2:
        return ""
    seen = [low, high, one, *(v for v in (truth, y) if v is not None)]
    frame = Frame(
        x=Scale(0, max(1.0, x[-1])), y=_around(np.concatenate(seen)), x_name="place", width=740, height=300
    )
    marks = [
        frame.ribbon(x[there], low[there], high[there], "accent"),
        frame.line(x, one, "accent faint"),
        frame.line(x, mean, "accent"),
    ]
    if truth is not None:
        marks.append(frame.line(x, truth, "second"))
    if y is not None and (known := np.flatnonzero(np.isfinite(y))).size <= MOST_DOTS:
        marks.append(frame.dots(x[known], y[known], "second", [f"y = {value:.4g}" for value in y[known]]))
    return frame.close("Samples of a signal given what was measured", *marks)


def points_chart(samples: Floats, truth: Floats | None) -> str:
    """Samples of a point, (count, 2), and the truth."""
    seen = samples if truth is None else np.concatenate([samples, truth[None]])
    if not np.isfinite(seen).all():
        return ""
    x, y = _around(seen[:, 0]), _around(seen[:, 1])
    frame = Frame(x=x, y=y, x_name="first coordinate", height=330)
    words = [f"{a:.4g}, {b:.4g}" for a, b in samples]
    marks = [frame.dots(samples[:, 0], samples[:, 1], "accent half", words)]
    if truth is not None:
        marks.append(frame.dots(truth[:1], truth[1:], "second", ["the truth"]))
    return frame.close("Samples of a point given what was measured", *marks)


def _around(values: Floats) -> Scale:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    margin = 0.06 * (high - low) or max(abs(high), 1.0)
    return Scale(low - margin, high + margin)


def _percent(value: float) -> str:
    return f"{value:g} %"
