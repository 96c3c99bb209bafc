"""The settings by themselves: ranges beside the fields, layers over one another, names that are not there."""

import math

import pytest

from kakusan.config.loading import flat, from_mapping, with_values
from kakusan.config.settings import RANGES, DataSettings, Settings, given, named
from kakusan.errors import SettingsError


def test_what_is_set_by_default_lies_in_its_range() -> None:
    assert set(RANGES) <= set(flat(Settings()))
    for low, high in RANGES.values():
        assert low < high


@pytest.mark.parametrize("name", RANGES)
def test_numbers_out_of_their_range_are_refused_by_name(name: str) -> None:
    section, _, field = name.partition(".")
    low, high = RANGES[name]
    is_whole = isinstance(flat(Settings())[name], int) or name.endswith(("steps", "every", "seed"))
    for beyond in (low - 1, *([] if math.isinf(high) else [high + 1])):
        value = int(beyond) if is_whole or float(beyond).is_integer() else beyond
        with pytest.raises(SettingsError, match=f"{name} must be"):
            from_mapping({section: {field: value}}, "here")


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"trainin": {}}, "unknown setting trainin in here"),
        ({"training": {"batchsize": 4}}, "unknown setting training.batchsize in here"),
        ({"training": 4}, "training in here is a section"),
        ({"training": {"batch_size": "many"}}, "training.batch_size in here"),
        ({"network": {"multipliers": [1] * 17}}, "network.multipliers is at most 16 numbers"),
        ({"machine": {"micro_batch": 24}}, "machine.micro_batch must be a multiple of 16"),
        ({"data": {"held_out": 2.5}}, "a whole number of images"),
        ({"data": {"size": [0, 8]}}, "data.size must be at least 1 pixel"),
    ],
)
def test_mistakes_in_a_file_are_named(mapping: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        from_mapping(mapping, "here")


def test_a_layer_replaces_the_budget_below_it() -> None:
    minutes = from_mapping({"training": {"minutes": 2.0}}, "preset")
    steps = from_mapping({"training": {"steps": 7}}, "file", minutes)
    assert (steps.training.steps, steps.training.minutes) == (7, "auto")
    both = from_mapping({"training": {"steps": 7, "minutes": 2.0}}, "file")
    assert (both.training.steps, both.training.minutes) == (7, 2.0)


def test_a_size_is_a_side_or_height_and_width() -> None:
    assert DataSettings().height_and_width is None
    assert DataSettings(size=8).height_and_width == (8, 8)
    assert with_values(Settings(), {"data.size": 8}).data.size == (8, 8)
    assert DataSettings(size=(4, 6)).height_and_width == (4, 6)


def test_auto_is_nothing_given_and_a_table_names_its_entries() -> None:
    assert given(DataSettings().levels) is None
    assert given(DataSettings(levels=17).levels) == 17
    assert named({"a": 1}, "a", "letter") == 1
    with pytest.raises(SettingsError, match="letter knows no 'c'"):
        named({"a": 1, "b": 2}, "c", "letter")
