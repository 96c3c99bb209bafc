"""The charts of the report. Every function gives "" where there is nothing to draw."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kakusan.pages.report.content import Histogram, Power
from kakusan.pages.svg import Floats, Frame, Scale

Rows = Sequence[Mapping[str, Any]]
CURVES = ("accent", "second", "second faint")
"""Of the learned schedule, and of the two that are drawn beside it."""
SMALLEST_POWER = 1e-8
"""As a share of the largest: what lies below is not drawn."""


def loss_over_steps(rows: Rows, many: str = "images") -> str:
    """The loss of the batches (faint), its moving mean, and dots where training and held-out were measured."""
    lines = having(rows, "loss")
    steps, loss = column(lines, "step"), column(lines, "loss")
    measured = {key: column(rows, key) for key in ("training_loss", "held_out_loss")}
    everything = np.concatenate([loss, *measured.values()])
    if not np.isfinite(everything).any():
        return ""
    frame = Frame(x=_steps_scale(column(rows, "step")), y=_loss_scale(everything), x_name="step")
    return frame.close(
        "The loss over the steps of training",
        frame.line(steps, loss, "accent faint"),
        frame.line(steps, smooth_loss(lines), "accent"),
        _loss_dots(frame, rows, "training_loss", "accent", f"training {many}"),
        _loss_dots(frame, rows, "held_out_loss", "second", f"held-out {many}"),
    )


def loss_by_time(rows: Rows, T: int | None) -> str:
    """The loss in equal parts of 1..T, in three stretches of the run, the last one the strongest."""
    stretches = loss_stretches(rows)
    if not stretches:
        return ""
    parts = len(stretches[-1][1])
    x = Scale(0, T or parts)
    y = _loss_scale(np.concatenate([means for _, means in stretches]))
    frame = Frame(x=x, y=y, x_name="t" if T else f"t, in {parts} equal parts")
    edges = np.linspace(0, x.high, parts + 1)
    styles = stretch_styles(len(stretches))
    marks = [frame.stairs(edges, means, style) for (_, means), style in zip(stretches, styles, strict=True)]
    return frame.close("The loss by noise level t: early, midway and at the end of training", *marks)


def small_series(rows: Rows, key: str, label: str) -> str:
    """One column of the metrics over the steps, small, from 0."""
    lines = having(rows, key)
    steps, values = column(lines, "step"), column(lines, key)
    if not np.isfinite(values).any() or np.nanmax(values) <= 0:
        return ""
    y = Scale(0, float(np.nanmax(values)) * 1.12)
    frame = Frame(x=_steps_scale(steps), y=y, x_name="step", width=250, height=160, y_text="{:,.10g}".format)
    return frame.close(f"{label} over the steps of training", frame.line(steps, values, "second thin"))


def signal_and_noise(table: Sequence[float], times: Sequence[int], one: str = "image") -> str:
    """The factors in Eq. (3), sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t), over t, with dots at the times shown."""
    alpha_bar = np.asarray(table, dtype=np.float64)
    if len(alpha_bar) < 2:
        return ""
    frame = Frame(x=Scale(0, len(alpha_bar) - 1), y=Scale(0, 1), x_name="t", height=190)
    t = np.arange(len(alpha_bar), dtype=np.float64)
    shown = np.array([t for t in times if 0 <= t < len(alpha_bar)], dtype=np.int64)
    marks = []
    for curve, style in ((np.sqrt(alpha_bar), "accent"), (np.sqrt(1 - alpha_bar), "second")):
        words = [f"t = {at}: {curve[at]:.3f}" for at in shown]
        marks += [frame.line(t, curve, style), frame.dots(t[shown], curve[shown], style, words)]
    return frame.close(f"The weight of the {one} and the weight of the noise over t", *marks)


def log_snr_curves(curves: Mapping[str, Sequence[float]]) -> str:
    """The log-SNR over t = 1..T of a learned schedule, the first, and of others."""
    if not curves:
        return ""
    values = [np.asarray(curve, dtype=np.float64) for curve in curves.values()]
    every = np.concatenate(values)
    low, high = float(every.min()), float(every.max())
    frame = Frame(x=Scale(1, len(values[0])), y=Scale(low, high), x_name="t", height=190)
    t = np.arange(1, len(values[0]) + 1, dtype=np.float64)
    marks = [frame.line(t, curve, style) for curve, style in zip(values, CURVES, strict=False)]
    return frame.close("The log-SNR of the learned schedule over t, beside others", *marks)


def ratio_histogram(
    samples: Sequence[float], held_out: Sequence[float], threshold: float, many: str = "images"
) -> str:
    """A histogram of the distance ratios of samples and of held-out images; left of the line are copies."""
    edges = np.linspace(0, 1, 31)
    shares = [
        100 * np.histogram(np.clip(values, 0, 1), edges)[0] / len(values) if len(values) else np.zeros(30)
        for values in (samples, held_out)
    ]
    highest = float(max(share.max() for share in shares))
    if highest == 0:
        return ""
    name = "nearest distance / second nearest"
    y = Scale(0, highest * 1.15)
    frame = Frame(x=Scale(0, 1), y=y, x_name=name, height=200, y_text="{:g} %".format)
    marks = [frame.band(0, threshold, "copies")]
    if len(samples):
        marks += [frame.bars(edges, shares[0], "accent"), frame.stairs(edges, shares[0], "accent thin")]
    if len(held_out):
        marks.append(frame.stairs(edges, shares[1], "second"))
    return frame.close(f"The distance ratios of samples and of held-out {many}", *marks)


def value_histogram(histogram: Histogram, name: str) -> str:
    """A histogram of the values of one channel: bars of the samples, a line of the training data."""
    edges, samples, training = (
        np.asarray(part, dtype=np.float64)
        for part in (histogram.edges, histogram.samples, histogram.training)
    )
    highest = 100 * max(samples.max(initial=0), training.max(initial=0))
    if highest == 0:
        return ""
    x, y = Scale(float(edges[0]), float(edges[-1])), Scale(0, float(highest) * 1.1)
    frame = Frame(x=x, y=y, x_name="value", height=190, y_text="{:g} %".format)
    marks = [
        frame.bars(edges, 100 * samples, "accent"),
        frame.stairs(edges, 100 * samples, "accent thin"),
    ]
    if len(training):
        marks.append(frame.stairs(edges, 100 * training, "second"))
    return frame.close(f"How the values are spread: {name}", *marks)


def power_spectrum(frequency: Sequence[float], power: Power) -> str:
    """Power over frequency, both logarithmic: samples between lines that 95 % lie within, and real ones."""
    at, samples, error = (
        np.asarray(part, dtype=np.float64) for part in (frequency, power.samples, power.samples_error)
    )
    real = np.asarray(power.real or power.reference, dtype=np.float64)
    every = np.concatenate([samples, real])
    largest = float(every.max(initial=0))
    if len(at) < 2 or largest <= 0:
        return ""
    floor = max(float(every[every > 0].min()), largest * SMALLEST_POWER)
    y = Scale(floor * 0.7, largest * 1.4, log=True)
    frame = Frame(
        x=Scale(float(at[0]), float(at[-1]), log=True), y=y, x_name="cycles a step of the grid", height=200
    )
    ends = (np.where(samples + k * error >= floor, samples + k * error, np.nan) for k in (-1.96, 1.96))
    marks = [frame.line(at, end, "accent faint") for end in ends]
    marks.append(frame.line(at, np.where(samples >= floor, samples, np.nan), "accent"))
    if len(real):
        marks.append(frame.line(at, np.where(real >= floor, real, np.nan), "second"))
    return frame.close(f"The power of the samples by spatial frequency: {power.name}", *marks)


def having(rows: Rows, key: str) -> Rows:
    """The rows that have this figure; null is a gap, but a row about something else is none."""
    return [row for row in rows if key in row]


def column(rows: Rows, key: str) -> Floats:
    """One entry of every row; missing, null and unreadable entries are NaN."""
    return np.array([_number(row.get(key)) for row in rows], dtype=np.float64)


def smooth_loss(rows: Rows) -> Floats:
    """The moving mean as the run wrote it, or one made here."""
    written = column(rows, "loss_smooth")
    return written if np.isfinite(written).any() else moving_mean(column(rows, "loss"))


def moving_mean(values: Floats) -> Floats:
    """The mean of the last thirtieth of the series up to each entry (at least 3 entries), NaN left out."""
    window = max(3, len(values) // 30)
    finite = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    last = np.arange(1, len(values) + 1)
    first = np.maximum(0, last - window)
    return _ratio(sums[last] - sums[first], counts[last] - counts[first])


def loss_stretches(rows: Rows) -> list[tuple[str, Floats]]:
    """Mean loss by part of t in up to three stretches of the run, each four times as far along as the last.

    A stretch is the second half of the rows so far: eighths of the run are never mixed with its end.
    """
    kept = [row for row in rows if isinstance(row.get("loss_by_t"), list | tuple) and row["loss_by_t"]]
    kept = [row for row in kept if len(row["loss_by_t"]) == len(kept[-1]["loss_by_t"])]
    ends = sorted({len(kept) // share for share in (16, 4, 1)} - {0})
    found = [_stretch(kept[end // 2 : end]) for end in ends]
    return [(label, means) for label, means in found if np.isfinite(means).any()]


def stretch_styles(count: int) -> list[str]:
    """The style of each stretch, the last one drawn fully."""
    return ["accent faint", "accent half", "accent"][3 - count :]


def _loss_dots(frame: Frame, rows: Rows, key: str, style: str, what: str) -> str:
    steps, losses = column(rows, "step"), column(rows, key)
    shown = np.isfinite(steps) & np.isfinite(losses)
    words = [f"step {s:,.0f}: {v:.4g}, {what}" for s, v in zip(steps[shown], losses[shown], strict=True)]
    return frame.dots(steps[shown], losses[shown], style, words)


def _stretch(rows: Rows) -> tuple[str, Floats]:
    first, last = (f"{_number(row.get('step')):,.0f}" for row in (rows[0], rows[-1]))
    losses = np.array([[_number(value) for value in row["loss_by_t"]] for row in rows])
    finite = np.isfinite(losses)
    means = _ratio(np.where(finite, losses, 0).sum(0), finite.sum(0))
    return (f"step {last}" if first == last else f"steps {first} to {last}", means)


def _ratio(sums: Floats, counts: Floats) -> Floats:
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and np.isfinite(value) else float("nan")


def _steps_scale(steps: Floats) -> Scale:
    last = float(np.nanmax(steps, initial=0))
    return Scale(0, last if last > 0 else 1)


def _loss_scale(values: Floats) -> Scale:
    """From 0, or logarithmic where the loss falls, or differs over t, by more than a factor of four."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if 0 < 4 * low < high:
        return Scale(low * 0.9, high * 1.1, log=True)
    return Scale(min(0.0, low), high * 1.06 if high > 0 else 1)
