"""The distances of a run in the words of its report, from what `kakusan evaluate --distance` wrote."""

from collections.abc import Mapping, Sequence
from typing import Any

from kakusan.evaluation.moments import with_error
from kakusan.evaluation.quality import FIGURES, words_of
from kakusan.pages.report.content import Distances, Power

MOST_CHANNELS = 4
"""Whose moments and spectra are shown."""


def newest_distances(evaluations: Sequence[Mapping[str, Any]]) -> tuple[Distances | None, str]:
    """The last distances among the evaluations of a step, or None; and a warning where they cannot be read."""
    found = [each for each in evaluations if "figures" in each]
    if not found:
        return None, ""
    try:
        return _told(found[-1]), ""
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):  # older, or another hand's
        return (
            None,
            "the distances in evaluation/ are of another version: kakusan evaluate RUN --distance anew",
        )


def _told(found: Mapping[str, Any]) -> Distances:
    about, moments = found["about"], found["moments"]
    names = {"samples": "samples", "real": about["real"], "reference": about["reference"]}
    columns = [name for name in names if name in moments]
    return Distances(
        rows=[
            _row(words, found["figures"][key])
            for key, (words, _) in FIGURES.items()
            if key in found["figures"]
        ],
        moments=list(_moments(moments, columns)),
        columns=[str(names[name]) for name in columns],
        real=str(about["real"] or ""),
        reference=str(about["reference"]),
        count=int(about["count"]),
        words=words_of(about)[:1].upper() + words_of(about)[1:],
        frequency=[float(number) for number in found["spectra"].get("frequency", ())],
        powers=_powers(found["spectra"]),
    )


def _row(name: str, of: Mapping[str, Any]) -> tuple[str, str, str]:
    error = "" if of["half_width_95"] is None else f" ± {of['half_width_95']:.2g}"
    return name, f"{of['mean']:.4g}{error}", "" if of["real"] is None else f"{of['real']:.4g}"


def _moments(moments: Mapping[str, Any], columns: Sequence[str]) -> list[tuple[str, Sequence[str]]]:
    channels = moments["samples"][:MOST_CHANNELS]
    return [
        (
            moment + f", channel {channel}" * (len(moments["samples"]) > 1),
            [with_error(*moments[name][channel][moment]) for name in columns],
        )
        for channel, of in enumerate(channels)
        for moment in of
    ]


def _powers(spectra: Mapping[str, Any]) -> list[Power]:
    """Of each channel; null is a number that was not finite."""
    if not spectra:
        return []

    def of(name: str, kind: str, channel: int) -> list[float]:
        numbers = spectra[name][kind][channel] if name in spectra else ()
        return [float("nan") if number is None else float(number) for number in numbers]

    count = len(spectra["samples"]["power"])
    return [
        Power(
            name=f"Power by frequency, channel {i} of {count}" if count > 1 else "Power by spatial frequency",
            samples=of("samples", "power", i),
            samples_error=of("samples", "error", i),
            real=of("real", "power", i),
            reference=of("reference", "power", i),
        )
        for i in range(min(count, MOST_CHANNELS))
    ]
