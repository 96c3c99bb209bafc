"""From a story to one HTML file: no script, no network, nothing from outside unescaped."""

import base64
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from kakusan.evaluation.metrics import COPY_RATIO
from kakusan.pages.report import charts
from kakusan.pages.report.content import Channel, Copying, Power, Story
from kakusan.pages.seal import KAKU, SAN, seal
from kakusan.pages.svg import Floats


def render(story: Story) -> str:
    """The page as text, to be written as UTF-8."""
    return _template().render(
        story=story,
        style=Markup(_resource("report.css")),
        seal=Markup(seal()),
        icon=data_uri("image/svg+xml", seal(KAKU, SAN, colour="#b5402c").encode()),
        training=_training(story),
        signal_and_noise=_signal_and_noise(story),
        log_snr=_log_snr(story),
        copying=_copying(story.copying, story.shortfall, story.noun.many),
        noun=story.noun,
        spectra=_spectra(story),
        channels=_channels(story),
        settings=_tables(story.settings),
        environment=[(key, show(value)) for key, value in story.environment.items()],
    )


@dataclass(frozen=True)
class Png:
    """A picture ready for an <img>: its address, its size in pixels, and whether it is partly transparent."""

    uri: str
    width: int
    height: int
    clear: bool


@dataclass(frozen=True)
class Rate:
    """A copy rate in words: "0.4 %", "1 of 240", and how it is drawn."""

    what: str
    verb: str
    style: str
    rate: float | None
    count: int

    @property
    def percent(self) -> str:
        return f"{100 * (self.rate or 0):.1f}".removesuffix(".0") + " %"

    @property
    def share(self) -> str:
        return f"{round((self.rate or 0) * self.count):,} of {self.count:,}" if self.count else "of the"


