"""The charts of the page, with a mark for each stop of the slider: the page shows one of them at a time."""

from collections.abc import Sequence

import numpy as np

from kakusan.explain.story import BayesBells, Bell, Story
from kakusan.report.svg import Floats, Frame, Scale

DECADES = 1e-5
"""How far below its highest point the chart of the bound reaches."""
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
        + frame.dots(np.array([stop.t]), np.array([alpha_bar[stop.t]]), "accent", [f"t = {stop.t}"])
        + frame.dots(np.array([stop.t]), np.array([1 - alpha_bar[stop.t]]), "second", [f"t = {stop.t}"])
        for stop in story.stops
    ]
    return frame.close("The share of image and the share of noise over t", *lines, _marks(marks, story))


def bits(story: Story) -> str:
    """The term of the bound that belongs to each stop; "" where none is above 0."""
    t = np.array([stop.t for stop in story.stops], dtype=np.float64)
    terms = np.array([stop.numbers["term"] for stop in story.stops])
    highest = float(np.nanmax(terms, initial=0.0))
    if highest <= 0 or story.T == 1:
        return ""
    low = highest * DECADES
    shown = np.clip(terms, low, None)
    scale = Scale(low, highest * 1.6, log=True)
    frame = Frame(x=Scale(0, story.T), y=scale, x_name="t", height=200, y_text="{:.0e}".format)
    marks = [
        _rule(frame, stop.t, low, highest * 1.6)
        + frame.dots(np.array([stop.t]), np.array([value]), "accent", [f"t = {stop.t}"])
        for stop, value in zip(story.stops, shown, strict=True)
    ]
    return frame.close("The bits of each term over t", frame.line(t, shown, "accent"), _marks(marks, story))


def _rule(frame: Frame, t: float, low: float, high: float) -> str:
    return frame.line(np.array([t, t], dtype=np.float64), np.array([low, high]), "at")


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


def bells(given: BayesBells | None) -> dict[str, str]:
    """The three curves of (6) as paths, each to the same height, and the ends of their axis."""
    if given is None:
        return {"bell_step": "", "bell_prior": "", "bell_posterior": ""}
    low, high = reach(given)
    x = np.linspace(low, high, WIDE // 2 + 1)
    return {
        name: _path(_height(bell, x))
        for name, bell in (
            ("bell_step", given.step),
            ("bell_prior", given.prior),
            ("bell_posterior", given.posterior),
        )
    }


def reach(given: BayesBells) -> tuple[float, float]:
    """The stretch of x_{t-1} that all three curves fit in."""
    ends = [
        bell.mean + side * 3.2 * bell.deviation
        for bell in (given.step, given.prior, given.posterior)
        for side in (-1, 1)
        if np.isfinite(bell.deviation)
    ]
    return min(ends), max(ends)


def _height(bell: Bell, x: Floats) -> Floats:
    if not np.isfinite(bell.deviation):
        return np.ones_like(x)
    heights: Floats = np.exp(-0.5 * ((x - bell.mean) / bell.deviation) ** 2)
    return heights


def _path(height: Floats) -> str:
    """Along the drawing; points on the floor but for its ends are left out."""
    y = np.rint((1 - height) * HIGH * 0.96 + HIGH * 0.04).astype(int)
    kept = [i for i in range(len(y)) if not (0 < i < len(y) - 1 and y[i - 1] == y[i] == y[i + 1])]
    return "M" + "L".join(f"{2 * i} {y[i]}" for i in kept)
