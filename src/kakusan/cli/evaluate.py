"""kakusan evaluate RUN."""

import csv
import io
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from kakusan.cli.arguments import parse
from kakusan.training.verdicts import GAP_IN_BITS, Gap, Verdict, verdict_on

if TYPE_CHECKING:
    from rich.table import Table

    from kakusan.evaluation.bound import Appraisal, Part, Question
    from kakusan.run import Run

EXAMPLES = (
    "kakusan evaluate runs/demo                                bits/dim, training beside held-out: some minutes",
    "kakusan evaluate runs/demo --images 20 --terms 60         a quick look: 60 of the T terms for each of 20 images",
    "kakusan evaluate runs/demo --variance analytic            with the best variance for these guesses",
    "kakusan evaluate runs/demo --data odd/ --per-image scores.csv    which images are odd",
)
MILESTONES = 9
RATE_WORDS = "rate: bits/dim spent once x_t is known. RMSE: of the guess of x_0 at t, in {0}."
HEART_WORDS = (
    "by heart: how far the guess is from that of the denoiser which knows the training images by heart. Memorizing is "
    "where this is far below the RMSE beside it, about t = {0:,} to {1:,}: at smaller t, x_t itself shows x_0, and "
    "every good denoiser is near; at larger t, all guess about the mean."
)
FEW_TERMS = 30
FEW_WORDS = (
    "{0} terms an image: its own standard error is uncertain, half_width_95 in --per-image says how far 95 % reaches; "
    "the error of the mean over images is not concerned."
)


@dataclass(frozen=True)
class Evaluate:
    """How many bits it takes to write down an image, and at which noise level they are spent: the variational bound.

    Prints a table; writes the figures as JSON and a picture into RUN/evaluation. By default, all T terms of 180
    training and 180 held-out images, on averaged weights.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    images: int = 180
    """Images of each split, evenly spread over it."""
    terms: int | None = None
    """Measure so many of the T terms of each image, a stratified draw (unbiased); default: all."""
    split: Literal["both", "held-out", "training"] = "both"
    """Which of the run's images."""
    data: Path | None = None
    """Other images: a folder or a file like those that `train` takes."""
    per_image: Path | None = None
    """Write each image's bound to this CSV file, too."""
    variance: Literal["fixed-large", "fixed-small", "learned", "analytic"] | None = None
    """sigma^2 of the reverse steps; default: as the run says. analytic is estimated from training images and stored."""
    sigma_1: Literal["beta~_2", "beta_1"] | None = None
    """sigma^2 of the step that ends at the data; default: as the run says."""
    clip: Literal["yes", "no"] | None = None
    """Hold guesses of x_0 to [-1, 1]; default: as the run says."""
    weights: Literal["ema", "model"] = "ema"
    """Averaged weights, or those of the last step."""
    memorizer: bool = True
    """Compare the guesses with those of the denoiser that knows the training images by heart."""
    seed: int = 0
    """Of the noise, and of the draw of terms."""
    device: str = "auto"
    """cpu, cuda or mps; default: as trained, where that is here."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Type of convolutions and products; auto: as trained. Half precision costs bits."""
    out: Path | None = None
    """Write NAME.json and NAME.png here; default: RUN/evaluation/step-...."""
    json: bool = False
    """Print the figures as JSON, on stdout, in place of the table."""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    command = parse(Evaluate, arguments, "evaluate", EXAMPLES)
    from kakusan.config.machine import set_machine
    from kakusan.run import Run
    from kakusan.terminal.display import console

    run = Run.open(command.run)
    _check_outputs(command)
    set_machine(run.settings.machine)
    begun = time.perf_counter()
    appraisal = _measured(run, _question(command))
    appraisal.about["seconds"] = round(time.perf_counter() - begun, 1)
    to = console()
    for warning in run.warnings:
        to.print(f"warning: {warning}", markup=False)
    fewer = [part for part in appraisal.parts if len(part.numbers) < command.images]
    if command.images > Evaluate.images and fewer:
        there = ", ".join(f"{len(part.numbers):,} {part.name}" for part in fewer)
        to.print(f"note: there are fewer than {command.images:,} images: {there}", markup=False)
    written = _write(command, run, appraisal)
    if command.json:
        print(json.dumps(_finite({**appraisal.as_json(), "out": [str(path) for path in written]})))
        return 0
    _show(appraisal, written)
    return 0


