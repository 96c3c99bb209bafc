"""Folders of diffusers in and out, against the real diffusers: the same answers, the same bytes, the same images."""

import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import safetensors
import torch
from diffusers.pipelines.ddim import pipeline_ddim
from diffusers.schedulers import scheduling_ddpm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interop.their_models import ATTENTION_DOWN, ATTENTION_UP, DOWN, MODELS, UP, Saved, Theirs
from safetensors.torch import load_file, save_file
from torch import Tensor

from kakusan.api import sample
from kakusan.config.loading import flat
from kakusan.diffusion.schedules import twin
from kakusan.errors import KakusanError, ModelError
from kakusan.interop.diffusers.config import translated
from kakusan.interop.exporting import Wish, export_model
from kakusan.interop.importing import import_model
from kakusan.networks import UNet
from kakusan.randomness import Purpose, normals
from kakusan.run import Run
from kakusan.samplers import DDIM, Ancestral, SeededNoise
from kakusan.shapes import Condition

# their classes are not typed
DDIMPipeline: Any = diffusers.DDIMPipeline
DDPMPipeline: Any = diffusers.DDPMPipeline
DDPMScheduler: Any = diffusers.DDPMScheduler
UNet2DModel: Any = diffusers.UNet2DModel

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
ROUNDING = 1e-5
"""What float32 may make of the same sums in another order, where answers are about 2 large."""


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text("utf-8")))


def named(labels: Tensor | None) -> Condition | None:
    """The condition of these classes."""
    return None if labels is None else Condition(label=labels)


def answers(run: Run, x_t: Tensor, time: Tensor, labels: Tensor | None) -> Tensor:
    with torch.no_grad():
        out: Tensor = run.load(device="cpu").network(x_t, time, named(labels))
    return out


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_an_imported_network_gives_their_answers(name: str, saved: dict[str, Saved]) -> None:
    model = saved[name]
    x_t, time, labels = model.question()
    expected = model.network(x_t, time, class_labels=labels).sample
    assert expected.abs().max() > 0.5
    assert all(parameter.all() for parameter in model.network.parameters())  # nothing is hidden behind a zero
    assert (answers(model.run, x_t, time, labels) - expected).abs().max() < ROUNDING


@pytest.mark.parametrize("name", MODELS)
def test_import_then_export_gives_the_same_bytes_and_an_equivalent_configuration(
    name: str, saved: dict[str, Saved], tmp_path: Path, complaints: list[str]
) -> None:
    model = saved[name]
    out = tmp_path / "out"
    export_model(model.run, "diffusers", out)
    assert (out / WEIGHTS).read_bytes() == (model.folder / WEIGHTS).read_bytes()
    there = [UNet2DModel.from_pretrained(folder, subfolder="unet") for folder in (model.folder, out)]
    assert str(there[0]).replace("UNetRes", "") == str(there[1]).replace("UNetRes", "")  # the same modules
    for part in ("unet/config.json", "scheduler/scheduler_config.json"):
        before, after = (meaning(read(folder / part)) for folder in (model.folder, out))
        assert before == after
    kind: Any = DDIMPipeline if model.model.ddim else DDPMPipeline
    assert kind.from_pretrained(out)
    assert complaints == []


