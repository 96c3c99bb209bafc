"""kakusan restore RUN."""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from kakusan.cli.choices import asks_for_help, value_of
from kakusan.cli.method_options import options_in, parse_with_method
from kakusan.cli.mistakes import flags_of
from kakusan.config.facts import USUAL_METHOD
from kakusan.errors import DataError, SettingsError

if TYPE_CHECKING:
    from kakusan.evaluation.calibration import Calibration
    from kakusan.posterior import Method, Noise
    from kakusan.run import Posterior, Run

EXAMPLES = (
    "kakusan restore runs/photos --observed half.png --operator mask:known.png    fill in what is black in known.png",
    "kakusan restore runs/photos --observed small.png --operator down:4 --noise 1%    16 sharp pictures of a small one",
    "kakusan restore runs/fields --observed y.npy --operator gauss:1.5 down:4 --noise 0.05    blurred, then sampled",
    "kakusan restore runs/scans --observed k.npy --operator fourier:mask.npy --noise auto     noise of unknown size",
    "kakusan restore runs/digits --calibrate --operator mask:random:0.9 --noise 2%    do the error bars hold?",
)
BY_TRUTH = ("label", "vector", "condition", "first")
"""Flags without a sense in a calibration, which gives samples the condition of their held-out x."""


@dataclass(frozen=True)
class Restore:
    """Samples of x given a measurement of it, y = A(x) + noise, with their mean, their spread and a page.

    All is in the units of the data, for levels 0 to 255 or as many as there are. A calibration shows whether the spread
    can be believed: held-out x are measured and restored, and their values looked for within the spread.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    operator: Annotated[tuple[str, ...], tyro.conf.arg(metavar="WORD ...")] = ()
    """A, in words: mask:known.png (white is measured), mask:hide-left, mask:random:0.9, crop:4:24,8:24, gauss:1.5,
    blur:k.npy, down:4, fourier:4, fourier:mask.npy, matrix:A.npz, radon:30, identity (noise alone), magnitude,
    clip:0:200, quantize:32. Several words: one after the other; joined by +: side by side."""
    observed: Path | None = None
    """y: an array .npy or .npz in the axes of the data, nan where nothing was measured, or a picture."""
    noise: str = "auto"
    """Deviation of Gaussian noise in the units of y: 0.05, or 5% of the range of levels, or of the deviation of real
    data; a map of it, FILE.npy; poisson:GAIN; student:SCALE:DOF for outliers; 0: y is exact; auto: fitted, and said."""
    calibrate: bool = False
    """Measure held-out samples, restore them, and say how often the spread holds the truth."""
    images: int | None = None
    """Of a calibration: held-out samples; default: 32."""
    count: int | None = None
    """Samples of each y; default: 16, of a calibration 39."""
    truth: Path | None = None
    """x itself, where it is known, in a file of the same kinds: for the page."""
    method: str = USUAL_METHOD
    """mmps (moment matching: few steps, nothing to tune), diffpir (fast, no spread to trust), gibbs and smc (error bars
    that hold, for many calls), daps (operators that are not linear), dps (to compare), exact (oracles);
    --method NAME --help shows the options of this one."""
    steps: int | None = None
    """Steps of the method's walk; default: 30 for mmps."""
    sampler: str | None = None
    """Of methods that walk with any sampler, in place of their own; as of `kakusan sample`."""
    spacing: Literal["trailing", "leading", "linspace", "quadratic", "log-snr", "karras"] | None = None
    """Times that the walk visits, as of `kakusan sample`."""
    out: Path | None = None
    """A folder for all of it: samples.npz (with mean, deviation and quantiles), samples as PNG files, mean.png,
    deviation.png, grid.png, page.html; or NAME.npz or NAME.png for one of them, with page and record beside it.
    Default: the next folder in RUN/restored."""
    seed: int = 0
    """Random seed of the samples, and of a calibration's noise."""
    first: int = 0
    """Number of the first sample in the series of the seed."""
    label: str | None = None
    """A class, by name or number, for runs that learned classes."""
    vector: str | None = None
    """Numbers that describe the samples, for runs that learned vectors, as of `kakusan sample`."""
    condition: str | None = None
    """An image that belongs to the samples, for runs that learned pairs, as of `kakusan sample`."""
    guidance: float | None = None
    """Weight of guidance: 1 none, more for samples that are more like their class."""
    weights: Literal["ema", "model"] = "ema"
    """Averaged weights, or those of the last step."""
    device: str = "auto"
    """cpu, cuda or mps; default: as trained, where that is here."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Type of convolutions and products; auto: as trained."""
    overwrite: bool = False
    """Replace what is at --out."""
    json: bool = False
    """Print what was found as JSON, on stdout."""

    def __post_init__(self) -> None:
        _require_whole(self.operator, self.calibrate, self.observed, self.truth, self.noise)
        if self.calibrate and (given := [name for name in BY_TRUTH if getattr(self, name)]):
            raise SettingsError(
                f"--{given[0]} does not go with --calibrate: samples are given the condition of their held-out x",
                f"leave --{given[0]} out",
            )
        if self.images is not None and not self.calibrate:
            raise SettingsError("--images are those of a calibration", "--count N draws N samples of each y")


