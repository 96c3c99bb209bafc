"""A pickled state dict from a stranger gives its tensors, and nothing else that it holds ever happens."""

import os
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kakusan.errors import ModelError
from kakusan.storage import unpickling
from kakusan.storage.unpickling import read_bin

ZEROS = 5 << 28  # bytes; more than the gigabyte of addresses that a small file is granted


class Shell:
    """Unpickled by an unwary reader, it runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


def saved(path: Path, content: object, *, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def refusal(path: Path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        read_bin(path)
    assert str(path) in caught.value.problem
    assert "\n" not in caught.value.problem
    assert len(str(caught.value)) < 600, "no traceback, and none of torch's pages of advice"
    return caught.value


def weights() -> dict[str, Tensor]:
    """A state dict as torch makes it, with what safetensors does not take as it is: ties, views, a transpose."""
    state: dict[str, Tensor] = nn.Linear(3, 2).state_dict()
    state["tied"] = state["weight"]
    state["column"] = state["weight"][:, 1]
    state["transposed"] = state["weight"].T
    state["parameter"] = nn.Parameter(torch.randn(4))
    state["half"] = torch.randn(5).to(torch.bfloat16)
    state["count"] = torch.tensor(7)
    return state


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_the_tensors_come_out_as_they_went_in(tmp_path: Path, zipped: bool) -> None:
    expected = weights()
    assert isinstance(expected, OrderedDict)
    assert hasattr(expected, "_metadata")
    found = read_bin(saved(tmp_path / "a file.bin", expected, zipped=zipped))
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype
    found["tied"].zero_()  # writable, and of one's own


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_code_in_a_file_is_named_and_never_run(tmp_path: Path, zipped: bool) -> None:
    marker = tmp_path / "marker"
    error = refusal(
        saved(tmp_path / "evil.bin", {"w": torch.ones(2), "x": Shell(f"touch {marker}")}, zipped=zipped)
    )
    assert not marker.exists()
    assert "holds more than tensors" in error.problem
    assert f"{os.system.__module__}.system" in error.problem
    assert "safetensors" in error.advice[0]


def test_a_file_cut_short_is_told(tmp_path: Path) -> None:
    path = saved(tmp_path / "cut.bin", weights())
    path.write_bytes(path.read_bytes()[:-200])
    error = refusal(path)
    assert "not a whole one" in error.problem
    assert "download it again" in str(error)


def test_a_text_is_no_pytorch_file(tmp_path: Path) -> None:
    path = tmp_path / "text.bin"
    path.write_text("version https://git-lfs.github.com/spec/v1\n", "utf-8")
    assert "no PyTorch file" in refusal(path).problem


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({}, "holds no tensors"),
        ({"model": {"w": torch.ones(2)}}, "no flat table of plain tensors: see 'model'"),
        ({"w": torch.eye(2).to_sparse()}, "no flat table of plain tensors: see 'w'"),
        ([torch.ones(2)], "no table of tensors: it holds a list"),
        ({"w": torch.zeros(1).expand(1 << 20, 1 << 20)}, "unfolds to far more"),
    ],
    ids=["empty", "nested", "sparse", "list", "one number 2^40 times"],
)
def test_only_a_flat_table_of_plain_tensors_is_taken(content: object, why: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "other.bin", content)
    with pytest.raises(ModelError, match=why):  # the child's own words, without the seconds of a process
        unpickling._checked(unpickling._loaded(path), path)


def test_a_zip_that_unfolds_to_a_gigabyte_meets_the_limits(tmp_path: Path) -> None:
    small, bomb = saved(tmp_path / "small.bin", {"w": torch.zeros(4)}), tmp_path / "bomb.bin"
    with (
        zipfile.ZipFile(small) as old,
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
    ):
        for entry in old.infolist():
            if not entry.filename.endswith("data/0"):
                new.writestr(entry.filename, old.read(entry))
                continue
            with new.open(entry.filename, "w", force_zip64=True) as zeros:
                for _ in range(ZEROS >> 24):
                    zeros.write(bytes(1 << 24))
    assert bomb.stat().st_size < ZEROS / 100
    assert "unfolds to far more" in refusal(bomb).problem


def test_a_child_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpickling, "PATIENCE", 0.05)
    monkeypatch.setattr(unpickling, "PACE", float("inf"))
    assert "was not read within 0.05 seconds" in refusal(saved(tmp_path / "slow.bin", weights())).problem


def test_the_words_of_a_child_that_died_are_cut_and_cleaned() -> None:
    for code, how in {
        -9: "by signal 9",
        1: "with exit code 1",
        unpickling.REFUSED: "with exit code 3",
    }.items():
        said = BytesIO(b"first\n\x1b[2J" + b"last" * 10_000)
        error = unpickling._verdict(Path("some.bin"), code, said)
        assert f"some.bin was not read: the process that opened it ended {how}" in error.problem
        assert len(str(error)) < 600
        assert "\x1b" not in str(error)
        assert "first" not in str(error)


def test_a_child_knows_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    known = unpickling._environment(tmp_path)
    assert "hf_secret" not in known.values()
    assert known["HOME"] == str(tmp_path)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="addresses are counted on Linux")
def test_the_limits_grow_with_the_file_and_leave_no_core(tmp_path: Path) -> None:
    path = tmp_path / "some.bin"
    path.write_bytes(bytes(3000))
    script = (
        "import resource, pathlib, sys; from kakusan.storage import unpickling as u; "
        "u._limit(pathlib.Path(sys.argv[1])); "
        "print(*(resource.getrlimit(getattr(resource, 'RLIMIT_' + n))[1] for n in 'CORE FSIZE CPU AS'.split()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    core, size, seconds, addresses = map(int, done.stdout.split())
    assert core == 0
    assert size == 2 * 3000 + 16 * 2**20
    assert 120 <= seconds < 300
    assert 2**30 < addresses < 2**40


def test_what_is_not_there_starts_no_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere")
    assert "is not a file" in refusal(tmp_path / "missing.bin").problem
    assert "is not a file" in refusal(tmp_path).problem
