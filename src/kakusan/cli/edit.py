"""kakusan edit RUN."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from kakusan.cli.choices import value_of
from kakusan.cli.sampler_options import USUAL, parse_with_sampler, sampler_of
from kakusan.config.facts import SpacingName

if TYPE_CHECKING:
    from kakusan.pages.edit.gather import Edited, Kind
    from kakusan.run import Editor, Run
    from kakusan.shapes import Samples

EXAMPLES = (
    "kakusan edit runs/photos --from cat.jpg                         eight variations of a picture",
    "kakusan edit runs/photos --from cat.jpg --strength 0.3          that stay nearer to it",
    "kakusan edit runs/photos --from cat.jpg --mask kept.png         fill in what is black in kept.png",
    "kakusan edit runs/photos --from cat.jpg --invert                to the noise that it is made of, and back",
    "kakusan edit runs/photos --from cat.jpg --to dog.jpg            from one picture to another, in nine",
    "kakusan edit runs/photos --seeds 3 8 --frames 60 --film way.webp    from one sample to another, as a film",
    "kakusan edit runs/digits --from seven.png --label 1 --guidance 2    in the direction of a class",
)
STRENGTH, COUNT, FRAMES, COMPLETIONS = 0.6, 8, 9, 16
"""Where none is given."""


@dataclass(frozen=True)
class Edit:
    """Edits of images: variations from a noise level on, the noise of an image and back, what lies between two.

    Images are brought to the size, the colours and the levels that the run was trained on. A page beside the output
    shows before and after, the settings and, of an inversion, how far off the round trip is.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    source: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """An image, a folder of images, or an array (.npy, .npz) of one sample or several."""
    mask: str | None = None
    """What of the image is kept: a picture (white is kept, black and grey are made anew), an array of booleans, or
    hide-left, hide-right, hide-top, hide-bottom, hide-center or random:SHARE, of what is not. The rest is filled in, as
    by `kakusan restore`, which also takes other measurements."""
    to: str | None = None
    """One more image or array: go from the first to this one, through their noise (spherical interpolation)."""
    seeds: tuple[int, int] | None = None
    """Two seeds, in place of --from and --to: go from the sample of one to that of the other."""
    invert: bool = False
    """Go from the image to the noise that DDIM makes it of, and back; the noise is kept in NAME.x_T.npz."""
    strength: float | None = None
    """Of variations: the share of the denoising steps that is repeated, as in diffusers. 0 keeps the image, 1 forgets
    it; default: 0.6."""
    count: int | None = None
    """Of variations: their number; several images are taken in turn. Default: 8 of one image, else one of each; with
    --mask 16."""
    frames: int | None = None
    """Of an interpolation: its pictures, both ends among them (default: 9). Of variations: pictures of the film."""
    rounds: int = 1
    """Of inversions: calls of the network at each step, by which the way back gets closer; 0: Euler's step."""
    out: Path | None = None
    """NAME.png: a picture; NAME.npz: an array, in the axes of the data; else, for images, a folder of PNG files.
    Default: the next picture in RUN/edits. A .json and a page, .html, beside it say how they were made."""
    film: Path | None = None
    """An interpolation, or the walk of variations, as a .webp, .gif or animated .png."""
    sampler: str = USUAL
    """ddim, ancestral (Algorithm 2), unipc, dpmpp-2m, heun, ...; --sampler NAME --help names all, and shows the
    options of this one; auto: that of `kakusan sample`. Inversions, and so interpolations of images, are DDIM's."""
    steps: str | None = None
    """Denoising steps of the whole walk, or tuned:N for the times that `kakusan tune` has found for N; default: what is
    usual for the sampler, 50 for ddim."""
    spacing: SpacingName | None = None
    """Times that fewer steps visit, as of `kakusan sample`; default: as the run says."""
    times: tuple[float, ...] | None = None
    """These times one by one, as of `kakusan sample`, in place of --steps and --spacing."""
    seed: int = 0
    """Random seed of variations."""
    first: int = 0
    """Number of the first variation in the series of the seed."""
    label: str | None = None
    """A class, by name or number, "each" in turn, or several: 3:1+7:0.5; for runs that learned classes."""
    vector: str | None = None
    """Numbers that describe the samples, for runs that learned vectors, as of `kakusan sample`."""
    condition: str | None = None
    """An image that belongs to the samples, for runs that learned pairs, as of `kakusan sample`."""
    guidance: float | None = None
    """Weight of guidance: 1 none, more for samples that are more like their class."""
    guide: str | None = None
    """Model to be guided away from, as of `kakusan sample`."""
    weights: Literal["ema", "model"] = "ema"
    """Averaged weights, or those of the last step."""
    exact: bool = False
    """Bit-equal images for any count and split; small counts take longer."""
    device: str = "auto"
    """cpu, cuda or mps; default: as trained, where that is here."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Type of convolutions and products; auto: as trained."""
    overwrite: bool = False
    """Replace what is at --out, and beside it."""
    json: bool = False
    """Print what was done as JSON, on stdout."""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    command = parse_with_sampler(Edit, arguments, "edit", EXAMPLES)
    from kakusan.config.machine import set_machine_for_use
    from kakusan.errors import printable
    from kakusan.pages.edit.gather import Places, write_edit
    from kakusan.run import Run
    from kakusan.terminal.display import console

    kind = _kind(command)
    run = Run.open(command.run)
    set_machine_for_use(run.settings.machine)
    images = _images(command, run)
    count = range(command.first, command.first + _count(command, kind, images))
    places = Places.of(run, command.out, command.film, kind, count, overwrite=command.overwrite)
    editor = _editor(command, run)
    if kind == "completions":
        named = value_of("--sampler", arguments) is not None
        edited = _completed(command, run, editor, images, with_sampler=named)
    else:
        edited = _edited(command, kind, run, editor, images)
    write_edit(edited, places, ("kakusan", "edit", *arguments))
    to = console()
    for warning in run.warnings:
        to.print(printable(f"warning: {warning}"), markup=False)
    if command.json:
        print(json.dumps({**edited.record, **places.as_json()}))
        return 0
    print(*places.paths, sep="\n")
    if edited.words:
        to.print(f"round trip: {edited.words}", markup=False)
    return 0


