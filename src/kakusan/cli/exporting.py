"""kakusan export RUN FOLDER."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from kakusan.cli.arguments import parse

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
    sampler: str = "ddim"
    """onnx: ddim or ancestral, whose times and coefficients are written."""
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
    from kakusan.cli.display import console
    from kakusan.interop.exporting import Wish, export_model
    from kakusan.opened import Run, sampler_from

    run, to = Run.open(command.run), console()
    process = run.settings.process
    steps = min(50, process.T) if command.steps is None and command.sampler == "ddim" else command.steps
    options = {"steps": steps, "eta": command.eta, "spacing": process.spacing}
    wish = Wish(
        weights=command.weights,
        step=command.step,
        scheduler=command.scheduler,
        sampler=sampler_from(command.sampler, options) if command.to == "onnx" else None,
    )
    if command.to == "onnx":
        to.print("tracing the network, and comparing onnxruntime's answers with ours ...", style="dim")
    exported = export_model(run, command.to, command.target, wish)
    for note in (*run.warnings, *exported.notes):
        to.print(f"note: {note}", markup=False)
    print(exported.path)
    return 0
