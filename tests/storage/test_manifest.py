"""What is wrong with a checkpoint is found, named and passed over."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from kakusan.errors import RunError
from kakusan.storage.checkpoints import Checkpoint, load, load_newest, newest, save, verify

PARTS = ("model", "ema", "optimizer")
FILES = (*(f"{part}.safetensors" for part in PARTS), "state.json", "manifest.json")


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two good checkpoints, of steps 1 and 2."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # 4 ms each, and no power cut here
    for step in (1, 2):
        tensors = {part: {"weight": torch.full((3,), float(step))} for part in PARTS}
        save(tmp_path, Checkpoint(step, tensors, {"name": "拡散"}))
    return tmp_path


def fail(text: str) -> None:
    raise AssertionError(text)


def rewrite_manifest(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((path / "manifest.json").read_bytes())
    change(content)
    (path / "manifest.json").write_text(json.dumps(content))


def disguise_a_pickle(path: Path) -> None:
    """A pickle under the name of the weights, with a manifest to match: nothing but its kind gives it away."""
    data = pickle.dumps({"weight": [1.0]})
    (path / "model.safetensors").write_bytes(data)
    entry = {"bytes": len(data), "sha256": sha256(data).hexdigest()}
    rewrite_manifest(path, lambda content: content["files"].update({"model.safetensors": entry}))


def state_of_another_step(path: Path) -> None:
    data = b'{"step": 1}'
    (path / "state.json").write_bytes(data)
    entry = {"bytes": len(data), "sha256": sha256(data).hexdigest()}
    rewrite_manifest(path, lambda content: content["files"].update({"state.json": entry}))


def make_a_folder_of_the_state(path: Path) -> None:
    (path / "state.json").unlink()
    (path / "state.json").mkdir()


def make_a_file_of_the_checkpoint(path: Path) -> None:
    shutil.rmtree(path)
    path.write_bytes(b"")


def escape(path: Path) -> None:
    entry = {"bytes": 0, "sha256": sha256(b"").hexdigest()}
    rewrite_manifest(path, lambda content: content["files"].update({"../../model.safetensors": entry}))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a manifest without a file": (
        lambda path: rewrite_manifest(path, lambda content: content["files"].pop("ema.safetensors")),
        "ema.safetensors is not in manifest.json",
    ),
    "a file too many": (
        lambda path: shutil.copy(path / "model.safetensors", path / "more.safetensors"),
        "more.safetensors is not in manifest.json",
    ),
    "a manifest of another format": (
        lambda path: rewrite_manifest(path, lambda content: content.update(format=0)),
        "manifest.json is of another step or format",
    ),
    "a manifest of another step": (
        lambda path: rewrite_manifest(path, lambda content: content.update(step=3)),
        "manifest.json is of another step or format",
    ),
    "a size that is a word": (
        lambda path: rewrite_manifest(
            path, lambda content: content["files"]["state.json"].update(bytes="12")
        ),
        "manifest.json is of another step or format",
    ),
    "a manifest that is a list": (
        lambda path: (path / "manifest.json").write_text("[]"),
        "manifest.json cannot be understood",
    ),
    "a manifest that leads outside": (escape, "manifest.json names '../../model.safetensors'"),
    "a disguised pickle": (disguise_a_pickle, "model.safetensors is no safetensors file"),
    "a state of another step": (state_of_another_step, "state.json is of another step"),
    "a folder in place of a file": (make_a_folder_of_the_state, "state.json: "),
    "a file in place of the checkpoint": (make_a_file_of_the_checkpoint, "manifest.json: "),
}


def assert_is_found(folder: Path, fault: str) -> None:
    """Found by ``verify``, named by ``newest`` and ``load``, passed over for step 1."""
    path = folder / "step-00000002"
    assert any(fault in found for found in verify(path)), verify(path)
    complaints: list[str] = []
    assert newest(folder, complaints.append) == folder / "step-00000001"
    found = load_newest(folder, complaints.append)
    assert found is not None
    assert found.step == 1
    assert all(str(path) in complaint and fault in complaint for complaint in complaints)
    assert len(complaints) == 2
    with pytest.raises(RunError, match="step-00000002 cannot be loaded"):
        load(path)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_named_and_passed_over(name: str, two: Path) -> None:
    break_it, fault = FAULTS[name]
    break_it(two / "step-00000002")
    assert_is_found(two, fault)


def test_a_checkpoint_of_a_newer_version_is_no_damage_and_not_passed_over(two: Path) -> None:
    rewrite_manifest(two / "step-00000002", lambda content: content.update(format=2))
    for ask in (newest, load_newest):
        with pytest.raises(RunError, match=r"step-00000002 was made by a newer kakusan") as error:
            ask(two, fail)
        assert error.value.advice == ("upgrade: pip install --upgrade kakusan",)


def test_a_manifest_of_too_many_brackets_is_damage(two: Path) -> None:
    (two / "step-00000002" / "manifest.json").write_text("[" * 200_000)
    assert_is_found(two, "manifest.json cannot be understood")


@pytest.mark.parametrize("file", FILES)
def test_a_missing_a_cut_and_a_grown_file_are_found(file: str, two: Path) -> None:
    path = two / "step-00000002" / file
    content = path.read_bytes()
    for wrong in (content[:-2], content[: len(content) // 2], b"", b"\0" * len(content), content + b"more"):
        path.write_bytes(wrong)
        assert_is_found(two, file)
    path.unlink()
    assert_is_found(two, f"{file}: ")


@pytest.mark.parametrize("file", FILES[:-1])
def test_any_flipped_bit_is_found(file: str, two: Path) -> None:
    path = two / "step-00000002" / file
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        assert verify(path.parent) == [
            f"{file} is not what was written: its SHA-256 is not the one in manifest.json"
        ]
    assert_is_found(two, file)


def test_a_flipped_bit_in_the_manifest_is_found_or_harmless(two: Path) -> None:
    path = two / "step-00000002" / "manifest.json"
    content = path.read_bytes()
    found = 0
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        if verify(path.parent):
            found += 1
        else:  # white space
            assert json.loads(flipped) == json.loads(content)
    assert found > 0.6 * len(content)


def test_files_of_the_desktop_do_no_harm(two: Path) -> None:
    for name in (".DS_Store", "Thumbs.db", "notes.txt"):
        (two / "step-00000002" / name).write_bytes(b"")
    assert newest(two, fail) == two / "step-00000002"
