"""Edits of an open run: variations of images, their noise and back, what lies between two; in the run's own terms."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from kakusan.config.settings import Layout
from kakusan.data.asking import mask_of_one
from kakusan.data.conditions import PairForm
from kakusan.data.given import EDITED, array_images, array_in, images_asked, picture_of_mask
from kakusan.data.measuring import HIDING, MASKS, operator_named
from kakusan.data.missing import in_percent
from kakusan.data.record import DataRecord
from kakusan.data.space import noun_of
from kakusan.data.units import Levels, Units, scale_and_mean
from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.model import Model
from kakusan.errors import DataError, SettingsError
from kakusan.operators import Mask
from kakusan.posterior import MMPS, Measurement, Method, Restoration, restore
from kakusan.run import sampling
from kakusan.run.choosing import usual_sampler
from kakusan.run.films import Films
from kakusan.run.opened import Loaded
from kakusan.samplers import Inversion, Latents, Sampler, SamplingRequest, edits, sample
from kakusan.shapes import Condition, Samples
from kakusan.training.guide import Guidance

AnyImages: TypeAlias = Samples | NDArray[Any] | Path | str
"""Images to edit: in the network's units as `Run.sample` gives them, or an array in those of the data, or a file."""
AnyMask: TypeAlias = NDArray[Any] | Tensor | Path | str
"""What of an image is kept: booleans, or a file."""
Watching: TypeAlias = Callable[[str], AbstractContextManager[Callable[[float, str], None]]]
"""With the title of a piece of work, a context with its progress callback."""


