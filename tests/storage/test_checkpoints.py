import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

from kakusan.errors import NumbersError, RunError
from kakusan.storage import checkpoints
from kakusan.storage.checkpoints import Checkpoint, load, newest, save, verify

PARTS = ("model", "ema", "optimizer")


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # 4 ms each, and no power cut here


def checkpoint(step: int) -> Checkpoint:
    tensors = {part: {"weight": torch.full((3,), float(step)), "bias": torch.ones(1)} for part in PARTS}
    return Checkpoint(step, tensors, {"step": step, "seed": 0, "name": "拡散"})


def steps(folder: Path) -> list[int]:
    return [int(path.name[5:]) for path in reversed(checkpoints.listed(folder))]


def replace_content(file: Path, content: bytes) -> None:
    """New content in a new file: two writes within one tick of the clock must not look alike."""
    file.unlink()
    file.with_name("other").write_bytes(content)
    file.with_name("other").rename(file)


def damage(path: Path) -> None:
    replace_content(path / "model.safetensors", b"rotten")


def fail(text: str) -> None:
    raise AssertionError(text)


def test_where_all_are_to_stay_none_goes_but_those_after_a_step(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        save(tmp_path, checkpoint(step), keep=None)
    assert steps(tmp_path) == [1, 2, 3, 4]
    damage(tmp_path / "step-00000002")
    (tmp_path / ".doomed-step-00000001-1").mkdir()
    checkpoints.drop_after(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]
    checkpoints.drop_after(tmp_path / "none", 0)


# What is saved is what is loaded

DTYPES = st.sampled_from(
    [
        torch.float64,
        torch.float32,
        torch.bfloat16,
        torch.float16,
        torch.int64,
        torch.int32,
        torch.uint8,
        torch.bool,
    ]
)
SHAPES = st.lists(st.integers(0, 4), max_size=4)
NAMES = st.text(st.characters(codec="utf-8"), max_size=8)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda value: st.lists(value, max_size=3) | st.dictionaries(st.text(), value, max_size=3),
    max_leaves=6,
)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Any dtype and shape, zero dimensions and zero elements too; at times a view with strange strides."""
    dtype, shape = draw(DTYPES), draw(SHAPES)
    count = torch.Size(shape).numel()
    values = torch.tensor(draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)))
    tensor = values.reshape(shape).to(dtype)
    return tensor.permute(*draw(st.permutations(range(len(shape))))) if shape else tensor


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    weights=st.dictionaries(NAMES, tensors(), max_size=4), state=st.dictionaries(st.text(), JSON, max_size=4)
)
def test_what_is_saved_is_loaded(
    weights: dict[str, Tensor], state: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("run")
    loaded = load(save(folder, Checkpoint(7, {"model": weights, "optimizer": weights}, state)))
    assert (loaded.step, loaded.state) == (7, {**state, "step": 7})
    for part in ("model", "optimizer"):
        assert loaded.tensors[part].keys() == weights.keys()
        for name, tensor in weights.items():
            found = loaded.tensors[part][name]
            assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
            assert torch.equal(found, tensor)


def test_views_shared_weights_and_channels_last_are_saved_by_their_values(tmp_path: Path) -> None:
    image = torch.arange(24.0).reshape(1, 2, 3, 4)
    weights = {
        "plain": image,
        "tied": image,
        "last": image.to(memory_format=torch.channels_last),
        "part": image[..., 1],
    }
    weights["parameter"] = torch.nn.Parameter(image[0])
    loaded = load(save(tmp_path, Checkpoint(1, {"model": weights}, {}))).tensors["model"]
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())


def test_only_the_wanted_parts_are_read(tmp_path: Path) -> None:
    path = save(tmp_path, checkpoint(1))
    damage(path)
    assert load(path, parts=["ema"]).tensors.keys() == {"ema"}
    with pytest.raises(RunError, match=r"has no strange\.safetensors, only model\.safetensors, ema"):
        load(path, parts=["strange"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["model", "ema"])
def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path, part: str, value: float) -> None:
    save(tmp_path, checkpoint(1))
    bad = checkpoint(2)
    bad.tensors[part]["weight"][1] = value
    with pytest.raises(NumbersError, match=f"{part} weights are not finite after step 2: weight"):
        save(tmp_path, bad)
    assert steps(tmp_path) == [1]


@pytest.mark.parametrize(
    ("strange", "error"),
    [
        (Checkpoint(2, {"../model": {}}, {}), ValueError),
        (Checkpoint(2, {"model": {"weight": torch.ones(1).to_sparse()}}, {}), Exception),
        (Checkpoint(2, {"model": {"weight": torch.ones(1, dtype=torch.complex128)}}, {}), KeyError),
        (Checkpoint(2, {"model": {}}, {"loss": float("nan")}), ValueError),
    ],
)
def test_what_cannot_be_saved_leaves_nothing(
    tmp_path: Path, strange: Checkpoint, error: type[Exception]
) -> None:
    save(tmp_path, checkpoint(1))
    with pytest.raises(error):
        save(tmp_path, strange)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


# Which ones stay


def test_the_newest_two_stay_and_those_that_keep_every_divides(tmp_path: Path) -> None:
    for step in range(1, 10):
        save(tmp_path, checkpoint(step), keep=2, keep_every=3)
    assert steps(tmp_path) == [3, 6, 8, 9]


def test_what_is_spared_stays_as_long_as_it_is(tmp_path: Path) -> None:
    for step in range(1, 7):
        save(tmp_path, checkpoint(step), keep=1, spared=(step // 4 * 4, 2))
    assert steps(tmp_path) == [2, 4, 6]


def test_a_damaged_checkpoint_does_not_count_among_those_that_stay(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, checkpoint(step))
    damage(tmp_path / "step-00000003")
    save(tmp_path, checkpoint(4))
    assert steps(tmp_path) == [2, 3, 4]
    save(tmp_path, checkpoint(5))
    assert steps(tmp_path) == [4, 5]


def test_what_was_just_saved_stays_though_newer_ones_are_there(tmp_path: Path) -> None:
    for step in (8, 9, 1):
        save(tmp_path, checkpoint(step))
    assert steps(tmp_path) == [1, 8, 9]


def test_a_step_that_is_there_stays_if_it_is_good_and_is_replaced_if_not(tmp_path: Path) -> None:
    path = save(tmp_path, checkpoint(1))
    written = (path / "manifest.json").stat()
    save(tmp_path, checkpoint(1))
    assert (path / "manifest.json").stat() == written
    damage(path)
    save(tmp_path, checkpoint(1))
    assert verify(path) == []
    assert len(list(tmp_path.iterdir())) == 1


def test_older_checkpoints_are_not_read_again_at_each_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, checkpoint(1))
    monkeypatch.setattr(checkpoints, "verify", fail)
    for step in (2, 3, 4):
        save(tmp_path, checkpoint(step))
    assert steps(tmp_path) == [3, 4]


def test_strangers_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    for name in ("step-1", "step-000000x1", "step--0000001", "notes", "step-000000001"):
        (tmp_path / name).mkdir()
    for step in (1, 2, 3):
        save(tmp_path, checkpoint(step))
    assert steps(tmp_path) == [2, 3]
    assert len(list(tmp_path.iterdir())) == 7


# Full disks


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a tiny disk")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_disk_is_told_and_loses_nothing(tiny_disk: Path) -> None:
    def sized(step: int, count: int) -> Checkpoint:
        return Checkpoint(step, {part: {"weight": torch.zeros(count)} for part in PARTS}, {})

    save(tiny_disk, sized(1, 10_000))
    save(tiny_disk, sized(2, 10_000))
    with pytest.raises(RunError, match="No space left on device") as caught:
        save(tiny_disk, sized(3, 90_000))
    assert caught.value.problem.startswith(f"cannot save {tiny_disk / 'step-00000003'}: ")
    assert caught.value.advice[0].startswith("about 1,080,000 bytes are needed, ")
    assert steps(tiny_disk) == [1, 2]
    assert len(list(tiny_disk.iterdir())) == 2
    assert newest(tiny_disk, fail) == tiny_disk / "step-00000002"
    save(tiny_disk, sized(3, 10_000))
    assert steps(tiny_disk) == [2, 3]
