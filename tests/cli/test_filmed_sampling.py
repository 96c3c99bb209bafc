"""`kakusan sample --film --strip`: the very walk that gives the samples, shown."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from goldens import run_kakusan
from PIL import Image
from tiny import TINY

import kakusan as kk
from kakusan.cli import main
from kakusan.data.films import BAND
from kakusan.run import Films
from kakusan.samplers import SAMPLERS, Recorder, SamplingRequest, sample

ASK_TWICE = ("heun", "edm", "unipc", "sa-solver")
FEW = ["--count", "20", "--steps", "6", "--overwrite"]


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filmed") / "run"
    run_kakusan(["train", data, "--run", folder, "--steps", "2", *TINY])
    return folder


def frames(path: Path) -> int:
    with Image.open(path) as film:
        return int(getattr(film, "n_frames", 1))


@pytest.mark.parametrize("ending", [".webp", ".gif", ".png"])
def test_a_film_changes_no_sample_and_ends_with_them(run: Path, tmp_path: Path, ending: str) -> None:
    plain, filmed, film = tmp_path / "a.png", tmp_path / "b.png", tmp_path / f"film{ending}"
    run_kakusan(["sample", run, "--out", plain, *FEW])
    run_kakusan(["sample", run, "--out", filmed, "--film", film, *FEW])
    assert plain.read_bytes() == filmed.read_bytes()
    assert frames(film) == 7  # x_T, and after each of 6 steps
    with Image.open(film) as shown:
        shown.seek(6)
        last = np.asarray(shown.convert("L"))
    run_kakusan(["sample", run, "--out", filmed, "--count", "16", "--steps", "6", "--overwrite"])
    with Image.open(filmed) as shown:
        grid = np.asarray(shown.convert("L"))
    tolerance = 1 if ending == ".gif" else 0  # a palette of 256 colours is rounded
    for left in (0, grid.shape[1] + 16):
        shown_grid = last[BAND:, left : left + grid.shape[1]]
        assert np.abs(shown_grid.astype(int) - grid.astype(int)).max() <= tolerance


def test_a_film_has_as_many_frames_as_are_asked_for(run: Path, tmp_path: Path) -> None:
    film, strip, out = tmp_path / "f.webp", tmp_path / "s.png", tmp_path / "x.npz"
    run_kakusan(["sample", run, "--out", out, "--film", film, "--strip", strip, "--frames", "4", *FEW])
    assert frames(film) == 4
    again = tmp_path / "again.webp"
    run_kakusan(["sample", run, "--out", out, "--film", again, "--frames", "4", *FEW])
    assert again.read_bytes() == film.read_bytes()
    with Image.open(strip) as shown:
        assert shown.size == (7 * 72 - 8, BAND + 8 * 72 - 8)  # 7 times; 4 images, x_t and guess


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_is_recorded_from_noise_to_sample(name: str, run: Path) -> None:
    opened = kk.Run.open(run)
    loaded = opened.load(device="cpu")
    sampler = SAMPLERS[name](steps=5)
    watch = Recorder(18, range(6))
    request = SamplingRequest(
        count=20, shape=(1, 8, 8), micro_batch=16
    )  # the film goes over two micro-batches
    images = sample(loaded.model, sampler, request, watch=watch)
    moments = list(watch.moments())
    assert [moment.t for moment in moments] == [*sampler.times(loaded.model.path)]
    assert all(moment.x.shape == moment.x_0.shape == (18, 1, 8, 8) for moment in moments)
    assert torch.equal(moments[-1].x, images[:18])
    assert torch.equal(moments[-1].x_0, images[:18])
    if name not in ASK_TWICE:
        times = torch.full((16,), float(moments[0].t), dtype=torch.float64)
        guess = loaded.model.predict(moments[0].x[:16], times)
        assert torch.allclose(moments[0].x_0[:16], guess.x_0, atol=1e-6)


def test_python_films_a_sampling_too(run: Path, tmp_path: Path) -> None:
    opened = kk.Run.open(run)
    films = Films(tmp_path / "deep" / "walk.webp", tmp_path / "walk.png")
    filmed = opened.sample(4, kk.DDIM(steps=3), films=films, progress=False)
    assert torch.equal(filmed, opened.sample(4, kk.DDIM(steps=3), progress=False))
    assert frames(tmp_path / "deep" / "walk.webp") == 4
    with pytest.raises(kk.SettingsError, match="is there already"):
        Films(tmp_path / "walk.webp", tmp_path / "walk.png")


def test_what_cannot_be_filmed_is_said_before_the_sampling(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.png"
    for flags, words in {
        ("--film", "a.mp4"): "films are not written as .mp4",
        ("--film", "a.webp", "--frames", "8"): "take 2 to 7 frames",
        ("--film", "a.webp", "--frames", "1"): "take 2 to 7 frames",
        ("--frames", "4"): "frames belong to a film",
        ("--strip", "a.webp"): "a strip is one picture",
        ("--strip", "a.png", "--film", "a.png"): "cannot be both film and strip",
        ("--film", str(run / "config.toml")): "films are not written as .toml",
    }.items():
        assert main(["sample", str(run), "--out", str(out), "--count", "2", "--steps", "6", *flags]) == 2
        assert words in capsys.readouterr().err
        assert not out.exists()


def test_json_names_the_films(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = tmp_path / "f.gif"
    run_kakusan(["sample", run, "--out", tmp_path / "x.npz", "--film", film, "--json", *FEW])
    assert json.loads(capsys.readouterr().out)["film"] == str(film)
