"""What `kakusan data` finds, against folders and arrays made to be found out."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kakusan.config.settings import DataSettings
from kakusan.data.survey import survey
from kakusan.errors import DataError


def motley(root: Path) -> Path:
    """120 images of three sizes and modes in two classes; three of them alike, one damaged, two strangers."""
    rng = np.random.default_rng(0)
    for number in range(117):
        path = root / ("cat" if number % 3 else "dog") / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(path)
    for name in ("same-1.png", "same-2.bmp", "same-3.tif"):
        Image.fromarray(np.full((16, 16), 9, np.uint8)).save(root / "dog" / name)
    Image.new("RGBA", (40, 20), (10, 20, 30, 40)).save(root / "cat" / "wide.png")
    (root / "cat" / "bad.jpg").write_text("no image")
    for name in ("a.txt", "b.json"):
        (root / name).write_text("{}")
    return root


def test_a_survey_of_a_folder_counts_what_lies_in_it(tmp_path: Path) -> None:
    found = survey(motley(tmp_path))
    assert found.files is not None
    assert len(found.dataset) == 121
    assert found.files.sizes == {(16, 16): 120, (20, 40): 1}
    assert found.files.modes == {"RGB": 117, "L": 3, "RGBA": 1}
    assert found.files.formats == {"PNG": 119, "BMP": 1, "TIFF": 1}
    assert found.files.conversions == {"laid over white": 1, "scaled and cropped to 16x16": 1}
    assert found.files.ignored == 2
    assert found.classes == {"cat": 79, "dog": 42}
    assert "converted: laid over white (1)" in found.dataset.notes
    assert [file.name for file in found.dataset.bad_files] == ["cat/bad.jpg"]
    assert [[found.name_of(index) for index in group] for group in found.duplicates] == [
        ["dog/same-1.png", "dog/same-2.bmp", "dog/same-3.tif"]
    ]


def test_classes_are_found_without_being_asked_for_but_given_only_then(tmp_path: Path) -> None:
    motley(tmp_path)
    assert survey(tmp_path).dataset.labels is None
    assert survey(tmp_path, DataSettings(labels=True)).dataset.class_names == ("cat", "dog")


def test_values_are_summed_up_for_each_channel(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal((5, -300), (2, 40), (200, 6, 5, 2))
    np.save(tmp_path / "x.npy", array)
    found = survey(tmp_path / "x.npy")
    assert found.value_range == pytest.approx((array.min(), array.max()), rel=1e-6)
    assert found.mean == pytest.approx(array.mean((0, 1, 2)), rel=1e-5)
    assert found.deviation == pytest.approx(array.std((0, 1, 2)), rel=1e-5)
    assert found.files is None
    assert found.duplicates == ()


@pytest.mark.parametrize("source", ["kanji", "digits", "two-moons"])
def test_every_kind_of_survey_is_ready_for_json(source: str) -> None:
    told = json.loads(json.dumps(survey(source).to_dict()))
    assert told["name"] == source
    assert told["files"] is None
    assert told["reserved"] == (["拡", "散"] if source == "kanji" else [])


def test_a_folders_survey_is_ready_for_json(tmp_path: Path) -> None:
    told = json.loads(json.dumps(survey(motley(tmp_path)).to_dict()))
    assert told["images"] == 121
    assert told["files"]["sizes"] == {"16x16": 120, "20x40": 1}
    assert told["duplicates"] == 2
    assert told["bad"][0]["name"] == "cat/bad.jpg"


def test_a_survey_uses_the_cache_and_yet_reports_the_files(tmp_path: Path) -> None:
    root, cached = motley(tmp_path / "images"), DataSettings(cache=str(tmp_path / "cache"))
    for _ in range(2):
        found = survey(root, cached)
        assert found.files is not None
        assert found.files.sizes.total() == 121
        assert isinstance(found.dataset.images, np.memmap)


def test_a_survey_refuses_what_opening_refuses(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no images"):
        survey(tmp_path)
    with pytest.raises(DataError, match="there is no"):
        survey(tmp_path / "nowhere")


def test_counts_are_of_the_images_that_could_be_decoded(tmp_path: Path) -> None:
    motley(tmp_path)
    path = tmp_path / "cat" / "001.png"
    path.write_bytes(path.read_bytes()[:500])  # the head is whole
    found = survey(tmp_path, DataSettings(bad_share=1.0, size=8))
    assert found.files is not None
    assert len(found.dataset) == 120
    assert found.files.sizes.total() == found.files.modes.total() == found.files.formats.total() == 120
    assert found.files.conversions["scaled and cropped to 8x8"] == 120
