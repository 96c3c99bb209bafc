"""From a run to its story: samples, film strip, neighbours and words. The only part of the report that knows runs."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kakusan.config.settings import ProcessSettings
from kakusan.data.rendering import cloud_strip, encode_png, film_strip, grid
from kakusan.data.space import in_pixels
from kakusan.data.units import Levels, Real, Units
from kakusan.diffusion.forward import q_marginal
from kakusan.diffusion.schedules import twin
from kakusan.errors import DataError, KakusanError, quoted
from kakusan.evaluation.metrics import CopyRate, copy_rate
from kakusan.pages.report.content import Channel, Copying, FilmStrip, Forward, Neighbour, SampleGrid, Story
from kakusan.pages.report.page import render
from kakusan.randomness import Purpose, normals
from kakusan.run import Loaded, Run, usual_sampler
from kakusan.samplers import Snapshot, draw
from kakusan.shapes import Samples
from kakusan.storage import durable
from kakusan.training.prepare import Prepared
from kakusan.training.validation import spread

SAMPLES = 64
CLOUD = 2000  # samples, where they are points
COLUMNS = 12
NEIGHBOURS = 12
MOST_CHANNELS = 16
IN_A_CHANNEL = 16  # samples
MOST_DECIMALS = 9
FILMED = 3  # which image of the seed the film strip follows
MOST_VALUES = 1 << 29  # of training images that samples are compared with: 2 GiB

Progress = Callable[[float, str], None]


def write_report(run: Run, progress: Progress = lambda _, __: None) -> Path:
    """Make report.html anew from the newest good checkpoint. Raises RunError if there is none."""
    page = render(tell(run, progress))
    path = run.files.report_path
    with durable.telling(f"cannot write {path}", run.folder, needed=len(page)):
        durable.atomic_write(path, page.encode("utf-8", "backslashreplace"))
    return path


def tell(run: Run, progress: Progress = lambda _, __: None) -> Story:
    """All that the report says. The data may have gone since: then what needs them is left out, with a warning."""
    loaded = run.load()
    stills = _walk(loaded, run, progress)
    prepared, warnings = _data_of(run)
    x_0 = _rounded(stills[-1].x, run.data.units)
    story = _words(run, loaded)
    story = replace(
        story,
        samples=SampleGrid(
            png=_picture(x_0, run.data.units),
            caption=f"{len(x_0)} samples, DDIM, {_steps(loaded)} steps, seed 0",
        ),
        film=_film(stills, run),
        channels=(channels := _channels(x_0, run.data.units)),
        channels_left=max(0, run.data.shape[0] - len(channels)) if channels else 0,
        warnings=[*run.warnings, *warnings, *_doubt(run), *_bad_files(run)],
    )
    if prepared is None:
        return story
    progress(0.95, "comparing with the training images")
    copying = None if prepared.dataset.is_points else _copying(x_0, prepared, run.doubt)
    return replace(story, forward=_forward(loaded, prepared), copying=copying)


def _walk(loaded: Loaded, run: Run, progress: Progress) -> list[Snapshot]:
    """The moments of one sampling that the report shows, for all samples together; the last is the end."""
    sampler = usual_sampler(loaded.settings.process)
    times = sampler.times(loaded.model.path)
    shown = {times[i] for i in np.linspace(1, len(times) - 1, min(COLUMNS, len(times) - 1)).astype(int)}
    count = CLOUD if len(run.data.shape) == 1 else SAMPLES
    kept: dict[float | int, list[Snapshot]] = {t: [] for t in times if t in shown}
    for drawn in draw(loaded.model, sampler, run.request(loaded, count=count)):
        progress(0.9 * drawn.done, "sampling")
        if drawn.still.t in kept and drawn.still.x_0 is not None:
            kept[drawn.still.t].append(drawn.still)
    return [_joined(parts) for parts in kept.values()]


def _joined(parts: list[Snapshot]) -> Snapshot:
    guesses = [part.x_0.cpu() for part in parts if part.x_0 is not None]
    return Snapshot(parts[0].t, torch.cat([part.x.cpu() for part in parts]), torch.cat(guesses))


def _steps(loaded: Loaded) -> int:
    return usual_sampler(loaded.settings.process).steps or loaded.model.path.T


def _data_of(run: Run) -> tuple[Prepared | None, list[str]]:
    try:
        return run.prepared(), []
    except KakusanError as error:
        problem = error.problem.replace(
            run.settings.data.source or " ", named(run.settings.data.source) or " "
        )
        return None, [f"nothing is shown of the training data: {problem}"]


def _rounded(x: Samples, units: Units) -> Samples:
    """On the levels of the data, as samples are saved."""
    return units.encode(units.decode(x)) if isinstance(units, Levels) else x


def _picture(x: Samples, units: Units) -> bytes:
    return encode_png(grid(x, units))


def _film(stills: list[Snapshot], run: Run) -> FilmStrip:
    units = run.data.units
    guesses = [still.x_0 for still in stills if still.x_0 is not None]
    if len(run.data.shape) == 1:
        picture = cloud_strip([[still.x for still in stills], guesses], units)
    else:
        one = min(FILMED, len(stills[0].x) - 1)
        picture = film_strip(
            [torch.stack([still.x[one] for still in stills]), torch.stack([guess[one] for guess in guesses])],
            units,
        )
    return FilmStrip(png=encode_png(picture), times=[int(still.t) for still in stills])


def _channels(x_0: Samples, units: Units) -> list[Channel]:
    """Of real images each channel by itself, as grey pictures of a few samples."""
    if not isinstance(units, Real) or x_0.ndim == 2:
        return []
    values, grey = units.decode(x_0), Real((0.0,), (1.0,), units.shown)
    found = []
    for i, (mean, scale) in enumerate(zip(units.mean, units.scale, strict=True)):
        if i == MOST_CHANNELS:
            break
        reach = units.shown * scale
        ends = (mean - reach, mean + reach, float(values[..., i].min()), float(values[..., i].max()))
        black, white, lowest, highest = (in_units(value, reach) for value in ends)
        picture = encode_png(grid(x_0[:IN_A_CHANNEL, i : i + 1], grey, columns=IN_A_CHANNEL // 2))
        name = f"Channel {i} of {len(units.mean)}, counted from 0" if len(units.mean) > 1 else "The values"
        found.append(
            Channel(name=name, png=picture, black=black, white=white, lowest=lowest, highest=highest)
        )
    return found


def in_units(value: float, step: float) -> str:
    """A number to a hundredth of a step, however far from 0 it lies."""
    decimals = max(0, 2 - math.floor(math.log10(step)))
    return f"{value:,.{decimals}f}" if decimals <= MOST_DECIMALS and abs(value) < 1e12 else f"{value:.6g}"


def _forward(loaded: Loaded, prepared: Prepared) -> Forward:
    """One training image at growing t, under the same noise."""
    schedule, dataset = loaded.model.path, prepared.dataset
    times = np.unique(np.linspace(0, schedule.T, COLUMNS).astype(int))
    table = twin(schedule).alpha_bar
    points = dataset.is_points
    chosen = spread(prepared.split.training, CLOUD if points else 1)
    x_0 = dataset.x_0(chosen)
    noise = normals(0, Purpose.EVALUATION, 1, torch.arange(len(x_0)), dataset.shape)
    rows = [q_marginal(schedule, x_0, torch.full((len(x_0),), float(t), dtype=torch.float64)) for t in times]
    seen = [row.reparametrize(noise) for row in rows]
    picture = cloud_strip([seen], dataset.units) if points else film_strip([torch.cat(seen)], dataset.units)
    return Forward(
        png=encode_png(picture),
        times=[int(t) for t in times],
        alpha_bar=[float(table[t]) for t in times],
        table=table.tolist(),
        caption="" if points else f"The image at t = 0 is {_caption(dataset.captions, int(chosen[0]))}.",
    )


def _caption(captions: tuple[str, ...], index: int) -> str:
    return captions[index] if captions else f"image {index}"


def _copying(x_0: Samples, prepared: Prepared, doubt: str) -> Copying | None:
    dataset, split = prepared.dataset, prepared.split
    most = max(2, MOST_VALUES // int(np.prod(dataset.shape)))
    indices = spread(split.training, most)
    training = dataset.x_0(indices)
    try:
        found = _Compared(x_0, copy_rate(x_0, training), ())
        aside = spread(split.held_out, len(x_0))
        unseen = dataset.x_0(aside)
        captions = tuple(_caption(dataset.captions, int(i)) for i in aside)
        held_out = _Compared(unseen, copy_rate(unseen, training), captions) if len(aside) else None
    except DataError:  # fewer than two different images
        return None
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
        dataset = prepared.dataset
        found = []
        for i in range(min(NEIGHBOURS, len(self.images))):
            near = int(indices[int(self.rate.nearest[i])])
            found.append(
                Neighbour(
                    png=_picture(self.images[i : i + 1], dataset.units),
                    nearest_png=_picture(dataset.x_0(np.array([near])), dataset.units),
                    ratio=float(self.rate.ratios[i]),
                    caption=self.captions[i] if self.captions else "",
                    nearest_caption=_caption(dataset.captions, near),
                )
            )
        return found


def _bad_files(run: Run) -> list[str]:
    bad = run.files.data["bad_files"]
    shown = [f"left out {file['name']}: {file['reason']}" for file in bad[:20]]
    return shown + ([f"and {len(bad) - 20} more files left out"] if len(bad) > 20 else [])


def _doubt(run: Run) -> list[str]:
    if not run.doubt:
        return []
    return [f"whether the weights were trained on the held-out images before is not known: {run.doubt}"]


def _words(run: Run, loaded: Loaded) -> Story:
    """Title, facts, curves, settings: what needs no data."""
    settings, origin = run.settings, _origin(run, loaded)
    parameters = sum(p.numel() for p in loaded.network.parameters())
    return Story(
        title=run.data.name,
        subtitle=f"A denoising diffusion model, {origin.words}.",
        facts={
            **origin.facts,
            "Network": f"{parameters:,} parameters, predicts {settings.process.predicts}",
            "Process": _process(settings.process),
            "Device": _device(run.files.environment),
        },
        shortfall=run.hardly_learned(loaded.step),
        metrics=run.files.metrics(),
        gap=run.loss_gap(loaded.step),
        T=settings.process.T,
        predicts=settings.process.predicts,
        loss=settings.training.loss,
        commands=(
            ("New images", f"kakusan sample {quoted(run.folder)} --count 64 --seed 1 --out new.png"),
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


@dataclass(frozen=True)
class _Origin:
    """Where the weights came from, and what one can do with them for that reason."""

    words: str
    facts: dict[str, str]
    commands: tuple[tuple[str, str], ...] = ()
    next_words: str = Story.next_words
    detail_words: str = Story.detail_words
    sections: tuple[str, ...] | None = None
    """Of the settings; None: all."""


def _origin(run: Run, loaded: Loaded) -> _Origin:
    record, size = run.files.data, _size(run.data.shape)
    if imported := record.get("imported"):
        facts = {"Data": f"not known here: imported from {named(imported['source'])}", "Images": size}
        return _Origin(
            "trained elsewhere and imported",
            facts,
            next_words="The run gives the same images for the same seed.",
            detail_words="The network and its process, as they were imported. How it was trained is not known here.",
            sections=("network", "process", "machine"),
        )
    held_out, parent = len(record["held_out"]), record.get("weights_from")
    count = f"{record['count'] - held_out:,}"
    return _Origin(
        words=f"trained on {count} {'points' if len(run.data.shape) == 1 else 'images'}",
        facts={
            "Data": _data(record),
            "Images": f"{count} to train on, {held_out:,} held out; {size}",
            "Steps": f"{loaded.step:,} of {run.settings.training.batch_size} images",
            **({"Began as": f"{named(parent['run'])}, step {parent['step']:,}"} if parent else {}),
        },
        commands=(
            ("Go on training", f"kakusan resume {quoted(run.folder)} --steps {2 * loaded.step}"),
            ("How many bits an image takes", f"kakusan evaluate {quoted(run.folder)}"),
        ),
    )


def _data(record: Mapping[str, Any]) -> str:
    """The name, and where it comes from if that is more than a path."""
    source = named(record["source"])
    return record["name"] if source == record["name"] else f"{record['name']}: {source}"


def named(source: str) -> str:
    """The last part of an absolute path, and all else as it is: a page may be shown to others."""
    return Path(source).name if Path(source).is_absolute() else source


def _size(shape: tuple[int, ...]) -> str:
    channels, *size = shape
    if not size:
        return "points in the plane"
    if len(size) != 2:
        return f"{'x'.join(map(str, size))}, {channels} channels"
    height, width = size
    return f"{in_pixels(height, width)}, " + {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")


PATH_WORDS = {
    "flow": "flow matching (a = 1 - t/T, b = t/T)",
    "edm": "EDM path (a = 1, b = sigma)",
}


def _process(process: ProcessSettings) -> str:
    """The schedule, and what is unusual in it."""
    ends = ", ending in pure noise" * process.zero_terminal_snr
    if process.path != "vp":
        return f"{PATH_WORDS[process.path]}, T = {process.T}, variance {process.variance}"
    return f"{process.schedule} schedule, T = {process.T}{ends}, variance {process.variance}"


def _device(machine: Mapping[str, Any]) -> str:
    return f"{machine.get('device')} ({machine.get('processor')}, {machine.get('threads')} threads)"
