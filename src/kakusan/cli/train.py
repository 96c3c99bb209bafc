"""kakusan train DATA."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import tyro

from kakusan.cli.arguments import mentioned, parse
from kakusan.cli.choices import asks_for_help, first_network, network_of, settings_for_help, with_choices
from kakusan.config.loading import Requested, chosen_in, flat, presets, settings_for, with_values
from kakusan.config.settings import NEVER, WHEN_DONE, Settings, sections

EXAMPLES = (
    "kakusan train kanji                         the bundled kanji, with their preset",
    "kakusan train photos/ --minutes 60          a folder of images, for an hour",
    "kakusan train photos/ --minutes 60 --stop-when-done    earlier, where nothing more is learned",
    "kakusan train faces.npz --run runs/faces    an array; the same line again goes on with the run",
    "kakusan train new/ --from runs/photos       start from the weights of another run",
    "kakusan train photos/ --preset cifar10 --training.batch-size 64 --training.accumulation 2",
)


@dataclass(frozen=True)
class Train(Settings):
    """Train a denoising diffusion model on images. No flag is needed but DATA."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")] = tyro.MISSING
    """kanji, digits, two-moons, swiss-roll, a folder of images, a .npz or .npy array, IDX, CIFAR-10 binary."""
    run: Path | None = None
    """Folder of the run; one that is a run already goes on. Default: a new one, runs/NAME or runs/NAME-2."""
    preset: str | None = None
    """Settings that ship with kakusan: cifar10, demo, ...; default: that of bundled DATA, else none."""
    config: Path | None = None
    """Settings from a TOML file, over the preset; flags come last."""
    weights_from: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Start from the averaged weights of this run (fine-tuning)."""
    steps: int | None = None
    """Optimizer steps: short for --training.steps."""
    minutes: float | None = None
    """Length of the training: short for --training.minutes."""
    stop_when_done: bool | None = None
    """End earlier where the held-out loss falls no more: short for --training.stop when-done."""
    on_nan: Literal["stop", "rewind"] | None = None
    """Response to numbers that are not finite, stop or rewind (with half the rate): short for --training.on-nan."""
    json: bool = False
    """Print each line of figures as JSON on stdout."""


AnyTrain = TypeVar("AnyTrain", bound=Train)


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    command, asked = requested(Train, arguments, "train", EXAMPLES)
    from kakusan.cli.progress import begin, train_to_the_end
    from kakusan.training.launch import free_folder

    folder = command.run or free_folder(command.source)
    return train_to_the_end(begin(asked, folder, command.weights_from), as_json=command.json)


def requested(
    kind: type[AnyTrain], arguments: Sequence[str], name: str, examples: Sequence[str]
) -> tuple[AnyTrain, Requested]:
    """The command of these arguments, and the settings of the training that it is about. Raises SettingsError."""
    plain = parse(kind, arguments, name, examples, _first(kind, arguments))  # which DATA, preset and file
    command = parse(kind, arguments, name, examples, _defaults(plain, arguments))  # flags come last
    asked = asked_of(command, arguments)
    from kakusan.training.launch import absolute_source

    source = absolute_source(command.source)
    return command, replace(asked, settings=with_values(asked.settings, {"data.source": source}))


def _first(kind: type[AnyTrain], arguments: Sequence[str]) -> AnyTrain:
    """The defaults of the flags before preset and file are known."""
    if asks_for_help(arguments):
        return kind(**dict(sections(settings_for_help(arguments))))
    settings = with_choices(replace(Settings(), network=first_network(arguments)), arguments)
    return kind(**dict(sections(settings)))


def _defaults(command: AnyTrain, arguments: Sequence[str]) -> AnyTrain:
    """The defaults of the flags, from the preset and the file that the same command line names."""
    settings = settings_for(command.source, preset=command.preset, file=command.config)
    settings = with_choices(settings, arguments)
    values = dict(sections(settings)) | {"network": network_of(settings.network, arguments)}
    return type(command)(source=command.source, **values)


def asked_of(command: Train, arguments: Sequence[str]) -> Requested:
    """The settings in a command, its short flags included, and which of them it chooses."""
    settings = Settings(**dict(sections(command)))
    flags = set(mentioned(arguments, flat(settings)))
    short = {f"training.{name}": getattr(command, name) for name in ("steps", "minutes", "on_nan")}
    if command.stop_when_done is not None:
        short["training.stop"] = WHEN_DONE if command.stop_when_done else NEVER
    given = {name: value for name, value in short.items() if value is not None}
    settings = with_values(settings, given)
    flags.update(given)
    settings.require_own(flags)
    chosen = frozenset(flags)
    if command.preset not in (None, "none"):
        chosen |= chosen_in(tomllib.loads(presets()[str(command.preset)]))
    if command.config is not None:
        chosen |= chosen_in(tomllib.loads(command.config.read_text("utf-8")))
    return Requested(settings, chosen)
