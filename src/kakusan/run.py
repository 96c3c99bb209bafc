"""A run, opened for use: its data, its denoiser, its samples. What commands work with, and `kakusan.Run` too."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from kakusan.config.loading import with_values
from kakusan.config.machine import environment, resolve_machine
from kakusan.config.settings import ProcessSettings, Settings, answered
from kakusan.data import Dataset
from kakusan.data.asking import (
    array_conditions,
    encoded_vectors,
    far_from_learned,
    images_asked,
    vectors_asked,
)
from kakusan.data.conditions import fitted
from kakusan.data.dataset import Progress, silent
from kakusan.data.record import DataRecord
from kakusan.data.space import noun_of
from kakusan.data.units import Levels, Real, Units
from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.guidance import Composed, Guided
from kakusan.diffusion.model import Model
from kakusan.diffusion.variances import Analytic, variance_named
from kakusan.errors import KakusanError, RunError, SettingsError, quoted
from kakusan.samplers import (
    SAMPLERS,
    Origin,
    Sampler,
    SamplingRequest,
    as_sampler,
    sample,
    sampler_named,
)
from kakusan.shapes import Condition, Samples
from kakusan.storage.agreement import fitting, require_agreement
from kakusan.storage.run_folder import RunFolder
from kakusan.training.build import build_model, build_network, usual_condition
from kakusan.training.launch import stored_settings
from kakusan.training.losses import NetworkModel
from kakusan.training.prepare import Prepared, doubt_of_held_out, reopen_data
from kakusan.training.verdicts import LossGap, Trained, hardly_learned, loss_gap

EACH = "each"
"""The label that stands for each class in turn."""
FAR_OUTSIDE = 2.0
"""Levels lie in [-1, 1]: values beyond this size are in other units."""


@dataclass(frozen=True)
class Loaded:
    """Weights of a run in a network, ready to be asked."""

    model: NetworkModel
    network: nn.Module
    step: int
    settings: Settings
    """Those of the run, with the machine of today."""
    weights: str = "ema"

    @property
    def analytic_key(self) -> dict[str, Any]:
        """What the errors of its guesses depend on."""
        return {
            "step": self.step,
            "weights": self.weights,
            "clip": self.model.clip,
            "precision": self.settings.machine.precision,
        }

    @property
    def device(self) -> str:
        return self.settings.machine.device


@dataclass(frozen=True)
class Guidance:
    """Guidance of a sampling: see `kakusan.diffusion.guidance.Guided`.

    weight: 1 is none, 0 the weak side alone. interval: (lowest, highest) t at which to guide. rescale: 0 to 1.
    guide: the folder of a weaker run, for autoguidance; None: the same weights without a class (classifier-free).
    """

    weight: float
    interval: tuple[float, float] | None = None
    rescale: float = 0.0
    guide: Path | None = None
    classes: tuple[tuple[int, float], ...] = ()
    """(class, share) pairs: several classes at once, each with its share of the weight (composition)."""

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "guide": None if self.guide is None else str(self.guide)}


class Run:
    """A training and all that came of it, in one folder.

    `kakusan.train` makes one; `Run.open` finds it again. Raises RunError where the folder is none.
    """

    def __init__(self, folder: RunFolder, in_memory: Dataset | None = None) -> None:
        self.files = folder
        self.warnings: list[str] = []
        self._in_memory = in_memory

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """The run in this folder."""
        return cls(RunFolder.open(Path(folder)))

    def __repr__(self) -> str:
        kind, steps = type(self).__name__, self.files.steps
        try:
            words = f"{self.data.name}, step {steps[-1] if steps else 0} of {self.settings.training.steps}"
        except KakusanError as error:  # whatever has become of the folder, it can be shown
            words = error.problem
        return f"<{kind} {self.folder}: {words}>"

    @property
    def folder(self) -> Path:
        return self.files.folder

    @cached_property
    def settings(self) -> Settings:
        """The resolved settings, as in config.toml."""
        return stored_settings(self.files)

    @cached_property
    def data(self) -> DataRecord:
        """What the run remembers of its data: shape, units, classes."""
        return DataRecord.read(self.files.data)

    def prepared(self, progress: Progress = silent) -> Prepared:
        """Its images, divided as they were when it began. Raises RunError, DataError where they are not here."""
        return reopen_data(self.settings, self.files.data, progress, in_memory=self._in_memory)

    def load(
        self,
        *,
        weights: Literal["ema", "model"] = "ema",
        step: int | None = None,
        device: str = "auto",
        precision: Literal["auto", "fp32", "bf16"] = "auto",
        variance: str | None = None,
        sigma_1: str | None = None,
        clip: bool | None = None,
    ) -> Loaded:
        """The newest good weights (or those of a step) in a network; "auto" is as trained, if that device is here.

        variance, sigma_1, clip: as the run says unless given; "analytic" needs what `kakusan evaluate` estimates.
        """
        settings = self._for_use(device, precision)
        checkpoint = self.files.load(
            self.warnings.append, step=step, parts=[weights], device=settings.machine.device
        )
        require_agreement(self.files, self.settings, checkpoint)
        with fitting(self.files, checkpoint):
            network = build_network(settings, self.data)
            network.load_state_dict(checkpoint.tensors[weights])
        network.eval().requires_grad_(requires_grad=False)
        fixed = None if variance == Analytic.name else variance
        given = {"process.variance": fixed, "process.sigma_1": sigma_1, "process.clip": clip}
        settings = with_values(settings, {k: value for k, value in given.items() if value is not None})
        if settings.process.clip and isinstance(self.data.units, Real):
            raise SettingsError("real data have no bounds to clip to")
        model = build_model(settings, network, self.data.units)
        loaded = Loaded(model, network, checkpoint.step, settings, weights)
        return self.with_analytic_variance(loaded) if variance == Analytic.name else loaded

    def with_analytic_variance(self, loaded: Loaded) -> Loaded:
        """The same with the best variance for its guesses. Raises RunError where it has not been estimated."""
        key = loaded.analytic_key
        errors = self.files.analytic(key) or self.files.analytic({**key, "precision": "fp32"})
        if errors is None:
            flags = " --weights model" * (loaded.weights == "model")
            if bool(self.settings.process.clip) != (loaded.model.clip is not None):
                flags += f" --clip {'no' if loaded.model.clip is None else 'yes'}"
            raise RunError(
                f"the analytic variance of {self.folder} at step {loaded.step} has not been estimated",
                f"to do so, from its training images: kakusan evaluate {quoted(self.folder)} "
                f"--variance analytic{flags}",
            )
        best = Analytic(torch.tensor(errors, dtype=torch.float64))
        return replace(loaded, model=replace(loaded.model, variance=best))

    def _for_use(self, device: str, precision: Literal["auto", "fp32", "bf16"]) -> Settings:
        machine = self.settings.machine
        try:
            resolve_machine(replace(machine, device=machine.device if device == "auto" else device))
            device = machine.device if device == "auto" else device
        except SettingsError:
            if device != "auto":
                raise
        if device != machine.device:  # trained elsewhere: what that machine chose does not bind this one
            machine = replace(machine, device=device, layout="auto", threads="auto", precision="auto")
        if precision != "auto":
            machine = replace(machine, precision=precision)
        return replace(self.settings, machine=resolve_machine(machine))

    def model(
        self,
        weights: Literal["ema", "model"] = "ema",
        device: str = "auto",
        precision: Literal["auto", "fp32", "bf16"] = "auto",
    ) -> NetworkModel:
        """The trained network, on averaged weights, with path, variance and clipping; bounds want precision "fp32"."""
        return self.load(weights=weights, device=device, precision=precision).model

    def sample(
        self,
        count: int | None = None,
        sampler: Sampler | str | None = None,
        *,
        seed: int = 0,
        first: int = 0,
        label: str | int | None = None,
        vector: ArrayLike | str | None = None,
        condition: Samples | NDArray[Any] | Path | str | None = None,
        exact: bool = False,
        device: str = "auto",
        images: Samples | None = None,
        t: int | None = None,
        guidance: Guidance | float | None = None,
        progress: bool | None = None,
    ) -> Samples:
        """New images, in the network's units: `run.data.units.decode(images)` gives the data's own.

        count: 16 where none is given. sampler: DDIM in 50 steps where none is given, or one by name; its times are
        spaced as the run says, unless it says how.
        label: a class, by name or number, "each" in turn, or several at once, "3:1+7:0.5", for composition.
        vector: numbers that describe the images, (k,) or (m, k), in their own units, or "thickness=0.3".
        condition: images that belong to them, an array as data files have it, or the path of an image, a folder or an
        array; image k is given the (k mod m)-th of m.
        images, t: start from these, with noise added up to time t, rather than from noise at T; one sample for each.
        guidance: its weight, or `Guidance` with all of it; images are then of the label, or of each class in turn.
        Where a run has learned vectors or pairs and none are given, those of held-out samples are, in turn.
        progress: show it; by default where somebody sees it. Image k of a seed is the same whatever the count.
        """
        origin = _origin(images, t, self.data.units)
        loaded, process = self.load(device=device), self.settings.process
        count = (16 if images is None else len(images)) if count is None else count
        numbers = {"count": count, "seed": seed, "first": first, "exact": exact, "origin": origin}
        guidance = Guidance(guidance) if isinstance(guidance, float | int) else guidance
        guidance, label = self.composed(guidance, label)
        given = self.condition(label=label, vector=vector, image=condition, guidance=guidance)
        request = self.request(loaded, given, **numbers)
        chosen = usual_sampler(process) if sampler is None else as_sampler(sampler, process.T)
        chosen = replace(chosen, spacing=chosen.spacing or process.spacing)
        with self._watching(f"sampling {request.count:,} {noun_of(request.shape).many}", progress) as watch:
            return sample(self.guided(loaded, guidance), chosen, request, watch)

    @contextmanager
    def _watching(self, title: str, progress: bool | None) -> Iterator[Callable[[float, str], None]]:  # noqa: ARG002
        """Who is told how far a sampling has come: here nobody."""
        yield lambda _, __: None

    def guided(self, loaded: Loaded, guidance: Guidance | None) -> Model[Denoiser]:
        """The model of these weights under guidance; as it is without any.

        Raises SettingsError where there is nothing to be guided away from, or the guide is of other samples.
        """
        model: Model[Denoiser] = loaded.model
        if guidance is None:
            return model
        if guidance.guide is None:
            self._require_a_null_condition()
        if guidance.classes:
            parts = tuple((number, guidance.weight * share) for number, share in guidance.classes)
            return replace(model, denoiser=Composed(model.denoiser, parts))
        weak = None if guidance.guide is None else self._guide(loaded, guidance.guide)
        of = Guided(model.denoiser, guidance.weight, weak, guidance.interval, guidance.rescale)
        return replace(model, denoiser=of)

    def _require_a_null_condition(self) -> None:
        """Raises SettingsError where the model without a condition, the weak side, is not there."""
        if not self.data.is_conditional:
            raise SettingsError(
                f"{self.folder} has learned no classes or other conditions to be guided to",
                "train with --data.labels, --data.vectors or --data.pairs, or name a weaker run: --guide RUN",
            )
        if not self.settings.network.null_label or not self.settings.data.label_dropout:
            raise SettingsError(
                f"{self.folder} was shown no image without its condition, which guidance goes away from",
                "train with --data.label-dropout 0.1, or name a weaker run: --guide RUN",
            )

    def _guide(self, loaded: Loaded, folder: Path) -> Denoiser:
        guide = type(self).open(folder)
        weak = guide.load(device=loaded.device).model.denoiser
        if guide.data.shape != self.data.shape or weak.path != loaded.model.path:
            raise SettingsError(
                f"{folder} cannot guide {self.folder}: its samples are of {guide.data.shape} on {weak.path},"
                f" these of {self.data.shape} on {loaded.model.path}",
                "a guide is a smaller or less trained run on the same data and the same process",
            )
        if guide.data.class_names not in ((), self.data.class_names):
            raise SettingsError(f"{folder} cannot guide {self.folder}: it has learned other classes")
        if (guide.data.vectors, guide.data.pairs) != (self.data.vectors, self.data.pairs):
            raise SettingsError(f"{folder} cannot guide {self.folder}: it has learned other vectors or pairs")
        return weak

    def request(self, loaded: Loaded, condition: Condition | None, **numbers: Any) -> SamplingRequest:
        """Images of this run under a condition: of its shape, on the device of these weights.

        numbers: count, seed, first, exact and origin, as `SamplingRequest` has them.
        """
        return SamplingRequest(
            shape=self.data.shape,
            condition=condition,
            micro_batch=loaded.settings.machine.micro_batch,
            device=loaded.device,
            **numbers,
        )

    def condition(
        self,
        *,
        label: str | int | None = None,
        vector: ArrayLike | str | None = None,
        image: Samples | NDArray[Any] | Path | str | None = None,
        guidance: Guidance | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> Condition | None:
        """What samples are to be given, as `sample` takes it: rows that they take in turn, or the usual ones.

        With guidance and no label, each class in turn. say: is told what was scaled, and which number is far from all
        that was learned. Raises SettingsError for what the run has not learned, and for rows of different numbers.
        """
        if label is vector is image is None and guidance is not None and not guidance.classes:
            label = EACH if self.data.class_names and not self._has_examples else None
        if label is vector is image is None:
            kept = self.files.conditions() if guidance is None or not guidance.classes else None
            return usual_condition(self.settings, self.data, None if kept is None else Condition(**kept))
        given = {
            "label": self._labels(label),
            "vector": self._vectors(vector, say),
            "image": self._condition_images(image, say),
        }
        rows = {name: tensor for name, tensor in given.items() if tensor is not None}
        most = max(map(len, rows.values()))
        if wrong := [f"{len(x)} of {name}" for name, x in rows.items() if len(x) not in (1, most)]:
            raise SettingsError(
                f"{wrong[0]} and {most} of another condition do not go together", "give one, or as many"
            )
        return Condition(**{name: x.expand(most, *x.shape[1:]) for name, x in rows.items()})

    @property
    def _has_examples(self) -> bool:
        return self.data.vectors is not None or self.data.pairs is not None

    def _labels(self, label: str | int | None) -> Tensor | None:
        if label is None:
            return None
        if label == EACH and self.data.class_names:
            return torch.arange(len(self.data.class_names))
        return torch.tensor([self.class_number(str(label))])

    def _vectors(self, vector: ArrayLike | str | None, say: Callable[[str], None]) -> Tensor | None:
        if vector is None:
            return None
        if (form := self.data.vectors) is None:
            raise SettingsError(f"{self.folder} has learned no vectors", "leave the vector out")
        vectors = vectors_asked(vector, form) if isinstance(vector, str) else encoded_vectors(vector, form)
        if note := far_from_learned(vectors, form):
            say(note)
        return vectors

    def _condition_images(
        self, image: Samples | NDArray[Any] | Path | str | None, say: Callable[[str], None]
    ) -> Tensor | None:
        if image is None:
            return None
        if (form := self.data.pairs) is None:
            raise SettingsError(
                f"{self.folder} was not trained on pairs",
                "leave the condition out, or train with --data.pairs",
            )
        size = self.data.shape[1:]
        if isinstance(image, torch.Tensor):
            return fitted(image, size)
        if not isinstance(image, str | Path):
            return fitted(array_conditions(np.asarray(image), form, "the condition"), size)
        images, notes = images_asked(Path(image), form, size)
        for note in notes:
            say(note)
        return images

    def composed(
        self, guidance: Guidance | None, label: str | int | None
    ) -> tuple[Guidance | None, str | int | None]:
        """The guidance and the label, where a label such as "3:1+7:0.5" names several classes at once.

        Raises SettingsError for what composition does not have.
        """
        text = str(label)
        if label is None or "+" not in text or text in self.data.class_names:
            return guidance, label
        parts = []
        for part in text.split("+"):
            name, _, share = part.rpartition(":") if ":" in part else (part, "", "1")
            try:
                parts.append((self.class_number(name.strip()), float(share)))
            except ValueError:
                raise SettingsError(
                    f"the share of a class is a number, not {share!r}", "--label 3:1+7:0.5"
                ) from None
        guidance = guidance or Guidance(1.0)
        if guidance.guide is not None or guidance.interval is not None or guidance.rescale:
            raise SettingsError(
                "several classes at once take no guide, interval or rescale", "leave them out"
            )
        return replace(guidance, classes=tuple(parts)), None

    def sample_with_record(
        self,
        loaded: Loaded,
        sampler: Sampler,
        request: SamplingRequest,
        progress: Callable[[float, str], None] = lambda _, __: None,
        guidance: Guidance | None = None,
    ) -> tuple[Samples, dict[str, Any]]:
        """The requested images, on the CPU, and all that it takes to make them again, as plain values."""
        begun = time.perf_counter()
        x_0 = sample(self.guided(loaded, guidance), sampler, request, progress, keep_on="cpu")
        numbers = ("count", "seed", "first", "micro_batch", "exact")
        return x_0, {
            **asdict(sampler),
            "run": str(self.folder),
            "checkpoint": loaded.step,
            "weights": loaded.weights,
            "sampler": {kind: name for name, kind in SAMPLERS.items()}.get(type(sampler), repr(sampler)),
            "steps": len(sampler.times(loaded.model.path)) - 1,
            "spacing": sampler.spacing,
            "variance": variance_named(loaded.model.variance).name,
            "clip": loaded.model.clip,
            **({} if guidance is None else {"guidance": guidance.as_json()}),
            **{name: getattr(request, name) for name in numbers},
            **self._condition_as_json(request.condition),
            "machine": asdict(loaded.settings.machine),
            "environment": environment(loaded.settings.machine),
            "units": self.data.units.to_state(),
            "rounded": isinstance(self.data.units, Levels),
            "seconds": round(time.perf_counter() - begun, 3),
        }

    def _condition_as_json(self, condition: Condition | None) -> dict[str, Any]:
        """The classes, vectors and number of condition images that samples were given in turn."""
        given = None if condition is None else condition.label
        labels = None if given is None else given.tolist()
        about: dict[str, Any] = {"label": labels[0] if labels is not None and len(labels) == 1 else labels}
        about["conditions"] = 0 if condition is None else len(condition)
        if condition is not None and condition.vector is not None and (form := self.data.vectors) is not None:
            about["vector_names"], about["vectors"] = form.names, form.decode(condition.vector).tolist()
        return about

    def class_number(self, label: str) -> int:
        """The number of a class given by name or number. Raises SettingsError if there is none."""
        names = self.data.class_names
        if not names:
            raise SettingsError(f"{self.folder} has learned no classes", "leave the label out")
        if label in names:
            return names.index(label)
        if label.isdecimal() and int(label) < len(names):
            return int(label)
        raise SettingsError(f"there is no class {label!r}", f"classes: {', '.join(names[:20])}")

    def hardly_learned(self, step: int) -> str:
        """A sentence where the weights of this step know hardly more of the data than mean and spread; else empty."""
        settings = self.settings
        return hardly_learned(
            Trained(
                lines=self._lines_to(step),
                step=step,
                warmup=answered(settings.training.warmup),
                batch_size=answered(settings.training.batch_size),
                predicts=settings.process.predicts,
                loss=settings.training.loss,
                continued="weights_from" in self.files.data or "imported" in self.files.data,
            )
        )

    def loss_gap(self, step: int) -> LossGap | None:
        """The losses on training and on held-out images that were measured last, up to this step."""
        return loss_gap(self._lines_to(step), self.doubt)

    @property
    def doubt(self) -> str:
        """Why it is not known that its held-out images are new to it; empty where it is."""
        return doubt_of_held_out(self.files.data)

    def _lines_to(self, step: int) -> list[dict[str, Any]]:
        return [line for line in self.files.metrics() if line.get("step", 0) <= step]


def _origin(images: Samples | None, t: int | None, units: Units) -> Origin | None:
    """Where a sampling starts, if not from noise. Raises TypeError where one of the two is missing, and for images
    that are not in the network's units."""
    if images is None and t is None:
        return None
    if images is None or t is None:
        raise TypeError("to start from images, give both images and t, the time up to which noise is added")
    is_encoded = isinstance(images, torch.Tensor) and images.is_floating_point()
    if not is_encoded or (isinstance(units, Levels) and float(images.abs().max()) > FAR_OUTSIDE):
        raise TypeError(
            "images to start from are floats in the network's units"
            + (", -1 to 1" if isinstance(units, Levels) else "")
            + ": run.data.units.encode(array), of shape (n, height, width, channels)"
        )
    return Origin(images, t)


def usual_sampler(process: ProcessSettings) -> Sampler:
    """DDIM in 50 steps, or in T where there are fewer, spaced as the run says."""
    return sampler_named("ddim", process.T, spacing=process.spacing)