def _require_whole(operator: object, calibrate: bool, observed: object, truth: object, noise: str) -> None:
    """Raises SettingsError for a line that says too little, or contradicts itself."""
    if not operator:
        raise SettingsError("it is not said what was measured", "name it: --operator mask:known.png")
    if calibrate and (observed is not None or truth is not None):
        raise SettingsError(
            "a calibration measures held-out samples itself", "leave --observed and --truth out"
        )
    if not calibrate and observed is None:
        raise SettingsError(
            "there is no measurement to restore from",
            "name it: --observed y.npy; or ask with --calibrate whether error bars hold",
        )
    if calibrate and noise == "auto":
        raise SettingsError("a calibration draws the noise of its measurements", "say how large: --noise 2%")


def _look_at(arguments: Sequence[str]) -> None:
    """What the line and the disk alone show to be wrong, before torch is imported, which takes seconds.

    Raises SettingsError, and DataError for files that are not there. Of flags that it does not know the parser speaks.
    """
    flags = {word.partition("=")[0].replace("_", "-") for word in arguments if word.startswith("--")}
    known = {f"--{name}" for name in flags_of(Restore)}
    if not arguments or asks_for_help(arguments) or flags - known:
        return
    _require_run_first(arguments)
    named = {flag: value_of(flag, arguments) or "" for flag in flags}
    operator, observed, truth = (named.get(flag) for flag in ("--operator", "--observed", "--truth"))
    noise = named.get("--noise", "auto").strip()
    _require_whole(operator, "--calibrate" in flags, observed, truth, noise)
    maps = noise if noise.lower().endswith(".npy") else None
    require_files({"--observed": observed, "--truth": truth, "--noise": maps})


def require_files(named: Mapping[str, str | None]) -> None:
    """Raises DataError for a file that is not there. named: by its flag; of one without a name the parser speaks."""
    for flag, name in named.items():
        if name and not Path(name).expanduser().exists():
            raise DataError(f"{name} cannot be read: there is no such file", f"it was named by {flag}")


