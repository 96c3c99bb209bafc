"""From an edit to its files: the picture or array, the record, the page, the noise of an inversion, a film."""

import io
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from kakusan.data.films import check_film, check_size, encode_film, film_frames
from kakusan.data.rendering import encode_png, grid, view_of
from kakusan.data.saving import Output, free_output
from kakusan.data.space import POINTS, noun_of
from kakusan.errors import SettingsError
from kakusan.pages.edit.page import Edit, Picture, render
from kakusan.pages.report.origin import named_words, shown
from kakusan.run import Run
from kakusan.run.editing import RoundTrip
from kakusan.samplers import Latents
from kakusan.shapes import Samples
from kakusan.storage import durable

Kind: TypeAlias = Literal["variations", "completions", "inversion", "interpolation"]

IN_A_ROW = 12
"""Pictures of an interpolation side by side on the page, at the most."""
TITLES: dict[Kind, str] = {
    "variations": "Variations",
    "completions": "Filled in",
    "inversion": "To noise and back",
    "interpolation": "From one to another",
}
WORDS: dict[Kind, str] = {
    "variations": "Noise is added up to the time t at which the walk then begins (SDEdit, Meng et al. 2022). The larger"
    " the strength, the more of the walk is done anew, and the less of what was there is left.",
    "completions": "What the mask hides is drawn anew given the rest: samples of the posterior, by moment matching"
    " (Rozet et al. 2024). What is kept stays as it is. Where the samples agree, the rest of the image says what was"
    " there; where they differ, it does not.",
    "inversion": "DDIM without fresh noise goes both ways (Song, Meng & Ermon 2021): up to the noise x_T that it makes"
    " of what is given, and from there back. The difference is the error of the round trip.",
    "interpolation": "Each end has a noise x_T that DDIM makes it of. Between the two x_T lies an arc, on which all are"
    " as likely as its ends (spherical interpolation), and each picture is made of a point on it.",
}


@dataclass(frozen=True)
class Edited:
    """An edit that is done: what it began with, where that was images, and what came of it."""

    run: Run
    kind: Kind
    before: Samples | None
    after: Samples
    about: Mapping[str, Any]
    """All that it takes to make it again, as plain values."""
    latents: Latents | None = None
    trip: RoundTrip | None = None

    @property
    def record(self) -> dict[str, Any]:
        """All of `about`, with what was found."""
        trip = {} if self.trip is None else {"round_trip": self.trip.as_json()}
        return {**self.about, **trip, "outside": self.run.data.units.outside(self.after)}

    @property
    def words(self) -> str:
        """The error of the round trip in a sentence, where there was one."""
        return "" if self.trip is None else self.trip.words


@dataclass(frozen=True)
class Places:
    """The files of an edit."""

    out: Output
    page: Path
    latents: Path | None = None
    film: Path | None = None
    interpolates: bool = False
    """The film is of the pictures, not of a walk."""

    @classmethod
    def of(
        cls, run: Run, out: Path | None, film: Path | None, kind: Kind, count: range, *, overwrite: bool
    ) -> "Places":
        """Where they go; by default into RUN/edits. Raises SettingsError and RunError for what cannot be written, or
        is there.

        count: the numbers of the samples.
        """
        path = out or free_output(run.folder / "edits", "edit")
        output = Output(path, count, overwrite=overwrite, layout=run.settings.data.layout)
        output.check(run.data.shape)
        if film is not None:
            check_film(film)
            if kind == "interpolation":
                check_size(len(count), _size_of_film(run))
        noise = path.with_suffix(".x_T.npz") if kind == "inversion" else None
        places = cls(output, path.with_suffix(".html"), noise, film, kind == "interpolation")
        there = next((file for file in places.paths[1:] if file.exists()), None)
        if there is not None and not overwrite:
            raise SettingsError(f"{there} is there already", "name another --out, or say --overwrite")
        durable.require_place(*places.paths[1:])
        return places

    @property
    def paths(self) -> Sequence[Path]:
        """All of them, the output first."""
        named = (self.out.path, self.film, self.latents, self.page)
        return [path for path in named if path is not None]

    def as_json(self) -> dict[str, str]:
        """The files by name."""
        named = {"out": self.out.path, "film": self.film, "x_T": self.latents, "page": self.page}
        return {name: str(path) for name, path in named.items() if path is not None}


