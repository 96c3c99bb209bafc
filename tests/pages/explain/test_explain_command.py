"""kakusan explain, as its users meet it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kakusan.cli import main
from kakusan.cli.arguments import parse
from kakusan.cli.explain import EXAMPLES, Explain, _commands
from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.prediction import Prediction
from kakusan.pages.explain.content import Story
from kakusan.pages.explain.subject import bundled
from kakusan.shapes import Condition, Samples, Times, per_sample


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["explain", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    ("line", "suggested"),
    [
        ([], "kakusan explain --t 5 --schedule cosine"),
        (["--data", "digits", "--T", "10"], "kakusan explain --data digits --T 10 --t 5 --schedule cosine"),
        (
            ["--data", "digits", "--schedule", "cosine"],
            "kakusan explain --data digits --t 5 --schedule linear",
        ),
    ],
)
def test_the_next_line_keeps_the_data(line: list[str], suggested: str, story: Story) -> None:
    command = parse(Explain, line, "explain", EXAMPLES)
    lines = dict(_commands(command, replace(story, t=10)))
    assert lines["Another t, another schedule"] == suggested


def test_without_a_run_the_page_lies_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # its own page is replaced
        code, out, err = told(capsys, "--data", "digits", "--T", "10", "--schedule", "cosine")
        assert code == 0
        assert all(line.startswith("explaining: ") for line in err.splitlines())  # where the machine is slow
    assert out.splitlines()[-1] == "explain.html"
    assert "t = 5:" in out
    assert "\x1b" not in out
    assert (tmp_path / "explain.html").read_text("utf-8").startswith("<!doctype html>")


def test_a_run_is_explained_with_an_image_that_it_has_not_seen(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = told(capsys, str(run), "--t", "7")
    assert code == 0
    assert "held-out image 0" in out
    assert "parameters, predicts v, after 4 steps" in out
    assert "t = 7:  q(x_7 | x_6)" in out
    assert out.splitlines()[-1] == str(run / "explain.html")
    assert (run / "explain.html").is_file()


def test_figures_come_as_json(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "deep" / "page.html"
    code, out, _ = told(capsys, str(run), "--json", "--out", str(page))
    found = json.loads(out)
    assert code == 0
    assert (found["t"], found["T"], found["page"]) == (10, 20, str(page))
    assert page.is_file()
    assert found["numbers"]["total"] > 0


def test_without_its_data_a_run_shows_an_image_of_its_own(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    config = copy / "config.toml"
    lines = config.read_text("utf-8").splitlines()
    gone = [f'source = "{tmp_path / "gone.npz"}"' if line.startswith("source =") else line for line in lines]
    config.write_text("\n".join(gone), "utf-8")
    code, out, _ = told(capsys, str(copy))
    assert code == 0
    assert "sample 0" in out
    assert "the data are not here" in " ".join(out.split())


BAD = {
    "t = 0": (["--data", "digits", "--t", "0"], 2, "t must be 1 to 1,000"),
    "t beyond T": (["--data", "digits", "--T", "10", "--t", "11"], 2, "t must be 1 to 10"),
    "T = 0": (["--data", "digits", "--T", "0"], 2, "T must be"),
    "unknown data": (["--data", "didgits"], 2, "digits"),
    "an unknown schedule": (["--schedule", "linaer"], 2, "linear"),
    "an image that is not there": (["--data", "digits", "--image", "1797"], 2, "there are 1,797"),
    "no run": (["{tmp}/nothing"], 4, "is not a run"),
    "a run with a schedule": (["{run}", "--schedule", "cosine"], 2, "--schedule does not go with it"),
    "a run's image that is not there": (["{run}", "--image", "1000"], 2, "there is no held-out image"),
    "a folder for the page": (["--data", "digits", "--out", "{tmp}"], 2, "is a folder"),
    "another's file": (["--data", "digits", "--out", "{tmp}/mine.html"], 2, "is no page of kakusan"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_error(
    case: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.html").write_text("<p>mine</p>")
    arguments, code, words = BAD[case]
    found, out, err = told(capsys, *(part.format(run=run, tmp=tmp_path) for part in arguments))
    assert words in " ".join(err.split())
    assert found == code
    assert out == ""
    assert (tmp_path / "mine.html").read_text() == "<p>mine</p>"


class Broken(Denoiser):
    """A denoiser that answers nan from a time on."""

    def __init__(self, of: Denoiser, since: float) -> None:
        self.of, self.path, self.since = of, of.path, since

    def predict(self, x_t: Samples, t: Times, condition: Condition | None = None) -> Prediction:
        found = self.of.predict(x_t, t, condition)
        bad = per_sample(t >= self.since, x_t)
        return Prediction(found.x_0.masked_fill(bad, torch.nan), found.eps.masked_fill(bad, torch.nan))


@pytest.mark.parametrize(("since", "where"), [(0, "at every t"), (9, "at t = 9, 10, so")])
def test_a_network_that_answers_nan_is_named_in_place_of_the_installation(
    since: int,
    where: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    usual = bundled("digits", T=10)
    broken = replace(usual.model, denoiser=Broken(usual.model.denoiser, since))
    subject = replace(usual, model=broken, who="the network")
    monkeypatch.setattr("kakusan.pages.explain.subject.bundled", lambda *_: subject)
    code, _, err = told(capsys, "--out", str(tmp_path / "page.html"))
    assert code == 5
    assert f"the network answered nan or infinite numbers {where}" in err
    assert "installation" not in err
