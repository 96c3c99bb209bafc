"""From a story to one HTML file: formulas as MathML, pictures within the page, one small script for the slider.

The script changes texts and pictures that Python has made, and computes nothing. The page's policy allows it by its
hash, and nothing else; without it the page shows the asked t.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup, escape

from kakusan.pages.explain import charts, exercises
from kakusan.pages.explain.content import Stop, Story
from kakusan.pages.explain.equation import Equation, View, names_in
from kakusan.pages.explain.equations import CHAPTERS, EQUATIONS
from kakusan.pages.explain.numbers import UNKNOWN, shown
from kakusan.pages.explain.typeset import mathml, numbers_in, plain
from kakusan.pages.seal import KAKU, SAN, seal

CLOSE = r"\rparen"
STRIP = 9
"""Stills of the image on its way to noise."""


def render(story: Story, commands: list[tuple[str, str]], footer: str) -> str:
    """The page as text, to be written as UTF-8. commands: what it does and the line to type."""
    script = resource("explain.js")
    pictures = {**story.pictures, **_pictures_at(story.now)}
    return _template().render(
        story=story,
        chapters=CHAPTERS,
        exercises=exercises.of,
        answers=exercises.answers(),
        commands=commands,
        footer=footer,
        style=Markup(resource("explain.css")),
        script=Markup(script),
        policy=policy(script),
        seal=Markup(seal()),
        icon="data:image/svg+xml;base64," + base64_of(seal(KAKU, SAN, colour="#b5402c").encode()),
        data=Markup(_data(story)),
        slope=charts.slope(story),
        bell=charts.bell(),
        signal=Markup(charts.signal(story)),
        bits=Markup(charts.bits(story)),
        guidance=Markup(charts.guidance(story)),
        strip=_strip(story),
        measures=_measures(story),
        reach=_reach(story.now),
        pictures=pictures,
        pieces=lambda tex: _pieces(tex, story),
        math=lambda tex: Markup(mathml(tex, story.text)),
        words=lambda text: _live(text, story),
        groups=_groups,
        dotted=_dotted,
        in_tex=numbers_in,
        in_words=names_in,
        plain=plain,
    )


def _groups(equation: Equation) -> Iterator[dict[str, Any]]:
    """The pictures of an equation, each with what stands before and after it, so that a line breaks before it."""
    before, groups = "", []
    for part in equation.picture:
        if isinstance(part, View):
            groups.append({"before": before, "view": part, "after": ""})
            before = ""
        elif part.startswith(CLOSE):
            groups[-1]["after"], before = CLOSE, part.removeprefix(CLOSE)
        else:
            before = part
    yield from groups


def _live(text: str, story: Story) -> Markup:
    """Words with their $formulas$, and with the numbers and notes that {names} stand for, for the script to renew."""
    parts = re.split(r"(\$[^$]+\$|\{\w+\})", text)
    return Markup("").join(_live_part(part, story) for part in parts)


def _live_part(part: str, story: Story) -> Markup:
    if part.startswith("$"):
        return Markup(mathml(part.strip("$"), story.text))
    if not part.startswith("{"):
        return escape(part)
    name = part.strip("{}")
    if name in story.notes:
        return _live(story.notes[name], story)
    tag = "span" if name in story.now.notes or name == "who" else "b"
    return Markup('<{0} data-n="{1}">{2}</{0}>').format(Markup(tag), name, story.text(name))


def _pieces(tex: str, story: Story) -> list[Markup]:
    """The parts that a line may be broken into; an operator at the head of a part keeps its space."""
    first, *others = tex.split("&")
    return [
        Markup(mathml(piece, story.text)) for piece in (first, *("{}" + other.lstrip() for other in others))
    ]


def _dotted(name: str) -> Markup:
    """A function's full name, which may be broken after a dot."""
    return Markup(".<wbr>").join(("kakusan", *name.split(".")))


def _strip(story: Story) -> list[int]:
    """The places of some of the stops, as evenly over 1..T as there are."""
    times = [stop.t for stop in story.stops]
    wanted = (1 + (story.T - 1) * place / (STRIP - 1) for place in range(STRIP))
    return sorted({min(range(len(times)), key=lambda place: abs(times[place] - t)) for t in wanted})


def _pictures_at(stop: Stop) -> dict[str, str]:
    return {**stop.pictures, **charts.bells(stop.bells)}


def _texts_at(story: Story, stop: Stop, names: list[str]) -> list[str]:
    return [story.text_at(stop, name) for name in names]


def _data(story: Story) -> str:
    """The data of the script, as JSON that can stand in a <script>."""
    in_parentheses = [name for name in _in_formulas() if name.removesuffix("()") in story.now.numbers]
    names = [*story.now.numbers, *in_parentheses, *story.now.notes]
    told = {
        "t": [stop.t for stop in story.stops],
        "names": [*names, "bell_low", "bell_high"],
        "texts": [[*_texts_at(story, stop, names), *_reach(stop)] for stop in story.stops],
        "pictures": [_pictures_at(stop) for stop in story.stops],
    }
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _in_formulas() -> list[str]:
    """The numbers that stand in parentheses where they are negative."""
    lines = (line for equation in EQUATIONS for line in (*equation.numbers, *_formulas(equation)))
    return sorted({name for line in lines for name in numbers_in(line) if name.endswith("()")})


def _formulas(equation: Equation) -> list[str]:
    return [part for part in equation.picture if isinstance(part, str)]


def _reach(stop: Stop) -> list[str]:
    if stop.bells is None:
        return [UNKNOWN, UNKNOWN]
    return [shown(float(f"{end:.2g}")) for end in charts.reach(stop.bells)]


def _measures(story: Story) -> dict[str, list[dict[str, Any]]]:
    """The sides of (9) and of (10) as points on one line each."""
    rows = {
        "evidence": [
            (r"-\log p_\theta(x_0)", "evidence", "accent"),
            (r"L_{\text{VLB}}", "evidence_bound", "second"),
        ],
        "entropy": [
            (r"-\E_q \log q(x_0)", "entropy", "muted"),
            (r"-\E_q \log p_\theta(x_0)", "cross_entropy", "accent"),
            (r"L_{\text{VLB}}", "mean_bound", "second"),
        ],
        "likelihood": [
            (r"-\log p_\theta(x_0)", "short_evidence", "accent"),
            (r"K = 16", "short_averaged", "muted"),
            (r"L_{\text{VLB}}", "short_bound", "second"),
        ],
    }
    return {name: list(_placed(entries, story)) for name, entries in rows.items()}


def _placed(entries: list[tuple[str, str, str]], story: Story) -> Iterator[dict[str, Any]]:
    values = [story.number(name) for _, name, _ in entries]
    low, span = min(values), (max(values) - min(values)) or 1.0
    for (symbol, name, style), value in zip(entries, values, strict=True):
        place = 12 + 76 * (value - low) / span
        yield {"symbol": symbol, "name": name, "style": style, "left": f"{place:.1f}"}


def policy(script: str) -> str:
    """The Content-Security-Policy of a page that may run this script, and load nothing."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )


def base64_of(content: bytes) -> str:
    """For a data URI."""
    return base64.b64encode(content).decode("ascii")


def resource(name: str) -> str:
    """A file of this package, as text."""
    return (resources.files("kakusan.pages.explain") / name).read_text("utf-8")


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(resource("explain.html.jinja"))
