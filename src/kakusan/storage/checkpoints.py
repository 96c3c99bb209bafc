"""Checkpoints: whole or not there, whatever happens; checked when they are read, and never unpickled.

A checkpoint is a folder ``step-00001200`` with one ``.safetensors`` file for each part (model, ema,
optimizer), ``state.json``, and ``manifest.json`` with the size and the SHA-256 of each of the others.
It is written under a temporary name; once it is on the disk it is renamed, and only then do old ones go.

A folder of checkpoints has one writer at a time (``RunFolder.lock`` sees to that) and any number of readers.
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from kakusan.errors import NumbersError, RunError
from kakusan.storage import durable
from kakusan.storage.durable import Written
from kakusan.storage.manifest import (
    MANIFEST,
    STATE,
    NewerFormat,
    check_file,
    folder_name,
    json_bytes,
    manifest,
    parse_state,
    part_name,
    read_file,
    read_manifest,
    step_of,
)

FINITE_PARTS = ("model", "ema")
LEFTOVERS = (".writing-*", ".doomed-*")


@dataclass(frozen=True)
class Checkpoint:
    """A training between two steps."""

    step: int
    """Training steps that are finished."""
    tensors: Mapping[str, Mapping[str, Tensor]]
    """Part ("model", "ema", "optimizer", ...) -> name -> tensor. Memory formats and sharing are not kept."""
    state: Mapping[str, Any]
    """All else, as JSON; when loaded, "step" is among it."""


def listed(folder: Path) -> list[Path]:
    """The checkpoints by their names, the newest first; nothing is said about their health."""
    found = []
    for path in folder.glob("step-*"):
        with suppress(ValueError):  # a stranger
            found.append((step_of(path), path))
    return [path for _, path in sorted(found, reverse=True)]


# Writing


def save(
    folder: Path,
    checkpoint: Checkpoint,
    *,
    keep: int | None = 2,
    keep_every: int | None = None,
    spared: Collection[int] = (),
) -> Path:
    """Write a checkpoint; then drop what is older than the newest ``keep`` good ones (None: all stay), except for the
    steps that ``keep_every`` divides and those that are ``spared``.

    A step that is there already, and good, stays as it is: in one run, the step decides the weights.
    Raises NumbersError where a weight is not finite, RunError where the disk refuses; nothing is lost then.
    """
    if keep is not None and keep < 1:
        raise ValueError("at least one checkpoint must stay")
    refuse_what_is_not_finite(checkpoint)
    path = folder / folder_name(checkpoint.step)
    with durable.os_errors_as_run_errors(f"cannot save {path}", folder, needed=_size(checkpoint)):
        durable.make_folders(folder)
        _sweep(folder)
        if not _is_good(path):
            _write(path, checkpoint)
    if keep is not None:
        with suppress(OSError):  # on Windows, while someone reads there; a later save drops it
            _prune(folder, path, keep, keep_every, spared)
    return path


def refuse_what_is_not_finite(checkpoint: Checkpoint) -> None:
    """Raise NumbersError at a weight that holds a NaN or an infinity: such weights are never saved."""
    for part in FINITE_PARTS:
        for name, tensor in checkpoint.tensors.get(part, {}).items():
            if not torch.isfinite(tensor).all():
                raise NumbersError(
                    f"{part} weights are not finite after step {checkpoint.step}: {name}",
                    "they were not saved; earlier checkpoints stay as they are",
                )


def _size(checkpoint: Checkpoint) -> int:
    return sum(tensor.nbytes for part in checkpoint.tensors.values() for tensor in part.values())


def _write(path: Path, checkpoint: Checkpoint) -> None:
    unfinished = durable.temporary(path)
    try:
        _fill(unfinished, checkpoint)
        if path.exists():  # a bad one of the same step: nothing good is lost with it
            _doom(path)
        durable.rename(unfinished, path)
    except BaseException:
        with suppress(OSError):
            durable.remove_tree(unfinished)
        raise
    durable.sync_folder(path.parent)
    _known_good[path.resolve()] = _fingerprint(path)


def _fill(folder: Path, checkpoint: Checkpoint) -> None:
    durable.make_folder(folder)
    entries: dict[str, Written] = {}
    for part, tensors in checkpoint.tensors.items():
        name = part_name(part)
        entries[name] = durable.write_new(folder / name, [_tensor_file(tensors)])
    state = {**checkpoint.state, "step": checkpoint.step}
    entries[STATE] = durable.write_new(folder / STATE, [json_bytes(state)])
    durable.write_new(folder / MANIFEST, [json_bytes(manifest(checkpoint.step, entries))])
    durable.sync_folder(folder)


def _tensor_file(tensors: Mapping[str, Tensor]) -> bytes:
    """The content of a .safetensors file. Copies, since the format has neither layout nor sharing."""
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    return safetensors.torch.save(plain)


# Dropping old ones


def _sweep(folder: Path) -> None:
    """Remove what dead writers left. There is no living one: a folder of checkpoints has one writer, this process."""
    for pattern in LEFTOVERS:
        for leftover in folder.glob(pattern):
            with suppress(OSError):
                durable.remove_tree(leftover)


def _prune(folder: Path, saved: Path, keep: int, keep_every: int | None, spared: Collection[int]) -> None:
    good = 0
    for path in listed(folder):
        if good < keep:
            good += _is_good(path)  # a bad one does not count, so that ``keep`` good ones stay
        elif path != saved and not _stays(step_of(path), keep_every, spared):
            _doom(path)


def _stays(step: int, keep_every: int | None, spared: Collection[int]) -> bool:
    return step in spared or (bool(keep_every) and step % int(keep_every or 1) == 0)


def drop_after(folder: Path, step: int) -> None:
    """Remove the checkpoints of later steps, the last first, and what dead writers left.

    Raises OSError where the disk refuses; what is still there is whole.
    """
    _sweep(folder)
    for path in listed(folder):
        if step_of(path) > step:
            _doom(path)


def _doom(path: Path) -> None:
    """Remove a checkpoint: first its name, for good, so that half of one never bears it."""
    doomed = path.with_name(f".doomed-{path.name}-{os.getpid()}")
    _known_good.pop(path.resolve(), None)
    durable.rename(path, doomed)
    durable.sync_folder(path.parent)
    durable.remove_tree(doomed)


# Spares each save a second reading of older ones: what this process wrote or verified is good as long as its
# names, sizes, times and inodes stay. (The reading would be answered from memory, and see no rot, anyway.)
_Fingerprint = tuple[tuple[str, int, int, int], ...]
_known_good: dict[Path, _Fingerprint] = {}


def _fingerprint(path: Path) -> _Fingerprint:
    stats = [(file.name, file.stat()) for file in sorted(path.iterdir())]
    return tuple((name, stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in stats)


def _is_good(path: Path) -> bool:
    if not path.is_dir():
        return False
    seen = _fingerprint(path)
    if _known_good.get(path.resolve()) != seen:
        if verify(path):
            return False
        _known_good[path.resolve()] = seen
    return True


# Reading


def verify(path: Path) -> list[str]:
    """The faults of a checkpoint, file by file; none, if it is good. All of it is read."""
    try:
        return _faults(path)
    except NewerFormat as error:
        return [error.problem]


def _faults(path: Path) -> list[str]:
    """The same. Raises NewerFormat."""
    try:
        entries = read_manifest(path)
    except ValueError as error:
        return [str(error)]
    faults = []
    for name in entries:
        try:
            check_file(path, name, entries)
        except ValueError as error:
            faults.append(str(error))
    return faults


def newest(folder: Path, complain: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that verifies; each newer one that does not is named through ``complain``.

    Raises NewerFormat, rather than to pass over what a newer version wrote.
    """
    for path in listed(folder):
        faults = _faults(path)
        if not faults:
            return path
        complain(f"{path} is damaged: {'; '.join(faults)}")
    return None


