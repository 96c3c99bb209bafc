"""`kakusan import` and `kakusan export` as their users meet them, and what one does with the run that comes of it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from interop.fake_hub import fake_hub
from interop.their_models import ATTENTION_DOWN, ATTENTION_UP, DOWN, UP, Theirs
from PIL import Image

from kakusan.cli import main
from kakusan.errors import KakusanError
from kakusan.interop.exporting import export_model
from kakusan.interop.importing import import_model
from kakusan.run import Run
from kakusan.samplers import DDIM

TINY = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": [32, 64],
    "down_block_types": [DOWN, ATTENTION_DOWN],
    "up_block_types": [ATTENTION_UP, UP],
    "layers_per_block": 1,
}
QUICK = [
    *("--steps", "2", "--training.batch-size", "16", "--machine.threads", "1"),
    *("--samples.count", "4", "--samples.steps", "2"),
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "tiny"
    Theirs(TINY).save(folder)
    return folder


@pytest.fixture
def run(tiny: Path, tmp_path: Path) -> Path:
    assert main(["import", str(tiny), "--run", str(tmp_path / "tiny")]) == 0
    return tmp_path / "tiny"


def said(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


def size_of(picture: Path) -> tuple[int, int]:
    with Image.open(picture) as image:
        return image.size


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_import_says_what_came_of_it_and_what_to_do_next(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = said(["import", str(tiny)], capsys)
    assert (code, out) == (0, "runs/tiny\n")
    assert "images of 8 x 8 with 1 channel, linear schedule, T = 1000, predicts eps" in err
    assert "kakusan train DATA --from runs/tiny" in err
    with pytest.raises(KakusanError, match="is a run already"):
        import_model(tiny, "runs/tiny")


def test_every_command_works_on_an_imported_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = tmp_path / "grid.png"
    assert main(["sample", str(run), "--count", "4", "--steps", "2", "--out", str(grid)]) == 0
    assert size_of(grid)[0] >= 16
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    evaluate = ["evaluate", str(run), "--data", str(tmp_path / "images.npy"), "--images", "2", "--terms", "4"]
    code, out, _ = said([*evaluate, "--json"], capsys)
    assert code == 0
    assert all(part["bits_per_dim"] > 0 for part in json.loads(out)["parts"].values())
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text("utf-8")
    assert "trained elsewhere and imported" in page
    assert main(["explain", str(run), "--out", str(tmp_path / "page.html")]) == 0
    for command in (["resume", str(run)], ["evaluate", str(run)]):
        code, _, err = said(command, capsys)
        assert code == 4
        assert "the run was imported" in err
        assert "kakusan train DATA --from RUN" in err


@pytest.mark.parametrize("classes", [0, 10])
def test_an_imported_model_is_trained_further_and_exported_again(classes: int, tmp_path: Path) -> None:
    """The averaged weights begin as the imported ones, the labels without a null label are never dropped."""
    unet = TINY | ({"num_class_embeds": classes} if classes else {})
    network = Theirs(unet).save(tmp_path / "theirs")
    run = import_model(tmp_path / "theirs", tmp_path / "imported").run
    flags = ["--data.labels"] if classes else []
    tuned = tmp_path / "tuned"
    command = ["train", "digits", "--from", str(run.folder), "--run", str(tuned), *QUICK, *flags]
    assert main(command) == 0
    assert Run.open(tuned).settings.data.condition_dropout == (0.0 if classes else 0.1)
    first = Run.open(tuned).load(step=0, device="cpu").network.conv_in
    assert isinstance(first, torch.nn.Module)
    assert torch.equal(next(first.parameters()), network.conv_in.weight)
    assert main(["export", str(tuned), "--to", "diffusers", str(tmp_path / "out")]) == 0
    import diffusers

    unet_class: Any = diffusers.UNet2DModel
    theirs = unet_class.from_pretrained(tmp_path / "out", subfolder="unet")
    assert theirs.config.num_class_embeds == (classes or None)  # no row has been added
    assert not torch.equal(theirs.conv_in.weight, network.conv_in.weight)
    card = (tmp_path / "out/README.md").read_text("utf-8")
    assert "beginning from the weights of imported after step 0" in card
    assert "| training.steps | 2 |" in card
    assert "1,297 images to train on, 500 held out" in card
    assert str(tmp_path) not in card
    assert main(command) == 0  # the same line again goes on with the run


def test_fine_tuning_keeps_the_process_unless_told_otherwise(tmp_path: Path) -> None:
    """Also what the weights know nothing of: clipping, its range, the variance, the spacing, the scheduler."""
    process = {"clip_sample_range": 2.0, "timestep_spacing": "linspace", "num_train_timesteps": 100}
    Theirs(TINY, process, ddim=True).save(tmp_path / "theirs")
    run = import_model(tmp_path / "theirs", tmp_path / "imported").run
    command = ["train", "digits", "--from", str(run.folder), *QUICK, "--run"]
    assert main([*command, str(tmp_path / "same")]) == 0
    same = Run.open(tmp_path / "same")
    assert same.settings.process == run.settings.process
    assert same.settings.process.variance == "fixed-small"
    export_model(same, "diffusers", tmp_path / "out")
    for part in ("model_index.json", "scheduler/scheduler_config.json"):
        assert theirs_in(tmp_path / "out" / part) == theirs_in(tmp_path / "theirs" / part)
    told = ["--process.clip", "False", "--process.variance", "fixed-large"]
    assert main([*command, str(tmp_path / "other"), *told]) == 0
    other = Run.open(tmp_path / "other").settings.process
    assert (other.clip, other.variance, other.spacing) == (False, "fixed-large", "linspace")
    np.save(tmp_path / "real.npy", np.random.default_rng(0).normal(size=(20, 8, 8)))
    command[1] = str(tmp_path / "real.npy")
    clipping = import_model(tmp_path / "theirs", tmp_path / "again").run
    assert clipping.settings.process.clip is True
    assert main([*command, str(tmp_path / "real")]) == 0  # data without bounds to clip to
    assert Run.open(tmp_path / "real").settings.process.clip is False


def theirs_in(file: Path) -> dict[str, Any]:
    content = json.loads(file.read_text("utf-8"))
    return {key: value for key, value in content.items() if key != "_diffusers_version"}


def test_the_same_images_in_python_and_on_the_command_line(run: Path, tmp_path: Path) -> None:
    """The model's spacing of times is its own, "leading" here, unless one says which."""
    out = tmp_path / "images.npz"
    command = ["sample", str(run), "--count", "3", "--seed", "4", "--sampler", "ddim", "--steps", "7"]
    assert main([*command, "--raw", "--out", str(out)]) == 0
    opened = Run.open(run)
    with np.load(out) as file:
        images = torch.from_numpy(file["images"]).permute(0, 3, 1, 2)
    assert opened.sample(3, DDIM(steps=7), seed=4).equal(images)
    assert not opened.sample(3, DDIM(steps=7, spacing="trailing"), seed=4).equal(images)


