"""kakusan evaluate RUN."""

import csv
import io
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from kakusan.cli import distance
from kakusan.cli.arguments import parse
from kakusan.evaluation.options import BoundOptions
from kakusan.training.verdicts import GAP_IN_BITS, Gap, Verdict, verdict_on

if TYPE_CHECKING:
    from rich.table import Table

    from kakusan.evaluation.bound import BoundReport, Part
    from kakusan.run import Run

EXAMPLES = (
    "kakusan evaluate runs/demo                                bits/dim, training beside held-out: some minutes",
    "kakusan evaluate runs/demo --images 20 --terms 60         a quick look: 60 of the T terms for each of 20 images",
    "kakusan evaluate runs/demo --variance analytic            with the best variance for these guesses",
    "kakusan evaluate runs/demo --exact --samples 4 --images 32   the likelihood beside the bound, and a tighter bound",
    "kakusan evaluate runs/demo --data odd/ --per-image scores.csv    which images are odd",
    "kakusan evaluate runs/demo --distance                     how far samples are from real images (its --help)",
)
MILESTONES = 9
RATE_WORDS = "rate: bits/dim spent once x_t is known. RMSE: of the guess of x_0 at t, in {0}."
HEART_WORDS = (
    "by heart: how far the guess is from that of the denoiser which knows the training images by heart. On images that "
    "were not trained on, memorizing is where this is far below the RMSE beside it, about t = {0:,} to {1:,}: at "
    "smaller t, x_t itself shows x_0; at larger t, all guess about the mean. Of a training image both know x_0."
)
FEW_TERMS = 30
FEW_WORDS = (
    "{0} terms an image: its own standard error is uncertain, half_width_95 in --per-image says how far 95 % reaches; "
    "the error of the mean over images is not concerned."
)


@dataclass(frozen=True)
class Evaluate(BoundOptions):
    """The variational bound: the bits it takes to write down an image, and the noise levels at which they are spent.

    Prints a table; writes the figures as JSON and a picture into RUN/evaluation. By default, all T terms of 180
    training and 180 held-out images, on averaged weights.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    per_image: Path | None = None
    """Write each image's bound to this CSV file, too."""
    out: Path | None = None
    """Write NAME.json and NAME.png here; default: RUN/evaluation/step-...."""
    distance: bool = False
    """How far samples are from real images, rather than the bound: see --distance --help."""
    json: bool = False
    """Print the figures as JSON, on stdout, in place of the table."""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    if distance.FLAG in arguments:
        return distance.main(arguments)
    command = parse(Evaluate, arguments, "evaluate", EXAMPLES)
    from kakusan.config.machine import set_machine_for_use
    from kakusan.evaluation.bound import measure_bound
    from kakusan.run import Run
    from kakusan.storage.figures import finite
    from kakusan.terminal.display import bars, console, reading

    run = Run.open(command.run)
    _check_outputs(command)
    set_machine_for_use(run.settings.machine)
    begun = time.perf_counter()
    to = console()
    with reading(to) as read, bars(to) as show:
        report = measure_bound(run, command, reading=read, progress=show)
    report.about["seconds"] = round(time.perf_counter() - begun, 1)
    for warning in run.warnings:
        to.print(f"warning: {warning}", markup=False)
    fewer = [part for part in report.parts if len(part.numbers) < command.images]
    if command.images > Evaluate.images and fewer:
        there = ", ".join(f"{len(part.numbers):,} {part.name}" for part in fewer)
        to.print(f"note: there are fewer than {command.images:,} images: {there}", markup=False)
    written = _write(command, run, report)
    if command.json:
        print(json.dumps(finite({**report.as_json(), "out": [str(path) for path in written]})))
        return 0
    _show(report, written)
    return 0


def _check_outputs(command: Evaluate) -> None:
    """Before the work: what is to be written must be a file. Raises SettingsError."""
    from kakusan.errors import SettingsError

    for flag, path in (("--out", command.out), ("--per-image", command.per_image)):
        if path is not None and (path.is_dir() or not path.name):
            raise SettingsError(f"{flag} {path} is a folder", f"name a file: {flag} {path / 'scores'}")