def _check_outputs(command: Evaluate) -> None:
    """Before the work: what is to be written must be a file. Raises SettingsError."""
    from kakusan.errors import SettingsError

    for flag, path in (("--out", command.out), ("--per-image", command.per_image)):
        if path is not None and (path.is_dir() or not path.name):
            raise SettingsError(f"{flag} {path} is a folder", f"name a file: {flag} {path / 'scores'}")


def _question(command: Evaluate) -> "Question":
    from kakusan.evaluation.bound import Question

    return Question(
        images=command.images,
        terms=command.terms,
        split=command.split,
        data=command.data,
        variance=command.variance,
        sigma_1=command.sigma_1,
        clip=None if command.clip is None else command.clip == "yes",
        weights=command.weights,
        device=command.device,
        precision=command.precision,
        seed=command.seed,
        memorizer=command.memorizer,
    )


def _measured(run: "Run", question: "Question") -> "Appraisal":
    """The appraisal, with its progress shown: one bar for each piece of the work."""
    from kakusan.evaluation.bound import Appraisal, Working, appraise
    from kakusan.terminal.display import Bar, console, duration, reading

    to = console()
    shown: Bar | None = None
    what, begun = "", 0.0
    with reading(to) as progress:
        try:
            for event in appraise(run, question, progress):
                if isinstance(event, Appraisal):
                    return event
                assert isinstance(event, Working)
                if shown is None or event.what != what:
                    if shown is not None:
                        shown.stop()
                    what, begun, shown = event.what, time.monotonic(), Bar(event.what, 1.0, to)
                left = (time.monotonic() - begun) / max(event.done, 1e-9) * (1 - event.done)
                shown.at(event.done, f"{duration(left)} left" if event.done else "")
        finally:
            if shown is not None:
                shown.stop()
    raise AssertionError("an appraisal ends with its answer")


