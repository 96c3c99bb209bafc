"""From a film to one HTML file that needs nothing else: pictures are SVG, and a script moves what Python has drawn.

Without the script the page shows the asked t.
"""

import json
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from kakusan.pages.explain import page as explained
from kakusan.pages.explain.numbers import shown
from kakusan.pages.explain.typeset import mathml
from kakusan.pages.plane import drawing
from kakusan.pages.plane.film import Film, Walk
from kakusan.pages.seal import KAKU, SAN, seal

LINES = 8
"""Paths that are drawn as lines; all other points are dots alone."""


def render(film: Film, commands: list[tuple[str, str]], footer: str) -> str:
    """The page as text, to be written as UTF-8. commands: what it does and the line to type."""
    script = _resource("plane.js")
    told = _told(film)
    return _template().render(
        film=film,
        commands=commands,
        footer=footer,
        style=Markup(explained.resource("explain.css") + _resource("plane.css")),
        script=Markup(script),
        policy=explained.policy(script),
        seal=Markup(seal()),
        icon="data:image/svg+xml;base64," + explained.base64_of(seal(KAKU, SAN, colour="#b5402c").encode()),
        data=Markup(json.dumps(told, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")),
        now={name: column[film.asked] for name, column in told["stops"].items()},
        ghosts=drawing.dots(film.data),
        walks=[_still(walk, film) for walk in film.walks],
        slope=_slope(film),
        math=lambda tex: Markup(mathml(tex)),
    )


def _told(film: Film) -> dict[str, Any]:
    """The data of the script: pictures and texts of each stop, and the walks."""
    return {
        "stops": {
            "t": [f"{t}" for t in film.times],
            "share": [shown(share) for share in film.shares],
            "points": [drawing.dots(x) for x in film.points],
            "arrows": [drawing.arrows(film.grid, x) for x in film.arrows],
        },
        "walks": [
            {
                "at": [walk.at(t) for t in film.times],
                "clouds": [drawing.dots(x) for x in walk.x],
                "heads": [drawing.dots(x[: len(_shown(walk))]) for x in walk.x],
                "lines": [drawing.line(walk.x[:, k]) for k in _shown(walk)],
            }
            for walk in film.walks
        ],
    }


def _still(walk: Walk, film: Film) -> dict[str, Any]:
    """A walk at the asked t."""
    place = walk.at(film.t)
    return {
        "walk": walk,
        "cloud": drawing.dots(walk.x[place]),
        "heads": drawing.dots(walk.x[place, : len(_shown(walk))]),
        "lines": [drawing.drawn(drawing.line(walk.x[: place + 1, k])) for k in _shown(walk)],
    }


def _shown(walk: Walk) -> range:
    return range(min(LINES, walk.x.shape[1]))


def _slope(film: Film) -> tuple[str, str]:
    """alpha_bar over the stops, for the ground of the slider: the line, and the area below it, in 100 x 1."""
    last = max(len(film.times) - 1, 1)
    line = "L".join(f"{100 * place / last:.2f} {1 - share:.3f}" for place, share in enumerate(film.shares))
    return f"M{line}", f"M0 1L{line}L100 1Z"


def _resource(name: str) -> str:
    return (resources.files("kakusan.pages.plane") / name).read_text("utf-8")


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_resource("plane.html.jinja"))
