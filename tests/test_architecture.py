"""Imports only go down: a module imports from its own package and from lower layers."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "kakusan"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "shapes"),
    ("randomness", "statistics", "networks", "operators"),
    ("config",),
    ("storage", "diffusion"),
    ("data",),
    ("samplers", "terminal"),
    ("posterior",),
    ("training",),
    ("run",),
    ("evaluation", "interop"),
    ("pages",),
    ("cli", "api"),
    ("__main__", "__init__"),
)
LAYER_OF = {name: layer for layer, names in enumerate(LAYERS) for name in names}
MODULES = sorted(path for path in SOURCE.rglob("*.py"))
MOST_ENTRIES = 22
"""Of the package: more than a reader takes in at once."""


def package_of(path: Path) -> str:
    """The package below kakusan that a file belongs to, or its own name."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """The packages that a file imports from, whether at its head or inside of functions."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "kakusan":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kakusan."):
            yield str(node.module).split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("kakusan."))


def test_every_module_has_a_layer_and_imports_only_from_lower_ones() -> None:
    for path in MODULES:
        here = package_of(path)
        assert here in LAYER_OF, f"{here} has no layer yet: give it one here and in docs/architecture.md"
        for there in imported(path):
            allowed = there == here or LAYER_OF[there] < LAYER_OF[here]
            assert allowed, f"{path.relative_to(SOURCE)} must not import from {there}"


def test_the_layers_are_those_of_the_drawing() -> None:
    text = (SOURCE.parents[1] / "docs" / "architecture.md").read_text("utf-8")
    drawing = text[text.index("## Layers") : text.index("## From an equation")]
    for name in LAYER_OF:
        assert re.search(rf"(^|\s){name}(/|\s)", drawing), f"docs/architecture.md does not draw {name}"


def test_a_reader_takes_in_the_package_at_once() -> None:
    entries = {package_of(path) for path in MODULES}
    assert len(entries) <= MOST_ENTRIES


def test_the_mathematics_opens_no_file_and_reads_no_clock() -> None:
    worldly = {"os", "io", "time", "pathlib", "random", "socket", "subprocess"}
    for room in ("diffusion", "networks", "operators", "posterior", "samplers"):
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
    assert {str(path): size for path, size in sizes.items() if size > 425} == {}