class Run(sampling.Run):
    """A run's folder, opened: all of a `Run` but its samples given a measurement."""

    def editor(
        self,
        sampler: Sampler | str | None = None,
        *,
        seed: int = 0,
        first: int = 0,
        label: str | int | None = None,
        vector: ArrayLike | str | None = None,
        condition: Samples | NDArray[Any] | Path | str | None = None,
        guidance: Guidance | float | None = None,
        exact: bool = False,
        weights: Literal["ema", "model"] = "ema",
        device: str = "auto",
        precision: Literal["auto", "fp32", "bf16"] = "auto",
        progress: bool | None = None,
        watching: Watching | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> "Editor":
        """This run with what an edit depends on, ready for images; all as `sample` has it.

        sampler: of inversions DDIM, in 50 steps where none is given. weights, precision: as `load` has them.
        watching: in place of the display of progress. say: called with lines on what was scaled.
        """
        if self.settings.is_distilled:
            raise SettingsError(
                f"{self.folder} was distilled, and edits go along the walks of a model of many calls",
                "edit with the run that it came from",
            )
        chosen = usual_sampler(self.settings) if sampler is None else self.sampler(sampler)
        loaded = self.load(weights=weights, device=device, precision=precision)
        guidance = Guidance(guidance) if isinstance(guidance, float | int) else guidance
        guidance, label = self.composed(guidance, label)
        return Editor(
            run=self.folder,
            data=self.data,
            layout=self.settings.data.layout,
            loaded=loaded,
            model=self.guided(loaded, guidance),
            sampler=chosen,
            condition=self.condition(label=label, vector=vector, image=condition, guidance=guidance, say=say),
            numbers={"seed": seed, "first": first, "exact": exact},
            watching=watching or (lambda title: self._watching(title, progress)),
            say=say,
        )

    def read(self, images: AnyImages, say: Callable[[str], None] = lambda _: None) -> Samples:
        """Images in the network's units, of the size, the colours and the levels that the run was trained on.

        Files and folders of pictures are scaled and cropped as training data are. say: called with lines on that.
        Raises DataError for what cannot be read, or is of another kind than the run has learned.
        """
        return read_images(images, self.data, self.settings.data.layout, say)


def noise_of_pixel(units: Units) -> float:
    """1/255 of the range of the data, in their units: of real values, of that which pictures show."""
    if isinstance(units, Levels):
        return (units.levels - 1) / 255
    return 2 * units.shown * min(units.scale) / 255


def _mask_named(name: str, shape: tuple[int, ...], layout: Layout) -> Tensor:
    """Booleans (channels, *space) of a word, hide-left or random:0.9, as operators have them, or of a file."""
    kind, path = name.partition(":")[0], Path(name).expanduser()
    if kind == "random" or kind in HIDING:
        found = operator_named(f"mask:{name}", shape)
        assert isinstance(found, Mask)
        return found.known.expand(shape)
    if not path.exists():
        raise DataError(f"{name} cannot be read as a mask: no such file", MASKS)
    if path.suffix.lower() in (".npy", ".npz"):
        return mask_of_one(array_in(path, "mask"), shape, layout, f"the mask {name}")
    return torch.from_numpy(picture_of_mask(path, shape)).expand(shape)


def read_images(
    images: AnyImages, data: DataRecord, layout: Layout, say: Callable[[str], None] = lambda _: None
) -> Samples:
    """As `Run.read` has it, of a run with these data. No weights are needed."""
    form, gaps = PairForm(data.shape, data.units), data.masked
    if isinstance(images, Tensor):
        if tuple(images.shape[1:]) != data.shape or not len(images):
            raise SettingsError(
                f"images of this run have shape (n, *{data.shape}), not {tuple(images.shape)}"
            )
        return images
    if not isinstance(images, str | Path):
        return array_images(np.asarray(images), form, "the array", EDITED, layout=layout, with_gaps=gaps)
    x, notes = images_asked(Path(images), form, data.shape[1:], EDITED, layout=layout, with_gaps=gaps)
    for note in notes:
        say(note)
    return x


@dataclass(frozen=True, kw_only=True, eq=False)
class Editor:
    """A run's model with a sampler and a condition: `Run.editor` makes one."""

    run: Path
    data: DataRecord
    layout: Layout
    loaded: Loaded
    model: Model[Denoiser]
    """Under guidance, where there is any."""
    sampler: Sampler
    condition: Condition | None
    numbers: Mapping[str, Any] = field(default_factory=dict)
    """seed, first and exact, as `SamplingRequest` has them."""
    watching: Watching
    say: Callable[[str], None] = lambda _: None

    def __repr__(self) -> str:
        return f"<Editor of {self.run}, step {self.loaded.step}: {self.sampler}>"

    def read(self, images: AnyImages) -> Samples:
        """Images in the network's units, as `Run.read` has them; what was scaled is said."""
        return read_images(images, self.data, self.layout, self.say)

    def variations(
        self,
        images: AnyImages,
        strength: float | int = 0.6,
        count: int | None = None,
        *,
        films: Films | None = None,
    ) -> edits.Made:
        """The images made anew from a noise level on (SDEdit, Meng et al. 2022), in the network's units.

        strength: the share of the sampler's steps that is repeated, as in diffusers: 0 gives the images back, 1
        forgets them. count: of variations; with several images they are taken in turn; default: one of each.
        films: as `Run.sample` has them.
        """
        x = self.read(images)
        count = len(x) if count is None else count
        request = self._request(count, x)
        started = edits.variation_of(x, strength, self.sampler, self.model.path, request)
        if started is None:
            return edits.in_turn(x, count).clone()
        with (
            self._work("editing", request) as show,
            (films or Films()).of(self.sampler, self.model.path, started, self.data.units) as watch,
        ):
            return sample(self.model, self.sampler, started, show, keep_on="cpu", watch=watch)

    def invert(self, images: AnyImages, rounds: int = 1) -> Inversion:
        """x_T of these images by DDIM inversion, and what comes back. See `kakusan.samplers.invert`.

        Raises SettingsError for a sampler that is not DDIM without fresh noise.
        """
        x = self.read(images)
        request = self._request(len(x), x)
        latents = self._noise_of(x, request, rounds)
        return Inversion(x, latents, self.decode(latents, request))

    def _noise_of(self, x: Samples, request: SamplingRequest, rounds: int) -> Latents:
        with self._work("inverting", request) as show:
            return edits.inverted(self.model, self.sampler, request, x, rounds, show)

    def decode(self, latents: Latents, request: SamplingRequest | None = None) -> Samples:
        """The samples to which the walk leads from these x_t: the way back of an inversion."""
        request = request or self._request(len(latents.images))
        with self._work("sampling", request) as show:
            return edits.drawn_from(self.model, self.sampler, request, latents, show)

    def between(self, a: AnyImages, b: AnyImages, frames: int = 9, rounds: int = 1) -> edits.Made:
        """From one image to another in so many: the ends are what `invert` gives back, between them x_T turns.

        Raises SettingsError for fewer than 2 frames, and where a or b are several images.
        """
        ends = torch.cat([self.only(self.read(image)) for image in (a, b)])
        there = ~ends.isnan().any(0, keepdim=True)
        same = self._same_condition(there.to(ends) if self.data.masked else None)
        latents = same._noise_of(ends, same._request(2), rounds)
        return same.decode(edits.between(latents, frames))

    def between_seeds(self, a: int, b: int, frames: int = 9) -> Samples:
        """From the sample of one seed to that of another, number `first` of each."""
        same = self._same_condition()
        latents = edits.noise_of(self.model, self.sampler, same._request(2), (a, b))
        return same.decode(edits.between(latents, frames))

    def only(self, x: Samples) -> Samples:
        """The same, where it is one image, the end of an interpolation. Raises SettingsError for several."""
        if len(x) != 1:
            noun = noun_of(self.data.shape)
            raise SettingsError(
                f"an interpolation goes from one {noun.one} to another, not from {len(x)} {noun.many}",
                "give one for each end",
            )
        return x

    def masked(self, x: Samples) -> Samples:
        """The same, where it is one image, to be filled in. Raises SettingsError for several."""
        if len(x) != 1:
            noun = noun_of(self.data.shape)
            raise SettingsError(
                f"one {noun.one} is filled in, not {len(x)} {noun.many}", "fill in one after the other"
            )
        return x

    def read_mask(self, mask: AnyMask) -> Tensor:
        """Booleans (channels, *space), True where an image is kept: of an array, or of a picture where it is white.

        A picture is scaled and cropped as the image that it belongs to; what is partly black is not kept. Or a word
        for a mask, as operators have it: hide-left, random:0.9.
        Raises DataError for other values and shapes, for several masks, and where all is kept, or nothing.
        """
        if isinstance(mask, str | Path):
            return _mask_named(str(mask), self.data.shape, self.layout)
        return mask_of_one(np.asarray(mask), self.data.shape, self.layout, "the mask")

    def completions(
        self, image: AnyImages, mask: AnyMask, count: int = 16, method: Method | None = None
    ) -> edits.Made:
        """An image with what a mask hides made anew, so many times: samples given the rest, which stays as it is.

        What is kept is taken to be measured with the noise of a pixel, 1/255 of the range of the data. mask: booleans,
        True where the image is kept, in the axes of the data, or a picture that is white there. method: moment matching
        unless given. See `Run.restore` for other measurements, and for the spread.
        """
        x, kept = self.masked(self.read(image)), self.read_mask(mask)
        scale, mean = scale_and_mean(self.data.units)
        noise = noise_of_pixel(self.data.units)
        whole = Measurement(Mask(kept), torch.zeros(1, *x.shape[1:]), noise, self.data.shape, scale, mean)
        measurement = replace(whole, y=whole.data(x.double()))
        request = Restoration(
            count=count,
            seed=self.numbers.get("seed", 0),
            first=self.numbers.get("first", 0),
            condition=None if self.condition is None else self._same_condition().condition,
            micro_batch=self.loaded.settings.machine.micro_batch,
            device=self.loaded.device,
        )
        with self.watching(f"{count:,} completions") as show:
            made = restore(self.model, measurement, method or MMPS(), request, show)[0]
        return torch.where(kept & ~x.isnan(), x, made)

    def _same_condition(self, mask: Samples | None = None) -> "Editor":
        """With the first row of the condition for all pictures of one interpolation. mask: in place of its own."""
        if self.condition is None:
            return self
        row = self.condition.rows(slice(0, 1))
        return replace(self, condition=row if mask is None else replace(row, mask=mask))

    def repeated(self, strength: float | int) -> dict[str, float | int]:
        """The part of the walk that variations of this strength repeat, for a record: from which t, so many steps."""
        t = edits.start_of(self.sampler, self.model.path, strength) or 0
        times = self.sampler.times(self.model.path)
        return {"strength": strength, "t": t, "repeated": sum(s <= t for s in times[:-1])}

    def record(self) -> dict[str, Any]:
        """The model, the sampler and the numbers of an edit, as plain values."""
        return {
            **sampling.sampler_as_json(self.sampler),
            "run": str(self.run),
            "checkpoint": self.loaded.step,
            "weights": self.loaded.weights,
            "steps": len(self.sampler.times(self.model.path)) - 1,
            "clip": self.model.clip,
            **self.numbers,
            "micro_batch": self.loaded.settings.machine.micro_batch,
            "device": self.loaded.device,
        }

    def _request(self, count: int, images: Samples | None = None) -> SamplingRequest:
        """So many samples; where values are missing in the images that they begin with, they are in the samples."""
        condition = self.condition
        if self.data.masked and images is not None and condition is not None:
            there = (~edits.in_turn(images, count).isnan()).to(images)
            places = torch.arange(count)
            first = int(self.numbers.get("first", 0))
            rows = condition.rows((places + first) % len(condition))
            whole = replace(rows, mask=there)  # row k is of sample k: samples take those of their numbers
            condition = whole.rows((places - first) % count)
        return SamplingRequest(
            count=count,
            shape=self.data.shape,
            condition=condition,
            micro_batch=self.loaded.settings.machine.micro_batch,
            device=self.loaded.device,
            **self.numbers,
        )

    def _work(
        self, doing: str, request: SamplingRequest
    ) -> AbstractContextManager[Callable[[float, str], None]]:
        noun = noun_of(request.shape)
        return self.watching(f"{doing} {request.count:,} {noun.one if request.count == 1 else noun.many}")


@dataclass(frozen=True)
class RoundTrip:
    """The difference between images and what comes back from an inversion, in the units of the data, unrounded."""

    rms: float
    largest: float
    unchanged: float | None
    """The share of values that come back on the same level; None where the data have no levels."""
    top: int | None
    """The highest level."""

    def as_json(self) -> dict[str, float | None]:
        """The figures by name."""
        return {"rms": self.rms, "largest": self.largest, "unchanged": self.unchanged}

    @property
    def words(self) -> str:
        """The figures in a sentence."""
        figures = f"off by {self.rms:.3g} (root mean square), {self.largest:.3g} at most"
        if self.unchanged is None:
            return f"{figures}, in the units of the data"
        same = f"{in_percent(self.unchanged)} of the values come back as they were"
        return f"{figures}, in levels of 0 to {self.top}; {same}"


def round_trip(images: Samples, back: Samples, units: Units) -> RoundTrip:
    """The error of a round trip of images; values that are missing do not count."""
    error = (back.cpu().double() - images.cpu().double()).movedim(1, -1)
    if isinstance(units, Levels):
        scale, there = torch.tensor((units.levels - 1) / 2), ~error.isnan()
        same = units.decode(back) == units.decode(images)
        unchanged, top = float(same[there.numpy()].mean()), units.levels - 1
    else:
        scale, unchanged, top = torch.tensor(units.scale, dtype=torch.float64), None, None
    off = (error * scale)[~error.isnan()]
    return RoundTrip(float(off.square().mean().sqrt()), float(off.abs().max()), unchanged, top)
