"""Export of models: a run becomes a folder of diffusers, an ONNX model with its sampler, or a file of weights."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import safetensors.torch

from kakusan.config.settings import LEARNED, ProcessSettings
from kakusan.data.space import kind_of, legacy
from kakusan.data.units import Levels
from kakusan.diffusion.schedules import NoiseSchedule
from kakusan.errors import ModelError, SettingsError
from kakusan.interop.diffusers import folder as names
from kakusan.interop.diffusers.card import model_card
from kakusan.interop.diffusers.config import unet_config
from kakusan.interop.diffusers.few_steps import FewSteps, few_steps
from kakusan.interop.diffusers.schedulers import Scheduler, model_index, scheduler_config
from kakusan.interop.diffusers.weights import embedded_times, separated
from kakusan.interop.native import about
from kakusan.interop.onnx.model import TOLERANCE, largest_difference, onnx_model
from kakusan.interop.onnx.table import sampler_table
from kakusan.networks import UNet
from kakusan.networks.patches import padded_size
from kakusan.run import Loaded, Run, usual_sampler
from kakusan.samplers import DDIM, Ancestral, Sampler
from kakusan.samplers.spacings import WHOLE
from kakusan.storage import durable

Files = Mapping[str, bytes]
"""Path inside of the export -> content."""

DIFFUSERS_METADATA = {"format": "pt"}
"""The metadata that diffusers writes into the head of its weights, and requires there."""


THEIR_TARGETS = ("eps", "x_0", "v")
"""Prediction targets that diffusers' DDPM and DDIM schedulers have words for."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Options of an export beyond its format."""

    weights: Literal["ema", "model"] = "ema"
    step: int | None = None
    scheduler: Scheduler | None = None
    """diffusers: ddpm, or ddim; None: as the model was imported, else ddpm."""
    sampler: Sampler | None = None
    """onnx: whose times and coefficients; None: DDIM in 50 steps. diffusers: whose scheduler, not `scheduler`'s."""
    say: Callable[[str], None] = lambda _: None
    """Called with a line on each part that takes long."""


@dataclass(frozen=True)
class Exported:
    """The path of an export, and notes for the user."""

    path: Path
    notes: tuple[str, ...] = ()


@dataclass
class _Export:
    """A format's files, on their way to the disk."""

    files: dict[str, bytes]
    notes: list[str] = field(default_factory=list)


def export_model(run: Run | Path | str, to: str, target: Path | str, wish: Wish | None = None) -> Exported:
    """Write the model of a run, or of its folder, in another format. Nothing that is there is replaced.

    to: diffusers (a folder), onnx (a folder) or safetensors (a file). Raises ModelError for what the format has no
    words for, SettingsError for an unknown format or a target that is in use.
    """
    if to not in FORMATS:
        raise SettingsError(f"unknown format {to!r}", f"there are: {', '.join(FORMATS)}")
    run = run if isinstance(run, Run) else Run.open(run)
    target, wish = Path(target).expanduser(), wish or Wish()
    _check_target(target, to)
    _check_process(run, to)
    loaded = run.load(weights=wish.weights, step=wish.step, device="cpu", precision="fp32")
    export = FORMATS[to](run, loaded, wish)
    with durable.os_errors_as_run_errors(
        f"cannot write {target}", target.parent, needed=sum(map(len, export.files.values()))
    ):
        _write(target, export.files, is_file=to == "safetensors")
    return Exported(target, tuple(export.notes))


def _image_shape(run: Run) -> tuple[int, int, int]:
    """(channels, height, width); points are images of one pixel there."""
    channels, height, width = legacy(run.data.shape)
    return channels, height, width


def _check_process(run: Run, to: str) -> None:
    """Raises ModelError for processes that a format cannot describe: others would sample noise from the model."""
    process = run.settings.process
    if to != "safetensors" and kind_of(legacy(run.data.shape)) != "image":
        raise ModelError(
            f"an export to {to} is for images, and {run.folder} is of {kind_of(run.data.shape)}s",
            "the weights alone: --to safetensors",
        )
    if to != "safetensors" and (run.data.has_examples or run.data.masked):
        raise ModelError(
            f"an export to {to} has no place for {run.data.inputs_in_words()}, which {run.folder} has learned",
            "the weights alone: --to safetensors",
        )
    if to == "safetensors" or (process.path == "vp" and (to == "onnx" or process.predicts in THEIR_TARGETS)):
        return
    raise ModelError(
        f"an export to {to} describes DDPMs that predict {', '.join(THEIR_TARGETS)}, and {run.folder} predicts"
        f" {process.predicts} on the path {process.path}",
        "the weights alone: --to safetensors",
    )


