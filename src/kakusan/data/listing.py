"""The files of a folder, in an order that depends on their names alone."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kakusan.data.dataset import BadFile

CLUTTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


@dataclass(frozen=True)
class ImageFile:
    """A file that may be an image: its path relative to the folder, with forward slashes, and where it is."""

    name: str
    path: Path
    size: int
    changed: int
    """Nanoseconds; with name and size it shows whether a cached copy is stale."""


@dataclass(frozen=True)
class Listing:
    """The content of a folder: files to look into, sorted by name, and what was passed over."""

    files: tuple[ImageFile, ...]
    bad: tuple[BadFile, ...]
    ignored: int
    links: tuple[str, ...] = ()
    """Links to folders outside that were not followed."""

    @property
    def key(self) -> str:
        """A hash of the names, sizes and times of all files."""
        lines = [f"{file.name}\0{file.size}\0{file.changed}\n" for file in self.files]
        lines += [f"{file.name}\0{file.reason}\n" for file in self.bad]
        return hashlib.sha256("".join(lines).encode()).hexdigest()


@dataclass
class _Walk:
    root: Path
    follow_links: bool
    files: list[ImageFile] = field(default_factory=list)
    bad: list[BadFile] = field(default_factory=list)
    ignored: int = 0
    links: list[str] = field(default_factory=list)
    visited: set[Path] = field(default_factory=set)


def list_files(root: Path, *, follow_links: bool = False) -> Listing:
    """All files below a folder, except hidden ones, and those that links lead to. Nothing is opened.

    A link to a folder outside is followed only where asked: then once, and not if it leads to a folder that contains
    this one. A link into this folder is never followed, since what it leads to is read anyway.
    """
    walk = _Walk(root.resolve(), follow_links)
    folders = [walk.root]
    while folders:
        folders.extend(_look_into(folders.pop(), walk))
    walk.files.sort(key=lambda file: file.name)
    walk.bad.sort(key=lambda file: file.name)
    return Listing(tuple(walk.files), tuple(walk.bad), walk.ignored, tuple(sorted(walk.links)))


def _look_into(folder: Path, walk: _Walk) -> Iterator[Path]:
    """Note the files of one folder and yield its subfolders."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        walk.bad.append(BadFile(_name(folder, walk.root), f"the folder cannot be opened: {_reason(error)}"))
        return
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith(".") or entry.name.lower() in CLUTTER:
            walk.ignored += 1
        elif _is_folder(entry):
            if _is_new(path, walk, is_link=entry.is_symlink()):
                yield path
        else:
            _note(path, entry, walk)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _is_new(folder: Path, walk: _Walk, *, is_link: bool) -> bool:
    if not is_link:
        return True
    target = folder.resolve()
    if target in walk.visited or target.is_relative_to(walk.root) or walk.root.is_relative_to(target):
        return False
    if not walk.follow_links:
        walk.links.append(_name(folder, walk.root))
        return False
    walk.visited.add(target)
    return True


def _note(path: Path, entry: os.DirEntry[str], walk: _Walk) -> None:
    name = _name(path, walk.root)
    try:
        if not entry.is_file():  # a pipe or a device would block whoever opens it
            if entry.is_symlink():
                walk.bad.append(BadFile(name, "the link leads nowhere"))
            else:
                walk.ignored += 1
            return
        state = entry.stat()
    except OSError as error:
        walk.bad.append(BadFile(name, _reason(error)))
        return
    walk.files.append(ImageFile(name, path, state.st_size, state.st_mtime_ns))


def _name(path: Path, root: Path) -> str:
    """The relative name, printable even where the file system holds bytes that are no text."""
    return path.relative_to(root).as_posix().encode("utf-8", "backslashreplace").decode()


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
