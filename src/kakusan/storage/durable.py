"""Writes that a kill or a power cut leaves either whole or undone.

Whatever changes a run folder passes through the eight operations below: the tests record them, stop a process
at each of them, and drop what a power cut would drop between them.
"""

import errno
import hashlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from kakusan.errors import RunError

OPERATIONS = ("make_folder", "open_file", "write", "sync", "sync_folder", "rename", "remove", "remove_folder")
NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def make_folder(path: Path) -> None:
    path.mkdir()


def open_file(path: Path, mode: str) -> FileIO:
    """Open to write, unbuffered: "xb" a new file, "wb" an empty one, "ab" to append, "r+b" to change."""
    return FileIO(path, mode.replace("b", ""))


def write(file: FileIO, data: bytes | memoryview) -> None:
    left = memoryview(data)
    while left:  # one call to the system writes 2 GiB at most
        left = left[file.write(left) or 0 :]


def sync(file: FileIO) -> None:
    """Come back once the content of the file is on the disk itself."""
    if sys.platform == "darwin":
        import fcntl

        with suppress(OSError):  # fsync alone stops at the cache of the drive on macOS
            fcntl.fcntl(file, fcntl.F_FULLFSYNC)
            return
    os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Come back once the names in the folder are on the disk itself."""
    if sys.platform == "win32":  # a folder cannot be opened there; NTFS journals its names
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # file systems that know no fsync of a folder
            raise
    finally:
        os.close(descriptor)


def rename(old: Path, new: Path) -> None:
    """One name for another, at once; a file in the way is replaced."""
    old.replace(new)


def remove(path: Path) -> None:
    path.unlink()


def remove_folder(path: Path) -> None:
    path.rmdir()


@dataclass(frozen=True)
class Written:
    """The size of a file in bytes, and the SHA-256 of its content."""

    size: int
    sha256: str


def write_new(path: Path, pieces: Iterable[bytes | memoryview], mode: str = "xb") -> Written:
    """A new file, on the disk when this returns; hashed on the way, so that nothing is read again."""
    size, digest = 0, hashlib.sha256()
    with open_file(path, mode) as file:
        for piece in pieces:
            write(file, piece)
            digest.update(piece)
            size += memoryview(piece).nbytes
        sync(file)
    return Written(size, digest.hexdigest())


def sha256_of(path: Path) -> str:
    """The hash of a file, in hexadecimal digits. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def temporary(path: Path) -> Path:
    """The name under which this process writes what is to become ``path``."""
    return path.with_name(f".writing-{path.name}-{os.getpid()}")


def atomic_write(path: Path, data: bytes) -> None:
    """The new content or the old one, whatever happens meanwhile."""
    atomic_writes([(path, data)])


def atomic_writes(files: Iterable[tuple[Path, bytes]]) -> None:
    """Several files that belong together: all are on the disk before the first replaces an older one of its name.

    A crash amidst the replacing leaves some new and some old ones, each of them whole.
    """
    paths: list[Path] = []
    try:
        for path, data in files:
            paths.append(path)
            write_new(temporary(path), [data], "wb")  # over what a dead process of our number may have left
        for path in paths:
            rename(temporary(path), path)
    except BaseException:
        for path in paths:
            with suppress(OSError):
                remove(temporary(path))
        raise
    for folder in dict.fromkeys(path.parent for path in paths):
        sync_folder(folder)


def sweep_unfinished(folder: Path, pattern: str) -> None:
    """Remove what killed processes left half written of the files that match, such as "*.png"."""
    for leftover in folder.glob(f".writing-{pattern}-*"):
        number = leftover.name.rpartition("-")[2]
        if number.isdecimal() and not _is_alive(int(number)):
            with suppress(OSError):
                remove(leftover)


def append_line(path: Path, line: bytes) -> None:
    """One more line; not synced, since figures may come many times a second (see ``sync_file``)."""
    with open_file(path, "ab") as file:
        write(file, line + b"\n")


def sync_file(path: Path) -> None:
    """Bring to the disk what was appended to a file, and its name; a file that is not there needs nothing."""
    if path.exists():
        with open_file(path, "r+b") as file:
            sync(file)
        sync_folder(path.parent)


def make_folders(path: Path) -> None:
    """The folder and the folders above it, each one's name on the disk."""
    if path.is_dir():
        return
    make_folders(path.parent)
    with suppress(
        FileExistsError
    ):  # made by another process since; a file of that name fails later, with its name
        make_folder(path)
    sync_folder(path.parent)


def require_place(*files: Path) -> None:
    """Raises RunError where no file can be made under one of these paths. Requested before the work; makes nothing."""
    for file in files:
        if file.is_dir():
            raise RunError(f"cannot write {file}: it is a folder", "name another file")
        folder = file.parent
        while not os.path.lexists(folder):
            folder = folder.parent
        if not folder.is_dir():
            raise RunError(f"cannot write {file}: {folder} is no folder", "name another place")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise RunError(f"cannot write {file}: no file can be made in {folder}", "name another place")


@contextmanager
def whole_folder(target: Path, mark: str) -> Iterator[Path]:
    """A folder to fill, which becomes ``target`` at the end of the block, or is gone if the block fails.

    What killed processes left of the same work is removed first.
    """
    make_folders(target.parent)
    _sweep(target, mark)
    unfinished = target.with_name(f".{mark}-{target.name}-{os.getpid()}")
    try:
        make_folder(unfinished)
        yield unfinished
        rename(unfinished, target)
    except BaseException:
        with suppress(OSError):
            remove_tree(unfinished)
        raise
    sync_folder(target.parent)


def _sweep(target: Path, mark: str) -> None:
    for leftover in target.parent.iterdir():
        number = leftover.name.removeprefix(f".{mark}-{target.name}-")
        ours = number != leftover.name and number.isdecimal() and not leftover.is_symlink()
        if ours and not _is_alive(int(number)):
            remove_tree(leftover)


def _is_alive(process: int) -> bool:
    """Whether a process may still be at work; where one cannot ask, it may."""
    if process == os.getpid():
        return False  # an earlier one of our number
    if sys.platform == "win32":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def remove_tree(path: Path) -> None:
    """A folder and all in it. Not atomic: give it a name that means nothing first."""
    if path.is_symlink():
        raise NotADirectoryError(errno.ENOTDIR, "it is a link, and what it points to is not ours", str(path))
    for child in path.iterdir():
        if child.is_dir() and not child.is_symlink():
            remove_tree(child)
        else:
            remove(child)
    remove_folder(path)


@contextmanager
def os_errors_as_run_errors(problem: str, folder: Path, needed: int | None = None) -> Iterator[None]:
    """Turn the system's refusals into a RunError that says what was not done, and why."""
    try:
        yield
    except OSError as error:
        advice = _about_room(folder, needed) if error.errno in NO_ROOM else ()
        raise RunError(f"{problem}: {error.strerror or error}", *advice) from error


def _about_room(folder: Path, needed: int | None) -> tuple[str, ...]:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    need = "" if needed is None else f"about {needed:,} bytes are needed, "
    return (f"{need}{free:,} bytes are free in {folder}", "make room there (or raise the limit, ulimit -f)")
