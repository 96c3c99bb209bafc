"""The subject of an explanation: a schedule, a denoiser and an image, from a run or from what ships with kakusan."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kakusan.config.machine import set_machine_for_use
from kakusan.config.settings import LEARNED, named
from kakusan.data import DATASETS, Dataset
from kakusan.data.space import in_pixels, is_points, kind_of
from kakusan.data.units import Levels, Units
from kakusan.diffusion.denoiser import Denoiser, NetworkDenoiser
from kakusan.diffusion.model import Model
from kakusan.diffusion.oracles import FiniteSetOracle
from kakusan.diffusion.schedules import NoiseSchedule
from kakusan.diffusion.tables import SCHEDULES
from kakusan.errors import KakusanError, SettingsError, printable
from kakusan.run import Run
from kakusan.shapes import Condition, Samples
from kakusan.training.validation import spread

DEFAULT_DATA = "kanji"
DEFAULT_POINTS = "swiss-roll"
DEFAULT_SCHEDULE = "linear"
DEFAULT_T = 1000
FIRST_CHOICE = {"kanji": "散"}
"""The bundled image that is shown unless another is asked for; elsewhere the first."""
CLOUD = 160
"""The number of points that dissolve together, where the data are points."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A denoiser with its schedule, and images in its units, the first of which gives the numbers."""

    model: Model[Denoiser]
    x_0: Samples
    units: Units
    image: str
    """The name of the image: 散, "held-out image 0"."""
    who: str
    """The denoiser in a sentence: "the network", "the exact denoiser"."""
    facts: dict[str, str] = field(default_factory=dict)
    remark: str = ""
    """A remark on the denoiser, in a sentence or two; with $formulas$."""
    warnings: tuple[str, ...] = ()
    known: Dataset | None = None
    """The finite set of an exact denoiser's images."""
    run: Path | None = None

    @property
    def schedule(self) -> NoiseSchedule:
        path = self.model.path
        if not isinstance(path, NoiseSchedule):
            raise SettingsError(
                "the derivation is that of schedules of betas, and this run has another path",
                "its figures: kakusan report, kakusan evaluate",
            )
        return path

    @property
    def is_points(self) -> bool:
        return tuple(self.x_0.shape[1:]) == (2, 1, 1)


def bundled(
    data: str = DEFAULT_DATA,
    schedule: str = DEFAULT_SCHEDULE,
    T: int = DEFAULT_T,
    image: str | None = None,
) -> Subject:
    """Bundled data with their exact denoiser: nothing is trained. Raises SettingsError for unknown names."""
    dataset: Dataset = named(DATASETS, data, "--data").load()
    kind: type[NoiseSchedule] = named(SCHEDULES, schedule, "--schedule")
    chosen = _chosen(dataset, np.arange(len(dataset)), image or FIRST_CHOICE.get(data, "0"), "")
    units = dataset.units
    images = _as_images(dataset.x_0(np.arange(len(dataset)))).double()  # as it computes: converted once
    model = Model(
        FiniteSetOracle(kind(T=T), images),
        variance="fixed-small",  # right for single points: what is left of them to guess is nothing
        levels=units.levels if isinstance(units, Levels) else None,
    )
    things = "points" if dataset.is_points else "images"
    name = _name_of(dataset, int(chosen[0]), "")
    return Subject(
        model=model,
        x_0=_as_images(dataset.x_0(chosen)),
        units=units,
        image=name,
        who="the exact denoiser",
        facts={
            "Data": f"{dataset.name}, {len(dataset):,} {things}, {_size(dataset.shape)}",
            "Image": name,
            "Schedule": _schedule_words(schedule, T) + ", as it begins" * (schedule == LEARNED),
            "Denoiser": "exact: no network, no training",
        },
        remark=_of_points(dataset.is_points)
        + f"In place of a network stands the exact denoiser of the {len(dataset):,} bundled {things}: it knows "
        "them all by heart and gives their mean, each weighted by how well it explains what is seen. A network has to "
        "learn this, and should not learn it quite so well.",
        known=dataset,
    )


def of_run(folder: Path, image: str | None = None) -> Subject:
    """A run with its newest good weights, and an image that it has not seen. Raises RunError where it is none."""
    run = Run.open(folder)
    set_machine_for_use(run.settings.machine)
    loaded = run.load(device="cpu")
    _require_images(run)
    x_0, name, condition, warnings = _image_of(run, image)
    parameters = sum(p.numel() for p in loaded.network.parameters())
    process = run.settings.process
    return Subject(
        model=loaded.model if condition is None else _given(loaded.model, condition),
        x_0=_as_images(x_0),
        units=run.data.units,
        image=name,
        who="the network",
        facts={
            "Run": printable(str(folder)),
            "Data": f"{run.data.name}, {_size(run.data.shape)}",
            "Image": name,
            "Schedule": _schedule_words(process.schedule, process.T),
            "Denoiser": f"{parameters:,} parameters, predicts {process.predicts}, after {loaded.step:,} steps",
        },
        remark=_words_of(run),
        warnings=(*run.warnings, *warnings),
        run=folder,
    )


