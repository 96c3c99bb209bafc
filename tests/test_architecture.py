"""Imports only go down: each module stands on a floor and knows only the floors below it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "kakusan"

FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "shapes"),
    ("maths", "networks", "durable"),  # tensors in, tensors out; and bytes that stay on the disk
    ("denoiser", "manifest", "locking"),
    ("samplers", "likelihood", "oracles", "data", "metrics", "verdicts", "ema", "pictures", "checkpoints"),
    ("losses", "times", "runs", "settings"),
    ("training", "evaluation", "config", "recipe"),  # procedures; no file is opened here
    ("resolve", "agreement", "record", "journal"),
    ("assembly",),
    ("task", "lineage"),
    ("ladder",),
    ("launching", "experiment"),
    ("opened", "outputs"),
    ("appraisal", "interop"),
    ("report", "plots"),
    ("explain",),  # draws with the report's charts and seal
    ("cli",),
    ("library",),
    ("__main__", "__init__"),
)
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
MODULES = sorted(path for path in SOURCE.rglob("*.py"))


def home(path: Path) -> str:
    """The room of a file: its package below kakusan, or its own name."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """The rooms that a file imports from, whether at its head or inside of functions."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "kakusan":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kakusan."):
            yield str(node.module).split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("kakusan."))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_imports_only_from_floors_below(path: Path) -> None:
    here = home(path)
    assert here in FLOOR_OF, f"{here} has no floor yet: give it one in this test and in docs/architecture.md"
    for room in imported(path):
        assert room == here or FLOOR_OF[room] < FLOOR_OF[here], f"{here} must not know {room}"


def test_the_mathematics_opens_no_file_and_reads_no_clock() -> None:
    worldly = {"os", "io", "time", "pathlib", "random", "socket", "subprocess"}
    for room in ("maths", "networks", "samplers"):
        for path in (SOURCE / room).glob("*.py"):
            tree = ast.parse(path.read_text("utf-8"))
            names = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
            names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
            assert not names & worldly, path


def test_nothing_is_unpickled() -> None:
    for path in MODULES:
        text = path.read_text("utf-8")
        assert "import pickle" not in text
        loads = re.findall(r"(?<!safetensors\.)torch\.load\((.*)", text)
        assert all(path.name == "unpickling.py" and "weights_only=True" in rest for rest in loads), path
        assert "allow_pickle=True" not in text


def test_files_stay_readable() -> None:
    sizes = {path: len(path.read_text("utf-8").splitlines()) for path in MODULES}
    assert {str(path): size for path, size in sizes.items() if size > 420} == {}
