"""What kakusan and each of its commands say to --help, as committed in docs/help: `git diff` shows a change of a flag.

python tests/help_texts.py (or: make help-texts) writes them anew; with a folder, there. It fails if torch gets
imported, since nobody waits for torch to read a help text.
"""

import io
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path

from kakusan.cli import COMMANDS, main

STORED = Path(__file__).parents[1] / "docs" / "help"
WIDTH = 100


def said(arguments: list[str]) -> str:
    """What a command prints that only explains itself, without blanks at the ends of lines."""
    out = io.StringIO()
    with redirect_stdout(out):
        try:
            code: object = main(arguments)
        except SystemExit as stop:  # the argument parser leaves this way
            code = stop.code
    assert code == 0, arguments
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def written(folder: Path) -> None:
    """kakusan.txt and a file for each command; what else is there goes."""
    os.environ["COLUMNS"] = str(WIDTH)
    texts = {"kakusan": said(["--help"])} | {name: said([name, "--help"]) for name in COMMANDS}
    texts["evaluate-distance"] = said(["evaluate", "--distance", "--help"])
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.txt"):
        old.unlink()
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text, "utf-8")


if __name__ == "__main__":
    written(Path(sys.argv[1]) if len(sys.argv) > 1 else STORED)
    if "torch" in sys.modules:
        sys.exit("a help text imported torch")
