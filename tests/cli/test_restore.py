"""`kakusan restore`, `Run.restore` and `kakusan edit --mask`, on tiny runs: files, words, mistakes."""

import hashlib
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from goldens import run_kakusan
from PIL import Image
from tiny import TINY
from torch.testing import assert_close

import kakusan as kk
from kakusan.cli import main
from kakusan.operators import Fourier, Mask, function
from kakusan.posterior import MMPS, SMC, Gaussian, Gibbs, Restoration, restored
from kakusan.samplers import UniPC

FEW = ["--steps", "3", "--count", "3"]
near = partial(assert_close, rtol=0.0, atol=1e-4)
"""Equal but for float32: processors may add in other orders in batches of other sizes, and each step of moment matching
solves a linear system with such sums. Values are of order 1; another noise would be off by tenths."""


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("restored") / "run"
    run_kakusan(
        ["train", data, "--run", folder, "--data.labels", "--data.held-out", "0.5", "--steps", "4", *TINY]
    )
    return folder


@pytest.fixture(scope="module")
def y(data: Path) -> Any:
    """One image, of which the left half is not known."""
    opened = kk.open_data(data)
    image = opened.units.decode(opened.x_0(range(1)))[0].astype(np.float64)
    image[:, :4] = np.nan
    return image


@pytest.fixture
def file(y: Any, tmp_path: Path) -> Path:
    path = tmp_path / "y.npy"
    np.save(path, y)
    return path


