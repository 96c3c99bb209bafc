"""kakusan evaluate RUN --distance."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from kakusan.cli.sampler_options import parse_with_sampler, sampler_of
from kakusan.config.section import AUTO
from kakusan.errors import SettingsError
from kakusan.evaluation.options import DistanceOptions

if TYPE_CHECKING:
    from rich.table import Table

    from kakusan.evaluation.quality import Quality
    from kakusan.run import Run

FLAG = "--distance"
EXAMPLES = (
    "kakusan evaluate runs/demo --distance                         1,000 samples of 3 seeds beside as many real images",
    "kakusan evaluate runs/demo --distance --steps 10 --sampler ddim    of samples in 10 steps",
    "kakusan evaluate runs/digits --distance --guidance 2          guided, classes as often as in the reference",
    "kakusan evaluate runs/digits --distance --label 7             sevens from sevens",
    "kakusan evaluate runs/demo --distance --features clip.onnx    in the features of a network of yours",
    "kakusan evaluate runs/demo --distance --reference photos/     from other images than those of the run",
)
MOST_CHANNELS = 8
"""Whose moments are printed; the file has those of all."""


@dataclass(frozen=True)
class Distance(DistanceOptions):
    """Distances of samples from real images: Fréchet and kernel distance, precision and recall, density and coverage,
    spectra; and the moments of each channel.

    Real images that are none of the reference, as many as there are samples, get the same figures: that is what a
    perfect model comes to. Prints tables; writes the figures as JSON into RUN/evaluation, from where the report has
    them.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    distance: bool = False
    """Distances of samples, rather than the bound of images."""
    out: Path | None = None
    """Write the figures here; default: RUN/evaluation/step-...-distance-....json, another for each way to sample
    and each reference."""
    save_statistics: Path | None = None
    """Write mean and covariance of the reference's features to this .npz, as pytorch-fid has them (mu, sigma)."""
    overwrite: bool = False
    """Replace what is at --out and --save-statistics."""
    json: bool = False
    """Print the figures as JSON, on stdout, in place of the tables."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.save_statistics is not None and self.save_statistics.suffix != ".npz":
            raise SettingsError(f"--save-statistics {self.save_statistics} is no name of an .npz file")


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    command = parse_with_sampler(Distance, arguments, f"evaluate {FLAG}", EXAMPLES, usual=AUTO)
    from kakusan.config.machine import set_machine_for_use
    from kakusan.evaluation.quality import measure_quality
    from kakusan.run import Run
    from kakusan.storage.figures import finite
    from kakusan.terminal.display import bars, console, reading

    _refuse_to_replace(command)
    run = Run.open(command.run)
    set_machine_for_use(run.settings.machine)
    to = console()
    with reading(to) as read, bars(to) as show:
        found = measure_quality(run, command, show, read, sampler=sampler_of(command, run))
    for warning in run.warnings:
        to.print(f"warning: {warning}", markup=False)
    written = _write(command, run, found)
    if command.json:
        print(json.dumps(finite({**found.as_json(), "out": str(written[0])})))
        return 0
    _show(found, written)
    return 0


def _refuse_to_replace(command: Distance) -> None:
    """Raises SettingsError for files that are named and there, and for figures that are no .json."""
    if command.out is not None and command.out.suffix != ".json":
        raise SettingsError(f"--out {command.out} holds figures, a .json", "such as --out distance.json")
    if command.save_statistics is not None and command.save_statistics.suffix != ".npz":
        raise SettingsError(
            f"--save-statistics {command.save_statistics} is an .npz", "such as statistics.npz"
        )
    for path in (command.out, command.save_statistics):
        if path is not None and path.exists() and not command.overwrite:
            raise SettingsError(f"{path} is there already", "--overwrite replaces it")


def _write(command: Distance, run: "Run", found: "Quality") -> list[Path]:
    """The figures, and the statistics where they are asked for. Raises SettingsError where there are none."""
    from kakusan.storage import durable
    from kakusan.storage.figures import finite

    path = command.out or _path(run, found.about)
    files = {path: (json.dumps(finite(found.as_json()), indent=1) + "\n").encode()}
    if command.save_statistics is not None:
        if found.statistics is None:
            raise SettingsError(
                "there are no images, or no features, to make statistics of", "leave --save-statistics out"
            )
        files[command.save_statistics] = found.statistics.as_npz()
    for to, content in files.items():
        with durable.os_errors_as_run_errors(f"cannot write {to}", to.parent):
            to.parent.mkdir(parents=True, exist_ok=True)
            durable.atomic_write(to, content)
    return [*files]


def _path(run: "Run", about: Mapping[str, Any]) -> Path:
    """RUN/evaluation/step-...-distance-SAMPLER-STEPS-HASH.json: another for each way to sample and each reference."""
    walk = about["walk"]
    all_of_it = json.dumps(
        {name: about[name] for name in about if name != "run"}, sort_keys=True, default=str
    )
    digits = hashlib.sha256(all_of_it.encode()).hexdigest()[:8]
    name = f"-distance-{walk['sampler']}-{about['steps'] or 'all'}-{digits}"
    return run.files.evaluation_path(about["step"], name).with_suffix(".json")


def _show(found: "Quality", written: Sequence[Path]) -> None:
    from rich.console import Console

    from kakusan.evaluation.quality import words_of

    about, to = found.about, Console(highlight=False)
    if found.figures:
        to.print(_figures(found))
    to.print(_moments(found))
    to.print(words_of(about), style="dim", markup=False)
    for note in _notes(found):
        to.print(f"note: {note}", markup=False)
    for path in written:
        to.print(f"  {path}", markup=False, soft_wrap=True)


def _figures(found: "Quality") -> "Table":
    from rich import box
    from rich.table import Table

    from kakusan.evaluation.quality import FIGURES

    about = found.about
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    table.add_column(f"samples ({about['count']:,})", justify="right")
    if about["real"] is not None:
        table.add_column(f"{about['real']} {about['noun']} ({about['count']:,})", justify="right")
    table.add_column("better", justify="right")
    for name, (words, better) in FIGURES.items():
        if name in found.figures:
            of = found.figures[name]
            error = "" if of["half_width_95"] is None else f" ± {of['half_width_95']:.2g}"
            real = [] if of["real"] is None else [f"{of['real']:.4g}"]
            table.add_row(words, f"{of['mean']:.4g}{error}", *real, better)
    return table


def _moments(found: "Quality") -> "Table":
    """A row for each channel and moment, with the standard error of each."""
    from rich import box
    from rich.table import Table

    from kakusan.evaluation.moments import with_error

    about, moments = found.about, found.moments
    names = {"samples": "samples", "real": about["real"], "reference": about["reference"]}
    columns = [name for name in names if name in moments]
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("values")
    for name in columns:
        table.add_column(str(names[name]), justify="right")
    channels = moments["samples"][:MOST_CHANNELS]
    for channel, of in enumerate(channels):
        for moment in of:
            numbers = (moments[name][channel][moment] for name in columns)
            table.add_row(
                moment + f", channel {channel}" * (len(channels) > 1),
                *(with_error(*pair) for pair in numbers),
            )
    return table


def _notes(found: "Quality") -> Iterator[str]:
    about = found.about
    if about["count"] < about["asked_for"]:
        fewer = f"{about['count']:,} samples, not {about['asked_for']:,}"
        yield f"{fewer}: there are no more {about['real']} {about['noun']}"
    if about["reference_is"] == "statistics":
        yield (
            f"{about['reference']} has mean and covariance alone: no other figure than the Fréchet distance follows"
            " from them"
        )
    if about["features"] is None:
        yield "values are missing: there are no features, and no distances of them; moments are of what is there"
    if (left := len(found.moments["samples"]) - MOST_CHANNELS) > 0:
        yield f"moments of {left} more channels stand in the file"
