"""Batches are a function of (seed, step), and every epoch sees every image once."""

import numpy as np
import pytest
import torch

from kakusan.data import Batch, Batches, Dataset, split
from kakusan.data.units import Levels
from kakusan.errors import SettingsError

COUNT = 23


def numbered(count: int = COUNT, channels: int = 1) -> Dataset:
    """Image i holds i, i + 1, ... from left to right in its first row: its place and its side can be told."""
    images = np.arange(count)[:, None, None, None] + np.arange(4)[None, None, :, None]
    images = np.broadcast_to(images, (count, 3, 4, channels)).astype(np.uint8)
    labels = np.arange(count) % 3
    return Dataset("numbered", images, Levels(256), labels, ("a", "b", "c"), (), "made here")


def batches(
    batch_size: int = 5, *, seed: int = 7, flip: bool = False, condition_dropout: float = 0.0
) -> Batches:
    return Batches(numbered(), np.arange(COUNT), batch_size, seed, flip, condition_dropout)


def same(one: Batch, other: Batch) -> bool:
    assert one.condition is not None
    assert other.condition is not None
    return (
        torch.equal(one.x_0, other.x_0)
        and all(
            torch.equal(x, y)
            for (_, x), (_, y) in zip(one.condition.tensors(), other.condition.tensors(), strict=True)
        )
        and np.array_equal(one.indices, other.indices)
    )


def test_each_epoch_shows_every_image_once_and_in_another_order() -> None:
    stream = np.concatenate([batches().at(step).indices for step in range(COUNT)]).reshape(5, COUNT)
    for epoch in stream:
        assert sorted(epoch) == list(range(COUNT))
    assert len({tuple(epoch) for epoch in stream}) == 5


def test_the_images_and_labels_are_those_of_their_indices() -> None:
    batch = batches().at(3)
    assert batch.condition is not None
    assert batch.condition.label is not None
    assert torch.equal(batch.x_0, numbered().x_0(batch.indices))
    assert batch.condition.label.tolist() == [index % 3 for index in batch.indices]
    assert batch.condition.label.dtype == torch.int64


def test_a_batch_is_the_same_whether_opened_afresh_or_after_others() -> None:
    walked = batches(flip=True, condition_dropout=0.3)
    seen = [walked.at(step) for step in range(12)]
    for step in (11, 0, 4):
        assert same(batches(flip=True, condition_dropout=0.3).at(step), seen[step])
        assert same(walked.at(step), seen[step])  # also when it goes back


@pytest.mark.parametrize(("start", "count"), [(0, 2), (2, 3), (4, 1), (0, 5)])
@pytest.mark.parametrize("step", [0, 4, 9])  # step 4 lies across two epochs of 23
def test_a_slice_of_a_batch_is_exactly_those_rows_of_the_whole(step: int, start: int, count: int) -> None:
    whole = batches(flip=True, condition_dropout=0.5).at(step)
    part = batches(flip=True, condition_dropout=0.5).at(step, start, count)
    assert whole.condition is not None
    assert part.condition is not None
    rows = slice(start, start + count)
    assert torch.equal(part.x_0, whole.x_0[rows])
    expected = dict(whole.condition.rows(rows).tensors())
    assert all(torch.equal(tensor, expected[name]) for name, tensor in part.condition.tensors())
    assert np.array_equal(part.indices, whole.indices[rows])


def test_a_batch_may_be_larger_than_the_data_set() -> None:
    batch = batches(batch_size=2 * COUNT + 3).at(1)
    assert len(batch.indices) == 2 * COUNT + 3
    assert np.bincount(batch.indices).min() >= 1


def test_the_order_and_the_flips_do_not_depend_on_the_batch_size() -> None:
    by_five = torch.cat([batches(5, flip=True).at(step).x_0 for step in range(12)])
    by_twelve = torch.cat([batches(12, flip=True).at(step).x_0 for step in range(5)])
    assert torch.equal(by_five, by_twelve)


def test_another_seed_gives_another_order() -> None:
    assert not np.array_equal(batches(seed=1).at(0).indices, batches(seed=2).at(0).indices)


