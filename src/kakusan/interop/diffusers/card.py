"""The page that goes with an exported model: its data, its recipe, its figures, and what to mind when using it."""

from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from kakusan.config.loading import flat, usual_for
from kakusan.data.units import Levels
from kakusan.interop.diffusers.few_steps import FewSteps
from kakusan.interop.diffusers.schedulers import PIPELINES, SCHEDULERS, Scheduler
from kakusan.run import Loaded, Run

TOLD = (
    *(f"process.{name}" for name in ("schedule", "T", "predicts", "variance", "clip", "spacing")),
    *(f"training.{name}" for name in ("steps", "loss", "batch_size", "times", "learning_rate", "warmup")),
    *(f"training.{name}" for name in ("decay", "ema", "seed")),
    *(f"data.{name}" for name in ("held_out", "flip")),
    *(f"network.{name}" for name in ("width", "multipliers", "blocks", "attention", "groups", "dropout")),
)
"""Settings that are always listed; of the others in these sections, those that are not as usual."""
NOT_TOLD = {"data.source", "data.cache", "data.size", "data.channels", "network.kind", "training.minutes"}

ALL_IMAGES = """\
from diffusers import {pipeline}

pipe = {pipeline}.from_pretrained("FOLDER")
images = pipe(batch_size=16{steps}).images"""

IN_A_LOOP = """\
import torch
from diffusers import UNet2DModel, {scheduler}

unet = UNet2DModel.from_pretrained("FOLDER", subfolder="unet")
scheduler = {scheduler}.from_pretrained("FOLDER", subfolder="scheduler")
scheduler.set_timesteps({steps})
x = torch.randn(16, {shape})
{labels}for t in scheduler.timesteps:
    with torch.no_grad():
        word = unet(x, t{passed}).sample
    x = scheduler.step(word, t, x{clipped}).prev_sample
images = (x / 2 + 0.5).clamp(0, 1)"""


def model_card(
    run: Run, loaded: Loaded, kind: Scheduler, notes: Sequence[str] = (), fast: FewSteps | None = None
) -> str:
    """The card in Markdown; notes: what is special about this export; fast: its scheduler, where it is of few steps."""
    record, step = run.files.data, loaded.step
    return _template().render(
        name=_plain(run.data.name),
        images=_images(run),
        parameters=f"{sum(p.numel() for p in loaded.network.parameters()):,}",
        origin=_origin(record),
        picture=run.files.samples_picture(step) is not None,
        data=list(_data(run)),
        recipe=list(_recipe(loaded)) if step else [],
        figures=list(_figures(run, step)),
        example=_example(run, loaded, kind, fast),
        remarks=[*notes, *_remarks(run, loaded, kind, fast)],
    )


