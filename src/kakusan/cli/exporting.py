"""kakusan export RUN FOLDER."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from kakusan.cli.choices import value_of
from kakusan.cli.sampler_options import USUAL, own_flags, parse_for_run, sampler_of
from kakusan.config.facts import SpacingName
from kakusan.errors import SettingsError, printable

EXAMPLES = (
    "kakusan export runs/demo kanji/                             what diffusers opens: DDPMPipeline.from_pretrained",
    "kakusan export runs/demo --sampler unipc kanji/             the same with the scheduler of few steps",
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
    sampler: str | None = None
    """onnx: whose times and coefficients are written: ddim (default), unipc, consistency (default of a distilled run),
    ...; diffusers: whose scheduler, where it has one: unipc, dpmpp-2m, ... --sampler NAME --help shows the options of
    this one, such as --eta of ddim. auto: the one that `kakusan sample` takes."""
    steps: str | None = None
    """Steps of the sampler, or for onnx tuned:N, the times that `kakusan tune` has found for N; default: what is usual
    for it, 50 for ddim. For diffusers, those of the example alone."""
    spacing: SpacingName | None = None
    """Times of the sampler, as of `kakusan sample`; default: as the run says. diffusers has the first three."""
    times: tuple[float, ...] | None = None
    """onnx: these times one by one, as of `kakusan sample`, in place of --steps and --spacing."""
    weights: Literal["ema", "model"] = "ema"
    """Averaged weights, or those of the last step."""
    step: int | None = None
    """Step of the checkpoint; default: the newest."""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    command = parse_for_run(Export, arguments, "export", EXAMPLES)
    from kakusan.interop.exporting import Wish, export_model
    from kakusan.run import Run
    from kakusan.terminal.display import console

    _refuse_what_does_not_apply(command, arguments, own_flags(command.sampler or USUAL))
    run, to = Run.open(command.run), console()
    wish = Wish(
        weights=command.weights,
        step=command.step,
        scheduler=command.scheduler,
        sampler=sampler_of(command, run, USUAL) if command.to == "onnx" or _is_named(arguments) else None,
        say=lambda text: to.print(text, style="dim", markup=False),
    )
    exported = export_model(run, command.to, command.target, wish)
    for note in (*run.warnings, *exported.notes):
        to.print(printable(f"note: {note}"), markup=False)
    print(exported.path)
    return 0


def _refuse_what_does_not_apply(command: Export, arguments: Sequence[str], own: Sequence[str]) -> None:
    """Raises SettingsError for flags of another format; own: the options of the sampler."""
    of_sampler = ("sampler", "steps", "spacing", "times", *own)
    known = {
        "onnx": of_sampler,
        "diffusers": ("scheduler", *(of_sampler if _is_named(arguments) else ())),
        "safetensors": (),
    }
    for to, names in known.items():
        for name in names:
            given = value_of(f"--{name.replace('_', '-')}", arguments) is not None
            if given and name not in known[command.to]:
                raise SettingsError(f"--{name} is for --to {to}, not for --to {command.to}", "leave it out")


def _is_named(arguments: Sequence[str]) -> bool:
    """Whether a sampler is asked for, and not only the usual one that is there for its options."""
    return value_of("--sampler", arguments) is not None
