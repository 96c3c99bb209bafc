"""The texts of a run are believed only where they agree with its checkpoint, and never with a traceback."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from tiny import TINY

from kakusan.cli import main
from kakusan.errors import RunError
from kakusan.interop.importing import import_model
from kakusan.run import Run
from kakusan.storage.agreement import DATA_HASHES, data_hashes
from kakusan.storage.checkpoints import Checkpoint
from kakusan.storage.run_folder import RunFolder
from kakusan.training.trainer import Trainer

FLAGS = [*TINY, "--checkpoint.every", "2"]
USES = {
    "sample": ["sample", "RUN", "--count", "1", "--steps", "1", "--out", "x.png"],
    "evaluate": ["evaluate", "RUN", "--images", "2", "--terms", "3"],
    "report": ["report", "RUN"],
    "explain": ["explain", "RUN"],
    "export": ["export", "RUN", "model"],
    "resume": ["resume", "RUN", "--steps", "6"],
    "train --from": ["train", "data.npz", "--from", "RUN", "--run", "child", "--steps", "1"],
}


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("agreement")
    shutil.copy(data, base / "data.npz")
    assert main(["train", str(base / "data.npz"), "--run", str(base / "run"), "--steps", "4", *FLAGS]) == 0
    assert main(["export", str(base / "run"), str(base / "exported")]) == 0
    import_model(base / "exported", base / "imported")
    return base


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run, in a folder of its own."""
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here" / "run"


