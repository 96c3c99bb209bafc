"""The data of a run, opened again: read as when it began, also by versions that read them otherwise."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tiny import TINY

from kakusan.cli import main
from kakusan.config.loading import with_values
from kakusan.config.resolve import resolve
from kakusan.config.settings import DataSettings, Settings
from kakusan.data.units import Real
from kakusan.errors import RunError
from kakusan.storage.run_folder import RunFolder
from kakusan.training.prepare import Prepared, data_record, prepare_data, reopen_data

RNG = np.random.default_rng(0)
FLAGS = ["--steps", "1", *TINY]
posix = pytest.mark.skipif(os.name == "nt", reason="Windows makes links and pipes only for administrators")


def begun(folder: Path, array: NDArray[Any], **data: Any) -> tuple[Settings, dict[str, Any], Prepared]:
    """The resolved settings and the record of a run on this array, and its data."""
    np.save(folder / "x.npy", array)
    settings = Settings(data=replace(DataSettings(source=str(folder / "x.npy")), **data))
    prepared = prepare_data(settings)
    return resolve(settings, prepared.facts), data_record(prepared), prepared


def painted(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        Image.fromarray(RNG.integers(0, 256, (8, 8), np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    ("shape", "layout"),
    [((9, 2, 8, 20), "channels-first"), ((9, 8, 20, 2), "channels-last"), ((9, 8, 20), "single-channel")],
)
def test_a_run_remembers_the_layout_that_the_rule_chose(
    tmp_path: Path, shape: tuple[int, ...], layout: str
) -> None:
    settings, record, prepared = begun(tmp_path, RNG.standard_normal(shape))
    assert settings.data.layout == layout
    again = reopen_data(settings, record).dataset
    assert np.array_equal(again.images, prepared.dataset.images)
    assert again.units == prepared.dataset.units


def test_a_run_from_before_layouts_and_float64_has_its_data_as_they_were(tmp_path: Path) -> None:
    """Then all axes stood as in channels-last, and floats became float32 before they were normalized."""
    array = 300 + RNG.standard_normal((9, 2, 8, 20))
    settings, record, _ = begun(tmp_path, array.astype(np.float32), layout="channels-last")
    settings = with_values(settings, {"data.layout": "auto", "data.follow_links": "auto"})
    np.save(tmp_path / "x.npy", array)
    record["units"]["mean"][0] += 1e-9  # as another way of summing may have found
    again = reopen_data(settings, record).dataset
    assert again.shape == (20, 2, 8)
    assert np.array_equal(again.images, array.astype(np.float32))
    assert isinstance(again.units, Real)
    assert list(again.units.mean) == record["units"]["mean"]


def test_what_has_changed_in_the_data_is_told(tmp_path: Path) -> None:
    array = RNG.integers(0, 256, (9, 8, 8), np.uint8)
    settings, record, _ = begun(tmp_path, array)
    for changed, words in (
        (array[:7], "images: then 9, now 7"),
        (array[::-1], "as many images as then, 9, but others"),
    ):
        np.save(tmp_path / "x.npy", changed)
        with pytest.raises(RunError, match=f"what has changed: {words}"):
            reopen_data(settings, record)


@posix
def test_links_are_followed_in_a_run_that_began_when_all_were(tmp_path: Path) -> None:
    folder = painted(tmp_path / "images", 3)
    (folder / "linked").symlink_to(painted(tmp_path / "elsewhere", 4))
    settings = Settings(data=DataSettings(source=str(folder), follow_links=True))
    prepared = prepare_data(settings)
    assert len(prepared.dataset) == 7
    before = with_values(resolve(settings, prepared.facts), {"data.follow_links": "auto"})
    assert len(reopen_data(before, data_record(prepared)).dataset) == 7
    today = prepare_data(with_values(settings, {"data.follow_links": "auto"}))
    assert len(today.dataset) == 3
    assert resolve(Settings(data=DataSettings(source=str(folder))), today.facts).data.follow_links is False


def test_whoever_only_reads_a_run_writes_no_cache(tmp_path: Path) -> None:
    """A stranger's config.toml may name any folder as its cache; whoever trains the run has chosen it."""
    folder, cache, run = painted(tmp_path / "images", 9), tmp_path / "cache", tmp_path / "run"
    assert main(["train", str(folder), "--run", str(run), "--data.cache", str(cache), *FLAGS]) == 0
    for file in cache.iterdir():
        file.unlink()
    assert main(["report", str(run)]) == 0
    assert "nothing is shown of the training data" not in (run / "report.html").read_text("utf-8")
    assert main(["evaluate", str(run), "--images", "2", "--terms", "3"]) == 0
    other = ["--data", str(painted(tmp_path / "other", 5))]
    assert main(["evaluate", str(run), "--images", "2", "--terms", "3", *other]) == 0
    assert main(["explain", str(run), "--out", str(tmp_path / "x.html")]) == 0
    assert list(cache.iterdir()) == []
    assert main(["resume", str(run), "--steps", "2"]) == 0
    assert len(list(cache.iterdir())) == 2


