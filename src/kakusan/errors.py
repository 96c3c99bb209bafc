"""The tree of expected mistakes: each says what is wrong and where, and what to do.

Anything else that escapes is a bug and keeps its traceback (exit code 1).
"""


class KakusanError(Exception):
    """An expected mistake: the problem in one sentence, and advice in a few lines."""

    exit_code = 2

    def __init__(self, problem: str, *advice: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.advice = advice

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
    """A model of another program that cannot be read, or one of ours that has no counterpart there."""

    exit_code = 4


class NumbersError(KakusanError):
    """A loss, a gradient or a weight that is not finite."""

    exit_code = 5
