"""The sampler of a run's samples: the one that is named, or the best; at usual times, or at the run's own."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch

from kakusan.config.settings import CONSISTENCY, LEARNED, Settings
from kakusan.diffusion.best_steps import best_steps, step_costs
from kakusan.diffusion.model import Model
from kakusan.diffusion.oracles import GaussianOracle
from kakusan.diffusion.variances import VARIANCES
from kakusan.errors import RunError, SettingsError, quoted
from kakusan.run.opened import OpenRun
from kakusan.samplers import SAMPLERS, Sampler, as_sampler, sampler_named
from kakusan.samplers.auto import AUTO, BEST_NAME, auto
from kakusan.samplers.entropic import entropic
from kakusan.samplers.spacings import BEST, ENTROPIC, TUNED
from kakusan.storage.times import ErrorsByTime, StepErrors, TimesFile, TunedTimes

ANCESTRAL = "ancestral"


def chosen_sampler(
    run: OpenRun, name: str | Sampler, steps: int | str | None, spacing: str | None, options: dict[str, Any]
) -> Sampler:
    """As `Run.sampler` has it."""
    if (at := options.pop("at", None)) is not None:
        if steps is not None or spacing is not None:
            raise SettingsError(
                "times that are given one by one (at) leave no steps and no spacing to choose",
                "leave them out",
            )
        return replace(chosen_sampler(run, name, None, None, options), steps=None, spacing=None, at=tuple(at))
    process, (number, kind) = run.settings.process, calls_in(steps)
    if not isinstance(name, str):
        if steps is not None or spacing is not None or options:
            raise SettingsError(
                "a sampler that is a value has its own steps, spacing and options", "name it instead"
            )
        return as_sampler(name, process.T).spaced(process.spacing)
    if name == AUTO:
        _refuse_options(options)
    if kind and spacing is not None:
        raise SettingsError(f"spacing {spacing} and steps {steps} both say which times are visited")
    if kind == TUNED:
        return _tuned_sampler(run, name, number, options)
    if kind == BEST:
        return _at_best_steps(run, name, number or 1)
    if spacing == ENTROPIC:
        return _at_entropic_times(run, name, number, options)
    if name != AUTO:
        return sampler_named(name, process.T, steps=number, spacing=spacing, **options).spaced(
            process.spacing
        )
    if run.settings.is_distilled:
        return sampler_named(CONSISTENCY, process.T, steps=number, spacing=spacing)
    return _best(run, number) if spacing is None else auto(process.T, number, spacing)


def calls_in(steps: int | str | None) -> tuple[int | None, str]:
    """The number in steps as the command line has them, 8, "tuned:8" or "best:8", and which word stands before it."""
    if steps is None or isinstance(steps, int):
        return steps, ""
    word, colon, number = steps.rpartition(":")
    if (
        word not in ("", TUNED, BEST)
        or bool(word) != bool(colon)
        or not number.isdecimal()
        or int(number) < 1
    ):
        raise SettingsError(
            f"steps {steps!r} is no number of steps",
            "such as 10, or tuned:8 or best:8 after kakusan tune",
        )
    return int(number), word


def tune_command(run: OpenRun, name: str, calls: int | None) -> str:
    """The command that tunes a run's times."""
    sampler = "" if name == AUTO else f" --sampler {name}"
    return f"kakusan tune {quoted(run.folder)} --calls {calls or 8}{sampler}"


def _best(run: OpenRun, steps: int | None) -> Sampler:
    """The automatic sampler, at the best times that are known for it and the newest weights: tuned, or entropic."""
    usual, file = auto(run.settings.process.T, steps), TimesFile(run.folder)
    for times in reversed(file.tuned()):
        if (times.sampler, times.calls, times.options) == (
            BEST_NAME,
            usual.steps,
            {},
        ) and times.step == _step(run):
            return replace(usual, steps=None, at=times.at, spacing=TUNED)
    errors = file.errors()
    if errors is None or errors.step != _step(run) or usual.steps is None:
        return usual
    with suppress(SettingsError):  # too few times, or no error left: then as usual
        at = entropic(run.path, usual.steps, *_tensors(errors))
        return replace(usual, steps=None, at=at, spacing=ENTROPIC)
    return usual


def _tensors(errors: ErrorsByTime) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.tensor(x, dtype=torch.float64) for x in (errors.times, errors.errors))  # type: ignore[return-value]


