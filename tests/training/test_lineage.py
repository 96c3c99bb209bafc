"""Runs that begin from another's weights: what their parent was trained on is never held out, by content."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kakusan.cli import main
from kakusan.config.loading import Requested, flat, settings_for, with_values
from kakusan.data import DATASETS, open_data
from kakusan.errors import RunError
from kakusan.storage.run_folder import RunFolder
from kakusan.training.launch import launch, stored_settings
from kakusan.training.lineage import past_of
from kakusan.training.prepare import doubt_of_held_out, prepare_data

TINY = {
    "network.width": 8,
    "network.multipliers": (1, 1),
    "network.attention": (1,),
    "network.blocks": 1,
    "training.batch_size": 4,
    "training.steps": 1,
    "data.held_out": 0.1,
    "machine.threads": 1,
    "machine.device": "cpu",
    "process.T": 5,
    "samples.count": 2,
    "samples.steps": 2,
}
FLAGS = [
    word
    for name, value in TINY.items()
    if name != "training.steps"
    for word in (f"--{name.replace('_', '-')}", *(value if isinstance(value, tuple) else (value,)))
]
FLAGS = list(map(str, FLAGS))
OF_A_CHILD = FLAGS[FLAGS.index("--training.batch-size") : FLAGS.index("--process.T")]


def begun(source: str, folder: Path, **changes: object) -> RunFolder:
    """A run before its first step."""
    wanted = with_values(settings_for(source), {**TINY, "data.source": source, **changes})
    return launch(Requested(wanted, frozenset(flat(wanted))), folder).run


def held_out_by_a_child(parent: RunFolder, source: str, **changes: object) -> tuple[set[int], set[int], str]:
    """Hashes of what a child holds out, of what its parent was trained on, and the notes."""
    settings = with_values(settings_for(source), {**TINY, "data.source": source, **changes})
    past = past_of(parent, stored_settings(parent))
    prepared = prepare_data(settings, past=past)
    dataset = open_data(parent.config["data"]["source"], stored_settings(parent).data)
    trained = np.delete(dataset.hashes, parent.data["held_out"])
    aside = prepared.dataset.hashes[prepared.split.held_out]
    return set(aside.tolist()), set(trained.tolist()), " ".join(prepared.notes)


def pictures(folder: Path, names: list[str], seed: int) -> None:
    folder.mkdir(exist_ok=True)
    for name, image in zip(
        names, np.random.default_rng(seed).integers(0, 256, (len(names), 8, 8)), strict=True
    ):
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{name}.png")


def test_a_folder_that_grew_among_its_files_holds_out_what_was_held_out_and_new_ones(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    pictures(source, [f"{2 * i:04}" for i in range(60)], seed=0)
    parent = begun(str(source), tmp_path / "parent")
    shutil.copytree(source, tmp_path / "grown")
    pictures(tmp_path / "grown", [f"{2 * i + 1:04}" for i in range(60)], seed=1)
    aside, trained, notes = held_out_by_a_child(parent, str(tmp_path / "grown"))
    assert len(aside) == 12
    assert not aside & trained
    assert notes == (
        "6 of the held-out images were held out by the parent, 6 are new;"
        " 54 images that the parent trained on stay in training"
    )


@pytest.mark.parametrize(
    ("changes", "count"),
    [({"training.seed": 5}, 180), ({"data.held_out": 0.2}, 180), ({"data.held_out": 0.05}, 90)],
)
def test_the_same_digits_otherwise_divided_leak_nothing(
    changes: dict[str, object], count: int, tmp_path: Path
) -> None:
    parent = begun("digits", tmp_path / "parent")
    aside, trained, notes = held_out_by_a_child(parent, "digits", **changes)
    assert len(aside) == count
    assert not aside & trained
    assert f"{count} of the held-out images were held out by the parent, 0 are new" in notes
    assert ("180 images are held out, not 359" in notes) == (changes == {"data.held_out": 0.2})


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_an_array_that_grew_or_was_reordered_leaks_nothing(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = (
        rng.integers(0, 256, (120, 8, 8, 1)) if kind == "uint8" else rng.normal(size=(120, 8, 8, 1))
    ).astype(kind)
    np.save(tmp_path / "first.npy", images[:60])
    np.save(tmp_path / "grown.npy", images)
    np.save(tmp_path / "mixed.npy", images[rng.permutation(120)][:90])
    parent = begun(str(tmp_path / "first.npy"), tmp_path / "parent")
    for name in ("grown", "mixed"):
        aside, trained, _ = held_out_by_a_child(parent, str(tmp_path / f"{name}.npy"))
        assert len(aside) == {"grown": 12, "mixed": 9}[name]
        assert not aside & trained


def test_the_images_of_other_levels_cannot_be_compared_and_that_is_said(tmp_path: Path) -> None:
    digits = DATASETS["digits"].load().images
    np.save(tmp_path / "digits.npy", digits * 15)  # 256 levels in place of 17
    parent = begun("digits", tmp_path / "parent")
    _, _, notes = held_out_by_a_child(parent, str(tmp_path / "digits.npy"))
    assert "is not known: its images are of 1x8x8, 17 levels, these of 1x8x8, 256 levels" in notes


def without_hashes(run: RunFolder) -> RunFolder:
    """As an older version left it."""
    record = run.data
    del record["image_hashes"]
    record.pop("past", None)
    (run.folder / "data.json").write_text(json.dumps(record))
    return run


def test_an_old_parent_is_asked_by_its_data_where_they_are_as_they_were(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), dtype=np.uint8)
    np.save(tmp_path / "data.npy", images)
    parent = begun(str(tmp_path / "data.npy"), tmp_path / "parent")
    known = past_of(parent, stored_settings(parent))
    old = past_of(without_hashes(parent), stored_settings(parent))
    assert np.array_equal(old.trained, known.trained)
    assert np.array_equal(old.held_out, known.held_out)
    np.save(tmp_path / "data.npy", images[:50])
    lost = past_of(parent, stored_settings(parent))
    assert "are not those that the run began with" in lost.unknown
    settings = with_values(
        settings_for(str(tmp_path / "data.npy")), {"data.source": str(tmp_path / "data.npy")}
    )
    notes = prepare_data(settings, past=lost).notes
    assert "held-out figures of this run may be too good" in notes[0]


def test_hashes_that_are_none_are_an_error_of_the_run(tmp_path: Path) -> None:
    parent = begun("digits", tmp_path / "parent")
    for broken in ("AAAA", "no base64 $", 5):
        (parent.folder / "data.json").write_text(json.dumps({**parent.data, "image_hashes": broken}))
        with pytest.raises(RunError, match="is not one that kakusan wrote"):
            past_of(parent, stored_settings(parent))


def test_a_grandchild_holds_out_nothing_that_either_was_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (90, 8, 8, 1), dtype=np.uint8)
    for name, part in (("first", images[:60]), ("second", images[30:]), ("all", images)):
        np.save(tmp_path / f"{name}.npy", part)
    line = ["train", str(tmp_path / "first.npy"), "--run", str(tmp_path / "a"), "--steps", "1", *FLAGS]
    assert main(line) == 0
    for parent, name, child in (("a", "second", "b"), ("b", "all", "c")):
        line = ["train", str(tmp_path / f"{name}.npy"), "--run", str(tmp_path / child), "--steps", "1"]
        assert main([*line, "--from", str(tmp_path / parent), *OF_A_CHILD]) == 0
    said = capsys.readouterr().err
    runs = {name: RunFolder.open(tmp_path / name) for name in "abc"}
    places = {"a": np.arange(60), "b": np.arange(30, 90), "c": np.arange(90)}
    aside = {name: set(places[name][run.data["held_out"]].tolist()) for name, run in runs.items()}
    trained = {name: set(places[name].tolist()) - aside[name] for name in runs}
    assert not aside["b"] & trained["a"]
    assert not aside["c"] & (trained["a"] | trained["b"])
    assert aside["c"]
    assert "images that the parent trained on stay in training" in " ".join(said.split())
    assert all(doubt_of_held_out(run.data) == "" for run in runs.values())
    old = without_hashes(runs["b"])
    assert "was not checked" in doubt_of_held_out(old.data) or "was trained on" in doubt_of_held_out(old.data)
    assert past_of(old, stored_settings(old)).unknown == (
        "the parent began from another run, whose images it does not know"
    )
