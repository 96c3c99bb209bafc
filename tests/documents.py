"""The documents as programs: their fenced blocks."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str = "") -> list[str]:
    """The fenced blocks of a page that are in this language; "" is that of blocks without a name: commands."""
    return [block for name, block in FENCE.findall(page.read_text("utf-8")) if name == language]


@contextmanager
def run_page(page: Path, folder: Path, **given: Any) -> Iterator[dict[str, Any]]:
    """Everything that a page defines, after its Python blocks have run one after the other, as they stand.

    They run in `folder`, which stays the current one for as long as the context lasts. given: what the page takes for
    granted, such as a run.
    """
    names: dict[str, Any] = {"__name__": page.name.replace(".", "_"), **given}
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        patch.chdir(folder)
        for block in blocks(page, "python"):
            exec(compile(block, str(page), "exec"), names)
        yield names
