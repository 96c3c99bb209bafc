"""Exports with a scheduler of few steps: the real diffusers makes our images of our noise."""

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from kakusan.cli import main
from kakusan.errors import ModelError, SettingsError
from kakusan.interop.exporting import Wish, export_model
from kakusan.interop.importing import import_model
from kakusan.run import Run
from kakusan.samplers import (
    DDIM,
    IPNDM,
    DPMpp2M,
    DPMpp3M,
    DPMppSDE2M,
    Heun,
    Sampler,
    SeededNoise,
    UniPC,
    walk,
)
from kakusan.training.build import build_schedule

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # theirs

PARITY = 1e-4
"""Their tables are float32; so is the network, on both sides."""
STEPS = 8
PEER: Any = diffusers
SAME: dict[str, Sampler] = {
    "dpmpp-2m": DPMpp2M(steps=STEPS),
    "dpmpp-3m, published": DPMpp3M(steps=STEPS, published=True, lower_order_final=True),
    "dpmpp-sde-2m": DPMppSDE2M(steps=STEPS),
    "unipc": UniPC(steps=STEPS),
    "unipc of order 1": UniPC(steps=STEPS, order=1),
    "unipc of order 3": UniPC(steps=STEPS, order=3, lower_order_final=True),
    "unip": UniPC(steps=STEPS, corrector=False),
}


@pytest.fixture(
    scope="module", params=["--process.predicts v", "--process.predicts eps --process.schedule linear"]
)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("few") / "digits"
    small = "--network.width 16 --samples.count 4 --samples.steps 2 --machine.threads 1 --steps 60"
    assert main(["train", "digits", "--run", str(folder), *small.split(), *request.param.split()]) == 0
    return Run.open(folder)


def theirs(folder: Path, noises: SeededNoise) -> Tensor:
    """The loop that the card shows, with our noise."""
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    unet = PEER.UNet2DModel.from_pretrained(folder, subfolder="unet")
    scheduler = getattr(PEER, index["scheduler"][1]).from_pretrained(folder, subfolder="scheduler")
    scheduler.set_timesteps(STEPS)
    x, is_noisy = noises.start(), scheduler.config.get("algorithm_type") == "sde-dpmsolver++"
    for k, time in enumerate(scheduler.timesteps):
        with torch.no_grad():
            word = unet(x, time).sample
        extra = {"variance_noise": noises.draw(k)} if is_noisy else {}
        x = scheduler.step(word, time, x, **extra).prev_sample
    return x


@pytest.mark.parametrize("name", SAME)
def test_images_are_ours(name: str, run: Run, tmp_path: Path) -> None:
    sampler, noises = SAME[name], SeededNoise(3, torch.arange(4), run.data.shape)
    export_model(run, "diffusers", tmp_path / "out", Wish(sampler=sampler))
    *_, last = walk(sampler, run.load(device="cpu", precision="fp32").model, noises)
    assert last.x.std() > 0.2  # they are images of something
    assert torch.allclose(theirs(tmp_path / "out", noises), last.x, rtol=0, atol=PARITY)


@pytest.mark.parametrize("name", SAME)
def test_what_was_exported_comes_back(name: str, run: Run, tmp_path: Path) -> None:
    """The process, the weights and, by the flags in the note, the sampler: a second export is the first."""
    export_model(run, "diffusers", tmp_path / "out", Wish(sampler=SAME[name]))
    made = import_model(tmp_path / "out", tmp_path / "back")
    assert made.run.settings.process == run.settings.process
    assert made.run.data.units == run.data.units  # kakusan.json is believed
    (note,) = (note for note in made.notes if "the scheduler is" in note)
    flags = note.partition("kakusan sample RUN ")[2].split()
    assert main(["export", str(made.run.folder), str(tmp_path / "again"), *flags]) == 0
    scheduler = "scheduler/scheduler_config.json"
    assert (tmp_path / "again" / scheduler).read_bytes() == (tmp_path / "out" / scheduler).read_bytes()
    index = "model_index.json"
    assert (tmp_path / "again" / index).read_bytes() == (tmp_path / "out" / index).read_bytes()


