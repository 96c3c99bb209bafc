"""A sea with land, and one with dead pixels, by the command line; samples in the axes of the data."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from goldens import run_kakusan
from numpy.typing import NDArray
from PIL import Image
from tiny import TINY

from kakusan.cli import main
from kakusan.data.canvas import MISSING
from kakusan.data.record import DataRecord
from kakusan.errors import RunError

SIDE = 12
FEW = ["--count", "5", "--steps", "3"]


def sea(channels: int = 1) -> NDArray[np.float32]:
    """Smooth temperatures (n, channels, side, side)."""
    rough = np.random.default_rng(0).normal(size=(30, channels, SIDE, SIDE))
    smooth = rough + np.roll(rough, 1, 2) + np.roll(rough, 1, 3)
    return (290 + smooth).astype(np.float32)


def gaps(kind: str, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    if kind == "land":
        y, x = np.mgrid[:SIDE, :SIDE]
        return np.broadcast_to(x + y < 7, shape)
    return np.random.default_rng(1).random(shape) < 0.15


def arrays(path: Path) -> NDArray[Any]:
    with np.load(path) as stored:
        images: NDArray[Any] = stored["images"]
    return images


@pytest.fixture(scope="module", params=["land", "dead pixels"])
def trained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, NDArray[Any]]:
    folder = tmp_path_factory.mktemp("missing")
    data = sea()[:, 0]
    data[gaps(request.param, data.shape)] = np.nan
    np.save(folder / "sst.npy", data)
    run_kakusan(
        [
            "train",
            folder / "sst.npy",
            "--run",
            folder / "run",
            "--data.missing",
            "mask",
            "--steps",
            "4",
            *TINY,
        ]
    )
    return folder / "run", data


def test_without_the_flag_data_with_gaps_are_refused_and_the_flag_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = sea()
    data[3, 0, 2, 2] = np.nan
    np.save(tmp_path / "x.npy", data)
    assert (
        main(["train", str(tmp_path / "x.npy"), "--run", str(tmp_path / "run"), "--steps", "2", *TINY]) == 3
    )
    told = capsys.readouterr().err
    assert (
        told.splitlines()[1]
        .strip()
        .startswith("to learn from the values that are there: --data.missing mask")
    )
    assert not (tmp_path / "run").exists()


def test_samples_have_the_gaps_of_the_data(trained: tuple[Path, NDArray[Any]], tmp_path: Path) -> None:
    run, data = trained
    out = tmp_path / "x.npz"
    run_kakusan(["sample", run, "--out", out, *FEW])
    images = arrays(out)
    assert images.shape == (5, SIDE, SIDE)  # as the data: no axis of channels
    assert any((np.isnan(images[0]) == np.isnan(field)).all() for field in data)
    about = json.loads((tmp_path / "x.npz.json").read_text())
    assert about["missing"] == pytest.approx(np.isnan(data).mean(), abs=0.05)
    assert np.nanmean(images) == pytest.approx(290, abs=3)


def test_masks_of_ones_own_ones_are_asked_for(trained: tuple[Path, NDArray[Any]], tmp_path: Path) -> None:
    run, _ = trained
    run_kakusan(["sample", run, "--out", tmp_path / "full.npz", "--mask", "full", *FEW])
    assert np.isfinite(arrays(tmp_path / "full.npz")).all()
    there = np.zeros((2, SIDE, SIDE), bool)
    there[0, :4] = there[1, :, :6] = True
    np.save(tmp_path / "there.npy", there)
    run_kakusan(["sample", run, "--out", tmp_path / "some.npz", "--mask", tmp_path / "there.npy", *FEW])
    assert (np.isfinite(arrays(tmp_path / "some.npz")) == there[np.arange(5) % 2]).all()
    run_kakusan(["sample", run, "--out", tmp_path / "some.png", "--mask", tmp_path / "there.npy", *FEW])
    with Image.open(tmp_path / "some.png") as picture:
        pixels = np.asarray(picture)
    assert (pixels == MISSING).all(2).mean() > 0.3
    run_kakusan(["sample", run, "--out", tmp_path / "files", "--mask", tmp_path / "there.npy", *FEW])
    with Image.open(tmp_path / "files" / "00000000.png") as picture:
        assert ((np.asarray(picture) == MISSING).all(2) == ~there[0]).all()


def test_the_samples_can_be_evaluated_and_trained_on(
    trained: tuple[Path, NDArray[Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = trained
    out = tmp_path / "x.npz"
    run_kakusan(["sample", run, "--out", out, *FEW])
    capsys.readouterr()
    assert main(["evaluate", str(run), "--data", str(out), "--images", "3"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "bits/dim are per value that is there:" in told
    again: list[str | Path] = ["train", out, "--run", tmp_path / "again", "--from", run]
    run_kakusan([*again, "--data.missing", "mask", "--steps", "2", *TINY])


def test_the_report_draws_gaps_and_says_what_it_cannot_compare(trained: tuple[Path, NDArray[Any]]) -> None:
    run, data = trained
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    is_land = (np.isnan(data) == np.isnan(data[0])).all()
    assert ("whether samples are copies is not said" in page) is not is_land
    assert f"{100 * np.isnan(data).mean():.2g} % of the values: learned from those that are there" in page


def test_the_share_of_missing_values_is_told_with_the_data(
    trained: tuple[Path, NDArray[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = trained
    told = (
        f"{100 * np.isnan(data).mean():.2g} % of the values of sst.npy are missing, in 100 % of its samples"
    )
    assert told in (run / "log.txt").read_text()
    look = ["data", str(run.parent / "sst.npy"), "--data.missing", "mask"]
    assert main(look) == 0
    assert told in capsys.readouterr().out
    assert main([*look, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["missing"] == pytest.approx(np.isnan(data).mean(), rel=1e-12)


def test_a_run_whose_record_has_no_share_says_that_some_are_missing(
    trained: tuple[Path, NDArray[Any]],
) -> None:
    record = json.loads((trained[0] / "data.json").read_text())
    assert record["missing"] == pytest.approx(np.isnan(trained[1]).mean(), rel=1e-12)
    older = {name: value for name, value in record.items() if name != "missing"}
    assert DataRecord.read(older).missing_in_words().startswith("some of the values")
    assert DataRecord.read({**older, "masked": False}).missing_in_words() == ""
    with pytest.raises(RunError, match="not one that kakusan wrote"):
        DataRecord.read({**record, "missing": 1.5})


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["explain"], "some of those of"),
        (["export", "--to", "onnx", "OUT"], "has no place for a mask of missing values"),
        (["export", "--to", "diffusers", "OUT"], "has no place for a mask of missing values"),
        (["sample", "--mask", "land.png"], "neither full nor a .npy or .npz file"),
    ],
)
def test_what_has_no_sense_with_gaps_is_refused_with_a_reason(
    trained: tuple[Path, NDArray[Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    words: str,
) -> None:
    name, *rest = (word.replace("OUT", str(tmp_path / "out")) for word in command)
    assert main([name, str(trained[0]), *rest]) != 0
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layout", ["channels-first", "channels-last", "single-channel"])
def test_arrays_of_samples_have_the_axes_of_the_data_and_are_read_back(layout: str, tmp_path: Path) -> None:
    data = sea(1 if layout == "single-channel" else 2)
    data = {"channels-first": data, "channels-last": np.moveaxis(data, 1, -1), "single-channel": data[:, 0]}[
        layout
    ]
    np.save(tmp_path / "x.npy", data)
    run, out = tmp_path / "run", tmp_path / "new.npz"
    run_kakusan(["train", tmp_path / "x.npy", "--run", run, "--steps", "2", *TINY])
    run_kakusan(["sample", run, "--out", out, *FEW])
    assert arrays(out).shape == (5, *data.shape[1:])
    run_kakusan(["sample", run, "--out", tmp_path / "raw.npz", "--raw", *FEW])
    assert arrays(tmp_path / "raw.npz").shape == (5, *data.shape[1:])
    run_kakusan(["evaluate", run, "--data", out, "--images", "2", "--terms", "3"])
    run_kakusan(["train", out, "--run", tmp_path / "again", "--steps", "2", *TINY])
    assert (
        json.loads((tmp_path / "again" / "data.json").read_text())["shape"]
        == (json.loads((run / "data.json").read_text())["shape"])
    )
