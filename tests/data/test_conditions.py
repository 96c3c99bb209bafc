"""Vectors and images that belong to samples: read, standardized, scaled, mirrored, asked for."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kakusan.config.settings import DataSettings
from kakusan.data import Dataset, open_data
from kakusan.data.asking import far_from_learned, vectors_asked
from kakusan.data.batches import Batches
from kakusan.data.conditions import PairForm, VectorForm, fitted, in_form, vector_column
from kakusan.data.given import array_images, images_asked
from kakusan.data.tables import read_table
from kakusan.data.units import Levels, Real
from kakusan.errors import DataError, SettingsError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 6, 4, 1), dtype=np.uint8)
VECTORS = RNG.normal((3, -200), (0.1, 50), (12, 2))
FORM = VectorForm(("thickness", "slant"), (3.0, -200.0), (0.1, 50.0))


def archive(path: Path, **arrays: Any) -> str:
    np.savez(path, images=IMAGES, **arrays)
    return str(path)


def folder(path: Path, images: Any = IMAGES, suffix: str = ".png") -> Path:
    path.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(path / f"{number:02d}{suffix}")
    return path


def table(path: Path, rows: list[list[Any]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def vectors_of(dataset: Dataset) -> torch.Tensor:
    condition = dataset.condition(np.arange(len(dataset)))
    assert condition is not None
    assert condition.vector is not None
    return condition.vector


def test_vectors_of_an_archive_are_standardized(tmp_path: Path) -> None:
    source = archive(tmp_path / "x.npz", vectors=VECTORS, vector_names=["thickness", "slant"])
    dataset = open_data(source, DataSettings(vectors=True))
    assert dataset.vectors is not None
    assert dataset.vectors.form.names == ("thickness", "slant")
    x = vectors_of(dataset).double()
    assert torch.allclose(x.mean(0), torch.zeros(2).double(), atol=1e-6)
    assert torch.allclose(x.std(0, correction=0), torch.ones(2).double(), atol=1e-6)
    assert np.allclose(dataset.vectors.form.decode(x), VECTORS, rtol=1e-6)
    plain = open_data(source)
    assert plain.vectors is None
    assert any("--data.vectors" in note for note in plain.notes)
    assert plain.fingerprint != dataset.fingerprint
    assert plain.fingerprint == open_data(archive(tmp_path / "x2.npz")).fingerprint


@pytest.mark.parametrize(
    ("vectors", "problem"),
    [
        (VECTORS[:5], "one for each"),
        (VECTORS.astype(str), "numbers"),
        (np.where(VECTORS > 3, np.nan, VECTORS), "not finite"),
        (VECTORS[:, :0], "has 0 numbers"),
    ],
)
def test_vectors_that_are_none_are_refused(tmp_path: Path, vectors: Any, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        open_data(archive(tmp_path / "x.npz", vectors=vectors), DataSettings(vectors=True))


def followed(advice: str, **arrays: Any) -> dict[str, Any]:
    """The names after the lines of code that end an advice."""
    names = {"numpy": np, **arrays}
    exec(advice.partition(": ")[2].partition("; one more")[0], names)
    return names


@pytest.mark.parametrize("k", [1, 2])
def test_vectors_that_lack_numbers_are_refused_with_what_makes_them_whole(k: int) -> None:
    vectors = VECTORS[:, 0] if k == 1 else np.array(VECTORS)
    vectors = np.where(np.arange(12).reshape(-1, *[1] * (k - 1)) == 3, np.nan, vectors)
    with pytest.raises(
        DataError, match=r"1 vectors in array .* not finite: 0 of the 4\. sample is nan"
    ) as caught:
        open_data(IMAGES, vectors=vectors)
    alone, leaving_out, filling = caught.value.advice
    assert "--data.missing mask is for samples alone" in alone
    found = followed(leaving_out, vectors=vectors, images=IMAGES)
    assert len(open_data(found["images"], vectors=found["vectors"])) == 11
    found = followed(filling, vectors=vectors)
    column = open_data(IMAGES, vectors=found["vectors"]).vectors
    assert column is not None
    assert column.values[3] == pytest.approx(np.nanmean(vectors.reshape(12, -1), axis=0))


@pytest.mark.parametrize("missing", ["refuse", "mask"])
@pytest.mark.parametrize("way", ["archive", "other file", "memory"])
def test_conditions_that_lack_values_are_refused_with_what_makes_them_whole(
    tmp_path: Path, way: str, missing: Any
) -> None:
    """Never with --data.missing mask, which is for samples."""
    fields = RNG.normal(size=(12, 6, 4))
    given = fields.copy()
    given[5, 1, 2] = np.nan

    def opened(images: Any, conditions: Any) -> Dataset:
        if way == "memory":
            return open_data(images, DataSettings(missing=missing), conditions=conditions)
        if way == "archive":
            np.savez(tmp_path / "x.npz", images=images, conditions=conditions)
            return open_data(str(tmp_path / "x.npz"), DataSettings(pairs=True, missing=missing))
        np.save(tmp_path / "x.npy", images)
        np.save(tmp_path / "given.npy", conditions)
        own = DataSettings(condition_from=str(tmp_path / "given.npy"), missing=missing)
        return open_data(str(tmp_path / "x.npy"), own)

    with pytest.raises(DataError, match=r"not finite: 0\.35 % of all, .* image 5 is the first") as caught:
        opened(fields, given)
    alone, leaving_out, filling, joining = caught.value.advice
    assert alone == "a condition is given whole: --data.missing mask is for samples alone"
    found = followed(leaving_out, array=given, images=fields)
    assert len(opened(found["images"], found["array"])) == 11
    found = followed(filling, array=given)
    assert opened(fields, found["filled"]).pairs is not None
    found = followed(joining, **{name: found[name] for name in ("filled", "mask")})
    pairs = opened(fields, found["array"]).pairs
    assert pairs is not None
    assert pairs.form.shape == (2, 6, 4)
    assert (pairs.images[..., 1] == np.isfinite(given)).all()


def test_a_condition_that_is_asked_for_is_filled_as_in_the_training() -> None:
    form, asked = PairForm((1, 6, 4), Real((0.0,), (1.0,))), np.full((6, 4), 1.0)
    asked[2, 2] = np.nan
    with pytest.raises(DataError, match="the condition holds values that are not finite") as caught:
        array_images(asked, form, "the condition")
    assert [line.partition(":")[0] for line in caught.value.advice] == [
        "a condition is given whole",
        "fill its gaps in, as those of the training were",
    ]


def test_a_constant_number_is_far_from_every_other_and_is_told() -> None:
    column = vector_column(np.ones((5, 1)), 5, "here")
    assert torch.equal(column.encoded(np.arange(5)), torch.zeros(5, 1))
    assert "deviations from the mean" in far_from_learned(column.form.encode(np.array([[1.1]])), column.form)
    dataset = open_data(IMAGES, vectors=np.ones((12, 1)))
    assert any("same for all samples" in note for note in dataset.notes)


def test_a_table_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    images = folder(tmp_path / "pictures")
    rows = [[f"{i:02d}.png", i] for i in range(12)]
    table(images / "a.csv", [*rows, ["03.png", 3]])  # said twice, alike
    assert open_data(str(images), DataSettings(vectors=True)).vectors is not None
    table(images / "a.csv", [*rows, ["03.png", 4]])
    with pytest.raises(DataError, match=r"line 13 .* gives 03\.png other numbers"):
        open_data(str(images), DataSettings(vectors=True))


def test_a_folder_of_conditions_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    pictures = folder(tmp_path / "pictures")
    (pictures / "05.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1 of the images in .* cannot be read: 05\.png"):
        images_asked(pictures, PairForm((1, 6, 4), Levels(256)), (6, 4))


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_a_table_beside_a_folder_gives_vectors_by_name(tmp_path: Path, header: bool, inside: bool) -> None:
    images = folder(tmp_path / "pictures")
    rows = [[f"{i:02d}.png", *VECTORS[i]] for i in reversed(range(12))]
    names = [["file", "thickness", "slant"]] if header else []
    table(
        images / "any.csv" if inside else tmp_path / "pictures.csv", [*names, *rows, ["not there.png", 1, 2]]
    )
    dataset = open_data(str(images), DataSettings(vectors=True))
    assert dataset.vectors is not None
    assert np.array_equal(dataset.vectors.values, VECTORS)
    assert dataset.vectors.form.names == (("thickness", "slant") if header else ("0", "1"))


def test_a_table_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    images = folder(tmp_path / "pictures")
    asked = DataSettings(vectors=True)
    with pytest.raises(DataError, match="has no vectors"):
        open_data(str(images), asked)
    path = table(images / "a.csv", [[f"{i:02d}.png", i] for i in range(11)])
    with pytest.raises(DataError, match=r"no row for 1 of 12 images: 11\.png"):
        open_data(str(images), asked)
    table(path, [["00.png", 1], ["01.png", "x"]])
    with pytest.raises(DataError, match="line 2"):
        open_data(str(images), asked)
    table(images / "b.csv", [])
    with pytest.raises(DataError, match="2 CSV files"):
        open_data(str(images), asked)


def test_pairs_of_an_archive_have_their_own_size_and_channels(tmp_path: Path) -> None:
    given = RNG.integers(0, 256, (12, 3, 2, 3), dtype=np.uint8)
    dataset = open_data(archive(tmp_path / "x.npz", conditions=given), DataSettings(pairs=True))
    assert dataset.pairs is not None
    assert dataset.pairs.form == PairForm((3, 3, 2), Levels(256))
    condition = dataset.condition(np.array([5, 2]))
    assert condition is not None
    assert condition.image is not None
    assert condition.image.shape == (2, 3, 6, 4)
    assert torch.equal(condition.image, fitted(Levels(256).encode(given[[5, 2]]), (6, 4)))
    assert any("scaled to the size of the samples" in note for note in dataset.notes)


def test_pairs_of_two_folders_go_by_name_whatever_their_endings(tmp_path: Path) -> None:
    sharp, small = folder(tmp_path / "sharp"), IMAGES[:, ::2, ::2]
    low = folder(tmp_path / "low", small, ".bmp")
    (low / "99.bmp").write_bytes((low / "03.bmp").read_bytes())
    (low / "00.bmp").rename(low / "00.gif")
    dataset = open_data(str(sharp), DataSettings(condition_from=str(low)))
    assert dataset.pairs is not None
    assert np.array_equal(dataset.pairs.images, small)
    (low / "07.bmp").unlink()
    with pytest.raises(DataError, match=r"no image for 1 of 12 of sharp: 07\.png"):
        open_data(str(sharp), DataSettings(condition_from=str(low)))


def test_mirrored_images_take_their_conditions_with_them() -> None:
    dataset = open_data(IMAGES, conditions=IMAGES.copy())
    batch = Batches(dataset, np.arange(12), 12, 0, flip=True).at(0)
    assert batch.condition is not None
    assert batch.condition.image is not None
    assert torch.equal(batch.condition.image, batch.x_0)
    assert not torch.equal(batch.x_0, dataset.x_0(batch.indices))


def test_what_was_not_given_is_not_there(tmp_path: Path) -> None:
    source = archive(tmp_path / "x.npz")
    for asked in (DataSettings(vectors=True), DataSettings(pairs=True)):
        with pytest.raises(DataError, match="has no"):
            open_data(source, asked)
    with pytest.raises(SettingsError, match="given with an array"):
        open_data(source, vectors=VECTORS)


def test_vectors_go_by_name_into_the_form_of_a_run() -> None:
    column = vector_column(VECTORS, 12, "here", ["slant", "thickness"])
    known = in_form(column, FORM, "here")
    assert np.array_equal(known.values, VECTORS[:, ::-1])
    assert known.form == FORM
    with pytest.raises(DataError, match="has learned thickness, slant"):
        in_form(vector_column(VECTORS, 12, "here", ["a", "b"]), FORM, "here")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("3.1,-150", [[3.1, -150]]),
        ("slant=-150, thickness=3.1", [[3.1, -150]]),
        ("slant=-150", [[3.0, -150]]),  # what is not named is the mean
    ],
)
def test_vectors_are_typed_in_their_own_units(text: str, values: list[list[float]]) -> None:
    assert np.allclose(FORM.decode(vectors_asked(text, FORM)), values, rtol=1e-6)


def test_vectors_are_read_from_files(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", VECTORS)
    np.savez(tmp_path / "v.npz", vectors=VECTORS)
    np.savetxt(tmp_path / "v.csv", VECTORS, delimiter=",")
    for path in tmp_path.iterdir():
        assert np.allclose(FORM.decode(vectors_asked(str(path), FORM)), VECTORS, rtol=1e-5)


def test_vectors_in_files_may_be_named_and_are_then_in_any_order(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", vectors=VECTORS[:, ::-1], vector_names=["slant", "thickness"])
    np.savetxt(tmp_path / "v.csv", VECTORS[:, ::-1], delimiter=",", header="slant,thickness", comments="")
    np.savetxt(tmp_path / "some.csv", VECTORS[:, 1:], header="slant", comments="")
    for path in (tmp_path / "v.npz", tmp_path / "v.csv"):
        assert np.allclose(FORM.decode(vectors_asked(str(path), FORM)), VECTORS, rtol=1e-5)
    some = FORM.decode(vectors_asked(str(tmp_path / "some.csv"), FORM))
    assert np.allclose(some, np.stack([np.full(12, 3.0), VECTORS[:, 1]], 1), rtol=1e-5)


def test_vectors_in_files_that_were_not_learned_are_refused(tmp_path: Path) -> None:
    for number, (content, problem) in enumerate(
        (
            ("thickness,weight\n1,2\n", "no number 'weight'"),
            ("slant,slant\n1,2\n", "slant is given twice"),
            ("thickness,slant\n", "no row of numbers"),
            ("1,2\n3\n", "cannot be read"),
            ("a.png,2\nb.png,3\n", "cannot be read"),
        )
    ):
        path = tmp_path / f"{number}.csv"
        path.write_text(content)
        with pytest.raises((SettingsError, DataError), match=problem):
            vectors_asked(str(path), FORM)
    np.save(tmp_path / "none.npy", np.empty((0, 2)))
    with pytest.raises(SettingsError, match="rows of 2 numbers"):
        vectors_asked(str(tmp_path / "none.npy"), FORM)


def test_a_number_far_from_all_that_was_learned_is_told() -> None:
    assert not far_from_learned(vectors_asked("3.3,-380", FORM), FORM)
    told = far_from_learned(FORM.encode(np.array([[3.0, -200], [3, 100]])), FORM)
    assert told == "slant=100 is 6.0 deviations from the mean of what was learned (-200 ± 50)"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("3", "1 numbers"),
        ("3,x", "could not convert"),
        ("weight=3", "no number 'weight'"),
        ("thickness=3,4", "some numbers and not others"),
        ("nan,3", "finite"),
    ],
)
def test_vectors_that_were_not_learned_are_refused(text: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        vectors_asked(text, FORM)


def test_condition_images_come_from_a_file_a_folder_or_an_array(tmp_path: Path) -> None:
    form = PairForm((1, 6, 4), Levels(256))
    pictures = folder(tmp_path / "pictures")
    np.save(tmp_path / "x.npy", IMAGES)
    np.savez(tmp_path / "x.npz", conditions=IMAGES)
    expected = Levels(256).encode(IMAGES)
    for path in (pictures, tmp_path / "x.npy", tmp_path / "x.npz"):
        images, notes = images_asked(path, form, (6, 4))
        assert torch.equal(images, expected)
        assert not notes
    one, _ = images_asked(pictures / "03.png", form, (12, 8))
    assert torch.equal(one, fitted(expected[3:4], (12, 8)))
    _, notes = images_asked(pictures / "03.png", replace(form, shape=(1, 3, 2)), (6, 4))
    assert "scaled" in notes[0]


def test_a_single_array_is_one_condition_and_other_kinds_are_refused() -> None:
    form = PairForm((1, 6, 4), Levels(256))
    for one in (IMAGES[0], IMAGES[0, ..., 0], IMAGES[:1]):
        assert torch.equal(array_images(one, form, "here"), Levels(256).encode(IMAGES[:1]))
    units = Real((0.0, 1.0), (1.0, 2.0))
    real = PairForm((2, 6, 4), units)
    values = RNG.normal(size=(3, 6, 4, 2))
    assert torch.equal(array_images(values, real, "here"), units.encode(values))
    with pytest.raises(DataError, match="channels"):
        array_images(IMAGES, real, "here")
    with pytest.raises(DataError, match="levels"):
        array_images(IMAGES.astype(float), form, "here")


@pytest.mark.parametrize(
    ("size", "to"), [((8,), (16,)), ((8, 6), (4, 3)), ((4, 4, 4), (8, 8, 8)), ((8, 6), (8, 6))]
)
def test_conditions_of_any_rank_are_scaled_without_changing_their_mean(
    size: tuple[int, ...], to: tuple[int, ...]
) -> None:
    x = torch.ones(2, 3, *size) * torch.tensor([[1.0, 2, 3], [4, 5, 6]]).view(2, 3, *[1] * len(size))
    assert torch.allclose(fitted(x, to), x.flatten(2)[..., :1].view(2, 3, *[1] * len(to)).expand(2, 3, *to))


def test_a_name_without_its_folder_is_that_of_one_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "numbers.csv"
    path.write_text("x.png,1\ny.png,2\nb/y.png,3\n")
    assert read_table(path, ["a/x.png", "a/y.png"]).values[:, 0].tolist() == [1, 2]
    with pytest.raises(DataError, match="no row for 2 of 2 images"):
        read_table(path, ["a/x.png", "b/x.png"])
    with pytest.raises(DataError, match=r"no row for 1 of 2 images: a/y\.png"):
        read_table(path, ["a/y.png", "b/y.png"])
