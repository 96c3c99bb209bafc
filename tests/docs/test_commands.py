"""The commands in the documents and in the help texts are read by the parser of the command that they name."""

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from documents import FENCE, ROOT, blocks
from help_texts import STORED

from kakusan.cli import (
    COMMANDS,
    EXAMPLES,
    MODULES,
    arguments,
    distance,
    method_options,
    sampler_options,
    train,
)

PAGES = (
    "README.md",
    "docs/bits.md",
    "docs/derivation.md",
    "docs/derivation.ja.md",
    "docs/schedule.md",
    "docs/models.md",
    "docs/python.md",
    "docs/samplers.md",
    "docs/edits.md",
    "docs/restore.md",
    "docs/compression.md",
    "docs/index.md",
    "docs/answers.md",
    "docs/questions.md",
    "docs/quickstart.md",
    "benchmarks/README.md",
)
LINE = re.compile(r"^ *(kakusan \w+ .*?)(?: {2,}.*| +#.*)?$", re.MULTILINE)
QUOTED = re.compile(r"`(kakusan \w+ [^`\n]+)`")
FORM = re.compile(r"[\[|]| or | [A-Z]$")
"""What is the form of commands rather than one of them: [--run DIR], a|b, --minutes M."""


def of_page(name: str) -> Iterator[str]:
    """The commands in the blocks of a page, and those in backticks that are more than a name."""
    page = ROOT / name
    for block in blocks(page):
        yield from LINE.findall(block)
    yield from (
        line for line in QUOTED.findall(FENCE.sub("", page.read_text("utf-8"))) if not FORM.search(line)
    )


def of_help() -> Iterator[str]:
    """The examples of `kakusan --help` and of the help of each command."""
    yield from (line for line, _ in EXAMPLES)
    for name in COMMANDS:
        shown = module_of(name).EXAMPLES
        yield from LINE.findall("\n".join(shown))


def module_of(command: str) -> Any:
    return import_module(f"kakusan.cli.{MODULES.get(command, command)}")


LINES = sorted({line for page in PAGES for line in of_page(page)} | set(of_help()))


class ReadError(Exception):
    """Not a mistake: the parser has read the command, and nothing is to be done."""


@pytest.mark.parametrize("line", LINES)
def test_every_command_is_one_that_the_parser_reads(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, command, *words = shlex.split(line)
    assert command in COMMANDS
    module = module_of(command)

    def only_read(*asked: Any, **options: Any) -> None:
        arguments.parse(*asked, **options)
        raise ReadError

    for place in (module, distance, method_options, sampler_options, train):
        monkeypatch.setattr(place, "parse", only_read, raising=False)
    monkeypatch.setattr(module, "require_files", lambda _: None, raising=False)
    with pytest.raises(SystemExit if "--help" in words else ReadError):
        module.main(words)


def test_there_are_commands_in_every_page() -> None:
    assert all(any(of_page(page)) for page in PAGES)
    assert len(LINES) > 40


@pytest.mark.parametrize("name", [name for name in PAGES if not name.startswith("benchmarks")])
def test_every_flag_in_backticks_is_one(name: str) -> None:
    known = set(re.findall(r"--[\w.-]+", "".join(path.read_text("utf-8") for path in STORED.glob("*.txt"))))
    text = FENCE.sub("", (ROOT / name).read_text("utf-8"))
    quoted = [words for words in re.findall(r"`([^`\n]+)`", text) if words.startswith(("--", "kakusan"))]
    flags = {flag for words in quoted for flag in re.findall(r"(?<!\S)--[\w.-]+", words)}
    assert flags <= known, flags - known


@pytest.mark.parametrize("name", [*PAGES, "CONTRIBUTING.md"])
def test_every_target_of_make_and_every_script_is_there(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    targets = set(re.findall(r"^([\w-]+):(?!=)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z][\w-]+)", text, re.MULTILINE)) <= targets
    for script in re.findall(r"\b(?:benchmarks|tests|scripts)/[\w/]+\.py", text):
        assert (ROOT / script).is_file(), script
