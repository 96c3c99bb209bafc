"""Runs whose schedule is learned with the network: trained, read as a table, guided, continued; and what is refused."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from goldens import run_kakusan
from tiny import TINY
from torch import nn

import kakusan as kk
from kakusan.config.facts import DataFacts
from kakusan.config.loading import from_mapping, settings_for, with_values
from kakusan.config.parallel import set_threads
from kakusan.config.resolve import resolve
from kakusan.diffusion.denoiser import NetworkDenoiser
from kakusan.diffusion.learned import Learned, LearnedPath
from kakusan.diffusion.schedules import Given, NoiseSchedule
from kakusan.errors import SettingsError
from kakusan.shapes import Samples
from kakusan.storage.times import ErrorsByTime, TimesFile, TunedTimes
from kakusan.training.ladder import for_steps
from kakusan.training.prepare import prepare_data
from kakusan.training.state import Task, assemble, averaged
from kakusan.training.step import train_step

STEPS = 8
LEARNED = ("--process.schedule", "learned", "--process.variance", "learned")
FACTS = DataFacts((1, 8, 8), is_levels=True, count=100)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("learned") / "run"
    flags = [
        "--steps",
        str(STEPS),
        "--checkpoint.every",
        "4",
        "--checkpoint.snapshots",
        "4",
        "--training.ema",
        "0.5",
    ]
    run_kakusan(["train", data, "--run", folder, *TINY, *LEARNED, *flags, "--training.learning-rate", "0.01"])
    return folder


def task_of(data: Path, **values: Any) -> Task:
    """A training in memory."""
    settings = with_values(
        settings_for(str(data)),
        {
            "process.schedule": "learned",
            "process.T": 20,
            "network.width": 8,
            "machine.device": "cpu",
            "training.batch_size": 32,
            "training.ema": 0.9,
            **values,
        },
    )
    prepared = prepare_data(settings)
    return assemble(for_steps(resolve(settings, prepared.facts), prepared, 4).settings, prepared)


def test_a_run_has_its_schedule_as_a_table_of_the_averaged_weights(run: Path) -> None:
    opened = kk.Run.open(run)
    loaded = opened.load()
    path, start = loaded.model.path, Learned(T=20)
    assert isinstance(path, Given)
    assert path == opened.path
    assert 0.01 < float((path.log_snr[1:] - start.log_snr[1:]).abs().max()) < 2
    averages = opened.files.load(pytest.fail, parts=["ema"]).tensors["ema"]
    assert {"log_snr.moves", "log_snr.falls"} <= averages.keys()
    first = 13.3 + 10 * float(averages["log_snr.moves"][0])
    assert float(path.log_snr[1]) == pytest.approx(first, abs=1e-6)  # of 1 - alpha_bar, which is 2e-6
    assert opened.load(weights="model").model.path != path


def test_its_settings_say_so_and_the_loss_is_the_bound(run: Path) -> None:
    settings = kk.Run.open(run).settings
    assert (settings.process.schedule, settings.training.loss) == ("learned", "bound")
    assert settings.process.log_snr_1 == 13.3
    assert "log_snr_1 = 13.3" in (run / "config.toml").read_text()
    plain = resolve(from_mapping({}, "here"), FACTS)
    assert (plain.process.schedule, plain.training.loss) == ("cosine", "simple")


def test_samples_bounds_and_other_weights_use_it(run: Path, tmp_path: Path) -> None:
    opened = kk.Run.open(run)
    assert opened.sample(2, seed=1).equal(kk.Run.open(run).sample(2, seed=1))
    loaded = opened.load()
    early = opened.early(loaded, 4)
    assert isinstance(early.model.denoiser, NetworkDenoiser)
    assert early.model.path != loaded.model.path
    assert early.model.denoiser.on(loaded.model.path).path == loaded.model.path
    run_kakusan(
        ["sample", run, "--count", "2", "--guide", "early", "--guidance", "2", "--out", tmp_path / "x.png"]
    )
    run_kakusan(["evaluate", run, "--images", "2", "--terms", "8"])
    run_kakusan(["explain", run, "--out", tmp_path / "explain.html"])


def test_it_goes_on_and_is_a_beginning_for_others(run: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "longer")
    run_kakusan(["resume", tmp_path / "longer", "--steps", str(STEPS + 2)])
    child = tmp_path / "child"
    run_kakusan(["train", data, "--from", run, "--run", child, "--steps", "1", "--training.batch-size", "4"])
    before, after = (kk.Run.open(folder).path for folder in (run, child))
    assert isinstance(before, NoiseSchedule)
    assert isinstance(after, NoiseSchedule)
    assert float((before.log_snr[1:] - after.log_snr[1:]).abs().max()) < 0.1  # one step


def test_in_training_the_path_is_that_of_the_weights_at_each_moment(data: Path) -> None:
    task = task_of(data)
    path = task.model.path
    assert isinstance(path, LearnedPath)
    before = path.table()
    train_step(task.state, task.batches, task.loss, task.settings.training)
    after = path.table()
    assert before != after
    with averaged(task):
        assert path.table() not in (before, after)
    assert path.table() == after


def test_parts_of_a_batch_give_its_gradient(data: Path) -> None:
    found = []
    for workers in (1, 2):
        set_threads(workers, workers)
        task = task_of(data, **{"training.optimizer": "adamw"})
        gradients: list[torch.Tensor] = []
        task.state.optimizer.register_step_pre_hook(
            lambda *_, task=task, gradients=gradients: gradients.extend(
                p.grad.clone() for p in task.network.log_snr.parameters()
            )
        )
        train_step(task.state, task.batches, task.loss, task.settings.training)
        found.append(gradients)
    set_threads(1, 1)
    for one, two in zip(*found, strict=True):
        assert torch.allclose(
            one, two, rtol=1e-3, atol=1e-5 * float(one.abs().max())
        )  # float32, added by parts


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"training.loss": "simple"}, "the loss simple does not teach the schedule"),
        (
            {"training.loss": "hybrid", "process.variance": "learned"},
            "the loss hybrid does not teach the schedule",
        ),
        ({"process.zero_terminal_snr": True}, "not stretched to end in pure noise"),
        ({"process.T": 1}, "needs two times at least"),
        ({"process.log_snr_1": -6.0}, "falls from log_snr_1"),
    ],
)
def test_what_does_not_go_with_it_is_refused(values: dict[str, Any], words: str, data: Path) -> None:
    with pytest.raises(SettingsError, match=words):
        task_of(data, **values)


class Own(nn.Module):
    """A network of somebody's own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x_t: Samples, time: torch.Tensor, condition: object = None) -> torch.Tensor:  # noqa: ARG002
        out: torch.Tensor = self.layer(x_t)
        return out


