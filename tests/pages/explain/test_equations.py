"""The thirteen equations: all there, in order, with functions that exist and numbers that are computed."""

import importlib
from collections.abc import Callable

import pytest

from kakusan.pages.explain.content import Story
from kakusan.pages.explain.equation import Equation, View, names_in
from kakusan.pages.explain.equations import CHAPTERS, EQUATIONS
from kakusan.pages.explain.typeset import numbers_in

every_equation = pytest.mark.parametrize("equation", EQUATIONS, ids=lambda equation: equation.anchor)
SECTIONS = ("target", "score", "divergence", "range", "schedule", "ddim", "guidance", "likelihood")


def function(name: str) -> Callable[..., object]:
    """The object of a dotted name below kakusan."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(("kakusan", *parts[:length])))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            found = getattr(found, attribute)
        return found  # type: ignore[return-value]
    raise ImportError(name)


def test_all_thirteen_are_told_in_the_order_of_the_derivation() -> None:
    assert [equation.number for equation in EQUATIONS if equation.number] == list(range(1, 14))
    assert [equation.anchor for equation in EQUATIONS[13:]] == list(SECTIONS)
    assert [chapter.title for chapter in CHAPTERS] == ["Forward", "Reverse", "Training", "Sampling", "Beyond"]


def test_every_section_beyond_the_thirteen_is_checked() -> None:
    assert all(equation.checks for equation in EQUATIONS[13:])


def test_identities_are_those_of_the_derivation() -> None:
    assert {equation.number for equation in EQUATIONS[:13] if equation.identity} == {2, 6, 9, 10}
    assert all(equation.checks for equation in EQUATIONS if equation.identity)


@every_equation
def test_every_function_that_is_named_exists(equation: Equation) -> None:
    for name in equation.functions:
        assert callable(function(name)), name


@every_equation
def test_a_definition_names_the_function_whose_docstring_claims_it(equation: Equation) -> None:
    if equation.number and not equation.identity:
        paragraph = " ".join((function(equation.functions[0]).__doc__ or "").split("\n\n")[0].split())
        # Ancestral.step inherits its words; its class claims (13)
        assert equation.number == 13 or paragraph.endswith((f"Eq. ({equation.number}).", "Algorithm 2."))


@every_equation
def test_every_number_and_picture_it_asks_for_is_there(equation: Equation, story: Story) -> None:
    for line in equation.numbers:
        assert numbers_in(line)
        for name in numbers_in(line):
            assert story.text(name)
    for name in (*names_in(equation.note), *names_in(equation.caption), *names_in(equation.words)):
        assert isinstance(story.text(name), str)
    for view in equation.picture:
        if isinstance(view, View):
            assert view.name in {**story.pictures, **story.now.pictures}
