"""Which network a budget buys: measured, within memory, and said beforehand where it is too little."""

import gc
import math
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kakusan.config.facts import Size
from kakusan.config.loading import Requested, settings_for, with_values
from kakusan.config.networks import UNetOptions
from kakusan.config.networks.unet import LADDER
from kakusan.config.resolve import resolve
from kakusan.config.settings import Settings
from kakusan.errors import DataError
from kakusan.training import ladder
from kakusan.training.ladder import Bought, activation_bytes, cautions, for_seconds, for_steps, within_memory
from kakusan.training.launch import launch
from kakusan.training.memory import BACKWARD, COPIES, REPORT_COPIES, Memory
from kakusan.training.prepare import Prepared, prepare_data
from kakusan.training.state import assemble

TINY = {"network.width": 16, "network.blocks": 1, "network.multipliers": (1, 1), "network.attention": ()}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "images.npy", rng.integers(0, 256, (600, 28, 28, 1), dtype=np.uint8))
    return tmp_path / "images.npy"


def opened(source: Path, **values: object) -> tuple[Settings, Prepared]:
    asked = {name.replace("__", "."): value for name, value in values.items()}
    settings = with_values(
        settings_for(str(source)), {"machine.device": "cpu", "machine.threads": 1, **asked}
    )
    prepared = prepare_data(settings)
    return resolve(settings, prepared.facts), prepared


