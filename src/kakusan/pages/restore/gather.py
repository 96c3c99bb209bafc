"""From samples given y to the content of their page, and to one picture."""

import shlex
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kakusan.data.rendering import pairs_grid
from kakusan.data.space import POINTS, SIGNALS, noun_of
from kakusan.data.units import Levels, Units
from kakusan.evaluation.calibration import Calibration
from kakusan.pages.report.origin import named_words, shown
from kakusan.pages.restore import charts
from kakusan.pages.restore.maps import (
    SAMPLES,
    Panel,
    observed,
    panels_of,
    samples_panel,
    shades_of,
    spread_of,
)
from kakusan.pages.restore.page import Block, Figure, Judgement, Page
from kakusan.pages.restore.shades import Shades
from kakusan.posterior import Measurement
from kakusan.posterior.misfit import standardized
from kakusan.run import Posterior, Run
from kakusan.shapes import Samples

MOST = 4
"""Measurements that are shown."""
SMALL = 40
"""Pixels up to which pictures are shown small, all in a row."""
ROUND = 2.0
"""Deviations of the data around their mean that a plot of points shows at the least."""
CHANNELS = 4
"""Channels of a signal that have a chart."""
TAILED = 20
"""Samples from which on one is expected beyond each of the two quantiles."""
NUMBERS = 40
"""Numbers of held-out samples that are written out."""
RESTORED = (
    "What was measured, and what may have been",
    "Samples of x given y = A(x) + noise, by the model of the run {}.",
)
CALIBRATED = (
    "Does the spread hold the truth?",
    "Held-out x, measured as y = A(x) + noise, restored by the model of the run {}, and looked for among the samples.",
)
"""Titles and subtitles."""


def of_calibration(run: Run, calibration: Calibration) -> Posterior:
    """The simulated measurements of a calibration, with the truth."""
    return Posterior(
        run=run.folder.name,
        units=run.data.units,
        layout=run.settings.data.layout,
        measurement=calibration.measurement,
        samples=calibration.samples,
        truth=calibration.truth,
        about=calibration.about,
    )


def page_of(restored: Posterior, calibration: Calibration | None = None, command: Sequence[str] = ()) -> Page:
    """The content of the page, which may be shown to others: of paths it has the names."""
    noun, about = noun_of(restored.measurement.shape), restored.about
    n, count = restored.samples.shape[:2]
    fitted, beside = about.get("fitted_noise"), restored.beside_truth
    facts = {
        "Run": restored.run,
        **{
            name.capitalize(): named_words(str(about[name]))
            for name in ("operator", "noise", "method")
            if name in about
        },
        **({"Fitted": fitted["words"]} if fitted else {}),
        "Samples": f"{count:,}" + (f" of each of {n:,} {noun.many}" if n > 1 else ""),
        "Misfit": restored.misfit_in_words.removeprefix("misfit: "),
        **({"Truth": beside.words.removeprefix("truth: ")} if beside and calibration is None else {}),
    }
    title, subtitle = RESTORED if calibration is None else CALIBRATED
    return Page(
        title=title,
        subtitle=subtitle.format(restored.run),
        facts=facts,
        warnings=[_sentence(words) for words in restored.warnings],
        reading=_reading(restored),
        blocks=[_block(restored, k) for k in range(min(n, MOST))],
        more=f"The first {MOST} of {n:,} are shown." if n > MOST else "",
        residuals=charts.residual_chart(_residuals(restored)),
        judgement=None if calibration is None else _judgement(calibration),
        settings={key: shown(key, value) for key, value in about.items()},
        command=shlex.join(map(named_words, command)),
        footer=f"kakusan {metadata.version('kakusan')}",
    )


def picture_of(restored: Posterior) -> Image.Image:
    """One picture: of each measurement the mean above 16 samples; of one alone its samples in about a square.

    All on one scale, that of the page where it shows a single measurement.
    """
    means = torch.stack([spread_of(each)[0] for each in restored.samples[:SAMPLES]])
    n, shown = len(means), min(SAMPLES, restored.samples.shape[1])
    in_turn = restored.samples[:SAMPLES, :shown].transpose(0, 1).flatten(0, 1).cpu()
    truths = None if restored.truth is None else restored.truth[:n].cpu()
    shades = Shades.between(means if truths is None else truths, restored.units)
    return pairs_grid(shades.of(means), shades.smooth, shades.of(in_turn), shades.units)


def _block(restored: Posterior, k: int) -> Block:
    """One measurement with its samples."""
    measurement, samples = restored.measurement.rows(torch.tensor([k])), restored.samples[k].cpu()
    truth, noun = restored.truth_of(k), noun_of(measurement.shape)
    title = f"Number {k + 1}" if len(restored.measurement) > 1 else ""
    shades = shades_of(samples, truth, restored.units)
    grid = samples_panel(samples, shades)
    if noun is SIGNALS:
        figures, panels = _signals(measurement, samples, truth, restored.units)
        return Block(title=title, panels=panels, figures=figures, samples=grid)
    if noun is POINTS:
        return Block(title=title, panels=[], figures=[_points(measurement, samples, truth)], samples=None)
    return Block(
        title=title,
        panels=panels_of(measurement, samples, truth, restored.units),
        figures=[],
        samples=grid,
        scale=shades.words,
        large=max(measurement.shape[1:]) > SMALL,
        wide=len(measurement.shape) == 4,
    )


