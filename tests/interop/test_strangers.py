"""Folders from strangers: what is not known is refused by key and value, and nothing of theirs is run."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interop.their_models import MODELS
from safetensors.torch import load_file, save_file

from kakusan.errors import KakusanError, ModelError
from kakusan.interop.diffusers.config import translated
from kakusan.interop.importing import import_model

UNET, SCHEDULER, INDEX = "unet/config.json", "scheduler/scheduler_config.json", "model_index.json"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
HUGE = 10**12


def change(path: Path, **values: Any) -> None:
    """Other values for some keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refused(folder: Path, target: Path) -> KakusanError:
    """What an import says; it leaves nothing behind."""
    before = sorted(target.parent.iterdir())
    with pytest.raises(KakusanError) as caught:
        import_model(folder, target)
    assert sorted(target.parent.iterdir()) == before
    return caught.value


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        (UNET, "act_fn", "gelu"),
        (UNET, "act_fn", "os.system"),
        (UNET, "time_embedding_type", "fourier"),
        (UNET, "time_embedding_type", "learned"),
        (UNET, "center_input_sample", True),
        (UNET, "class_embed_type", "timestep"),
        (UNET, "downsample_type", "resnet"),
        (UNET, "upsample_type", "resnet"),
        (UNET, "mid_block_type", "UNetMidBlock2DCrossAttn"),
        (UNET, "down_block_types", ["DownBlock2D", "SkipDownBlock2D"]),
        (UNET, "down_block_types", ["DownBlock2D", "subprocess.Popen"]),
        (UNET, "up_block_types", ["UpBlock2D"]),
        (UNET, "up_block_types", "UpBlock2D"),
        (UNET, "resnet_time_scale_shift", "spatial"),
        (UNET, "attn_norm_num_groups", 4),
        (UNET, "downsample_padding", 2),
        (UNET, "out_channels", 3),
        (UNET, "in_channels", HUGE),
        (UNET, "block_out_channels", [32, HUGE]),
        (UNET, "block_out_channels", [32.0, 64.0]),
        (UNET, "block_out_channels", [True, True]),
        (UNET, "block_out_channels", []),
        (UNET, "layers_per_block", 0),
        (UNET, "layers_per_block", [1, 2]),
        (UNET, "norm_num_groups", None),
        (UNET, "norm_eps", "1e-5"),
        (UNET, "norm_eps", -1.0),
        (UNET, "layers_per_block", 1000),
        (UNET, "norm_num_groups", 5),
        (UNET, "attention_head_dim", 65),
        (UNET, "dropout", 1.0),
        (UNET, "mid_block_scale_factor", 0),
        (UNET, "freq_shift", 16),
        (UNET, "sample_size", 17),
        (UNET, "block_out_channels", [8] * 17),
        (UNET, "norm_eps", True),
        (UNET, "sample_size", [16, 16, 16]),
        (UNET, "sample_size", -16),
        (UNET, "attention_head_dim", 0),
        (UNET, "num_class_embeds", "ten"),
        (UNET, "flip_sin_to_cos", 1),
        (UNET, "encoder_hid_dim", 768),
        (UNET, "an_option_of_tomorrow", None),
        (SCHEDULER, "beta_schedule", "laplace"),
        (SCHEDULER, "trained_betas", [0.1, 0.2]),
        (SCHEDULER, "trained_betas", "0.1"),
        (SCHEDULER, "num_train_timesteps", HUGE),
        (SCHEDULER, "num_train_timesteps", 0),
        (SCHEDULER, "prediction_type", "flow"),
        (SCHEDULER, "variance_type", "learned"),
        (SCHEDULER, "variance_type", "fixed_large_log"),
        (SCHEDULER, "thresholding", True),
        (SCHEDULER, "steps_offset", 1),
        (SCHEDULER, "timestep_spacing", "karras"),
        (SCHEDULER, "clip_sample", "yes"),
        (SCHEDULER, "clip_sample_range", None),
        (SCHEDULER, "beta_end", True),
        (SCHEDULER, "beta_end", 2.0),
        (SCHEDULER, "beta_start", -1.0),
        (SCHEDULER, "clip_sample_range", -1.0),
        (UNET, "_class_name", "UNet2DConditionModel"),
        (UNET, "_class_name", "os.system"),
        (UNET, "_class_name", None),
        (UNET, "_class_name", ["pipeline", "Mine"]),
        (SCHEDULER, "_class_name", "PNDMScheduler"),
        (INDEX, "_class_name", "LDMPipeline"),
        (INDEX, "_class_name", ["my_pipeline", "MyPipeline"]),
        (INDEX, "vqvae", ["diffusers", "VQModel"]),
        (INDEX, "unet", ["my_module", "MyUNet"]),
    ],
    ids=str,
)
def test_what_is_not_known_is_refused_by_its_key_and_value(
    file: str, key: str, value: Any, folder: Path, tmp_path: Path
) -> None:
    change(folder / file, **{key: value})
    error = refused(folder, tmp_path / "run")
    assert isinstance(error, ModelError)
    assert key in error.problem
    shown = {"None": "null", "True": "true", "False": "false"}.get(repr(value), repr(value))
    wrong = [repr(entry) for entry in value] if isinstance(value, list) else []
    assert any(part in error.problem for part in [shown, f"{len(wrong)} numbers", *wrong])


