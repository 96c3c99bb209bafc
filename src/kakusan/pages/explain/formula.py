"""A few words of TeX as a tree: what `typeset` writes as MathML and as plain text.

Known are letters, digits and operators; `\\alpha`, `\\bar`, `\\sqrt`, `\\frac`, `\\sum` and the other words below;
`_`, `^` and braces. Parentheses are groups. `\\n{name}` is a number that is known only later, under this name;
`\\p{name}` is the number named "name()", the same in parentheses where it is negative.
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

LETTERS = {
    "alpha": "α", "beta": "β", "eps": "ε", "theta": "θ", "mu": "μ", "sigma": "σ", "Sigma": "Σ",
    "N": "𝒩", "I": "𝐈", "E": "𝔼", "log": "log", "KL": "KL", "eta": "η", "phi": "φ", "nabla": "∇",
}  # fmt: skip
OPERATORS = {
    "le": "≤", "to": "→", "dots": "⋯", "times": "×", "parallel": "∥", "lparen": "(", "rparen": ")", "int": "∫",
    "approx": "≈", "pm": "±",
}  # fmt: skip
LARGE = {"sum": "∑", "prod": "∏"}
ACCENTS = ("bar", "tilde", "hat")
TOKEN = re.compile(r"\\[A-Za-z]+|\d+(?:\.\d+)?|\S|\s+")


@dataclass(frozen=True)
class Sign:
    """A letter, a number or an operator."""

    kind: str  # "mi", "mn" or "mo", as in MathML
    text: str


@dataclass(frozen=True)
class Space:
    """A space between two terms."""


@dataclass(frozen=True)
class Row:
    parts: tuple["Node", ...]


@dataclass(frozen=True)
class Group:
    """A row in parentheses."""

    inner: Row


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
    """The sub- and superscript of a base, or what stands below and above a large sign."""

    base: "Node"
    low: "Node | None"
    high: "Node | None"


Node: TypeAlias = Sign | Space | Row | Group | Number | Accent | Root | Fraction | Norm | Scripts


@cache
def parse(tex: str) -> Row:
    """The tree of a formula. Raises ValueError where it is none."""
    tokens = [" " if token.isspace() else token for token in TOKEN.findall(tex)]
    tokens.reverse()
    return _row(tokens, "")


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
        return Group(_row(tokens, ")"))
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
    while tokens and tokens[-1] == " " and name in (*ACCENTS, "sqrt", "norm", "frac"):
        tokens.pop()
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
