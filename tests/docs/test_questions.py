"""docs/questions.md and docs/quickstart.md: each question has its answer, and what is said to be printed is."""

import re
from pathlib import Path

import pytest
from documents import ROOT, blocks

from kakusan.cli import main

QUESTIONS = ROOT / "docs" / "questions.md"
QUICKSTART = ROOT / "docs" / "quickstart.md"


def test_there_are_25_questions_each_with_a_command_or_an_honest_no() -> None:
    _, *sections = re.split(r"^## (?=\d+\. )", QUESTIONS.read_text("utf-8"), flags=re.MULTILINE)
    assert [int(section.partition(".")[0]) for section in sections] == list(range(1, 26))
    for section in sections:
        assert re.search(r"`kakusan \w+|^kakusan \w+|\bNo\b|Apache", section, re.MULTILINE), section[:60]


def test_the_quickstart_shows_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "digits"]) == 0
    printed = "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines())
    assert blocks(QUICKSTART, "text")[0].strip() == printed.strip()


def test_the_quickstart_has_five_steps() -> None:
    assert re.findall(r"^## (\d)\.", QUICKSTART.read_text("utf-8"), re.MULTILINE) == list("12345")


FIGURES = {
    "0.05 % of the energy is not a sine": "0.05 % of the energy is not a sine",
    "26 % is not an even beat": "26 % is not an even beat",
    "40 pictures are learned by heart within five minutes": "40 images are learned by heart",
    "300 show signs of overfitting after fifteen": 'say "a sign of overfitting"',
    "of 1,300 digits and 5,700 kanji no sample was a copy": "exact copies among 240 samples; copy rate",
}
"""What the questions say was measured, and what the README says of the same."""


def words_of(page: Path) -> str:
    return " ".join(page.read_text("utf-8").split())


def test_measured_figures_are_those_of_the_readme() -> None:
    questions, readme = words_of(QUESTIONS), words_of(ROOT / "README.md")
    for ours, theirs in FIGURES.items():
        assert ours in questions
        assert theirs in readme