def said_by(arguments: list[str], run: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    code = main([str(run) if word == "RUN" else word for word in arguments])
    return code, capsys.readouterr().err


def edit_config(run: Path, name: str, value: Any) -> None:
    path = run / "config.toml"
    config = {k: dict(table) for k, table in RunFolder.open(run).config.items()}
    section = next(section for section in ("network", *config) if name in config[section])
    config[section][name] = value
    path.write_text(tomli_w.dumps(config), "utf-8")


def edit_data(run: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = run / "data.json"
    record = json.loads(path.read_text("utf-8"))
    edit(record)
    path.write_text(json.dumps(record), "utf-8")


EDITS = {
    "middle_scale": 3.0,
    "frequency_shift": 0.0,
    "schedule": "sigmoid",
    "predicts": "x_0",
    "T": 21,
    "heads": 2,
    "clip_range": 5.0,
    "width": 16,
    "multipliers": [1, 2],
    "kind": "mlp",
}


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("folder", ["run", "imported"])
def test_an_edited_setting_is_named_with_what_the_checkpoint_has(name: str, folder: str, run: Path) -> None:
    edit_config(run.parent / folder, name, EDITS[name])
    with pytest.raises(RunError, match="was trained with other settings than") as error:
        Run.open(run.parent / folder).load()
    assert re.fullmatch(rf"\w+\.{name}: it has .*, config\.toml says .*", error.value.advice[0])


def change_levels(record: dict[str, Any]) -> None:
    record["units"]["levels"] -= 1


def swap_held_out(record: dict[str, Any]) -> None:
    record["held_out"][0] = next(i for i in range(12) if i not in record["held_out"])


DATA_EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "units": change_levels,
    "held_out": swap_held_out,
    "shape": lambda record: record.update(shape=[1, 4, 16]),
    "class_names": lambda record: record.update(class_names=["a", "b"]),
    "fingerprint": lambda record: record.update(fingerprint="0"),
}


@pytest.mark.parametrize("use", USES)
def test_nobody_uses_weights_whose_texts_were_changed(
    use: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    edit_config(run, "middle_scale", 3.0)
    code, said = said_by(USES[use], run, capsys)
    assert (code, "network.middle_scale: it has 1.0, config.toml says 3.0" in said) == (4, True), said
    (run / "config.toml").write_bytes(before[run / "config.toml"])
    edit_data(run, swap_held_out)
    code, said = said_by(USES[use], run, capsys)
    assert (code, "changed since: held_out" in said) == (4, True), said
    (run / "data.json").write_bytes(before[run / "data.json"])
    kept = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "lock"}
    assert kept == {path: content for path, content in before.items() if path.name != "lock"}
    assert said_by(USES[use], run, capsys)[0] == 0


@pytest.mark.parametrize("name", DATA_EDITS)
def test_a_changed_memory_of_the_data_is_named(name: str, run: Path) -> None:
    edit_data(run, DATA_EDITS[name])
    with pytest.raises(RunError, match=r"data\.json is not the one") as error:
        Run.open(run).load()
    assert error.value.advice[0] == f"changed since: {name}"


def test_any_flipped_bit_in_the_memory_of_the_data_is_noticed_or_in_its_descriptions(run: Path) -> None:
    path = run / "data.json"
    content, whole = path.read_bytes(), json.loads(path.read_bytes())
    for place in range(0, len(content), 3):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            Run.open(run).load()
        except RunError:
            continue
        assert data_hashes(whole).items() <= data_hashes(json.loads(flipped)).items()


def test_where_the_data_lie_what_they_are_called_and_the_length_may_change(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.move(run.parent / "data.npz", run.parent / "moved.npz")
    edit_config(run, "source", str(run.parent / "moved.npz"))
    edit_data(run, lambda record: record.update(name="mine", source="somewhere", notes=["private"]))
    for use in ("sample", "evaluate", "report"):
        assert said_by(USES[use], run, capsys)[0] == 0
    assert said_by(USES["resume"], run, capsys)[0] == 0
    assert RunFolder.open(run).steps[-1] == 6


def test_a_checkpoint_from_before_the_hashes_still_opens_and_gets_them_when_it_goes_on(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder.open(run)
    old = folder.load(pytest.fail)
    shutil.rmtree(folder.checkpoints)
    folder.save(Checkpoint(old.step, old.tensors, {k: v for k, v in old.state.items() if k != DATA_HASHES}))
    assert said_by(USES["sample"], run, capsys)[0] == 0
    assert said_by(USES["resume"], run, capsys)[0] == 0
    assert folder.load(pytest.fail).state[DATA_HASHES] == data_hashes(folder.data)


def test_weights_that_do_not_fit_are_told(run: Path) -> None:
    """A whole checkpoint of another network: its maker hashed what is wrong."""
    folder = RunFolder.open(run)
    good = folder.load(pytest.fail)
    for name, weights in (
        ("a tensor of another shape", {k: torch.zeros(3) for k in good.tensors["ema"]}),
        ("a tensor too few", dict(list(good.tensors["ema"].items())[1:])),
    ):
        folder.save(Checkpoint(4 + len(name), {**good.tensors, "ema": weights, "model": weights}, good.state))
        with pytest.raises(RunError, match=r"does not fit the network of its config\.toml"):
            Run.open(run).load()
        with pytest.raises(RunError, match=r"does not fit the network of its config\.toml"):
            list(Trainer(folder, Run.open(run).settings).events())


STRANGE: dict[str, Callable[[dict[str, Any]], object]] = {
    "a monster": lambda record: record.update(shape=[1, 200_000, 200_000]),
    "a negative side": lambda record: record.update(shape=[1, -8, 8]),
    "a word for a side": lambda record: record.update(shape=["a", 8, 8]),
    "one side": lambda record: record.update(shape=[8]),
    "a word for the held-out": lambda record: record.update(held_out="abc"),
    "a held-out image beyond": lambda record: record.update(held_out=[10**9]),
    "a held-out image twice": lambda record: record.update(held_out=[1, 1]),
    "a number for the classes": lambda record: record.update(class_names=3),
    "numbers for the names": lambda record: record.update(class_names=[1, 2]),
    "no units": lambda record: record.pop("units"),
    "units of no kind": lambda record: record.update(units={"kind": "none"}),
    "units of other channels": lambda record: record.update(
        units={"kind": "real", "mean": [0, 0], "scale": [1, 1], "shown": 1}
    ),
    "a parent that is none": lambda record: record.update(weights_from={"x": 1}),
    "a parent of no step": lambda record: record.update(weights_from={"run": 5, "step": "x"}),
    "a source that is none": lambda record: record.update(imported={"source": []}),
    "a list of bad files that is none": lambda record: record.update(bad_files={"name": 3}),
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_strangers_memory_of_the_data_is_told(
    name: str, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "kakusan.storage.agreement.data_hashes", lambda _: {}
    )  # a run whose maker hashed it so
    monkeypatch.setattr("kakusan.storage.agreement.DATA_HASHES", "none")
    edit_data(run, STRANGE[name])
    for use in ("sample", "report", "resume"):
        code, said = said_by(USES[use], run, capsys)
        assert (code, "data.json is not one that kakusan wrote" in said) == (4, True), said


@pytest.mark.parametrize("name", ["data.json", "config.toml"])
def test_a_text_of_too_many_brackets_cannot_be_read(
    name: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / name).write_text("x = " * (name == "config.toml") + "[" * 200_000)
    code, said = said_by(USES["sample"], run, capsys)
    assert (code, f"{name} cannot be read" in said) == (4, True), said


LINES = (
    *(
        '{"step": "x", "loss": 1}',
        '{"step": null, "loss": 1}',
        '{"step": 1, "loss": "x"}',
        '{"step": true}',
        "[1]",
    ),
    *(
        '{"loss": 1}',
        '{"step": 2, "loss_by_t": 3}',
        '{"step": 2, "loss": [1]}',
        '{"step": 1e3, "loss": {}}',
        "7",
    ),
    *(
        '{"step": 2, "loss_by_t": [[1]]}',
        "[" * 100_000,
        '{"step": 1, "loss": 1' + "0" * 400 + "}",
        "\x00",
        "{",
    ),
)


def test_lines_of_no_figures_are_passed_over(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "metrics.jsonl"
    figures = RunFolder.open(run).metrics()
    path.write_text("\n".join([*LINES, path.read_text("utf-8")]), "utf-8")
    assert RunFolder.open(run).metrics() == figures
    for use in ("report", "resume"):
        assert said_by(USES[use], run, capsys)[0] == 0


def test_figures_without_a_value_are_shown_as_none(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines: tuple[dict[str, Any], ...] = (
        {"loss": None},
        {"loss": None, "loss_by_t": None},
        {"held_out_loss": None},
        {"loss_by_t": []},
    )
    with (run / "metrics.jsonl").open("a") as file:
        for line in lines:
            file.write(json.dumps({"step": 4, **line}) + "\n")
    for use in ("report", "resume"):
        assert said_by(USES[use], run, capsys)[0] == 0
