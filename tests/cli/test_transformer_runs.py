"""A transformer from the command line: trained, resumed, sampled, measured, exported, reported like any other run."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from kakusan.cli import main
from kakusan.networks import Transformer
from kakusan.run import Run

TINY = [
    *("--network.kind", "transformer", "--network.width", "16", "--network.blocks", "1", "--steps", "4"),
    *("--training.batch-size", "4", "--machine.threads", "1", "--machine.device", "cpu", "--process.T", "20"),
    *("--samples.count", "2", "--samples.steps", "2", "--training.warmup", "0", "--log.every", "2"),
]
SHAPES = {"signals": (24, 30), "images": (24, 9, 12, 3), "volumes": (24, 4, 6, 5)}
"""As arrays have them: the channels last, if there are any."""


@pytest.fixture(scope="module", params=SHAPES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transformer")
    kind: str = request.param
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=SHAPES[kind]))
    flags = ["--data.kind", kind.removesuffix("s"), *TINY]
    assert main(["train", str(folder / "x.npy"), "--run", str(folder / "run"), *flags]) == 0
    return folder / "run"


def test_it_predicts_x_0_by_the_loss_of_the_velocity(run: Path) -> None:
    settings = Run.open(run).settings
    assert (settings.network.kind, settings.process.predicts) == ("transformer", "x_0")
    assert settings.training.loss == "velocity"


def test_it_is_resumed_sampled_measured_and_reported(run: Path, tmp_path: Path) -> None:
    assert main(["resume", str(run), "--steps", "6"]) == 0
    out = tmp_path / "x.npz"
    assert main(["sample", str(run), "--count", "2", "--steps", "3", "--out", str(out)]) == 0
    with np.load(out) as stored:
        assert np.isfinite(stored["images"]).all()
    assert main(["evaluate", str(run), "--images", "2", "--terms", "3"]) == 0
    assert main(["report", str(run)]) == 0


def test_its_weights_go_out_and_diffusers_has_no_words_for_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run), str(tmp_path / "x.safetensors"), "--to", "safetensors"]) == 0
    capsys.readouterr()
    assert main(["export", str(run), str(tmp_path / "x")]) == 4
    words = capsys.readouterr().err
    assert "is for images" in words or "is for U-Nets, and the network of" in words
    assert "--to safetensors" in words


def test_one_begins_from_another(run: Path, tmp_path: Path) -> None:
    data, folder = Run.open(run).settings.data, tmp_path / "child"
    flags = ["--data.kind", data.kind, "--from", str(run), "--run", str(folder), "--steps", "1"]
    assert main(["train", data.source, *flags]) == 0
    assert Run.open(folder).settings.network == Run.open(run).settings.network


def test_its_plain_weights_say_what_they_are_of(run: Path, tmp_path: Path) -> None:
    assert main(["export", str(run), str(tmp_path / "x.safetensors"), "--to", "safetensors"]) == 0
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        said = json.loads(file.metadata()["network"])
    assert said.pop("kind") == "transformer"
    shape = Run.open(run).data.shape
    again = Transformer(channels=shape[0], dimensions=len(shape) - 1, **said)
    again.load_state_dict(load_file(tmp_path / "x.safetensors"))
