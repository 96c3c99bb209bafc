"""Formulas, from one source to MathML and to plain text."""

import xml.etree.ElementTree as ET

import pytest

from kakusan.pages.explain.equations import EQUATIONS
from kakusan.pages.explain.formula import parse
from kakusan.pages.explain.numbers import careful, is_told, shown
from kakusan.pages.explain.typeset import mathml, numbers_in, plain

EVERY_LINE = [
    (equation.number, line) for equation in EQUATIONS for line in (*equation.symbols, *equation.numbers)
]


@pytest.mark.parametrize(
    ("tex", "text"),
    [
        (r"\N(\sqrt{1-\beta_t} x_{t-1}, \beta_t \I)", "N(√(1−β_t) x_{t−1}, β_t I)"),
        (r"\sqrt{\bar\alpha_t} x_0", "√ᾱ_t x_0"),
        (r"\frac{\beta_t^2}{2 \sigma_t^2}", "β_t²/(2 σ_t²)"),
        (r"\frac{q(x_t | x_0)}{p(x_0)}", "q(x_t | x_0)/p(x_0)"),
        (r"\sum_{t=2}^{T} L_{t-1}", "Σ_{t=2..T} L_{t−1}"),
        (r"\norm{\eps - \eps_\theta}^2", "‖ε − ε_θ‖²"),
        (r"L_{\text{VLB}} \le \n{total}", "L_VLB ≤ total"),
        (r"\hat x_0", "x̂_0"),
    ],
)  # fmt: skip
def test_plain_text_reads_like_the_derivation(tex: str, text: str) -> None:
    assert plain(tex) == text


def test_mathml_has_the_structure_of_the_formula() -> None:
    tree = ET.fromstring(mathml(r"\tilde\mu_t = \frac{1}{\sqrt{\alpha_t}} (x_t - \eps)"))
    assert tree.tag == "math"
    assert [child.tag for child in tree[0]] == ["msub", "mo", "mfrac", "mspace", "mrow"]
    assert tree.find(".//mfrac/mrow/msqrt") is not None


def test_parentheses_grow_with_fractions_alone() -> None:
    assert 'stretchy="false">(' in mathml(r"(\sqrt{\alpha_t} x)")
    assert "<mo>(</mo>" in mathml(r"(\frac{1}{2})")


def test_numbers_are_filled_in_and_can_be_found_again() -> None:
    tex = r"\n{beta} x_{\n{t}} - \p{log_prev}"
    values = {"beta": "0.01", "t": "5", "log_prev()": "(−2)"}
    assert plain(tex, values.__getitem__) == "0.01 x_5 − (−2)"
    assert '<mn data-n="log_prev()">(−2)</mn>' in mathml(tex, values.__getitem__)
    assert numbers_in(tex) == ("beta", "t", "log_prev()")


@pytest.mark.parametrize("tex", [r"\nonsense", r"\sqrt{x", r"x_", r"(x"])
def test_what_is_no_formula_is_an_error(tex: str) -> None:
    with pytest.raises(ValueError, match="formula"):
        parse(tex)


@pytest.mark.parametrize(("number", "line"), EVERY_LINE)
def test_every_formula_of_the_derivation_is_well_formed(number: int, line: str) -> None:
    for piece in line.split("&"):
        assert ET.fromstring(mathml(piece)).tag == "math", number
    assert plain(line.replace("&", "")).count("(") == plain(line.replace("&", "")).count(")")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.010040, "0.01004"), (1000.0, "1000"), (0.0, "0"), (-350.4, "−350.4"), (2.22e-16, "2.2×10⁻¹⁶"),
        (0.99995, "0.99995"), (1.00005, "1.00005"), (14410.4, "14410"), (1e-7, "1×10⁻⁷"), (3.2e9, "3.2×10⁹"),
        (1 - 1e-9, "0.999999999"), (1 + 3e-8, "1.00000003"), (-(1 - 2**-53), "−0.9999999999999999"),
        (float("nan"), "—"), (None, "—"), (float("inf"), "∞"),
    ],
)  # fmt: skip
def test_numbers_read_as_a_person_would_write_them(value: float | None, text: str) -> None:
    assert shown(value) == text


def test_a_negative_number_stands_in_parentheses_where_it_is_subtracted() -> None:
    assert (careful(-2.0), careful(2.0)) == ("(−2)", "2")


def test_what_is_not_finite_is_not_told() -> None:
    assert [is_told(shown(value)) for value in (1.0, float("nan"), float("-inf"))] == [True, False, False]
