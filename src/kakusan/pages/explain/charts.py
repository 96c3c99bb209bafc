"""The charts of the page, with a mark for each stop of the slider: the page shows one of them at a time."""

from collections.abc import Sequence

import numpy as np

from kakusan.pages.explain.content import CURVES, BayesBells, Bell, Story
from kakusan.pages.explain.numbers import shown
from kakusan.pages.svg import Frame, Scale

DECADES = 1e-5
"""The lowest value on the chart of the bound, relative to its highest."""
GUESSES = 4
"""The largest guess on the chart of guidance."""
GUIDED = ("muted", "second", "accent")
"""Styles of the curves of guidance, from the lowest weight on."""
WIDE, HIGH = 300, 100
"""The drawing of the bells, in its own units."""


def signal(story: Story) -> str:
    """alpha_bar_t, and the share of noise, over t. Eq. (3) in one look."""
    alpha_bar = np.array(story.alpha_bar)
    frame = Frame(x=Scale(0, story.T), y=Scale(0, 1), x_name="t", height=190)
    t = np.arange(len(alpha_bar), dtype=np.float64)
    lines = [frame.line(t, alpha_bar, "accent"), frame.line(t, 1 - alpha_bar, "second")]
    marks = [
        _rule(frame, stop.t, 0, 1)
        + _dot(frame, stop.t, alpha_bar[stop.t], "accent")
        + _dot(frame, stop.t, 1 - alpha_bar[stop.t], "second")
        for stop in story.stops
    ]
    return frame.close("The share of image and the share of noise over t", *lines, _marks(marks, story))


def bits(story: Story) -> str:
    """The term of the bound that belongs to each stop; "" where none is above 0."""
    t = np.array([stop.t for stop in story.stops], dtype=np.float64)
    terms = np.array([stop.numbers["term"] for stop in story.stops], dtype=np.float64)
    highest = float(np.nanmax(terms, initial=0.0))
    if highest <= 0 or story.T == 1:
        return ""
    low = highest * DECADES
    frame = Frame(
        x=Scale(0, story.T),
        y=Scale(low, highest * 1.6, log=True),
        x_name="t",
        height=200,
        y_text=lambda value: shown(value).removeprefix("1×"),
    )
    marks = [
        _rule(frame, stop.t, low, highest * 1.6)
        + (_dot(frame, stop.t, value, "accent") if value >= low else "")
        for stop, value in zip(story.stops, terms, strict=True)
    ]
    line = frame.line(t, np.where(terms >= low, terms, np.nan), "accent")
    return frame.close("The bits of each term over t", line, _marks(marks, story))


def guidance(story: Story) -> str:
    """What guidance makes of every x_t, one line a weight, at each stop."""
    x = np.linspace(-CURVES.reach, CURVES.reach, CURVES.nodes)
    frame = Frame(x=Scale(-CURVES.reach, CURVES.reach), y=Scale(-GUESSES, GUESSES), x_name="x_t", height=210)
    marks = [
        "".join(
            frame.line(x, np.clip(line, -GUESSES, GUESSES), style)
            for line, style in zip(stop.guesses, GUIDED, strict=True)
        )
        for stop in story.stops
    ]
    return frame.close("The guess of x_0 over x_t, for three weights of guidance", _marks(marks, story))


def _rule(frame: Frame, t: float, low: float, high: float) -> str:
    return frame.line(np.array([t, t], dtype=np.float64), np.array([low, high]), "at")


def _dot(frame: Frame, t: int, value: float, style: str) -> str:
    words = [f"t = {t}: {shown(value)}"]
    return frame.dots(np.array([t], dtype=np.float64), np.array([value], dtype=np.float64), style, words)


def _marks(marks: Sequence[str], story: Story) -> str:
    """One group a stop; that of the asked t is seen."""
    groups = (
        f'<g class="now">{mark}</g>' if place == story.asked else f"<g>{mark}</g>"
        for place, mark in enumerate(marks)
    )
    return f'<g data-marks="">{"".join(groups)}</g>'


def slope(story: Story) -> tuple[str, str]:
    """alpha_bar over the stops, for the ground of the slider: the line, and the area below it, in 100 x 1."""
    heights = [1 - story.alpha_bar[stop.t] for stop in story.stops]
    last = max(len(heights) - 1, 1)
    line = "L".join(f"{100 * place / last:.2f} {height:.3f}" for place, height in enumerate(heights))
    return f"M{line}", f"M0 1L{line}L100 1Z"


def bell() -> str:
    """The standard bell curve, from -4 to 4, as high as its drawing: the page moves and stretches it."""
    x = np.linspace(-4, 4, 81)
    return "M" + "L".join(
        f"{at:.1f} {HIGH * (1 - 0.96 * height):.1f}" for at, height in zip(x, np.exp(-x * x / 2), strict=True)
    )


def bells(given: BayesBells | None) -> dict[str, str]:
    """The places and widths of the three curves of (6), as transformations of `bell`."""
    if given is None:
        return dict.fromkeys(("bell_step", "bell_prior", "bell_posterior"), "scale(0)")
    named = {"bell_step": given.step, "bell_prior": given.prior, "bell_posterior": given.posterior}
    low, high = reach(given)
    return {name: _placed(curve, low, WIDE / (high - low)) for name, curve in named.items()}


def _placed(curve: Bell, low: float, scale: float) -> str:
    if not np.isfinite(curve.deviation):  # alpha_t = 0: it says nothing
        return f"translate({WIDE / 2} 0) scale(1000 1)"
    return f"translate({(curve.mean - low) * scale:.2f} 0) scale({curve.deviation * scale:.3f} 1)"


def reach(given: BayesBells) -> tuple[float, float]:
    """The stretch of x_{t-1} that all three curves fit in."""
    ends = [
        curve.mean + side * 3.2 * curve.deviation
        for curve in (given.step, given.prior, given.posterior)
        for side in (-1, 1)
        if np.isfinite(curve.deviation)
    ]
    return min(ends), max(ends)
