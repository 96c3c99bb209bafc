"""The examples of docs/extending.md, at work: their files as modules, their lines in the tables.

As a plugin of pytest (`-p extensions`) it lets the contract tests meet them, as they would meet what a project adds.
"""

import re
import sys
from importlib import import_module, util
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
FILE = re.compile(r"^`src/(kakusan/[\w/]+)\.py`:\n\n```python\n(.*?)```", re.DOTALL | re.MULTILINE)
LINE = re.compile(r"^The line in `([A-Z]+)`[^:\n]*: `(.+?)`", re.MULTILINE)
TABLES = {
    "SAMPLERS": "kakusan.samplers",
    "SCHEDULES": "kakusan.diffusion.tables",
    "PATHS": "kakusan.diffusion.tables",
    "PARAMETRIZATIONS": "kakusan.diffusion.tables",
    "LOSSES": "kakusan.training.tables",
    "NETWORKS": "kakusan.config.networks",
    "READERS": "kakusan.data.sources",
    "OPERATORS": "kakusan.data.measuring",
}
"""Where they are."""


def files() -> dict[str, str]:
    """The text of each file on the page, by the name of its module."""
    return {place.replace("/", "."): text for place, text in FILE.findall(PAGE.read_text("utf-8"))}


def lines() -> list[tuple[str, str]]:
    """The table and the text of each line on the page."""
    return LINE.findall(PAGE.read_text("utf-8"))


def install(folder: Path, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Write and import the files, and add the lines, until the patch is undone. Returns all names of the files."""
    names: dict[str, Any] = {}
    for module, text in files().items():
        path = folder / f"{module}.py"
        path.write_text(text, "utf-8")
        spec = util.spec_from_file_location(module, path)
        assert spec is not None
        assert spec.loader is not None
        made = util.module_from_spec(spec)
        patch.setitem(sys.modules, module, made)
        spec.loader.exec_module(made)
        names |= vars(made)
    for name, line in lines():
        home = import_module(TABLES[name])
        table = getattr(home, name)
        if isinstance(table, tuple):
            patch.setattr(home, name, (*table, eval(line, {**vars(home), **names})))
        else:
            for key, value in eval(f"{{{line}}}", {**vars(home), **names}).items():
                patch.setitem(table, key, value)
    return names


def pytest_collection(session: pytest.Session) -> None:
    """Before the contract tests read the tables."""
    folder = Path(session.config.invocation_params.dir)
    install(folder, pytest.MonkeyPatch())
