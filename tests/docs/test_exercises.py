"""docs/exercises.md is what the exercises say, and their answers are right by other means than theirs."""

import math

import exercise_texts
import numpy as np
import pytest

from kakusan.diffusion.schedules import Linear
from kakusan.pages.explain import exercises
from kakusan.pages.explain.equations import CHAPTERS, EQUATIONS
from kakusan.pages.explain.exercises import EXERCISES, answers
from kakusan.pages.explain.typeset import mathml

BETA = np.concatenate([[0.0], np.linspace(1e-4, 0.02, 1000)])
ALPHA_BAR = np.cumprod(1 - BETA)
"""The linear schedule of Ho et al. 2020, from its two numbers."""


def test_the_page_is_that_of_the_exercises() -> None:
    """After a change: python tests/exercise_texts.py."""
    assert exercise_texts.STORED.read_text("utf-8") == exercise_texts.text()


def test_each_chapter_has_exercises_and_each_is_about_something_on_the_page() -> None:
    assert {exercise.about for exercise in EXERCISES} <= {equation.anchor for equation in EQUATIONS}
    assert sum(len(list(exercises.of(chapter))) for chapter in CHAPTERS) == len(EXERCISES) == len(answers())
    assert all(list(exercises.of(chapter)) for chapter in CHAPTERS)


def test_formulas_are_those_that_a_page_can_set_and_braces_are_all_filled() -> None:
    for exercise in EXERCISES:
        for text in (exercise.question, exercise.answer):
            assert text.count("$") % 2 == 0
            for place, part in enumerate(text.split("$")):
                assert mathml(part) if place % 2 else "{" not in part


def test_the_schedule_is_that_of_the_figures_below() -> None:
    assert np.allclose(Linear(T=1000).alpha_bar.numpy(), ALPHA_BAR, rtol=1e-12, atol=0)


def normal_weights() -> float:
    """log2 of the mean of e^z by 60 points of Gauss and Hermite."""
    z, weight = np.polynomial.hermite_e.hermegauss(60)
    return math.log2(float((weight * np.exp(z)).sum() / math.sqrt(2 * math.pi)))


def beta_tilde(t: int, s: int) -> float:
    """From precisions, which add."""
    alpha = ALPHA_BAR[t] / ALPHA_BAR[s]
    return float(1 / (alpha / (1 - alpha) + 1 / (1 - ALPHA_BAR[s])))


def weight(t: int) -> float:
    return float(BETA[t] / (2 * (1 - BETA[t]) * (1 - ALPHA_BAR[t])))


KNOWN = {
    ("unshrunk", "variance"): 1 + 1000 * (1e-4 + 0.02) / 2,
    ("half_way", "half"): int((ALPHA_BAR > 0.5).sum()),
    ("narrowed", "early"): beta_tilde(2, 1) / BETA[2],
    ("narrowed", "late"): beta_tilde(1000, 999) / BETA[1000],
    ("lopsided", "large"): (1 / 10 - 1 + math.log(10)) / 2,
    ("lopsided", "small"): (10 - 1 - math.log(10)) / 2,
    ("weights", "ratio"): weight(2) / weight(500),
    ("last_noise", "levels"): 1.275,
    ("floor", "error"): 1 - ALPHA_BAR[500],
    ("floor", "floor"): ALPHA_BAR[499] * BETA[500] ** 2 / (1 - ALPHA_BAR[500]),
    ("normal_score", "score"): -2.0,
    ("normal_score", "eps"): 2 * math.sqrt(1 - ALPHA_BAR[500]),
    ("kept", "noise"): 1 - ALPHA_BAR[450],
    ("kept", "share"): 1 - beta_tilde(500, 450) / (1 - ALPHA_BAR[450]),
    ("guided", "variance"): 1 / ((1 - 3) / 2 + 3),
    ("guided", "mean"): 3 / ((1 - 3) / 2 + 3),
    ("uneven", "bits"): normal_weights(),
}


@pytest.mark.parametrize("function", sorted({name for name, _ in KNOWN}))
def test_an_answer_is_right(function: str) -> None:
    found = getattr(exercises, function)()
    known = {name: value for (of, name), value in KNOWN.items() if of == function}
    assert found == pytest.approx(known, rel=1e-9)


def test_every_answer_is_known_here() -> None:
    assert {exercise.numbers.__name__ for exercise in EXERCISES} == {function for function, _ in KNOWN}
