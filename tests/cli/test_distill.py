"""kakusan distill: a run becomes another, of one to four calls, which is a run like any other."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TINY

import kakusan as kk
from kakusan.cli import main
from kakusan.data.saving import sidecar
from kakusan.errors import ModelError, RunError
from kakusan.evaluation.distillation import cost_of
from kakusan.run import Run
from kakusan.storage.run_folder import RunFolder
from kakusan.training.distill import distillation
from kakusan.training.launch import launch

OF_TESTS = ["--network.dropout", "0.5", "--data.labels", "--data.held-out", "4", "--checkpoint.every", "3"]


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", str(data), "--run", str(folder), "--steps", "16", *TINY, *OF_TESTS]) == 0
    return folder


@pytest.fixture(scope="module")
def distilled(parent: Path) -> Path:
    before = {path: path.read_bytes() for path in parent.rglob("*") if path.is_file()}
    assert main(["distill", str(parent), "--no-distance"]) == 0
    assert {path: path.read_bytes() for path in parent.rglob("*") if path.is_file()} == before
    return parent.with_name("tiny-distilled")


def test_it_begins_from_the_averaged_weights_and_takes_half_of_the_time(
    parent: Path, distilled: Path
) -> None:
    settings = Run.open(distilled).settings
    assert (settings.training.loss, settings.training.steps) == ("consistency", 6)  # 3/8 of 16
    assert settings.network == Run.open(parent).settings.network
    begun = RunFolder.open(distilled).load(lambda _: None, step=0).tensors
    averaged = RunFolder.open(parent).load(lambda _: None).tensors["ema"]
    assert all(
        torch.equal(begun[part][name], averaged[name]) for part in ("model", "ema") for name in averaged
    )
    same = Run.open(distilled).files.data["held_out"]
    assert same == Run.open(parent).files.data["held_out"]


def stopping_after(steps: int) -> Iterator[bool]:
    yield from [False] * (steps - 1)
    while True:
        yield True


@pytest.mark.parametrize("steps", [2, 3, 5])
def test_an_interrupted_distillation_goes_on_to_the_bit(
    parent: Path, distilled: Path, tmp_path: Path, steps: int
) -> None:
    stops = stopping_after(steps)
    trainer = launch(distillation(RunFolder.open(parent)), tmp_path / "run", weights_from=parent)
    list(trainer.events(lambda: next(stops)))
    assert RunFolder.open(tmp_path / "run").steps[-1] == steps
    assert main(["distill", str(parent), "--run", str(tmp_path / "run"), "--no-distance"]) == 0
    ours, whole = (
        RunFolder.open(each).load(lambda _: None).tensors for each in (tmp_path / "run", distilled)
    )
    for part in ("model", "ema", "optimizer"):
        assert all(torch.equal(ours[part][name], value) for name, value in whole[part].items())


def test_a_second_distillation_goes_on_with_the_first_or_says_why_not(
    parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.v2"
    shutil.copytree(parent, mine)
    for steps in (["--steps", "2"], ["--steps", "2"], ["--steps", "4"]):
        assert main(["distill", str(mine), *steps, "--no-distance"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.v2", "mine.v2-distilled"]
    folder = tmp_path / "mine.v2-distilled"
    assert RunFolder.open(folder).steps[-1] == 4
    capsys.readouterr()
    assert main(["distill", str(mine), "--steps", "4", "--data", "kanji"]) == 4
    said = capsys.readouterr().err
    assert "is a run with other settings" in said
    assert "--run" in said
    assert main(["resume", str(mine), "--steps", "17"]) == 0
    capsys.readouterr()
    assert main(["distill", str(mine), "--steps", "4"]) == 4
    assert "began from step 16" in capsys.readouterr().err
    with pytest.raises(RunError, match="which has 17 steps by now"):
        kk.Run.open(mine).distill(steps=4)
    assert len([*tmp_path.iterdir()]) == 2


def test_its_samples_take_two_calls_unless_others_are_asked_for(distilled: Path, tmp_path: Path) -> None:
    for flags, sampler, steps in (
        ([], "consistency", 2),
        (["--steps", "1"], "consistency", 1),
        (["--sampler", "ddim", "--steps", "5"], "ddim", 5),
    ):
        out = tmp_path / f"{sampler}-{steps}.npz"
        assert main(["sample", str(distilled), "--count", "4", "--out", str(out), *flags]) == 0
        about = json.loads(sidecar(out).read_text())
        assert (about["sampler"], about["steps"]) == (sampler, steps)
        assert about["spacing"] == ("trailing" if sampler == "ddim" else None)
    ours = Run.open(distilled).sample(4)
    assert np.array_equal(np.load(tmp_path / "consistency-2.npz")["images"], Run.open(distilled).decode(ours))


def test_what_is_for_models_of_many_calls_is_refused(
    distilled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "x.png"
    assert main(["sample", str(distilled), "--count", "1", "--out", str(picture)]) == 0
    for arguments, words in (
        (["tune", str(distilled), "--calls", "2"], "there is nothing to tune"),
        (["tune", str(distilled), "--entropic"], "there is nothing to tune"),
        (["sample", str(distilled), "--spacing", "entropic"], "entropic times are for many calls"),
        (["edit", str(distilled), "--from", str(picture)], "edit with the run that it came from"),
        (["export", str(distilled), str(tmp_path / "d")], "schedulers of diffusers"),
    ):
        capsys.readouterr()
        assert main(arguments) in (2, 3, 4), arguments
        assert words in capsys.readouterr().err


def test_a_comparison_measures_no_walk_of_a_distilled_run(
    distilled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    flags = ["--samplers", "auto", "--steps", "1,2", "--count", "32", "--out", str(tmp_path / "x.png")]
    assert main(["compare", str(distilled), *flags, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [way["sampler"]["sampler"] for way in found["ways"]] == ["consistency", "consistency"]
    assert [way["from_fine"] for way in found["ways"]] == [None, None]
    assert not found["fine"]


def test_the_loss_has_no_baseline_and_bits_are_said_to_mean_nothing(
    distilled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run.open(distilled)
    (line,) = [line for line in run.files.metrics() if "held_out_loss" in line]
    assert "baseline_loss" not in line
    assert not run.hardly_learned(6)
    assert main(["evaluate", str(distilled), "--images", "2", "--terms", "4"]) == 0
    assert "say nothing of its samples" in " ".join(capsys.readouterr().err.split())
    found = kk.Run.open(distilled).diagnose(count=32)
    assert found.broken.answer == "not known"
    assert "not the means" in found.broken.sentences[0]


def test_distances_are_of_both_runs_and_of_real_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kakusan.evaluation.features.STEPS", 2)
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    np.savez(tmp_path / "more.npz", images=images)
    flags = [*TINY, "--data.held-out", "20"]
    assert (
        main(["train", str(tmp_path / "more.npz"), "--run", str(tmp_path / "old"), "--steps", "4", *flags])
        == 0
    )
    assert main(["distill", str(tmp_path / "old"), "--steps", "2", "--json"]) == 0
    (path,) = (tmp_path / "old-distilled" / "evaluation").iterdir()
    found = json.loads(path.read_text())
    assert path.name == "step-00000002-distillation.json"
    names = ["real (held-out)", "old, sa-solver, 10 calls", "old-distilled, 1 call", "old-distilled, 2 calls"]
    assert list(found["distances"]) == names
    assert found["about"]["count"] == 20
    (tmp_path / "old").rename(tmp_path / "elsewhere")
    assert list(cost_of(Run.open(tmp_path / "old-distilled")).distances) == [names[0], *names[2:]]


def test_that_distances_cannot_be_had_is_no_failure(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, flags = tmp_path / "old", [*TINY, "--data.held-out", "8"]  # which leaves four to be compared with
    assert main(["train", str(data), "--run", str(old), "--steps", "2", *flags]) == 0
    assert main(["distill", str(old), "--steps", "1"]) == 0
    assert "note: no distances: there are 4 training images" in capsys.readouterr().err


def test_mistakes_are_one_error_with_advice(
    parent: Path, distilled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, words in (
        ([str(distilled)], "was distilled already"),
        ([str(parent), "--steps", "2", "--minutes", "1"], "two lengths"),
        ([str(parent), "--steps", "0", "--run", str(tmp_path / "none")], "at least 1"),
        ([str(tmp_path)], "is not a run"),
        ([str(parent), "--steps", "9", "--run", str(parent)], "did not start from"),
    ):
        assert main(["distill", *arguments]) in (2, 4)
        assert words in capsys.readouterr().err
    assert main(["restore", str(distilled), "--calibrate", "--operator", "identity", "--noise", "1"]) == 2
    assert "was distilled, and samples given y take a model of many calls" in capsys.readouterr().err
    with pytest.raises(ModelError, match="models of many calls"):
        kk.export_model(kk.Run.open(distilled), "diffusers", tmp_path / "out")


def test_its_twin_in_python_is_the_same_run(parent: Path, distilled: Path, tmp_path: Path) -> None:
    run = kk.Run.open(parent).distill(run=tmp_path / "twin")
    ours, theirs = (each.files.load(lambda _: None).tensors["ema"] for each in (run, Run.open(distilled)))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert torch.equal(run.sample(4, "consistency"), Run.open(distilled).sample(4))


@pytest.mark.parametrize(
    "flags",
    [
        ["--process.path", "flow"],
        ["--process.path", "edm"],
        ["--process.zero-terminal-snr"],
        ["--process.schedule", "linear", "--process.predicts", "eps"],
        ["--process.variance", "learned"],
    ],
    ids=" ".join,
)
def test_every_path_and_a_learned_variance_can_be_distilled(
    data: Path, tmp_path: Path, flags: list[str]
) -> None:
    old = tmp_path / "old"
    assert main(["train", str(data), "--run", str(old), "--steps", "2", *TINY, *flags]) == 0
    run = kk.Run.open(old).distill(steps=2, run=tmp_path / "new")
    assert run.sample(2).isfinite().all()


def test_a_run_on_data_in_memory_with_masks_and_vectors_is_distilled(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    signals = generator.standard_normal((24, 16)).astype(np.float32)
    signals[generator.random(signals.shape) < 0.2] = np.nan
    settings = {"data.missing": "mask", "training.batch_size": 4, "machine.threads": 1, "process.T": 20}
    run = kk.train(
        signals,
        vectors=generator.standard_normal((24, 2)),
        steps=2,
        settings=settings,
        run=tmp_path / "old",
    )
    new = run.distill(steps=2, run=tmp_path / "new")
    assert new.sample(3, mask="full").isfinite().all()
    assert new.settings.is_distilled