def _to_diffusers(run: Run, loaded: Loaded, wish: Wish) -> _Export:
    """A model that DDPMPipeline, DDIMPipeline and UNet2DModel open. Raises ModelError for other networks."""
    settings, network = loaded.settings, loaded.network
    if not isinstance(network, UNet):
        raise ModelError(
            f"an export to diffusers is for U-Nets, and the network of {run.folder} is a {settings.network.kind}",
            "the whole model: --to onnx; the weights alone: --to safetensors",
        )
    if settings.is_distilled:
        raise ModelError(
            f"{run.folder} was distilled, and the schedulers of diffusers are for models of many calls",
            "with its sampler: --to onnx; the weights alone: --to safetensors",
        )
    kind = wish.scheduler or _kind_of(wish.sampler) or _imported_kind(run)
    fast = _few_steps(loaded, wish)
    process = _spaced(settings.process, wish.sampler if fast is None else fast.sampler)
    loaded = replace(loaded, settings=replace(settings, process=process))
    learned = process.variance == "learned"
    unet = unet_config(
        settings.network, _image_shape(run), classes=len(run.data.class_names), learned=learned
    )
    weights = separated(network, network.state_dict())
    if process.schedule == LEARNED:
        unet |= {"time_embedding_type": "learned", "num_train_timesteps": process.T}
        weights |= embedded_times(loaded.model.denoiser, network)
    own = None if fast is None else fast.config
    scheduler = own or scheduler_config(process, _schedule(loaded), kind)
    export = _Export(
        {
            names.INDEX: _json(model_index(kind) if fast is None else fast.index),
            f"{names.NETWORK_FOLDER}/{names.CONFIG}": _json(unet),
            f"{names.NETWORK_FOLDER}/{names.WEIGHTS[0]}": safetensors.torch.save(weights, DIFFUSERS_METADATA),
            f"{names.SCHEDULER_FOLDER}/{names.SCHEDULER_CONFIG}": _json(scheduler),
            names.ABOUT_OURS: _json(about(run, loaded)),
        },
        [] if fast is None else [fast.note],
    )
    height, width = run.data.shape[1:]
    larger = padded_size((height, width), network.multiple)
    if larger != (height, width):
        export.notes.append(
            f"sample_size is {larger[0]} x {larger[1]} (height, width), which the network pads its images of "
            f"{height} x {width} to with zeros: crop what others sample with it, on the right and at the bottom"
        )
    picture = run.files.samples_picture(loaded.step)
    if picture is not None:
        export.files["samples.png"] = picture.read_bytes()
    export.files["README.md"] = model_card(run, loaded, kind, export.notes, fast).encode()
    return export


def _kind_of(sampler: Sampler | None) -> Scheduler | None:
    """The scheduler of pipelines for a sampler, where it is one of theirs."""
    if isinstance(sampler, DDIM) and sampler.eta == 0:
        return "ddim"
    return "ddpm" if isinstance(sampler, Ancestral) else None


def _spaced(process: ProcessSettings, sampler: Sampler | None) -> ProcessSettings:
    """The process with the spacing of a sampler that is asked for. Raises ModelError where there is no word for it."""
    if sampler is None or (sampler.at is None and sampler.spacing is None):
        return process
    if sampler.at is not None or sampler.spacing not in WHOLE:
        raise ModelError(
            f"schedulers of diffusers have no word for {sampler.spacing or 'given'} times, which this walk visits",
            f"times that they know: spacing {', '.join(WHOLE)}",
            "any times: --to onnx",
        )
    return replace(process, spacing=sampler.spacing)


