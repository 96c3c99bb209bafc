"""No signal, lost stream or full disk loses an output, a trained step or the words that say so; see fault_table.py."""

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kakusan.terminal.signals import Stopped, StopRequest, stopping

if sys.platform == "win32" or not Path("/dev/full").exists():
    pytest.skip("made of fork, limits and a device that is always full", allow_module_level=True)

TABLE: Any = importlib.import_module(
    "fault_table"
)  # not before it is known that this system has what it needs

GROWING = {
    "config.toml",
    "environment.json",
    "metrics.jsonl",
    "log.txt",
    "lock",
    "report.html",
    "times.json",
    "times.lock",
}
"""What a training goes on writing in the folder of its run."""
SAYS_NOTHING = ("demo",)  # on stdout
SIGNALS = {
    "SIGHUP": signal.SIGHUP,
    "SIGHUP twice": signal.SIGHUP,
    "SIGTERM": signal.SIGTERM,
    "SIGUSR1": signal.SIGUSR1,
}
LOST = {"nothing": 0, "broken stdout": 141, "full stdout": 1, "full stderr": 0, "closed stderr": 0}
CASES = [
    (name, fault)
    for name in TABLE.COMMANDS
    for fault in (*TABLE.FAULTS, *(TABLE.OF_ONE if name == "resume" else ()))
]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    base = tmp_path_factory.mktemp("faults")
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # a fork copies only one
    command = [sys.executable, "-W", "error", str(Path(__file__).parents[1] / "fault_table.py"), str(base)]
    child = subprocess.run(command, env=one_thread, capture_output=True, text=True, check=False)
    assert (child.returncode, child.stderr) == (0, "")
    found: dict[str, Any] = json.loads((base / "results.json").read_text())
    return found


def changed(table: dict[str, Any], case: dict[str, Any]) -> set[str]:
    """The files that were there and are not as they were."""
    return {path for path, content in table["before"].items() if case["after"].get(path) != content}


def steps(case: dict[str, Any], run: str) -> list[int]:
    """Of whole checkpoints: the manifest comes last, and the folder is renamed after it."""
    manifests = [Path(path) for path in case["after"] if path.endswith("manifest.json")]
    return [int(path.parent.name.removeprefix("step-")) for path in manifests if path.parts[0] == run]


@pytest.mark.parametrize(("name", "fault"), CASES, ids=[f"{name}-{fault}" for name, fault in CASES])
def test_every_command_ends_well_under_every_fault(name: str, fault: str, table: dict[str, Any]) -> None:
    case = table["cases"][f"{name}, {fault}"]
    assert "Traceback" not in case["err"]
    assert "passed by" not in case["err"]
    if fault == "SIGKILL":
        check_killed(table, case)
        return
    assert not [path for path in case["after"] if "/." in f"/{path}"]  # nothing half written
    if name in TABLE.TRAININGS:
        check_training(name, fault, table, case)
    else:
        check_other(fault, table, case)


def check_killed(table: dict[str, Any], case: dict[str, Any]) -> None:
    """What was there is there, but for the figures and the settings of a training; what is half has a hidden name."""
    assert case["code"] == -signal.SIGKILL
    assert {Path(path).name for path in changed(table, case)} <= GROWING - {"report.html"}
    new = {path for path in set(case["after"]) - set(table["before"]) if "/." not in f"/{path}"}
    assert {Path(path).name for path in new} <= GROWING | {"data.json", "lock.json"}


def check_training(name: str, fault: str, table: dict[str, Any], case: dict[str, Any]) -> None:
    run = "run" if name == "resume" else "new"
    assert {Path(path).parts[0] for path in changed(table, case)} <= {run}
    assert {Path(path).name for path in changed(table, case)} <= GROWING
    if fault in SIGNALS:
        assert case["code"] == 128 + SIGNALS[fault]
        assert max(steps(case, run)) == TABLE.STRUCK + 1  # the step was finished, then saved
        assert case["err"].endswith(f"stopped and saved; to go on: kakusan resume {run}\n")
    elif fault == "no room":
        assert (case["code"], changed(table, case)) == (4, set())
        assert case["err"].count("error: ") == 1
    else:
        assert case["code"] == (0 if name in SAYS_NOTHING else LOST[fault])
        assert max(steps(case, run)) == TABLE.LONGER
        assert f"{run}/report.html" in case["after"]
        assert case["err"].count("error: ") == (case["code"] == 1)
        assert ("the training goes on without" in case["err"]) == (case["code"] > 0)


def check_other(fault: str, table: dict[str, Any], case: dict[str, Any]) -> None:
    if fault in LOST:  # the work is done
        assert case["code"] == LOST[fault]
        words = "error: standard output cannot be written: No space left on device\n"
        assert case["err"].endswith(words if case["code"] == 1 else "")
    else:
        assert changed(table, case) == set()
        assert set(case["after"]) == set(table["before"])
        assert case["code"] == (128 + SIGNALS[fault] if fault in SIGNALS else 4)
        last = case["err"].splitlines()[-1]
        assert last == "stopped" if fault in SIGNALS else case["err"].count("error: cannot ") == 1


def test_a_training_whose_words_are_lost_prints_all_figures_it_can(table: dict[str, Any]) -> None:
    whole = table["cases"]["resume, full stderr"]["out"].splitlines()
    assert [json.loads(line)["step"] for line in whole] == [6, 8]


# One at a time


def started(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "kakusan", *arguments],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "check": False} | options,
    )


@pytest.mark.parametrize("arguments", [["--help"], ["sample", "--help"]])
def test_help_that_cannot_be_written_is_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = started(*arguments, stdout=full)
    assert (done.returncode, done.stderr) == (
        1,
        "error: standard output cannot be written: No space left on device\n",
    )


def test_a_closed_stderr_hides_the_words_of_an_error_and_not_its_code() -> None:
    assert started("nosuch", preexec_fn=lambda: os.close(2), stderr=None).returncode == 2


def test_a_disk_without_room_even_for_temporary_files_is_told(data: Path, tmp_path: Path) -> None:
    import resource

    arguments = ["train", str(data), "--run", str(tmp_path / "run"), "--steps", "1", "--network.width", "8"]
    done = started(
        *arguments, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)), cwd=tmp_path
    )
    assert (done.returncode, "Traceback" in done.stderr) == (4, False)
    assert done.stderr.startswith("error: cannot write ")


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """As nohup starts a program."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping(), StopRequest() as stop:
            stop.arm()
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_who_insists_stops_at_once_and_a_lost_terminal_is_told_as_often_as_it_likes() -> None:
    with StopRequest() as stop:
        stop.arm()
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        assert stop.exit_code == 128 + signal.SIGHUP
        with pytest.raises(Stopped) as stopped:
            os.kill(os.getpid(), signal.SIGTERM)
        assert stopped.value.exit_code == 128 + signal.SIGTERM


def test_before_there_is_something_to_save_a_signal_stops_at_once() -> None:
    with StopRequest(), pytest.raises(Stopped):
        os.kill(os.getpid(), signal.SIGHUP)
