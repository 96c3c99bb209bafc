"""`kakusan sample --guidance`, on a tiny run with classes."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from goldens import run_kakusan
from numpy.typing import NDArray
from PIL import Image
from tiny import TINY

import kakusan as kk
from kakusan.cli import main

FLAGS = ["--steps", "4", "--checkpoint.snapshots", "1", "2", *TINY]
FEW = ["--count", "4", "--steps", "4", "--overwrite"]


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guided") / "classes"
    run_kakusan(["train", data, "--run", folder, "--data.labels", *FLAGS])
    return folder


@pytest.fixture(scope="module")
def plain(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the same images, without their classes."""
    folder = tmp_path_factory.mktemp("guided") / "plain"
    run_kakusan(["train", data, "--run", folder, *FLAGS, "--training.seed", "3"])
    return folder


def sampled(run: Path, folder: Path, *flags: str) -> NDArray[np.float32]:
    """In the network's units, so that nothing is rounded away."""
    run_kakusan(["sample", run, "--out", folder / "x.npz", "--raw", *FEW, *flags])
    with np.load(folder / "x.npz") as stored:
        images: NDArray[np.float32] = stored["images"]
    return images


def test_weight_1_and_0_are_the_model_with_and_without_the_class_exactly(run: Path, tmp_path: Path) -> None:
    named, free = sampled(run, tmp_path, "--label", "1"), sampled(run, tmp_path)
    assert np.array_equal(sampled(run, tmp_path, "--label", "1", "--guidance", "1"), named)
    assert np.array_equal(sampled(run, tmp_path, "--label", "1", "--guidance", "0"), free)
    guided = sampled(run, tmp_path, "--label", "1", "--guidance", "3")
    assert not np.allclose(guided, named, atol=1e-6)
    outside = sampled(run, tmp_path, "--label", "1", "--guidance", "3", "--guidance-interval", "0", "0")
    assert np.array_equal(outside, named)
    assert np.abs(guided).max() <= 1 + 1e-6  # clipped after guidance


def test_without_a_label_each_class_has_a_column(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "grid.png"
    run_kakusan(["sample", run, "--out", out, "--guidance", "2", "--guidance-rescale", "0.7", *FEW])
    about = json.loads((tmp_path / "grid.png.json").read_text())
    assert about["label"] == [0, 1]
    assert about["guidance"] == {
        "weight": 2.0,
        "interval": None,
        "rescale": 0.7,
        "guide": None,
    }
    with Image.open(out) as grid:
        assert grid.size == (2 * 64 + 8, 2 * 64 + 8)
    each, second = sampled(run, tmp_path, "--label", "each"), sampled(run, tmp_path, "--label", "1")
    assert np.allclose(each[1::2], second[1::2], atol=1e-6)


def test_a_weaker_run_is_a_guide_with_classes_or_without(run: Path, plain: Path, tmp_path: Path) -> None:
    itself = sampled(run, tmp_path, "--label", "1", "--guidance", "4", "--guide", str(run))
    assert np.allclose(
        itself, sampled(run, tmp_path, "--label", "1"), atol=1e-5
    )  # away from itself is nowhere
    guided = sampled(plain, tmp_path, "--guidance", "1.5", "--guide", str(plain))
    assert np.allclose(guided, sampled(plain, tmp_path), atol=1e-5)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--guidance-rescale", "0.5"], ["--guidance-rescale belongs to --guidance"]),
        (["--guide", "runs/x"], ["--guide belongs to --guidance"]),
        (["--guidance", "nan"], ["finite number"]),
        (["--guidance", "2", "--guidance-rescale", "2"], ["0 to 1"]),
        (["--guidance", "2", "--guidance-interval", "9", "1"], ["from a low to a high t"]),
        (["--label", "none such"], ["no class 'none such'"]),
        (["--guidance", "2", "--guide", "early:x"], ["'x' is no step", "early:500"]),
    ],
)
def test_what_is_no_guidance_is_refused(
    run: Path, flags: Sequence[str], words: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", str(run), *flags]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words)


def test_a_run_without_classes_or_a_guide_says_what_it_lacks(
    plain: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", str(plain), "--guidance", "2"]) == 2
    assert "has learned no classes or other conditions to be guided to" in capsys.readouterr().err
    moons = ["--run", str(tmp_path / "moons"), "--steps", "1", "--machine.threads", "1"]
    assert main(["train", "two-moons", *moons]) == 0
    assert main(["sample", str(run), "--guidance", "2", "--guide", str(tmp_path / "moons")]) == 2
    assert "cannot guide" in capsys.readouterr().err


def test_an_early_snapshot_is_a_guide_with_classes_or_without(run: Path, plain: Path, tmp_path: Path) -> None:
    for folder, label in ((run, ["--label", "1"]), (plain, [])):
        once = sampled(folder, tmp_path, *label)
        assert np.array_equal(sampled(folder, tmp_path, *label, "--guidance", "1", "--guide", "early"), once)
        guided = sampled(folder, tmp_path, *label, "--guidance", "1.5", "--guide", "early")
        assert not np.allclose(guided, once, atol=1e-6)
        other = sampled(folder, tmp_path, *label, "--guidance", "1.5", "--guide", "early:1")
        assert not np.allclose(guided, other, atol=1e-6)
        out = tmp_path / "e.npz"
        details = ["--guidance-interval", "2", "15", "--guidance-rescale", "0.5", "--out", str(out)]
        run_kakusan(["sample", folder, *label, *FEW, "--guidance", "1.5", "--guide", "early", *details])
        about = json.loads((tmp_path / "e.npz.json").read_text())
        assert about["guidance"] == {
            "weight": 1.5,
            "interval": [2.0, 15.0],
            "rescale": 0.5,
            "guide": "early",
            "guide_step": 2,
        }


def test_a_folder_called_early_is_a_run_like_any_other(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "early")
    guidance = kk.Guidance(2.0, guide=tmp_path / "early")
    opened = kk.Run.open(run)
    assert opened.sample(2, kk.DDIM(steps=2), label=1, guidance=guidance).allclose(
        opened.sample(2, kk.DDIM(steps=2), label=1), atol=1e-5
    )


def test_a_training_ends_with_the_line_that_asks_for_what_it_has_learned(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 1), dtype=np.uint8)
    numbers = {"vectors": images.mean((1, 2)), "vector_names": ["mean level"], "conditions": images[:, ::2]}
    np.savez(tmp_path / "x.npz", images=images, **numbers)
    for flags, asking in (
        ([str(data), "--data.labels"], " --label each --guidance 1.5"),
        ([str(data)], ""),
        ([str(tmp_path / "x.npz"), "--data.vectors", "--data.pairs"], " --vector 'mean level=1"),
    ):
        run = tmp_path / f"run-{len(asking)}"
        assert main(["train", *flags, "--run", str(run), *FLAGS]) == 0
        said = capsys.readouterr().err.replace("\n", " ")
        assert f"kakusan sample {run} --count 64{asking}" in said
    assert "--condition FILE" in said


def test_guidance_from_python_is_that_of_the_command(run: Path, tmp_path: Path) -> None:
    opened: Any = kk.Run.open(run)
    images = opened.sample(4, kk.DDIM(steps=4), label=1, guidance=3.0)
    command = sampled(run, tmp_path, "--label", "1", "--guidance", "3", "--sampler", "ddim")
    assert np.allclose(images.permute(0, 2, 3, 1).numpy(), command, atol=1e-6)
