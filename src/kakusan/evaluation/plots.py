"""Pictures of a bound: where the bits go, what they buy, and how near the network is to memorizing, or to the truth."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from kakusan.evaluation.bound import BoundReport, Floats, Part, telling_times

COLOURS = {"training": "#8a8f98", "held-out": "#b5402c"}
OTHER = "#2f6f8f"
WIDTHS = {"training": 2.6}
"""Wider where it is drawn first, so that it shows under the curve of held-out images that nearly hides it."""
SIGMA_1 = {"beta~_2": r"$\tilde\beta_2$", "beta_1": r"$\beta_1$"}
DPI = 150


def report_png(report: BoundReport) -> bytes:
    """Four charts on one picture, as PNG."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    axes = figure.subplots(2, 2)
    _bits_by_t(axes[0, 0], report)
    _rate_and_distortion(axes[0, 1], report)
    _images(axes[1, 0], report)
    compared = any(part.near for part in report.parts)
    (_nearness if compared else _error_by_t)(axes[1, 1], report)
    for each in axes.flat:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(alpha=0.25, linewidth=0.6)
    about = report.about
    sigma_1 = SIGMA_1.get(about["sigma_1"], about["sigma_1"])
    name = plain(about["data"])
    figure.suptitle(
        f"{name}, step {about['step']:,}: {about['schedule']} schedule, T = {about['T']}, {about['variance']} "
        f"variance, $\\sigma_1^2$ = {sigma_1}, clip {about['clip'] or 'none'}, {about['weights']} weights",
        fontsize=10,
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    return buffer.getvalue()


def over_calls(axis: Any, calls: Sequence[int], title: str) -> None:
    """Dress axes of figures over numbers of calls, both on logarithmic scales, with numbers that one reads."""
    axis.set(
        xscale="log", yscale="log", xlabel="calls", xticks=calls, xticklabels=[str(each) for each in calls]
    )
    axis.minorticks_off()
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.set_title(title, fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25, linewidth=0.6)


def plain(name: str) -> str:
    """A name in which no formula is seen."""
    return name.replace("$", r"\$")


def _colour(part: Part) -> str:
    return COLOURS.get(part.name, OTHER)


def _width(part: Part) -> float:
    return WIDTHS.get(part.name, 1.3)


def _bits_by_t(axis: Any, report: BoundReport) -> None:
    """L_{t-1} over t on two logarithmic scales: the area of interest is at small t."""
    for part in report.parts:
        bits = part.bits_by_t
        t = np.arange(1, len(bits) + 1)
        shown = np.isfinite(bits) & (bits > 0)
        axis.plot(t[shown], bits[shown], color=_colour(part), linewidth=_width(part), label=plain(part.name))
        if bits[0] > 0:
            axis.plot(1, bits[0], "o", color=_colour(part), markersize=4)
    highest = max(float(np.nanmax(part.bits_by_t)) for part in report.parts)
    floor = {"ymin": highest * 1e-6} if highest > 0 else {}  # an L_0 of 1e-20 bits says nothing
    axis.set(xscale="log", yscale="log", xlabel="t", ylabel="bits/dim")
    axis.set_ylim(**floor)
    axis.set_title("Where the bits go: $L_{t-1}$ by $t$ ($L_0$ at $t = 1$)", fontsize=10)
    axis.legend(frameon=False, loc="upper right")


def _rate_and_distortion(axis: Any, report: BoundReport) -> None:
    for part in report.parts:
        rate, distortion = part.rate[1:], part.distortion * report.scale
        shown = np.isfinite(distortion)
        axis.plot(
            rate[shown],
            distortion[shown],
            color=_colour(part),
            linewidth=_width(part),
            label=plain(part.name),
        )
    unit = report.about["unit_of_distortion"]
    axis.set(xlabel="bits/dim spent so far", ylabel=f"RMSE of the guess of $x_0$, {unit}", ylim=(0, None))
    axis.set_title("What they buy: rate and distortion", fontsize=10)
    axis.legend(frameon=False, loc="upper right")


def _images(axis: Any, report: BoundReport) -> None:
    """A histogram of the bounds of the images: those far to the right are odd."""
    totals = [part.bound.total.numpy() for part in report.parts]
    edges = np.histogram_bin_edges(np.concatenate(totals), bins=30)
    for part, values in zip(report.parts, totals, strict=True):
        weights = np.full(len(values), 100 / len(values))
        axis.hist(values, edges, weights=weights, color=_colour(part), alpha=0.55, label=plain(part.name))
        axis.axvline(values.mean(), color=_colour(part), linewidth=1.2)
    axis.set(xlabel="bits/dim of a sample", ylabel="% of the samples")
    axis.set_title("Sample by sample", fontsize=10)
    axis.legend(frameon=False, loc="upper right")


def _nearness(axis: Any, report: BoundReport) -> None:
    """Distance of the guess from the memorizer's and from the truth, of images that were not trained on, if there are.

    Of a training image the memorizer and any good denoiser know nearly all at small t, so that the two distances are
    one whether it is learned by heart or not: only its distance from the truth is drawn, to compare.
    """
    part = report.parts[-1]
    near = np.array(list(part.near.values())) * report.scale
    label = f"{plain(part.name)}: from the memorizer's guess"
    axis.plot(list(part.near), near, color=_colour(part), linewidth=1.8, label=label)
    for each in reversed(report.parts):
        label = f"{plain(each.name)}: from $x_0$"
        axis.plot(*_errors(each, report), color=_colour(each), linewidth=1.5, linestyle=":", label=label)
    _of_the_guess(axis, report)
    _dim_what_tells_nothing(axis, report)
    title = "Learned by heart? Then solid lies far below dotted in the grey band"
    axis.set_title(
        title if part.name != "training" else "The guess, the memorizer's and $x_0$, by $t$", fontsize=10
    )
    axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, 0.72))


def _dim_what_tells_nothing(axis: Any, report: BoundReport) -> None:
    """A grey band where nearness to the memorizer is informative; on both sides of it the lines are faint."""
    first, last = telling_times(report.parts)
    axis.axvspan(first, last, color="#8a8f98", alpha=0.12, linewidth=0)
    for low, high in ((0, first), (last, report.about["T"])):
        axis.axvspan(low, high, color="white", alpha=0.65, linewidth=0, zorder=3)  # above lines, below words


def _error_by_t(axis: Any, report: BoundReport) -> None:
    """Distance of the network's guess from the truth, where no memorizer is there to compare it with."""
    for part in report.parts:
        axis.plot(*_errors(part, report), color=_colour(part), linewidth=_width(part), label=plain(part.name))
    _of_the_guess(axis, report)
    axis.set_title("How far the guess is from $x_0$, by $t$", fontsize=10)
    axis.legend(frameon=False, loc="upper left")


def _errors(part: Part, report: BoundReport) -> tuple[Floats, Floats]:
    """The t at which the error of the guess of x_0 was measured, and its root mean square there."""
    error = part.distortion * report.scale
    shown = np.isfinite(error)
    return np.flatnonzero(shown).astype(np.float64) + 1, error[shown]


def _of_the_guess(axis: Any, report: BoundReport) -> None:
    unit = report.about["unit_of_distortion"]
    axis.set(xlabel="t", ylabel=f"distance of the guess, {unit}", ylim=(0, None))
