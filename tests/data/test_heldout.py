"""What is held out, by content: twins stay together, and what weights were trained on is never held out."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kakusan.data import DATASETS, Dataset, Past, divide, split
from kakusan.data.heldout import form_of, packed, unpacked
from kakusan.data.units import Levels, Real
from kakusan.errors import SettingsError

FORM = "1x1x1, 256 levels"


def of_values(values: NDArray[np.uint8], reserved: tuple[int, ...] = ()) -> Dataset:
    """One pixel an image."""
    return Dataset("values", values[:, None, None, None], Levels(256), None, (), (), "here", reserved)


def values(dataset: Dataset, indices: NDArray[np.int64]) -> set[int]:
    return set(dataset.images[indices].ravel().tolist())


def past(trained: list[int], held_out: list[int]) -> Past:
    hashes = of_values(np.arange(256, dtype=np.uint8)).hashes
    return Past(FORM, hashes[trained], hashes[held_out])


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("held_out", [0.1, 0.02, 5, 0])
def test_without_twins_the_split_is_the_plain_draw(name: str, held_out: float) -> None:
    dataset = DATASETS[name].load()
    divided, plain = divide(dataset, held_out, 3), split(len(dataset), held_out, 3, dataset.reserved)
    assert np.array_equal(divided.split.held_out, plain.held_out)
    assert np.array_equal(divided.split.training, plain.training)
    assert divided.notes == ()


def test_the_split_of_a_seed_is_what_it_always_was() -> None:
    """Indices written down from version 0.1: old seeds hold out the same images for ever."""
    assert divide(DATASETS["digits"].load(), 0.1, 0).split.held_out[:8].tolist() == [
        9,
        23,
        26,
        42,
        55,
        57,
        59,
        64,
    ]
    assert split(20, 5, 1).held_out.tolist() == [7, 9, 13, 17, 18]
    kanji = divide(DATASETS["kanji"].load(), 0.1, 0).split.held_out
    assert len(kanji) == 636
    assert kanji[-3:].tolist() == [6344, 6345, 6354]


def test_digits_that_are_stored_twice_have_no_twin_in_training() -> None:
    digits = DATASETS["digits"].load()
    twice = replace(digits, images=np.concatenate([digits.images] * 2), labels=None)
    divided = divide(twice, 0.1, 0)
    hashes = twice.hashes
    assert not np.isin(hashes[divided.split.held_out], hashes[divided.split.training]).any()
    assert len(divided.split.held_out) == 358  # of 359 asked for: pairs
    assert divided.notes == (
        "3,594 of the 3,594 images have an equal twin: equal images stay on one side of the split",
    )
    plain = split(len(twice), 0.1, 0)
    assert np.isin(hashes[plain.held_out], hashes[plain.training]).sum() == 311  # what a plain draw does


@given(
    st.lists(st.integers(0, 30), min_size=2, max_size=60),
    st.integers(0, 59),
    st.integers(0, 5),
    st.booleans(),
)
def test_no_image_ever_stands_on_both_sides(drawn: list[int], aside: int, seed: int, reserve: bool) -> None:
    dataset = of_values(np.array(drawn, dtype=np.uint8), reserved=(0,) if reserve else ())
    try:
        divided = divide(dataset, aside, seed).split
    except SettingsError:
        assert aside >= len(drawn) - 1 or reserve
        return
    assert sorted([*divided.training, *divided.held_out]) == list(range(len(drawn)))
    assert not values(dataset, divided.training) & values(dataset, divided.held_out)
    assert len(divided.training)
    if reserve:
        assert 0 in divided.held_out
    if aside and len(set(drawn)) > 1:
        assert len(divided.held_out)


def test_a_group_larger_than_the_held_out_part_is_trained_on() -> None:
    dataset = of_values(np.array([7] * 50 + list(range(50, 100)), dtype=np.uint8))
    divided = divide(dataset, 0.1, 0).split
    assert len(divided.held_out) == 10
    assert 7 in values(dataset, divided.training)


def test_minus_zero_is_zero_and_float64_of_float32_is_the_same_image() -> None:
    images = np.random.default_rng(0).normal(size=(6, 4, 4, 1)).astype(np.float32)
    images[3:] = images[:3]
    images[:3, 0], images[3:, 0] = 0.0, -0.0
    dataset = Dataset("zeros", images, Real((0.0,), (1.0,)), None, (), (), "here")
    assert np.array_equal(dataset.hashes[:3], dataset.hashes[3:])
    assert np.array_equal(dataset.hashes, replace(dataset, images=images.astype(np.float64)).hashes)
    assert len(np.unique(dataset.hashes)) == 3


def test_a_view_with_its_axes_in_another_order_has_the_same_images() -> None:
    images = np.random.default_rng(0).normal(size=(6, 3, 4, 2)).astype(np.float32)
    plain = Dataset("plain", images, Real((0.0,) * 2, (1.0,) * 2), None, (), (), "here")
    turned = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    assert not turned.flags.c_contiguous
    assert np.array_equal(replace(plain, images=turned).hashes, plain.hashes)


def test_hashes_do_not_depend_on_the_chunk_an_image_is_read_in() -> None:
    side = int(((1 << 24) / 3) ** 0.5)  # three images a chunk of 16 MiB
    images = np.zeros((5, side, side, 1), np.uint8)
    images[[0, 3], 5, 5] = 1
    dataset = Dataset("large", images, Levels(256), None, (), (), "here")
    a, b, c, d, e = dataset.hashes
    assert a == d
    assert b == c == e
    assert a != b


def test_hashes_survive_their_text() -> None:
    hashes = DATASETS["digits"].load().hashes
    assert np.array_equal(unpacked(packed(hashes)), hashes)
    with pytest.raises(ValueError, match="base64"):
        unpacked("no base64 $$$")


PARENT = {"trained": list(range(80)), "held_out": list(range(80, 100))}
CHILDREN = {
    "the same images": (
        range(100),
        10,
        10,
        "10 of the held-out images were held out by the parent, 0 are new; 80",
    ),
    "twice the share": (
        range(100),
        30,
        20,
        "20 of the held-out images were held out by the parent, 0 are new; 80",
    ),
    "grown at the end": (
        range(200),
        30,
        30,
        "20 of the held-out images were held out by the parent, 10 are new; 80",
    ),
    "reordered": (range(99, -1, -1), 10, 10, "10 of the held-out images were held out by the parent"),
    "partly others": (
        range(70, 150),
        25,
        25,
        "20 of the held-out images were held out by the parent, 5 are new; 10",
    ),
    "doubled": (
        [*range(100)] * 2,
        20,
        20,
        "20 of the held-out images were held out by the parent, 0 are new; 160",
    ),
    "trained on alone": (
        range(80),
        8,
        0,
        "nothing is held out: the parent was trained on all of these images",
    ),
    "held out alone": (
        range(80, 100),
        5,
        5,
        "5 of the held-out images were held out by the parent, 0 are new; 0",
    ),
}


@pytest.mark.parametrize("child", CHILDREN)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_child_holds_out_first_what_its_parent_held_out_and_nothing_it_trained_on(
    child: str, seed: int
) -> None:
    numbers, asked, held, words = CHILDREN[child]
    dataset = of_values(np.array(list(numbers), dtype=np.uint8))
    divided = divide(dataset, asked, seed, past(**PARENT))
    aside = values(dataset, divided.split.held_out)
    assert len(divided.split.held_out) == held
    assert not aside & set(PARENT["trained"])
    if len(aside - set(PARENT["held_out"])):  # new ones only after all of the parent's
        assert set(PARENT["held_out"]) & values(dataset, np.arange(len(dataset))) <= aside
    assert words in " ".join(divided.notes)


def test_fewer_than_were_asked_for_are_said() -> None:
    dataset = of_values(np.arange(100, dtype=np.uint8))
    notes = divide(dataset, 30, 0, past(**PARENT)).notes
    assert "20 images are held out, not 30: no more are new to the parent's training" in notes


def test_images_that_the_parent_never_saw_are_drawn_as_ever_and_that_is_said() -> None:
    dataset = of_values(np.arange(100, 200, dtype=np.uint8))
    divided = divide(dataset, 10, 0, past(**PARENT))
    assert np.array_equal(divided.split.held_out, split(100, 10, 0).held_out)
    assert divided.notes == (
        "none of these images is equal, value for value, to one that the parent trained on or held out",
    )


def test_an_unknown_past_is_said_and_changes_nothing() -> None:
    dataset = of_values(np.arange(100, dtype=np.uint8))
    divided = divide(dataset, 10, 0, Past(FORM, unknown="it was imported"))
    assert np.array_equal(divided.split.held_out, split(100, 10, 0).held_out)
    assert "is not known: it was imported; held-out figures of this run may be too good" in divided.notes[0]


def test_what_is_known_of_an_unknown_past_counts() -> None:
    """A parent whose own parent was imported: its images are known, those before it are not."""
    dataset = of_values(np.arange(100, dtype=np.uint8))
    known = past(**PARENT)
    divided = divide(dataset, 10, 0, Past(FORM, known.trained, known.held_out, unknown="it was imported"))
    assert values(dataset, divided.split.held_out) <= set(PARENT["held_out"])
    assert "is not known: it was imported" in divided.notes[-1]


def test_mirror_images_stand_on_one_side_where_training_flips() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 1), dtype=np.uint8)
    both = np.concatenate([pictures, pictures[:, :, ::-1]])
    dataset = Dataset("mirrored", both, Levels(256), None, (), (), "here")
    for flip in (False, True):
        held_out = set(divide(dataset, 20, 0, flip=flip).split.held_out.tolist())
        straddling = [place for place in held_out if (place + 50) % 100 not in held_out]
        assert bool(straddling) != flip


def test_the_same_data_in_float32_and_in_float64_are_known_again() -> None:
    fields = 101325 + np.random.default_rng(0).normal(size=(60, 4, 4, 1))
    units = Real((101325.0,), (1.0,))
    wide, narrow = (
        Dataset("fields", array, units, None, (), (), "here") for array in (fields, fields.astype(np.float32))
    )
    for parent, child in ((wide, narrow), (narrow, wide)):
        before = Past(FORM, parent.rounded_hashes[:50], parent.rounded_hashes[50:])
        assert set(divide(child, 10, 5, before).split.held_out.tolist()) == set(range(50, 60))
    assert len(np.unique(wide.hashes)) == 60


def test_a_form_is_a_shape_and_a_kind_of_values() -> None:
    assert form_of((1, 8, 8), Levels(17).to_state()) == "1x8x8, 17 levels"
    assert form_of((2, 4, 6), Real((0.0, 1.0), (1.0, 2.0)).to_state()) == "2x4x6, real values"
