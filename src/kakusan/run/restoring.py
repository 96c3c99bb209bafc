"""Samples of an open run given a measurement: y = A(x) + noise in the units of the data."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from kakusan.config.facts import USUAL_METHOD
from kakusan.config.machine import environment
from kakusan.config.section import named
from kakusan.data.measured import observed_of, truth_of
from kakusan.data.measuring import files_named, operator_of
from kakusan.data.units import scale_and_mean
from kakusan.errors import NumbersError, SettingsError
from kakusan.operators import Operator
from kakusan.posterior import (
    METHODS,
    Exact,
    Measurement,
    Method,
    Noise,
    Restoration,
    Unknown,
    fitted_noise,
    restored,
)
from kakusan.posterior.exact import no_oracle
from kakusan.run import editing
from kakusan.run.editing import Watching
from kakusan.run.noise import noise_of
from kakusan.run.opened import Loaded
from kakusan.run.posterior import Posterior
from kakusan.run.room import require_room
from kakusan.run.sampling import sampler_as_json
from kakusan.samplers import Sampler
from kakusan.shapes import Condition, Samples, with_gaps
from kakusan.storage.durable import sha256_of
from kakusan.training.guide import Guidance

Observed: TypeAlias = NDArray[Any] | Tensor | Path | str
"""y: an array in the axes of the data, nan where nothing was measured, or its file, or a picture."""
AnyOperator: TypeAlias = Operator | str | Sequence[str]
"""An operator, or its words: "gauss:1.5", or ["gauss:1.5", "down:4"] for one after the other."""
AnyNoise: TypeAlias = Noise | float | int | NDArray[Any] | Tensor | str
"""A noise, its deviation in the units of y, a map of it, or its words: "5%", "poisson:2", "auto"."""

UNGUIDED = "leave --guidance out"
"""Advice in place of `--guide`, which restorations do not have."""


class Run(editing.Run):
    """A training and all that came of it, in one folder.

    `kakusan.train` makes one; `Run.open` finds it again. Raises RunError where the folder is none.
    """

    def measurement(self, observed: Observed, operator: AnyOperator, noise: AnyNoise = "auto") -> Measurement:
        """What was measured of samples of this run, as a likelihood. All as `restore` has it.

        Raises SettingsError and DataError where operator, noise and y do not fit each other or the run.
        """
        shape, layout, units = self.data.shape, self.settings.data.layout, self.data.units
        of = operator_of(operator, shape, layout=layout)
        law = noise_of(noise, units, of.measured_shape(shape), layout=layout)
        y = observed_of(observed, of, shape, units, layout=layout)
        scale, mean = scale_and_mean(units)
        return Measurement(of, y, law, shape, scale, mean)

    def truth(self, x: Observed) -> Samples:
        """x itself, (n, channels, *space) in the network's units, of an array in those of the data, or of a file.

        Raises DataError for what no sample of this run can be.
        """
        shape, layout, units = self.data.shape, self.settings.data.layout, self.data.units
        return truth_of(x, shape, units, layout=layout, with_gaps=self.data.masked)

    def method(
        self,
        name: Method | str = USUAL_METHOD,
        *,
        sampler: Sampler | str | None = None,
        steps: int | None = None,
        spacing: str | None = None,
        **options: Any,
    ) -> Method:
        """The method of this name, with its options.

        sampler, steps, spacing: of methods that walk with a sampler, in place of its own.
        Raises SettingsError for names and options that there are not, and for "exact", which is of oracles.
        """
        if isinstance(sampler, str):
            sampler, steps, spacing = self.sampler(sampler, steps=steps, spacing=spacing), None, None
        chosen = chosen_method(name, sampler, steps, spacing, options)
        if isinstance(chosen, Exact):
            raise no_oracle()
        return chosen

    def restore(
        self,
        observed: Observed,
        operator: AnyOperator,
        noise: AnyNoise = "auto",
        method: Method | str = USUAL_METHOD,
        *,
        count: int = 16,
        seed: int = 0,
        first: int = 0,
        steps: int | None = None,
        truth: Observed | None = None,
        label: str | int | None = None,
        vector: ArrayLike | str | None = None,
        condition: Samples | NDArray[Any] | Path | str | None = None,
        mask: NDArray[Any] | Tensor | Path | str | None = None,
        guidance: Guidance | float | None = None,
        weights: Literal["ema", "model"] = "ema",
        device: str = "auto",
        precision: Literal["auto", "fp32", "bf16"] = "auto",
        progress: bool | None = None,
        watching: Watching | None = None,
        **options: Any,
    ) -> Posterior:
        """Samples of x given y = A(x) + noise, all in the units of the data: `kakusan restore`.

        observed: y, of one x or of several, in the axes of the data, nan where nothing was measured; or its file.
        operator: A, or its words, such as "mask:hide-left", "gauss:1.5", "down:4". noise: its law, its deviation, or
        words; "auto" fits the deviation of Gaussian noise. method: "mmps" unless named, see docs/restore.md; steps: of
        its walk; options: all others of the method, such as particles=8. count: samples of each y; sample k of a seed
        is the same whatever the count. truth: x, where it is known, one for each
        y, for comparison. watching: in place of the display of progress. All else: as `sample` and `load` have it.
        """
        measurement = self.measurement(observed, operator, noise)
        known = None if truth is None else self._truths(truth, len(measurement))
        chosen = self.method(method, steps=steps, **options)
        request = Restoration(count=count, seed=seed, first=first)
        loaded = self.load(weights=weights, device=device, precision=precision)
        guidance = Guidance(guidance) if isinstance(guidance, float | int) else guidance
        guidance, label = self.composed(guidance, label)
        given = self.condition(label=label, vector=vector, image=condition, mask=mask, guidance=guidance)
        request = replace(
            request,
            condition=given,
            micro_batch=loaded.settings.machine.micro_batch,
            device=loaded.device,
        )
        return self._restored(
            measurement,
            chosen,
            request,
            loaded,
            guidance=guidance,
            truth=known,
            inputs=inputs_as_json(operator, noise, observed, truth),
            watch=watching or (lambda title: self._watching(title, progress)),
        )

    def _truths(self, images: Observed, n: int) -> Samples:
        """The x of n measurements. Raises SettingsError where they are not as many."""
        truth = self.truth(images)
        if len(truth) != n:
            raise SettingsError(
                f"{n:,} measurement{'s' * (n > 1)} and {len(truth):,} true x: their numbers differ",
                "give the x of each measurement, in the same order",
            )
        return truth

    def _restored(
        self,
        measurement: Measurement,
        method: Method,
        request: Restoration,
        loaded: Loaded,
        *,
        guidance: Guidance | None = None,
        truth: Samples | None = None,
        inputs: Mapping[str, Any],
        watch: Watching,
    ) -> Posterior:
        """Samples given y, with the record of how they were made. An unknown noise is fitted first.

        inputs: operator, noise and files as they were named, for the record.
        """
        require_room(len(measurement) * request.count, measurement.shape)
        model, doubts = self.guided(loaded, guidance, UNGUIDED), list(self._doubts(loaded))
        begun, about = time.perf_counter(), dict[str, Any]()
        if isinstance(measurement.law, Unknown):
            with watch("the noise of what was measured") as show:
                found = fitted_noise(model, measurement, method, replace(request, count=8), show)
            measurement = replace(measurement, noise=found.sigma)
            about["fitted_noise"] = {"sigma": found.sigma, "error": found.error, "words": found.words}
            if not found.is_settled:
                doubts.append(found.words)
        doubts += method.doubts(measurement, model.path)
        with watch(f"{request.count:,} sample{'s' * (request.count > 1)} given what was measured") as show:
            done = restored(model, measurement, method, request, show)
        if bad := int((~done.samples.isfinite()).flatten(2).any(2).sum()):
            raise NumbersError(
                f"{bad:,} of {done.samples.shape[0] * done.samples.shape[1]:,} samples hold values that are not finite",
                "take more steps, or another method",
            )
        if done.effective is not None:
            about["effective_particles"] = done.effective.tolist()
        return Posterior(
            run=self.folder.name,
            units=self.data.units,
            layout=self.settings.data.layout,
            measurement=measurement,
            samples=_with_gaps(done.samples, request.condition),
            truth=truth,
            about={
                **method_as_json(method),
                "operator": in_words(measurement.operator),
                "noise": in_words(measurement.law),
                **inputs,
                **about,
                "measured": {"shape": list(measurement.y.shape), "sha256": _digest(measurement.y)},
                "run": str(self.folder.resolve()),
                "checkpoint": loaded.step,
                "weights": loaded.weights,
                "count": request.count,
                "seed": request.seed,
                "first": request.first,
                **({} if guidance is None else {"guidance": guidance.as_json()}),
                **self._condition_as_json(request.condition),
                "calls_per_sample": done.calls,
                "backward_per_sample": done.backward,
                "machine": asdict(loaded.settings.machine),
                "environment": environment(loaded.settings.machine),
                "units": self.data.units.to_state(),
                "seconds": round(time.perf_counter() - begun, 3),
            },
            doubts=doubts,
        )

    def _doubts(self, loaded: Loaded) -> Sequence[str]:
        """Sentences on why samples of this run given y may be wrong, before any is drawn."""
        self.require_means()
        words = self.hardly_learned(loaded.step)
        return [words] if words else []

    def require_means(self) -> None:
        """Raises SettingsError where the guesses of the run are no means, as those of a distilled one."""
        if self.settings.is_distilled:
            raise SettingsError(
                f"{self.folder} was distilled, and samples given y take a model of many calls",
                "restore with the run that it came from",
            )


def chosen_method(
    name: Method | str,
    sampler: Sampler | None = None,
    steps: int | None = None,
    spacing: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Method:
    """As `Run.method` has it."""
    own = {key: value for key, value in (options or {}).items() if value is not None}
    if not isinstance(name, str):
        if own:
            raise SettingsError("a method that is a value has its own options", "name it instead")
        method = name
    else:
        kind = named(METHODS, name, "method")
        if strange := [key for key in own if key not in kind.__dataclass_fields__]:
            raise SettingsError(
                f"{name} has no option {strange[0]}", f"it has: {', '.join(options_of(kind))}"
            )
        method = kind(**own)
    if sampler is None and steps is None and spacing is None:
        return method
    usual = getattr(method, "sampler", None)
    if not isinstance(usual, Sampler):
        if sampler is None and spacing is None and "steps" in type(method).__dataclass_fields__:
            return replace(method, steps=steps)  # type: ignore[call-arg]
        raise SettingsError(
            f"{_name_of(method)} has no sampler, and no steps of one",
            f"its options are: {', '.join(options_of(type(method))) or 'none'}",
        )
    changes = {"steps": steps, "spacing": spacing}
    given: dict[str, Any] = {key: value for key, value in changes.items() if value is not None}
    return replace(method, sampler=replace(sampler or usual, **given))  # type: ignore[call-arg]


def options_of(kind: type[Method]) -> list[str]:
    """Names of a method's own options."""
    return [name for name in kind.__dataclass_fields__ if name != "sampler"]