def _write(command: Evaluate, run: "Run", report: "BoundReport") -> list[Path]:
    """The figures, the picture and, where asked for, the images one by one."""
    from kakusan.evaluation.plots import report_png
    from kakusan.storage import durable
    from kakusan.storage.figures import finite

    base = command.out or run.files.evaluation_path(report.about["step"], _suffix(command))
    base = base.with_suffix("") if base.suffix in (".json", ".png") else base
    text = (json.dumps(finite(report.as_json()), indent=1) + "\n").encode()
    makers: dict[Path, Callable[[], bytes]] = {base.with_name(base.name + ".json"): lambda: text}
    if command.per_image is not None:
        makers[command.per_image] = lambda: _csv(report).encode("utf-8", "backslashreplace")
    makers[base.with_name(base.name + ".png")] = lambda: report_png(report)  # last: figures come first
    for path, content in makers.items():
        with durable.os_errors_as_run_errors(f"cannot write {path}", path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            durable.atomic_write(path, content())
    return list(makers)


UNNAMED = ("data", "device")
"""Options that name no file by their value: data do so by their own name, and the device changes no figure."""


def _suffix(command: Evaluate) -> str:
    """Suffix of the files' names, of all options that are not as usual: a quick look replaces no whole evaluation."""
    words = [] if command.data is None else [command.data.stem]
    for option in fields(BoundOptions):
        value = getattr(command, option.name)
        if option.name not in UNNAMED and value != option.default:
            words.append(f"{option.name.replace('_', '-')}-{str(value).lower()}")
    return "".join(f"-{word}" for word in words)


def _csv(report: "BoundReport") -> str:
    """One line an image, those that need most bits first."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    errors = ("standard_error", "half_width_95")
    closer = [name for name in ("weighted", "exact") if getattr(report.parts[0], name) is not None]
    writer.writerow(["number", "image", "split", "bits_per_dim", *errors, "L_T", "L_steps", "L_0", *closer])
    rows = [row for part in report.parts for row in _rows(part)]
    for row in sorted(rows, key=lambda row: -row[3]):
        writer.writerow([*row[:3], *(f"{value:.8g}" for value in row[3:])])
    return buffer.getvalue()


def _rows(part: "Part") -> Iterator[tuple[Any, ...]]:
    bound, captions = part.bound, part.dataset.captions
    columns = [bound.total, bound.standard_error, bound.half_width_95, bound.L_T, bound.L_steps, bound.L_0]
    columns += [each.total for each in (part.weighted, part.exact) if each is not None]
    for number, *values in zip(part.numbers.tolist(), *(c.tolist() for c in columns), strict=True):
        yield number, captions[number] if captions else "", part.name, *values


def _process(about: dict[str, Any]) -> str:
    """The schedule, or the path of another kind, whose bound is that of the DDPM with the same ratios a : b."""
    if about["path"] != "vp":
        return f"path {about['path']}, as the DDPM that it is in another scale"
    return f"{about['schedule']}{' (zero terminal SNR)' if about['zero_terminal_snr'] else ''}"


def _show(report: "BoundReport", written: list[Path]) -> None:
    from rich.console import Console

    from kakusan.evaluation.bound import telling_times

    to = Console(highlight=False)
    about, parts = report.about, report.parts
    if about["hardly_learned"]:
        to.print(about["hardly_learned"], markup=False)
    to.print(_bits_table(report))
    to.print(_rate_table(report))
    to.print(RATE_WORDS.format(about["unit_of_distortion"]), style="dim", markup=False)
    if any(part.near for part in parts):
        to.print(HEART_WORDS.format(*telling_times(parts)), style="dim", markup=False)
    if about["terms"] != "all" and about["terms"] < FEW_TERMS:
        to.print(FEW_WORDS.format(about["terms"]), style="dim", markup=False)
    words = [
        f"{_process(about)}, T = {about['T']}",
        f"predicts {about['predicts']}",
        f"variance {about['variance']}",
        f"sigma_1^2 = {about['sigma_1']}",
        f"x_0 clipped to ±{about['clip']:g}" if about["clip"] else "x_0 not clipped",
        f"{about['weights']} weights of step {about['step']:,}",
        f"terms: {about['terms']}",
        f"{about['levels']} levels" if about["levels"] else _density(about),
        about["precision"],
        *_missing(about),
    ]
    to.print("; ".join(words), style="dim", markup=False)
    if "by_heart" in about:
        to.print(f"by heart: {about['by_heart']}", style="dim", markup=False)
    for line in _flow_words(about):
        to.print(line, style="dim", markup=False)
    if len(parts) == 2:
        to.print(_verdict(*parts, about), markup=False)
    for path in written:
        to.print(f"  {path}", markup=False, soft_wrap=True)


def _missing(about: dict[str, Any]) -> Iterator[str]:
    if "missing" in about:
        yield f"bits/dim are per value that is there: {about['missing']:.2%} are missing"


def _density(about: dict[str, Any]) -> str:
    offset = about["own_units_offset"]
    return f"real data: a density in the network's units, in the data's own {offset:+.4f} bits/dim"


def _bits_table(report: "BoundReport") -> "Table":
    from rich import box
    from rich.table import Table

    parts = report.parts
    table = Table(box=box.SIMPLE_HEAD, title="the variational bound, bits/dim", title_justify="left")
    table.add_column("")
    for part in parts:
        count = len(part.numbers)
        table.add_column(f"{part.name} ({count:,} image{'s' * (count != 1)})", justify="right")
    rows = {
        "L_T       the prior": "L_T",
        "L_{t-1}   sum, t = 2..T": "L_steps",
        "L_0       the decoder": "L_0",
    }
    for name, column in rows.items():
        table.add_row(name, *(f"{float(getattr(part.bound, column).mean()):.5f}" for part in parts))
    table.add_section()
    total = (f"{part.bound.mean:.5f} ± {part.bound.mean_standard_error:.5f}" for part in parts)
    table.add_row("bound ± its standard error", *total, style="bold")
    for title, figures in _closer(report).items():
        table.add_row(title, *(f"{mean:.5f} ± {error:.5f}" for mean, error in figures))
    return table


def _closer(report: "BoundReport") -> dict[str, list[tuple[float, float]]]:
    """Rows below the bound: what lies nearer to the likelihood, with standard errors, of what was asked for."""
    walks = [part.weighted for part in report.parts if part.weighted is not None]
    flows = [part.exact for part in report.parts if part.exact is not None]
    rows: dict[str, list[tuple[float, float]]] = {}
    if walks:
        title = f"importance-weighted, K = {report.about['samples']}"
        rows[title] = [(each.mean, each.mean_standard_error) for each in walks]
    if flows:
        rows["exact, probability flow"] = [(each.mean, each.mean_standard_error) for each in flows]
    return rows


LAST_WORDS = {
    "decoder": "the decoder of L_0",
    "uniform": "uniform dequantization",
    "truncated": "dequantization by the noise of t = 1 within each bin",
}


def _flow_words(about: dict[str, Any]) -> Iterator[str]:
    """The terms of the exact likelihood, in a line of its own."""
    if "exact" not in about:
        return
    exact = about["exact"]
    trace = "exact trace" if exact["trace"] == "exact" else f"{exact['trace']} probes for the trace"
    yield (
        f"probability flow: from t = {exact['t_min']:g} to T, {exact['solver']} to {exact['tolerance']:g}, {trace}; to"
        f" the data: {LAST_WORDS[exact['last_step']]}. It is the model that samplers without noise draw from, not the"
        " chain of the bound."
    )


def _rate_table(report: "BoundReport") -> "Table":
    """Bits spent so far, and what they buy, at some t."""
    from rich import box
    from rich.table import Table

    parts = report.parts
    near = any(part.near for part in parts)
    table = Table(box=box.SIMPLE_HEAD, title="rate and distortion", title_justify="left", show_footer=True)
    table.add_column("t", "t", justify="right")
    for part in parts:
        for column in ("rate", "RMSE", *(["by heart"] * near)):
            name = f"{part.name}\n{column}"
            table.add_column(
                name, name, justify="right", no_wrap=True
            )  # again below: the head may scroll off
    for t in _milestones(report):
        cells = []
        for part in parts:
            cells += [f"{part.rate[t]:.4f}", f"{part.distortion_at(t) * report.scale:.3f}" if t else "0"]
            if near:
                cells.append(f"{part.near[t] * report.scale:.3f}" if t in part.near else "")
        table.add_row(f"{t:,}", *cells)
    return table


def _milestones(report: "BoundReport") -> list[int]:
    """Some times from T down to 0."""
    T, near = report.about["T"], report.parts[0].near
    times = list(near) or [round(1 + (T - 1) * i / MILESTONES) for i in range(MILESTONES + 1)]
    return [*sorted(set(times[:: max(1, len(times) // MILESTONES)]) | {T}, reverse=True), 0]


def _verdict(training: "Part", held_out: "Part", about: dict[str, Any]) -> str:
    """The meaning of the gap, in a sentence."""
    gap = _gap(training, held_out, about["held_out_doubt"])
    sense = "more" if gap.value >= 0 else "fewer"
    words = f"held-out images need {abs(gap.value):.4f} bits/dim {sense} than training images"
    if math.isfinite(gap.standard_error):
        words += f" (standard error {gap.standard_error:.4f})"
    found = verdict_on(gap)
    if about["hardly_learned"] and found is not Verdict.SIGN:
        return f"{words}: the network has hardly learned yet, which says nothing of overfitting"
    if found is Verdict.TOO_FEW:
        return f"{words}: {found.value}; ask for more --images"
    return f"{words}: {found.value}" + f" ({gap.doubt})" * (found is Verdict.UNKNOWN)


def _gap(training: "Part", held_out: "Part", doubt: str) -> Gap:
    error = math.hypot(held_out.bound.mean_standard_error, training.bound.mean_standard_error)
    degrees = len(training.numbers) + len(held_out.numbers) - 2
    return Gap(held_out.bound.mean - training.bound.mean, error, degrees, GAP_IN_BITS, doubt)