def _few_steps(loaded: Loaded, wish: Wish) -> FewSteps | None:
    """A scheduler of few steps, where the sampler asks for one. Raises SettingsError for two schedulers at once."""
    if wish.sampler is None:
        return None
    if wish.scheduler is not None:
        raise SettingsError("scheduler and sampler name two schedulers", "leave one of them out")
    if _kind_of(wish.sampler):
        return None
    return few_steps(loaded.settings.process, _schedule(loaded), wish.sampler)


def _schedule(loaded: Loaded) -> NoiseSchedule:
    """The betas of these weights; `_check_process` has refused all other paths."""
    assert isinstance(loaded.model.path, NoiseSchedule)
    return loaded.model.path


def _imported_kind(run: Run) -> Scheduler:
    """That of the model it began from, unless that has no learned variance."""
    return "ddim" if run.files.scheduler == "ddim" and run.settings.process.variance != "learned" else "ddpm"


def _to_onnx(run: Run, loaded: Loaded, wish: Wish) -> _Export:
    """The network, the sampler as a table, and a script that needs neither kakusan nor torch."""
    shape, classes = _image_shape(run), run.data.class_names
    sampler = wish.sampler or usual_sampler(loaded.settings)
    table = sampler_table(loaded.model, sampler, shape)  # before the long part
    wish.say("tracing the network, and comparing onnxruntime's answers with ours ...")
    model = onnx_model(loaded.network, shape, classes=bool(classes))
    difference = largest_difference(model, loaded.network, shape, classes=bool(classes))
    if not difference <= TOLERANCE:
        raise ModelError(f"onnxruntime's answers lie {difference:.1e} from ours, more than {TOLERANCE:g}")
    null = len(classes) if classes and loaded.settings.network.null_label else None
    units = run.data.units
    table |= {
        "classes": list(classes),
        "null_label": null,
        "levels": units.levels if isinstance(units, Levels) else None,
        "units": units.to_state(),
        "step": loaded.step,
    }
    example = (resources.files("kakusan.interop.onnx") / "sample_onnx.py").read_bytes()
    return _Export(
        {"model.onnx": model, "sampler.json": _json(table), "sample.py": example},
        [f"onnxruntime's answers lie {difference:.1e} from ours (relative to the largest, or 1)"],
    )


def _to_safetensors(run: Run, loaded: Loaded, _: Wish) -> _Export:
    """The plain weights under the names of kakusan, with all that makes a model of them in the head of the file."""
    head = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in about(run, loaded).items()
    }
    tensors = {name: tensor.cpu().contiguous() for name, tensor in loaded.network.state_dict().items()}
    return _Export({"": safetensors.torch.save(tensors, {**DIFFUSERS_METADATA, **head})})


FORMATS: dict[str, Callable[[Run, Loaded, Wish], _Export]] = {
    "diffusers": _to_diffusers,
    "onnx": _to_onnx,
    "safetensors": _to_safetensors,
}


def _json(content: Mapping[str, Any]) -> bytes:
    return (
        json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    ).encode()


def _check_target(target: Path, to: str) -> None:
    """Raises SettingsError before the work, rather than after it."""
    is_file = to == "safetensors"
    if is_file and target.suffix != ".safetensors":
        raise SettingsError(f"{target} is no name of a file of weights", "name one: model.safetensors")
    if not is_file and target.suffix in (".onnx", ".safetensors"):
        inside = (
            "model.onnx, sampler.json, sample.py" if to == "onnx" else "the weights and their configuration"
        )
        raise SettingsError(
            f"an export to {to} makes a folder ({inside}), not a file",
            f"name one: {target.with_suffix('')}",
            *(
                [f"to make {target.suffix[1:]}: --to {target.suffix[1:]}"]
                if target.suffix != f".{to}"
                else []
            ),
        )
    if target.is_dir() and not is_file and not any(target.iterdir()):
        return
    if target.exists():
        raise SettingsError(f"{target} is there already", "nothing in it was changed; name another")


def _write(target: Path, files: Files, *, is_file: bool) -> None:
    """Whole or not there: made beside its place and then renamed."""
    durable.make_folders(target.parent)
    if is_file:
        durable.atomic_write(target, files[""])
        return
    with durable.whole_folder(target, "exporting") as unfinished:
        for name, content in files.items():
            durable.make_folders((unfinished / name).parent)
            durable.write_new(unfinished / name, [content])
