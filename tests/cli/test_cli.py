"""The command line, as its users meet it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from PIL import Image
from safetensors.torch import load_file
from tiny import TINY

from kakusan.cli import main
from kakusan.config.loading import flat, presets, settings_for
from kakusan.run import Run
from kakusan.storage.run_folder import RunFolder


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", str(data), "--run", str(folder), "--steps", "4", *TINY]) == 0
    return folder


def failing(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and words of a command that cannot work."""
    capsys.readouterr()
    try:
        code = main(list(arguments))
    except SystemExit as stop:  # the argument parser leaves this way
        code = int(stop.code or 0)
    return code, capsys.readouterr().err


def test_help_and_version_answer_without_torch() -> None:
    script = (
        "import sys; from kakusan.cli import main; main([]); main(['--help']); main(['--version']);"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules or 'tyro' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", script], check=False, stdout=subprocess.DEVNULL).returncode == 0
    )


def test_a_training_leaves_a_run_with_a_report(run: Path) -> None:
    assert (run / "report.html").read_text("utf-8").startswith("<!doctype html>")
    assert (run / "samples" / "step-00000004.png").is_file()
    assert [line["step"] for line in Run.open(run).files.metrics() if "loss" in line] == [2, 4]
    resolved = flat(Run.open(run).settings)
    sections = (
        "network.",
        "machine.",
        "samples.",
        "training.steps",
        "process.clip",
        "data.size",
        "data.channels",
    )
    assert {k: v for k, v in resolved.items() if k.startswith(sections) and v == "auto"} == {}


def test_the_same_command_again_finds_nothing_left_to_do(run: Path, data: Path) -> None:
    before = (run / "metrics.jsonl").read_bytes()
    assert main(["train", str(data), "--run", str(run), "--steps", "4", *TINY]) == 0
    assert (run / "metrics.jsonl").read_bytes() == before


def test_a_finished_run_can_be_trained_for_longer(run: Path, tmp_path: Path) -> None:
    longer = tmp_path / "longer"
    shutil.copytree(run, longer)
    assert main(["resume", str(longer), "--steps", "6", "--checkpoint.every", "5"]) == 0
    assert Run.open(longer).files.steps == [5, 6]
    assert Run.open(longer).settings.training.steps == 6


def test_samples_are_the_same_whatever_the_split_and_the_form(run: Path, tmp_path: Path) -> None:
    common = ["sample", str(run), "--steps", "3", "--seed", "5", "--exact"]
    assert main([*common, "--count", "20", "--out", str(tmp_path / "all.npz")]) == 0
    assert main([*common, "--count", "7", "--first", "13", "--out", str(tmp_path / "some.npz")]) == 0
    assert main([*common, "--count", "20", "--out", str(tmp_path / "folder")]) == 0
    assert main([*common, "--count", "20", "--out", str(tmp_path / "grid.png")]) == 0
    assert main([*common, "--count", "20", "--raw", "--out", str(tmp_path / "raw.npz")]) == 0
    with np.load(tmp_path / "all.npz") as whole, np.load(tmp_path / "some.npz") as part:
        assert next(iter(whole)) == "images"
        assert whole["images"].dtype == np.uint8
        assert whole["levels"] == 256
        assert np.array_equal(whole["images"][13:], part["images"])
        pictures = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "folder").glob("*.png"))]
        assert np.array_equal(np.stack(pictures)[..., None], whole["images"])
    with np.load(tmp_path / "raw.npz") as raw:
        assert raw["images"].dtype == np.float32
        assert raw["images"].shape == (20, 8, 8, 1)
    about = json.loads((tmp_path / "all.npz.json").read_text())
    assert (about["sampler"], about["steps"], about["checkpoint"], about["seed"]) == ("sa-solver", 3, 4, 5)


