"""Snapshots: early averaged weights that stay, and the weak model that they are in autoguidance."""

import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from goldens import run_kakusan
from tiny import TINY
from torch import nn

import kakusan as kk
from kakusan.config.resolve import resolve_snapshots
from kakusan.config.settings import CheckpointSettings
from kakusan.errors import RunError, SettingsError
from kakusan.storage import checkpoints
from kakusan.training.ema import EMA
from kakusan.training.guide import early_of
from kakusan.training.state import halved

STEPS = 8
OLD = Path(__file__).parents[1] / "old_runs"


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("snapshots") / "run"
    flags = ["--steps", str(STEPS), "--data.labels", "--checkpoint.every", "2", "--checkpoint.keep", "1"]
    run_kakusan(["train", data, "--run", folder, *TINY, *flags, "--checkpoint.snapshots", "1", "4", "8"])
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """Of the run, to be changed."""
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in folder.glob("snapshots/*/ema.safetensors")}


# What is kept


def test_auto_keeps_four_shares_of_the_training_from_step_100_on() -> None:
    def auto(steps: int) -> Any:
        return resolve_snapshots(CheckpointSettings(), steps).snapshots

    assert auto(16_000) == (1000, 2000, 4000, 8000)
    assert auto(1601) == (101, 201, 401, 801)  # each at least its share
    assert auto(400) == (100, 200)
    assert auto(199) == (100,)
    assert auto(198) == ()
    assert resolve_snapshots(CheckpointSettings(snapshots="none"), 16_000).snapshot_steps == ()
    with pytest.raises(SettingsError, match="count from 1: not 0"):
        CheckpointSettings(snapshots=(0,))


def test_they_stay_beside_the_checkpoints_and_take_an_eighth_of_the_space(run: Path) -> None:
    files = kk.Run.open(run).files
    assert files.snapshot_steps == [1, 4, STEPS]
    assert files.steps == [STEPS]  # as checkpoint.keep says
    assert [checkpoints.verify(path) for path in files.snapshots.iterdir()] == [[]] * 3
    kept = files.load_snapshot(STEPS)
    averages = files.load(pytest.fail, parts=["ema"]).tensors["ema"]
    assert kept.tensors["ema"].keys() == averages.keys()
    assert all(value.equal(averages[name].half()) for name, value in kept.tensors["ema"].items())
    assert {"settings", "data_sha256", "environment", "images_seen"} <= kept.state.keys()
    parts = [*files.checkpoint_path(STEPS).glob("*.safetensors")]
    values = sum(value.numel() for value in averages.values())
    (small,) = (files.snapshots / f"step-{STEPS:08d}").glob("*.safetensors")
    headers = 300 * len(averages)  # of the files, where networks are tiny
    assert small.stat().st_size <= 2 * values + headers
    assert sum(path.stat().st_size for path in parts) >= 16 * values


def test_what_half_precision_cannot_hold_is_kept_as_it_is() -> None:
    assert halved(torch.tensor([1.0, 2.0**-11])).dtype == torch.float16
    assert halved(torch.tensor([1.0, 70_000.0])).dtype == torch.float32
    assert halved(torch.tensor([7])).dtype == torch.int64
    assert halved(torch.tensor([math.nan])).isnan().all()  # and is refused where it is saved


# The average of an early step is a fitting one


@pytest.mark.parametrize("n", [100, 250])
def test_the_start_is_forgotten_and_the_memory_is_a_tenth_of_the_steps_so_far(n: int) -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.ones_(network.weight)
    average = EMA(network, 0.9999)  # of a training of 100,000 steps
    nn.init.zeros_(network.weight)
    for step in range(n):
        average.update(step)
    share = math.exp(math.lgamma(10) + math.lgamma(n + 1) - math.lgamma(n + 10))
    assert float(average.state()["weight"]) == pytest.approx(share, rel=1e-4)
    assert share < 1e-6

    steps = EMA(network, 0.9999)
    for step in range(n):
        nn.init.constant_(network.weight, float(step + 1))
        steps.update(step)
    age = n - float(steps.state()["weight"])  # the mean age of what is averaged
    assert age == pytest.approx(n / 10, rel=0.05)


# Resuming


def test_a_resume_takes_none_for_a_checkpoint_and_makes_those_after_its_step_again(copy: Path) -> None:
    whole = bytes_of(copy)
    checkpoint = copy / "checkpoints" / f"step-{STEPS:08d}" / "model.safetensors"
    checkpoint.write_bytes(b"rotten")
    with pytest.raises(RunError, match="none of the checkpoints"):
        kk.Run.open(copy).resume(progress=False)
    assert bytes_of(copy) == whole
    shutil.rmtree(copy / "checkpoints")
    kk.Run.open(copy).resume(progress=False)  # from the start
    assert bytes_of(copy) == whole


