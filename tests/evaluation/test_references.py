"""References of distances: splits, other images, statistics of pytorch-fid; gaps; and the report of all of it."""

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kakusan.cli import main
from kakusan.data.given import array_in
from kakusan.errors import DataError, NumbersError, SettingsError
from kakusan.evaluation.features import FeatureMap, known_by
from kakusan.evaluation.quality import figures_of
from kakusan.evaluation.references import Statistics, is_statistics
from kakusan.run import Run
from kakusan.storage.run_folder import RunFolder

SMALL = ["--network.width", "16", "--samples.count", "4", "--samples.steps", "2", "--machine.threads", "1"]
FLAGS = ["--distance", "--count", "40", "--seeds", "2", "--steps", "2", "--sampler", "ddim"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("references") / "digits"
    assert main(["train", "digits", "--steps", "20", "--run", str(run), *SMALL]) == 0
    return run


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kakusan.evaluation.features.STEPS", 5)


def told(capsys: pytest.CaptureFixture[str], *line: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["evaluate", *line, "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_images_in_a_file_are_a_reference_like_those_of_the_run(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = Run.open(digits).prepared()
    images = prepared.dataset.gather(prepared.split.held_out)
    np.savez(tmp_path / "aside.npz", images=images, levels=np.array(17))
    own = told(capsys, str(digits), *FLAGS, "--reference", "held-out")
    there = told(capsys, str(digits), *FLAGS, "--reference", str(tmp_path / "aside.npz"))
    assert there["by_seed"] == own["by_seed"]
    assert there["moments"]["reference"] == own["moments"]["reference"]
    assert there["about"]["real"] == "training"  # its held-out images are the reference
    assert there["about"]["reference"] == "aside.npz"


def test_a_folder_of_images_is_read_as_the_data_of_the_run_were(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = np.random.default_rng(0)
    for name, count in (("mine", 60), ("others", 30)):
        (tmp_path / name).mkdir()
        for i in range(count):
            Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8)).save(
                tmp_path / name / f"{i}.png"
            )
    run = str(tmp_path / "run")
    train = ["train", str(tmp_path / "mine"), "--steps", "3", "--run", run, *SMALL, "--data.held-out", "20"]
    assert main([*train, "--data.size", "8"]) == 0
    found = told(
        capsys, run, "--distance", "--count", "32", "--steps", "2", "--reference", str(tmp_path / "others")
    )
    about = found["about"]
    assert (about["reference"], about["reference_count"], about["real"], about["count"]) == (
        "others",
        30,
        "held-out",
        20,
    )
    assert main(["evaluate", run, *FLAGS, "--reference", str(tmp_path / "none")]) == 2
    assert "there is no reference" in capsys.readouterr().err


def test_statistics_are_written_and_read_as_pytorch_fid_does(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "deep" / "digits.npz"
    images = told(capsys, str(digits), *FLAGS, "--save-statistics", str(path))
    with np.load(path) as stored:  # as pytorch-fid: f["mu"][:], f["sigma"][:]
        mean, covariance = stored["mu"][:], stored["sigma"][:]
    assert is_statistics(path)
    assert covariance.shape == (len(mean), len(mean))
    again = told(capsys, str(digits), *FLAGS, "--reference", str(path))
    assert [list(seed) for seed in again["by_seed"]] == [["frechet"]] * 2
    assert again["figures"]["frechet"]["mean"] == pytest.approx(
        images["figures"]["frechet"]["mean"], rel=1e-9
    )
    assert again["figures"]["frechet"]["real"] is not None
    assert main(["evaluate", str(digits), *FLAGS, "--reference", str(path)]) == 0
    assert "no other figure than the Fréchet distance" in " ".join(capsys.readouterr().out.split())
    np.savez(tmp_path / "theirs.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    assert main(["evaluate", str(digits), *FLAGS, "--reference", str(tmp_path / "theirs.npz")]) == 2
    assert "are of 2048 features" in capsys.readouterr().err
    assert (
        main(["evaluate", str(digits), *FLAGS, "--reference", str(path), "--save-statistics", str(path)]) == 2
    )


def test_statistics_stand_for_the_rows_they_are_of(tmp_path: Path) -> None:
    x, y = (np.random.default_rng(seed).normal(seed, 1, (50, 5)) for seed in (0, 1))
    statistics = Statistics.of(y, "y", "made up")
    (tmp_path / "y.npz").write_bytes(statistics.as_npz())
    read = Statistics.read(tmp_path / "y.npz")
    assert (read.features, read.count) == ("made up", 50)
    assert figures_of(x, read)["frechet"] == figures_of(x, y)["frechet"]
    with pytest.raises(SettingsError, match="of the features 'made up', not of 'others'"):
        read.check(FeatureMap("others", "", torch.nn.Identity()), 5)


def test_features_are_known_by_their_hash_and_not_by_a_name(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(50, 5))
    here, renamed = (
        known_by(name, "0123456789" * 6, "", torch.nn.Identity()) for name in ("a.onnx", "b.onnx")
    )
    other = known_by("a.onnx", "01234567" + "f" * 52, "", torch.nn.Identity())  # of the same first digits
    (tmp_path / "new.npz").write_bytes(Statistics.of(rows, "x", here.name, here.sha256).as_npz())
    read = Statistics.read(tmp_path / "new.npz")
    read.check(renamed, 5)
    with pytest.raises(SettingsError, match=r"of the features 'a\.onnx 01234567'"):
        read.check(other, 5)
    older = replace(read, sha256="")  # whose file has the name alone
    older.check(renamed, 5)
    with pytest.raises(SettingsError, match="of the features"):
        older.check(known_by("a.onnx", "f" * 60, "", torch.nn.Identity()), 5)
    replace(older, features="").check(other, 5)  # of pytorch-fid


def claiming(shape: tuple[int, ...]) -> bytes:
    """An array of this shape, by its header, of which there are eight bytes."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return buffer.getvalue() + b"\0" * 8


def test_arrays_that_claim_more_than_they_hold_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mu.npy", claiming((1 << 50,)))
        archive.writestr("sigma.npy", claiming((1 << 50, 1)))
    with pytest.raises(DataError, match="cannot be read"):
        Statistics.read(path)
    (tmp_path / "bad.npy").write_bytes(claiming((1 << 50,)))
    with pytest.raises(DataError, match="cannot be read"):
        array_in(tmp_path / "bad.npy", "x")


@pytest.mark.parametrize("count", [np.inf, np.nan, -3, 2.5, "many"])
def test_a_count_that_is_none_is_refused(count: object, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", mu=np.zeros(2), sigma=np.eye(2), count=np.array(count))
    with pytest.raises(DataError, match="cannot be read"):
        Statistics.read(tmp_path / "bad.npz")


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "shapes": ({"mu": np.zeros(3), "sigma": np.eye(4)}, DataError, "shapes"),
    "asymmetric": (
        {"mu": np.zeros(2), "sigma": np.array([[1.0, 0.5], [0.0, 1.0]])},
        DataError,
        "not symmetric",
    ),
    "not finite": ({"mu": np.array([np.nan]), "sigma": np.eye(1)}, NumbersError, "not finite"),
    "pickled": ({"mu": np.array([{}]), "sigma": np.eye(1)}, DataError, "cannot be read"),
    "words": ({"mu": np.array(["a"]), "sigma": np.eye(1)}, DataError, "cannot be read"),
    "empty": ({"mu": np.zeros(0), "sigma": np.zeros((0, 0))}, DataError, "shapes"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_statistics_are_refused(name: str, tmp_path: Path) -> None:
    arrays, error, words = BAD[name]
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(error, match=words):
        Statistics.read(tmp_path / "bad.npz")


def test_a_cut_file_is_no_statistics(tmp_path: Path) -> None:
    np.savez(tmp_path / "whole.npz", mu=np.zeros(50), sigma=np.eye(50))
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    assert not is_statistics(tmp_path / "cut.npz")
    with pytest.raises(DataError, match="cannot be read"):
        Statistics.read(tmp_path / "cut.npz")


def test_samples_with_gaps_have_moments_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(0).normal(5, 2, (80, 8, 8, 1))
    x[:, :2, :3] = np.nan
    np.save(tmp_path / "gaps.npy", x)
    run = str(tmp_path / "run")
    assert (
        main(
            [
                "train",
                str(tmp_path / "gaps.npy"),
                "--data.missing",
                "mask",
                "--steps",
                "3",
                "--run",
                run,
                *SMALL,
            ]
        )
        == 0
    )
    found = told(capsys, run, *FLAGS)
    assert found["figures"] == {}
    mean, error = found["moments"]["reference"][0]["mean"]
    assert abs(mean - 5) < 4 * error
    assert main(["evaluate", run, *FLAGS, "--features", "clip.onnx"]) == 2
    assert "have no features" in capsys.readouterr().err
    assert main(["evaluate", run, *FLAGS]) == 0
    assert "values are missing" in capsys.readouterr().out


def test_the_report_and_the_card_take_what_was_measured(
    digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(digits), *FLAGS]) == 0
    assert main(["report", str(digits)]) == 0
    page = (digits / "report.html").read_text("utf-8")
    assert 'id="distances"' in page
    assert "held-out images" in page[page.index('id="distances"') :]
    assert "The power of the samples by spatial frequency" in page
    assert main(["export", str(digits), str(digits.parent / "out")]) == 0  # distances are no bound
    path = digits / "evaluation" / "step-00000020-distance.json"  # as older versions named it
    path.write_text('{"figures": {"frechet": 1}}')
    assert main(["report", str(digits)]) == 0
    page = (digits / "report.html").read_text("utf-8")
    assert 'id="distances"' not in page
    assert "of another version" in page
    capsys.readouterr()


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("references") / "classes"
    assert main(["train", "digits", "--steps", "20", "--data.labels", "--run", str(run), *SMALL]) == 0
    return run


def test_each_way_to_sample_and_each_reference_has_a_file_of_its_own(
    classes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ways = [
        "",
        "--steps 3",
        "--sampler dpmpp-2m",
        "--reference held-out",
        "--guidance 2",
        "--label 3",
        "--seed 1",
    ]
    written = [Path(told(capsys, str(classes), *FLAGS, *way.split())["out"]) for way in ways]
    assert len(set(written)) == len(ways)
    again = told(capsys, str(classes), *FLAGS)
    assert Path(again["out"]) == written[0]
    newest = RunFolder.open(classes).evaluations(20)[-1]
    assert newest["by_seed"] == again["by_seed"]  # which the report shows


def test_samples_of_a_class_are_compared_with_its_images(
    classes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(capsys, str(classes), *FLAGS, "--label", "3", "--guidance", "2")
    prepared = Run.open(classes).prepared()
    labels = prepared.dataset.labels
    assert labels is not None
    assert found["about"]["reference_count"] == int((labels[prepared.split.training] == 3).sum())
    assert (found["about"]["label"], found["about"]["guidance"]["weight"]) == ("3", 2)
    others = int((labels[prepared.split.held_out] == 3).sum())
    assert found["about"]["count"] == min(40, others)
    assert main(["evaluate", str(classes), *FLAGS, "--label", "3", "--guidance", "2"]) == 0
    assert "label 3, guidance 2" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--label 11", "there is no class '11'"),
        ("--vector 1,2", "learned no vectors"),
        ("--condition x.png", "not trained on pairs"),
        ("--guide early", "guide belongs to guidance"),
        ("--times 20 7 --steps 3", "--steps and --times both say"),
        ("--steps tuned:3", "no times that were tuned"),
        ("--sampler heun --order 3", "the heun sampler has no --order"),
    ],
)
def test_what_no_samples_can_be_is_said(
    classes: Path, flags: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--distance", "--count", "40", "--seeds", "1"]
    assert main(["evaluate", str(classes), *few, *flags.split()]) in (2, 4)
    assert words in capsys.readouterr().err