def load_newest(
    folder: Path,
    complain: Callable[[str], None],
    device: torch.device | str = "cpu",
    parts: Sequence[str] | None = None,
) -> Checkpoint | None:
    """The newest checkpoint whose wanted parts are good, read once; each newer one that is not is named.

    Raises NewerFormat, rather than to pass over what a newer version wrote.
    """
    for path in listed(folder):
        try:
            return load(path, device, parts)
        except NewerFormat:
            raise
        except RunError as error:
            complain(error.problem)
    return None


def load(path: Path, device: torch.device | str = "cpu", parts: Sequence[str] | None = None) -> Checkpoint:
    """Read a checkpoint, or some parts of it, in one reading; what is read is checked against the manifest.

    Raises RunError where it is damaged or lacks a part. Each file is held whole while it is taken apart.
    """
    try:
        entries = read_manifest(path)
        if parts is None:
            parts = [name.removesuffix(".safetensors") for name in entries if name != STATE]
        state = parse_state(read_file(path, STATE, entries), step_of(path))
        tensors = {part: dict(_tensors(path, part, entries, device)) for part in parts}
    except ValueError as error:
        raise RunError(f"{path} cannot be loaded: {error}") from error
    return Checkpoint(step_of(path), tensors, state)


def _tensors(
    path: Path, part: str, entries: Mapping[str, Written], device: torch.device | str
) -> Iterator[tuple[str, Tensor]]:
    data = read_file(path, part_name(part), entries)
    try:
        for name, tensor in safetensors.torch.load(data).items():
            yield name, tensor.to(device)
    except (safetensors.SafetensorError, KeyError) as error:
        raise ValueError(f"{part}.safetensors is no safetensors file ({error})") from error
