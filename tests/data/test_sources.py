"""What a name stands for, and what is said of a name that stands for nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from kakusan.config.settings import DataSettings
from kakusan.data import DATASETS, open_data
from kakusan.errors import DataError, SettingsError


def test_a_built_in_name_comes_before_a_folder_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kanji").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("L", (8, 8)).save(tmp_path / "kanji" / name)
    monkeypatch.chdir(tmp_path)
    data = open_data("kanji")
    assert len(data) == 6355
    assert "./kanji" in data.notes[0]
    assert len(open_data("./kanji")) == 2
    assert len(open_data(Path("kanji"))) == 2


def test_a_missing_name_gets_the_nearest_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    for wrong, meant in (
        ("digit", "digits"),
        ("photo", "photos"),
        ("./phots", "photos"),
        ("two_moons", "two-moons"),
    ):
        with pytest.raises(DataError, match=f"(?s)there is no .*did you mean {meant}"):
            open_data(wrong)
    with pytest.raises(DataError, match="kanji, digits, two-moons, swiss-roll") as caught:
        open_data("no/such/place")
    assert "did you mean" not in str(caught.value)


def test_labels_are_given_only_where_asked_for_and_refused_where_there_are_none() -> None:
    assert open_data("digits").labels is None
    assert open_data("digits", DataSettings(labels=True)).classes == 10
    with pytest.raises(DataError, match="kanji has no classes"):
        open_data("kanji", DataSettings(labels=True))


def test_what_cannot_be_read_says_what_can(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "one.png")
    with pytest.raises(DataError, match="a single image is not enough"):
        open_data(tmp_path / "one.png")
    (tmp_path / "images.tar.gz").write_bytes(b"\x1f\x8b" + bytes(20))
    (tmp_path / "images.zip").write_bytes(b"PK\x03\x04" + bytes(20))
    for name in ("images.tar.gz", "images.zip"):
        with pytest.raises(DataError, match="unpack it first"):
            open_data(tmp_path / name)


@pytest.mark.parametrize("name", DATASETS)
def test_built_in_data_are_not_bent(name: str) -> None:
    for options in (
        DataSettings(size=64),
        DataSettings(channels=5),
        DataSettings(range=(0, 1)),
        DataSettings(levels=99),
    ):
        with pytest.raises(SettingsError):
            open_data(name, options)


@pytest.mark.parametrize(
    "wrong",
    [{"size": 0}, {"size": (8, -1)}, {"range": (1.0, 1.0)}, {"channels": 0}, {"levels": 1}, {"levels": 300}],
)
def test_options_out_of_their_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        DataSettings(**wrong)  # type: ignore[arg-type]


def test_the_fingerprint_tells_pixels_types_shapes_and_labels_apart(tmp_path: Path) -> None:
    base = np.arange(48, dtype=np.uint8).reshape(4, 3, 4)
    changed = base.copy()
    changed[3, 2, 3] += 1
    variants: list[NDArray[Any]] = [base, changed, base.reshape(4, 4, 3), base.astype(np.float32)]
    prints = []
    for array in variants:
        np.save(tmp_path / "x.npy", array)
        prints.append(open_data(tmp_path / "x.npy").fingerprint)
    for labels in ([0, 1, 0, 1], [0, 1, 1, 1]):
        np.savez(tmp_path / "x.npz", images=base, labels=labels)
        prints.append(open_data(tmp_path / "x.npz", DataSettings(labels=True)).fingerprint)
    assert len(set(prints)) == len(prints)
    np.savez(tmp_path / "x.npz", images=base)
    assert open_data(tmp_path / "x.npz").fingerprint == prints[0]
