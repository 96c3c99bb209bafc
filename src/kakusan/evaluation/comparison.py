"""Ways to sample, side by side from the same noise: samplers, numbers of steps, weights of guidance, runs."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kakusan.config.machine import set_machine
from kakusan.data.dataset import Progress, silent
from kakusan.data.space import POINTS, noun_of
from kakusan.errors import SettingsError
from kakusan.evaluation.moments import centre_of
from kakusan.evaluation.options import CompareOptions, DistanceOptions
from kakusan.evaluation.quality import Target, in_units
from kakusan.evaluation.references import RealImages, Sides, sides_of
from kakusan.evaluation.shipped import features_for
from kakusan.evaluation.summaries import View
from kakusan.run import Loaded, Run
from kakusan.run.sampling import sampler_as_json
from kakusan.samplers import Heun, Sampler, sample
from kakusan.samplers.karras import EDMSampler
from kakusan.samplers.spacings import TUNED
from kakusan.samplers.tuning import fine
from kakusan.shapes import Samples
from kakusan.training.guide import Guidance
from kakusan.training.prepare import Prepared

TWO_CALLS = (Heun, EDMSampler)

Says = Callable[[float, str], None]


@dataclass(frozen=True, eq=False)
class Way:
    """A way to sample, and its names."""

    run: Run
    loaded: Loaded
    sampler: Sampler
    name: str
    """Of the sampler, and of times that are not its usual ones."""
    guidance: float | None = None

    @property
    def steps(self) -> int:
        """Of the walk."""
        return len(self.sampler.times(self.loaded.model.path)) - 1

    @property
    def calls(self) -> int:
        """Of the network, for a sample."""
        return 2 * self.steps - 1 if isinstance(self.sampler, TWO_CALLS) else self.steps

    def samples(self, count: int, seed: int, says: Callable[[float, str], None]) -> Samples:
        """Its samples, on the CPU."""
        guidance = None if self.guidance is None else Guidance(self.guidance)
        condition = self.run.condition(guidance=guidance)
        request = self.run.request(self.loaded, condition, count=count, seed=seed)
        return sample(self.run.guided(self.loaded, guidance), self.sampler, request, says, keep_on="cpu")


@dataclass(frozen=True, eq=False)
class Outcome:
    """The samples of a way, and its figures."""

    way: Way
    shown: Samples
    """The first ones; of points all."""
    frechet: float | None
    """Fréchet distance from the reference; None where there are no features."""
    from_fine: float | None
    """Root mean square difference from the samples of a fine walk from the same noise, in the network's units, over
    values that are there; None for a distilled run, whose predictions lead no walk."""
    seconds: float
    """For all samples."""

    def as_json(self) -> dict[str, Any]:
        return {
            "run": str(self.way.run.folder),
            "checkpoint": self.way.loaded.step,
            "name": self.way.name,
            "sampler": sampler_as_json(self.way.sampler),
            "steps": self.way.steps,
            "calls": self.way.calls,
            "guidance": self.way.guidance,
            "frechet": self.frechet,
            "from_fine": self.from_fine,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, eq=False)
class Comparison:
    """All ways, the fine walk of each model, and real images."""

    about: dict[str, Any]
    outcomes: list[Outcome]
    real: float | None
    """Fréchet distance of as many real images, which are none of the reference."""
    fine: list[Outcome]
    """Of each run and weight of guidance, but of distilled ones."""

    def as_json(self) -> dict[str, Any]:
        return {
            "about": self.about,
            "real": self.real,
            "ways": [each.as_json() for each in self.outcomes],
            "fine": [each.as_json() for each in self.fine],
        }


def compare(
    runs: Sequence[Run], options: CompareOptions, says: Says = lambda _, __: None, reading: Progress = silent
) -> Comparison:
    """Sample in each way, and measure: the distance from real images, and from samples of a fine walk.

    The data are those of the first run, which all must be like. Raises SettingsError for runs of other samples and for
    ways that there are not; DataError, RunError where the data are not here.
    """
    first = runs[0]
    set_machine(first.settings.machine)
    groups = [_ways(run, options) for run in _alike(runs)]
    prepared = first.prepared(reading)
    sides = sides_of(first, prepared, _as_distance(options), reading)
    view, target = _eyes(first, prepared, sides, says)
    real = None if sides.others is None else target.figures(view.of(sides.others.x_0)).get("frechet")
    judge = Judge(
        options, sides.count, view, target, says, sum(len(ways) + 1 for group in groups for ways in group)
    )
    fine_ones, outcomes = [], []
    for ways in (ways for group in groups for ways in group):
        goal = None
        if not ways[0].run.settings.is_distilled:
            exact = replace(ways[0], sampler=fine(ways[0].loaded.model.path), name="fine walk")
            best, goal = judge.outcome(exact, None)
            fine_ones.append(replace(best, from_fine=0.0))
        outcomes += [judge.outcome(way, goal)[0] for way in ways]
    about = {
        "run": first.folder.name, "count": sides.count, "asked_for": options.count, "seed": options.seed,
        "reference": sides.reference.name,
        "features": None if view.features is None else view.features.name,
        "of": None if view.features is None else view.features.words,
        "real": None if sides.others is None else sides.others.name, "noun": noun_of(first.data.shape).many,
    }  # fmt: skip
    return Comparison(about, outcomes, real, fine_ones)


class Judge:
    """Samples ways one after the other, and measures each."""

    def __init__(
        self, options: CompareOptions, count: int, view: View, target: Target, says: Says, number: int
    ) -> None:
        self._options, self._count, self._view, self._target = options, count, view, target
        self._says, self._number, self._done = says, number, 0

    def outcome(self, way: Way, goal: Samples | None) -> tuple[Outcome, Samples]:
        """The outcome of a way, and all its samples. goal: those of the fine walk, if there is one."""

        def tell(share: float, _: str) -> None:
            self._says((self._done + share) / self._number, f"{way.name}, {way.steps} steps")

        begun = time.perf_counter()
        x = way.samples(self._count, self._options.seed, tell)
        seconds = time.perf_counter() - begun
        self._done += 1
        off = None if goal is None else float((x - goal).square().nanmean().sqrt())
        seen = in_units(x, way.run.data.units, self._view.units)
        distance = self._target.figures(self._view.of(seen)).get("frechet")
        shown = x if noun_of(way.run.data.shape) is POINTS else x[: self._options.shown]
        return Outcome(way, shown, distance, off, seconds), x


def _alike(runs: Sequence[Run]) -> Iterator[Run]:
    """Raises SettingsError for a run of other samples than the first: of another shape, or kind of values."""
    kinds = [(run.data.shape, type(run.data.units).__name__, run.data.masked) for run in runs]
    for run, kind in zip(runs, kinds, strict=True):
        if kind != kinds[0]:
            raise SettingsError(
                f"{run.folder} and {runs[0].folder} are of other samples: {kind} and {kinds[0]}",
                "runs of one shape and one kind of values can be compared",
            )
        yield run


def _ways(run: Run, options: CompareOptions) -> list[list[Way]]:
    """The ways of a run, together those of one weight of guidance. Raises SettingsError for what cannot be."""
    loaded = run.load(device=options.device)
    weights: list[float | None] = [None]
    if options.guidance is not None:
        weights = [_number(part) for part in options.parts(options.guidance)]
    samplers = [
        _named(run, name, steps)
        for name in options.parts(options.samplers)
        for steps in options.parts(options.steps)
    ]
    ways = [[Way(run, loaded, sampler, name, weight) for name, sampler in samplers] for weight in weights]
    for way in ways[0]:
        way.sampler.times(loaded.model.path)  # what is more than T is refused before anything is sampled
    for weight in weights:
        run.guided(loaded, None if weight is None else Guidance(weight))
    return ways


def _named(run: Run, name: str, steps: str) -> tuple[str, Sampler]:
    """A sampler, and its name with that of its times where these are not its usual ones."""
    kind, _, spacing = name.partition(":")
    sampler = run.sampler(kind, steps=steps, spacing=spacing or None)
    if sampler.spacing == TUNED:
        return f"{kind}, tuned", sampler
    return name, sampler


def _number(part: str) -> float:
    try:
        return float(part)
    except ValueError:
        raise SettingsError(f"--guidance {part} is no weight", "such as --guidance 1,2,4") from None


def _as_distance(options: CompareOptions) -> DistanceOptions:
    return DistanceOptions(count=options.count, seeds=1, seed=options.seed, reference=options.reference)


def _eyes(run: Run, prepared: Prepared, sides: Sides, says: Says) -> tuple[View, Target]:
    """The view of all images, and the reference as it is seen. Raises SettingsError for statistics as a reference."""
    if not isinstance(sides.reference, RealImages):
        raise SettingsError("a comparison needs images as its reference, not statistics of them")
    features = None if prepared.dataset.masked else features_for(prepared, says)
    view = View(features, centre_of(sides.reference.x_0), run.data.units)
    return view, Target.of(sides.reference, view)
