import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kakusan.errors import RunError, printable, quoted
from kakusan.storage.checkpoints import Checkpoint
from kakusan.storage.dumps import forget_after, stopped_at
from kakusan.storage.run_folder import RunFolder

CONFIG: dict[str, Any] = {"data": {"source": 'C:\\kanji "拡散"', "held-out": 0.1}, "training": {"steps": 12}}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # 4 ms each, and no power cut here


def new_run(folder: str = "runs/digits") -> RunFolder:
    return RunFolder.create(Path(folder), CONFIG, {"torch": "2"}, {"kind": "levels", "bad": ["\udcff.png"]})


def save(run: RunFolder, *steps: int) -> None:
    for step in steps:
        run.save(Checkpoint(step, {"model": {"w": torch.ones(1)}, "ema": {"w": torch.full((1,), step)}}, {}))


def damage(run: RunFolder, step: int, part: str = "model") -> None:
    (run.checkpoints / f"step-{step:08d}" / f"{part}.safetensors").write_bytes(b"rotten")


def fail(text: str) -> None:
    raise AssertionError(text)


def told(error: pytest.ExceptionInfo[RunError]) -> list[str]:
    return str(error.value).split("\n  ")


# Made and opened


def test_a_run_is_what_it_was_made_of() -> None:
    new_run("runs/a b/拡")
    run = RunFolder.open(Path("runs/a b/拡"))
    assert run.config == CONFIG
    assert run.data == {"kind": "levels", "bad": ["\udcff.png"]}
    assert run.environment == {"torch": "2"}
    assert run.steps == []
    assert run.metrics() == []
    assert run.newest(fail) is None


def test_settings_can_be_changed_and_machines_are_added_if_they_differ() -> None:
    run = new_run().update_config({"training": {"steps": 20}})
    for version in ("2", "3", "3", "2"):
        run.record_environment({"torch": version})
    again = RunFolder.open(run.folder)
    assert again.config == run.config == {"training": {"steps": 20}}
    assert [machine["torch"] for machine in again.environments] == ["2", "3", "2"]


def test_nothing_is_made_over_something() -> None:
    new_run()
    Path("photos").mkdir()
    Path("photos/cat.png").touch()
    Path("file").touch()
    for folder, problem in (
        ("runs/digits", "runs/digits is a run already"),
        ("photos", "photos is not a run, and not empty: it has cat.png"),
        ("runs", "runs is not a run, and not empty: it has digits"),
        ("file", "file is a file, not a folder"),
    ):
        before = sorted(Path().rglob("*"))
        with pytest.raises(RunError) as error:
            new_run(str(Path(folder)))
        assert error.value.problem == problem.replace("/", os.sep)
        assert sorted(Path().rglob("*")) == before
    with pytest.raises(RunError, match="cannot make the run"):
        new_run("file/inside")


def test_an_empty_folder_and_one_of_a_killed_creation_become_a_run() -> None:
    for name in (".DS_Store", "data.json", "lock", "lock.json"):
        folder = Path(f"run-{name}")
        folder.mkdir()
        (folder / name).write_text("left")
        assert new_run(str(folder)).data["kind"] == "levels"


def test_a_folder_that_is_no_run_is_told_with_the_runs_near_it() -> None:
    new_run("runs/digits")
    new_run("runs/kanji")
    new_run("elsewhere/moons")
    digits, kanji, moons = (Path(name) for name in ("runs/digits", "runs/kanji", "elsewhere/moons"))
    for given, advice in (
        (Path("runs/digtis"), [f"did you mean {digits}?", f"runs here: {digits}, {kanji}"]),
        (Path("digits"), [f"did you mean {digits}?", f"runs here: {digits}, {kanji}"]),
        (digits / "checkpoints", [f"did you mean {digits}?", f"runs here: {digits}, {kanji}"]),
        (digits / "config.toml", [f"did you mean {digits}?", f"runs here: {digits}, {kanji}"]),
        (Path("elsewhere/x"), [f"runs here: {digits}, {kanji}, {moons}"]),
    ):
        with pytest.raises(RunError) as error:
            RunFolder.open(given)
        first = f"{given} is not a run: it has no config.toml"
        assert told(error) == [first, *advice, f"to train one: kakusan train DATA --run {given}"]