@pytest.mark.parametrize(("flag", "shape"), [(["8"], (1, 8, 8)), (["8", "6"], (1, 8, 6))])
def test_a_model_that_does_not_say_its_size_is_told(
    flag: list[str], shape: tuple[int, int, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Theirs({key: value for key, value in TINY.items() if key != "sample_size"}).save(tmp_path / "theirs")
    command = ["import", str(tmp_path / "theirs"), "--run", str(tmp_path / "run")]
    code, _, err = said(command, capsys)
    assert (code, "--size" in err) == (4, True)
    assert main([*command, "--size", *flag]) == 0
    assert Run.open(tmp_path / "run").data.shape == shape


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--steps", "3"], "--steps is for --to onnx"),
        (["--to", "onnx", "--scheduler", "ddim"], "--scheduler is for --to diffusers"),
    ],
)
def test_flags_of_another_format_are_refused(
    flags: list[str], problem: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = said(["export", str(run), str(tmp_path / "out"), *flags], capsys)
    assert (code, problem in err) == (2, True)


def test_pictures_for_fine_tuning_come_in_the_size_and_colours_of_the_model(tmp_path: Path) -> None:
    Theirs(TINY | {"in_channels": 3, "out_channels": 3}).save(tmp_path / "theirs")
    run = import_model(tmp_path / "theirs", tmp_path / "imported").run
    (tmp_path / "photos").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (8, 20, 14), dtype=np.uint8)
    for number, image in enumerate(noise):
        Image.fromarray(image).save(tmp_path / f"photos/{number}.png")
    command = ["train", str(tmp_path / "photos"), "--from", str(run.folder), "--run", str(tmp_path / "tuned")]
    assert main([*command, *QUICK]) == 0
    assert Run.open(tmp_path / "tuned").data.shape == (3, 8, 8)


def test_onnx_and_safetensors_by_the_command_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "onnx"
    code, printed, err = said(["export", str(run), "--to", "onnx", str(out), "--steps", "3"], capsys)
    assert (code, printed) == (0, f"{out}\n")
    assert "onnxruntime's answers lie" in err
    table = json.loads((out / "sampler.json").read_text())
    assert [step["time"] for step in table["steps"]] == [666.0, 333.0, 0.0]  # leading, as the model says
    done = subprocess.run([sys.executable, "-I", out / "sample.py", "4"], cwd=tmp_path, check=False)
    assert done.returncode == 0
    assert size_of(tmp_path / "samples.png") == (16, 16)
    code, _, err = said(["export", str(run), "--to", "safetensors", str(tmp_path / "folder")], capsys)
    assert (code, "name one: model.safetensors" in err) == (2, True)
    assert main(["export", str(run), str(tmp_path / "w.safetensors"), "--to", "safetensors"]) == 0


