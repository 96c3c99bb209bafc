"""kakusan plan DATA."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from kakusan.cli.train import Train, requested
from kakusan.config.section import AUTO
from kakusan.config.settings import Settings, answered
from kakusan.errors import RunError, printable, quoted

if TYPE_CHECKING:
    from kakusan.training.plan import DataPlan, Forecast
    from kakusan.training.plan import Plan as Planned

EXAMPLES = (
    "kakusan plan photos/                        what `kakusan train photos/` would do here, and come to",
    "kakusan plan photos/ --minutes 60 --data.size 64",
    "kakusan plan digits --steps 1000 --json",
)


@dataclass(frozen=True)
class Plan(Train):
    """Say what `kakusan train` with the same flags would do, and what it is likely to come to. Nothing is written.

    The forecast is from trainings that were measured: the loss is a range that some 3 of 5 data sets keep to, copying
    the range of epochs after which held-out losses rose in those where they did.
    """

    run: Annotated[Path | None, tyro.conf.arg(help_behavior_hint="(default: none)")] = None
    """Folder that the training would have; refused where it is a run already, with which it would go on."""
    json: bool = False
    """As JSON, on stdout."""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    command, asked = requested(Plan, arguments, "plan", EXAMPLES)
    from kakusan.storage.figures import finite
    from kakusan.storage.run_folder import RunFolder
    from kakusan.terminal.display import console, reading
    from kakusan.training.plan import plan

    if command.run is not None and RunFolder.exists(command.run):
        raise RunError(
            f"{command.run} is a run already: `train` would go on with it",
            f"to look at it: kakusan report {quoted(command.run)}",
            "to plan another: leave --run out",
        )
    to = console()
    to.print("reading the data, and measuring what a step takes ...", style="dim")
    with reading(to) as progress:
        found = plan(asked, weights_from=command.weights_from, progress=progress)
    if command.json:
        print(json.dumps(finite(found.to_dict()), indent=2, ensure_ascii=False, allow_nan=False))
        return 0
    rows = list(lines(found))
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"{name:<{width}}  {printable(text)}")  # names of files and classes may be a stranger's
    return 0


def lines(found: "Planned") -> Iterator[tuple[str, str]]:
    """Name and text of each part: the data, the choice, the forecast."""
    yield from _data(found.data)
    yield from _choice(found)
    yield from _forecast(found)
    for caution in found.cautions:
        yield "caution", caution
    for note in found.data.notes:
        yield "note", note


def _data(data: "DataPlan") -> Iterator[tuple[str, str]]:
    values = "real values" if data.levels is None else f"{data.levels} levels"
    yield "data", f"{data.name}: {data.count:,} {data.kind}, {data.size}, {values}"
    yield (
        "",
        f"{data.training:,} to train on, {data.held_out:,} held out; {data.duplicates:,} duplicates",
    )
    if data.compressed is not None:
        bits = data.compressed
        yield (
            "",
            f"zlib (of {bits.images:,}) stores a value in {bits.bits:.2f} bits; raw it has {bits.raw:.2f}",
        )


def _choice(found: "Planned") -> Iterator[tuple[str, str]]:
    settings = found.settings
    training, process, machine = settings.training, settings.process, settings.machine
    yield "network", f"{_network(settings)}: {found.parameters:,} parameters"
    parts = answered(training.accumulation)
    split = f" in {parts} micro-batches" if parts > 1 else ""
    yield (
        "training",
        f"{answered(training.steps):,} steps of {answered(training.batch_size):,} {found.data.kind}{split};"
        f" {'half of them mirrored' if settings.data.flip else 'none mirrored'}",
    )
    yield (
        "",
        f"{training.optimizer}, rate {answered(training.learning_rate):g}, {training.decay} decay,"
        f" warm-up {answered(training.warmup):,}; average {answered(training.ema):g}",
    )
    path = process.schedule if process.path == "vp" else process.path
    yield (
        "",
        f"loss {training.loss} of {process.predicts}, {path}, T = {process.T:,}, t {training.times}",
    )
    threads = (
        f", threads {machine.threads}, parts at once {machine.workers}" if machine.device == "cpu" else ""
    )
    yield "machine", f"{machine.device}{threads}, {machine.precision}"


def _network(settings: Settings) -> str:
    """Kind and options of the network, those that make its size."""
    network: Any = settings.network
    options = vars(network)
    levels = network.widths if options.get("widths") else options.get("multipliers")
    words = [f"{network.kind} of width {network.width}" if network.width != AUTO else network.kind]
    if levels:
        words.append(f"levels {' '.join(map(str, levels))}")
    if "blocks" in options:
        words.append(f"blocks {network.blocks}")
    if options.get("attention"):
        words.append(f"attention at level {' '.join(map(str, network.attention))}")
    if "patch" in options:
        words.append(f"patch {network.patch}")
    if options.get("dropout"):
        words.append(f"dropout {network.dropout:g}")
    return ", ".join(words)


def _forecast(found: "Planned") -> Iterator[tuple[str, str]]:
    from kakusan.terminal.display import duration

    forecast = found.forecast
    pace = 1000 * forecast.step_seconds
    shown = f"{pace:,.0f}" if pace >= 100 else f"{pace:.3g}"
    yield "time", f"{shown} ms a step, as measured now: about {duration(forecast.seconds)}"
    yield "", f"{forecast.images_seen:,} {found.data.kind} seen, {forecast.epochs:,.3g} epochs"
    memory = forecast.memory
    parts = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in vars(memory).items())
    yield "memory", f"{memory.total / 1e9:.2f} GB at the peak: {parts}"
    yield "baseline", f"loss {forecast.baseline_loss:.4f}, of mean and power spectrum of these data alone"
    yield from _of_loss(forecast, answered(found.settings.training.steps))


def _of_loss(forecast: "Forecast", steps: int) -> Iterator[tuple[str, str]]:
    from kakusan.training.forecast import copying_in_words, loss_in_words

    left, copying, held_out = forecast.left, forecast.copying, forecast.held_out_loss
    if left is None or copying is None or held_out is None:
        yield "forecast", f"no held-out loss: {forecast.reason}"
        return
    low, high = held_out
    middle = left.expected * forecast.baseline_loss
    reach = f"up to {high:.3f}" if left.is_bound else f"about {middle:.3f} ({low:.3f} to {high:.3f})"
    yield "forecast", f"held-out loss {copying.where(steps)}{reach}: {loss_in_words(left)}"
    first, last = copying.epochs
    yield (
        "",
        f"{copying_in_words(copying, steps)} (epoch {first:,.0f} to {last:,.0f}), as the measured trainings did",
    )