def meaning(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without what says nothing: versions, null, and two words for one thing."""
    if isinstance(size := config.get("sample_size"), list) and size[0] == size[1]:
        config = {**config, "sample_size": size[0]}
    same = {"swish": "silu", "fixed_small_log": "fixed_small"}
    plain = {key: value for key, value in config.items() if value is not None and key[:1] != "_"}
    return {
        key: [v.replace("UNetRes", "") if isinstance(v, str) else v for v in value]
        if isinstance(value, list)
        else same.get(value, value)
        for key, value in plain.items()
    }


def divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


@st.composite
def networks(draw: st.DrawFn) -> dict[str, Any]:
    """Any configuration of theirs that is small enough, and that they can run."""
    levels = draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 2, 4, 8]))
    widths = [groups * draw(st.integers(-(-4 // groups), 24 // groups)) for _ in range(levels)]
    down = [draw(st.sampled_from([DOWN, ATTENTION_DOWN])) for _ in range(levels)]
    up = [draw(st.sampled_from([UP, ATTENTION_UP])) for _ in range(levels)]
    multiple = 2 ** (levels - 1)
    sides = [
        multiple * draw(st.integers(2, 3)) for _ in range(2)
    ]  # of one pixel, a group would have no spread
    channels = draw(st.integers(1, 4))
    config: dict[str, Any] = {
        "sample_size": draw(st.sampled_from([sides, sides[0]])),
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": widths,
        "layers_per_block": draw(st.integers(1, 3)),
        "down_block_types": down,
        "up_block_types": up,
        "norm_num_groups": groups,
        "norm_eps": draw(st.sampled_from([1e-6, 1e-5, 1e-3])),
        "act_fn": draw(st.sampled_from(["silu", "swish"])),
        "downsample_padding": draw(st.sampled_from([0, 1])),
        "freq_shift": draw(st.sampled_from([0, 1])),
        "flip_sin_to_cos": draw(st.booleans()),
        "add_attention": draw(st.booleans()),
        "attention_head_dim": draw(st.sampled_from([None, 1, 2, 3, 4])),
        "mid_block_type": draw(st.sampled_from(["UNetMidBlock2D", "UNetMidBlock2D", None])),
        "mid_block_scale_factor": draw(st.sampled_from([1, 1.5, 2**0.5])),
        "resnet_time_scale_shift": draw(st.sampled_from(["default", "scale_shift"])),
        "attn_norm_num_groups": draw(st.sampled_from([None, groups])),
        "dropout": draw(st.sampled_from([0.0, 0.1])),
        "num_class_embeds": draw(st.sampled_from([None, 1, 7])),
    }
    left_out = draw(
        st.sets(st.sampled_from(["act_fn", "norm_eps", "freq_shift", "flip_sin_to_cos", "dropout"]))
    )
    return {key: value for key, value in config.items() if key not in left_out}


@given(networks(), st.integers(0, 2**31))
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_any_configuration_gives_their_answers_and_comes_back(config: dict[str, Any], seed: int) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as place:
        root = Path(place)
        theirs = Theirs(config, seed=seed)
        network = theirs.save(root / "model")
        model = Saved(theirs, root / "model", network, import_model(root / "model", root / "run"))
        x_t, time, labels = model.question()
        # in float64: what differs by more than rounding is another network
        network, ours = network.double(), model.run.load(device="cpu").network.double()
        with torch.no_grad():
            expected, answer = (
                network(x_t.double(), time, class_labels=labels).sample,
                ours(x_t.double(), time, named(labels)),
            )
        assert (answer - expected).abs().max() < 1e-9 * max(1.0, float(expected.abs().max()))
        export_model(model.run, "diffusers", root / "out")
        assert (root / "out" / WEIGHTS).read_bytes() == (root / "model" / WEIGHTS).read_bytes()
        before, after = (meaning(read(root / folder / "unet/config.json")) for folder in ("model", "out"))
        assert before.pop("attn_norm_num_groups", None) in (None, config["norm_num_groups"])
        after.pop("attn_norm_num_groups", None)
        for key in ("add_attention", "mid_block_scale_factor"):  # of a middle that is not there
            if config["mid_block_type"] is None:
                before.pop(key, None), after.pop(key, None)
        assert before == after


# The same images


def ours_and_theirs(
    model: Saved, out: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> tuple[Tensor, Tensor]:
    """The images of our DDIM, and of the pipeline that opens what we export, from the same noise, in [0, 1]."""
    run = model.run
    noise = normals(3, Purpose.X_T, 0, torch.arange(4), run.data.shape)
    spacing = run.settings.process.spacing
    ours = run.sample(4, DDIM(steps=steps, spacing=spacing), seed=3)
    export_model(run, "diffusers", out)
    pipeline: Any = DDIMPipeline.from_pretrained(out)
    pipeline.set_progress_bar_config(disable=True)
    monkeypatch.setattr(pipeline_ddim, "randn_tensor", lambda *_, **__: noise)
    theirs = pipeline(
        batch_size=4, num_inference_steps=steps, use_clipped_model_output=True, output_type="np"
    ).images
    return (ours / 2 + 0.5).clamp(0, 1), torch.from_numpy(theirs).permute(0, 3, 1, 2)


def plain(name: str) -> bool:
    """Whether the pipeline that takes no labels can make its images, and by the same times as ours.

    DDIMScheduler takes `t - T // steps` for the time before t, which is another one where times are spaced by linspace.
    """
    unet, scheduler = MODELS[name].unet, MODELS[name].scheduler
    learned = unet.get("out_channels", 3) != unet.get("in_channels", 3)
    own_way = scheduler.get("timestep_spacing") == "linspace" or scheduler.get("beta_schedule") == "sigmoid"
    return not (learned or own_way or "num_class_embeds" in unet)


@pytest.mark.parametrize("name", [name for name in MODELS if plain(name)])
def test_their_pipeline_makes_our_images_of_what_we_export(
    name: str, saved: dict[str, Saved], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaints: list[str]
) -> None:
    model = saved[name]
    usual = 50 if name == "all defaults, narrower" else 10
    steps = min(usual, model.run.settings.process.T)
    ours, theirs = ours_and_theirs(model, tmp_path / "out", monkeypatch, steps)
    assert ours.std() > 0.01
    assert (ours - theirs).abs().max() < 1e-4  # their tables are float32
    assert complaints == []


class OurNoise:
    """Their schedulers' generator, with the draws of our walk."""

    def __init__(self, source: SeededNoise) -> None:
        self.source, self.ordinal = source, -1

    def __call__(self, *_: Any, **__: Any) -> Tensor:
        self.ordinal += 1
        return self.source.draw(self.ordinal)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large", "learned_range"])
@torch.no_grad()
def test_their_ancestral_steps_are_ours(
    variance: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All T steps, so that their noise in the last of fewer steps does not matter."""
    words = 2 if variance == "learned_range" else 1
    unet = {**MODELS["their training script, narrower"].unet, "sample_size": 16, "out_channels": 3 * words}
    levels = {key: unet[key][-2:] for key in ("block_out_channels", "down_block_types")}
    unet |= {**levels, "up_block_types": unet["up_block_types"][:2]}
    process = {"num_train_timesteps": 40, "beta_end": 0.3, "variance_type": variance}
    network = Theirs(unet, process).save(tmp_path / "model")
    run = import_model(tmp_path / "model", tmp_path / "run").run
    ours = run.sample(2, Ancestral(), seed=5)
    scheduler: Any = DDPMScheduler.from_pretrained(tmp_path / "model", subfolder="scheduler")
    noises = SeededNoise(5, torch.arange(2), run.data.shape)
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", OurNoise(noises))
    scheduler.set_timesteps(40)
    x = noises.start()
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t).sample, t, x).prev_sample
    assert ours.std() > 0.1
    assert (ours - x).abs().max() < 1e-4  # float32 tables of theirs, 40 steps


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize(("T", "steps"), [(1000, 50), (1000, 7), (30, 30), (100, 33), (10, 2)])
def test_the_times_are_theirs(spacing: str, T: int, steps: int) -> None:
    """But for a single step, which starts at t = 1 there, and takes noise for an image, unless it is trailing."""
    from kakusan.diffusion.schedules import Linear

    scheduler: Any = DDPMScheduler(num_train_timesteps=T, timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    *times, last = DDIM(steps=steps, spacing=spacing).times(Linear(T=T))
    assert last == 0
    assert [t - 1 for t in times] == scheduler.timesteps.tolist()


# Layouts, names and types of weights


def test_the_flat_layout_of_old_with_pickled_weights_under_their_old_names(tmp_path: Path) -> None:
    model = MODELS["ddpm-cifar10-32, narrower"]
    network = model.save(tmp_path / "new")
    flat = tmp_path / "old"
    flat.mkdir()
    for source, name in (
        ("unet/config.json", "config.json"),
        ("scheduler/scheduler_config.json", "scheduler_config.json"),
        ("model_index.json", "model_index.json"),
    ):
        (flat / name).write_bytes((tmp_path / "new" / source).read_bytes())
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, tensor in network.state_dict().items():
        for new, former in old.items():
            if ".attentions." in name:
                name = name.replace(f".{new}.", f".{former}.")
        renamed[name] = tensor
    assert sum(".proj_attn." in name for name in renamed) == 2 * 6
    torch.save(renamed, flat / "diffusion_pytorch_model.bin")
    run = import_model(flat, tmp_path / "run").run
    saved = Saved(model, flat, network, import_model(tmp_path / "new", tmp_path / "same"))
    x_t, time, _ = saved.question()
    with torch.no_grad():
        expected = network(x_t, time).sample
    assert (answers(run, x_t, time, None) - expected).abs().max() < ROUNDING


def test_weights_of_half_precision_become_float32_and_it_is_said(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    save_file({name: tensor.half() for name, tensor in weights.items()}, folder / WEIGHTS, {"format": "pt"})
    made = import_model(folder, tmp_path / "run")
    assert "weights of float16 are kept as float32" in made.notes
    assert next(iter(made.run.load(device="cpu").network.parameters())).dtype == torch.float32


def test_a_missing_attention_head_dim_means_8_and_it_is_said(folder: Path, tmp_path: Path) -> None:
    config = read(folder / "unet/config.json")
    del config["attention_head_dim"]
    (folder / "unet/config.json").write_text(json.dumps(config))
    made = import_model(folder, tmp_path / "run")
    assert any("attention_head_dim is missing" in note for note in made.notes)
    assert flat(made.run.settings)["network.head_width"] == 8
    theirs: Any = UNet2DModel.from_pretrained(folder, subfolder="unet")
    x_t, time = torch.randn(2, 1, 16, 16), torch.tensor([0.0, 7.0])
    with torch.no_grad():
        expected = theirs(x_t, time, class_labels=torch.tensor([1, 2])).sample
    assert (answers(made.run, x_t, time, torch.tensor([1, 2])) - expected).abs().max() < ROUNDING


def test_a_run_of_ours_comes_back_as_it_was(tmp_path: Path) -> None:
    """Names of classes, levels, the null label and what diffusers has no words for, by way of kakusan.json."""
    import kakusan as kk
    from kakusan.config.loading import with_values

    changes = {
        "data.labels": True,
        "process.schedule": "sigmoid",
        "process.predicts": "v",
        "process.T": 50,
        "process.sigma_1": "beta_1",
        "network.width": 16,
        "network.groups": 4,
        "training.steps": 2,
        "training.batch_size": 16,
        "machine.threads": 1,
        "machine.precision": "fp32",
        "machine.layout": "contiguous",  # as imported runs compute
    }
    run = kk.train("digits", run=tmp_path / "run", settings=with_values(kk.settings_for("digits"), changes))
    export_model(run, "diffusers", tmp_path / "out")
    back = import_model(tmp_path / "out", tmp_path / "back")
    assert back.notes == ()
    assert back.run.settings.process == run.settings.process
    assert back.run.settings.network == run.settings.network
    assert back.run.data.units == run.data.units
    assert back.run.data.class_names == run.data.class_names
    assert back.run.sample(4, seed=1, label="7").equal(run.sample(4, seed=1, label="7"))
    config = read(tmp_path / "out/unet/config.json") | {"norm_eps": 1e-3}
    (tmp_path / "out/unet/config.json").write_text(json.dumps(config))
    other = import_model(tmp_path / "out", tmp_path / "other")
    assert "another model" in other.notes[0]  # the folder's own files count
    assert flat(other.run.settings)["network.norm_eps"] == 1e-3


def test_padded_images_are_exported_at_the_padded_size_and_it_is_said(tmp_path: Path) -> None:
    import numpy as np

    import kakusan as kk
    from kakusan.config.loading import with_values

    np.save(tmp_path / "odd.npy", np.random.default_rng(0).integers(0, 256, (20, 10, 13), dtype=np.uint8))
    changes = {
        "network.width": 16,
        "network.multipliers": (1, 1, 1),
        "network.groups": 4,
        "training.steps": 2,
        "training.batch_size": 16,
        "machine.threads": 1,
        "machine.precision": "fp32",
    }
    source = str(tmp_path / "odd.npy")
    run = kk.train(source, run=tmp_path / "run", settings=with_values(kk.settings_for(source), changes))
    out = tmp_path / "out"
    exported = export_model(run, "diffusers", out)
    assert "sample_size is 12 x 16" in exported.notes[0]
    assert "sample_size is 12 x 16" in (out / "README.md").read_text()
    theirs: Any = UNet2DModel.from_pretrained(out, subfolder="unet")
    assert theirs.config.sample_size == [12, 16]
    x_t, time = torch.randn(2, 1, 10, 13), torch.tensor([3.0, 40.0])
    padded = torch.nn.functional.pad(x_t, (0, 3, 0, 2))
    with torch.no_grad():
        expected = theirs(padded, time).sample[:, :, :10, :13]
    assert (answers(run, x_t, time, None) - expected).abs().max() < ROUNDING
    assert import_model(out, tmp_path / "back").run.data.shape == (1, 10, 13)


# What cannot be exported


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"network.patch": 2}, "network.patch = 2"),
        ({"network.heads": 2, "network.attention": (0, 1)}, "network.heads = 2"),
        ({"network.middle_norm": False}, "network.middle_norm = false"),
    ],
)
def test_what_they_have_no_words_for_is_refused_by_name(
    changes: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    import kakusan as kk
    from kakusan.config.loading import with_values

    small = {
        "network.width": 16,
        "network.groups": 4,
        "training.steps": 1,
        "training.batch_size": 16,
        "machine.threads": 1,
    }
    settings_ = with_values(kk.settings_for("digits", preset="none"), {**small, **changes})
    run = kk.train("digits", run=tmp_path / "run", settings=settings_)
    with pytest.raises(ModelError, match=problem):
        export_model(run, "diffusers", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    export_model(run, "safetensors", tmp_path / "plain.safetensors")


def test_plain_weights_say_what_they_are_of(saved: dict[str, Saved], tmp_path: Path) -> None:
    run = saved["classes"].run
    export_model(run, "safetensors", tmp_path / "plain.safetensors")
    with safetensors.safe_open(tmp_path / "plain.safetensors", "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["process"])["predicts"] == "v"
    assert json.loads(metadata["data"])["shape"] == [1, 16, 16]
    network = json.loads(metadata["network"])
    options: Any = {
        name: tuple(value) if isinstance(value, list) else value for name, value in network.items()
    }
    again = UNet(channels=1, classes=5, **{k: v for k, v in options.items() if k != "kind"}).eval()
    again.load_state_dict(load_file(tmp_path / "plain.safetensors"))
    x_t, time, labels = saved["classes"].question()
    with torch.no_grad():
        answer = again(x_t, time, named(labels))
    assert (answer - answers(run, x_t, time, labels)).abs().max() < ROUNDING  # in another layout


def test_nothing_that_is_there_is_replaced(folder: Path, tmp_path: Path) -> None:
    made = import_model(folder, tmp_path / "run").run
    with pytest.raises(KakusanError, match="is a run already"):
        import_model(folder, tmp_path / "run")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for to, target in (("diffusers", folder), ("onnx", folder), ("safetensors", folder / WEIGHTS)):
        with pytest.raises(KakusanError, match="is there already"):
            export_model(made, to, target)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_the_scheduler_of_an_import_is_written_again_and_another_on_demand(
    saved: dict[str, Saved], tmp_path: Path, complaints: list[str]
) -> None:
    run = saved["no attention, heads that leave channels over, ddim"].run
    export_model(run, "diffusers", tmp_path / "same")
    export_model(run, "diffusers", tmp_path / "other", Wish(scheduler="ddpm"))
    assert read(tmp_path / "same/model_index.json")["scheduler"] == ["diffusers", "DDIMScheduler"]
    assert isinstance(DDPMPipeline.from_pretrained(tmp_path / "other").scheduler, DDPMScheduler)
    assert complaints == []
    learned = saved["learned variance, scale and shift"].run
    with pytest.raises(ModelError, match="DDIMScheduler knows no learned variance"):
        export_model(learned, "diffusers", tmp_path / "never", Wish(scheduler="ddim"))


def test_images_of_an_imported_model_are_those_of_the_denoiser_in_hand(saved: dict[str, Saved]) -> None:
    run = saved["classes"].run
    loaded = run.load(device="cpu")
    turn = run.sample(5, DDIM(steps=3), seed=2)
    three = DDIM(steps=3, spacing=run.settings.process.spacing)
    for label in range(5):
        one = sample(loaded.model, three, count=5, shape=run.data.shape, seed=2, label=label)
        torch.testing.assert_close(turn[label], one[label], rtol=0, atol=1e-5)
    later = run.sample(2, DDIM(steps=3), seed=2, first=3)  # the class is the image's, wherever one begins
    torch.testing.assert_close(later, turn[3:], rtol=0, atol=1e-5)


def test_translation_is_pure(saved: dict[str, Saved]) -> None:
    """The same configurations, the same settings: no file is opened, and nothing is built."""
    folder = saved["classes"].folder
    unet, scheduler = read(folder / "unet/config.json"), read(folder / "scheduler/scheduler_config.json")
    assert translated(unet, scheduler) == translated(dict(reversed(unet.items())), scheduler)


# Keys that are missing


@pytest.mark.parametrize("key", sorted(inspect.signature(UNet2DModel.__init__).parameters.keys() - {"self"}))
def test_a_missing_key_of_the_network_means_what_it_means_there(key: str) -> None:
    """The same settings as from the configuration that their class completes."""
    given = {"_class_name": "UNet2DModel", **MODELS["all defaults, narrower"].unet}
    given.pop(key, None)
    whole = dict(UNet2DModel.from_config(given).config)
    whole = json.loads(json.dumps({name: value for name, value in whole.items() if name[0] != "_"}))
    del whole[key]
    scheduler = {"_class_name": "DDPMScheduler"}
    short = translated({"_class_name": "UNet2DModel", **whole}, scheduler)
    whole[key] = dict(UNet2DModel.from_config(given).config)[key]
    whole = json.loads(json.dumps(whole))
    assert replace(short, notes=()) == translated({"_class_name": "UNet2DModel", **whole}, scheduler)


@pytest.mark.parametrize("kind", ["DDPMScheduler", "DDIMScheduler"])
def test_missing_keys_of_a_scheduler_mean_what_they_mean_there(kind: str) -> None:
    unet = {"_class_name": "UNet2DModel", **MODELS["all defaults, narrower"].unet}
    whole = json.loads(json.dumps(dict(getattr(diffusers, kind)().config)))
    whole = {"_class_name": kind, **{name: value for name, value in whole.items() if name[0] != "_"}}
    expected = translated(unet, whole)
    for key in whole.keys() - {"_class_name"}:
        short = {name: value for name, value in whole.items() if name != key}
        assert translated(unet, short) == expected, key
    assert translated(unet, {"_class_name": kind}) == expected


def test_old_schedulers_said_whether_eps_is_predicted() -> None:
    unet = {"_class_name": "UNet2DModel", **MODELS["all defaults, narrower"].unet}
    for predicts, word in ((True, "eps"), (False, "x_0")):
        scheduler = {"_class_name": "DDPMScheduler", "predict_epsilon": predicts, "tensor_format": "pt"}
        assert translated(unet, scheduler).process.predicts == word


def test_a_schedule_that_ddim_does_not_know_is_written_beta_by_beta(
    saved: dict[str, Saved], tmp_path: Path, complaints: list[str]
) -> None:
    run = saved["sigmoid betas, one level"].run
    export_model(run, "diffusers", tmp_path / "out", Wish(scheduler="ddim"))
    scheduler = DDIMPipeline.from_pretrained(tmp_path / "out").scheduler
    alpha_bar = twin(run.load(device="cpu").model.path).alpha_bar[1:]
    assert (scheduler.alphas_cumprod - alpha_bar).abs().max() < 1e-6  # float32 tables
    assert complaints == []