def test_a_folder_has_samples_maps_page_and_record(
    run: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = [
        str(run),
        "--observed",
        str(file),
        "--operator",
        "mask:hide-left",
        "--noise",
        "0",
        "--out",
        str(out),
    ]
    assert main(["restore", *words, *FEW, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["out"] == str(out)
    assert printed["operator"] == "mask:hide-left"
    assert printed["calls_per_sample"] == 3
    with np.load(out / "samples.npz") as arrays:
        samples, mean, deviation = arrays["samples"], arrays["mean"], arrays["deviation"]
        low, high = arrays["quantile_05"], arrays["quantile_95"]
        assert int(arrays["levels"]) == 256
    known = np.load(file)
    there = ~np.isnan(known)
    assert samples.shape == (3, 8, 8, 1)
    assert samples.dtype == np.uint8
    assert (samples[:, there] == known[there]).all()
    assert (deviation[there] < 1e-4).all()
    assert (deviation[~there] > 0).all()
    assert ((low <= mean + 1e-9) & (mean <= high + 1e-9))[
        ~there
    ].mean() > 0.9  # of three samples the mean is inside
    names = {
        "samples.npz",
        "grid.png",
        "mean.png",
        "deviation.png",
        "measured.png",
        "page.html",
        "record.json",
    }
    assert names <= {path.name for path in out.iterdir()}
    assert len(list((out / "samples").glob("*.png"))) == 3
    assert json.loads((out / "record.json").read_text())["method"] == "mmps"
    assert main(["restore", *words, *FEW]) == 2  # it is there already
    assert "--overwrite" in capsys.readouterr().err


def test_python_draws_what_the_command_line_draws(run: Path, file: Path, tmp_path: Path, y: Any) -> None:
    out = tmp_path / "few.npz"
    words = [
        str(run),
        "--observed",
        str(file),
        "--operator",
        "mask:hide-left",
        "--noise",
        "2.5",
        "--out",
        str(out),
    ]
    assert main(["restore", *words, *FEW, "--seed", "4", "--label", "1"]) == 0
    opened = kk.Run.open(run)
    ours = opened.restore(y, "mask:hide-left", 2.5, count=3, steps=3, seed=4, label="1")
    with np.load(out) as arrays:
        assert (arrays["samples"] == ours.decode()[0]).all()
        assert np.allclose(arrays["mean"], ours.mean[0])
    assert out.with_suffix(".html").is_file()
    operator = Mask(torch.tensor([[False] * 4 + [True] * 4] * 8))
    same = opened.restore(y, operator, 2.5, MMPS(), count=5, steps=3, seed=4, label="1")
    near(same.samples[:, :3], ours.samples)  # a sample is the same whatever the count
    assert "samples of each" in repr(same)


def test_y_that_levels_cannot_give_is_told_once_everywhere(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "y.npy", tmp_path / "out"
    np.save(file, np.full((4, 4), -40.0))
    words = [str(run), "--observed", str(file), "--operator", "down:2", "--noise", "0", "--out", str(out)]
    assert main(["restore", *words, *FEW]) == 0
    error = capsys.readouterr().err
    assert error.count("samples leave the levels 0 to 255 to fit y") == 1
    assert "warning: samples leave" in error
    assert "is kept before rounding: of samples as levels, A(x) is up to " in error
    record = json.loads((out / "record.json").read_text())
    assert any(words.startswith("samples leave the levels") for words in record["warnings"])
    assert "Samples leave the levels" in (out / "page.html").read_text("utf-8")
    assert record["files"] == {str(file.resolve()): hashlib.sha256(file.read_bytes()).hexdigest()}
    assert Path(record["run"]).is_absolute()


def test_samples_that_miss_y_are_a_warning_on_the_terminal_and_in_the_record(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "y.npy"
    np.save(file, np.full((4, 4), 1000.0))
    words = ["--observed", str(file), "--operator", "clip:0:200", "down:2", "--noise", "1", "--json"]
    words = [str(run), *words, "--out", str(tmp_path / "out")]
    assert main(["restore", *words, *FEW]) == 0
    printed = capsys.readouterr()
    assert "warning: 100 % of the samples miss what was measured" in printed.err
    assert json.loads(printed.out)["warnings"][-1].startswith("100 % of the samples miss")


def test_overwriting_leaves_no_older_samples_and_spares_other_folders(
    run: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["restore", str(run), "--observed", str(file), "--operator", "mask:hide-left", "--noise", "0"]
    out = tmp_path / "out"
    assert main([*words, *FEW, "--out", str(out)]) == 0
    (out / "samples" / "notes.png").touch()
    assert main([*words, "--steps", "3", "--count", "1", "--out", str(out), "--overwrite"]) == 0
    assert sorted(path.name for path in (out / "samples").iterdir()) == ["00000000.png", "notes.png"]
    before = sorted(run.rglob("*"))
    for folder in (run, out / "samples"):
        assert main([*words, *FEW, "--out", str(folder), "--overwrite"]) == 2
        assert "holds something else than samples given y" in capsys.readouterr().err
    assert sorted(run.rglob("*")) == before


def test_what_a_masked_array_hides_was_not_measured(run: Path, y: Any) -> None:
    whole = np.where(np.isnan(y), 7, y).astype(np.int64)
    hidden = np.ma.masked_array(whole, np.isnan(y))
    opened, every = kk.Run.open(run), Mask(torch.ones(8, 8, dtype=torch.bool))
    asked = opened.measurement(hidden, every, 1.0)
    assert torch.equal(asked.y.isnan(), opened.measurement(y, every, 1.0).y.isnan())
    assert torch.equal(asked.known, opened.measurement(y, every, 1.0).known)


def test_a_record_has_the_hashes_of_y_and_of_the_files_that_are_named(
    run: Path, tmp_path: Path, y: Any
) -> None:
    kernel, noise = tmp_path / "k.npy", tmp_path / "noise.npy"
    np.save(kernel, np.ones((3, 3)) / 9)
    np.save(noise, np.full((8, 8), 2.0))
    opened, known = kk.Run.open(run), np.nan_to_num(y)
    found = [
        opened.restore(each, f"blur:{kernel}:periodic", str(noise), count=1, steps=2).as_json()
        for each in (known, known, known + 1)
    ]
    assert set(found[0]["files"]) == {str(kernel.resolve()), str(noise.resolve())}
    assert found[0]["measured"]["shape"] == [1, 1, 8, 8]
    digests = [record["measured"]["sha256"] for record in found]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(("noise", "is_told"), [(1.0, True), (500.0, False)])
def test_a_coupling_above_the_noise_of_y_is_warned_of(run: Path, y: Any, noise: float, is_told: bool) -> None:
    method = Gibbs(iterations=2, prior_steps=2, particles=2, narrowest=1.0)
    found = kk.Run.open(run).restore(y, "identity", noise, method, count=1, progress=False)
    assert any("coupling of gibbs adds a deviation of 1," in words for words in found.warnings) == is_told


def test_several_measurements_are_restored_each(run: Path, y: Any) -> None:
    both = np.stack([y, 255 - y])
    opened = kk.Run.open(run)
    found = opened.restore(both, "mask:hide-left", 0.0, count=2, steps=2)
    assert found.decode().shape == (2, 2, 8, 8, 1)
    there = ~np.isnan(both)
    assert (np.moveaxis(found.decode(), 1, 0)[:, there] == both[there]).all()
    first = opened.restore(y, "mask:hide-left", 0.0, count=2, steps=2)
    near(first.samples[0], found.samples[0])


def test_a_calibration_says_whether_the_spread_holds(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--calibrate",
        "--operator",
        "down:2",
        "--noise",
        "2%",
        "--images",
        "3",
        "--count",
        "9",
        "--steps",
        "2",
    ]
    assert main(["restore", str(run), *words]) == 0
    out = capsys.readouterr().out
    assert "coverage of 80 % intervals" in out
    folder = run / "restored" / "1"
    record = json.loads((folder / "record.json").read_text())
    assert record["truths"] == 3
    assert (record["operator"], record["noise"], record["method"]) == ("down:2", "2%", "mmps")
    assert "<svg" in (folder / "page.html").read_text("utf-8")


def test_a_calibration_is_of_the_weights_and_the_guidance_that_were_asked_for(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = [
        "--calibrate",
        "--operator",
        "down:2",
        "--noise",
        "2%",
        "--images",
        "2",
        "--count",
        "3",
        "--json",
    ]

    def figures(*words: str) -> Any:
        assert main(["restore", str(run), *common, "--steps", "2", *words]) == 0
        return json.loads(capsys.readouterr().out)

    usual, of_last, guided = figures(), figures("--weights", "model"), figures("--guidance", "3")
    assert (usual["weights"], of_last["weights"], guided["guidance"]) == ("ema", "model", 3.0)
    assert guided["misfit"]["value"] != usual["misfit"]["value"]
    assert figures("--precision", "bf16")["precision"] == "bf16"


def test_a_single_sample_shows_no_spread(run: Path, y: Any, tmp_path: Path) -> None:
    file, out = tmp_path / "y.npy", tmp_path / "one"
    np.save(file, y)
    words = [
        "--operator",
        "mask:hide-left",
        "--noise",
        "0",
        "--steps",
        "2",
        "--count",
        "1",
        "--out",
        str(out),
    ]
    assert main(["restore", str(run), "--observed", str(file), *words]) == 0
    with np.load(out / "samples.npz") as arrays:
        assert np.isnan(arrays["deviation"]).all()
    assert not (out / "deviation.png").exists()
    page = (out / "page.html").read_text("utf-8")
    assert "Deviation" not in page
    assert "Lower 5 %" not in page


def test_a_truth_of_another_number_is_refused_before_anything_is_drawn(
    run: Path, y: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = kk.Run.open(run)
    monkeypatch.setattr(kk.Run, "load", lambda *_, **__: pytest.fail("weights are not needed for that"))
    truth = np.zeros((2, 8, 8, 1), np.uint8)
    truth[:, 0] = 255
    with pytest.raises(kk.SettingsError, match="3 measurements and 2 true x"):
        opened.restore(np.stack([y] * 3), "mask:hide-left", 0.0, truth=truth)
    assert opened.read(truth).shape == (2, 1, 8, 8)


def test_methods_and_samplers_are_named_with_their_options(run: Path) -> None:
    opened = kk.Run.open(run)
    assert opened.method("smc", particles=3, steps=4) == SMC(particles=3, steps=4)
    method = opened.method("mmps", sampler="unipc", steps=4, solver_steps=2)
    assert isinstance(method, MMPS)
    assert isinstance(method.sampler, UniPC)
    assert (method.sampler.steps, method.solver_steps) == (4, 2)
    with pytest.raises(kk.SettingsError, match="no option"):
        opened.method("mmps", particles=3)
    with pytest.raises(kk.SettingsError, match="no sampler"):
        opened.method("gibbs", sampler="ddim")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "it is not said what was measured"),
        (["--operator", "mask:hide-left"], "no measurement to restore from"),
        (["--operator", "mask:hide-left", "--calibrate"], "draws the noise"),
        (
            ["--operator", "mask:hide-left", "--calibrate", "--observed", "y.npy"],
            "measures held-out samples itself",
        ),
        (["--operator", "down:3", "--observed", "y.npy"], "down:3"),
        (["--operator", "down:2", "--observed", "y.npy", "--images", "8"], "those of a calibration"),
        *(
            (["--operator", "down:2", "--noise", "1", "--calibrate", flag, "1"], f"{flag} does not go with")
            for flag in ("--label", "--vector", "--condition", "--first")
        ),
        (["--operator", "down:2", "--noise", "1", "--calibrate", "--count", "0"], "at least 2 images"),
        (["--operator", "identity", "--observed", "y.npy", "--count", "0"], "a count is at least 1, not 0"),
        (["--operator", "identity", "--observed", "y.npy", "--first", "-1"], "from 0 on, not -1"),
        (["--operator", "identity", "--observed", "y.npy", "--method", "MMPS"], "did you mean mmps?"),
        (["--operator", "masc:hide-left", "--observed", "y.npy"], "did you mean"),
        (["--operator", "mask:hide-left", "--observed", "y.npy", "--method", "mnps"], "there are: mmps"),
        (
            ["--operator", "mask:hide-left", "--observed", "y.npy", "--particles", "8"],
            "it belongs to --method smc",
        ),
        (["--operator", "mask:hide-left", "--observed", "y.npy", "--noise", "-1"], "at least 0"),
        (["--operator", "mask:hide-left", "--observed", "missing.npy"], "missing.npy"),
        (["--operator", "identity", "--observed", "y.npy", "--noise", "no.npy"], "it was named by --noise"),
        (["--operator", "identity", "--observed", "y.npy", "--truth", "no.npy"], "it was named by --truth"),
        (["--operator", "identity", "--observd", "y.npy"], "did you mean --observed"),
        (["--operator", "identity", "--observed"], "--observed needs a path"),
        (
            ["--operator", "identity", "--observed", "y.npy", "--method", "gibbs", "--steps", "5"],
            "it is as long as --iterations says",
        ),
        (
            ["--operator", "identity", "--observed", "y.npy", "--method", "daps", "--sampler", "ddim"],
            "its options: --levels, --flow-steps, --walk-steps",
        ),
        (["--operator", "identity", "--observed", "y.npy", "--count", "100000000"], "this machine has"),
    ],
)
def test_mistakes_are_told(
    run: Path, file: Path, words: list[str], says: str, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(file.parent)
    assert main(["restore", str(run), *words]) in (2, 3)
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error


def test_an_edit_fills_in_what_a_mask_hides(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, mask, out = tmp_path / "photo.png", tmp_path / "mask.png", tmp_path / "filled.npz"
    pixels = np.random.default_rng(1).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(picture)
    kept = np.full((80, 80), 255, np.uint8)
    kept[:40] = 0
    Image.fromarray(kept).save(mask)
    words = ["--from", str(picture), "--mask", str(mask), "--steps", "2", "--count", "4", "--out", str(out)]
    assert main(["edit", str(run), *words]) == 0
    with np.load(out) as arrays:
        images = arrays["images"]
    assert images.shape == (4, 8, 8, 1)
    assert (images[:, 4:, :, 0] == pixels[4:]).all()
    assert (images[0, :3] != images[1, :3]).any()
    record = json.loads(out.with_name(out.name + ".json").read_text())
    assert record["method"] == "mmps"
    assert "eta" not in record  # of DDIM, which other edits walk with
    page = out.with_suffix(".html").read_text()
    assert "steps 2, eta 1, sampler dpmpp-sde-2m" in page
    assert "{&#39;" not in page
    capsys.readouterr()
    assert main(["edit", str(run), *words, "--overwrite", "--strength", "0.5"]) == 2
    assert "--strength does not go with" in capsys.readouterr().err
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(mask)
    assert main(["edit", str(run), *words, "--overwrite"]) == 3
    assert "all black" in capsys.readouterr().err


def test_a_run_behind_the_words_of_the_operator_is_told_to_go_first(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["restore", "--operator", "down:2", str(run), "--observed", "y.npy"]) == 2
    error = capsys.readouterr().err
    assert "stands behind --operator" in error
    assert f"kakusan restore {run} --operator down:2 --observed y.npy" in error


def test_a_line_that_says_too_little_is_refused_without_torch(tmp_path: Path) -> None:
    lines = [
        [str(tmp_path), "--operator", "down:2", "--observed", str(tmp_path / "none.npy")],
        [str(tmp_path), "--observed", str(tmp_path)],
        ["--operator", "down:2", str(tmp_path), "--observed", "y.npy"],
    ]
    program = "import sys; from kakusan.cli import main; sys.exit(main(sys.argv[1:]) + 100 * ('torch' in sys.modules))"
    for line, code in zip(lines, (3, 2, 2), strict=True):
        done = subprocess.run(
            [sys.executable, "-c", program, "restore", *line], capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr


def test_masked_values_are_not_measured_in_python(run: Path, y: Any) -> None:
    opened = kk.Run.open(run)
    masked = np.ma.masked_array(np.nan_to_num(y), np.isnan(y))
    whole = np.ma.masked_array(np.nan_to_num(y).astype(np.uint8), np.isnan(y))
    known = opened.measurement(y, "identity", 1.0).y
    for given in (masked, whole):
        assert torch.equal(opened.measurement(given, "identity", 1.0).y.isnan(), known.isnan())


def test_the_truth_is_in_the_units_of_the_data_whatever_its_type(run: Path, y: Any, tmp_path: Path) -> None:
    opened = kk.Run.open(run)
    x = np.full((8, 8, 1), 51.0)
    x[0] = 255
    of_bytes = opened.truth(x.astype(np.uint8))
    assert torch.allclose(of_bytes, opened.data.units.encode(x[None].astype(np.uint8)))
    assert torch.equal(opened.truth(x), of_bytes)
    assert torch.equal(opened.truth(x[..., 0]), of_bytes)
    Image.fromarray(x[..., 0].astype(np.uint8)).save(tmp_path / "x.png")
    np.save(tmp_path / "x.npy", x)
    for name in ("x.png", "x.npy"):
        assert torch.equal(opened.truth(tmp_path / name), of_bytes)
    flat = opened.restore(y, "mask:hide-left", 1.0, count=1, steps=2, truth=np.zeros((8, 8)))
    assert flat.truth is not None
    for wrong, says in (
        (np.zeros((5, 5)), r"has shape \(5, 5\), and samples have \(8, 8, 1\)"),
        (x + 0.5, "round what is between two levels"),
        (x + 1, "whole numbers from 0 to 255"),
        (y, "nan or infinite"),
    ):
        with pytest.raises(kk.DataError, match=says):
            opened.truth(wrong)


def test_a_value_of_another_world_is_refused_unless_it_is_hidden(run: Path, y: Any) -> None:
    opened = kk.Run.open(run)
    coded = np.where(np.isnan(y), 1e30, y)
    with pytest.raises(kk.DataError, match=r"holds values of 1e\+30"):
        opened.measurement(coded, "identity", 1.0)
    opened.measurement(coded, "mask:hide-left", 1.0)
    opened.measurement(coded[..., 0], "mask:hide-left", 1.0)


def test_a_map_of_noise_has_the_axes_of_the_data_in_python_too(run: Path, y: Any, tmp_path: Path) -> None:
    opened, sigma = kk.Run.open(run), np.linspace(1, 2, 64).reshape(8, 8)
    np.save(tmp_path / "sigma.npy", sigma)
    given = [sigma, sigma[..., None], sigma[None], torch.from_numpy(sigma)]
    noises: list[Any] = [
        *given,
        *(Gaussian(torch.as_tensor(each)) for each in given),
        str(tmp_path / "sigma.npy"),
    ]
    for noise in noises:
        law = opened.measurement(y, "identity", noise).law
        assert isinstance(law, Gaussian)
        assert torch.equal(torch.as_tensor(law.sigma), torch.from_numpy(sigma)[None])
    with pytest.raises(kk.DataError, match=r"the noise has shape \(5, 5\), and a map .*\(8, 8, 1\)"):
        opened.measurement(y, "identity", np.ones((5, 5)))
    for hidden in (np.ma.masked_greater(sigma, 1.5), np.ma.masked_greater(sigma[None], 1.5)):
        with pytest.raises(kk.DataError, match="negative, masked, or not finite"):
            opened.measurement(y, "identity", hidden)
    with pytest.raises(kk.DataError, match="deviations are real numbers"):
        opened.measurement(y, "identity", np.ones((8, 8), dtype=np.complex128))


def test_operators_and_options_of_ones_own_are_told_how_they_are_given(run: Path, y: Any) -> None:
    opened = kk.Run.open(run)

    def refused(operator: Any, says: str) -> None:
        with pytest.raises(kk.SettingsError, match=says):
            opened.restore(y, operator, 1.0, count=1, steps=2)

    refused(lambda x: x, r"kakusan\.operators\.function")
    refused(3, "not int")
    refused([Mask(torch.ones(8, 8, dtype=torch.bool))], "outer @ inner")
    refused(function(lambda x: np.abs(x.numpy())), "of torch operations alone")
    refused(function(lambda x: torch.from_numpy(x.numpy() * 2)), "of torch operations alone")
    found = opened.restore(y, "identity", 1.0, "smc", count=1, steps=2, particles=3)
    assert found.about["options"]["particles"] == 3
    shown: list[float] = []
    request = Restoration(count=2)
    restored(
        opened.guided(opened.load(), None),
        found.measurement,
        SMC(steps=2),
        request,
        lambda part, _: shown.append(part),
    )
    assert max(shown) == 1
    with pytest.raises(kk.SettingsError, match=r"count of samples is a whole number, not 2\.0"):
        opened.restore(y, "identity", 1.0, count=2.0)  # type: ignore[arg-type]
    for share in (2, [0.1, 0.9]):
        with pytest.raises(kk.SettingsError, match="one number from 0 to 1"):
            found.quantile(share)  # type: ignore[arg-type]
    with pytest.raises(kk.SettingsError, match="no option particels"):
        opened.restore(y, "identity", 1.0, "smc", particels=3)


def test_the_truth_is_compared_and_its_file_is_named(run: Path, y: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.nan_to_num(y).astype(np.uint8))
    opened = kk.Run.open(run)
    found = opened.restore(y, "identity", 1.0, count=4, steps=2, truth=tmp_path / "x.npy")
    record = found.as_json()
    assert set(record["files"]) == {str((tmp_path / "x.npy").resolve())}
    assert found.beside_truth is not None
    off = found.decode().astype(float).mean(1)[0] - np.nan_to_num(y)
    assert record["beside_truth"]["error"] == pytest.approx(np.sqrt(np.square(off).mean()))
    assert record["beside_truth"]["level"] == pytest.approx(0.6)
    assert found.beside_truth.words in found.words
    assert opened.restore(y, "identity", 1.0, count=1, steps=2).beside_truth is None


def test_frequencies_of_0_and_y_to_one_side_are_warned_of(run: Path, y: Any) -> None:
    opened, x = kk.Run.open(run), np.nan_to_num(y)[..., 0]
    kspace = np.fft.fft2(x, norm="ortho")
    kept = np.zeros((8, 8))
    kept[:, :3] = 1
    operator = Fourier(torch.from_numpy(kept) > 0)
    told = "frequency 0 in the middle"
    for given, is_told in ((kspace, False), (kspace * np.fft.fftshift(kept), True)):
        found = opened.restore(given, operator, 1.0, count=1, steps=2)
        assert any(told in words for words in found.warnings) == is_told
    far = opened.restore(y + 3000, "identity", 3000.0, count=1, steps=2)
    assert any("to one side" in words for words in far.warnings)


def test_what_is_transparent_was_not_measured(run: Path, y: Any, tmp_path: Path) -> None:
    picture = np.zeros((8, 8, 4), np.uint8)
    picture[..., :3] = np.nan_to_num(y)
    picture[:, 4:, 3] = 255
    Image.fromarray(picture, "RGBA").save(tmp_path / "y.png")
    found = kk.Run.open(run).measurement(tmp_path / "y.png", "identity", 1.0)
    assert torch.equal(found.known[0, 0], torch.arange(8).expand(8, 8) >= 4)
    of_16_bits = Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000)
    of_16_bits.save(tmp_path / "wide.png", transparency=0)  # a value that is transparent, not an alpha
    assert kk.Run.open(run).measurement(tmp_path / "wide.png", "identity", 1.0).known.all()


def test_noise_that_is_named_as_a_share_is_told_in_the_units_of_y(
    run: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Levels of this run are 0 to 255."""
    words = ["--observed", str(file), "--operator", "identity", "--noise", "2%", "--out", str(tmp_path / "o")]
    assert main(["restore", str(run), *words, *FEW, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["words"]
    assert "noise of 2% is a deviation of 5.1, in the units of y" in told
