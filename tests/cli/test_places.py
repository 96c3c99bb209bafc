"""Places that cannot be written, and numbers that cannot be, are refused before anything is read or drawn."""

import os
from pathlib import Path

import numpy as np
import pytest
from goldens import run_kakusan
from tiny import TINY

from kakusan.cli import main
from kakusan.errors import RunError
from kakusan.storage.durable import require_place


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("placed") / "run"
    run_kakusan(["train", data, "--run", folder, "--data.held-out", "0.5", "--steps", "2", *TINY])
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file where a folder is to be."""
    path = tmp_path / "file"
    path.touch()
    return path


@pytest.fixture(autouse=True)
def nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("the weights were read before the place was looked at")

    monkeypatch.setattr("kakusan.run.Run.load", loaded)


@pytest.mark.parametrize("out", ["none/x", "x", "x.npz", "none/x.png"])
def test_a_restoration_below_a_file_is_refused_first(
    out: str, run: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "y.npy", np.zeros((8, 8)))
    given = ["--observed", str(tmp_path / "y.npy")]
    for words in (given, ["--calibrate"]):
        line = [
            str(run),
            *words,
            "--operator",
            "identity",
            "--noise",
            "1",
            "--out",
            str(file / out),
            "--overwrite",
        ]
        assert main(["restore", *line]) == 4
        error = capsys.readouterr().err
        assert "cannot write" in error
        assert f"{file} is no folder" in error


@pytest.mark.parametrize("out", ["none/x", "x", "x.npz", "none/x.png"])
def test_samples_below_a_file_are_refused_first(
    out: str, run: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for flag in ("--out", "--film", "--strip"):
        ending = {"--out": "", "--film": ".webp", "--strip": ".png"}[flag]
        path = file / out
        path = path.with_suffix(ending) if ending else path
        assert main(["sample", str(run), flag, str(path), "--overwrite"]) == 4
        assert f"cannot write {path}" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [("--out", "x.png"), ("--out", "x"), ("--film", "x.webp")])
def test_edits_below_a_file_are_refused_first(
    flags: tuple[str, str], run: Path, file: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 8, 8, 1), np.uint8))
    line = ["edit", str(run), "--from", str(tmp_path / "x.npy"), flags[0], str(file / flags[1])]
    assert main([*line, "--overwrite"]) == 4


def test_folders_in_the_way_of_a_file_and_places_that_are_free(tmp_path: Path) -> None:
    (tmp_path / "x.npz").mkdir()
    with pytest.raises(RunError, match="it is a folder"):
        require_place(tmp_path / "x.npz")
    require_place(tmp_path / "deep" / "down" / "x.npz", Path("x.npz"))
    assert not (tmp_path / "deep").exists()


def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path)
    with pytest.raises(RunError, match="no file can be made in"):
        require_place(tmp_path / "deep" / "x.npz")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--seed", "-1"], "a seed is a whole number from 0"),
        (["--count", "0"], "not 0"),
        (["--method", "exact"], "an exact posterior is that of an oracle"),
        (["--calibrate", "--seed", "-1"], "a seed is a whole number from 0"),
        (["--calibrate", "--images", "0"], "at least 2 images"),
        (["--calibrate", "--count", "0"], "2 samples of each"),
        (["--calibrate", "--method", "exact"], "an exact posterior is that of an oracle"),
    ],
)
def test_numbers_and_methods_that_cannot_be_are_refused_first(
    words: list[str],
    says: str,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def read(*_: object, **__: object) -> None:
        raise AssertionError("the data were read first")

    monkeypatch.setattr("kakusan.run.Run.prepared", read)
    np.save(tmp_path / "y.npy", np.zeros((8, 8)))
    given = [] if "--calibrate" in words else ["--observed", str(tmp_path / "y.npy")]
    assert main(["restore", str(run), *given, "--operator", "identity", "--noise", "1", *words]) == 2
    assert says in capsys.readouterr().err