@cache
def _template() -> Template:
    environment = Environment(  # Markdown; names are made plain by `_plain`
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(
        (resources.files("kakusan.interop.diffusers") / "card.md.jinja").read_text("utf-8")
    )


def _plain(text: object) -> str:
    """The text on one line, without what Markdown or HTML would take for its own."""
    return "".join(c for c in " ".join(str(text).split()) if c not in "<>[]|`#*")[:200]


def _images(run: Run) -> str:
    channels, height, width = run.data.shape
    colour = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    size = f"{height} x {width}" + (" (height, width)" if height != width else "")
    return f"images of {size}, {colour}"


def _origin(record: dict[str, Any]) -> str:
    if imported := record.get("imported"):
        revision = f", revision {imported['revision']}" if imported["revision"] else ""
        return f"Imported from {_public(imported['source'])}{revision}."
    if parent := record.get("weights_from"):
        name = _plain(Path(parent["run"]).name)
        return f"Trained with kakusan, beginning from the weights of {name} after step {parent['step']:,}."
    return "Trained with kakusan."


def _public(source: str) -> str:
    """A name on the hub as it is; of a folder here, its name alone."""
    return _plain(source if source.startswith("hf:") else Path(source).name)


def _data(run: Run) -> Iterator[str]:
    record, units = run.files.data, run.data.units
    if record["count"]:
        held_out = len(record["held_out"])
        yield f"{_plain(run.data.name)}: {record['count'] - held_out:,} images to train on, {held_out:,} held out"
        yield f"fingerprint {record['fingerprint']}"
    else:
        yield "not known here: the model was imported"
    if isinstance(units, Levels):
        yield f"pixels of {units.levels} levels, 0 to {units.levels - 1}, mapped to -1 to 1"
    else:
        state = {key: value for key, value in units.to_state().items() if key != "kind"}
        yield f"real numbers, normalized per channel ({_plain(state)}): the pipeline's own 0 to 1 does not apply"
    if run.data.class_names:
        yield f"classes: {', '.join(map(_plain, run.data.class_names[:50]))}"


def _recipe(loaded: Loaded) -> Iterator[tuple[str, str]]:
    settings, usual = flat(loaded.settings), usual_for(loaded.settings)
    instead = {"network.width", "network.multipliers"} if settings["network.widths"] else {"network.widths"}
    for name, value in settings.items():
        section = name.partition(".")[0]
        if section not in ("process", "training", "data", "network") or name in NOT_TOLD | instead:
            continue
        if name in TOLD or (value != usual[name] and value not in ("auto", ())):
            yield name, _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        few = value if len(value) <= 16 else (*value[:3], "...", value[-1])
        return _plain(", ".join(map(str, few))) or "none"
    if isinstance(value, float) and value >= 1 and value == int(value):
        return str(int(value))
    return _plain({"True": "yes", "False": "no"}.get(str(value), value))


def _figures(run: Run, step: int) -> Iterator[str]:
    losses = [line for line in run.files.metrics() if line.get("step") == step and "training_loss" in line]
    for line in losses[-1:]:
        held_out = f", {line['held_out_loss']:.4f} on held-out ones" if "held_out_loss" in line else ""
        training = f"{line['training_loss']:.4f} on training images"
        yield f"loss of the averaged weights after {step:,} steps: {training}{held_out}"
    for found in run.files.evaluations(step):
        if "parts" not in found:  # distances
            continue
        clip = f"x_0 clipped at {found['clip']:g}" if found["clip"] else "x_0 not clipped"
        stated = (
            f"terms: {found['terms']} of T = {found['T']}, variance {found['variance']}, {clip}, "
            f"{found['weights']} weights, {found['precision']}"
        )
        for name, part in found["parts"].items():
            error = part["standard_error"]
            spread = "" if error is None else f" ± {error:.4f}"
            count = part["images"]
            bits = f"{part['bits_per_dim']:.4f}{spread} bits/dim (variational bound)"
            yield f"{bits} on {count:,} {_plain(name)} images; {stated}"


def _example(run: Run, loaded: Loaded, kind: Scheduler, fast: FewSteps | None) -> str:
    process, classes = loaded.settings.process, run.data.class_names
    steps = process.T if kind == "ddpm" else min(50, process.T)
    clipped = ", use_clipped_model_output=True" if kind == "ddim" and process.clip and fast is None else ""
    if classes or fast is not None:
        return IN_A_LOOP.format(
            scheduler=SCHEDULERS[kind] if fast is None else fast.name,
            steps=steps if fast is None else fast.steps,
            shape=", ".join(map(str, run.data.shape)),
            labels=f"labels = torch.arange(16) % {len(classes)}\n" if classes else "",
            passed=", class_labels=labels" if classes else "",
            clipped=clipped,
        )
    usual = (kind, steps) in (("ddpm", 1000), ("ddim", 50))
    asked = "" if usual else f", num_inference_steps={steps}"
    return ALL_IMAGES.format(pipeline=PIPELINES[kind], steps=asked + clipped)


def _remarks(run: Run, loaded: Loaded, kind: Scheduler, fast: FewSteps | None) -> Iterator[str]:
    process, classes = loaded.settings.process, run.data.class_names
    if classes:
        null = f"; {len(classes)} stands for no class" if loaded.settings.network.null_label else ""
        yield f"The pipelines pass no labels on, hence the loop. Labels are 0 to {len(classes) - 1}{null}."
    if fast is not None:
        return
    if process.variance == "learned":
        yield "The variance is learned: DDPMScheduler understands it, DDIMScheduler does not."
    elif process.schedule == "sigmoid-betas":
        yield "DDIMScheduler does not know this schedule of betas, DDPMScheduler does."
    elif kind == "ddpm" and not classes:
        clipped = ", use_clipped_model_output=True" if process.clip else ""
        yield f'For few steps: `DDIMPipeline.from_pretrained("FOLDER")(num_inference_steps=50{clipped})`.'
    if kind == "ddpm" and process.spacing != "leading":
        yield (
            f"DDPMScheduler wants all {process.T} steps: with fewer, and times that are spaced as here, it adds noise "
            "in its last step too, which stays in the image."
        )
    if process.variance != "learned" and process.schedule != "sigmoid-betas":
        yield (
            f"For DDIMScheduler, take a number of steps that divides {process.T}: "
            f"it goes back {process.T} // steps at a time, whatever the spacing."
        )
