"""A few words of TeX, as MathML for a page and as plain text for a terminal: a formula is written down once.

Known are letters, digits and operators; `\\alpha`, `\\bar`, `\\sqrt`, `\\frac`, `\\sum` and the other words below;
`_`, `^` and braces. Parentheses are groups. A space is seen in the plain text, and is a thin space on the page
between two factors. `\\n{name}` is a number that is known only later, under this name; `\\p{name}` is the number
named "name()", the same in parentheses where it is negative.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import TypeAlias

LETTERS = {
    "alpha": "α", "beta": "β", "eps": "ε", "theta": "θ", "mu": "μ", "sigma": "σ", "Sigma": "Σ", "infty": "∞",
    "N": "𝒩", "I": "𝐈", "E": "𝔼", "log": "log", "KL": "KL",
}  # fmt: skip
UPRIGHT = {"Σ", "𝒩", "𝐈", "𝔼", "∞"}
PLAIN = {"𝒩": "N", "𝐈": "I", "𝔼": "E"}
"""What few fonts of a terminal have, in letters that all have."""
OPERATORS = {
    "le": "≤", "to": "→", "dots": "⋯", "times": "×", "parallel": "∥", "lparen": "(", "rparen": ")",
}  # fmt: skip
ACCENTS = {"bar": ("¯", "\u0304"), "tilde": ("~", "\u0303"), "hat": ("^", "\u0302")}
LARGE = {"sum": "∑", "prod": "∏"}
COMPOSED = {"α\u0304": "ᾱ"}
RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")

TOKEN = re.compile(r"\\[A-Za-z]+|\d+(?:\.\d+)?|\S|\s+")
Values: TypeAlias = Callable[[str], str]
"""The text of the number of this name."""


@dataclass(frozen=True)
class Sign:
    """A letter, a number or an operator."""

    kind: str  # "mi", "mn" or "mo", as in MathML
    text: str


@dataclass(frozen=True)
class Space:
    """What stands between two things."""


@dataclass(frozen=True)
class Row:
    parts: tuple["Node", ...]


@dataclass(frozen=True)
class Number:
    """Known later, under this name."""

    name: str


@dataclass(frozen=True)
class Accent:
    base: "Node"
    name: str


@dataclass(frozen=True)
class Root:
    inner: "Node"


@dataclass(frozen=True)
class Fraction:
    above: "Node"
    below: "Node"


@dataclass(frozen=True)
class Norm:
    inner: "Node"


@dataclass(frozen=True)
class Scripts:
    """What is written low and high beside a base, or below and above a large sign."""

    base: "Node"
    low: "Node | None"
    high: "Node | None"


Node: TypeAlias = Sign | Space | Row | Number | Accent | Root | Fraction | Norm | Scripts


@cache
def parse(tex: str) -> Row:
    """The tree of a formula. Raises ValueError where it is none."""
    tokens = [" " if token.isspace() else token for token in TOKEN.findall(tex)]
    tokens.reverse()
    row = _row(tokens, "")
    return row


def _row(tokens: list[str], end: str) -> Row:
    """Everything up to this closing token, or to the end."""
    parts: list[Node] = []
    while tokens:
        if tokens[-1] == end:
            tokens.pop()
            return Row(tuple(parts))
        parts.append(_scripted(tokens))
    if end:
        raise ValueError(f"a formula lacks its {end!r}")
    return Row(tuple(parts))


def _scripted(tokens: list[str]) -> Node:
    base = _single(tokens)
    found: dict[str, Node] = {}
    while tokens and tokens[-1] in ("_", "^"):
        place = tokens.pop()
        found[place] = _single(tokens)
    return Scripts(base, found.get("_"), found.get("^")) if found else base


def _single(tokens: list[str]) -> Node:
    if not tokens:
        raise ValueError("a formula ends too early")
    token = tokens.pop()
    if token == "{":
        return _row(tokens, "}")
    if token == "(":
        return Row((Sign("mo", "("), *_row(tokens, ")").parts, Sign("mo", ")")))
    if token == " ":
        return Space()
    if token.startswith("\\"):
        return _word(token[1:], tokens)
    kind = "mi" if token.isalpha() else "mn" if token[0].isdigit() else "mo"
    return Sign(kind, token.replace("-", "−"))


def _word(name: str, tokens: list[str]) -> Node:
    if name in ("n", "p"):
        return Number(_name(tokens) + "()" * (name == "p"))
    if name == "text":
        return Sign("mtext", _name(tokens))
    if name in ACCENTS:
        return Accent(_single(tokens), name)
    if name == "sqrt":
        return Root(_single(tokens))
    if name == "norm":
        return Norm(_single(tokens))
    if name == "frac":
        above = _single(tokens)
        return Fraction(above, _single(tokens))
    if name in LARGE or name in OPERATORS:
        return Sign("mo", {**LARGE, **OPERATORS}[name])
    if name in LETTERS:
        return Sign("mi", LETTERS[name])
    raise ValueError(f"a formula knows no \\{name}")


def _name(tokens: list[str]) -> str:
    """The letters in the braces that follow."""
    letters = []
    if tokens.pop() != "{":
        raise ValueError("a name stands in braces")
    while (token := tokens.pop()) != "}":
        letters.append(token)
    return "".join(letters)


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
        case Accent(base, name):
            return f'<mover accent="true">{write(base)}<mo>{ACCENTS[name][0]}</mo></mover>'
        case Root(inner):
            return f"<msqrt>{write(inner)}</msqrt>"
        case Fraction(above, below):
            return f"<mfrac>{write(above)}{write(below)}</mfrac>"
        case Norm(inner):
            return f"<mrow><mo>‖</mo>{write(inner)}<mo>‖</mo></mrow>"
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
        case Accent(base, name):
            accented = write(base) + ACCENTS[name][1]
            return COMPOSED.get(accented, accented)
        case Root(inner):
            return f"√{_held(write(inner))}"
        case Fraction(above, below):
            return f"{_held(write(above))}/{_held(write(below))}"
        case Norm(inner):
            return f"‖{write(inner)}‖"
        case Scripts(base, low, high):
            return _plain_scripts(write(base), low and write(low), high and write(high))
        case Space():
            return " "


def _plain_scripts(base: str, low: str | None, high: str | None) -> str:
    if base in LARGE.values() and low and high:
        return f"{base.replace('∑', 'Σ').replace('∏', 'Π')}_{{{low}..{high}}}"
    below = "" if low is None else f"_{low}" if low.isalnum() else f"_{{{low}}}"
    above = "" if high is None else high.translate(RAISED)
    return base + below + above


def _held(text: str) -> str:
    """In parentheses, unless it is one thing."""
    whole = re.fullmatch(r"√?[^\s()/+−]+|√\([^()]*\)", text)
    return text if whole else f"({text})"
