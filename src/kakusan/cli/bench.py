"""kakusan bench [DATA]."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from kakusan.cli.train import Train, requested
from kakusan.config.settings import answered
from kakusan.errors import printable

if TYPE_CHECKING:
    from kakusan.training.speed import Speed, Way

EXAMPLES = (
    "kakusan bench                               the network of the bundled kanji, on this machine",
    "kakusan bench photos/ --minutes 60          the network that `kakusan train photos/ --minutes 60` would choose",
    "kakusan bench digits --machine.precision fp32 --json",
)
COLUMNS = (
    "", "training, images/s", "GFLOP/s", "of the limit", "sampling, image-steps/s", "of the limit", "one image, ms",
)  # fmt: skip


@dataclass(frozen=True)
class Bench(Train):
    """Measure how fast this machine trains and samples with the network that `train` with the same flags would
    choose, and how fast it would be in the other precision and without parts at once. Nothing is written."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")] = "kanji"
    """What `train` is given: a bundled name, a folder of images, an array."""
    run: Annotated[Path | None, tyro.conf.Suppress] = None
    json: bool = False
    """As JSON, on stdout."""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    command, asked = requested(Bench, arguments, "bench", EXAMPLES)
    from kakusan.storage.figures import finite
    from kakusan.terminal.display import bars, console, reading
    from kakusan.training.launch import settle
    from kakusan.training.speed import speed

    to = console()
    to.print("reading the data, and choosing a network ...", style="dim")
    with reading(to) as progress:
        ready = settle(asked, weights_from=command.weights_from, progress=progress, write_cache=False)
    with bars(to) as show:
        found = speed(ready, show)
    if command.json:
        print(json.dumps(finite(found.to_dict()), indent=2, ensure_ascii=False, allow_nan=False))
        return 0
    for line in lines(found):
        print(printable(line))
    return 0


def lines(found: "Speed") -> Iterator[str]:
    """The answer on one screen."""
    machine, training, data = found.settings.machine, found.settings.training, found.data
    parts = f", threads {machine.threads}, parts at once {machine.workers}" if machine.device == "cpu" else ""
    yield f"data     {data.name}: {data.count:,} {data.kind}, {data.size}"
    yield f"network  {found.settings.network.kind}, {found.parameters:,} parameters"
    yield f"machine  {machine.device}{parts}, {machine.precision}"
    memory = "" if found.memory is None else f"; memory {found.memory / 1e9:.2f} GB at the peak"
    yield f"step     {1000 * found.chosen.training.seconds:,.0f} ms for {answered(training.batch_size):,}{memory}"
    yield ""
    rows = [COLUMNS, *(_row(found, way) for way in found.ways)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *others = (
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join((first, *others))
    yield ""
    yield from _below(found)


def _row(found: "Speed", way: "Way") -> tuple[str, ...]:
    shares = (
        way.training.flop_per_second / found.limit.training,
        way.sampling.flop_per_second / found.limit.sampling,
    )
    return (
        way.name,
        f"{way.training.images_per_second:,.1f}",
        f"{way.training.flop_per_second / 1e9:,.0f}",
        f"{shares[0]:.0%}",
        f"{way.sampling.images_per_second:,.1f}",
        f"{shares[1]:.0%}",
        f"{1000 * way.alone_seconds:,.0f}",
    )


def _below(found: "Speed") -> Iterator[str]:
    """What the columns mean, and which way is the fastest."""
    limit = found.limit
    yield (
        f"limit: {limit.training / 1e9:,.0f} GFLOP/s of 3x3 convolutions alone with their gradients,"
        f" {limit.sampling / 1e9:,.0f} without; one image: in {found.calls} calls"
    )
    best = max(found.ways, key=lambda way: way.training.images_per_second)
    if best is found.chosen:
        yield "what is chosen trains the fastest here"
        return
    factor = best.training.images_per_second / found.chosen.training.images_per_second
    yield f"{best.name}, training is {factor:.2f} times as fast as chosen, as this machine is now"
