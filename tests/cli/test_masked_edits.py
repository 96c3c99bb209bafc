"""`kakusan edit --mask`, and guidance, on a run without classes: each mistake is one error with its flag and file."""

import json
from pathlib import Path

import numpy as np
import pytest
from goldens import run_kakusan
from PIL import Image
from tiny import TINY

from kakusan.cli import main
from kakusan.storage.durable import sha256_of


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masked") / "run"
    run_kakusan(["train", data, "--run", folder, "--data.held-out", "0.5", "--steps", "2", *TINY])
    return folder


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images and masks by their names, in the folder of the command."""
    monkeypatch.chdir(tmp_path)
    np.save("one.npy", np.zeros((1, 8, 8, 1), np.uint8))
    np.save("three.npy", np.zeros((3, 8, 8, 1), np.uint8))
    half = np.arange(64).reshape(8, 8) % 2 == 0
    np.save("half.npy", half)
    np.save("all.npy", half | True)
    np.save("none.npy", half & False)
    np.save("large.npy", np.ones((9, 9), np.bool_))
    np.save("several.npy", np.stack([half, ~half, half]))
    for name, grey in (("white", 255), ("black", 0)):
        Image.fromarray(np.full((8, 8), grey, np.uint8)).save(f"{name}.png")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--mask", "half.npy"], ["--mask needs an image", "--from"]),
        (["--mask", "half.npy", "--seeds", "1", "2"], ["--mask needs an image", "--from"]),
        (["--from", "one.npy", "--mask", "large.npy"], ["large.npy", "(9, 9)", "(8, 8, 1)", "--mask"]),
        (["--from", "one.npy", "--mask", "all.npy"], ["all.npy keeps everything", "--mask"]),
        (["--from", "one.npy", "--mask", "none.npy"], ["none.npy keeps nothing", "--mask"]),
        (["--from", "one.npy", "--mask", "several.npy"], ["several.npy is 3 masks", "--mask"]),
        (["--from", "one.npy", "--mask", "white.png"], ["white.png is all white", "--mask"]),
        (["--from", "one.npy", "--mask", "black.png"], ["black.png is all black", "--mask"]),
        (["--from", "one.npy", "--mask", "absent.png"], ["absent.png", "no such file", "--mask"]),
        (["--from", "one.npy", "--mask", "left"], ["left", "no such file", "hide-left", "--mask"]),
        (["--from", "one.npy", "--mask", "random:2"], ["a share of hidden values", "random:2"]),
        (["--from", "three.npy", "--mask", "half.npy"], ["one image is filled in, not 3 images"]),
        (["--from", "one.npy", "--mask", "half.npy", "--label", "1"], ["has learned no classes"]),
        (
            ["--from", "one.npy", "--mask", "half.npy", "--guidance", "2"],
            ["has learned no classes", "--guide early"],
        ),
    ],
)
def test_mistakes_about_masks_name_flag_and_file(
    run: Path, words: list[str], says: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["edit", str(run), *words, "--steps", "2"]) in (2, 3)
    error = capsys.readouterr().err
    assert error.count("error: ") == 1
    for word in says:
        assert word in error


@pytest.mark.usefixtures("files")
def test_a_mask_is_a_word_too_and_the_record_has_noise_and_hashes(run: Path) -> None:
    line = [str(run), "--from", "one.npy", "--mask", "hide-left", "--steps", "2", "--count", "3"]
    assert main(["edit", *line, "--out", "filled.npz"]) == 0
    images = np.load("filled.npz")["images"]
    record = json.loads(Path("filled.npz.json").read_text("utf-8"))
    assert (images[:, :, 4:] == 0).all()
    assert images[:, :, :4].any()
    assert (record["operator"], record["noise"]) == ("mask:hide-left", 1.0)
    assert record["files"] == {str(Path("one.npy").resolve()): sha256_of(Path("one.npy"))}


@pytest.mark.usefixtures("files")
def test_the_page_has_the_names_of_files_and_no_paths(run: Path) -> None:
    here = Path.cwd()
    files = ["--from", str(here / "one.npy"), "--mask", str(here / "half.npy")]
    assert main(["edit", str(run), *files, "--steps", "2", "--count", "1", "--out", str(here / "f.npz")]) == 0
    page = Path("f.html").read_text("utf-8")
    assert str(here) not in page
    assert str(run.parent) not in page
    assert f"half.npy (SHA-256 {sha256_of(Path('half.npy'))})" in page
    assert json.loads(Path("f.npz.json").read_text("utf-8"))["operator"] == f"mask:{here / 'half.npy'}"


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("given", [["--observed", "one.npy"], ["--calibrate", "--images", "2"]])
def test_guidance_of_a_restoration_names_no_flag_that_it_lacks(
    run: Path, given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = [str(run), *given, "--operator", "identity", "--noise", "1", "--steps", "2", "--guidance", "2"]
    assert main(["restore", *line]) == 2
    error = capsys.readouterr().err
    assert "has learned no classes" in error
    assert "leave --guidance out" in error
    assert "--guide " not in error