def _kind(command: Edit) -> "Kind":
    """The edit that the flags ask for. Raises SettingsError for flags that do not go together."""
    from kakusan.errors import SettingsError

    if command.source is None and command.mask is not None:
        raise SettingsError("--mask needs an image to fill in", "such as --from cat.png --mask mask.png")
    if command.source is None and command.seeds is None:
        raise SettingsError(
            "there is nothing to edit", "name an image, --from cat.png, or two seeds, --seeds 3 8"
        )
    if command.seeds is not None and command.source is not None:
        raise SettingsError("--from and --seeds are two beginnings", "leave one of them out")
    if command.to is not None and command.source is None:
        raise SettingsError("--to needs an image to come from", "such as --from cat.png --to dog.png")
    if command.mask is not None:
        _refuse_strangers(command, "completions")
        return "completions"
    interpolates = command.to is not None or command.seeds is not None
    kind: Kind = "interpolation" if interpolates else "inversion" if command.invert else "variations"
    _refuse_strangers(command, kind)
    return kind


def _refuse_strangers(command: Edit, kind: "Kind") -> None:
    """Raises SettingsError for a flag that belongs to another kind of edit."""
    from kakusan.errors import SettingsError

    strangers: dict[str, dict[str, object]] = {
        "variations": {"--rounds": command.rounds != 1},
        "completions": {
            "--strength": command.strength,
            "--to": command.to,
            "--invert": command.invert,
            "--rounds": command.rounds != 1,
            "--frames": command.frames,
            "--film": command.film,
            "--exact": command.exact,
        },
        "inversion": {
            "--strength": command.strength,
            "--count": command.count,
            "--frames": command.frames,
            "--film": command.film,
        },
        "interpolation": {
            "--strength": command.strength,
            "--count": command.count,
            "--invert": command.invert,
        },
    }
    if found := [flag for flag, value in strangers[kind].items() if value not in (None, False)]:
        helps = (
            "--frames says how many pictures"
            if found[0] == "--count" and kind == "interpolation"
            else "leave it out"
        )
        raise SettingsError(f"{found[0]} does not go with this edit: {NAMES[kind]}", helps)
    if kind == "variations" and command.film is not None and command.strength == 0:
        raise SettingsError(
            "an image at strength 0 stays as it is, without a walk to film", "leave --film out"
        )
    if kind == "interpolation" and command.frames is not None and command.frames < 2:
        raise SettingsError("between two images there are 2 frames or more", "such as --frames 9")
    if kind == "variations" and command.frames is not None and command.film is None:
        raise SettingsError("--frames belongs to a film, which is missing", "such as: --film out.webp")


NAMES = {
    "variations": "variations of images",
    "completions": "the filling in of what a mask hides",
    "inversion": "an inversion",
    "interpolation": "an interpolation",
}


