"""Words for a terminal: nothing in them commands it."""

import pytest

from kakusan.errors import DataError, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, 拡散, 全角\u3000空白", "plain, 拡散, 全角\u3000空白"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("two\nlines", "two\\nlines"),
        ("photo\u202egpj.exe", "photo\\u202egpj.exe"),
        ("bytes \udcff", "bytes \\udcff"),
        ("\x9b31m", "\\x9b31m"),
    ],
)
def test_control_characters_become_their_escapes_and_all_else_stays(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_printable_text_can_be_cut_off() -> None:
    assert printable("abcdef", 3) == "abc"


def test_an_error_carries_no_control_characters_of_the_names_in_it() -> None:
    error = DataError("there is no \x1b[31mred", "did you mean \x07bell?")
    assert str(error) == "there is no \\x1b[31mred\n  did you mean \\x07bell?"
    assert error.args == ("there is no \\x1b[31mred",)