def test_train_and_data_show_what_was_chosen_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = RNG.standard_normal((9, 2, 8, 20))
    arrays: dict[str, Any] = {"images": images, "target\x1b[31m": images, "labels": np.arange(9) % 3}
    np.savez(tmp_path / "x.npz", **arrays)
    assert main(["data", str(tmp_path / "x.npz")]) == 0
    shown = capsys.readouterr().out
    assert main(["train", str(tmp_path / "x.npz"), "--run", str(tmp_path / "run"), *FLAGS]) == 0
    told = capsys.readouterr().err
    for words in (
        "not used: target\\x1b[31m",
        "read as images 8 high and 20 wide with 2 channels (channels-first)",
        "3 classes (0, 1, 2), not learned: --data.labels",
    ):
        assert words in shown
        assert words in told
    assert "\x1b" not in shown + told
    assert RunFolder.open(tmp_path / "run").config["data"]["layout"] == "channels-first"


def test_samples_of_a_field_with_an_offset_keep_its_detail(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", 101325 + 0.01 * RNG.standard_normal((9, 8, 8)))
    run, out = str(tmp_path / "run"), tmp_path / "s.npz"
    assert main(["train", str(tmp_path / "p.npy"), "--run", run, *FLAGS]) == 0
    assert main(["sample", run, "--count", "4", "--steps", "2", "--out", str(out)]) == 0
    with np.load(out) as stored:
        assert stored["images"].dtype == np.float64
        assert len(np.unique(stored["images"])) == 4 * 8 * 8


def test_data_sums_up_many_channels_and_counts_one_stranger_in_the_singular(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", RNG.standard_normal((9, 2, 2, 256)))
    assert main(["data", str(tmp_path / "x.npy"), "--data.layout", "channels-last"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) < 200
    assert "over the channels" in "".join(lines)
    folder = painted(tmp_path / "images", 3)
    (folder / "note.txt").write_text("a text")
    assert main(["data", str(folder)]) == 0
    assert "1 file that is not an image" in capsys.readouterr().out


def test_other_images_are_read_in_the_layout_that_fits_the_run(tmp_path: Path) -> None:
    array, run = RNG.standard_normal((9, 8, 8, 8)), str(tmp_path / "run")
    np.save(tmp_path / "x.npy", array)
    first = ["--data.layout", "channels-first"]
    assert main(["train", str(tmp_path / "x.npy"), "--run", run, *first, *FLAGS]) == 0
    np.save(tmp_path / "other.npy", -array)
    measured = ["--data", str(tmp_path / "other.npy"), "--images", "2", "--terms", "3"]
    assert main(["evaluate", run, *measured]) == 0  # of itself, its shape is refused
    grey, other_run = RNG.standard_normal((9, 8, 8)), str(tmp_path / "other-run")
    np.save(tmp_path / "grey.npy", grey)
    np.save(tmp_path / "with-channel.npy", grey[:, None])
    assert main(["train", str(tmp_path / "grey.npy"), "--run", other_run, *FLAGS]) == 0
    measured = ["--data", str(tmp_path / "with-channel.npy"), "--images", "2", "--terms", "3"]
    assert main(["evaluate", other_run, *measured]) == 0


@posix
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_data_prints_names_without_control_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: list[str]
) -> None:
    (tmp_path / "images").mkdir()
    for name in ("a\x1b[31m", "b\x9b31m"):
        painted(tmp_path / "images" / name, 3)
    (tmp_path / "images" / "c\x07.png").write_text("a text")
    for labels in ([], ["--data.labels"]):
        assert main(["data", str(tmp_path / "images"), *form, *labels]) == 0
        assert capsys.readouterr().out.replace("\n", "").isprintable()
