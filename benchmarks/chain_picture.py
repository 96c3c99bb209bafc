"""The picture of the chain, docs/chain.svg: one kanji from data to noise, with the laws q above it and p_theta below.

    .venv/bin/python benchmarks/chain_picture.py

Pixels are squares of a few shades in paths of their own, so that the picture is small, needs nothing but itself, and is
the same text wherever it is made. The times shown are far apart, since those of one step cannot be told apart.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

import kakusan as kk
from kakusan.randomness import Purpose, normals

PICTURE = Path(__file__).parents[1] / "docs" / "chain.svg"
KANJI = 1430
"""The number of the glyph."""
TIMES = (0.0, 100.0, 200.0, 1000.0)
LEFTS = (20, 300, 510, 790)
"""Of the tiles, in the units of the picture."""
TOP, TILE = 118, 96
WIDTH, HEIGHT = 906, 338
SHADES, REACH = 12, 1.4
"""Shades of grey, and the value that is the darkest and the brightest of them."""
FIXED, LEARNED = "#2f6f8f", "#b5402c"
"""Colours of q and of p_theta."""
NAMES = ("0", "t−1", "t", "T")


def svg() -> str:
    """The picture as text."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="STIX Two Text, Latin Modern Roman, Times New Roman, serif" font-size="19" text-anchor="middle">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#fff"/>',
        *(marker(name, colour) for name, colour in (("q", FIXED), ("p", LEARNED))),
    ]
    for left, name, image in zip(LEFTS, NAMES, images(), strict=True):
        parts += [*tile(left, image), text(left + TILE / 2, TOP + TILE + 26, x(name))]
    return "\n".join([*parts, *arrows(), "</svg>", ""])


def images() -> Iterator[Tensor]:
    """x_t at each time, in the network's units: Eq. (2), with one noise."""
    x_0 = kk.open_data("kanji").x_0([KANJI])
    noise = normals(0, Purpose.EVALUATION_NOISE, 0, torch.tensor([0]), tuple(x_0.shape[1:]))
    for t in TIMES:
        law = kk.q_marginal(kk.Linear(T=1000), x_0, torch.tensor([t], dtype=torch.float64))
        yield law.reparametrize(noise)[0, 0]


def tile(left: int, image: Tensor) -> Iterator[str]:
    """An image as squares, a path for each shade, and its edge."""
    shades = ((image / REACH + 1) / 2 * (SHADES - 1)).round().clamp(0, SHADES - 1).int()
    size = TILE // len(shades)
    for shade in range(SHADES):
        squares = "".join(f"M{c} {r}h1v1h-1z" for r, c in (shades == shade).nonzero().tolist())
        if squares:
            grey = round(255 * shade / (SHADES - 1))
            place = f"translate({left} {TOP}) scale({size})"
            yield f'<path transform="{place}" fill="#{grey:02x}{grey:02x}{grey:02x}" d="{squares}"/>'
    yield (
        f'<rect x="{left}" y="{TOP}" width="{TILE}" height="{TILE}" fill="none" stroke="#8a8f98" stroke-width="1"/>'
    )


def arrows() -> Iterator[str]:
    """Eqs. (1) and (3) above the tiles, (5) and (7) below, and (4), the start of the way back."""
    first, before, here, last = (left + TILE // 2 for left in LEFTS)
    high, low, middle = TOP - 9, TOP + TILE + 42, (before + here) / 2
    yield arrow(f"M{before} {high}Q{middle:g} {high - 44} {here - 12} {high - 2}", "q")
    yield text(middle - 24, TOP - 46, law("q", x("t"), x("t−1")), FIXED, "(1)")
    yield arrow(f"M{first} {high}C{first + 70} 12 {here - 70} -16 {here + 2} {high - 3}", "q")
    yield text(first + 120, 24, law("q", x("t"), x("0")), FIXED, "(3)")
    yield arrow(f"M{here - 8} {low}Q{middle:g} {low + 34} {before + 14} {low + 2}", "p")
    yield text(here + 82, low + 18, law("p", x("t−1"), x("t"), "θ"), LEARNED, "(5)")
    yield arrow(
        f"M{here + 4} {low}C{here - 40} {low + 68} {before + 50} {low + 68} {before + 3} {low + 5}", "q"
    )
    yield arrow(
        f"M{first} {low}C{first + 70} {low + 68} {before - 60} {low + 68} {before - 5} {low + 5}", "q"
    )
    yield text(middle - 105, low + 70, law("q", x("t−1"), f"{x('t')}, {x('0')}"), FIXED, "(7)")
    yield text(last, low + 22, f"{italic('p')}({x('T')})", LEARNED, "(4)")
    for left, right in ((first, before), (here, last)):
        start, end = left + TILE / 2 + 22, right - TILE / 2 - 22
        yield arrow(f"M{start:g} {TOP + TILE / 2 - 13:g}H{end:g}", "q")
        yield arrow(f"M{end:g} {TOP + TILE / 2 + 13:g}H{start:g}", "p")
        yield text((start + end) / 2, TOP + TILE / 2 + 5, "· · ·")


def arrow(path: str, kind: str) -> str:
    """A line with a head: dashed for q, which is fixed."""
    colour, dashes = (FIXED, ' stroke-dasharray="6 4"') if kind == "q" else (LEARNED, "")
    return (
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes} marker-end="url(#{kind})"/>'
    )


def marker(name: str, colour: str) -> str:
    """The head of the arrows of this name."""
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="8" markerHeight="8" orient="auto" '
        f'markerUnits="userSpaceOnUse"><path d="M0 0L8 4L0 8z" fill="{colour}"/></marker>'
    )


def text(middle: float, base: float, formula: str, colour: str = "#222", number: str = "") -> str:
    """A formula, and the number of its equation."""
    tag = f'<tspan dx="8" font-size="15" fill="#6b7280">{number}</tspan>' if number else ""
    return f'<text x="{middle:g}" y="{base:g}" fill="{colour}">{formula}{tag}</text>'


def law(name: str, of: str, given: str, index: str = "") -> str:
    """name(of | given)."""
    return f"{italic(name)}{sub(index) if index else ''}({of} | {given})"


def x(index: str) -> str:
    """x with an index below it."""
    return f"{italic('x')}{sub(index)}"


def sub(index: str) -> str:
    """An index below the line, which goes on at its height."""
    return f'<tspan dy="5" font-size="13" font-style="italic">{index}</tspan><tspan dy="-5">&#8203;</tspan>'


def italic(letter: str) -> str:
    """A letter of a formula."""
    return f'<tspan font-style="italic">{letter}</tspan>'


if __name__ == "__main__":
    PICTURE.write_text(svg(), "utf-8")
