"""kakusan export RUN FOLDER."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from kakusan.cli.arguments import parse
from kakusan.errors import SettingsError, printable

EXAMPLES = (
    "kakusan export runs/demo kanji/                             what diffusers opens: DDPMPipeline.from_pretrained",
    "kakusan export runs/demo --to onnx kanji-onnx/              network, sampler, and a script without torch",
    "kakusan export runs/demo --to safetensors kanji.safetensors",
)


@dataclass(frozen=True)
class Export:
    """Write the model of a run for other programs. Nothing that is there is replaced."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    target: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """A new folder; for safetensors a new file."""
    to: Literal["diffusers", "onnx", "safetensors"] = "diffusers"
    """The format."""
    scheduler: Literal["ddpm", "ddim"] | None = None
    """diffusers: whose scheduler is written; default: as imported, else ddpm."""
    sampler: Literal["ddim", "ancestral"] | None = None
    """onnx: whose times and coefficients are written; default: ddim."""
    steps: int | None = None
    """onnx: steps of the sampler; default: 50 for ddim, all T for ancestral."""
    eta: float | None = None
    """onnx: fresh noise of ddim: 0 none, 1 as much as ancestral."""
    weights: Literal["ema", "model"] = "ema"
    """Averaged weights, or those of the last step."""
    step: int | None = None
    """Of which checkpoint; default: the newest."""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    command = parse(Export, arguments, "export", EXAMPLES)
    from kakusan.interop.exporting import Wish, export_model
    from kakusan.run import Run
    from kakusan.samplers import sampler_named
    from kakusan.terminal.display import console

    _refuse_what_does_not_apply(command)
    run, to = Run.open(command.run), console()
    process, name = run.settings.process, command.sampler or "ddim"
    sampler = sampler_named(name, process.T, steps=command.steps, eta=command.eta, spacing=process.spacing)
    wish = Wish(
        weights=command.weights,
        step=command.step,
        scheduler=command.scheduler,
        sampler=sampler,
        say=lambda text: to.print(text, style="dim", markup=False),
    )
    exported = export_model(run, command.to, command.target, wish)
    for note in (*run.warnings, *exported.notes):
        to.print(printable(f"note: {note}"), markup=False)
    print(exported.path)
    return 0


def _refuse_what_does_not_apply(command: Export) -> None:
    for to, names in {"onnx": ("sampler", "steps", "eta"), "diffusers": ("scheduler",)}.items():
        for name in names:
            if command.to != to and getattr(command, name) is not None:
                raise SettingsError(f"--{name} is for --to {to}, not for --to {command.to}", "leave it out")