def test_a_name_on_the_hub_is_pinned_to_its_commit(tiny: Path, tmp_path: Path) -> None:
    theirs = files(tiny) | {
        "pipeline.py": b"raise SystemExit('run!')",
        "unet/diffusion_pytorch_model.bin": b"no",
    }
    latent = {**theirs, "model_index.json": json.dumps({"_class_name": "LDMPipeline"}).encode()}
    with fake_hub({"someone/tiny": theirs, "someone/latent": latent}) as hub:
        environment = {**os.environ, **hub.environment(tmp_path / "home")}

        def command(name: str, target: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "kakusan", "import", name, "--run", str(tmp_path / target)],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )

        done = command("hf:someone/tiny@main", "run")
        assert (done.returncode, done.stderr.count("Traceback")) == (0, 0)
        imported = Run.open(tmp_path / "run").files.data["imported"]
        assert imported["source"] == "hf:someone/tiny@main"
        assert imported["revision"] == hub.sha("someone/tiny")
        assert not [path for path in hub.asked if path.endswith((".bin", ".py"))]
        other = command("hf:someone/latent", "latent")
        assert other.returncode == 4
        assert "LDMPipeline" in other.stderr
        assert not [
            path for path in hub.asked if "latent" in path and "safetensors" in path
        ]  # refused before
        assert not (tmp_path / "latent").exists()
    same = import_model(tiny, tmp_path / "same").run
    assert same.sample(2, seed=1).equal(Run.open(tmp_path / "run").sample(2, seed=1))


def test_a_killed_import_or_export_leaves_nothing_that_looks_whole(tiny: Path, tmp_path: Path) -> None:
    """The process is stopped for good at the last moment before the new folder gets its name."""
    script = (
        "import os, signal, sys\n"
        "from kakusan.storage import durable\n"
        "def rename(old, new):\n"
        "    if new.name in ('run', 'out'): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    old.replace(new)\n"
        "durable.rename = rename\n"
        "from kakusan.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )

    def killed(*arguments: str) -> int:
        return subprocess.run([sys.executable, "-c", script, *arguments], check=False).returncode

    assert killed("import", str(tiny), "--run", str(tmp_path / "run")) == -signal.SIGKILL
    assert not (tmp_path / "run").exists()
    run = import_model(tiny, tmp_path / "run").run  # the same again works, and sweeps up
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert killed("export", str(run.folder), str(tmp_path / "out")) == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert main(["export", str(run.folder), str(tmp_path / "out")]) == 0


def test_an_onnx_export_that_answers_otherwise_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kakusan.interop import exporting

    monkeypatch.setattr(exporting, "onnx_model", lambda *_, **__: b"")
    for difference in (2e-4, float("inf"), float("nan")):
        monkeypatch.setattr(
            exporting, "largest_difference", lambda *_, difference=difference, **__: difference
        )
        with pytest.raises(KakusanError, match=r"lie .* from ours"):
            export_model(run, "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_that_knows_no_image_without_a_class_is_explained_and_reported(tmp_path: Path) -> None:
    Theirs(TINY | {"num_class_embeds": 3}).save(tmp_path / "theirs")
    run = import_model(tmp_path / "theirs", tmp_path / "run").run
    assert main(["explain", str(run.folder), "--image", "4", "--out", str(tmp_path / "page.html")]) == 0
    assert main(["report", str(run.folder)]) == 0


@pytest.mark.parametrize(
    ("T", "clips", "ddim", "line"),
    [
        (1000, True, False, "images = pipe(batch_size=16).images"),
        (200, True, False, "images = pipe(batch_size=16, num_inference_steps=200).images"),
        (200, True, True, "images = pipe(batch_size=16, use_clipped_model_output=True).images"),
        (20, False, True, "images = pipe(batch_size=16, num_inference_steps=20).images"),
    ],
)
def test_the_example_of_the_card_is_the_one_that_works(
    T: int, clips: bool, ddim: bool, line: str, tmp_path: Path
) -> None:
    Theirs(TINY, {"num_train_timesteps": T, "clip_sample": clips}, ddim=ddim).save(tmp_path / "theirs")
    export_model(import_model(tmp_path / "theirs", tmp_path / "run").run, "diffusers", tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text("utf-8")
    assert line in card
    code = card.split("```python\n")[1].split("```")[0].replace("FOLDER", str(tmp_path / "out"))
    if T <= 200:
        scope: dict[str, Any] = {}
        exec(code.replace("batch_size=16", "batch_size=1"), scope)
        assert scope["images"][0].size == (8, 8)


def test_the_example_for_classes_works_as_it_stands(tmp_path: Path) -> None:
    Theirs(TINY | {"num_class_embeds": 3}, {"num_train_timesteps": 5}).save(tmp_path / "theirs")
    export_model(import_model(tmp_path / "theirs", tmp_path / "run").run, "diffusers", tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text("utf-8")
    scope: dict[str, Any] = {}
    exec(card.split("```python\n")[1].split("```")[0].replace("FOLDER", str(tmp_path / "out")), scope)
    assert scope["images"].shape == (16, 1, 8, 8)