def _tuned_sampler(run: OpenRun, name: str, calls: int | None, options: dict[str, Any]) -> Sampler:
    """The sampler at the newest times that were tuned for it, or for the automatic one; older weights are told of."""
    wanted = BEST_NAME if name == AUTO else name
    fitting = [
        times
        for times in TimesFile(run.folder).tuned()
        if (times.sampler, times.calls) == (wanted, calls) and _same(wanted, times, options)
    ]
    if not fitting:
        raise RunError(
            f"{run.folder} has no times that were tuned for {calls} calls of {wanted}",
            f"to find them: {tune_command(run, name, calls)}",
        )
    times = fitting[-1]
    _tell_of_older(run, "the times were tuned at", times.step)
    T, own = run.settings.process.T, {**times.options, **options}
    if name == AUTO:
        return replace(auto(T, calls), steps=None, at=times.at, spacing=TUNED)
    return sampler_named(times.sampler, T, **own, at=times.at, spacing=TUNED)


def _tell_of_older(run: OpenRun, words: str, step: int) -> None:
    """Warn where times are of other weights than the newest: a learned schedule has moved since then."""
    if step == (newest := _step(run)):
        return
    moved = (
        "; the learned schedule has moved since then, so that these t are other noise levels: kakusan tune anew"
        if run.settings.process.schedule == LEARNED
        else ""
    )
    run.warnings.append(f"{words} step {step:,}, and the weights are of step {newest or 0:,}{moved}")


def _step(run: OpenRun) -> int | None:
    """Of the newest weights."""
    return run.files.steps[-1] if run.files.steps else None


def _same(name: str, times: TunedTimes, options: dict[str, Any]) -> bool:
    """Whether they were tuned with these options, or those that are left out at their defaults."""
    usual = {key: field.default for key, field in SAMPLERS[name].__dataclass_fields__.items()}
    return all(
        times.options.get(key, usual.get(key)) == value for key, value in options.items() if value is not None
    )


def _at_entropic_times(run: OpenRun, name: str, steps: int | None, options: dict[str, Any]) -> Sampler:
    if run.settings.is_distilled:
        raise SettingsError(
            f"{run.folder} was distilled, and entropic times are for many calls", "leave the spacing out"
        )
    found = TimesFile(run.folder).errors()
    if found is None:
        raise RunError(
            f"the errors by time of {run.folder}, which entropic times follow, have not been measured",
            f"to do so, on held-out images: kakusan tune {quoted(run.folder)} --entropic",
        )
    _tell_of_older(run, "the errors behind entropic times were measured at", found.step)
    path = run.path
    usual = auto(path.T, steps) if name == AUTO else sampler_named(name, path.T, steps=steps)
    at = entropic(path, usual.steps or path.T, *_tensors(found))
    if name == AUTO:
        return replace(usual, steps=None, at=at, spacing=ENTROPIC)
    return sampler_named(name, path.T, **options, at=at, spacing=ENTROPIC)


def _at_best_steps(run: OpenRun, name: str, steps: int) -> Sampler:
    """The ancestral sampler at the times that minimize its bound in so many steps; older weights are told of."""
    if name not in (AUTO, ANCESTRAL):
        raise SettingsError(
            f"steps best:{steps} minimize the bound of the ancestral sampler, not of {name}",
            f"--sampler {ANCESTRAL} --steps best:{steps}",
        )
    found = TimesFile(run.folder).step_errors()
    if found is None:
        raise RunError(
            f"the errors of {run.folder} at all times, which its best steps follow from, have not been measured",
            f"to do so, on held-out images: kakusan tune {quoted(run.folder)} --best {steps}",
        )
    _tell_of_older(run, "the best steps are those of", found.step)
    at = best_steps(costs_of_steps(run, found), steps).at
    return sampler_named(ANCESTRAL, run.settings.process.T, at=at, spacing=BEST)


def costs_of_steps(run: OpenRun, found: StepErrors) -> torch.Tensor:
    """What a step from each t to each s < t costs, in bits/dim, with the run's own variance."""
    process = run.settings.process
    if len(found.errors) != process.T or found.variance not in VARIANCES:
        raise RunError(
            f"the errors by time of {run.folder} are not of T = {process.T}",
            f"measure them again: kakusan tune {quoted(run.folder)} --best 10",
        )
    denoiser = GaussianOracle(run.path)  # its path alone counts: errors and decoders are the run's
    model = Model(denoiser, found.variance, process.sigma_1)
    errors, decoders = (
        torch.tensor([0.0, *values], dtype=torch.float64) for values in (found.errors, found.decoders)
    )
    return step_costs(model, errors, decoders if found.decoders else None)


def _refuse_options(options: dict[str, Any]) -> None:
    given = [key for key, value in options.items() if value is not None]
    if given:
        raise SettingsError(f"options such as {given[0]} belong to a sampler that is named, not to {AUTO}")


def usual_sampler(settings: Settings) -> Sampler:
    """DDIM in 50 steps, or in T where there are fewer; of what was distilled, two calls.

    The sampler of diagnoses and exports, as all programs have it.
    """
    T, spacing = settings.process.T, settings.process.spacing
    return sampler_named(CONSISTENCY if settings.is_distilled else "ddim", T).spaced(spacing)