def test_a_longer_training_keeps_those_that_are_there_and_one_of_where_it_stood(copy: Path) -> None:
    whole = bytes_of(copy)
    run_kakusan(["resume", copy, "--steps", "10", "--checkpoint.snapshots", str(STEPS), "9"])
    longer = bytes_of(copy)
    assert [*sorted(longer)] == [f"step-{step:08d}" for step in (1, 4, STEPS, 9)]
    assert {name: longer[name] for name in whole} == whole


def test_a_missing_snapshot_of_the_step_where_it_stands_is_made(copy: Path) -> None:
    whole = bytes_of(copy)
    shutil.rmtree(copy / "snapshots" / f"step-{STEPS:08d}")
    kk.Run.open(copy).resume(progress=False)
    assert bytes_of(copy) == whole


def test_a_snapshot_that_cannot_be_written_is_a_warning(copy: Path) -> None:
    shutil.rmtree(copy / "checkpoints")
    shutil.rmtree(copy / "snapshots")
    (copy / "snapshots").write_text("in the way")
    words: list[str] = []
    kk.Run.open(copy).resume(progress=False, watch=lambda event: words.append(getattr(event, "text", "")))
    assert any(word.startswith(f"cannot save {copy / 'snapshots'}") for word in words)
    assert kk.Run.open(copy).files.steps == [STEPS]


# Guidance


def test_the_guided_prediction_is_the_sum_by_hand(run: Path) -> None:
    opened = kk.Run.open(run)
    strong = opened.load(precision="fp32")
    weak = opened.early(strong, 4)
    guided = opened.guided(strong, kk.Guidance(1.5, guide="early:4"))
    x_t, t = torch.randn(3, *opened.data.shape), torch.tensor([1.0, 7.0, 20.0]).double()
    named = kk.Condition(label=torch.tensor([0, 1, 1])).without(torch.tensor([False, False, True]))
    for condition in (None, named):
        sides = [model.denoiser.predict(x_t, t, condition) for model in (strong.model, weak.model)]
        found = guided.denoiser.predict(x_t, t, condition)
        for name in ("x_0", "eps"):
            s, w = (getattr(side, name).double() for side in sides)
            by_hand = 1.5 * s + (1 - 1.5) * w
            error = (getattr(found, name) - by_hand).abs()
            assert (error <= 4e-7 * (1 + s.abs() + w.abs())).all()  # a few roundings of float32


def test_the_weak_weights_are_those_of_the_snapshot(run: Path) -> None:
    opened = kk.Run.open(run)
    weak = opened.early(opened.load(), 4)
    assert weak.step == 4
    stored = opened.files.load_snapshot(4).tensors["ema"]
    assert all(value.equal(stored[name].float()) for name, value in weak.network.state_dict().items())


def test_early_is_the_first_of_at_least_a_16th_or_else_the_last() -> None:
    assert early_of([1000, 2000, 4000, 8000], 16_000) == 1000
    assert early_of([999, 2000, 4000, 8000], 16_000) == 2000
    assert early_of([250, 499, 1000, 2000], 4000) == 1000  # 500 steps at least
    assert early_of([100, 200], 400) == 200
    assert early_of([100, 200, 9000], 8000) == 200  # none of a 16th before it: the nearest there is


def test_a_run_without_snapshots_says_how_to_get_one(tmp_path: Path, run: Path) -> None:
    shutil.copytree(OLD / "digits", tmp_path / "old")
    old = kk.Run.open(tmp_path / "old")
    with pytest.raises(RunError) as error:
        old.sample(2, guidance=kk.Guidance(1.5, guide="early"))
    text = str(error.value)
    assert text.startswith(f"{old.folder} has no early snapshot to guide its weights of step 4\n")
    command = re.search("kakusan (resume .*)", text)
    assert command is not None
    assert "--guide RUN" in text
    with pytest.raises(RunError, match=r"no snapshot of step 5[^0-9](.|\n)*there are: 1, 4\n"):
        kk.Run.open(run).sample(2, guidance=kk.Guidance(1.5, guide="early:5"))
    run_kakusan(command[1].split())  # as it is told
    old = kk.Run.open(tmp_path / "old")
    assert old.files.snapshot_steps == [4]
    assert old.sample(2, "ddim", guidance=kk.Guidance(1.5, guide="early")).isfinite().all()


def test_a_damaged_snapshot_is_named(copy: Path) -> None:
    path = copy / "snapshots" / "step-00000004"
    (path / "ema.safetensors").write_bytes(b"rotten")
    with pytest.raises(RunError, match=re.escape(f"{path} cannot be loaded")):
        kk.Run.open(copy).sample(2, guidance=kk.Guidance(1.5, guide="early:4"))
