"""A training ends where its held-out loss is known to fall no more: the rule on sequences, and a training by it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny import TINY

from kakusan.cli import main
from kakusan.config.resolve import resolve_cadence
from kakusan.config.settings import Settings, TrainingSettings
from kakusan.errors import SettingsError
from kakusan.run import Run
from kakusan.storage.run_folder import RunFolder
from kakusan.training import trainer
from kakusan.training.course import PLANNED, Course
from kakusan.training.state import Task
from kakusan.training.stopping import IN_A_ROW, UNWATCHED, Watch, fall_between, how_it_ended
from kakusan.training.validation import Compared

MEASURED = 60
EVERY = 100

# The rule


def losses(mean: Callable[[int], float], samples: int, noise: float, seed: int = 0) -> NDArray[np.float64]:
    """(measurements, samples): each sample has a level of its own, which stays, and moves by chance about the mean."""
    generator = np.random.default_rng(seed)
    own = generator.uniform(0.5, 1.5, samples)
    means = np.array([mean(k) for k in range(MEASURED)])[:, None]
    return np.asarray(means * own * (1 + noise * generator.standard_normal((MEASURED, samples))))


def end(sequence: NDArray[np.float64]) -> int | None:
    """The measurement, from 1, at which a training with these losses is done; None: never."""
    watch = UNWATCHED
    for k, row in enumerate(sequence, 1):
        watch = watch.after(k * EVERY, row.tolist())
        if watch.is_done:
            return k
    return None


@pytest.mark.parametrize("seed", range(10))
def test_noise_about_a_constant_ends(seed: int) -> None:
    """500 samples whose losses move by 5 % each: the mean by 0.2 %, a difference of two by 0.3 %."""
    k = end(losses(lambda _: 1.0, 500, 0.05, seed))
    assert k is not None
    assert k > IN_A_ROW


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("noise", [0.0, 0.05, 0.2])
def test_a_steady_fall_never_ends(noise: float, seed: int) -> None:
    """As a power of the steps, as losses do: by 2.8 % over each last quarter."""
    assert end(losses(lambda k: (k + 1.0) ** -0.1, 500, noise, seed)) is None


@pytest.mark.parametrize("seed", range(10))
def test_a_rise_ends_soon_after_its_patience(seed: int) -> None:
    """Lowest at the 20th: a quarter of 27 later; the loss has risen by 3.5 %, so that noise delays nothing."""
    k = end(
        losses(lambda k: (k + 1.0) ** -0.1 if k < 20 else 20**-0.1 * (1 + 0.005 * (k - 19)), 500, 0.05, seed)
    )
    assert k is not None
    assert 23 <= k <= 29


def test_to_the_step() -> None:
    """Flat from the 8th on: a quarter of 11 later. From the first on: after three that agree."""
    assert end(losses(lambda k: max(2 - k / 7, 1.0), 10, 0.0)) == 11
    assert end(losses(lambda _: 1.0, 10, 0.0)) == 1 + IN_A_ROW


@pytest.mark.parametrize("samples", [2, 4, 30])
def test_chance_among_few_samples_ends_no_steady_fall(samples: int) -> None:
    """Samples that move by 5 %. Of 300 such trainings, each asked 60 times, 2 ended: of 100, more than 4 would be no
    chance."""
    fall = [end(losses(lambda k: (k + 1.0) ** -0.1, samples, 0.05, seed)) for seed in range(100)]
    assert sum(k is not None for k in fall) <= 4


def test_of_a_single_sample_nothing_is_known() -> None:
    assert end(losses(lambda _: 1.0, 1, 0.0)) is None


def test_the_lowest_is_remembered_and_what_is_not_finite_or_known_is_passed_by() -> None:
    watch = UNWATCHED.after(1, [1.0, 1.0]).after(2, [0.5, 0.5]).after(3, [0.498, 0.498]).after(4, [0.6, 0.6])
    assert (watch.step, watch.lowest_step, watch.lowest) == (2, 3, 0.498)
    assert watch.after(4, [0.1, 0.1]) == watch.after(5, [float("nan"), 0.1]) == watch


def test_the_interval_of_a_fall_covers_the_truth() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        earlier = 1 + generator.standard_normal(8)
        later = earlier - 0.3 + 0.5 * generator.standard_normal(8)
        fall, reach = fall_between(earlier.tolist(), later.tolist())
        hits += abs(fall - 0.3) <= reach
    assert hits / 2000 == pytest.approx(0.95, abs=0.02)  # four standard errors of a share of 2000


def test_a_course_survives_json_and_another_plan_begins_it_anew() -> None:
    course = Course(2).watched(10, [1 / 3, 0.1], 100)
    assert Course.from_state(json.loads(json.dumps(course.state()))) == course
    assert Course.from_state(PLANNED.state()) == PLANNED
    assert course.under(100, watched=True) == course
    assert course.under(200, watched=True) == course.under(100, watched=False) == Course(2)


def test_the_last_step_is_that_of_the_end() -> None:
    done = Watch(step=10, losses=(1.0,), flat=IN_A_ROW, measured=20)
    assert (PLANNED.last_step(50), Course(watch=done).last_step(50)) == (50, 20)


# A training

SCRIPT = {2: 1.0, 4: 0.9, 6: 0.95, 8: 0.95, 10: 0.95}
"""Held-out losses by step: done at 10, lowest at 4. Later ones fall."""
FLAGS = ["--data.held-out", "3", "--samples.every", "2", "--checkpoint.every", "3", "--training.ema", "0.5"]
WORDS = (
    "stopped at step 10 of 20: the held-out loss had not fallen by 1% since step 4; the averaged weights are those of"
    " step 4, where the held-out loss was lowest"
)


@pytest.fixture(scope="module", autouse=True)
def scripted() -> object:
    plain = trainer._losses

    def losses(task: Task) -> Compared:
        found, step = plain(task), task.state.step
        return replace(found, held_out=[SCRIPT.get(step, 8 / step)] * 3)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "_losses", losses)
        yield


@pytest.fixture(scope="module")
def stopped(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stopped") / "run"
    line = ["train", str(data), "--run", str(folder), *TINY, *FLAGS, "--steps", "20", "--stop-when-done"]
    assert main([*line, "--checkpoint.snapshots", "4"]) == 0
    return folder


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    shutil.copytree(stopped, tmp_path / "run")
    return tmp_path / "run"


def test_it_ends_early_with_the_averaged_weights_of_the_lowest_loss(stopped: Path) -> None:
    run = RunFolder.open(stopped)
    assert run.steps[-1] == 10
    last, lowest = run.load(lambda _: None), run.load_snapshot(4)
    for name, weight in lowest.tensors["ema"].items():  # kept in half precision
        assert torch.equal(last.tensors["ema"][name].to(weight.dtype), weight)
    assert "lowest" not in last.tensors
    assert run.config["training"]["steps"] == 20
    assert run.samples_picture(10) is not None


def test_it_is_told_in_the_figures_the_log_and_the_report(stopped: Path) -> None:
    run = RunFolder.open(stopped)
    (line,) = [line for line in run.metrics() if "planned_steps" in line]
    assert {name: line[name] for name in ("step", "planned_steps", "last_fall_step", "lowest_step")} == {
        "step": 10,
        "planned_steps": 20,
        "last_fall_step": 4,
        "lowest_step": 4,
    }
    at_the_end = [line for line in run.metrics() if line["step"] == 10 and "held_out_loss" in line]
    at_the_lowest = [line for line in run.metrics() if line["step"] == 4 and "held_out_loss" in line]
    assert len(at_the_end) == 2  # of the averaged weights of step 10, then of those that it ends with
    assert at_the_end[1]["held_out_loss"] == pytest.approx(at_the_lowest[0]["held_out_loss"], rel=1e-6)
    assert (stopped / "log.txt").read_text().count(WORDS) == 2  # where it happens, and in the last words
    assert WORDS in (stopped / "report.html").read_text()
    assert Run.open(stopped).unplanned(10) == {"End": WORDS}
    assert how_it_ended(run.metrics(), 9) == ""


def test_the_same_line_again_has_nothing_to_do_and_says_why(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["resume", str(run)]) == 0
    assert WORDS in capsys.readouterr().err
    assert RunFolder.open(run).steps[-1] == 10


@pytest.mark.parametrize(
    ("flags", "last"), [(["--steps", "14"], 14), (["--steps", "24"], 24), (["--no-stop-when-done"], 20)]
)
def test_it_goes_on_where_more_is_asked_for(flags: list[str], last: int, run: Path) -> None:
    assert main(["resume", str(run), *flags]) == 0
    opened = RunFolder.open(run)
    assert opened.steps[-1] == last
    assert WORDS not in (run / "report.html").read_text()
    assert main(["resume", str(run)]) == 0
    assert opened.steps[-1] == last


def test_a_steady_fall_trains_to_the_last_step_with_the_last_weights(data: Path, tmp_path: Path) -> None:
    line = ["train", str(data), *TINY, *FLAGS, "--samples.every", "12", "--steps", "14"]
    assert main([*line, "--run", str(tmp_path / "watched"), "--stop-when-done"]) == 0
    assert main([*line, "--run", str(tmp_path / "plain")]) == 0
    watched, plain = (RunFolder.open(tmp_path / name).load(lambda _: None) for name in ("watched", "plain"))
    assert watched.step == plain.step == 14
    for part in plain.tensors:
        assert all(torch.equal(watched.tensors[part][name], x) for name, x in plain.tensors[part].items())
    assert Run.open(tmp_path / "watched").unplanned(14) == {}


def test_grids_come_oftener_where_they_are_watched() -> None:
    plain, watched = (Settings(training=TrainingSettings(stop=stop)) for stop in ("never", "when-done"))
    assert resolve_cadence(plain, 16_000).samples.every == 2000
    assert resolve_cadence(watched, 16_000).samples.every == 500
    assert resolve_cadence(watched, 1000).samples.every == 200


def test_without_held_out_samples_it_is_refused(data: Path, tmp_path: Path) -> None:
    line = ["train", str(data), "--run", str(tmp_path / "run"), *TINY, "--steps", "2", "--stop-when-done"]
    assert main([*line, "--data.held-out", "1"]) == SettingsError.exit_code
    assert not (tmp_path / "run").exists()