def write_edit(edited: Edited, places: Places, command: Sequence[str]) -> None:
    """Write all files of an edit. command: the words of the line that makes the same again, for the page."""
    units = edited.run.data.units
    is_beside = edited.kind != "interpolation" and noun_of(edited.after.shape[1:]) is not POINTS
    given = (edited.before, units) if is_beside and edited.before is not None else None
    columns = len(edited.after) if edited.kind == "interpolation" else None
    places.out.save(edited.after, units, edited.record, columns=columns, given=given)
    if places.film is not None and places.interpolates:
        _write(places.film, _film(edited, places.film.suffix))
    if places.latents is not None and edited.latents is not None:
        _write(places.latents, noise_file(edited.latents))
    film = None if places.film is None else (places.film.suffix, places.film.read_bytes())
    _write(places.page, render(page_of(edited, command, film)).encode("utf-8", "backslashreplace"))


def noise_file(latents: Latents) -> bytes:
    """An .npz with `x_T`, float32 in the network's units, (n, channels, ...), and `t`, its time."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, x_T=latents.images.cpu().numpy(), t=np.array(latents.t))
    return buffer.getvalue()


def _size_of_film(run: Run) -> tuple[int, int]:
    """Width and height of a picture of the film of an interpolation."""
    blank = torch.zeros(1, *run.data.shape)
    return next(film_frames([[blank, blank]], run.data.units, [("",), ("",)])).size


def _film(edited: Edited, ending: str) -> bytes:
    """The pictures of an interpolation one after the other."""
    last = len(edited.after) - 1
    rows = [[edited.after[k : k + 1] for k in range(last + 1)]]
    words = [(f"{k} / {last}",) for k in range(last + 1)]
    return encode_film(film_frames(rows, edited.run.data.units, words), ending)


def _write(path: Path, content: bytes) -> None:
    with durable.os_errors_as_run_errors(f"cannot write {path}", path.parent, needed=len(content)):
        durable.make_folders(path.parent)
        durable.atomic_write(path, content)


def page_of(edited: Edited, command: Sequence[str], film: tuple[str, bytes] | None = None) -> Edit:
    """The content of the page, which may be shown to others: of paths it has the names. film: its ending and bytes."""
    noun, about = noun_of(edited.run.data.shape), edited.about
    facts = {"Run": edited.run.folder.name, noun.many.capitalize(): f"{len(edited.after):,}"}
    if "t" in about:
        facts["Strength"] = (
            f"{about['strength']:g}: from t = {about['t']:g}, {about['repeated']} of {about['steps']} steps"
        )
    if edited.trip is not None:
        facts["Round trip"] = edited.trip.words
    return Edit(
        title=TITLES[edited.kind],
        subtitle=f"Edits of {noun.many} by the model of the run {edited.run.folder.name}.",
        words=[WORDS[edited.kind]],
        pictures=list(_pictures(edited)),
        facts=facts,
        film=film,
        settings={key: shown(key, value) for key, value in about.items()},
        command=shlex.join(map(named_words, command)),
        footer=f"kakusan {metadata.version('kakusan')}",
    )


def _pictures(edited: Edited) -> Sequence[Picture]:
    units, after = edited.run.data.units, edited.after
    if edited.kind == "interpolation":
        strip = Picture(png=encode_png(grid(after, units, columns=IN_A_ROW)), title="From one to the other")
        ends = [] if edited.before is None else [_grid(edited, edited.before, "The two that were given")]
        return [*ends, strip]
    assert edited.before is not None
    found = [_grid(edited, edited.before, "Before")]
    if edited.latents is not None:
        found.append(_unrounded(edited, edited.latents.images, "The noise x_T"))
    found.append(_grid(edited, after, "After"))
    if edited.kind == "inversion" and view_of(after.shape[1:]).shaded:
        off = after.cpu() - edited.before.cpu()
        gain = 1 / max(float(off.nan_to_num(0).abs().max()), 1e-9)
        words = f"Middle grey is no difference; {gain:,.0f} times as strong as it is."
        found.append(_unrounded(edited, off * gain, "Their difference", words))
    return found


def _unrounded(edited: Edited, x: Samples, title: str, caption: str = "") -> Picture:
    """Of what lies on no level of the data."""
    png = encode_png(next(view_of(x.shape[1:]).film([[x, x]], edited.run.data.units))[0])
    return Picture(png=png, title=title, caption=caption)


def _grid(edited: Edited, x: Samples, title: str, caption: str = "") -> Picture:
    return Picture(png=encode_png(grid(x.cpu(), edited.run.data.units)), title=title, caption=caption)