def test_a_flip_mirrors_about_half_of_the_images_and_changes_nothing_else() -> None:
    data = numbered(200, channels=3)
    batch = Batches(data, np.arange(200), 200, 0, flip=True).at(0)
    plain = data.x_0(batch.indices)
    mirrored = torch.tensor([torch.equal(x, y.flip(2)) for x, y in zip(batch.x_0, plain, strict=True)])
    untouched = torch.tensor([torch.equal(x, y) for x, y in zip(batch.x_0, plain, strict=True)])
    assert torch.equal(mirrored, ~untouched)
    assert 70 <= int(mirrored.sum()) <= 130  # 200 fair coins: 4 deviations of 7


def test_conditions_are_dropped_with_the_stated_probability() -> None:
    data = numbered(250)
    condition = Batches(data, np.arange(250), 1000, 0, condition_dropout=0.1).at(0).condition
    assert condition is not None
    assert condition.dropped is not None
    assert 60 <= int(condition.dropped.sum()) <= 140  # 1000 draws of 0.1: 4 deviations of 9.5
    never = Batches(data, np.arange(250), 1000, 0).at(0).condition
    assert never is not None
    assert never.dropped is None


def test_only_the_given_indices_are_ever_drawn() -> None:
    chosen = np.array([2, 3, 5, 7, 11])
    drawn = np.concatenate([Batches(numbered(), chosen, 4, 0).at(step).indices for step in range(5)])
    assert np.bincount(drawn, minlength=12)[chosen].tolist() == [4] * 5


def test_the_epoch_counts_what_lies_behind() -> None:
    assert batches().at(0).epoch == 0
    assert batches().at(46).epoch == 10.0


def test_images_arrive_as_float32_with_channels_last_in_memory() -> None:
    x_0 = Batches(numbered(channels=3), np.arange(COUNT), 8, 0, flip=True).at(0).x_0
    assert x_0.dtype == torch.float32
    assert x_0.shape == (8, 3, 3, 4)
    assert x_0.is_contiguous(memory_format=torch.channels_last)


def test_no_more_than_two_epochs_are_kept() -> None:
    walked = batches()
    for step in range(30):
        walked.at(step)
    assert len(walked._epochs) <= 2


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"condition_dropout": 1.5}, {"indices": np.array([], int)}]
)
def test_impossible_batches_are_refused(wrong: dict[str, object]) -> None:
    given: dict[str, object] = {"indices": np.arange(COUNT), "batch_size": 4, "seed": 0}
    with pytest.raises(SettingsError):
        Batches(numbered(), **{**given, **wrong})  # type: ignore[arg-type]


def test_a_split_parts_all_indices_and_leaves_none_out() -> None:
    parts = split(1000, 0.1, seed=3)
    assert len(parts.held_out) == 100
    assert sorted([*parts.training, *parts.held_out]) == list(range(1000))
    assert list(parts.training) == sorted(parts.training)


def test_a_split_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    assert np.array_equal(split(1000, 0.1, 3).held_out, split(1000, 0.1, 3).held_out)
    assert not np.array_equal(split(1000, 0.1, 3).held_out, split(1000, 0.1, 4).held_out)


def test_a_larger_held_out_part_contains_the_smaller_one() -> None:
    assert set(split(1000, 50, 3).held_out) < set(split(1000, 80, 3).held_out)


@pytest.mark.parametrize(
    ("held_out", "expected"), [(0, 2), (0.0, 2), (1, 2), (0.001, 2), (500, 500), (0.25, 250)]
)
def test_reserved_images_are_among_the_held_out_ones(held_out: float, expected: int) -> None:
    parts = split(1000, held_out, 0, reserved=(17, 4))
    assert {17, 4} <= set(parts.held_out)
    assert len(parts.held_out) == expected


def test_nothing_is_held_out_where_nothing_is_asked_for() -> None:
    assert len(split(10, 0, 0).held_out) == 0
    assert len(split(10, 0.01, 0).held_out) == 1  # a share is at least one image


@pytest.mark.parametrize("held_out", [10, 11, 0.99, 1.0, 1.5, -0.1, -1, float("nan")])
def test_a_held_out_part_that_leaves_nothing_or_means_nothing_is_refused(held_out: float) -> None:
    with pytest.raises(SettingsError):
        split(10, held_out, 0)
