"""`kakusan bench`: figures of this machine; none is asked to be high."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import TINY

from kakusan.cli import main
from kakusan.config.settings import MachineSettings
from kakusan.data import DATASETS
from kakusan.training import clocks, ladder
from kakusan.training.speed import AS_CHOSEN, ways_of

SCREEN = 24
"""Lines of a terminal."""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is done once a turn, and the convolutions are small."""
    monkeypatch.setattr(ladder, "MEASURED_SECONDS", 0.0)
    monkeypatch.setattr(clocks, "MOMENT", 0.0)
    monkeypatch.setattr(clocks, "LIMIT_MOMENT", 0.0)
    monkeypatch.setattr(clocks, "CONVOLUTIONS", ((1, 8, 8),))


def benched(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["bench", *arguments, "--steps", "4", *TINY, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_network_is_the_one_of_the_plan_and_its_flop_are_counted(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    found = benched([str(data), "--machine.precision", "fp32"], capsys)
    assert main(["plan", str(data), "--steps", "4", *TINY, "--machine.precision", "fp32", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert found["settings"] == planned["settings"]
    assert found["parameters"] == planned["parameters"]
    way = found["ways"][AS_CHOSEN]
    training, sampling = way["training"], way["sampling"]
    # backward for data and for weights, of which the first layer's data need none
    assert 2 < training["flop_of_an_image"] / sampling["flop_of_an_image"] <= 3
    assert training["images_per_second"] == pytest.approx(4 / training["seconds"])
    assert (training["images"], sampling["images"]) == (4, 64)
    assert found["calls_of_an_image"] == 20  # all T
    assert found["memory"] > 1e7
    assert list(tmp_path.iterdir()) == []


def test_what_is_seen_fits_a_screen_and_data_need_not_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["bench", "--steps", "2", *TINY, "--machine.micro-batch", "16"]) == 0
    out = capsys.readouterr().out
    assert "kanji" in DATASETS
    assert "data     kanji: 6,355 images, 16x16, grey" in out
    assert AS_CHOSEN in out
    assert "limit: " in out
    assert len(out.splitlines()) <= SCREEN


def test_points_are_measured_too(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["bench", "two-moons", "--steps", "2", "--machine.threads", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ways"][AS_CHOSEN]["training"]["flop_of_an_image"] > 0


def test_the_other_ways_are_those_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kakusan.training.speed.has_bf16", lambda _: True)
    chosen = MachineSettings(device="cpu", precision="bf16", threads=4, workers=4)
    ways = ways_of(chosen)
    assert list(ways) == [AS_CHOSEN, "in fp32", "one part at a time"]
    assert ways[AS_CHOSEN] == chosen
    assert list(ways_of(MachineSettings(device="cpu", precision="fp32", threads=1, workers=1))) == [
        AS_CHOSEN,
        "in bf16",
    ]
    monkeypatch.setattr("kakusan.training.speed.has_bf16", lambda _: False)
    assert list(ways_of(MachineSettings(device="cpu", precision="fp32", threads=1, workers=1))) == [AS_CHOSEN]
    on_gpu = MachineSettings(device="cuda", precision="fp32", threads=1, workers=1, graphs=True)
    assert "without graphs" in ways_of(on_gpu)


def test_a_busy_machine_gets_one_turn_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "PATIENCE", -1.0)
    done: list[int] = []
    machine = MachineSettings(device="cpu", threads=1, workers=1)
    timed = [clocks.Timed(machine, lambda number=number: done.append(number)) for number in range(2)]  # type: ignore[misc]
    clocks.in_turns(timed, lambda _: None)
    assert all(each.is_measured for each in timed)
    assert done.count(0) == done.count(1)


def test_a_bench_has_the_errors_of_a_training(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "nowhere.npy"]) == 3
    assert "nowhere.npy" in capsys.readouterr().err