def test_sample_names_the_file_that_says_how_they_were_made(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new.png"
    capsys.readouterr()
    assert main(["sample", str(run), "--count", "2", "--steps", "2", "--seed", "5", "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert told.out == f"{out}\n"  # for programs: the path alone
    named = Path(told.err.splitlines()[-1].partition("how they were made: ")[2])
    assert json.loads(named.read_text())["seed"] == 5


def test_samples_go_back_in_as_data(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new.npz"
    assert main(["sample", str(run), "--count", "3", "--steps", "2", "--out", str(out)]) == 0
    capsys.readouterr()
    assert main(["data", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["height"], found["units"]) == (3, 8, {"kind": "levels", "levels": 256})


def test_fine_tuning_starts_from_the_averaged_weights(run: Path, data: Path, tmp_path: Path) -> None:
    tuned = tmp_path / "tuned"
    assert main(["train", str(data), "--from", str(run), "--run", str(tuned), "--steps", "1", *TINY]) == 0
    parent = load_file(run / "checkpoints" / "step-00000004" / "ema.safetensors")
    child = load_file(tuned / "checkpoints" / "step-00000001" / "model.safetensors")
    assert parent.keys() == child.keys()
    assert all(
        float((parent[name] - child[name]).abs().max()) < 1e-2 for name in parent
    )  # one small step away
    assert Run.open(tuned).settings.network == Run.open(run).settings.network


def test_classes_can_be_learned_and_asked_for(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "classes"
    assert main(["train", str(data), "--run", str(folder), "--steps", "1", "--data.labels", *TINY]) == 0
    assert main(["sample", str(folder), "--count", "2", "--steps", "2", "--label", "1"]) == 0
    assert main(["sample", str(folder), "--count", "2", "--steps", "2", "--label", "seven"]) == 2


def test_points_train_sample_and_report(tmp_path: Path) -> None:
    folder = tmp_path / "moons"
    few = ["--steps", "2", "--log.every", "1", "--samples.count", "50", "--machine.threads", "1"]
    assert main(["train", "two-moons", "--run", str(folder), *few]) == 0
    assert main(["sample", str(folder), "--count", "20", "--out", str(tmp_path / "points.npz")]) == 0
    with np.load(tmp_path / "points.npz") as points:
        assert points["images"].shape == (20, 2)
        assert points["images"].dtype == np.float64
    assert "<svg" in (folder / "report.html").read_text("utf-8")


def test_figures_come_as_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["data", "digits", "--json"], ["doctor", "--json"], ["sample", str(run), "--json"]):
        capsys.readouterr()
        assert main(arguments) == 0
        assert json.loads(capsys.readouterr().out)


def test_a_picture_of_the_data_is_written_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "sheet.png"
    assert main(["data", "kanji", "--sheet", str(sheet)]) == 0
    with Image.open(sheet) as picture:
        assert min(picture.size) > 500
    code, words = failing(["data", "kanji", "--sheet", str(sheet)], capsys)
    assert code == 2
    assert "is there already" in words


BAD = {
    "an unknown command": (["trian"], 2, "did you mean: kakusan train"),
    "no data": (["train"], 2, "DATA"),
    "a name that is nothing": (["train", "kanjii"], 3, "did you mean kanji"),
    "an unknown flag": (["train", "digits", "--training.batch-sise", "3"], 2, "batch-size"),
    "a word for a number": (["train", "digits", "--training.batch-size", "many"], 2, "many"),
    "T = 0": (["train", "digits", "--process.T", "0"], 2, "process.T must be"),
    "beta above 1": (
        ["train", "digits", "--preset", "none", "--process.beta-T", "1.5", "--steps", "1"],
        2,
        "beta must be above 0",
    ),
    "an odd group count": (["train", "digits", "--network.groups", "7", "--steps", "1"], 2, "7"),
    "an unknown sampler": (["sample", "{run}", "--sampler", "dimm"], 2, "ddim"),
    "an unknown schedule": (["train", "digits", "--process.schedule", "linaer", "--steps", "1"], 2, "linear"),
    "an uneven accumulation": (
        ["train", "digits", "--training.accumulation", "7", "--steps", "1"],
        2,
        "divisor",
    ),
    "an unknown preset": (["train", "digits", "--preset", "cifar"], 2, "did you mean cifar10"),
    "a run that is none": (["sample", "{tmp}/nothing"], 4, "is not a run"),
    "a report of no run": (["report", "{tmp}/nothing"], 4, "is not a run"),
    "a resume of no run": (["resume", "{tmp}/nothing"], 4, "is not a run"),
    "other settings": (
        ["train", "{data}", "--run", "{run}", "--training.learning-rate", "1"],
        4,
        "learning_rate: asked",
    ),
    "a shorter run": (["resume", "{run}", "--steps", "2"], 2, "4 steps behind it"),
    "raw pictures": (["sample", "{run}", "--raw", "--count", "1", "--out", "{tmp}/x.png"], 2, "npz"),
    "a strange ending": (["sample", "{run}", "--count", "1", "--out", "{tmp}/x.gif"], 2, ".gif"),
    "an output in the way": (
        ["sample", "{run}", "--out", "{run}/samples/step-00000004.png"],
        2,
        "is there already",
    ),
    "an eta for ancestral": (["sample", "{run}", "--sampler", "ancestral", "--eta", "0.5"], 2, "no --eta"),
    "a class of a run without": (["sample", "{run}", "--label", "3"], 2, "no classes"),
    "too many sampling steps": (["sample", "{run}", "--steps", "21"], 2, "more than the T = 20"),
    "a device that is not here": (["sample", "{run}", "--device", "warp"], 2, "no device 'warp'"),
    "two budgets": (["train", "digits", "--steps", "1", "--minutes", "1"], 2, "two budgets"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_error(
    case: str,
    run: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, code, words = BAD[case]
    found, told = failing([part.format(run=run, data=data, tmp=tmp_path) for part in arguments], capsys)
    assert words in told.replace("\n", " ")
    assert found == code
    assert "Traceback" not in told
    assert not (tmp_path / "runs").exists()  # nothing half-made is left


def test_settings_files_are_checked(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text, words in {
        "[training]\nbatchsize = 3": "did you mean training.batch_size",
        "[trainig]\nsteps = 3": "did you mean training",
        "[training]\nbatch_size = '3'": "training.batch_size",
        "steps = 3": "unknown setting steps",
        "training = 3": "is a section",
        "[training": "is not TOML",
    }.items():
        path = tmp_path / "settings.toml"
        path.write_text(text)
        code, told = failing(
            ["train", str(data), "--config", str(path), "--run", str(tmp_path / "r")], capsys
        )
        assert (code, words in told) == (2, True), told


def test_flags_come_after_the_file_and_the_file_after_the_preset(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("[training]\nlearning_rate = 5e-4\nbatch_size = 7\n")
    settings = settings_for("digits", file=path)
    assert settings.training.learning_rate == 5e-4
    assert settings.training.ema == 0.998  # the preset's
    assert settings_for("digits", preset="none").training.ema == "auto"


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_good(name: str) -> None:
    assert settings_for("", preset=name)


def test_a_damaged_checkpoint_is_named_and_passed_over(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    assert main(["resume", str(copy), "--steps", "5"]) == 0
    weights = copy / "checkpoints" / "step-00000005" / "ema.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    capsys.readouterr()
    assert main(["sample", str(copy), "--count", "1", "--steps", "1", "--out", str(tmp_path / "x.npz")]) == 0
    assert "step-00000005" in capsys.readouterr().err
    assert json.loads((tmp_path / "x.npz.json").read_text())["checkpoint"] == 4


def test_numbers_that_are_not_finite_end_with_code_5_and_a_dump(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.zeros((40, 8, 8), dtype=np.float32)
    images[0] = 1e30  # its square is beyond float32
    np.save(tmp_path / "wild.npy", images)
    folder = tmp_path / "run"
    arguments = ["train", str(tmp_path / "wild.npy"), "--run", str(folder), "--data.range", "-1", "1"]
    arguments += ["--data.held-out", "0", "--steps", "12", "--checkpoint.every", "1", *TINY]
    code, told = failing(arguments, capsys)
    assert code == 5
    step = int(told.partition("not finite at step ")[2].partition(";")[0])
    dumped = load_file(next(folder.glob("not-finite-*.safetensors")))
    assert set(dumped) == {"x_0.0", "t.0", "noise.0"}
    assert float(dumped["x_0.0"].max()) == pytest.approx(1e30)
    assert Run.open(folder).files.steps[-1:] == ([step - 1] if step > 1 else [])
    if step > 1:
        assert "the last checkpoint is of step" in told


def test_a_machine_that_is_too_small_gets_advice(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not say how large a process is")
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from kakusan.cli import main, progress\n"  # loaded before the limit: it is for the network
        "size = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size + (256 << 20),) * 2)\n"
        "sys.exit(main(['train', 'digits', '--steps', '1', '--network.width', '2048', '--network.groups', '32']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2, done.stderr
    assert "out of memory" in done.stderr
    assert "--training.accumulation 2" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="names there are Unicode")
def test_a_run_whose_name_is_no_text_gets_its_pages_too(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with any name that is not ASCII in the C locale."""
    strange = tmp_path / "\udcff\x1b[31m;$(touch x)"
    shutil.copytree(run, strange)
    capsys.readouterr()
    for command in ("report", "explain", "resume"):
        assert main([command, str(strange)]) == 0
        assert "\x1b" not in capsys.readouterr().err
    for page in ("report.html", "explain.html"):
        text = (strange / page).read_text("utf-8")
        assert "\\xff\\x1b" in text  # quoted, in the commands
        assert "kakusan sample " + str(tmp_path) not in text


def test_the_report_of_a_run_without_its_data_writes_nothing_but_itself(run: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(run, alone)
    config = RunFolder.open(alone).config
    elsewhere = {**config, "data": {**config["data"], "source": str(tmp_path / "gone"), "cache": ""}}
    (alone / "config.toml").write_text(tomli_w.dumps(elsewhere), "utf-8")
    before = {path for path in tmp_path.rglob("*") if path.name != "report.html"}
    assert main(["report", str(alone)]) == 0
    assert {path for path in tmp_path.rglob("*") if path.name != "report.html"} == before
    assert "nothing is shown of the training data" in (alone / "report.html").read_text("utf-8")


def test_a_folder_of_files_is_not_named_like_one_file(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, words = failing(["export", str(run), str(tmp_path / "x.onnx"), "--to", "onnx"], capsys)
    assert (code, "makes a folder" in words) == (2, True)
