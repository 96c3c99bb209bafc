"""The tree of expected mistakes: each says what is wrong and where, and what to do.

Anything else that escapes is a bug and keeps its traceback (exit code 1).
"""

import os
import shlex
import string
import unicodedata
from pathlib import Path

CONTROLS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of what commands a terminal, turns the direction of text, or is no text at all."""
PLAIN = frozenset(string.ascii_letters + string.digits + "/._- ")
"""Characters that stand for themselves wherever a shell reads them in quotes."""
JOINERS = "\u200c\u200d"
"""Characters of the same categories that are parts of words and emoji."""


def printable(text: str, most: int | None = None) -> str:
    """Text from elsewhere on one line, without control characters: each becomes its escape, such as \\x1b.

    Longer than `most`, it is cut off.
    """
    if not text.isprintable():
        text = "".join(
            _escaped(letter) if unicodedata.category(letter) in CONTROLS and letter not in JOINERS else letter
            for letter in text
        )
    return text[:most]


def quoted(path: Path | str) -> str:
    """A path as it may stand in a command that is shown: typed in, it means that path and nothing else.

    What no terminal should be sent is escaped as bash and zsh read it: $'\\x1b'.
    """
    text = str(path)
    text = f"./{text}" if text.startswith("-") else text  # no option
    if printable(text) == text:
        return shlex.quote(text)
    letters = (chr(byte) if chr(byte) in PLAIN else f"\\x{byte:02x}" for byte in os.fsencode(text))
    return f"$'{''.join(letters)}'"


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


class KakusanError(Exception):
    """An expected mistake: the problem in one sentence, and advice in a few lines. All of it is `printable`."""

    exit_code = 2

    def __init__(self, problem: str, *advice: str) -> None:
        super().__init__(printable(problem))
        self.problem = printable(problem)
        self.advice = tuple(map(printable, advice))

    def __str__(self) -> str:
        return "\n  ".join((self.problem, *self.advice))


class SettingsError(KakusanError):
    """A setting out of its range, unknown, or at odds with another."""


class DataError(KakusanError):
    """Images that cannot be read or used."""

    exit_code = 3


class RunError(KakusanError):
    """A run folder or a checkpoint that cannot be used."""

    exit_code = 4


class ModelError(KakusanError):
    """A model of another program that cannot be read, or one of kakusan that has no counterpart there."""

    exit_code = 4


class NumbersError(KakusanError):
    """A loss, a gradient or a weight that is not finite."""

    exit_code = 5