def method_as_json(method: Method) -> dict[str, Any]:
    """A method with all its fields, and its sampler with all of its own, by their names."""
    own = {key: getattr(method, key) for key in options_of(type(method))}
    sampler = getattr(method, "sampler", None)
    walk = {"sampler": {**sampler_as_json(sampler)}} if isinstance(sampler, Sampler) else {}
    return {"method": _name_of(method), "options": own, **walk}


def inputs_as_json(operator: AnyOperator, noise: AnyNoise, *given: Observed | None) -> dict[str, Any]:
    """Operator and noise as they were named, without those that were not, and the hashes of all files that were named.

    given: y and, where it is known, the truth.
    """
    words = (
        [] if isinstance(operator, Operator) else [operator] if isinstance(operator, str) else list(operator)
    )
    law = [noise] if isinstance(noise, str) else []
    arrays = [Path(each) for each in given if isinstance(each, str | Path)]
    named_files = [*arrays, *files_named(words), *(Path(text) for text in law if text.endswith(".npy"))]
    files = {str(path.expanduser().resolve()): sha256_of(path.expanduser()) for path in named_files}
    return {
        **({"operator": " ".join(words)} if words else {}),
        **({"noise": noise} if law else {}),
        **({"files": files} if files else {}),
    }


def _digest(y: Tensor) -> str:
    """SHA-256 of y as it was taken: float64 of the low byte first, nan where nothing was measured."""
    return hashlib.sha256(y.cpu().numpy().astype("<f8").tobytes()).hexdigest()


def in_words(value: object) -> str:
    """A value in words of its own, or by its type where it holds arrays."""
    words = repr(value)
    return type(value).__name__ if "tensor(" in words or len(words) > 200 else words


def _name_of(method: Method) -> str:
    return {kind: name for name, kind in METHODS.items()}.get(type(method), type(method).__name__)


def _with_gaps(samples: Samples, condition: Condition | None) -> Samples:
    """nan where the mask of the condition says that there is no value."""
    if condition is None or condition.mask is None:
        return samples
    rows = torch.arange(len(samples)) % len(condition.mask)
    mask = condition.mask.cpu()[rows][:, None].expand(*samples.shape[:2], *condition.mask.shape[1:])
    return with_gaps(samples.flatten(0, 1), mask.flatten(0, 1)).view_as(samples)