def _signals(
    measurement: Measurement, samples: Samples, truth: Samples | None, units: Units
) -> tuple[list[Figure], list[Panel]]:
    """A chart for each channel; y as dots in it where y is a value at each place, else in a picture of its own."""

    def data(x: Tensor) -> Tensor:
        return measurement.data(x.double()[None])[0]

    mean, _, low, high = spread_of(samples)
    low, mean, high, one = (data(x) for x in (low, mean, high, samples[0]))
    of_truth = None if truth is None else data(truth[0])
    is_there = tuple(measurement.y.shape[1:]) == measurement.shape
    y = measurement.y.masked_fill(~measurement.known, float("nan"))[0] if is_there else None
    figures = [
        Figure(
            chart=charts.signal_chart(
                low[c].numpy(),
                mean[c].numpy(),
                high[c].numpy(),
                one[c].numpy(),
                None if of_truth is None else of_truth[c].numpy(),
                None if y is None else y[c].numpy(),
            ),
            title=f"Channel {c + 1}" if len(mean) > 1 else "",
            caption=_legend(of_truth is not None, y is not None),
        )
        for c in range(min(len(mean), CHANNELS))
    ]
    return figures, [] if is_there else [observed(measurement, units, Shades(units))]


def _legend(has_truth: bool, has_y: bool) -> str:
    words = ["Red: the mean, one sample (faint), and the band from the 5 % to the 95 % quantile"]
    words += ["blue line: the truth"] * has_truth + ["blue dots: what was measured"] * has_y
    return "; ".join(words) + "."


def _points(measurement: Measurement, samples: Samples, truth: Samples | None) -> Figure:
    values = measurement.data(samples.double()).numpy()
    of_truth = None if truth is None else measurement.data(truth.double())[0].numpy()
    corners = measurement.data(torch.tensor([[-ROUND], [ROUND]], dtype=torch.float64).expand(2, 2)).numpy()
    y = ", ".join(f"{value:.4g}" for value in measurement.y[measurement.known].tolist()[:8])
    words = f"Measured: y = {y}. Red: the samples" + ("; blue: the truth." if truth is not None else ".")
    return Figure(
        chart=charts.points_chart(values, of_truth, corners), title="Samples", caption=words, narrow=True
    )


def _residuals(restored: Posterior) -> Any:
    """(y - A(x)) / sigma of the samples of the measurements that are shown, flat."""
    n = min(len(restored.measurement), MOST)
    count = restored.samples.shape[1]
    rows = [
        standardized(
            restored.measurement.rows(torch.full((count,), k)), restored.samples[k].cpu(), k * count
        ).flatten()
        for k in range(n)
    ]
    values = torch.cat(rows).numpy()
    return values[np.isfinite(values)]


def _judgement(calibration: Calibration) -> Judgement:
    judged, about = calibration.judged, calibration.about
    many = noun_of(calibration.measurement.shape).many
    return Judgement(
        words=[_sentence(words) for words in calibration.words if words != calibration.misfit.words],
        holds=judged.holds and not calibration.misfit.words,
        coverage=charts.coverage_chart(judged.ranks.curve()),
        ranks=charts.rank_chart(judged.histogram),
        rows=calibration.rows,
        of=f"{judged.truths:,} held-out {many}, {judged.members:,} samples of each, seed {about['seed']};"
        f" they have the numbers {_numbers(about['numbers'])} of the data, from 0 on",
    )


def _numbers(numbers: Sequence[int]) -> str:
    """Numbers one by one; of many the first, and the last."""
    words = [f"{number:,}" for number in numbers]
    if len(words) > NUMBERS:
        return f"{', '.join(words[:NUMBERS])}, ..., {words[-1]} (all are in the record)"
    return ", ".join(words)


def _reading(restored: Posterior) -> str:
    """What mean, deviation and quantiles are of, and what so many samples allow them to say."""
    count = restored.samples.shape[1]
    if count < 2:
        return "A single sample has no spread: more of them show how much else x may be."
    words = "The deviation says how much the samples differ, value by value"
    if count < TAILED:
        words += f"; the quantiles of 5 and 95 % are near the least and the largest of {count} samples, and say little."
    else:
        words += "; about a twentieth of them lies below the quantile of 5 %, another above that of 95 %."
    if isinstance(restored.units, Levels):
        words += " Mean, deviation and quantiles are of samples before they are rounded to levels."
    return words


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + ("" if words.endswith(".") else ".")
