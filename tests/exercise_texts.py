"""docs/exercises.md, written from the exercises of `kakusan explain`: `git diff` shows a change of an answer.

python tests/exercise_texts.py (or: make help-texts) writes it anew.
"""

from pathlib import Path

from kakusan.pages.explain.equations import CHAPTERS
from kakusan.pages.explain.exercises import of

STORED = Path(__file__).parents[1] / "docs" / "exercises.md"
HEAD = """# Exercises

A few for each chapter of [the derivation](derivation.md), to be done on paper and then with the functions that it
names. All are about the linear schedule with T = 1000. The numbers of the answers are computed by
[`exercises.py`](../src/kakusan/pages/explain/exercises.py), each by a function of a few lines. `kakusan explain` has
the same exercises on its page.
"""
TEX = {"\\eps": "\\varepsilon"}
"""What the formulas of a page have of their own, and TeX."""


def text() -> str:
    """The whole page."""
    parts = [HEAD]
    number = 0
    for chapter in CHAPTERS:
        parts.append(f"\n## {chapter.title}\n")
        for sign, exercise in of(chapter):
            number += 1
            computed = f"`{exercise.numbers.__name__}`"
            parts.append(
                f"\n**{number}.** {sign} {exercise.question}\n\n<details><summary>Answer</summary>\n\n"
                f"{exercise.answer}\n\nComputed by {computed}.\n</details>\n"
            )
    whole = "".join(parts)
    for ours, theirs in TEX.items():
        whole = whole.replace(ours, theirs)
    return whole


if __name__ == "__main__":
    STORED.write_text(text(), "utf-8")