def test_a_module_of_ones_own_has_no_schedule(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(20, 2))
    with pytest.raises(SettingsError, match="trained as it is"):
        kk.train(
            points, run=tmp_path / "own", network=Own(), steps=1, settings={"process.schedule": "learned"}
        )


def test_it_is_not_distilled(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from kakusan.cli import main

    assert main(["distill", str(run), "--run", str(tmp_path / "few"), "--steps", "1"]) != 0
    assert "cannot be distilled yet" in capsys.readouterr().err


def test_its_report_draws_it_beside_linear_and_cosine(run: Path) -> None:
    run_kakusan(["report", run])
    page = (run / "report.html").read_text("utf-8")
    assert "log-SNR in nats: " in page
    assert "Nothing is learned here" not in page
    for name in ("learned", "linear", "cosine"):
        assert f"></i>{name}</span>" in page


def test_times_of_older_weights_are_told_of_with_the_schedule_that_has_moved(
    run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    file, moved = TimesFile(folder), "the learned schedule has moved since then"
    file.keep_errors(ErrorsByTime((20.0, 10.0, 1.0), (0.9, 0.5, 0.1), 4, 16))
    for step in (4, STEPS):
        file.add(TunedTimes("ddim", {}, 2, (20.0, 9.0), step, 0.1, 0.2, 16))
        opened = kk.Run.open(folder)
        assert opened.sampler("ddim", steps="tuned:2").at == (20.0, 9.0)
        assert [moved in words for words in opened.warnings] == [True] * (step == 4)
    opened.sampler("ddim", steps=3, spacing="entropic")
    assert "entropic times were measured at step 4, and the weights are of step 8" in opened.warnings[-1]
    assert moved in opened.warnings[-1]
