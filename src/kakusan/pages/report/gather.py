"""From a run to its story: samples, film strip, neighbours and words. The only part of the report that opens runs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kakusan.config.settings import LEARNED
from kakusan.data.dataset import Dataset
from kakusan.data.rendering import each, encode_png, grid, pairs_grid, view_of, walk_strip
from kakusan.data.space import POINTS, noun_of
from kakusan.data.units import Levels, Real, Units
from kakusan.diffusion.forward import q_marginal
from kakusan.diffusion.schedules import Cosine, Linear, NoiseSchedule, twin
from kakusan.errors import KakusanError, quoted
from kakusan.evaluation.copies import are_comparable, copy_rates
from kakusan.evaluation.diagnosis.diagnose import Subject, glance
from kakusan.evaluation.diagnosis.finding import Finding
from kakusan.evaluation.metrics import CopyRate
from kakusan.evaluation.tuning import remember_errors
from kakusan.pages.report.content import (
    Channel,
    Copying,
    FilmStrip,
    Forward,
    Histogram,
    Neighbour,
    SampleGrid,
    Story,
)
from kakusan.pages.report.distances import newest_distances
from kakusan.pages.report.origin import device_in_words, named, origin_of, process_in_words
from kakusan.pages.report.page import render
from kakusan.randomness import Purpose, normals
from kakusan.run import Loaded, Run
from kakusan.samplers import Snapshot, draw, name_of
from kakusan.shapes import Samples
from kakusan.storage import durable
from kakusan.training.prepare import Prepared
from kakusan.training.validation import spread

NEIGHBOURS = 12
MOST_CHANNELS = 16
BINS = 40
WITHIN = (0.001, 0.999)  # of the values: between the ends of a histogram
MOST_DECIMALS = 9
FILMED = 3  # which image of the seed the film strip follows

Progress = Callable[[float, str], None]


def write_report(run: Run, progress: Progress = lambda _, __: None) -> Path:
    """Make report.html anew from the newest good checkpoint. Raises RunError if there is none."""
    page = render(tell(run, progress))
    path = run.files.report_path
    with durable.os_errors_as_run_errors(f"cannot write {path}", run.folder, needed=len(page)):
        durable.atomic_write(path, page.encode("utf-8", "backslashreplace"))
    return path


def tell(run: Run, progress: Progress = lambda _, __: None) -> Story:
    """All that the report says. The data may have gone since: then what needs them is left out, with a warning."""
    loaded = run.load()
    distances, another = newest_distances(run.files.evaluations(loaded.step))
    prepared, why = _data_of(run)
    if prepared is not None:
        remember_errors(run, prepared)  # the samples of the report are those of `kakusan sample`
    stills = _walk(loaded, run, progress)
    warnings = [f"nothing is shown of the training data: {why}"] if why else []
    x_0 = _rounded(stills[-1].x, run.data.units)
    story = _words(run, loaded)
    story = replace(
        story,
        samples=_samples(x_0, run, f"{_sampler_words(run, loaded)}, seed 0"),
        film=_film(stills, run),
        channels=(channels := _channels(x_0, run.data.units, prepared)),
        channels_left=max(0, run.data.shape[0] - len(channels)) if channels else 0,
        distances=distances,
        warnings=[*run.warnings, *warnings, *filter(None, [another]), *_doubt(run), *_bad_files(run)],
    )
    subject = Subject(run, loaded, prepared, why, lambda share, work: progress(0.96 + 0.04 * share, work))
    if prepared is None:
        known = "imported" not in run.files.data  # where there are figures of a training
        return replace(story, diagnosis=_diagnosis(subject, x_0, None) if known else ())
    progress(0.95, f"comparing with the training {story.noun.many}")
    is_hard, words = _cannot_be_compared(run, prepared)
    copying = None if story.noun is POINTS or is_hard else _copying(_filled(x_0), prepared, run.doubt)
    story = replace(story, warnings=[*story.warnings, *words])
    story = replace(story, forward=_forward(loaded, prepared), copying=copying)
    return replace(story, diagnosis=_diagnosis(subject, x_0, copying))


def _diagnosis(subject: Subject, x_0: Samples, copying: Copying | None) -> Sequence[Finding]:
    """Findings from the samples of the report and the losses. Samples of given conditions do not stand for all data."""
    copies = None if copying is None else copying.copies
    return glance(subject, x_0, copies, is_of_all=not subject.run.data.has_examples).findings


def _cannot_be_compared(run: Run, prepared: Prepared) -> tuple[bool, list[str]]:
    """Whether samples have no distances from each other, and a warning that says why: other values are missing."""
    if are_comparable(prepared.dataset):
        return False, []
    many = noun_of(run.data.shape).many
    return True, [f"whether samples are copies is not said: not in all {many} the same values are missing"]


def _filled(x: Samples) -> Samples:
    """With the mean in place of missing values, as training images are."""
    return x.nan_to_num(0, torch.inf, -torch.inf)


def _walk(loaded: Loaded, run: Run, progress: Progress) -> list[Snapshot]:
    """The moments of one sampling that the report shows, for all samples together; the last is the end."""
    sampler = run.sampler()
    times = sampler.times(loaded.model.path)
    view = view_of(run.data.shape)
    shown = {times[i] for i in np.linspace(1, len(times) - 1, min(view.moments, len(times) - 1)).astype(int)}
    kept: dict[float | int, list[Snapshot]] = {t: [] for t in times if t in shown}
    for drawn in draw(loaded.model, sampler, run.request(loaded, run.condition(), count=view.samples)):
        progress(0.9 * drawn.done, "sampling")
        if drawn.still.t in kept and drawn.still.x_0 is not None:
            kept[drawn.still.t].append(drawn.still)
    return [_joined(parts) for parts in kept.values()]


def _joined(parts: list[Snapshot]) -> Snapshot:
    guesses = [part.x_0.cpu() for part in parts if part.x_0 is not None]
    return Snapshot(parts[0].t, torch.cat([part.x.cpu() for part in parts]), torch.cat(guesses))


def _sampler_words(run: Run, loaded: Loaded) -> str:
    """Of the sampler, and its number of steps."""
    sampler = run.sampler()
    return f"{name_of(sampler)}, {len(sampler.times(loaded.model.path)) - 1} steps"


def _data_of(run: Run) -> tuple[Prepared | None, str]:
    """Its data, or why they are not here."""
    try:
        return run.prepared(), ""
    except KakusanError as error:
        problem = error.problem.replace(
            run.settings.data.source or " ", named(run.settings.data.source) or " "
        )
        return None, problem


def _rounded(x: Samples, units: Units) -> Samples:
    """The values on the levels of the data, as samples are saved."""
    return units.encode(units.decode(x)) if isinstance(units, Levels) else x


def _samples(x: Samples, run: Run, how: str) -> SampleGrid:
    shown = min(view_of(x.shape[1:]).shown, len(x))
    count = f"{len(x)} samples" if shown == len(x) else f"{shown} of {len(x)} samples"
    given, pairs, units = run.condition(), run.data.pairs, run.data.units
    if given is not None and given.image is not None and pairs is not None:
        picture = pairs_grid(given.image, pairs.units, x[:shown], units)
        return SampleGrid(png=encode_png(picture), caption=f"{count}, below what they were given; {how}")
    return SampleGrid(png=encode_png(grid(x[:shown], units)), caption=f"{count}, {how}")


def _film(stills: list[Snapshot], run: Run) -> FilmStrip:
    guesses = [still.x_0 for still in stills if still.x_0 is not None]
    one = min(FILMED, len(stills[0].x) - 1)
    picture = walk_strip([[still.x for still in stills], guesses], run.data.units, one=one)
    return FilmStrip(png=encode_png(picture), times=[int(still.t) for still in stills])


def _channels(x_0: Samples, units: Units, prepared: Prepared | None) -> list[Channel]:
    """The channels of real data, each by itself, as far as one can be drawn."""
    if not isinstance(units, Real):
        return []
    values, training = units.decode(x_0), _some_training(prepared, len(x_0))
    view, found = view_of(x_0.shape[1:]), []
    for i, scale in enumerate(units.scale[:MOST_CHANNELS]):
        if (drawn := view.channel(x_0, units, i)) is None:
            return []
        own, reach = values[..., i], units.shown * scale
        ends = (drawn.low, drawn.high, float(np.nanmin(own)), float(np.nanmax(own)))
        low, high, lowest, highest = (in_units(value, reach) for value in ends)
        found.append(
            Channel(
                name=_name_of_channel(i, len(units.mean)),
                png=encode_png(drawn.picture),
                low=low,
                high=high,
                lowest=lowest,
                highest=highest,
                is_shaded=view.shaded,
                histogram=histogram(own, None if training is None else training[..., i]),
            )
        )
    return found


def _name_of_channel(i: int, count: int) -> str:
    return f"Channel {i} of {count}, counted from 0" if count > 1 else "The values"


def _some_training(prepared: Prepared | None, count: int) -> NDArray[Any] | None:
    """So many training samples, or all where there are fewer, in the units of the data."""
    return None if prepared is None else prepared.dataset.gather(spread(prepared.split.training, count))


def histogram(samples: NDArray[Any], training: NDArray[Any] | None) -> Histogram | None:
    """A histogram of the values of one channel, in bins that both have; None where all of them are about the same."""
    every = [np.ravel(samples)] + ([] if training is None else [np.ravel(training).astype(np.float64)])
    both = [values[~np.isnan(values)] for values in every]  # nan is missing
    if not all(map(len, both)):
        return None
    low, high = np.quantile(np.concatenate(both), WITHIN)
    if not high - low > 1e-9 * max(abs(low), abs(high)):
        return None
    edges = np.linspace(low, high, BINS + 1)
    shares = [(np.histogram(np.clip(part, low, high), edges)[0] / part.size).tolist() for part in both]
    return Histogram(edges=edges.tolist(), samples=shares[0], training=shares[1] if len(shares) > 1 else ())


def in_units(value: float, step: float) -> str:
    """A number to a hundredth of a step, however far from 0 it lies."""
    decimals = max(0, 2 - math.floor(math.log10(step)))
    return f"{value:,.{decimals}f}" if decimals <= MOST_DECIMALS and abs(value) < 1e12 else f"{value:.6g}"


def _forward(loaded: Loaded, prepared: Prepared) -> Forward:
    """One training image (of points a whole cloud) at growing t, under the same noise."""
    schedule, dataset = loaded.model.path, prepared.dataset
    view = view_of(dataset.shape)
    times = np.unique(np.linspace(0, schedule.T, view.moments).astype(int))
    table = twin(schedule).alpha_bar
    chosen = spread(prepared.split.training, view.followed)
    x_0 = dataset.x_0(chosen)
    noise = normals(0, Purpose.EVALUATION, 1, torch.arange(len(x_0)), dataset.shape)
    gaps = torch.where(dataset.with_gaps(chosen).isnan(), torch.nan, 0.0)  # which hide noise, too
    rows = [q_marginal(schedule, x_0, torch.full((len(x_0),), float(t), dtype=torch.float64)) for t in times]
    seen = [row.reparametrize(noise) + gaps for row in rows]
    one = noun_of(dataset.shape).one
    is_learned = loaded.settings.process.schedule == LEARNED
    name = "" if view.followed > 1 else f"The {one} at t = 0 is {_caption(dataset, int(chosen[0]))}."
    return Forward(
        png=encode_png(walk_strip([seen], dataset.units)),
        times=[int(t) for t in times],
        alpha_bar=[float(table[t]) for t in times],
        table=table.tolist(),
        caption=name,
        beside=_beside(twin(schedule)) if is_learned else {},
    )


def _beside(learned: NoiseSchedule) -> dict[str, list[float]]:
    """The log-SNR of a learned schedule at t = 1..T, and of the two that are chosen most."""
    every = {"learned": learned, "linear": Linear(learned.T), "cosine": Cosine(learned.T)}
    return {name: schedule.log_snr[1:].tolist() for name, schedule in every.items()}


def _caption(dataset: Dataset, index: int) -> str:
    return dataset.captions[index] if dataset.captions else f"{noun_of(dataset.shape).one} {index}"


def _copying(x_0: Samples, prepared: Prepared, doubt: str) -> Copying | None:
    dataset, rates = prepared.dataset, copy_rates(x_0, prepared)
    if rates is None:
        return None
    indices, aside = rates.training, rates.aside
    found, held_out = _Compared(x_0, rates.samples, ()), None
    if rates.held_out is not None:
        captions = tuple(_caption(dataset, int(i)) for i in aside)
        held_out = _Compared(dataset.x_0(aside), rates.held_out, captions)
    return Copying(
        samples=found.neighbours(prepared, indices),
        held_out=held_out.neighbours(prepared, indices) if held_out else (),
        sample_rate=found.rate.rate,
        held_out_rate=held_out.rate.rate if held_out else None,
        sample_ratios=found.rate.ratios.tolist(),
        held_out_ratios=held_out.rate.ratios.tolist() if held_out else (),
        doubt=doubt,
    )


@dataclass(frozen=True)
class _Compared:
    """Some images and what is near them."""

    images: Samples
    rate: CopyRate
    captions: tuple[str, ...]

    def neighbours(self, prepared: Prepared, indices: NDArray[np.int64]) -> list[Neighbour]:
        """The first few, each with what is nearest to it, all drawn alike."""
        dataset, count = prepared.dataset, min(NEIGHBOURS, len(self.images))
        near = indices[self.rate.nearest[:count].numpy()]
        shown = torch.cat([self.images[:count], dataset.x_0(near)])
        if dataset.masked:  # all with the same gaps, or they would not be compared
            shown = shown.masked_fill(dataset.with_gaps(near[:1]).isnan(), torch.nan)
        pictures = each(shown, dataset.units)
        return [
            Neighbour(
                png=encode_png(pictures[i]),
                nearest_png=encode_png(pictures[count + i]),
                ratio=float(self.rate.ratios[i]),
                caption=self.captions[i] if self.captions else "",
                nearest_caption=_caption(dataset, int(near[i])),
            )
            for i in range(count)
        ]


def _bad_files(run: Run) -> list[str]:
    bad = run.files.data["bad_files"]
    shown = [f"left out {file['name']}: {file['reason']}" for file in bad[:20]]
    return shown + ([f"and {len(bad) - 20} more files left out"] if len(bad) > 20 else [])


def _doubt(run: Run) -> list[str]:
    if not run.doubt:
        return []
    many = noun_of(run.data.shape).many
    return [f"whether the weights were trained on the held-out {many} before is not known: {run.doubt}"]


def _words(run: Run, loaded: Loaded) -> Story:
    """Title, facts, curves, settings: what needs no data."""
    settings, noun = run.settings, noun_of(run.data.shape)
    origin = origin_of(run, loaded, noun)
    parameters = sum(p.numel() for p in loaded.network.parameters())
    return Story(
        title=run.data.name,
        noun=noun,
        subtitle=f"A denoising diffusion model, {origin.words}.",
        facts={
            **origin.facts,
            "Network": f"{parameters:,} parameters, predicts {settings.process.predicts}",
            "Process": process_in_words(settings.process),
            "Device": device_in_words(run.files.environment),
        },
        shortfall=run.hardly_learned(loaded.step),
        metrics=run.files.metrics(),
        gap=run.loss_gap(loaded.step),
        T=settings.process.T,
        predicts=settings.process.predicts,
        loss=settings.training.loss,
        commands=(
            (f"New {noun.many}", f"kakusan sample {quoted(run.folder)} --count 64 --seed 1 --out new.png"),
            *origin.commands,
            ("Start from these weights", f"kakusan train DATA --from {quoted(run.folder)}"),
            ("For other programs", f"kakusan export {quoted(run.folder)} NEW-FOLDER"),
            ("This page anew", f"kakusan report {quoted(run.folder)}"),
        ),
        next_words=origin.next_words,
        detail_words=origin.detail_words,
        settings={
            name: {key: named(value) if isinstance(value, str) else value for key, value in table.items()}
            for name, table in asdict(settings).items()
            if origin.sections is None or name in origin.sections
        },
        environment=run.files.environment,
        footer=f"kakusan {metadata.version('kakusan')}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )
