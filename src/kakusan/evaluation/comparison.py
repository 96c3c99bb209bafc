"""Ways to sample, side by side from the same noise: samplers, numbers of steps, weights of guidance, runs."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from kakusan.config.machine import set_machine_for_use
from kakusan.data.dataset import Progress, silent
from kakusan.data.space import POINTS, noun_of
from kakusan.errors import SettingsError
from kakusan.evaluation.moments import centre_of
from kakusan.evaluation.options import CompareOptions, DistanceOptions
from kakusan.evaluation.quality import Target, in_units, spread_of
from kakusan.evaluation.references import RealImages, Sides, condition_like, labels_like, sides_of
from kakusan.evaluation.shipped import features_for
from kakusan.evaluation.summaries import View
from kakusan.run import Loaded, Run
from kakusan.run.sampling import sampler_as_json
from kakusan.samplers import Heun, Sampler, sample
from kakusan.samplers.karras import EDMSampler
from kakusan.samplers.spacings import BEST, TUNED
from kakusan.samplers.tuning import fine
from kakusan.shapes import Labels, Samples
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

    def samples(self, count: int, seed: int, labels: Labels | None, says: Says) -> Samples:
        """Its samples, on the CPU; labels: their classes, where each class would come in turn."""
        guidance = None if self.guidance is None else Guidance(self.guidance)
        condition = condition_like(self.run, labels, guidance)
        request = self.run.request(self.loaded, condition, count=count, seed=seed)
        return sample(self.run.guided(self.loaded, guidance), self.sampler, request, says, keep_on="cpu")


@dataclass(frozen=True)
class Figure:
    """A figure of the samples of each seed."""

    by_seed: tuple[float, ...]

    @property
    def mean(self) -> float:
        return fmean(self.by_seed)

    @property
    def half_width(self) -> float | None:
        """Half of the 95 % interval of the mean over seeds, by Student's t; None of one seed."""
        return spread_of(self.by_seed)["half_width_95"]

    def __str__(self) -> str:
        """With half of its 95 % interval, where there are several seeds."""
        return f"{self.mean:.4g}" + ("" if self.half_width is None else f" ± {self.half_width:.2g}")

    def as_json(self, name: str) -> dict[str, Any]:
        """By the name of the figure."""
        return {
            name: self.mean,
            f"{name}_half_width_95": self.half_width,
            f"{name}_by_seed": list(self.by_seed),
        }


