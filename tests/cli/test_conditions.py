"""Vectors and pairs from the command line: trained, resumed, sampled, measured, reported."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from goldens import run_kakusan
from numpy.typing import NDArray
from PIL import Image
from tiny import TINY

import kakusan as kk
from kakusan.cli import main

STEPS = 4
FEW = ["--steps", "2", "--overwrite"]
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (16, 8, 8, 1), dtype=np.uint8)
VECTORS = np.stack([IMAGES.mean((1, 2, 3)), IMAGES[:, :4].mean((1, 2, 3))], 1)
ARRAYS: dict[str, dict[str, Any]] = {
    "vectors": {"vectors": VECTORS, "vector_names": ["mean", "top"]},
    "pairs": {"conditions": IMAGES[:, ::2, ::2]},
    "all": {
        "vectors": VECTORS,
        "vector_names": ["mean", "top"],
        "conditions": np.repeat(IMAGES, 3, 3),
        "labels": np.arange(16) % 3,
    },
}
FLAGS = {
    "vectors": ["--data.vectors"],
    "pairs": ["--data.pairs", "--data.flip"],
    "all": ["--data.vectors", "--data.pairs", "--data.labels"],
}


def data(kind: str, folder: Path) -> str:
    np.savez(folder / f"{kind}.npz", images=IMAGES, **ARRAYS[kind])
    return str(folder / f"{kind}.npz")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("conditions")
    for kind, flags in FLAGS.items():
        run_kakusan(
            ["train", data(kind, folder), "--run", folder / kind, "--steps", str(STEPS), *TINY, *flags]
        )
    return {kind: folder / kind for kind in FLAGS}


def sampled(run: Path, folder: Path, *flags: str) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """In the network's units, so that nothing is rounded away, and how they were made."""
    run_kakusan(["sample", run, "--out", folder / "x.npz", "--raw", *FEW, *flags])
    with np.load(folder / "x.npz") as stored:
        images: NDArray[np.float32] = stored["images"]
    return images, json.loads((folder / "x.npz.json").read_text())


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Of the last checkpoint, averaged and not, with the moments of the optimizer."""
    checkpoint = kk.Run.open(run).files.load(print)
    return {f"{part}.{name}": x for part, group in checkpoint.tensors.items() for name, x in group.items()}


@pytest.mark.parametrize("kind", FLAGS)
def test_an_interrupted_training_is_the_uninterrupted_one_to_the_bit(
    kind: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    source = str(runs[kind].parent / f"{kind}.npz")
    flags = [*TINY, *FLAGS[kind], "--training.decay", "constant"]
    for name, steps in (("whole", STEPS), ("parted", STEPS // 2)):
        run_kakusan(["train", source, "--run", tmp_path / name, "--steps", str(steps), *flags])
    run_kakusan(["resume", tmp_path / "parted", "--steps", str(STEPS)])
    whole, parted = weights(tmp_path / "whole"), weights(tmp_path / "parted")
    assert whole.keys() == parted.keys()
    for name, tensor in whole.items():
        if not name.startswith("ema"):  # whose decay follows from the steps that were planned
            assert torch.equal(tensor, parted[name]), name


@pytest.mark.parametrize("kind", FLAGS)
def test_sample_k_is_the_same_whatever_the_count_and_the_first(
    kind: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    whole, about = sampled(runs[kind], tmp_path, "--count", "20", "--exact")
    later, _ = sampled(runs[kind], tmp_path, "--count", "5", "--first", "7", "--exact")
    assert np.array_equal(whole[7:12], later)
    assert about["conditions"] == 2  # of the held-out tenth of 16 images


def test_a_vector_is_asked_for_in_its_own_units(runs: dict[str, Path], tmp_path: Path) -> None:
    first, about = sampled(runs["vectors"], tmp_path, "--count", "3", "--vector", "mean=120,top=130")
    assert np.allclose(about["vectors"], [[120, 130]])
    assert about["vector_names"] == ["mean", "top"]
    again, _ = sampled(runs["vectors"], tmp_path, "--count", "3", "--vector", "120,130")
    other, _ = sampled(runs["vectors"], tmp_path, "--count", "3", "--vector", "120,90")
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    np.save(tmp_path / "v.npy", [[120, 130], [120, 90]])
    both, _ = sampled(runs["vectors"], tmp_path, "--count", "4", "--vector", str(tmp_path / "v.npy"))
    assert np.allclose(both[::2], first[::2][:2], atol=1e-5)
    assert np.allclose(both[1], other[1], atol=1e-5)


def test_guidance_of_vectors_and_pairs_has_the_ends_of_that_of_classes(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    np.save(tmp_path / "c.npy", IMAGES[:2, ::2, ::2])
    asked = {"vectors": ["--vector", "120,90"], "pairs": ["--condition", str(tmp_path / "c.npy")]}
    for kind, flags in asked.items():
        few = ["--count", "4", "--sampler", "ddim", *flags]
        plain, _ = sampled(runs[kind], tmp_path, *few)
        assert np.array_equal(sampled(runs[kind], tmp_path, *few, "--guidance", "1")[0], plain)
        guided = sampled(runs[kind], tmp_path, *few, "--guidance", "3")[0]
        assert not np.allclose(guided, plain, atol=1e-6)
        run = kk.Run.open(runs[kind])
        loaded = run.load()
        free = run.sample_with_record(
            loaded, kk.DDIM(steps=2, spacing="trailing"), run.request(loaded, None, count=4)
        )[0]
        null = sampled(runs[kind], tmp_path, *few, "--guidance", "0")[0]
        assert np.allclose(null, free.movedim(1, -1).numpy(), atol=1e-5)


def test_a_condition_is_an_image_a_folder_or_an_array(runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    small = IMAGES[:3, ::2, ::2, 0]
    for number, image in enumerate(small):
        Image.fromarray(image).save(tmp_path / "given" / f"{number}.png")
    np.save(tmp_path / "given.npy", small)
    files = [str(tmp_path / "given"), str(tmp_path / "given.npy")]
    one, two = (
        sampled(runs["pairs"], tmp_path, "--count", "6", "--condition", file, "--exact") for file in files
    )
    assert np.array_equal(one[0], two[0])
    assert one[1]["conditions"] == 3
    single = str(tmp_path / "given" / "1.png")
    alone, about = sampled(runs["pairs"], tmp_path, "--count", "6", "--condition", single, "--exact")
    assert np.array_equal(alone[[1, 4]], one[0][[1, 4]])
    assert about["conditions"] == 1


def test_a_grid_shows_the_samples_below_what_they_were_given(runs: dict[str, Path], tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", IMAGES[:5, ::2, ::2])
    out = tmp_path / "x.png"
    run_kakusan(
        ["sample", runs["pairs"], "--condition", tmp_path / "c.npy", "--count", "10", "--out", out, *FEW]
    )
    with Image.open(out) as grid:
        width, height = grid.size
    assert round(width / height, 1) == round(5 / 3, 1)  # a row of conditions, two of samples


def test_classes_vectors_and_pairs_go_together(runs: dict[str, Path], tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", np.repeat(IMAGES[:4], 3, 3))
    given = ["--label", "2", "--vector", "mean=120", "--condition", str(tmp_path / "c.npy")]
    _, about = sampled(runs["all"], tmp_path, "--count", "4", *given, "--guidance", "2")
    assert about["label"] == [2, 2, 2, 2]
    assert about["conditions"] == 4
    np.save(tmp_path / "v.npy", VECTORS[:3])
    assert main(["sample", str(runs["all"]), "--vector", str(tmp_path / "v.npy"), *given[4:], *FEW]) != 0


@pytest.mark.parametrize("kind", FLAGS)
def test_bound_report_and_page_know_the_conditions(kind: str, runs: dict[str, Path], tmp_path: Path) -> None:
    few = ["--images", "2", "--terms", "4", "--split", "held-out"]
    run_kakusan(["evaluate", runs[kind], *few, "--out", tmp_path / "e"])
    run_kakusan(["report", runs[kind]])
    run_kakusan(["explain", runs[kind], "--out", tmp_path / "page.html"])
    if kind == "pairs":
        assert "below what they were given" in (runs[kind] / "report.html").read_text()


@pytest.mark.parametrize(
    ("kind", "flags", "problem"),
    [
        ("pairs", ["--vector", "1,2"], "has learned no vectors"),
        ("vectors", ["--condition", "c.png"], "was not trained on pairs"),
        ("vectors", ["--label", "1"], "has learned no classes"),
        ("vectors", ["--vector", "1"], "1 numbers, and the run has learned 2"),
        ("pairs", ["--condition", "nowhere.png"], "cannot be read"),
        ("pairs", ["--condition", ""], "empty name"),
        ("pairs", ["--label", "1+2"], "has learned no classes"),
        ("all", ["--label", "1+2", "--guidance-interval", "1", "2"], "belongs to --guidance"),
        ("all", ["--label", "1+2:x"], "share of a class is a number"),
        ("all", ["--label", "1:0+2:0"], "each class the share 0"),
        ("all", ["--vector", "there/is/none.npy"], "none.npy cannot be read: No such file or directory"),
        (
            "all",
            ["--label", "1+2", "--guidance", "2", "--guidance-rescale", "0.5"],
            "no guide, interval or rescale",
        ),
    ],
)
def test_what_a_run_has_not_learned_is_refused(
    kind: str, flags: list[str], problem: str, runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", str(runs[kind]), *FEW, *flags]) != 0
    assert problem in " ".join(capsys.readouterr().err.split())


def test_several_classes_at_once(runs: dict[str, Path], tmp_path: Path) -> None:
    few = ["--count", "2"]
    one, about = sampled(runs["all"], tmp_path, *few, "--label", "1:1+2:0.5", "--guidance", "2")
    assert about["guidance"]["classes"] == [[1, 1.0], [2, 0.5]]
    other, _ = sampled(runs["all"], tmp_path, *few, "--label", "1:2+2", "--guidance", "1")
    assert np.allclose(one, other, atol=1e-5)


def test_formats_that_have_no_place_for_a_condition_say_so(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for to in ("diffusers", "onnx"):
        assert main(["export", str(runs["pairs"]), str(tmp_path / to), "--to", to]) != 0
        assert "no place for" in " ".join(capsys.readouterr().err.split())


def test_in_python_vectors_and_conditions_come_as_arrays(tmp_path: Path) -> None:
    small = {
        name: value.split() if " " in value else value
        for name, value in (("network.width", "8"), ("network.blocks", "1"))
    }
    settings = {**{k: int(str(v)) for k, v in small.items()}, "process.T": 20, "machine.device": "cpu"}
    tensor = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)
    run = kk.train(
        tensor,
        vectors=VECTORS,
        conditions=tensor[..., ::2, ::2],
        steps=2,
        settings=settings,
        run=tmp_path / "r",
    )
    assert run.data.vectors is not None
    assert run.data.pairs is not None
    x = run.sample(4, kk.DDIM(steps=2), vector=VECTORS[:2], condition=IMAGES[:2, ::2, ::2])
    assert x.shape == (4, 1, 8, 8)
    more = run.resume(steps=3, data=tensor, vectors=VECTORS, conditions=tensor[..., ::2, ::2])
    assert more.files.steps[-1] == 3