@pytest.mark.parametrize(
    ("file", "values", "problem"),
    [
        (UNET, {"sample_size": None}, "sample_size = null"),
        (
            SCHEDULER,
            {"rescale_betas_zero_snr": True, "prediction_type": "epsilon"},
            "rescale_betas_zero_snr = true",
        ),
        (UNET, {"block_out_channels": [32, 96]}, "has the shape"),
        (UNET, {"layers_per_block": 3}, "the weights lack"),
        (UNET, {"layers_per_block": 1}, "the weights hold"),
        (UNET, {"num_class_embeds": None}, "the weights hold class_embedding.weight"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_before_a_network_is_made(
    file: str, values: dict[str, Any], problem: str, folder: Path, tmp_path: Path
) -> None:
    change(folder / file, **values)
    assert problem in refused(folder, tmp_path / "run").problem


def test_what_only_ddim_does_otherwise_is_refused_of_ddim(folder: Path, tmp_path: Path) -> None:
    """diffusers keeps the keys of one scheduler in the configuration of another, where they mean nothing."""
    change(folder / SCHEDULER, set_alpha_to_one=False)
    import_model(folder, tmp_path / "ddpm")
    change(folder / SCHEDULER, _class_name="DDIMScheduler")
    assert "set_alpha_to_one = false" in refused(folder, tmp_path / "ddim").problem
    change(folder / SCHEDULER, set_alpha_to_one=True, beta_schedule="sigmoid")
    assert "beta_schedule = 'sigmoid'" in refused(folder, tmp_path / "ddim").problem


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"_class_name": "UNet2DModel", "norm_eps": NaN}', "NaN is no number of JSON"),
        (b'{"_class_name": "UNet2DModel", "norm_eps": -Infinity}', "-Infinity is no number"),
        (b'{"_class_name": "UNet2DModel", "norm_eps": 1e999}', "norm_eps = inf"),
        (b'{"_class_name": "UNet2DModel", "in_channels": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[1, 2]", "is not a configuration"),
        (b"", "is not JSON"),
        (b" " * (17 << 20), "which no configuration needs"),
    ],
    ids=range(9),
)
def test_a_file_that_is_no_configuration_is_refused(
    content: bytes, problem: str, folder: Path, tmp_path: Path
) -> None:
    (folder / UNET).write_bytes(content)
    assert problem in refused(folder, tmp_path / "run").problem


def test_folders_that_are_no_models_are_told_apart(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "there is no folder" in refused(tmp_path / "nowhere", tmp_path / "run").problem
    assert "it has neither" in refused(empty, tmp_path / "run").problem
    alone = refused(folder / "unet", tmp_path / "run")
    assert "scheduler" in alone.problem
    assert str(folder) in alone.advice[1]  # the folder above may be meant
    run = import_model(folder, tmp_path / "good").run
    assert "is a run of kakusan already" in refused(run.folder, tmp_path / "run").problem
    (folder / WEIGHTS).rename(folder / "unet/diffusion_pytorch_model.fp16.safetensors")
    without = refused(folder, tmp_path / "run")
    assert "rename it" in without.advice[0]
    (folder / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert "pointer of Git LFS" in refused(folder, tmp_path / "run").problem


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_taken_in(value: float, folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    weights["conv_in.bias"][3] = value
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    assert "conv_in.bias is not finite" in refused(folder, tmp_path / "run").problem


def test_damaged_weights_and_weights_of_integers_are_refused(folder: Path, tmp_path: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"\xff" * 100, (2**62).to_bytes(8, "little") + whole[8:]):
        (folder / WEIGHTS).write_bytes(content)
        assert "no safetensors file" in refused(folder, tmp_path / "run").problem
    (folder / WEIGHTS).write_bytes(whole)
    weights = load_file(folder / WEIGHTS)
    weights["conv_in.bias"] = weights["conv_in.bias"].long()
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    assert "conv_in.bias is of torch.int64" in refused(folder, tmp_path / "run").problem


def test_code_in_a_folder_is_never_run(folder: Path, tmp_path: Path) -> None:
    """Scripts beside the parts, and a pickle that would run a command."""
    marker = tmp_path / "was-run"
    script = f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n"
    for name in (
        "pipeline.py",
        "unet/unet.py",
        "unet/__init__.py",
        "scheduler/scheduler.py",
        "torch.py",
        "json.py",
    ):
        (folder / name).write_text(script)
    import_model(folder, tmp_path / "run")
    assert not marker.exists()

    class Command:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            import os

            return os.system, (f"touch {marker}",)

    (folder / WEIGHTS).unlink()
    torch.save({"conv_in.weight": Command()}, folder / "unet/diffusion_pytorch_model.bin")
    error = refused(folder, tmp_path / "another")
    assert isinstance(error, ModelError)
    assert not marker.exists()


ABOUT: dict[str, Any] = {
    "network": {
        "kind": "unet",
        "width": 32,
        "multipliers": [1, 2],
        "blocks": 2,
        "attention": [1],
        "groups": 32,
        "dropout": 0.0,
        "patch": 1,
        "head_width": 16,
    }
    | {
        "norm_eps": 1e-5,
        "pad_all_sides": True,
        "frequency_shift": 0.0,
        "cos_first": True,
        "null_label": False,
    },
    "process": {"schedule": "cosine", "predicts": "v", "variance": "fixed-small", "spacing": "leading"},
    "data": {
        "name": "digits",
        "shape": [1, 16, 15],
        "units": {"kind": "levels", "levels": 17},
        "class_names": ["zero", "one", "two", "three", "four"],
        "fingerprint": "",
    },
}


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("network", "attention", (0,)),
        ("network", "heads", 0),
        ("network", "width", "os.system"),
        ("network", "width", HUGE),
        ("network", "norm_eps", 1e-6),
        ("network", "kind", "mlp"),
        ("network", "patch", 2),
        ("process", "T", HUGE),
        ("process", "T", 10**30),
        ("process", "schedule", "linear"),
        ("process", "sigma_1", "zzz"),
        ("process", "variance", "zzz"),
        ("process", "spacing", "zzz"),
        ("process", "predicts", "zzz"),
        ("data", "shape", [1, 16, -1]),
        ("data", "shape", [1, 16]),
        ("data", "shape", [3, 16, 15]),
        ("data", "units", {"kind": "levels", "levels": "256"}),
        ("data", "units", {"kind": "levels", "levels": 1}),
        ("data", "units", {"kind": "zzz"}),
        ("data", "class_names", ["zero", "one"]),
        ("data", "class_names", [0, 1, 2, 3, 4]),
        ("data", "name", None),
        ("network", None, 3),
        ("data", None, []),
    ],
    ids=str,
)
def test_a_lying_kakusan_json_is_passed_over_and_said(
    section: str, key: str | None, value: Any, folder: Path, tmp_path: Path
) -> None:
    """The truth is believed; with one lie in it, the folder's own files count, and that is said."""
    (folder / "kakusan.json").write_text(json.dumps(ABOUT))
    truth = import_model(folder, tmp_path / "truth")
    assert truth.notes == ()
    assert truth.run.data.class_names[0] == "zero"
    assert truth.run.data.shape == (1, 16, 15)
    lie = {**ABOUT, section: value if key is None else ABOUT[section] | {key: value}}
    (folder / "kakusan.json").write_text(json.dumps(lie))
    made = import_model(folder, tmp_path / "run")
    assert "kakusan.json is passed over" in made.notes[0]
    assert made.run.data.class_names == ("0", "1", "2", "3", "4")


@pytest.mark.parametrize("content", [b"", b"[]", b'{"network": 1e400}', b"[" * 10_000])
def test_a_kakusan_json_that_is_none_is_passed_over(content: bytes, folder: Path, tmp_path: Path) -> None:
    (folder / "kakusan.json").write_bytes(content)
    assert "kakusan.json is passed over" in import_model(folder, tmp_path / "run").notes[0]


def test_no_word_of_a_stranger_reaches_the_terminal_with_control_characters(
    folder: Path, tmp_path: Path
) -> None:
    forged = "\x1b[2J\nerror: forged"
    names = [forged, *"abcd"]
    about = {**ABOUT, "data": ABOUT["data"] | {"name": forged, "class_names": names}}
    (folder / "kakusan.json").write_text(json.dumps(about))
    run = import_model(folder, tmp_path / "run").run
    assert all(name.isprintable() for name in (run.data.name, *run.data.class_names))
    weights = load_file(folder / WEIGHTS)
    save_file({**weights, forged: torch.ones(1)}, folder / WEIGHTS, {"format": "pt"})
    tensor = refused(folder, tmp_path / "other")
    change(folder / UNET, **{forged: 1})
    key = refused(folder, tmp_path / "other")
    change(folder / INDEX, **{forged: 1})
    part = refused(folder, tmp_path / "other")
    (folder / INDEX).unlink()
    (folder / UNET).unlink()
    (folder / forged).touch()
    for error in (tensor, key, part, refused(folder, tmp_path / "other")):
        assert all(line.isprintable() for line in (error.problem, *error.advice))


def test_a_weight_under_an_old_and_a_new_name_is_refused(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    name = next(name for name in weights if ".to_q.weight" in name)
    save_file(
        {**weights, name.replace("to_q", "query"): weights[name] + 1}, folder / WEIGHTS, {"format": "pt"}
    )
    assert "twice" in refused(folder, tmp_path / "run").problem


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bool, torch.complex64])
def test_types_of_weights_that_are_not_known_are_refused(
    dtype: torch.dtype, folder: Path, tmp_path: Path
) -> None:
    weights = load_file(folder / WEIGHTS)
    weights["conv_in.bias"] = weights["conv_in.bias"].to(dtype)
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    assert str(dtype) in refused(folder, tmp_path / "run").problem


def test_weights_too_large_for_float32_are_refused(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    weights["conv_in.bias"] = weights["conv_in.bias"].double() * 1e300
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    assert "conv_in.bias is not finite" in refused(folder, tmp_path / "run").problem


@pytest.mark.parametrize("name", ["~nobody-of-this-name/x", "x" * 300, "a\0b"])
def test_what_is_no_path_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no path|no folder"):
        import_model(name, tmp_path / "run")


def test_imports_of_others_are_left_alone(folder: Path, tmp_path: Path) -> None:
    """Only what dead processes left of the very same run is swept up, and no link is followed."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    living, dead, other, link = (
        tmp_path / f".importing-{name}"
        for name in (f"cat-{os.getppid()}", "cat-99999999", "cat-2-99999999", "cat-7")
    )
    for path in (living, dead, other):
        path.mkdir()
    link.symlink_to(elsewhere)
    import_model(folder, tmp_path / "cat")
    assert (living.exists(), dead.exists(), other.exists()) == (True, False, True)
    assert (elsewhere / "precious").exists()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_no_value_whatsoever_is_a_bug(data: st.DataObject) -> None:
    """Translation either understands or raises ModelError; no other error escapes."""
    model = MODELS["classes"]
    unet = {"_class_name": "UNet2DModel", **model.unet}
    scheduler = {"_class_name": "DDPMScheduler", **model.scheduler}
    config, keys = data.draw(
        st.sampled_from(
            [(unet, [*unet, "norm_eps", "dropout", "other"]), (scheduler, [*scheduler, "trained_betas"])]
        )
    )
    config[data.draw(st.sampled_from(keys))] = data.draw(anything)
    with suppress(ModelError):
        translated(unet, scheduler)


def test_the_command_line_says_it_in_one_line_and_exits_with_4(folder: Path, tmp_path: Path) -> None:
    change(folder / UNET, act_fn="mish")
    done = subprocess.run(
        [sys.executable, "-m", "kakusan", "import", str(folder), "--run", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "error: act_fn = 'mish' of the UNet2DModel is not supported",
        "  known here: 'silu', 'swish'",
    ]
