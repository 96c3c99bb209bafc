"""Samples of an open run: what they are given, what they are guided away from, and the record of how they were made."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from kakusan.config.machine import environment
from kakusan.data.asking import EACH, classes_at_once, rows_asked
from kakusan.data.saving import in_layout
from kakusan.data.space import noun_of
from kakusan.data.units import Levels, Units
from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.guidance import Composed, Guided
from kakusan.diffusion.model import Model
from kakusan.diffusion.variances import variance_named
from kakusan.errors import SettingsError
from kakusan.run.choosing import chosen_sampler
from kakusan.run.films import Films
from kakusan.run.opened import Loaded, OpenRun
from kakusan.samplers import SAMPLERS, Origin, Sampler, SamplingRequest, sample
from kakusan.samplers.auto import AUTO
from kakusan.samplers.spacings import OF_RUNS
from kakusan.shapes import Condition, Samples
from kakusan.storage.agreement import require_agreement
from kakusan.training.build import build_model, default_condition
from kakusan.training.guide import Guidance, composed_of, require_same_samples, snapshot_to_guide

WEAKER = "name a weaker model: --guide early, or --guide RUN"
"""Advice where there is no model without a condition to be guided away from."""
FAR_OUTSIDE = 2.0
"""Levels lie in [-1, 1]: values beyond this size are in other units."""


class Run(OpenRun):
    """A run's folder, opened: all of a `Run` but its edits."""

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
        mask: NDArray[Any] | Tensor | Path | str | None = None,
        exact: bool = False,
        device: str = "auto",
        images: Samples | None = None,
        t: int | None = None,
        guidance: Guidance | float | None = None,
        films: Films | None = None,
        progress: bool | None = None,
    ) -> Samples:
        """New images, in the network's units: `run.decode(images)` gives the data's own, in the axes of the data.

        count: 16 where none is given. sampler: the best in 10 steps where none is given, of what was distilled two
        calls (`sampler()`), or one by name; its times are spaced as the run says, unless it says how.
        label: a class, by name or number, "each" in turn, or several at once, "3:1+7:0.5", for composition.
        vector: numbers that describe the images, (k,) or (m, k), in their own units, or "thickness=0.3".
        condition: images that belong to them, an array as data files have it, or the path of an image, a folder or an
        array; image k is given the (k mod m)-th of m.
        mask: for runs that learned from data with missing values, where values are to be: "full", an array of booleans
        or with nan, in the axes of the data, or its file; one, or several in turn. The others are nan.
        images, t: start from these, with noise added up to time t, rather than from noise at T; one sample for each.
        guidance: its weight, or `Guidance` with all of it; images are then of the label, or of each class in turn.
        Where a run has learned vectors, pairs or masks and none are given, those of held-out samples are, in turn.
        films: `kakusan.run.Films("walk.webp", "strip.png")`: files that show the first of these images on their way.
        progress: show it; by default where somebody sees it. Image k of a seed is the same whatever the count.
        """
        origin = _origin(images, t, self.data.units)
        loaded = self.load(device=device)
        count = (16 if images is None else len(images)) if count is None else count
        numbers = {"count": count, "seed": seed, "first": first, "exact": exact, "origin": origin}
        guidance = Guidance(guidance) if isinstance(guidance, float | int) else guidance
        guidance, label = self.composed(guidance, label)
        mask = mask if mask is not None or images is None else _present_in(images)
        given = self.condition(label=label, vector=vector, image=condition, mask=mask, guidance=guidance)
        request = self.request(loaded, given, **numbers)
        chosen = self.sampler(AUTO if sampler is None else sampler)
        with (
            self._watching(f"sampling {request.count:,} {noun_of(request.shape).many}", progress) as show,
            (films or Films()).of(chosen, loaded.model.path, request, self.data.units) as watch,
        ):
            return sample(self.guided(loaded, guidance), chosen, request, show, watch=watch)

    def sampler(
        self,
        name: Sampler | str = AUTO,
        *,
        steps: int | str | None = None,
        spacing: str | None = None,
        at: Sequence[float] | None = None,
        **options: Any,
    ) -> Sampler:
        """The sampler of this name, with its options, at times that suit this run.

        name: "auto" is the best of a measured table (docs/samplers.md), in 10 steps or as many as are given, at the
        best times that the run knows for its newest weights: those of `kakusan tune`, or entropic ones, for which the
        report measures the errors, or trailing ones; of a distilled run the consistency sampler. A sampler by name or
        value is given the run's spacing unless it has one. steps: a number, "tuned:8", or
        "best:8" (ancestral). spacing: also "entropic".
        at: in place of both, the times one by one, falling, above 0 and up to T; the step to 0 is added.
        Raises SettingsError for names and options that there are not, RunError for times that have not been found.
        """
        return chosen_sampler(self, name, steps, spacing, {**options, "at": at})

    def decode(self, x: Samples) -> NDArray[Any]:
        """Samples in the units of the data, and in the axes in which these came: an array to go on with.

        Levels are uint8, real values float64, and values that a mask hides nan. Of data that are no array file the
        channels are last; `run.data.units.decode` has them last always.
        """
        return in_layout(self.data.units.decode(x), self.settings.data.layout)

    @contextmanager
    def _watching(self, title: str, progress: bool | None) -> Iterator[Callable[[float, str], None]]:  # noqa: ARG002
        """A context with the progress callback, (share, words), of a sampling: here one that shows nothing."""
        yield lambda _, __: None

    def guided(self, loaded: Loaded, guidance: Guidance | None, instead: str = WEAKER) -> Model[Denoiser]:
        """The model of these weights under guidance; as it is without any.

        instead: advice beside another training, where there is no model without a condition.
        Raises SettingsError where there is nothing to be guided away from, or the guide is of other samples.
        """
        return self._guided(loaded, guidance, instead)[0]

    def _guided(
        self, loaded: Loaded, guidance: Guidance | None, instead: str = WEAKER
    ) -> tuple[Model[Denoiser], dict[str, Any]]:
        """The same, and what a record of the samples says of it."""
        model: Model[Denoiser] = loaded.model
        if guidance is None:
            return model, {}
        if guidance.classes:
            self._require_a_null_condition(instead)
            parts = tuple((number, guidance.weight * share) for number, share in guidance.classes)
            model = replace(model, denoiser=Composed(model.denoiser, parts))
            return model, {"guidance": guidance.as_json()}
        weak, about = self._guide(loaded, guidance, instead), guidance.as_json()
        about |= {} if weak is None else {"guide_step": weak.step}
        denoiser = None if weak is None else weak.model.denoiser.on(model.path)
        of = Guided(model.denoiser, guidance.weight, denoiser, guidance.interval, guidance.rescale)
        return replace(model, denoiser=of), {"guidance": about}

    def _require_a_null_condition(self, instead: str) -> None:
        """Raises SettingsError where the model without a condition, the weak side, is not there."""
        if not self.data.is_conditional:
            raise SettingsError(
                f"{self.folder} has learned no classes or other conditions to be guided to",
                f"train with --data.labels, --data.vectors or --data.pairs, or {instead}",
            )
        if not self.settings.network.null_label or not self.settings.data.condition_dropout:
            raise SettingsError(
                f"{self.folder} was shown no sample without its condition, which guidance goes away from",
                f"train with --data.condition-dropout 0.1, or {instead}",
            )

    def _guide(self, loaded: Loaded, guidance: Guidance, instead: str) -> Loaded | None:
        """The model to guide away from; None where it is the same model, without a condition."""
        if guidance.guide is None:
            self._require_a_null_condition(instead)
            return None
        if guidance.is_early:
            return self.early(loaded, guidance.early_step)
        return self._other_run(loaded, Path(guidance.guide))

    def early(self, loaded: Loaded, step: int | None = None) -> Loaded:
        """Less trained weights of this run, kept by `checkpoint.snapshots`, on the machine of those that are loaded.

        step: None leaves the choice to `kakusan.training.guide.early_of`. Raises RunError where there is none.
        """
        found = snapshot_to_guide(self.files, loaded.step, step)
        checkpoint = self.files.load_snapshot(found, loaded.device)
        require_agreement(self.files, self.settings, checkpoint)
        settings = replace(self.settings, machine=loaded.settings.machine)
        network = self._network(settings, checkpoint, "ema")
        return Loaded(build_model(settings, network, self.data.units), network, found, settings)

    def _other_run(self, loaded: Loaded, folder: Path) -> Loaded:
        guide = type(self).open(folder)
        weak = guide.load(device=loaded.device)
        ours = loaded.model.path
        require_same_samples(guide, self, (weak.model.denoiser.on(ours).path, ours))
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
        mask: NDArray[Any] | Tensor | Path | str | None = None,
        guidance: Guidance | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> Condition | None:
        """The condition of samples, as `sample` takes it: rows that they take in turn, or the usual ones.

        With guidance and no label, each class in turn. say: called with a line on what was scaled. Masks that are
        not given are those that the run keeps: all of them in turn, or as many as there are other rows. Raises
        SettingsError for what the run has not learned, and for rows of different numbers.
        """
        if label is vector is image is None and guidance is not None and not guidance.classes:
            label = EACH if self.data.class_names and not self.data.has_examples else None
        if label is vector is image is mask is None:
            kept = self._kept
            if kept is not None and guidance is not None and guidance.classes:
                kept = None if kept.mask is None else Condition(mask=kept.mask)
            return default_condition(self.settings, self.data, kept)
        rows = rows_asked(
            self.data,
            self.folder,
            self.settings.data.layout,
            label=label,
            vector=vector,
            image=image,
            mask=mask,
            say=say,
        )
        most = max(map(len, rows.values()))
        if "mask" not in rows and (kept := self._kept) is not None and kept.mask is not None:
            most = len(kept.mask) if most == 1 else most
            rows["mask"] = kept.mask[torch.arange(most) % len(kept.mask)]
        return Condition(**{name: x.expand(most, *x.shape[1:]) for name, x in rows.items()})

    @property
    def _kept(self) -> Condition | None:
        """The condition that the run keeps as examples, if it has any."""
        kept = self.files.conditions()
        return None if kept is None else Condition(**kept)

    def composed(
        self, guidance: Guidance | None, label: str | int | None
    ) -> tuple[Guidance | None, str | int | None]:
        """The guidance and the label, where a label such as "3:1+7:0.5" names several classes at once.

        Raises SettingsError for what composition does not have.
        """
        parts = classes_at_once(label, self.data, self.folder)
        return (guidance, label) if parts is None else (composed_of(guidance, parts), None)

    def sample_with_record(
        self,
        loaded: Loaded,
        sampler: Sampler,
        request: SamplingRequest,
        progress: Callable[[float, str], None] = lambda _, __: None,
        guidance: Guidance | None = None,
        films: Films | None = None,
    ) -> tuple[Samples, dict[str, Any]]:
        """The requested images, on the CPU, and all that it takes to make them again, as plain values."""
        begun = time.perf_counter()
        model, about_guidance = self._guided(loaded, guidance)
        with (films or Films()).of(sampler, model.path, request, self.data.units) as watch:
            x_0 = sample(model, sampler, request, progress, keep_on="cpu", watch=watch)
        numbers = ("count", "seed", "first", "micro_batch", "exact")
        return x_0, {
            **sampler_as_json(sampler),
            "run": str(self.folder),
            "checkpoint": loaded.step,
            "weights": loaded.weights,
            "steps": len(sampler.times(loaded.model.path)) - 1,
            "variance": variance_named(loaded.model.variance).name,
            "clip": loaded.model.clip,
            **about_guidance,
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
        if self.data.masked:
            mask = None if condition is None else condition.mask
            about["missing"] = 0.0 if mask is None else 1 - float(mask.mean())
        return about


def _origin(images: Samples | None, t: int | None, units: Units) -> Origin | None:
    """The start of a sampling, if not from noise. Raises TypeError where one of the two is missing, and for images
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
    return Origin(images.nan_to_num(0, torch.inf, -torch.inf), t)


def _present_in(images: Samples) -> Samples | None:
    """The masks of samples to start from, of which some values are missing; None where none is."""
    return None if not images.isnan().any() else (~images.isnan()).to(images)


def sampler_as_json(sampler: Sampler) -> dict[str, Any]:
    """A sampler with all its fields, by its name: what a record of samples says of it."""
    return {
        **asdict(sampler),
        "sampler": {kind: name for name, kind in SAMPLERS.items()}.get(type(sampler), repr(sampler)),
        "spacing": sampler.spacing if sampler.at is None or sampler.spacing in OF_RUNS else None,
    }
