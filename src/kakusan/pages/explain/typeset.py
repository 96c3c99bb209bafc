"""A formula, written down once in the TeX of `formula`, as MathML for a page and as plain text for a terminal.

A space in it is seen in the plain text, and is a thin space on the page between two factors.
"""

import re
from collections.abc import Callable, Iterator
from html import escape
from typing import TypeAlias

from kakusan.pages.explain.formula import (
    LARGE,
    Accent,
    Fraction,
    Group,
    Node,
    Norm,
    Number,
    Root,
    Row,
    Scripts,
    Sign,
    Space,
    parse,
)

UPRIGHT = {"Σ", "𝒩", "𝐈", "𝔼"}
PLAIN = {"𝒩": "N", "𝐈": "I", "𝔼": "E", "∑": "Σ", "∏": "Π"}
"""Substitutes, in letters that all fonts have, for what few fonts of a terminal have."""
ABOVE = {"bar": ("¯", "\u0304"), "tilde": ("~", "\u0303"), "hat": ("^", "\u0302")}
"""An accent as an operator, and as a character that combines with the one before."""
COMPOSED = {"α\u0304": "ᾱ"}
RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")

Values: TypeAlias = Callable[[str], str]
"""The text of the number of this name."""


def numbers_in(tex: str) -> tuple[str, ...]:
    """The names of the numbers that a formula waits for, in their order."""
    return tuple(name + "()" * (kind == "p") for kind, name in re.findall(r"\\([np])\{(\w+)\}", tex))


def mathml(tex: str, value: Values = lambda name: name) -> str:
    """The formula as a <math> element; each number is a <mn data-n="name">, so that a page can renew it."""
    return f'<math displaystyle="true">{_mathml(parse(tex), value)}</math>'


def plain(tex: str, value: Values = lambda name: name) -> str:
    """The formula in one line: N(√(1−β_t) x_{t−1}, β_t I)."""
    return _plain(parse(tex), value)


def _mathml(node: Node, value: Values, *, tight: bool = False) -> str:
    """tight: without the space around operators, as in an index."""

    def write(inner: Node) -> str:
        return _mathml(inner, value, tight=tight)

    match node:
        case Sign(kind, text):
            return _sign(kind, text, tight=tight)
        case Number(name):
            return f'<mn data-n="{escape(name)}">{escape(value(name))}</mn>'
        case Row(parts):
            return f"<mrow>{''.join(_spaced(parts, value, tight=tight))}</mrow>"
        case Group(inner):
            calm = "" if _is_tall(inner) else ' stretchy="false"'
            return f"<mrow><mo{calm}>(</mo>{write(inner)}<mo{calm}>)</mo></mrow>"
        case Accent(base, name):
            return f'<mover accent="true">{write(base)}<mo>{ABOVE[name][0]}</mo></mover>'
        case Root(inner):
            return f"<msqrt>{write(inner)}</msqrt>"
        case Fraction(top, bottom):
            return f"<mfrac>{write(top)}{write(bottom)}</mfrac>"
        case Norm(inner):
            return f'<mrow><mo stretchy="false">‖</mo>{write(inner)}<mo stretchy="false">‖</mo></mrow>'
        case Scripts(base, low, high):
            large = isinstance(base, Sign) and base.text in LARGE.values()
            tag = _script_tag(low is not None, high is not None, large=large)
            scripts = (_mathml(script, value, tight=True) for script in (low, high) if script is not None)
            return f"<{tag}>{write(base)}{''.join(scripts)}</{tag}>"
        case Space():
            return ""


def _sign(kind: str, text: str, *, tight: bool) -> str:
    if kind == "mi" and text in UPRIGHT:
        return f'<mi mathvariant="normal">{text}</mi>'
    if kind == "mo" and tight:
        return f'<mo lspace="0" rspace="0">{escape(text)}</mo>'
    if text in ("|", "∥"):
        return f'<mo stretchy="false" lspace="0.28em" rspace="0.28em">{text}</mo>'
    return f"<{kind}>{escape(text)}</{kind}>"


def _script_tag(low: bool, high: bool, *, large: bool) -> str:
    if large:
        return "munderover" if low and high else "munder" if low else "mover"
    return "msubsup" if low and high else "msub" if low else "msup"


def _spaced(parts: tuple[Node, ...], value: Values, *, tight: bool) -> Iterator[str]:
    """The parts, with a thin space where two factors are apart: operators bring their own."""
    for place, part in enumerate(parts):
        if not isinstance(part, Space):
            yield _mathml(part, value, tight=tight)
        elif 0 < place < len(parts) - 1 and not any(map(_is_operator, (parts[place - 1], parts[place + 1]))):
            yield '<mspace width="0.17em"/>'


def _is_tall(node: Node) -> bool:
    """Whether parentheses around it should grow."""
    match node:
        case Fraction():
            return True
        case Row(parts):
            return any(map(_is_tall, parts))
        case Group(inner) | Scripts(inner, _, _):
            return _is_tall(inner)
        case _:
            return False


def _is_operator(node: Node) -> bool:
    return isinstance(node, Sign) and node.kind == "mo"


def _plain(node: Node, value: Values) -> str:
    def write(inner: Node) -> str:
        return _plain(inner, value)

    match node:
        case Sign(_, text):
            return PLAIN.get(text, text)
        case Number(name):
            return value(name)
        case Row(parts):
            return "".join(map(write, parts))
        case Group(inner):
            return f"({write(inner)})"
        case Accent(base, name):
            accented = write(base) + ABOVE[name][1]
            return COMPOSED.get(accented, accented)
        case Root(inner):
            return f"√{_held(write(inner))}"
        case Fraction(top, bottom):
            return f"{_held(write(top))}/{_held(write(bottom))}"
        case Norm(inner):
            return f"‖{write(inner)}‖"
        case Scripts(base, index, power):
            below = None if index is None else write(index)
            above = None if power is None else write(power)
            return _plain_scripts(write(base), below, above)
        case Space():
            return " "


def _plain_scripts(base: str, low: str | None, high: str | None) -> str:
    if base in ("Σ", "Π") and low and high:
        return f"{base}_{{{low}..{high}}}"
    below = "" if low is None else f"_{low}" if low.isalnum() else f"_{{{low}}}"
    return base + below + ("" if high is None else _raised(high))


def _raised(text: str) -> str:
    """In small figures above the line, where there are such for all of it."""
    return text.translate(RAISED) if all(ord(sign) in RAISED for sign in text) else f"^{{{text}}}"


def _held(text: str) -> str:
    """In parentheses, unless it is one thing."""
    one = r"[^\s()/+−{}]+(_\{[^{}]*\})?"
    return text if re.fullmatch(rf"√?{one}|√?{one}\([^()]*\)|√?\([^()]*\)", text) else f"({text})"
