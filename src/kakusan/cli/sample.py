"""kakusan sample RUN."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from kakusan.cli.sampler_options import parse_with_sampler, sampler_of
from kakusan.config.facts import SpacingName
from kakusan.config.section import AUTO

if TYPE_CHECKING:
    from kakusan.data.units import Units
    from kakusan.run import Films, Run
    from kakusan.shapes import Condition, Samples
    from kakusan.training.guide import Guidance

EXAMPLES = (
    "kakusan sample runs/demo                                      64 images, a grid in the run's folder",
    "kakusan sample runs/demo --count 1000 --out new.npz           an array, in the data's own units",
    "kakusan sample runs/demo --count 100 --first 100 --out more   images 100 to 199 of the seed, as PNG files",
    "kakusan sample runs/demo --sampler ancestral --variance fixed-small",
    "kakusan sample runs/demo --sampler unipc --steps 10           ten calls of the network an image",
    "kakusan sample runs/demo --film walk.webp --strip walk.png    and the way from noise to them",
    "kakusan sample runs/digits --label 7 --guidance 2             sevens, guided",
    "kakusan sample runs/digits --label each --guidance 2          a column of each class",
    "kakusan sample runs/digits --vector thickness=2.5,slant=0.3   by the numbers that it learned",
    "kakusan sample runs/sharp --condition blurred.png --count 16  sixteen samples that fit one image",
    "kakusan sample runs/photos --guidance 1.5 --guide early       away from the run's own early weights",
)


MOST_COLUMNS = 32
"""Columns of a grid, at most, with one for each class."""


@dataclass(frozen=True)
class Sample:
    """New images from a trained run. Image k of a seed is the same image whatever the count or the split."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    count: int = 64
    """Number of images."""
    out: Path | None = None
    """NAME.png: a grid; NAME.npz: an array, in the axes of the data; else, for images, a folder of PNG files. Default:
    the next grid in RUN/samples. A .json beside it says how they were made."""
    film: Path | None = None
    """Show x_t, and beside it the guess of x_0, of the first images through their walk: a .webp, .gif or animated
    .png."""
    strip: Path | None = None
    """The same as one picture, a .png: a few images at about ten times, their guesses below."""
    frames: int | None = None
    """Pictures of the film, noise and sample among them; default: all moments of the walk, 60 at the most."""
    sampler: str = AUTO
    """auto: the best in few steps, as measured (sa-solver). ddim, ancestral (Algorithm 2), unipc, heun, ...; --sampler
    NAME --help names all, and shows the options of this one, such as --eta of ddim."""
    steps: str | None = None
    """Denoising steps, or tuned:N for the times that `kakusan tune` has found for N, or best:N for those of the lowest
    bound (ancestral); default: 10, or what is usual for the sampler, 50 for ddim."""
    spacing: SpacingName | None = None
    """Times that fewer steps visit: even in t, from T on (trailing), down to 1 (leading) or both (linspace); even in
    the root of t (quadratic), the log-SNR, or sigma^(1/7) (karras), both included; even in what the run's own errors
    leave unknown (entropic); default: of auto the best that the run knows, of others as the run says."""
    times: tuple[float, ...] | None = None
    """These times one by one, falling, any numbers above 0 and up to T, in place of --steps and --spacing; the step to
    0 is added: --times 999 700.5 20."""
    variance: Literal["fixed-large", "fixed-small", "learned", "analytic"] | None = None
    """sigma^2 of an ancestral step; default: as the run says. analytic: as `kakusan evaluate` has estimated it."""
    seed: int = 0
    """Random seed; each has its own series of images."""
    first: int = 0
    """Number of the first image in the series."""
    label: str | None = None
    """A class, by name or number, for runs that learned classes, or "each": all in turn, a column of a grid each; or
    several at once, with their shares: 3:1+7:0.5. Default: none; each for imported runs and with guidance."""
    vector: str | None = None
    """Numbers that describe the samples, for runs that learned vectors: 0.3,1.5 or thickness=0.3, or a .npy, .npz or
    .csv file of several. Default: those of held-out samples."""
    condition: str | None = None
    """For runs that learned pairs: an image, a folder of images, or an array; sample k is given the k-th, in turn, a
    column of a grid each. Default: those of held-out samples."""
    mask: str | None = None
    """For runs that learned from data with missing values, where values are to be: full (everywhere), or a .npy or .npz
    file, of booleans or with NaN, of one mask or several in turn. Default: those of held-out samples."""
    guidance: float | None = None
    """Weight of guidance: 1 none, more for samples that are more like their class and less unlike each other."""
    guidance_interval: tuple[float, float] | None = None
    """Lowest and highest t at which to guide; default: all."""
    guidance_rescale: float | None = None
    """Share, 0 to 1, to which guided contrast is brought back to that of the model."""
    guide: str | None = None
    """Model to be guided away from in place of that without a class (autoguidance): "early", weights of the same
    run after a 16th of its training or more (500 steps), early:STEP (of RUN/snapshots), or a weaker run's folder."""
    weights: Literal["ema", "model"] = "ema"
    """Averaged weights, or those of the last step."""
    exact: bool = False
    """Bit-equal images for any count and split; small counts take longer."""
    raw: bool = False
    """Keep the network's units (with an .npz)."""
    device: str = "auto"
    """cpu, cuda or mps; default: as trained, where that is here."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Type of convolutions and products; auto: as trained."""
    overwrite: bool = False
    """Replace what is at --out."""
    json: bool = False
    """Print what was done as JSON, on stdout."""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    command = parse_with_sampler(Sample, arguments, "sample", EXAMPLES, usual=AUTO)
    from kakusan.config.machine import set_machine_for_use
    from kakusan.data.saving import Output, free_output, sidecar
    from kakusan.data.units import Real
    from kakusan.errors import SettingsError, printable
    from kakusan.run import Films, Run
    from kakusan.terminal.display import console

    if command.variance is not None and command.sampler != "ancestral":
        raise SettingsError(
            f"the {command.sampler} sampler has no --variance", "it belongs to --sampler ancestral"
        )
    run = Run.open(command.run)
    numbers = range(command.first, command.first + command.count)
    path, layout = command.out or free_output(run.folder / "samples"), run.settings.data.layout
    out = Output(path, numbers, command.raw, command.overwrite, layout)
    out.check(run.data.shape)
    films = Films(command.film, command.strip, command.frames, command.overwrite)
    if path in films.paths:
        raise SettingsError(f"{path} cannot be both the samples and their film", "name two files")
    set_machine_for_use(run.settings.machine)
    x_0, about, condition = _sampled(command, run, _guidance(command), films)
    about["rounded"] &= not command.raw
    to, units = console(), run.data.units
    is_kept = out.raw or (out.path.suffix == ".npz" and isinstance(units, Real))  # every value as it is
    about["outside"] = 0.0 if is_kept else units.outside(x_0)
    out.save(
        x_0, units, about, columns=_columns(about, command.first), given=_given(run, condition, command.first)
    )
    for warning in run.warnings:
        to.print(printable(f"warning: {warning}"), markup=False)
    if about["outside"]:
        to.print(
            f"note: {about['outside']:.2%} of the values lay outside of what is shown, and were held to it"
        )
    if out.others:
        to.print(f"note: {out.path} also holds {out.others:,} samples from earlier commands", markup=False)
    if command.json:
        print(json.dumps({**about, "out": str(out.path), **films.as_json()}))
        return 0
    print(*(out.path, *films.paths), sep="\n")
    if command.sampler == AUTO:
        to.print(_chosen(about), style="dim", markup=False)
    to.print(f"how they were made: {sidecar(out.path)}", style="dim", markup=False)
    return 0