def _editor(command: Edit, run: "Run") -> "Editor":
    """The run's model, ready, with the progress shown."""
    from kakusan.errors import SettingsError
    from kakusan.terminal.display import bar, console
    from kakusan.training.guide import Guidance

    if command.guide is not None and command.guidance is None:
        raise SettingsError("--guide belongs to --guidance, which is missing", "such as: --guidance 2")
    guidance = None if command.guidance is None else Guidance(command.guidance, guide=command.guide)
    sampler, to = sampler_of(command, run), console()

    @contextmanager
    def watching(title: str) -> Iterator[Callable[[float, str], None]]:
        with bar(title, 1.0, to) as shown:
            yield shown.at

    return run.editor(
        sampler,
        seed=command.seed,
        first=command.first,
        label=command.label,
        vector=command.vector,
        condition=command.condition,
        guidance=guidance,
        exact=command.exact,
        weights=command.weights,
        device=command.device,
        precision=command.precision,
        watching=watching,
        say=lambda note: to.print(f"note: {note}", markup=False),
    )


def _images(command: Edit, run: "Run") -> "Sequence[Samples]":
    """The images to edit, or both ends of an interpolation; nothing where it is of seeds."""
    from kakusan.terminal.display import console

    to = console()
    named = [each for each in (command.source, command.to) if each is not None]
    return [run.read(each, lambda note: to.print(f"note: {note}", markup=False)) for each in named]


def _count(command: Edit, kind: "Kind", images: "Sequence[Samples]") -> int:
    """The number of pictures that come of it."""
    if kind == "interpolation":
        return FRAMES if command.frames is None else command.frames
    if kind in ("variations", "completions") and command.count is not None:
        return command.count
    if kind == "completions":
        return COMPLETIONS
    several = len(images[0]) if images else 1
    return COUNT if kind == "variations" and several == 1 else several


def _edited(
    command: Edit, kind: "Kind", run: "Run", editor: "Editor", images: "Sequence[Samples]"
) -> "Edited":
    """The edit itself, and all that it takes to make it again."""
    import torch

    from kakusan.pages.edit.gather import Edited
    from kakusan.run import Films, round_trip

    count, units = _count(command, kind, images), run.data.units
    about = _about(command, editor)
    if not images:
        assert command.seeds is not None
        after = editor.between_seeds(*command.seeds, count)
        return Edited(run, kind, None, after, {**about, "seeds": command.seeds, "frames": count})
    if kind == "variations":
        strength = STRENGTH if command.strength is None else command.strength
        films = Films(command.film, None, command.frames, command.overwrite)
        after = editor.variations(images[0], strength, count, films=films)
        return Edited(run, kind, images[0], after, {**about, **editor.repeated(strength)})
    about["rounds"] = command.rounds
    if kind == "inversion":
        found = editor.invert(images[0], command.rounds)
        trip = round_trip(images[0], found.back, units)
        return Edited(run, kind, images[0], found.back, about, found.latents, trip)
    start, end = images
    after, before = editor.between(start, end, count, command.rounds), torch.cat([start, end])
    trip = round_trip(before, after[[0, -1]], units)
    return Edited(run, kind, before, after, {**about, "frames": count}, trip=trip)


def _about(command: Edit, editor: "Editor") -> dict[str, object]:
    """The record of the model and of what was asked."""
    asked = ("source", "to", "label", "vector", "condition", "guidance", "guide")
    return editor.record() | {name: getattr(command, name) for name in asked}


def _completed(
    command: Edit, run: "Run", editor: "Editor", images: "Sequence[Samples]", *, with_sampler: bool
) -> "Edited":
    """The image with what the mask hides made anew, and how that was done. with_sampler: one is named."""
    from kakusan.errors import DataError
    from kakusan.pages.edit.gather import Edited
    from kakusan.run.editing import noise_of_pixel
    from kakusan.run.restoring import inputs_as_json, method_as_json
    from kakusan.run.sampling import sampler_as_json

    assert command.mask is not None
    image = images[0]
    steps, is_number = command.steps, command.steps is None or command.steps.isdecimal()
    sampler = editor.sampler if with_sampler or command.spacing or not is_number else None
    method = run.method("mmps", sampler=sampler, steps=int(steps) if steps and sampler is None else None)
    try:
        kept = editor.read_mask(command.mask)
    except DataError as error:
        raise DataError(error.problem, *error.advice, "it was named by --mask") from error
    after = editor.completions(image, command.mask, _count(command, "completions", images), method)
    walked = sampler_as_json(editor.sampler)  # of other edits: here the method has a sampler of its own
    asked = {key: value for key, value in _about(command, editor).items() if key not in walked}
    files = [each for each in (command.source, command.mask) if each and Path(each).expanduser().is_file()]
    noise = noise_of_pixel(run.data.units)
    inputs = inputs_as_json(f"mask:{command.mask}", noise, *files)
    about = {**asked, **method_as_json(method), "mask": command.mask, **inputs, "noise": noise}
    before = image.masked_fill(~kept, float("nan"))
    return Edited(run, "completions", before, after, {**about, "steps": method.steps_of(editor.model.path)})
