"""kakusan compare: figures that other commands give too, a picture, and what cannot be compared."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TINY

import kakusan as kk
from kakusan.cli import main
from kakusan.data.dataset import silent
from kakusan.evaluation.options import DistanceOptions
from kakusan.evaluation.quality import in_units, measure_quality
from kakusan.evaluation.references import condition_like, labels_like, sides_of

FEW = ["--count", "32", "--shown", "3", "--samplers", "ddim,unipc", "--steps", "3,6"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    flags = ["--data.labels", "--steps", "4", *TINY]
    assert main(["train", "digits", "--run", str(folder), *flags]) == 0
    return folder


def compared(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["compare", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_figures_are_those_of_the_other_commands(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = compared([str(run), *FEW], capsys)
    assert [(way["name"], way["calls"]) for way in found["ways"]] == [
        ("ddim", 3), ("ddim", 6), ("unipc", 3), ("unipc", 6),
    ]  # fmt: skip
    options = DistanceOptions(count=32, seeds=1, sampler="ddim", steps=6, reference="training")
    quality = measure_quality(kk.Run.open(run), options)
    assert found["ways"][1]["frechet"] == pytest.approx(quality.by_seed[0]["frechet"], rel=1e-9)
    assert found["real"] == pytest.approx((quality.real or {})["frechet"], rel=1e-9)
    opened = kk.Run.open(run)
    fine = opened.sample(32, kk.samplers.AdamsBashforth(steps=20, order=3))
    off = (opened.sample(32, kk.DDIM(steps=6)) - fine).square().mean().sqrt()
    assert found["ways"][1]["from_fine"] == pytest.approx(float(off), rel=1e-4)


def test_the_twin_in_python_finds_the_same(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = compared([str(run), *FEW], capsys)
    opened = kk.Run.open(run)
    asked: dict[str, Any] = {"samplers": ["ddim", "unipc"], "steps": (3, 6), "count": 32, "shown": 3}
    ours = opened.compare(**asked, progress=False)
    figures = [(way["frechet"], way["from_fine"]) for way in found["ways"]]
    assert [(way["frechet"], way["from_fine"]) for way in ours.as_json()["ways"]] == figures
    assert str(ours).count("\n") == 4
    assert "digits: unipc, 6 steps: Fréchet distance" in str(ours)
    two = opened.compare(opened, samplers="unipc", steps=3, count=32, progress=False)
    assert len(two.outcomes) == 2


def test_a_picture_has_a_column_for_each_way(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (Path(compared([str(run), *FEW], capsys)["out"]) for _ in range(2))
    assert first != second
    assert first.parent == run / "comparisons"
    with Image.open(first) as picture:
        assert picture.format == "PNG"
        assert picture.width > 600
    assert json.loads(first.with_name(first.name + ".json").read_text("utf-8"))["about"]["count"] == 32


def test_weights_of_guidance_and_runs_are_compared_too(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--count", "32", "--shown", "2", "--samplers", "auto", "--steps", "3", "--guidance", "1,2"]
    found = compared([str(run), str(run), *flags, "--out", str(tmp_path / "x.png")], capsys)
    assert [way["guidance"] for way in found["ways"]] == [1, 2, 1, 2]
    assert found["ways"][0]["frechet"] == found["ways"][2]["frechet"]
    assert found["ways"][0]["frechet"] != found["ways"][1]["frechet"]


def test_two_runs_and_two_weights_are_a_column_each(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    assert main(["train", "digits", "--run", str(other), "--data.labels", "--steps", "2", *TINY]) == 0
    flags = ["--count", "32", "--shown", "2", "--samplers", "ddim", "--steps", "3", "--guidance", "1,3"]
    found = compared([str(run), str(other), *flags], capsys)
    ways = [(Path(way["run"]).name, way["guidance"]) for way in found["ways"]]
    assert ways == [("digits", 1), ("digits", 3), ("other", 1), ("other", 3)]
    assert [Path(fine["run"]).name for fine in found["fine"]] == ["digits", "digits", "other", "other"]
    assert len({way["frechet"] for way in found["ways"]}) == 4


def test_seeds_give_an_error_bar(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--count", "32", "--shown", "2", "--samplers", "ddim", "--steps", "3"]
    one, two = (compared([str(run), *few, "--seed", seed], capsys)["ways"][0] for seed in "45")
    both = compared([str(run), *few, "--seed", "4", "--seeds", "2"], capsys)["ways"][0]
    assert both["frechet_by_seed"] == [one["frechet"], two["frechet"]]
    assert both["frechet"] == pytest.approx((one["frechet"] + two["frechet"]) / 2)
    half = 12.706 * abs(one["frechet"] - two["frechet"]) / 2  # Student's t of one degree of freedom
    assert both["frechet_half_width_95"] == pytest.approx(half, rel=1e-3)
    assert one["frechet_half_width_95"] is None
    assert main(["compare", str(run), *few, "--seeds", "2"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "samples of the seeds 0 to 1 each" in told
    assert "±" in told


def test_samples_have_columns_as_wide_as_they_are(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rather than spread over the width of the charts, with white between them."""
    compared(
        [str(run), *FEW[:4], "--samplers", "ddim", "--steps", "3", "--out", str(tmp_path / "x.png")], capsys
    )
    with Image.open(tmp_path / "x.png") as picture:
        above = np.asarray(picture.convert("L"))[: picture.height - 500]
    inked = np.flatnonzero((above < 128).any(0))
    assert inked[-1] - inked[0] < 0.35 * above.shape[1]
    assert abs(inked[-1] + inked[0] - above.shape[1]) < 0.05 * above.shape[1]