def _words_of(run: Run) -> str:
    predicts = run.settings.process.predicts
    points = _of_points(is_points(run.data.shape))
    if predicts == "eps":
        return points
    return points + (
        f"The network of this run was trained to say {predicts}; by (2) that is one guess with an $x_0$ and an "
        "$\\eps$ of its own, and these are what the equations speak of."
    )


def _of_points(is_points: bool) -> str:
    if not is_points:
        return ""
    return f"A point is an image of two values. {CLOUD} of them are shown; the numbers are those of the red one. "


def _given(model: Model[NetworkDenoiser], given: Condition) -> Model[NetworkDenoiser]:
    """The same, for images of one condition alone."""
    network = model.denoiser.network

    def answer(x_t: Samples, time: Tensor, condition: Condition | None = None) -> Tensor:
        one = given.rows(torch.zeros(len(x_t), dtype=torch.int64)).to(x_t.device)
        return network(x_t, time, one if condition is None else condition)

    return replace(model, denoiser=replace(model.denoiser, network=answer))


def _image_of(run: Run, image: str | None) -> tuple[Samples, str, Condition | None, list[str]]:
    """A held-out image (or cloud of points), its name, its condition where the network needs it, and warnings.

    It is one that the run makes itself if the data are gone.
    """
    turn = run.condition()
    try:
        prepared = run.prepared()
    except KakusanError as error:
        number = _whole(image or "0")
        x_0 = _generated(run, number)
        told = f"the data are not here ({error.problem}), so the image is one that the run made itself"
        shown = None if turn is None else turn.rows(slice(number % len(turn), number % len(turn) + 1))
        return x_0, f"sample {number}", shown, [told]
    split = prepared.split
    kind, indices = ("held-out ", split.held_out) if len(split.held_out) else ("training ", split.training)
    chosen = _chosen(prepared.dataset, indices, image or "0", kind)
    place = int(np.flatnonzero(indices == chosen[0])[0])
    condition = None if turn is None else prepared.dataset.condition(chosen[:1])
    return (
        prepared.dataset.x_0(chosen),
        _name_of(prepared.dataset, int(chosen[0]), kind, place),
        condition,
        [],
    )


def _generated(run: Run, number: int) -> Samples:
    count = CLOUD if is_points(run.data.shape) else 1
    x_0 = run.sample(count, first=number, device="cpu")
    units = run.data.units
    return units.encode(units.decode(x_0)) if isinstance(units, Levels) else x_0


def _chosen(dataset: Dataset, indices: NDArray[np.int64], image: str, kind: str) -> NDArray[np.int64]:
    """The image of this number or name; where the data are points, the first of a cloud."""
    if image in dataset.captions and (index := dataset.captions.index(image)) in indices:
        one = index
    else:
        number = _whole(image)
        if number >= len(indices):
            raise SettingsError(
                f"there is no {kind}image {number}", f"there are {len(indices):,}, numbered from 0"
            )
        one = int(indices[number])
    others = spread(indices[indices != one], CLOUD - 1 if dataset.is_points else 0)
    return np.concatenate([[one], others])


def _whole(image: str) -> int:
    if not (image.isascii() and image.isdecimal()):
        raise SettingsError(
            f"there is no image {image!r}", "give its number, counted from 0, or its character or file name"
        )
    return int(image)


def _name_of(dataset: Dataset, index: int, kind: str, place: int | None = None) -> str:
    thing = "point" if dataset.is_points else "image"
    number = f"{kind}{thing} {index if place is None else place}"
    return f"{printable(dataset.captions[index])} ({number})" if dataset.captions else number


def _as_images(x: Samples) -> Samples:
    """Points as images of one pixel, as which the page draws them."""
    return x[:, :, None, None] if x.ndim == 2 else x


def _require_images(run: Run) -> None:
    """Raises SettingsError for a run of signals or volumes, and for one that takes masks of missing values."""
    if run.data.masked:
        raise SettingsError(
            f"the page follows all values of an image, and some of those of {run.folder} are missing",
            "its figures: kakusan report, kakusan evaluate",
        )
    if (kind := kind_of(run.data.shape)) not in ("points", "image"):
        raise SettingsError(
            f"the page draws images and points, and {run.folder} is of {kind}s", "see: kakusan report RUN"
        )


def _size(shape: tuple[int, ...]) -> str:
    if is_points(shape):
        return "in the plane"
    channels, height, width = shape
    return in_pixels(height, width) + {1: ", grey", 3: ", colour"}.get(channels, f", {channels} channels")


def _schedule_words(name: str, T: int) -> str:
    return f"{name}, T = {T:,}"


def time_of(subject: Subject, t: int | None) -> int:
    """The asked t, or the middle. Raises SettingsError outside of 1..T."""
    T = subject.schedule.T
    if t is None:
        return max(1, T // 2)
    if not 1 <= t <= T:
        raise SettingsError(f"t must be 1 to {T:,}, not {t}", "t = 0 is the image itself, t = T the noise")
    return t
