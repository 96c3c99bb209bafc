"""A training that is interrupted at any moment goes on bit for bit as if it never had been; see interruptions.py."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from interruptions import OF_THE_UNPLANNED, PLACES

STEPS = 12
EVERY = 3  # steps between two checkpoints
WAYS = {"exception": 3, "SIGTERM": 0, "SIGKILL": -9}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    base = tmp_path_factory.mktemp("interrupted")
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # a fork copies only one
    command = [sys.executable, "-W", "error", str(Path(__file__).parents[1] / "interruptions.py"), str(base)]
    child = subprocess.run(command, env=one_thread, capture_output=True, text=True, check=False)
    errors = [line for line in child.stderr.splitlines() if "Interruption" not in line]
    assert child.returncode == 0, errors
    found: dict[str, Any] = json.loads((base / "results.json").read_text())
    return found


@pytest.mark.parametrize(("way", "at"), [(way, at) for way, them in PLACES.items() for at in them])
def test_a_resumed_training_equals_one_that_never_stopped(way: str, at: int, results: dict[str, Any]) -> None:
    case = results[f"{way}-{at}"]
    assert case["code"] == WAYS[way]
    assert case["again"] == 0
    if way == "SIGTERM":
        assert case["steps"][-1] == at + 1  # the step was finished, then saved
    else:
        assert case["steps"] == (
            [] if at < EVERY else case["steps"]
        )  # lost is only what came after the last save
    assert case["traces"] == results["whole-fp32"] | {"steps": case["traces"]["steps"]}


@pytest.mark.parametrize("step", [6, STEPS])
def test_a_kill_between_a_checkpoint_and_its_picture_loses_no_figure(
    step: int, results: dict[str, Any]
) -> None:
    case = results[f"picture-{step}"]
    assert (case["code"], case["again"], case["steps"][-1]) == (-9, 0, step)
    assert case["traces"] == results["whole-fp32"] | {"steps": case["traces"]["steps"]}


def test_ctrl_c_is_like_sigterm(results: dict[str, Any]) -> None:
    case = results["SIGINT"]
    assert (case["code"], case["again"], case["steps"][-1]) == (0, 0, 8)
    assert case["traces"] == results["whole-fp32"] | {"steps": case["traces"]["steps"]}


def test_half_precision_resumes_bit_for_bit_too(results: dict[str, Any]) -> None:
    case = results["bf16"]
    assert (case["code"], case["again"]) == (-9, 0)
    assert case["traces"] == results["whole-bf16"] | {"steps": case["traces"]["steps"]}
    assert case["traces"]["files"] != results["whole-fp32"]["files"]


@pytest.mark.parametrize("kind", ["schedule", "transformer", "parts"])
def test_a_schedule_a_transformer_and_parts_at_once_resume_bit_for_bit_too(
    kind: str, results: dict[str, Any]
) -> None:
    case = results[kind]
    assert (case["code"], case["again"]) == (-9, 0)
    assert case["traces"] == results[f"whole-{kind}"] | {"steps": case["traces"]["steps"]}
    assert case["traces"]["files"] != results["whole-fp32"]["files"]


def test_a_history_of_losses_that_steers_t_is_part_of_the_checkpoint(results: dict[str, Any]) -> None:
    case, whole = results["importance"], results["whole-importance"]
    assert (case["code"], case["again"]) == (-9, 0)
    assert "times.safetensors" in whole["files"]
    assert case["traces"] == whole | {"steps": case["traces"]["steps"]}


@pytest.mark.parametrize(("way", "at"), [(way, at) for way, them in OF_THE_UNPLANNED.items() for at in them])
@pytest.mark.parametrize("kind", ["watched", "rewinding", "muon"])
def test_a_training_that_leaves_its_plan_leaves_it_alike_however_it_is_interrupted(
    kind: str, way: str, at: int, results: dict[str, Any]
) -> None:
    case, whole = results[f"{kind}-{way}-{at}"], results[f"whole-{kind}"]
    reached = at < whole["state"]["step"]
    assert (case["code"], case["again"]) == (WAYS[way] if reached else 0, 0)
    assert case["traces"] == whole | {"steps": case["traces"]["steps"]}


def test_the_trainings_that_leave_their_plan_do_so(results: dict[str, Any]) -> None:
    watched, rewinding = results["whole-watched"], results["whole-rewinding"]
    assert watched["state"]["step"] == 10  # of 12
    assert watched["metrics"][-2]["lowest_step"] == 4
    assert "lowest.safetensors" not in watched["files"]
    assert rewinding["state"]["course"]["rewinds"] == 2
    assert results["whole-muon"]["state"]["course"] == rewinding["state"]["course"]
    assert results["whole-muon"]["files"] != rewinding["files"]
    assert [line["step"] for line in rewinding["metrics"] if "rewinds" in line] == [1, 7]
    lines = [line["step"] for line in rewinding["metrics"] if "loss" in line]
    assert lines == [5, 10, 12]


def test_the_training_that_is_compared_learns_and_reports(results: dict[str, Any]) -> None:
    lines = results["whole-fp32"]["metrics"]
    assert [line["step"] for line in lines if "loss" in line] == [5, 10, 12]
    assert [line["step"] for line in lines if "held_out_loss" in line] == [6, 12]
    assert {"model.safetensors", "ema.safetensors", "optimizer.safetensors"} <= set(
        results["whole-fp32"]["files"]
    )
    assert results["whole-fp32"]["state"]["images_seen"] == STEPS * 12
    assert list(results["whole-fp32"]["snapshots"]) == [f"step-{step:08d}" for step in (2, 6, 8)]