@dataclass(frozen=True, eq=False)
class Outcome:
    """The samples of a way, and its figures."""

    way: Way
    shown: Samples
    """The first ones of the first seed; of points all."""
    frechet: Figure | None
    """Fréchet distance from the reference; None where there are no features."""
    from_fine: Figure | None
    """Root mean square difference from the samples of a fine walk from the same noise, in the network's units, over
    values that are there; None for a distilled run, whose predictions lead no walk."""
    seconds: float
    """For all samples of a seed."""

    def __repr__(self) -> str:
        way, known = self.way, {"Fréchet distance": self.frechet, "from the fine walk": self.from_fine}
        guidance = "" if way.guidance is None else f", guidance {way.guidance:g}"
        figures = (f"{name} {figure}" for name, figure in known.items() if figure is not None)
        return f"{way.run.folder.name}: {way.name}, {way.steps} steps{guidance}: {', '.join(figures)}"

    def as_json(self) -> dict[str, Any]:
        return {
            "run": str(self.way.run.folder),
            "checkpoint": self.way.loaded.step,
            "name": self.way.name,
            "sampler": sampler_as_json(self.way.sampler),
            "steps": self.way.steps,
            "calls": self.way.calls,
            "guidance": self.way.guidance,
            **({"frechet": None} if self.frechet is None else self.frechet.as_json("frechet")),
            **({"from_fine": None} if self.from_fine is None else self.from_fine.as_json("from_fine")),
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

    def __repr__(self) -> str:
        return "\n".join(
            [f"<Comparison of {self.about['count']:,} samples of each way>", *map(str, self.outcomes)]
        )

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
    set_machine_for_use(first.settings.machine)
    groups = [_ways(run, options) for run in _alike(runs)]
    prepared = first.prepared(reading)
    sides = sides_of(first, prepared, _as_distance(options), reading)
    view, target = _eyes(first, prepared, sides, says)
    real = None if sides.others is None else target.figures(view.of(sides.others.x_0)).get("frechet")
    labels = labels_like(sides.reference, prepared, sides.count)
    number = sum(len(ways) + 1 for group in groups for ways in group)
    judge = Judge(options, sides.count, labels, prepared.dataset.class_names, view, target, says, number)
    fine_ones, outcomes = [], []
    for ways in (ways for group in groups for ways in group):
        goals = None
        if not ways[0].run.settings.is_distilled:
            exact = replace(ways[0], sampler=fine(ways[0].loaded.model.path), name="fine walk")
            best, goals = judge.outcome(exact, None)
            fine_ones.append(replace(best, from_fine=Figure((0.0,))))
        outcomes += [judge.outcome(way, goals)[0] for way in ways]
    about = {
        "run": first.folder.name, "count": sides.count, "asked_for": options.count, "seed": options.seed,
        "seeds": options.seeds, "reference": sides.reference.name,
        "features": None if view.features is None else view.features.name,
        "of": None if view.features is None else view.features.words,
        "real": None if sides.others is None else sides.others.name, "noun": noun_of(first.data.shape).many,
    }  # fmt: skip
    return Comparison(about, outcomes, real, fine_ones)


@dataclass
class Judge:
    """Samples ways one after the other, and measures each."""

    options: CompareOptions
    count: int
    labels: Labels | None
    """Classes of the samples, as often as in the reference; None where these are not known."""
    class_names: tuple[str, ...]
    """Of the labels."""
    view: View
    target: Target
    says: Says
    number: int
    """Ways in all."""
    done: int = 0

    def outcome(self, way: Way, goals: Sequence[Samples] | None) -> tuple[Outcome, list[Samples]]:
        """The outcome of a way, and its samples by seed. goals: those of the fine walk, if there is one."""
        begun = time.perf_counter()
        drawn = [self._samples(way, seed) for seed in range(self.options.seeds)]
        seconds = (time.perf_counter() - begun) / self.options.seeds
        self.done += 1
        off = None if goals is None else Figure(tuple(map(_difference, drawn, goals)))
        shown = drawn[0] if noun_of(way.run.data.shape) is POINTS else drawn[0][: self.options.shown]
        return Outcome(way, shown, self._distance(way, drawn), off, seconds), drawn

    def _samples(self, way: Way, number: int) -> Samples:
        """Those of one of the seeds, with their progress told."""
        seeds = self.options.seeds

        def tell(share: float, _: str) -> None:
            done = self.done + (number + share) / seeds
            self.says(done / self.number, f"{way.name}, {way.steps} steps")

        knows_them = way.run.data.class_names == self.class_names
        return way.samples(self.count, self.options.seed + number, self.labels if knows_them else None, tell)

    def _distance(self, way: Way, drawn: Sequence[Samples]) -> Figure | None:
        found = []
        for x in drawn:
            seen = self.view.of(in_units(x, way.run.data.units, self.view.units))
            found.append(self.target.figures(seen).get("frechet"))
        known = tuple(figure for figure in found if figure is not None)
        return Figure(known) if known else None


def _difference(x: Samples, goal: Samples) -> float:
    """Root mean square, over values that are there."""
    return float((x - goal).square().nanmean().sqrt())


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
    if sampler.spacing in (TUNED, BEST):
        return f"{kind}, {sampler.spacing}", sampler
    return name, sampler


def _number(part: str) -> float:
    try:
        return float(part)
    except ValueError:
        raise SettingsError(f"guidance {part!r} is no weight", "such as 1,2,4") from None


def _as_distance(options: CompareOptions) -> DistanceOptions:
    return DistanceOptions(count=options.count, seeds=1, seed=options.seed, reference=options.reference)


def _eyes(run: Run, prepared: Prepared, sides: Sides, says: Says) -> tuple[View, Target]:
    """The view of all images, and the reference as it is seen. Raises SettingsError for statistics as a reference."""
    if not isinstance(sides.reference, RealImages):
        raise SettingsError("a comparison needs images as its reference, not statistics of them")
    features = None if prepared.dataset.masked else features_for(prepared, says)
    view = View(features, centre_of(sides.reference.x_0), run.data.units)
    return view, Target.of(sides.reference, view)