@pytest.mark.parametrize("content", [b"= 1", b"\xff", b"[a]\na = 1\na = 2"])
def test_settings_that_cannot_be_read_are_told(content: bytes) -> None:
    path = new_run().folder / "config.toml"
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"config\.toml cannot be read: "):
        RunFolder.open(path.parent)


def test_a_missing_or_broken_memory_of_the_data_is_told() -> None:
    run = new_run()
    (run.folder / "data.json").write_text("{")
    (run.folder / "environment.json").unlink()
    with pytest.raises(RunError, match=r"data\.json cannot be read"):
        _ = run.data
    with pytest.raises(RunError, match=r"environment\.json cannot be read"):
        _ = run.environment


def test_a_path_that_is_not_unicode_is_told() -> None:
    with pytest.raises(RunError, match="cannot be written as TOML"):
        RunFolder.create(Path("run"), {"source": "\udcff"}, {}, {})
    assert not RunFolder.exists(Path("run"))


# One trainer


HOLD = """
import sys
from pathlib import Path
from kakusan.storage.run_folder import RunFolder
from kakusan.errors import quoted
with RunFolder.open(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def trainer() -> Iterator["subprocess.Popen[str]"]:
    run = new_run()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_trainer_is_told_who_the_first_is_until_that_one_is_killed(
    trainer: "subprocess.Popen[str]",
) -> None:
    run = RunFolder.open(Path("runs/digits"))
    with pytest.raises(RunError) as error, run.lock():
        fail("two trainers")
    pattern = f"{run.folder} is being trained by process {trainer.pid} on "
    assert error.value.problem.startswith(pattern)
    trainer.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    trainer.wait()
    assert (run.folder / "lock.json").exists()  # the dead have no time to tidy up
    with run.lock():
        assert json.loads((run.folder / "lock.json").read_bytes())["process"] == os.getpid()
    assert not (run.folder / "lock.json").exists()


def test_the_lock_holds_within_one_process_too_and_is_dropped_by_an_error() -> None:
    run = new_run()
    with run.lock(), pytest.raises(RunError, match=f"process {os.getpid()} on"), run.lock():
        fail("two trainers")
    with pytest.raises(ZeroDivisionError), run.lock():
        raise ZeroDivisionError
    with run.lock():
        pass


def test_the_next_trainer_removes_what_a_dead_one_left_half_written() -> None:
    run = new_run()
    for name in (".writing-config.toml-123", ".writing-metrics.jsonl-9", ".writing-report.html-5"):
        (run.folder / name).touch()
    with run.lock():
        assert [path.name for path in run.folder.glob(".writing-*")] == [".writing-report.html-5"]


# Checkpoints


def test_the_newest_good_checkpoint_is_loaded_and_a_bad_one_named() -> None:
    run = new_run()
    save(run, 1, 2)
    damage(run, 2, "model")
    complaints: list[str] = []
    assert run.load(complaints.append).step == 1
    assert run.newest(complaints.append) == run.checkpoints / "step-00000001"
    assert len(complaints) == 2
    for complaint in complaints:
        assert complaint.startswith(str(run.checkpoints / "step-00000002"))
        assert complaint.endswith("; it is passed over")
    assert run.load(fail, parts=["ema"]).tensors["ema"]["w"] == 2  # what is wanted is good
    assert run.load(fail, step=1).step == 1


def test_a_run_whose_checkpoints_are_all_bad_never_begins_anew_in_silence() -> None:
    run = new_run()
    save(run, 1, 2)
    damage(run, 1)
    damage(run, 2)
    for ask in (run.newest, run.load):
        with pytest.raises(RunError) as error:
            ask(fail)
        first, newer, older, _ = told(error)
        assert first == f"none of the checkpoints of {run.folder} can be used"
        assert str(run.checkpoints / "step-00000002") in newer
        assert str(run.checkpoints / "step-00000001") in older
        assert all("model.safetensors has 6 bytes" in line for line in (newer, older))


def test_a_checkpoint_that_is_not_there_is_told() -> None:
    run = new_run()
    with pytest.raises(RunError, match="has no checkpoint yet"):
        run.load(fail)
    save(run, 1, 2)
    with pytest.raises(RunError) as error:
        run.load(fail, step=3)
    assert told(error) == [f"{run.folder} has no checkpoint of step 3", "there are: 1, 2"]


# Figures, pictures, words


def test_figures_come_back_and_what_is_not_finite_is_null() -> None:
    run = new_run()
    run.append_metrics({"step": 1, "loss": 0.5, "loss_by_t": (1.0, float("nan"))})
    run.append_metrics({"step": 2, "loss": float("inf"), "loss_by_t": [float("-inf")]})
    assert run.metrics() == [
        {"step": 1, "loss": 0.5, "loss_by_t": [1.0, None]},
        {"step": 2, "loss": None, "loss_by_t": [None]},
    ]


@pytest.mark.parametrize(
    "tail", [b"", b'{"step": 4, "lo', b"\0\0\0", b'{"step": 4}\n\0\0\n[1]\n{"step": 3', b"\xff\n"]
)
def test_a_resumed_run_forgets_the_figures_after_its_step_and_broken_lines(tail: bytes) -> None:
    run = new_run()
    for step in (1, 2, 3):
        run.append_metrics({"step": step})
    path = run.folder / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    assert [line["step"] for line in run.metrics()][:3] == [1, 2, 3]
    run.truncate_metrics(2)
    run.append_metrics({"step": 3})
    assert path.read_bytes() == whole


def test_each_thing_has_its_place() -> None:
    run = new_run()
    run.samples_path(1200).write_bytes(b"png")
    run.report_path.write_text("html")
    run.dump_path(7).write_bytes(b"")
    run.log("began\nwell \udcff")
    run.append_metrics({"step": 1})
    save(run, 1)
    assert sorted(str(path.relative_to(run.folder).as_posix()) for path in run.folder.glob("*")) == [
        "checkpoints",
        "config.toml",
        "data.json",
        "environment.json",
        "lock",
        "log.txt",
        "metrics.jsonl",
        "not-finite-step-00000007.safetensors",
        "report.html",
        "samples",
    ]
    assert (run.folder / "samples" / "step-00001200.png").exists()
    assert (run.folder / "log.txt").read_text("utf-8").endswith("  began\nwell \\udcff\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_told_when_figures_are_written() -> None:
    run = new_run()
    (run.folder / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"cannot write .*metrics\.jsonl: No space left on device") as error:
        run.append_metrics({"step": 1})
    assert "bytes are free in" in error.value.advice[0]


# Commands that can be typed


@pytest.mark.parametrize(
    "name",
    ["plain", "a b", "a b;$(touch PWNED)", "it's", "\x1b]0;title\x07", "\udcff\udcfe", "拡散", "a\nb", "-x"],
)
def test_a_quoted_path_is_that_path_to_a_shell_and_harmless_to_a_terminal(name: str) -> None:
    shell = shutil.which("bash")
    if shell is None:
        pytest.skip("no shell that knows $'...'")
    assert printable(quoted(Path(name))) == quoted(Path(name))
    line = f"printf %s {quoted(Path(name))}".encode()
    seen = subprocess.run([shell, "-c", line], stdout=subprocess.PIPE, check=True).stdout
    assert Path(os.fsdecode(seen)) == Path(name)
    assert not Path("PWNED").exists()


def test_dumps_and_pictures_of_steps_that_were_given_up_are_forgotten() -> None:
    run = new_run()
    save(run, 3)
    for step in (2, 5):
        run.samples_path(step).write_bytes(b"")
        run.dump_path(step).write_bytes(b"")
    assert stopped_at(run) == 5
    forget_after(run, 3)
    run.truncate_samples(3)
    assert stopped_at(run) is None
    assert run.dump_path(2).exists()
    assert [run.samples_picture(step) is not None for step in (2, 5)] == [True, False]