def picture(png: bytes) -> Png:
    """The PNG within the page itself."""
    if png[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("a report holds PNG pictures only")
    width, height, _, colour_type = struct.unpack(">IIBB", png[16:26])
    return Png(data_uri("image/png", png), width, height, clear=colour_type in (4, 6))


def is_wide(png: bytes) -> bool:
    """Whether two such pictures stand better one below the other."""
    found = picture(png)
    return found.width >= 2 * found.height


def copy_verdict(copying: Copying, shortfall: str = "", many: str = "images") -> str:
    """The verdict on the two copy rates, in a sentence; "" where there are none."""
    found = copying.copies
    return "" if found is None else found.words(shortfall, many)


def share(value: float) -> str:
    """A number in 0..1, short enough to stand under a still."""
    return "< 0.001" if 0 < value < 0.001 else f"{value:.3f}".rstrip("0").rstrip(".")


LISTED = 16
"""Values of a setting that are shown one by one."""


def show(value: Any) -> str:
    """A setting as a person would write it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {show(each)}" for name, each in value.items() if each is not None) or "none"
    if isinstance(value, list | tuple) and len(value) > LISTED:
        return f"{show(value[:3])}, ..., {show(value[-1])} ({len(value)} values)"
    if isinstance(value, list | tuple):
        return ", ".join(show(item) for item in value) or "none"
    return str(value)


def _training(story: Story) -> dict[str, Any]:
    """The charts of the training, and the figures its caption names."""
    rows = story.metrics
    stretches = charts.loss_stretches(rows)
    per_second = f"{story.noun.many.capitalize()} per second"
    small = {
        "Gradient norm": charts.small_series(rows, "gradient_norm", "The gradient norm"),
        "Learning rate": charts.small_series(rows, "learning_rate", "The learning rate"),
        per_second: charts.small_series(rows, "images_per_second", per_second),
    }
    return {
        "loss": Markup(charts.loss_over_steps(rows, story.noun.many)),
        "by_time": Markup(charts.loss_by_time(rows, story.T)),
        "stretches": list(zip((s[0] for s in stretches), charts.stretch_styles(len(stretches)), strict=True)),
        "small": {name: Markup(chart) for name, chart in small.items() if chart},
        "final": _last_finite(charts.smooth_loss(charts.having(rows, "loss"))),
        "final_training": _last_finite(charts.column(rows, "training_loss")),
        "final_held_out": _last_finite(charts.column(rows, "held_out_loss")),
        "gap": _gap(story),
    }


def _gap(story: Story) -> str:
    """The gap of the two losses with its standard error, and what it says where something was learned."""
    gap = story.gap
    if gap is None or gap.gap is None:
        return ""
    many = story.noun.many
    alike = f"On {gap.images:,} {many} of each, with the same times and noise, the gap is {gap.words}"
    if gap.verdict is None or story.shortfall:
        return f"{alike}."
    return f"{alike}: {gap.verdict.value.replace('images', many)}."


def _last_finite(values: Floats) -> str:
    finite = values[np.isfinite(values)]
    return f"{finite[-1]:.4f}" if len(finite) else ""


def _signal_and_noise(story: Story) -> Markup:
    if story.forward is None:
        return Markup()
    return Markup(charts.signal_and_noise(story.forward.table, story.forward.times, story.noun.one))


def _log_snr(story: Story) -> dict[str, Any]:
    """The curves of a learned schedule and others, and their styles by name; nothing where none was learned."""
    beside = {} if story.forward is None else story.forward.beside
    if not beside:
        return {}
    styles = dict(zip(beside, charts.CURVES, strict=False))
    return {"chart": Markup(charts.log_snr_curves(beside)), "styles": styles}


def _channels(story: Story) -> list[tuple[Channel, Markup]]:
    """Each channel with its histogram."""
    return [
        (
            channel,
            Markup(charts.value_histogram(channel.histogram, channel.name) if channel.histogram else ""),
        )
        for channel in story.channels
    ]


def _spectra(story: Story) -> list[tuple[Power, Markup]]:
    """Each channel with its spectrum, those without power left out."""
    found = story.distances
    if found is None:
        return []
    drawn = [(power, charts.power_spectrum(found.frequency, power)) for power in found.powers]
    return [(power, Markup(chart)) for power, chart in drawn if chart]


def _copying(copying: Copying | None, shortfall: str, many: str) -> dict[str, Any]:
    """The rates, their meaning, the histogram, and the pairs to look at."""
    if copying is None:
        return {}
    ratios, held_out_ratios = copying.sample_ratios, copying.held_out_ratios
    rates = [
        Rate("samples", "count as copies", "accent", copying.sample_rate, len(ratios)),
        Rate(f"held-out {many}", "would too", "second", copying.held_out_rate, len(held_out_ratios)),
    ]
    pairs = [("Samples", "accent", copying.samples), (f"Held-out {many}", "second", copying.held_out)]
    return {
        "rates": [rate for rate in rates if rate.rate is not None],
        "verdict": copy_verdict(copying, shortfall, many),
        "histogram": Markup(charts.ratio_histogram(ratios, held_out_ratios, COPY_RATIO, many)),
        "pairs": [(name, style, shown) for name, style, shown in pairs if shown],
        "threshold": COPY_RATIO,
        "are_wide": any(is_wide(shown[0].png) for _, _, shown in pairs if shown),
    }


def _tables(settings: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """One table for each group of settings; what stands in no group comes first."""
    loose = {key: value for key, value in settings.items() if not isinstance(value, Mapping)}
    groups: list[tuple[str, Mapping[str, Any]]] = [("", loose)] if loose else []
    groups += [(key, value) for key, value in settings.items() if isinstance(value, Mapping) and value]
    return [(name, [(key, show(value)) for key, value in _leaves(group)]) for name, group in groups]


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def data_uri(kind: str, content: bytes) -> str:
    """Content as an address, for what stands in the page itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _resource(name: str) -> str:
    return (resources.files("kakusan.pages.report") / name).read_text("utf-8")


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["picture"] = picture
    environment.filters["share"] = share
    return environment.from_string(_resource("report.html.jinja"))
