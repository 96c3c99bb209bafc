"""A run whose schedule was learned, for other programs: betas one by one, and a table of the times' embeddings."""

import json
import runpy
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.pipelines.ddim import pipeline_ddim
from goldens import run_kakusan
from tiny import TINY

import kakusan as kk
from kakusan.diffusion.schedules import NoiseSchedule
from kakusan.errors import ModelError
from kakusan.interop.exporting import Wish, export_model
from kakusan.interop.importing import import_model
from kakusan.randomness import Purpose, normals
from kakusan.samplers import DDIM

DDIMPipeline: Any = diffusers.DDIMPipeline


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> kk.Run:
    folder = tmp_path_factory.mktemp("learned") / "run"
    flags = ["--process.schedule", "learned", "--steps", "6", "--training.learning-rate", "0.01"]
    run_kakusan(
        [
            "train",
            data,
            "--run",
            folder,
            *TINY,
            *flags,
            "--training.ema",
            "0.5",
            "--machine.precision",
            "fp32",
        ]
    )
    return kk.Run.open(folder)


def test_the_pipeline_of_diffusers_makes_our_images(
    run: kk.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_model(run, "diffusers", tmp_path / "out", Wish(scheduler="ddim"))
    pipeline: Any = DDIMPipeline.from_pretrained(tmp_path / "out")
    schedule, loaded = run.path, run.load(device="cpu")
    assert isinstance(schedule, NoiseSchedule)
    assert pipeline.scheduler.config.trained_betas == schedule.betas().tolist()
    x_t = normals(1, Purpose.X_T, 0, torch.arange(20), run.data.shape)
    t = torch.arange(1, 21, dtype=torch.float64)
    with torch.no_grad():
        ours, _ = loaded.model.denoiser.output(x_t, t)
        theirs = pipeline.unet(x_t, t.long() - 1).sample
    assert (ours - theirs).abs().max() < 1e-5 * ours.abs().max()  # float32, in another order
    noise = normals(3, Purpose.X_T, 0, torch.arange(4), run.data.shape)
    monkeypatch.setattr(pipeline_ddim, "randn_tensor", lambda *_, **__: noise)
    pipeline.set_progress_bar_config(disable=True)
    asked = {
        "batch_size": 4,
        "num_inference_steps": 10,
        "use_clipped_model_output": True,
        "output_type": "np",
    }
    drawn = torch.from_numpy(pipeline(**asked).images).permute(0, 3, 1, 2)
    own = (run.sample(4, DDIM(steps=10), seed=3) / 2 + 0.5).clamp(0, 1)
    assert (own - drawn).abs().max() < 1e-3  # their tables are float32, and begin at 1 - alpha_bar = 2e-6


def test_the_table_of_an_onnx_export_has_the_times_that_stand_for_the_noise(
    run: kk.Run, tmp_path: Path
) -> None:
    export_model(run, "onnx", tmp_path / "out", Wish(sampler=DDIM(steps=4)))
    table, loaded = json.loads((tmp_path / "out" / "sampler.json").read_text()), run.load(device="cpu")
    t = torch.tensor([20, 15, 10, 5], dtype=torch.float64)
    assert [row["time"] for row in table["steps"]] == loaded.model.denoiser.time(t).tolist()
    script = runpy.run_path(str(tmp_path / "out" / "sample.py"))
    noise = normals(3, Purpose.X_T, 0, torch.arange(4), run.data.shape)
    drawn = script["sample"](noise.numpy(), np.random.default_rng(0))
    ours = run.sample(4, DDIM(steps=4), seed=3)
    assert float(np.abs(drawn - ours.numpy()).max()) < 1e-3


def test_weights_of_such_a_folder_are_not_taken_for_others(run: kk.Run, tmp_path: Path) -> None:
    export_model(run, "diffusers", tmp_path / "out")
    with pytest.raises(ModelError, match="time_embedding_type"):
        import_model(tmp_path / "out", tmp_path / "again")


def test_fourier_features_leave_for_onnx_and_not_for_diffusers(data: Path, tmp_path: Path) -> None:
    flags = [*TINY, "--network.fourier-features", "6", "7", "--machine.precision", "fp32", "--steps", "1"]
    run_kakusan(["train", data, "--run", tmp_path / "run", *flags])
    export_model(tmp_path / "run", "onnx", tmp_path / "out")  # whose answers are compared with ours
    with pytest.raises(ModelError, match="fourier_features have no counterpart"):
        export_model(tmp_path / "run", "diffusers", tmp_path / "folder")
