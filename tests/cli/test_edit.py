"""`kakusan edit`, and `Run.editor`: variations, inversion, interpolation, on tiny runs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from goldens import run_kakusan
from PIL import Image
from tiny import TINY

import kakusan as kk
from kakusan.cli import main
from kakusan.run import round_trip
from kakusan.samplers import UniPC

FEW = ["--steps", "5", "--overwrite"]
DDIM = kk.DDIM(steps=5)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("edited") / "run"
    run_kakusan(["train", data, "--run", folder, "--data.labels", "--steps", "4", *TINY])
    return folder


@pytest.fixture(scope="module")
def images(data: Path) -> torch.Tensor:
    return kk.open_data(data).x_0(range(3))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "given.png"
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
    return path


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def about(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out.with_name(out.name + ".json").read_text())
    return found


def test_strength_0_gives_the_image_and_1_forgets_it(run: Path, images: torch.Tensor) -> None:
    opened = kk.Run.open(run)
    editor = opened.editor(DDIM, seed=3, label="1")
    assert torch.equal(editor.variations(images, 0), images)
    assert torch.equal(editor.variations(images, 1), opened.sample(3, DDIM, seed=3, label="1"))
    near, far = (editor.variations(images, strength) for strength in (0.2, 0.8))
    assert (near - images).square().mean() < (far - images).square().mean()
    ours = opened.sample(images=images, t=16, sampler=DDIM, seed=3, label="1")
    assert torch.equal(far, ours)  # 4 of 5 steps of T = 20


def test_variations_take_images_in_turn_and_any_sampler(run: Path, images: torch.Tensor) -> None:
    editor = kk.Run.open(run).editor(UniPC(steps=5))
    five = editor.variations(images, 0.6, 5)
    assert five.shape == (5, 1, 8, 8)
    assert torch.equal(editor.variations(images, 0.0, 5)[3:], images[:2])
    assert torch.equal(five, editor.variations(images, 0.6, 5))


def test_an_inversion_leads_back_and_says_how_near(run: Path, images: torch.Tensor) -> None:
    opened = kk.Run.open(run)
    editor = opened.editor(DDIM, label="0")
    few, many = (editor.invert(images, rounds=rounds) for rounds in (0, 8))
    off = [round_trip(images, found.back, opened.data.units) for found in (few, many)]
    assert off[1].rms < off[0].rms
    assert torch.equal(editor.decode(few.latents), few.back)
    error = (many.back - images).double().abs().max() * 127.5
    assert off[1].largest == pytest.approx(float(error), rel=1e-6)
    same = opened.data.units.decode(many.back) == opened.data.units.decode(images)
    assert off[1].unchanged == same.mean()
    with pytest.raises(kk.SettingsError, match="DDIM without fresh noise"):
        opened.editor("ancestral").invert(images)
    with pytest.raises(kk.SettingsError, match="DDIM without fresh noise"):
        opened.editor(kk.DDIM(steps=5, eta=0.5)).invert(images)


def test_an_interpolation_ends_at_the_reconstructions(run: Path, images: torch.Tensor) -> None:
    editor = kk.Run.open(run).editor(DDIM, label="1")
    pictures = editor.between(images[:1], images[1:2], 7)
    back = editor.invert(images[:2]).back
    assert pictures.shape == (7, 1, 8, 8)
    assert torch.allclose(pictures[[0, -1]], back, atol=1e-5)
    with pytest.raises(kk.SettingsError, match="from one image to another, not from 3 images"):
        editor.between(images, images[:1])
    with pytest.raises(kk.SettingsError, match="2 frames or more, not 1"):
        editor.between(images[:1], images[1:2], 1)


def test_between_seeds_the_ends_are_their_samples(run: Path) -> None:
    opened = kk.Run.open(run)
    for sampler in (DDIM, UniPC(steps=5)):
        pictures = opened.editor(sampler, label="1").between_seeds(3, 8, 5)
        ends = [opened.sample(1, sampler, seed=seed, label="1") for seed in (3, 8)]
        assert torch.allclose(pictures[[0, -1]], torch.cat(ends), atol=1e-5)


def test_the_command_writes_variations_of_a_picture(run: Path, picture: Path, tmp_path: Path) -> None:
    out, film = tmp_path / "e.png", tmp_path / "e.webp"
    flags: list[str | Path] = ["--strength", "0.6", "--label", "1", "--guidance", "2", "--film", film]
    run_kakusan(["edit", run, "--from", picture, "--out", out, *flags, *FEW])
    found = about(out)
    assert (found["t"], found["repeated"], found["steps"], found["strength"]) == (12, 3, 5, 0.6)
    with Image.open(film) as shown:
        assert getattr(shown, "n_frames", 1) == 4
    page = (tmp_path / "e.html").read_text("utf-8")
    assert "0.6: from t = 12, 3 of 5 steps" in page
    assert str(tmp_path) not in page  # it may be shown to others
    again = tmp_path / "again.png"
    run_kakusan(["edit", run, "--from", picture, "--out", again, *flags[:-2], *FEW])
    assert again.read_bytes() == out.read_bytes()
    assert about(again)["t"] == 12


def test_a_picture_is_brought_to_the_size_and_colours_of_the_run(
    run: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "e.npz"
    run_kakusan(["edit", run, "--from", picture, "--strength", "0", "--count", "1", "--out", out, *FEW])
    assert "given.png: scaled and cropped from 20x30 to 8x8" in capsys.readouterr().err
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k in range(2):
        (folder / f"{k}.png").write_bytes(picture.read_bytes())
    wanted = kk.open_data(folder, kk.DataSettings(size=(8, 8), channels=1)).images[0]
    with np.load(out) as stored:
        assert np.array_equal(stored["images"], wanted[None])
    run_kakusan(
        ["edit", run, "--from", out, "--strength", "0", "--out", tmp_path / "f.npz", "--count", "1", *FEW]
    )
    with np.load(tmp_path / "f.npz") as stored:
        assert np.array_equal(stored["images"], wanted[None])


def test_the_command_keeps_the_noise_of_an_inversion(
    run: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "e.png"
    run_kakusan(["edit", run, "--from", picture, "--invert", "--label", "0", "--out", out, *FEW])
    said = capsys.readouterr()
    assert said.out.split() == [str(out), str(tmp_path / "e.x_T.npz"), str(tmp_path / "e.html")]
    assert "round trip: off by" in said.err
    with np.load(tmp_path / "e.x_T.npz") as stored:
        assert stored["x_T"].shape == (1, 1, 8, 8)
        assert stored["t"] == 20
    editor = kk.Run.open(run).editor(DDIM, label="0")
    found = editor.invert(picture)
    with np.load(tmp_path / "e.x_T.npz") as stored:
        assert np.array_equal(stored["x_T"], found.latents.images.numpy())
    assert about(out)["round_trip"]["rms"] == pytest.approx(
        round_trip(found.images, found.back, editor.data.units).rms
    )


def test_the_command_interpolates_as_a_strip_and_a_film(
    run: Path, picture: Path, data: Path, tmp_path: Path
) -> None:
    out, film, other = tmp_path / "e.png", tmp_path / "e.gif", tmp_path / "other.npy"
    np.save(other, np.load(data)["images"][4])
    flags: list[str | Path] = ["--frames", "6", "--out", out, "--film", film, "--label", "1"]
    run_kakusan(["edit", run, "--from", picture, "--to", other, *flags, *FEW])
    assert size_of(out) == (6 * 72 - 8, 64)
    with Image.open(film) as shown:
        assert getattr(shown, "n_frames", 1) == 6
    assert about(out)["round_trip"]["rms"] > 0
    run_kakusan(["edit", run, "--seeds", "3", "8", "--out", out, "--label", "1", *FEW])
    assert size_of(out) == (9 * 72 - 8, 64)
    assert about(out)["seeds"] == [3, 8]


def test_by_default_an_edit_goes_into_the_run(run: Path, picture: Path) -> None:
    for k in (1, 2):
        run_kakusan(["edit", run, "--from", picture, "--steps", "5"])
        assert {path.name for path in (run / "edits").glob(f"edit-{k}.*")} == {
            f"edit-{k}.png",
            f"edit-{k}.png.json",
            f"edit-{k}.html",
        }


@pytest.mark.parametrize(
    ("flags", "words", "code"),
    [
        ((), "there is nothing to edit", 2),
        (("--from", "P", "--seeds", "1", "2"), "--from and --seeds are two beginnings", 2),
        (("--to", "P", "--seeds", "1", "2"), "--to needs an image to come from", 2),
        (("--from", "P", "--strength", "1.5"), "0 to 1, not 1.5", 2),
        (("--from", "P", "--strength", "0.1"), "not a whole one", 2),
        (("--from", "P", "--invert", "--strength", "0.5"), "--strength does not go with this edit", 2),
        (("--from", "P", "--to", "P", "--invert"), "--invert does not go with this edit", 2),
        (("--seeds", "1", "2", "--count", "4"), "--count does not go with this edit", 2),
        (("--seeds", "1", "2", "--frames", "1"), "2 frames or more", 2),
        (("--seeds", "1", "2", "--frames", "9999", "--film", "a.gif"), "too many for a film", 2),
        (("--from", "P", "--frames", "4"), "--frames belongs to a film", 2),
        (("--from", "P", "--film", "a.mp4"), "films are not written as .mp4", 2),
        (("--from", "P", "--invert", "--sampler", "unipc"), "DDIM without fresh noise", 2),
        (("--from", "P", "--invert", "--rounds", "-1"), "0 rounds or more", 2),
        (("--from", "P", "--guide", "early"), "--guide belongs to --guidance", 2),
        (("--from", "none.png"), "cannot be read as an image", 3),
        (("--from", "P", "--label", "9"), "there is no class '9'", 2),
    ],
)
def test_mistakes_are_one_clear_line(
    flags: tuple[str, ...], words: str, code: int, run: Path, picture: Path, tmp_path: Path, capsys: Any
) -> None:
    given = [str(picture) if flag == "P" else flag for flag in flags]
    assert main(["edit", str(run), "--out", str(tmp_path / "x.png"), "--steps", "5", *given]) == code
    said = capsys.readouterr().err
    assert "error: " in said
    assert words in said
    assert not (tmp_path / "x.png").exists()


def test_what_is_there_is_not_replaced_unasked(run: Path, picture: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "x.html").write_text("mine")
    assert (
        main(["edit", str(run), "--from", str(picture), "--out", str(tmp_path / "x.png"), "--steps", "5"])
        == 2
    )
    assert "x.html is there already" in capsys.readouterr().err
    assert (tmp_path / "x.html").read_text() == "mine"


SERIES = {
    "signals": np.random.default_rng(0).normal(size=(12, 2, 16)).astype(np.float32),
    "points": np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32),
}


@pytest.mark.parametrize("kind", SERIES)
def test_signals_and_points_are_edited_too(kind: str, tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", SERIES[kind])
    np.save(tmp_path / "one.npy", SERIES[kind][:1])
    flags = [word for word in TINY if "attention" not in word] if kind == "points" else TINY
    own = ["--steps", "2", "--machine.device", "cpu", "--machine.threads", "1", "--process.T", "20"]
    own += ["--samples.steps", "2", "--training.batch-size", "4"] if kind == "points" else [*flags]
    run = tmp_path / "run"
    run_kakusan(["train", tmp_path / "data.npy", "--run", run, *own])
    for extra in (["--film", tmp_path / "a.webp"], ["--invert"], ["--to", tmp_path / "one.npy"]):
        run_kakusan(["edit", run, "--from", tmp_path / "one.npy", "--out", tmp_path / "x.png", *extra, *FEW])
        assert (tmp_path / "x.html").read_text("utf-8").startswith("<!doctype html>")
    out = tmp_path / "x.npz"
    run_kakusan(
        ["edit", run, "--from", tmp_path / "one.npy", "--strength", "0", "--count", "1", "--out", out, *FEW]
    )
    with np.load(out) as stored:
        found = kk.Run.open(run).editor().read(stored["images"])
    assert np.allclose(kk.Run.open(run).editor().read(SERIES[kind][:1]), found, atol=1e-6)


def test_gaps_stay_where_they_were(tmp_path: Path) -> None:
    sea = np.random.default_rng(0).normal(size=(12, 8, 8)).astype(np.float32)
    sea[:, :3, :3] = np.nan
    np.save(tmp_path / "sea.npy", sea)
    run = tmp_path / "run"
    run_kakusan(
        ["train", tmp_path / "sea.npy", "--run", run, "--data.missing", "mask", "--steps", "2", *TINY]
    )
    one = sea[:1].copy()
    one[0, 5, 5] = np.nan
    editor = kk.Run.open(run).editor(DDIM, first=1)
    gone = torch.from_numpy(np.isnan(one))[:, None]
    assert torch.equal(editor.variations(one, 0.6, 3).isnan(), gone.expand(3, 1, 8, 8))
    found = editor.invert(one)
    assert torch.equal(found.back.isnan(), gone)
    assert np.isfinite(round_trip(found.images, found.back, editor.data.units).rms)
