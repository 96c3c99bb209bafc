"""No power cut loses a good checkpoint, or the figures before it.

The operations of each story of crash_stories.py are recorded. For every prefix of the record the trees that a
power cut may leave are rebuilt, looked at and gone on from: what was not synced is kept, lost, cut or zeroed if it
is content, and kept or lost, each on its own, if it is a change of names.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import FileIO
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeAlias

import pytest
from crash_stories import STORIES

from kakusan.errors import RunError
from kakusan.storage import durable

Operation: TypeAlias = tuple[str, tuple[Any, ...]]
Tree: TypeAlias = frozenset[tuple[str, bytes | None]]  # path and content; None for a folder


@dataclass(eq=False)
class File:
    written: bytes = b""
    synced: bytes = b""

    def after_cut(self, fate: str) -> bytes:
        sure = self.synced if self.written.startswith(self.synced) else b""
        rest = self.written[len(sure) :]
        cut, zeroed = sure + rest[: len(rest) // 2], sure + bytes(len(rest))
        return {"kept": self.written, "lost": self.synced, "cut": cut, "zeroed": zeroed}[fate]


@dataclass(eq=False)
class Change:
    """A name that went and a name that came, at once."""

    old: str | None
    new: str | None
    bearer: "File | Folder"

    def apply(self, names: "dict[str, File | Folder]") -> None:
        if self.old is not None:
            names.pop(self.old, None)
        if self.new is not None:
            names[self.new] = self.bearer


@dataclass(eq=False)
class Folder:
    names: "dict[str, File | Folder]" = field(default_factory=dict)
    synced: "dict[str, File | Folder]" = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)

    def change(self, old: str | None, new: str | None, bearer: "File | Folder") -> None:
        self.changes.append(Change(old, new, bearer))
        self.changes[-1].apply(self.names)

    def sync(self) -> None:
        self.synced = dict(self.names)
        self.changes = []

    def tree(self, lost: set[Change], fate: str, prefix: str = "") -> Iterator[tuple[str, bytes | None]]:
        """What a power cut leaves, if it takes these changes of names and deals so with content."""
        names = dict(self.synced)
        for change in self.changes:
            if change not in lost:
                change.apply(names)
        for name, bearer in names.items():
            if isinstance(bearer, File):
                yield prefix + name, bearer.after_cut(fate)
            else:
                yield prefix + name, None
                yield from bearer.tree(lost, fate, f"{prefix}{name}/")


class Disk:
    """What the system was asked to do to a folder, and what of it is sure. Paths are from that folder."""

    def __init__(self, base: Path) -> None:
        self.folders: list[Folder] = []
        self.root = self._as_it_is(base)

    def _as_it_is(self, path: Path) -> Folder:
        folder = self._new_folder()
        for child in path.iterdir():
            content = b"" if child.is_dir() else child.read_bytes()
            bearer = self._as_it_is(child) if child.is_dir() else File(content, content)
            folder.change(None, child.name, bearer)
        folder.sync()
        return folder

    def _new_folder(self) -> Folder:
        self.folders.append(Folder())
        return self.folders[-1]

    def _find(self, path: Path) -> Any:
        bearer: Any = self.root
        for name in path.parts:
            bearer = bearer.names[name]
        return bearer

    def make_folder(self, path: Path) -> None:
        self._find(path.parent).change(None, path.name, self._new_folder())

    def open_file(self, path: Path, mode: str) -> None:
        folder = self._find(path.parent)
        if path.name not in folder.names:
            folder.change(None, path.name, File())
        if mode == "wb":
            folder.names[path.name].written = b""

    def write(self, path: Path, data: bytes) -> None:
        self._find(path).written += data

    def sync(self, path: Path) -> None:
        self._find(path).synced = self._find(path).written

    def sync_folder(self, path: Path) -> None:
        self._find(path).sync()

    def rename(self, old: Path, new: Path) -> None:
        assert old.parent == new.parent
        self._find(old.parent).change(old.name, new.name, self._find(old))

    def remove(self, path: Path) -> None:
        self._find(path.parent).change(path.name, None, self._find(path))

    remove_folder = remove

    def outcomes(self) -> set[Tree]:
        changes = [change for folder in self.folders for change in folder.changes]
        fates = ("kept", "lost", "cut", "zeroed")
        return {frozenset(self.root.tree(lost, fate)) for lost, fate in product(subsets(changes), fates)}


def subsets(changes: list[Change]) -> Iterator[set[Change]]:
    """All, where they are few; else those that come in order, all single ones and their complements, and chance."""
    count = len(changes)
    if count <= 6:
        choices = list(product((False, True), repeat=count))
    else:
        chance = random.Random(count)
        edges = range(count + 1)
        choices = [tuple(place < edge for place in range(count)) for edge in edges]
        choices += [tuple(place == edge for place in range(count)) for edge in edges]
        choices += [tuple(chance.random() < 0.5 for _ in range(count)) for _ in range(20)]
        choices += [tuple(not taken for taken in choice) for choice in choices]
    for choice in choices:
        yield {change for change, taken in zip(changes, choice, strict=True) if taken}


class Record(NamedTuple):
    """A story, the folder before its act, and what the act asked of the system, with paths from there."""

    story: Any
    start: Path
    operations: list[Operation]


def recorded(story: Any, base: Path, start: Path) -> Record:
    base.mkdir()
    story.prepare(base / "run")
    shutil.copytree(base, start)
    operations: list[Operation] = []

    def noted(name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def performed(*arguments: Any) -> Any:
            operations.append((name, tuple(plain(argument, base) for argument in arguments)))
            return operation(*arguments)

        return performed

    with pytest.MonkeyPatch.context() as patch:
        for name in durable.OPERATIONS:
            patch.setattr(durable, name, noted(name, getattr(durable, name)))
        story.act(base / "run")
    return Record(story, start, operations)


def plain(argument: Any, base: Path) -> Any:
    """A path from the base, a file by its path, a buffer by its bytes, as they are now."""
    if isinstance(argument, FileIO):
        argument = Path(argument.name)
    if isinstance(argument, Path):
        return argument.relative_to(base)
    return bytes(argument) if isinstance(argument, memoryview) else argument


def check_all_outcomes(record: Record, scratch: Path, *, since: int = -1) -> int:
    """Check whatever a power cut may leave, after each operation; the number of different trees."""
    disk = Disk(record.start)
    seen: set[tuple[bool, Tree]] = set()
    for moment, operation in enumerate([None, *record.operations], start=-1):
        if operation:
            getattr(disk, operation[0])(*operation[1])
        if moment < since:
            continue
        finished = moment == len(record.operations) - 1
        for tree in disk.outcomes():
            if (finished, tree) not in seen:
                seen.add((finished, tree))
                check_tree(record.story, tree, finished, scratch)
    return len(seen)


def check_tree(story: Any, tree: Tree, finished: bool, scratch: Path) -> None:
    with TemporaryDirectory(dir=scratch) as base:
        for path, content in sorted(tree):
            if content is None:
                Path(base, path).mkdir()
            else:
                Path(base, path).write_bytes(content)
        story.check(Path(base, "run"), finished)


def fails(record: Record, scratch: Path, since: int) -> bool:
    try:
        check_all_outcomes(record, scratch, since=since)
    except (AssertionError, RunError):
        return True
    return False


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a place: thousands of small files come and go."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture
def record(name: str, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # 4 ms each; what they are worth is in the model
    return recorded(STORIES[name], scratch / "base", scratch / "start")


@pytest.mark.parametrize("name", STORIES)
def test_a_power_cut_at_any_operation_loses_nothing(record: Record, scratch: Path) -> None:
    assert check_all_outcomes(record, scratch) > 10


@pytest.mark.parametrize("name", ["a save that drops an old one", "the first save"])
def test_each_sync_of_a_save_is_needed(record: Record, scratch: Path) -> None:
    """The proof above can fail, and no sync is there in vain but that of a name which is on the disk already."""
    needless = []
    for moment, (name, arguments) in enumerate(record.operations):
        if name in {"sync", "sync_folder"}:
            rest = record._replace(operations=record.operations[:moment] + record.operations[moment + 1 :])
            last = len(rest.operations) - 1  # most are missed at the end, where there is the least to look at
            if not fails(rest, scratch, last) and not fails(rest, scratch, moment):
                needless.append(str(arguments[0]))
    assert needless in (["run"], [])
