"""Runs on other paths than a schedule's: trained, sampled, measured, reported, resumed; exported as weights alone."""

import json
from pathlib import Path

import numpy as np
import pytest
from goldens import TINY, UNET, run_kakusan

import kakusan as kk
from kakusan.cli import main

PATHS = ("flow", "edm")


@pytest.fixture(scope="module", params=PATHS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paths") / str(request.param)
    run_kakusan(["train", "digits", "--run", folder, *TINY, *UNET, "--process.path", request.param])
    return folder


def test_a_run_on_a_path_predicts_as_its_paper_does_and_learns(run: Path) -> None:
    opened = kk.Run.open(run)
    process = opened.settings.process
    assert (process.path, process.schedule, process.predicts) == (run.name, "none", run.name)
    assert isinstance(opened.model().path, {"flow": kk.FlowMatching, "edm": kk.EDM}[run.name])
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0]
    assert all("baseline_loss" in line for line in lines if "held_out_loss" in line)


@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
def test_both_samplers_give_images(run: Path, tmp_path: Path, sampler: str) -> None:
    run_kakusan(
        ["sample", run, "--count", "3", "--steps", "10", "--sampler", sampler, "--out", tmp_path / "x.npz"]
    )
    with np.load(tmp_path / "x.npz") as stored:
        images = stored["images"]
    assert images.shape == (3, 8, 8, 1)
    assert images.std() > 1


def test_the_bound_is_measured_and_says_what_it_is_of(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_kakusan(["evaluate", run, "--images", "4", "--no-memorizer"])
    said = " ".join(capsys.readouterr().out.split())
    assert f"path {run.name}" in said
    assert "nan" not in said


def test_the_report_names_the_path(run: Path) -> None:
    page = (run / "report.html").read_text("utf-8")
    assert {"flow": "flow matching", "edm": "EDM path"}[run.name] in page


def test_a_resumed_run_is_the_one_that_was_not_interrupted(run: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    flags = [
        *TINY,
        *UNET,
        "--process.path",
        run.name,
        "--training.decay",
        "constant",
        "--training.ema",
        "0.5",
    ]
    flags += ["--training.warmup", "0", "--training.learning-rate", "0.001"]
    run_kakusan(["train", "digits", "--run", whole, *flags])
    run_kakusan(["train", "digits", "--run", parts, *flags, "--steps", "4"])
    run_kakusan(["resume", parts, "--steps", "10"])
    one, other = (kk.Run.open(folder).load().network.state_dict() for folder in (whole, parts))
    assert all(one[name].equal(other[name]) for name in one)


@pytest.mark.parametrize("to", ["diffusers", "onnx"])
def test_formats_that_cannot_describe_a_path_refuse_it(
    run: Path, tmp_path: Path, to: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run), str(tmp_path / "out"), "--to", to]) == 4
    assert "--to safetensors" in capsys.readouterr().err
    run_kakusan(["export", run, tmp_path / "weights.safetensors", "--to", "safetensors"])


def test_explain_says_that_the_derivation_is_of_schedules(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(run)]) == 2
    assert "schedules of betas" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags",
    [["--process.schedule", "cosine"], ["--process.beta-1", "0.1"], ["--process.zero-terminal-snr"]],
)
def test_what_belongs_to_a_schedule_is_refused_on_another_path(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(
        ["train", "digits", "--run", str(tmp_path / "x"), *TINY, *UNET, "--process.path", "flow", *flags]
    )
    assert code == 2
    assert "belongs to process.path vp, not to flow" in capsys.readouterr().err


def test_eps_is_refused_where_it_says_nothing_of_the_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*TINY, *UNET, "--process.path", "flow", "--process.predicts", "eps"]
    assert main(["train", "digits", "--run", str(tmp_path / "x"), *flags]) == 2
    assert "pure noise" in capsys.readouterr().err