def test_classes_are_as_frequent_as_in_the_reference(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (200, 8, 8, 1), dtype=np.uint8)
    labels = np.repeat([0, 1], [150, 50])
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    folder = tmp_path / "run"
    flags = ["--run", str(folder), "--steps", "2", "--data.labels", *TINY]
    assert main(["train", str(tmp_path / "data.npz"), *flags]) == 0
    opened = kk.Run.open(folder)
    prepared = opened.prepared()
    sides = sides_of(opened, prepared, DistanceOptions(count=32), silent)
    drawn = labels_like(sides.reference, prepared, 40)
    assert drawn is not None
    share = float(np.mean(prepared.dataset.labels[prepared.split.training] == 0))  # type: ignore[index]
    assert abs(int((drawn == 0).sum()) - 40 * share) <= 1
    assert len(set(drawn[:12].tolist())) == 2  # in a mixed order: the first are shown
    guided = condition_like(opened, drawn, kk.Guidance(2.0))
    assert guided is not None
    assert guided.label is not None
    assert torch.equal(guided.label, drawn)
    assert condition_like(opened, drawn, None) is None  # without guidance no class is asked for
    asked = condition_like(opened, drawn, kk.Guidance(2.0), label="1")
    assert asked is not None
    assert asked.label is not None
    assert asked.label.tolist() == [1]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--samplers", ","], "a comparison needs samplers"),
        (["--samplers", "nobody"], "knows no 'nobody'"),
        (["--samplers", "ddim:evenly"], "unknown spacing 'evenly'"),
        (["--steps", "21"], "more than the T = 20"),
        (["--steps", "x"], "is no number of steps"),
        (["--steps", "tuned:3"], "no times that were tuned"),
        (["--guidance", "much"], "is no weight"),
        (["--count", "31"], "at least 32 samples"),
        (["--seeds", "0"], "at least 1 seed"),
        (["--out", "x.jpg"], "is no picture"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_sampled(
    run: Path, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["compare", str(run), *flags]) in (2, 4)
    assert words in capsys.readouterr().err


def test_runs_of_other_samples_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "moons"
    few = ["--steps", "2", "--process.T", "20", "--samples.count", "2", "--samples.steps", "2"]
    assert main(["train", "two-moons", "--run", str(other), *few]) == 0
    capsys.readouterr()
    assert main(["compare", str(run), str(other)]) == 2
    assert "runs of one shape and one kind of values can be compared" in capsys.readouterr().err
    assert main(["compare", str(other), "--samplers", "ddim", "--steps", "3", "--count", "64"]) == 0


def test_a_picture_is_not_replaced_by_accident(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.png"
    for mine in (path, tmp_path / "x.png.json"):
        mine.write_bytes(b"mine")
        assert main(["compare", str(run), "--out", str(path)]) == 2
        assert mine.read_bytes() == b"mine"
        assert "--overwrite" in capsys.readouterr().err
        mine.unlink()


def test_tuned_times_have_a_name_of_their_own(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--count", "32", "--shown", "2", "--samplers", "unipc,heun", "--steps", "5,tuned:5"]
    for sampler in ("unipc", "heun"):
        kk.Run.open(run).tune(5, count=16, sampler=sampler, progress=False)
    found = compared([str(run), *flags], capsys)
    names = [(way["name"], way["calls"]) for way in found["ways"]]
    assert names == [("unipc", 5), ("unipc, tuned", 5), ("heun", 9), ("heun, tuned", 9)]
    assert found["ways"][1]["sampler"]["at"] is not None


def test_runs_in_other_units_are_seen_in_those_of_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of two runs the values of one are ten times as large, and stay so."""
    values = np.random.default_rng(0).normal(size=(200, 8, 8, 1))
    runs = []
    for scale in (1, 10):
        path = tmp_path / f"x{scale}.npy"
        np.save(path, scale * values)
        runs.append(tmp_path / f"run{scale}")
        assert main(["train", str(path), "--run", str(runs[-1]), "--steps", "2", *TINY]) == 0
    flags = ["--count", "32", "--shown", "2", "--samplers", "unipc", "--steps", "3"]
    assert len(compared([*map(str, runs), *flags, "--out", str(tmp_path / "x.png")], capsys)["ways"]) == 2
    first, second = (kk.Run.open(run) for run in runs)
    x = second.sample(4, "unipc")
    seen = in_units(x, second.data.units, first.data.units)
    assert np.allclose(first.decode(seen), second.decode(x), rtol=1e-5)
    assert float(seen.std()) == pytest.approx(10 * float(x.std()), rel=1e-3)
