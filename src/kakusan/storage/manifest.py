"""The manifest of a checkpoint: what each of its files has to hold, and whether it does.

``manifest.json`` is written last. It is trusted only if it is exactly as written here, and a file only if its
size and its SHA-256 are the manifest's. A ValueError says what is wrong; its catcher, with which checkpoint.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors

from kakusan.errors import RunError
from kakusan.storage.durable import Written

MANIFEST = "manifest.json"
STATE = "state.json"
FORMAT = 1


class NewerFormat(RunError):  # noqa: N818 (nothing is wrong with it)
    """A checkpoint of a newer version."""


_FILE_NAME = re.compile(r"state\.json|[a-z][a-z0-9_]*\.safetensors")


def folder_name(step: int) -> str:
    return f"step-{step:08d}"


def step_of(path: Path) -> int:
    """The step in the name of a checkpoint; ValueError if it is the name of something else."""
    step = path.name.removeprefix("step-")
    if not step.isdecimal() or path.name != folder_name(int(step)):
        raise ValueError(f"{path.name} is no name of a checkpoint")
    return int(step)


def part_name(part: str) -> str:
    """The file of a part ("model"); ValueError if it cannot be one."""
    name = f"{part}.safetensors"
    if not _FILE_NAME.fullmatch(name):
        raise ValueError(f"{part!r} is no name for a part of a checkpoint")
    return name


def json_bytes(content: Any) -> bytes:
    """JSON for people and machines; ValueError for NaN, which JSON does not have."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode(
        "utf-8", "backslashreplace"
    )  # half a surrogate, of a strange file name, becomes its \u escape


def manifest(step: int, entries: Mapping[str, Written]) -> dict[str, Any]:
    files = {name: {"bytes": file.size, "sha256": file.sha256} for name, file in entries.items()}
    return {"format": FORMAT, "step": step, "files": files}


def read_manifest(path: Path) -> dict[str, Written]:
    """Size and hash that each file of a checkpoint has to have; ValueError if they cannot be known.

    Raises NewerFormat where a newer version wrote it.
    """
    step = step_of(path)
    try:
        content = json.loads((path / MANIFEST).read_bytes())
        _refuse_what_is_newer(path, content["format"])
        entries = {
            name: Written(int(file["bytes"]), str(file["sha256"])) for name, file in content["files"].items()
        }
    except OSError as error:
        raise ValueError(f"{MANIFEST}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{MANIFEST} cannot be understood") from error
    if content != manifest(step, entries) or STATE not in entries:
        raise ValueError(f"{MANIFEST} is of another step or format")
    if strange := [name for name in entries if not _FILE_NAME.fullmatch(name)]:
        raise ValueError(f"{MANIFEST} names {strange[0]!r}, which is no file of a checkpoint")
    if extra := [file.name for file in sorted(path.glob("*.safetensors")) if file.name not in entries]:
        raise ValueError(f"{extra[0]} is not in {MANIFEST}")
    return entries


def _refuse_what_is_newer(path: Path, found: Any) -> None:
    """Raise NewerFormat for what a newer version wrote: it is not damaged, and nothing is done behind its back."""
    if type(found) is int and found > FORMAT:
        raise NewerFormat(
            f"{path} was made by a newer kakusan (format {found}, known here: {FORMAT})",
            "upgrade: pip install --upgrade kakusan",
        )


def read_file(path: Path, name: str, entries: Mapping[str, Written]) -> bytes:
    """The content of one file of a checkpoint, checked; ValueError if it is not what the manifest says."""
    if name not in entries:
        raise ValueError(f"it has no {name}, only {', '.join(entries)}")
    try:
        data = (path / name).read_bytes()
    except OSError as error:
        raise ValueError(f"{name}: {error.strerror or error}") from error
    _compare(name, Written(len(data), hashlib.sha256(data).hexdigest()), entries[name])
    return data


def check_file(path: Path, name: str, entries: Mapping[str, Written]) -> None:
    """ValueError if a file is not what the manifest and its own name say. It is not held whole in memory."""
    file = path / name
    try:
        with file.open("rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        _compare(name, Written(file.stat().st_size, sha256), entries[name])
        if name == STATE:
            parse_state(file.read_bytes(), step_of(path))
        else:
            with safetensors.safe_open(file, "pt"):  # reads and checks the header
                pass
    except OSError as error:
        raise ValueError(f"{name}: {error.strerror or error}") from error
    except safetensors.SafetensorError as error:
        raise ValueError(f"{name} is no safetensors file ({error})") from error


def parse_state(data: bytes, step: int) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads(data)
        if state["step"] == step:
            return state
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{STATE} cannot be understood") from error
    raise ValueError(f"{STATE} is of another step")


def _compare(name: str, found: Written, expected: Written) -> None:
    if found.size != expected.size:
        raise ValueError(f"{name} has {found.size:,} bytes where {MANIFEST} says {expected.size:,}")
    if found.sha256 != expected.sha256:
        raise ValueError(f"{name} is not what was written: its SHA-256 is not the one in {MANIFEST}")