def _write(command: Evaluate, run: "Run", appraisal: "Appraisal") -> list[Path]:
    """The figures, the picture and, where asked for, the images one by one."""
    from kakusan.evaluation.plots import appraisal_png
    from kakusan.storage import durable

    base = command.out or run.files.evaluation_path(appraisal.about["step"], _suffix(command))
    base = base.with_suffix("") if base.suffix in (".json", ".png") else base
    text = (json.dumps(_finite(appraisal.as_json()), indent=1) + "\n").encode()
    makers: dict[Path, Callable[[], bytes]] = {base.with_name(base.name + ".json"): lambda: text}
    if command.per_image is not None:
        makers[command.per_image] = lambda: _csv(appraisal).encode("utf-8", "backslashreplace")
    makers[base.with_name(base.name + ".png")] = lambda: appraisal_png(appraisal)  # last: figures come first
    for path, content in makers.items():
        with durable.telling(f"cannot write {path}", path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            durable.atomic_write(path, content())
    return list(makers)


NAMING = (
    "images",
    "terms",
    "split",
    "variance",
    "sigma_1",
    "clip",
    "weights",
    "seed",
    "precision",
    "memorizer",
)


def _suffix(command: Evaluate) -> str:
    """What was asked for beyond the usual, for the name of the files: a quick look replaces no whole evaluation."""
    defaults = {field.name: field.default for field in fields(Evaluate)}
    changed = {name: getattr(command, name) for name in NAMING if getattr(command, name) != defaults[name]}
    words = [] if command.data is None else [command.data.stem]
    words += [f"{name.replace('_', '-')}-{str(value).lower()}" for name, value in changed.items()]
    return "".join(f"-{word}" for word in words)


def _finite(value: Any) -> Any:
    """null for what is not a number, as JSON wants it."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and value != value else value


def _csv(appraisal: "Appraisal") -> str:
    """One line an image, those that need most bits first."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    errors = ("standard_error", "half_width_95")
    writer.writerow(["number", "image", "split", "bits_per_dim", *errors, "L_T", "L_steps", "L_0"])
    rows = [row for part in appraisal.parts for row in _rows(part)]
    for row in sorted(rows, key=lambda row: -row[3]):
        writer.writerow([*row[:3], *(f"{value:.8g}" for value in row[3:])])
    return buffer.getvalue()


def _rows(part: "Part") -> Iterator[tuple[Any, ...]]:
    bound, captions = part.bound, part.dataset.captions
    columns = (bound.total, bound.standard_error, bound.half_width_95, bound.L_T, bound.L_steps, bound.L_0)
    for number, *values in zip(part.numbers.tolist(), *(c.tolist() for c in columns), strict=True):
        yield number, captions[number] if captions else "", part.name, *values


def _show(appraisal: "Appraisal", written: list[Path]) -> None:
    from rich.console import Console

    from kakusan.evaluation.bound import telling_times

    to = Console(highlight=False)
    about, parts = appraisal.about, appraisal.parts
    if about["hardly_learned"]:
        to.print(about["hardly_learned"], markup=False)
    to.print(_bits_table(appraisal))
    to.print(_rate_table(appraisal))
    to.print(RATE_WORDS.format(about["unit_of_distortion"]), style="dim", markup=False)
    if any(part.near for part in parts):
        to.print(HEART_WORDS.format(*telling_times(parts)), style="dim", markup=False)
    if about["terms"] != "all" and about["terms"] < FEW_TERMS:
        to.print(FEW_WORDS.format(about["terms"]), style="dim", markup=False)
    words = [
        f"{about['schedule']}{' (zero terminal SNR)' if about['zero_terminal_snr'] else ''}, T = {about['T']}",
        f"predicts {about['predicts']}",
        f"variance {about['variance']}",
        f"sigma_1^2 = {about['sigma_1']}",
        f"x_0 clipped to ±{about['clip']:g}" if about["clip"] else "x_0 not clipped",
        f"{about['weights']} weights of step {about['step']:,}",
        f"terms: {about['terms']}",
        f"{about['levels']} levels" if about["levels"] else _density(about),
        about["precision"],
    ]
    to.print("; ".join(words), style="dim", markup=False)
    if len(parts) == 2:
        to.print(_verdict(*parts, about), markup=False)
    for path in written:
        to.print(f"  {path}", markup=False, soft_wrap=True)


def _density(about: dict[str, Any]) -> str:
    offset = about["own_units_offset"]
    return f"real data: a density in the network's units, in the data's own {offset:+.4f} bits/dim"


def _bits_table(appraisal: "Appraisal") -> "Table":
    from rich import box
    from rich.table import Table

    parts = appraisal.parts
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
    return table


def _rate_table(appraisal: "Appraisal") -> "Table":
    """Bits spent so far, and what they buy, at some t."""
    from rich import box
    from rich.table import Table

    parts = appraisal.parts
    near = any(part.near for part in parts)
    table = Table(box=box.SIMPLE_HEAD, title="rate and distortion", title_justify="left", show_footer=True)
    table.add_column("t", "t", justify="right")
    for part in parts:
        for column in ("rate", "RMSE", *(["by heart"] * near)):
            name = f"{part.name}\n{column}"
            table.add_column(
                name, name, justify="right", no_wrap=True
            )  # again below: the head may scroll off
    for t in _milestones(appraisal):
        cells = []
        for part in parts:
            cells += [f"{part.rate[t]:.4f}", f"{part.distortion_at(t) * appraisal.scale:.3f}" if t else "0"]
            if near:
                cells.append(f"{part.near[t] * appraisal.scale:.3f}" if t in part.near else "")
        table.add_row(f"{t:,}", *cells)
    return table


def _milestones(appraisal: "Appraisal") -> list[int]:
    """Some times from T down to 0."""
    T, near = appraisal.about["T"], appraisal.parts[0].near
    times = list(near) or [round(1 + (T - 1) * i / MILESTONES) for i in range(MILESTONES + 1)]
    return [*sorted(set(times[:: max(1, len(times) // MILESTONES)]) | {T}, reverse=True), 0]


def _verdict(training: "Part", held_out: "Part", about: dict[str, Any]) -> str:
    """What the gap means, in a sentence."""
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
