"""Films of a sampling: x_t, and beside it the guess of x_0, through the very walk that gives the samples."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL.Image import Image

from kakusan.data.films import captioned_strip, check_film, check_size, encode_film, film_frames
from kakusan.data.rendering import encode_png, view_of
from kakusan.data.space import POINTS, noun_of
from kakusan.data.units import Units
from kakusan.diffusion.paths import Path as NoisePath
from kakusan.errors import SettingsError
from kakusan.samplers import Drawn, Moment, Recorder, Sampler, SamplingRequest, spread_over, visited
from kakusan.storage import durable

USUAL_FRAMES = 60
"""Of a film, where the walk has as many moments."""
IN_A_STRIP, COLUMNS = 4, 10
"""Samples and times of a strip."""


@dataclass(frozen=True)
class Films:
    """The files that a walk is shown in: a film, a strip, both or none."""

    film: Path | None = None
    strip: Path | None = None
    frames: int | None = None
    """Pictures of the film; default: all moments of the walk, or 60 of them."""
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Raises SettingsError for endings that are none, and for files that are there; RunError as `require_place`."""
        for name in ("film", "strip"):
            if (given := getattr(self, name)) is not None:
                object.__setattr__(self, name, Path(given))  # a str is as good
        if self.film is not None:
            check_film(self.film)
        if self.strip is not None and self.strip.suffix.lower() != ".png":
            raise SettingsError(f"a strip is one picture, a .png, not {self.strip}", "such as out.png")
        if self.frames is not None and self.film is None:
            raise SettingsError("frames belong to a film, which is missing", "such as a film out.webp")
        if self.film is not None and self.film == self.strip:
            raise SettingsError(f"{self.film} cannot be both film and strip", "name two files")
        there = next((path for path in self.paths if path.exists()), None)
        if there is not None and not self.overwrite:
            raise SettingsError(f"{there} is there already", "name another file, or say --overwrite")
        durable.require_place(*self.paths)

    @property
    def paths(self) -> Sequence[Path]:
        """Of the files."""
        return [path for path in (self.film, self.strip) if path is not None]

    def as_json(self) -> dict[str, str]:
        """The files by name, those that there are."""
        named = {"film": self.film, "strip": self.strip}
        return {name: str(path) for name, path in named.items() if path is not None}

    @contextmanager
    def of(
        self, sampler: Sampler, path: NoisePath, request: SamplingRequest, units: Units
    ) -> Iterator[Callable[[Drawn], None]]:
        """A context with the watcher of a sampling. Its end, where all went well, writes the files.

        Raises SettingsError for more frames than the walk has, or than a film should, and RunError where a file
        cannot be written.
        """
        if not self.paths:
            yield lambda _: None
            return
        moments = len(visited(sampler, path, None if request.origin is None else request.origin.t))
        recorder = Recorder(self._shown(request, units, moments), self._places(moments))
        yield recorder
        self._save(recorder, units, moments)

    def _shown(self, request: SamplingRequest, units: Units, moments: int) -> int:
        """The number of samples in the files. Raises SettingsError where the film would be too large."""
        count = min(request.count, view_of(request.shape).filmed(request.shape))
        if self.film:
            blank = torch.zeros(count, *request.shape)
            check_size(len(self._in_film(moments)), next(film_frames([[blank]] * 2, units, [("", "")])).size)
        return count

    def _places(self, moments: int) -> set[int]:
        film = self._in_film(moments) if self.film else []
        return {*film, *(self._in_strip(moments) if self.strip else [])}

    def _save(self, recorder: Recorder, units: Units, moments: int) -> None:
        kept = dict(zip(sorted(recorder.places), recorder.moments(), strict=True))
        if self.film:
            frames = film_of([kept[place] for place in self._in_film(moments)], units)
            _write(self.film, encode_film(frames, self.film.suffix))
        if self.strip:
            _write(self.strip, strip_of([kept[place] for place in self._in_strip(moments)], units))

    def _in_film(self, moments: int) -> list[int]:
        return spread_over(moments, min(USUAL_FRAMES, moments) if self.frames is None else self.frames)

    @staticmethod
    def _in_strip(moments: int) -> list[int]:
        return spread_over(moments, min(COLUMNS, moments))


def _write(path: Path, content: bytes) -> None:
    with durable.os_errors_as_run_errors(f"cannot write {path}", path.parent):
        durable.make_folders(path.parent)
        durable.atomic_write(path, content)


def film_of(moments: Sequence[Moment], units: Units) -> Iterator[Image]:
    """The pictures of a film: at each moment x_t, and beside it the guess of x_0; in the last the sample, twice."""
    rows = [[moment.x for moment in moments], [moment.x_0 for moment in moments]]
    return film_frames(
        rows, units, [(f"x_t at t = {in_short(moment.t)}", "guess of x_0") for moment in moments]
    )


def strip_of(moments: Sequence[Moment], units: Units) -> bytes:
    """A .png with a column for each moment: of a few samples x_t and, below it, the guess of x_0."""
    few = slice(
        None if noun_of(moments[0].x.shape[1:]) is POINTS else IN_A_STRIP
    )  # of points the whole cloud
    rows = [[moment.x[few] for moment in moments], [moment.x_0[few] for moment in moments]]
    return encode_png(captioned_strip(rows, units, [f"t = {in_short(moment.t)}" for moment in moments]))


def in_short(t: float) -> str:
    """A time as one writes it: 640, 3.21."""
    return f"{t:.4g}" if t < 1000 else f"{t:.0f}"