def test_what_diffusers_saves_of_it_comes_back_too(run: Run, tmp_path: Path) -> None:
    """With all keys of its own, and without kakusan.json."""
    for name, kind in (("dpmpp-2m", "DPMSolverMultistepScheduler"), ("unipc", "UniPCMultistepScheduler")):
        out = tmp_path / name
        export_model(run, "diffusers", out, Wish(sampler=SAME[name]))
        scheduler = getattr(PEER, kind).from_pretrained(out, subfolder="scheduler")
        scheduler.save_pretrained(out / "scheduler")
        (out / "kakusan.json").unlink()
        process = import_model(out, tmp_path / f"{name}-back").run.settings.process
        ours = run.settings.process
        assert (process.predicts, process.clip, process.T) == (ours.predicts, ours.clip, ours.T)
        assert torch.equal(build_schedule(process).betas(), build_schedule(ours).betas())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("use_karras_sigmas", True),
        ("final_sigmas_type", "sigma_min"),
        ("solver_type", "heun"),
        ("solver_order", 4),
        ("algorithm_type", "dpmsolver"),
        ("sample_max_value", 1.5),
        ("something", 1),
    ],
)
def test_what_is_not_known_of_them_is_refused_by_its_key(
    key: str, value: object, run: Run, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    export_model(run, "diffusers", out, Wish(sampler=DPMpp2M(steps=STEPS)))
    path = out / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {key: value}))
    with pytest.raises(ModelError, match=key):
        import_model(out, tmp_path / "back")


def test_the_pipeline_takes_the_solver(run: Run, tmp_path: Path) -> None:
    exported = export_model(run, "diffusers", tmp_path / "out", Wish(sampler=DPMpp2M(steps=4)))
    assert "num_inference_steps=4" in exported.notes[0]
    pipe = PEER.DDPMPipeline.from_pretrained(tmp_path / "out")
    assert type(pipe.scheduler).__name__ == "DPMSolverMultistepScheduler"
    pipe.set_progress_bar_config(disable=True)
    assert pipe(batch_size=2, num_inference_steps=4, output_type="np").images.shape == (2, 8, 8, 1)


def test_the_code_of_the_card_runs(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["export", str(run.folder), str(out), "--sampler", "unipc", "--steps", "3"]) == 0
    card = (out / "README.md").read_text("utf-8")
    code = card.split("```python\n")[1].split("```")[0].replace("FOLDER", str(out))
    scope: dict[str, Any] = {}
    exec(code, scope)
    assert scope["images"].shape == (16, 1, 8, 8)
    assert len(scope["scheduler"].timesteps) == 3
    assert "which DDPMPipeline cannot call" in card


@pytest.mark.parametrize(
    ("sampler", "words"),
    [
        (DPMpp3M(), "not the corrected ones"),
        (DPMppSDE2M(eta=0.5), "as much noise as eta = 1"),
        (UniPC(order=3), "ends with lower orders"),
        (UniPC(spacing="karras"), "spaces times in ways of its own"),
        (UniPC(at=(900, 300)), "spaces times in ways of its own"),
        (Heun(), "walks as heun does"),
        (IPNDM(), "walks as ipndm does"),
        (DDIM(eta=0.5), "walks as ddim does"),
    ],
    ids=lambda each: each if isinstance(each, str) else repr(each),
)
def test_what_would_be_other_images_is_refused(
    sampler: Sampler, words: str, run: Run, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=words):
        export_model(run, "diffusers", tmp_path / "out", Wish(sampler=sampler))
    assert not (tmp_path / "out").exists()


def test_samplers_of_the_pipelines_choose_theirs(run: Run, tmp_path: Path) -> None:
    for sampler, name in ((DDIM(), "DDIMScheduler"), ("ancestral", "DDPMScheduler")):
        out, chosen = tmp_path / name, "ddim" if isinstance(sampler, DDIM) else sampler
        assert main(["export", str(run.folder), str(out), "--sampler", chosen]) == 0
        assert json.loads((out / "scheduler" / "scheduler_config.json").read_text())["_class_name"] == name
    with pytest.raises(SettingsError, match="two schedulers"):
        export_model(run, "diffusers", tmp_path / "two", Wish(sampler=UniPC(), scheduler="ddim"))