def _require_run_first(arguments: Sequence[str]) -> None:
    """Raises SettingsError where RUN follows the words of --operator, as whose last one it would be read."""
    words = [*arguments]
    if not words or not words[0].startswith("-") or "--operator" not in words:
        return
    begin = words.index("--operator") + 1
    end = next((k for k in range(begin, len(words)) if words[k].startswith("-")), len(words))
    if end - begin > 1 and Path(words[end - 1]).expanduser().is_dir():
        run = words.pop(end - 1)
        raise SettingsError(
            f"{run} stands behind --operator, and would be one of its words",
            f"put RUN first: {shlex.join(['kakusan', 'restore', run, *words])}",
        )


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    _look_at(arguments)
    command = parse_with_method(Restore, arguments, "restore", EXAMPLES, USUAL_METHOD)
    from kakusan.config.machine import set_machine_for_use
    from kakusan.errors import printable
    from kakusan.pages.restore.files import Places, write_restored
    from kakusan.run import Run
    from kakusan.terminal.display import console

    run = Run.open(command.run)
    set_machine_for_use(run.settings.machine)
    places = Places.of(run, command.out, overwrite=command.overwrite)
    found, calibration = _calibrated(command, run) if command.calibrate else (_restored(command, run), None)
    with _watching("page and files"):
        write_restored(found, calibration, places, ("kakusan", "restore", *arguments))
    to, warnings = console(), found.warnings if calibration is None else ()
    for warning in (*run.warnings, *warnings):
        to.print(printable(f"warning: {warning}"), markup=False)
    if command.json:
        print(json.dumps(_as_json(found, calibration, places.as_json())))
        return 0
    if calibration is not None:
        _show(calibration)
    else:
        for words in found.words:
            if words not in warnings:
                to.print(words, markup=False)
    print(*places.paths, sep="\n")
    return 0


def _restored(command: Restore, run: "Run") -> "Posterior":
    assert command.observed is not None
    return run.restore(
        command.observed,
        command.operator,
        command.noise,
        _method(command, run),
        **_given(command, "count"),
        seed=command.seed,
        first=command.first,
        truth=command.truth,
        label=command.label,
        vector=command.vector,
        condition=command.condition,
        guidance=command.guidance,
        weights=command.weights,
        device=command.device,
        precision=command.precision,
        watching=_watching,
    )


def _calibrated(command: Restore, run: "Run") -> "tuple[Posterior, Calibration]":
    from kakusan.data.measuring import operator_named
    from kakusan.evaluation.calibration import calibrate
    from kakusan.evaluation.options import CalibrationOptions
    from kakusan.pages.restore.gather import of_calibration
    from kakusan.run.noise import noise_named
    from kakusan.run.restoring import inputs_as_json

    options = CalibrationOptions(
        **_given(command, "images", "count"),
        seed=command.seed,
        guidance=command.guidance,
        weights=command.weights,
        device=command.device,
        precision=command.precision,
    )
    shape, layout = run.data.shape, run.settings.data.layout
    operator = operator_named(command.operator, shape, layout=layout)
    noise: Noise = noise_named(command.noise, run.data.units, operator.measured_shape(shape), layout=layout)
    with _watching("calibration") as show:
        calibration = calibrate(run, operator, noise, _method(command, run), options, show)
    inputs = inputs_as_json(command.operator, command.noise)
    calibration = replace(calibration, about={**calibration.about, **inputs})
    return of_calibration(run, calibration), calibration


def _given(command: Restore, *names: str) -> dict[str, Any]:
    """The options of these names that were given; others have the default of who takes them."""
    return {name: value for name in names if (value := getattr(command, name)) is not None}


def _method(command: Restore, run: "Run") -> "Method":
    return run.method(
        command.method,
        sampler=command.sampler,
        steps=command.steps,
        spacing=command.spacing,
        **options_in(command, command.method),
    )


@contextmanager
def _watching(title: str) -> Iterator[Callable[[float, str], None]]:
    from kakusan.terminal.display import bar, console, tell

    to = console()
    if not to.is_terminal:
        tell(to, title)  # before the first step, which may take long; a bar shows it by itself
    with bar(title, 1.0, to) as shown:
        yield shown.at


def _show(calibration: "Calibration") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    to = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("", "found", "of exact samples"):
        table.add_column(name, justify="left" if not name else "right")
    for row in calibration.rows:
        table.add_row(*row)
    to.print(table)
    for words in calibration.words:
        to.print(words[:1].upper() + words[1:] + ".", markup=False)


def _as_json(found: "Posterior", calibration: "Calibration | None", places: dict[str, Any]) -> dict[str, Any]:
    record = found.as_json() if calibration is None else calibration.as_json()
    return {**record, **places}