def pace(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Each size of the ladder takes twice as long as the one before; the smallest takes so many seconds."""
    places = {_size_of(size): place for place, size in enumerate(LADDER)}

    def timed(settings: Settings, *_: object) -> float:
        return seconds * 2.0 ** places[_chosen(settings)]

    monkeypatch.setattr(ladder, "_step_seconds", timed)


def _size_of(size: Size) -> tuple[object, ...]:
    return size.width, size.blocks, 2 if size.folded else 1


def _chosen(settings: Settings) -> tuple[object, ...]:
    network = settings.network
    assert isinstance(network, UNetOptions)
    return network.width, network.blocks, network.patch


def test_more_time_or_a_faster_machine_buys_a_larger_network(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, prepared = opened(images, training__accumulation=1)
    widths = []
    for seconds_of_a_step in (1.0, 0.01, 0.0001):
        pace(monkeypatch, seconds_of_a_step)
        found = for_seconds(settings, prepared, 600)
        size = next(size for size in LADDER if _size_of(size) == _chosen(found.settings))
        assert found.steps >= size.steps * 0.9  # but for the time that measuring took
        widths.append(found.settings.network.width)
    assert widths == sorted(widths)
    assert len(set(widths)) > 1


def test_the_steps_fill_the_time(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, prepared = opened(images, training__accumulation=1)
    pace(monkeypatch, 1.0)
    assert 0.85 * 600 < for_seconds(settings, prepared, 600).steps <= 0.95 * 600


def test_a_given_number_of_steps_is_kept_and_nothing_is_timed(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, prepared = opened(images, training__accumulation=1)
    monkeypatch.setattr(ladder, "_step_seconds", lambda *_: pytest.fail("it was timed"))
    few, many = (for_steps(settings, prepared, steps) for steps in (100, 10**6))
    assert (few.steps, many.steps) == (100, 10**6)
    assert (few.settings.network.width, many.settings.network.width) == (32, 192)


def test_a_given_network_is_kept_whatever_the_budget(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, prepared = opened(images, **{name.replace(".", "__"): value for name, value in TINY.items()})
    monkeypatch.setattr(ladder, "_step_seconds", lambda *_: 1e-6)
    found = for_seconds(settings, prepared, 600).settings.network
    assert isinstance(found, UNetOptions)
    assert (found.width, found.multipliers, found.patch) == (16, (1, 1), 1)


def test_few_images_get_the_smallest_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "few.npy", np.arange(40 * 28 * 28).reshape(40, 28, 28, 1).astype(np.uint8))
    settings, prepared = opened(tmp_path / "few.npy")
    monkeypatch.setattr(ladder, "_step_seconds", lambda *_: 1e-6)
    found = for_seconds(settings, prepared, 600)
    assert _chosen(found.settings)[:2] == (32, 1)
    assert any("few" in line for line in cautions(found, prepared, can_shrink=False))


def test_the_activations_that_are_counted_are_those_that_a_step_keeps(images: Path) -> None:
    settings, prepared = opened(images, **{name.replace(".", "__"): value for name, value in TINY.items()})
    task = assemble(for_steps(settings, prepared, 100).settings, prepared)
    each = activation_bytes(task)
    # width 16 at 28x28 (3 residual blocks) and 14x14 (5): each keeps a handful of tensors of 2 or 4 bytes a value
    values = 16 * 28 * 28
    assert 10 * values < each < 200 * values


def test_what_was_counted_is_given_back(images: Path) -> None:
    settings, prepared = opened(images, **{name.replace(".", "__"): value for name, value in TINY.items()})
    task = assemble(for_steps(settings, prepared, 100).settings, prepared)
    activation_bytes(task)
    network = weakref.ref(task.network)
    del task
    gc.collect()
    assert network() is None


def test_micro_batches_are_as_large_as_fits(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, prepared = opened(images, **{name.replace(".", "__"): value for name, value in TINY.items()})
    found = for_steps(settings, prepared, 100).settings
    assert found.training.accumulation == 1
    each = activation_bytes(assemble(found, prepared))
    unsettled = replace(found, training=replace(found.training, accumulation="auto"))
    for images_that_fit, parts in ((64, 1), (63, 2), (31, 4), (1, 64), (0, 64)):
        monkeypatch.setattr(ladder, "ACTIVATIONS", each * images_that_fit)
        assert within_memory(unsettled, prepared).training.accumulation == parts


@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_a_batch_of_any_size_is_trained(images: Path, batch: int) -> None:
    tiny = {name.replace(".", "__"): value for name, value in TINY.items()}
    settings, prepared = opened(images, **tiny, training__batch_size=batch)
    found = for_steps(settings, prepared, 10).settings
    assert (found.training.batch_size, found.training.accumulation) == (batch, 1)
    assemble(found, prepared)  # which refuses a batch that cannot be split


def test_micro_batches_of_single_images_are_pointed_out(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = {name.replace(".", "__"): value for name, value in TINY.items()}
    settings, prepared = opened(images, **tiny, training__batch_size=97)
    each = activation_bytes(assemble(for_steps(settings, prepared, 10).settings, prepared))
    monkeypatch.setattr(ladder, "ACTIVATIONS", each * 60)
    (words,) = cautions(for_steps(settings, prepared, 10), prepared, can_shrink=False)
    assert "split into 97 micro-batches of 1" in words


def test_a_network_that_the_memory_does_not_hold_ends_the_climb(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, prepared = opened(images, training__accumulation=1)

    def timed(settings: Settings, *_: object) -> float:
        if settings.network.width != 32:
            raise torch.OutOfMemoryError("out of memory")
        return 1e-4

    monkeypatch.setattr(ladder, "_step_seconds", timed)
    assert for_seconds(settings, prepared, 600).settings.network.width == 32


def test_too_little_time_is_said_with_what_would_help(images: Path) -> None:
    settings, prepared = opened(images)
    found = replace(for_steps(settings, prepared, 700), step_seconds=1.2)
    (words,) = cautions(found, prepared, can_shrink=True)
    assert words.startswith("images of 28x28 allow 700 steps in this time here")
    assert "--minutes 53" in words  # 2,500 steps of 1.2 s, and a twentieth more
    assert "--data.size" not in words  # of 14x14 pixels
    (words,) = cautions(found, prepared, can_shrink=False)
    assert "--data.size" not in words


def test_images_that_are_all_equal_are_not_trained_on(tmp_path: Path) -> None:
    np.save(tmp_path / "same.npy", np.full((40, 28, 28, 1), 7, np.uint8))
    with pytest.raises(DataError, match=r"all 40 images of same\.npy are equal"):
        opened(tmp_path / "same.npy")


def test_enough_time_is_not_talked_about(images: Path) -> None:
    settings, prepared = opened(images)
    assert (
        cautions(replace(for_steps(settings, prepared, 2500), step_seconds=1.2), prepared, can_shrink=True)
        == ()
    )
    assert (
        cautions(for_steps(settings, prepared, 10), prepared, can_shrink=True) == ()
    )  # somebody's own choice


def test_a_warm_up_that_outlasts_the_training_is_pointed_out(images: Path) -> None:
    settings, prepared = opened(images, training__warmup=500)
    (words,) = cautions(for_steps(settings, prepared, 600), prepared, can_shrink=True)
    assert words.startswith("training.warmup = 500 is more than half of the 600 steps")


def test_timing_is_of_real_steps(images: Path) -> None:
    settings, prepared = opened(images, **{name.replace(".", "__"): value for name, value in TINY.items()})
    found = for_seconds(settings, prepared, 3.0)
    assert isinstance(found, Bought)
    assert found.step_seconds > 0
    assert found.steps >= 1


def by_pixels(monkeypatch: pytest.MonkeyPatch, seconds_of_64: float) -> None:
    """A step takes time in proportion to the pixels of an image."""

    def timed(settings: Settings, *_: object) -> float:
        assert isinstance(settings.data.size, tuple)
        return seconds_of_64 * math.prod(settings.data.size) / 64**2

    monkeypatch.setattr(ladder, "_step_seconds", timed)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of pictures in two sizes, to be brought to 64x64."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, side in enumerate((64, 64, 70, 70, 90, 90)):
        Image.new("RGB", (side, side), (40 * number, 0, 0)).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize(("seconds_of_64", "side"), [(0.1, 64), (0.5, 32), (30.0, 16)])
def test_images_of_a_folder_are_as_large_as_the_time_allows(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds_of_64: float, side: int
) -> None:
    by_pixels(monkeypatch, seconds_of_64)
    asked = with_values(settings_for(str(photos)), {"training.minutes": 10.0, "training.accumulation": 1})
    launched = launch(Requested(asked, frozenset({"training.minutes"})), tmp_path / "run")
    assert launched.settings.data.size == (side, side)
    notes = [note for note in launched.run.data["notes"] if "this time allows too few steps" in note]
    assert len(notes) == (side < 64)
    assert all(note.startswith(f"scaled and cropped to {side}x{side}: at 64x64") for note in notes)


def test_a_size_that_was_chosen_or_is_the_images_own_is_kept(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_pixels(monkeypatch, 0.5)
    values = {"training.minutes": 10.0, "training.accumulation": 1}
    chosen = with_values(settings_for(str(photos)), {**values, "data.size": (64, 64)})
    launched = launch(Requested(chosen, frozenset({"training.minutes", "data.size"})), tmp_path / "chosen")
    assert launched.settings.data.size == (64, 64)
    assert any("--data.size 32 32 (up to 4," in words for words in launched.cautions)
    for number, picture in enumerate(photos.iterdir()):
        Image.new("RGB", (48, 48), (number, 0, 0)).save(picture)
    own = with_values(settings_for(str(photos)), values)
    launched = launch(Requested(own, frozenset({"training.minutes"})), tmp_path / "own")
    assert launched.settings.data.size == (48, 48)


@pytest.mark.parametrize(
    ("values", "warned"),
    [
        ({"network__patch": 4, "network__width": 32}, False),  # 16 values in 32 channels
        ({"network__patch": 4, "network__width": 16, "network__multipliers": (1,)}, True),
        ({"network__patch": 4, "network__width": 16, "process__predicts": "x_0"}, False),
        ({"network__kind": "transformer"}, False),
        ({"network__kind": "transformer", "process__predicts": "v"}, False),  # patches of 16 values
        ({"network__kind": "transformer", "process__predicts": "v", "network__patch": 14}, True),
        ({"network__kind": "transformer", "process__predicts": "eps", "network__bottleneck": 15}, True),
    ],
    ids=str,
)
def test_a_target_that_is_part_noise_is_warned_of_where_noise_cannot_pass(
    images: Path, values: dict[str, object], warned: bool
) -> None:
    settings, prepared = opened(images, **values)
    said = cautions(for_steps(settings, prepared, 100), prepared, can_shrink=False)
    about_noise = [line for line in said if "--process.predicts x_0" in line]
    assert bool(about_noise) is warned
    if warned:
        assert settings.process.predicts in about_noise[0]


def test_a_transformer_gets_the_largest_size_that_the_time_allows(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, prepared = opened(images, training__accumulation=1, network__kind="transformer")
    widths = []
    for seconds_of_a_step in (1.0, 0.0001):
        monkeypatch.setattr(ladder, "_step_seconds", lambda *_, s=seconds_of_a_step: s)
        widths.append(for_seconds(settings, prepared, 600).settings.network.width)
    assert widths == [192, 1152]
    assert any(
        "good samples want" in line
        for line in cautions(_short(settings, prepared), prepared, can_shrink=False)
    )


def _short(settings: Settings, prepared: Prepared) -> Bought:
    return replace(for_steps(settings, prepared, 100), step_seconds=1.0)


def test_the_memory_of_a_training_is_told_part_by_part(images: Path) -> None:
    settings, prepared = opened(images, **TINY, training__batch_size=8)
    found = for_steps(settings, prepared, 10)
    whole, halved = (
        Memory.of(assemble(with_values(found.settings, {"training.accumulation": parts}), prepared))
        for parts in (1, 2)
    )
    task = assemble(found.settings, prepared)
    weights = 4 * sum(p.numel() for p in task.network.parameters())
    assert whole.weights == (COPIES + 2) * weights
    assert whole.activations == 2 * halved.activations == BACKWARD * 8 * activation_bytes(task)
    assert whole.data == 600 * 28 * 28
    assert whole.report == REPORT_COPIES * 4 * 540 * 28 * 28
    assert whole.total == sum(vars(whole).values())


def test_what_was_timed_once_is_not_timed_again(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, prepared = opened(images, **TINY)
    found = for_steps(settings, prepared, 10)
    monkeypatch.setattr(ladder, "_step_seconds", lambda *_: 0.5)
    assert ladder.timed(found, prepared) == replace(found, step_seconds=0.5)
    assert ladder.timed(replace(found, step_seconds=0.25), prepared).step_seconds == 0.25
