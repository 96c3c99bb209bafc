"""The page of points: exact arrows, walks from one noise, and one file that needs nothing else."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from well_formed import WellFormed

from kakusan.cli import main
from kakusan.diffusion.model import Model
from kakusan.diffusion.oracles import FiniteSetOracle, GaussianOracle
from kakusan.diffusion.paths import EDM
from kakusan.diffusion.prediction import Prediction
from kakusan.diffusion.tables import SCHEDULES
from kakusan.errors import NumbersError, SettingsError
from kakusan.pages.explain.subject import bundled
from kakusan.pages.plane import drawing
from kakusan.pages.plane.film import GRID, REACH, Film, film, samplers
from kakusan.pages.plane.page import LINES, render
from kakusan.samplers import Ancestral
from kakusan.shapes import Samples, times_like

SLACK = 2e-5
"""float32, in which pictures are kept."""


@pytest.fixture(scope="module")
def roll() -> Film:
    return film(bundled("swiss-roll", "linear", 40), None)


@pytest.fixture(scope="module")
def html(roll: Film) -> str:
    return render(roll, [("Again", "kakusan explain --plane")], "kakusan.")


def told(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="told">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    loaded: dict[str, Any] = json.loads(found[1])
    return loaded


def test_an_arrow_is_the_score_times_the_variance_of_the_noise(roll: Film) -> None:
    """By autograd through the density of the bundled points."""
    subject = bundled("swiss-roll", "linear", 40)
    oracle = subject.model.denoiser
    assert isinstance(oracle, FiniteSetOracle)
    place = roll.times.index(20)
    x = torch.from_numpy(roll.grid).double().view(-1, 2, 1, 1).requires_grad_()
    at = times_like(20, x)
    (score,) = torch.autograd.grad(oracle.log_density(x, at).sum(), x)
    variance = 1 - float(oracle.path.alpha_bar_at(at)[0])
    assert np.allclose(roll.arrows[place], variance * score.view(-1, 2).numpy(), atol=SLACK)


def test_points_keep_their_noise_and_begin_as_data(roll: Film) -> None:
    x_0, x_T = roll.points[0], roll.points[-1]
    place = roll.times.index(20)
    share = roll.shares[place]
    eps = (roll.points[place] - np.sqrt(share) * x_0) / np.sqrt(1 - share)
    last = (x_T - np.sqrt(roll.shares[-1]) * x_0) / np.sqrt(1 - roll.shares[-1])
    assert roll.times[0] == 0
    assert roll.shares[0] == 1
    assert np.allclose(eps, last, atol=10 * SLACK)
    assert not roll.arrows[0].any()


def test_all_walks_begin_in_one_noise_and_end_at_the_data(roll: Film) -> None:
    known = bundled("swiss-roll").known
    assert known is not None
    data = known.x_0(np.arange(len(known))).numpy()
    for walk in roll.walks:
        assert np.array_equal(walk.x[0], roll.walks[0].x[0])
        assert walk.times[-1] == 0
        away = np.linalg.norm(walk.x[-1][:, None] - data[None], axis=2).min(1)
        assert np.median(away) < 0.1, walk.name  # the roll's turns are 1 apart


def test_a_walk_waits_at_a_time_until_the_slider_has_reached_the_next(roll: Film) -> None:
    walk = replace(roll.walks[0], times=(40.0, 20.0, 5.0, 0.0))
    assert [walk.at(t) for t in (40, 39, 20, 6, 5, 1, 0)] == [0, 0, 1, 1, 2, 2, 3]


def test_calls_are_counted(roll: Film) -> None:
    calls = {walk.name: (walk.steps, walk.calls) for walk in roll.walks}
    assert calls["ancestral"] == (40, 40)
    assert calls["ddim"] == (20, 20)
    assert calls["sa-solver"] == (10, 10)
    assert calls["heun"] == (10, 19)  # the last step is Euler's


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("T", [1, 2, 30])
def test_every_schedule_and_length_has_a_page_on_which_all_is_seen(name: str, T: int) -> None:
    found = film(bundled("two-moons", name, T), T)
    for walk in found.walks:
        assert np.isfinite(walk.x).all()
        assert np.median(np.abs(walk.x)) < REACH, walk.name
    assert render(found, [], "")


def test_points_of_another_path_stand_in_the_scale_of_its_twin() -> None:
    subject = bundled("two-moons", "linear", 30)
    other = replace(subject, model=Model(GaussianOracle(EDM(T=30), 0.0, 1.0)))
    found = film(other, 30)
    assert np.abs(found.points[-1]).max() < 5  # sigma is 80 there
    assert np.abs(found.walks[0].x[0]).max() < 5


def test_images_have_no_such_page_and_t_lies_within_the_schedule() -> None:
    with pytest.raises(SettingsError, match="points in the plane"):
        film(bundled("digits", T=10), None)
    with pytest.raises(SettingsError, match="t must be 1 to 10"):
        film(bundled("two-moons", T=10), 11)


def test_the_page_is_one_small_file_that_fetches_nothing(html: str) -> None:
    page = WellFormed(html)
    assert len(html.encode()) < 3_000_000
    assert "https://" not in html
    assert html.replace("http://www.w3.org/2000/svg", "").count("http://") == 0
    assert len(page.all("script")) == 2
    assert not page.all("img")
    assert (
        "Math" not in html.rpartition("<script>")[2]
    )  # the script moves what is drawn, and computes nothing


def test_without_its_script_the_page_shows_the_asked_t(roll: Film, html: str) -> None:
    stops = told(html)["stops"]
    for name in ("points", "arrows"):
        assert f'data-p="{name}" d="{stops[name][roll.asked]}"' in html
    assert f'<b data-n="t">{roll.t}</b>' in html
    assert html.count('<path class="heads" d="M') == len(roll.walks)


def test_there_are_data_for_every_stop_and_every_line(roll: Film, html: str) -> None:
    found = told(html)
    assert {len(column) for column in found["stops"].values()} == {len(roll.times)}
    for walk, drawn in zip(roll.walks, found["walks"], strict=True):
        assert len(drawn["lines"]) == LINES
        assert {len(line) for line in drawn["lines"]} == {len(walk.times)} == {len(drawn["clouds"])}
        assert drawn["at"][0] == len(walk.times) - 1
        assert drawn["at"][-1] == 0


def test_a_denoiser_that_answers_nan_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(_: FiniteSetOracle, x_t: Samples, *__: object) -> Prediction:
        return Prediction(x_t * math.nan, x_t * math.nan)

    monkeypatch.setattr(FiniteSetOracle, "predict", lost)
    with pytest.raises(NumbersError, match="not finite, and they cannot be drawn"):
        film(bundled("swiss-roll", "linear", 8), None)


def test_strings_from_outside_are_only_ever_text(roll: Film) -> None:
    hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)> {{ 7 * 7 }}"
    tame = replace(roll, facts={"a": "a"}, warnings=("a",))
    odd = replace(roll, name=hostile, who=hostile, facts={hostile: hostile}, warnings=(hostile,))
    tags = [[tag for tag, _ in WellFormed(render(each, [], "")).tags] for each in (tame, odd)]
    assert tags[0] == tags[1]


def test_a_needle_points_along_its_arrow_and_none_is_drawn_for_nothing() -> None:
    grid = np.zeros((2, 2), dtype=np.float32)
    drawn = drawing.arrows(grid, np.array([[100.0, 0.0], [0.0, 0.0]], dtype=np.float32))
    assert drawn.count("M") == 1
    tip = re.findall(r"L(-?\d+) (-?\d+)", drawn)[0]
    assert tip == (str(round(drawing.CELL * drawing.LONGEST)), "0")
    assert pytest.approx(2 * REACH * drawing.HALF / drawing.SHOWN) == drawing.CELL * (GRID - 1)


def test_up_is_up() -> None:
    assert (
        drawing.dots(np.array([[0.0, 1.0]], dtype=np.float32))
        == f"M0 {-round(drawing.HALF / drawing.SHOWN)}h0"
    )


def test_samplers_take_no_more_steps_than_there_are() -> None:
    assert all(sampler.times(SCHEDULES["linear"](T=3))[-1] == 0 for sampler in samplers(3).values())
    assert samplers(3)["ancestral"] == Ancestral(steps=3)


def test_the_command_writes_the_page_beside_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # its own page is replaced
        assert main(["explain", "--plane", "--T", "10"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "plane.html"
    assert "swiss-roll, 10,000 points" in out
    assert (
        main(["explain", "--plane", "--T", "10", "--data", "two-moons", "--json", "--out", "deep/page.html"])
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert (found["t"], found["T"], found["page"]) == (1, 10, "deep/page.html")
    assert [walk["sampler"] for walk in found["walks"]] == list(samplers(10))
    assert not (tmp_path / "explain.html").exists()


def test_a_run_of_points_shows_the_score_that_it_has_learned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    line = [
        "train",
        "two-moons",
        "--run",
        str(run),
        "--steps",
        "4",
        "--process.T",
        "10",
        "--training.batch-size",
        "8",
    ]
    assert main(line) == 0
    assert main(["explain", str(run), "--plane"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(run / "plane.html")
    html = (run / "plane.html").read_text("utf-8")
    assert "Here the network says it." in " ".join(html.split())


def test_a_run_of_images_has_no_such_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--plane", "--data", "digits"]) == 2
    assert "--data swiss-roll" in capsys.readouterr().err
