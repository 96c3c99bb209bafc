"""The committed help texts are those that the commands print: see help_texts.py."""

import subprocess
import sys
from pathlib import Path

import help_texts
import pytest

from kakusan.cli import COMMANDS


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a fresh process, which must not import torch for them."""
    folder = tmp_path_factory.mktemp("help")
    command = [sys.executable, "-W", "error", str(Path(help_texts.__file__)), str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return {path.stem: path.read_text("utf-8") for path in folder.glob("*.txt")}


def test_the_committed_help_texts_are_what_the_commands_say(texts: dict[str, str]) -> None:
    committed = {path.stem: path.read_text("utf-8") for path in help_texts.STORED.glob("*.txt")}
    changed = sorted(name for name in texts | committed if texts.get(name) != committed.get(name))
    assert not changed, "write docs/help anew, and look at the difference: make help-texts"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_examples(name: str, texts: dict[str, str]) -> None:
    assert texts[name].startswith(f"usage: kakusan {name}")
    assert "examples:" in texts[name]
    assert f"\n  kakusan {name}" in texts[name]