def _columns(about: "Mapping[str, Any]", first: int) -> int | None:
    """One for each condition where samples are given several in turn."""
    rows = about["conditions"]
    is_of_masks = about.get("missing") and about["label"] is None and "vectors" not in about
    return rows if not is_of_masks and 1 < rows <= MOST_COLUMNS and first % rows == 0 else None


def _given(run: "Run", condition: "Condition | None", first: int) -> "tuple[Samples, Units] | None":
    """The images that the samples are given, from the first on, and what their values mean."""
    if condition is None or condition.image is None or run.data.pairs is None:
        return None
    return condition.image.roll(-first, 0), run.data.pairs.units


def _guidance(command: Sample) -> "Guidance | None":
    from kakusan.errors import SettingsError
    from kakusan.training.guide import Guidance

    details = {
        "--guidance-interval": command.guidance_interval,
        "--guidance-rescale": command.guidance_rescale,
        "--guide": command.guide,
    }
    if command.guidance is None:
        if given := [flag for flag, value in details.items() if value is not None]:
            raise SettingsError(
                f"{given[0]} belongs to --guidance, which is missing", "such as: --guidance 2"
            )
        return None
    return Guidance(
        command.guidance, command.guidance_interval, command.guidance_rescale or 0.0, command.guide
    )


def _sampled(
    command: Sample, run: "Run", guidance: "Guidance | None", films: "Films"
) -> "tuple[Samples, dict[str, Any], Condition | None]":
    """The images, how they were made and what they were given, with the progress shown."""
    from kakusan.data.space import noun_of
    from kakusan.terminal.display import bar, console

    loaded = run.load(
        weights=command.weights, device=command.device, precision=command.precision, variance=command.variance
    )
    sampler = sampler_of(command, run)
    numbers = {name: getattr(command, name) for name in ("count", "seed", "first", "exact")}
    guidance, label = run.composed(guidance, command.label)
    condition = run.condition(
        label=label,
        vector=command.vector,
        image=command.condition,
        mask=command.mask,
        guidance=guidance,
        say=lambda note: console().print(f"note: {note}", markup=False),
    )
    request = run.request(loaded, condition, **numbers)
    with bar(f"sampling {command.count:,} {noun_of(request.shape).many}", 1.0, console()) as shown:
        return *run.sample_with_record(loaded, sampler, request, shown.at, guidance, films), condition


def _chosen(about: "Mapping[str, Any]") -> str:
    """The sampler that was taken by itself, and the flags that take another."""
    known = {"tuned": ", tuned for this run", "entropic": ", at times by this run's errors"}
    why = known.get(about["spacing"], "")
    steps = "1 step" if about["steps"] == 1 else f"{about['steps']} steps"
    return f"sampler: {about['sampler']}, {steps}{why} (kakusan compare shows others; --sampler and --steps choose)"
