"""kakusan explain [RUN]."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from kakusan.cli.arguments import parse
from kakusan.errors import SettingsError

if TYPE_CHECKING:
    from kakusan.pages.explain.content import Story
    from kakusan.pages.explain.subject import Subject
    from kakusan.pages.plane.film import Film

EXAMPLES = (
    "kakusan explain                              a bundled kanji and its exact denoiser: nothing is trained",
    "kakusan explain --t 600 --schedule cosine    another t, another schedule",
    "kakusan explain runs/demo --image 5          a run, its network and one of its held-out images",
    "kakusan explain --data digits --out page.html",
    "kakusan explain --plane                      points in the plane: their flow, the score, samplers' paths",
)
OURS = '<meta name="generator" content="kakusan">'


@dataclass(frozen=True)
class Explain:
    """The thirteen equations of DDPM in symbols, in numbers and by the names of their functions, and sections beyond
    them: here, and as a page with pictures and a slider over t. Both sides of each are computed anew and compared.
    Where they differ by more than rounding it is said in red: a function is wrong, or the network answered nan. It says
    nothing of how well a network has learned.
    """

    run: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[RUN]")] = None
    """Folder of a run; without one, bundled data with their exact denoiser."""
    t: int | None = None
    """Noise level, 1 to T; default: T/2."""
    image: str | None = None
    """Image: its number, counted from 0 (with RUN, among those held out), its character or its file name."""
    data: str | None = None
    """Without RUN: kanji (default), digits, two-moons or swiss-roll (default with --plane)."""
    schedule: str | None = None
    """Without RUN: linear (default), cosine, sigmoid, scaled-linear, sigmoid-betas or learned, as it begins."""
    T: int | None = None
    """Without RUN: the number of steps; default 1000."""
    out: Path | None = None
    """Path of the page; default: RUN/explain.html (with --plane: RUN/plane.html), or one of that name here."""
    plane: bool = False
    """The page of points in the plane instead: how they flow, the score as arrows, the paths of samplers."""
    json: bool = False
    """Print the numbers as JSON instead of the text."""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    command = parse(Explain, arguments, "explain", EXAMPLES)
    from kakusan.storage.run_folder import EXPLANATION, PLANE

    out = command.out or (command.run or Path()) / (PLANE if command.plane else EXPLANATION)
    _check_place(out)
    return _plane(command, out) if command.plane else _equations(command, out)


def _equations(command: Explain, out: Path) -> int:
    from rich.console import Console

    from kakusan.pages.explain.page import render
    from kakusan.pages.explain.text import as_json, failed, show

    story = _told(command)
    _write(render(story, _commands(command, story), _footer()), out)
    if command.json:
        print(json.dumps({**as_json(story), "page": str(out)}, ensure_ascii=False))
    else:
        show(story, Console(highlight=False))
        print(f"\n{out}")
    return _code(failed(story), story)


def _plane(command: Explain, out: Path) -> int:
    from kakusan.pages.plane.page import render

    film = _filmed(command)
    _write(render(film, _commands_of_points(command), _footer()), out)
    walks = [{"sampler": walk.name, "steps": walk.steps, "calls": walk.calls} for walk in film.walks]
    if command.json:
        print(json.dumps({"t": film.t, "T": film.T, "walks": walks, "page": str(out)}, ensure_ascii=False))
        return 0
    for label, words in film.facts.items():
        print(f"{label:<10}{words}")
    for walk in film.walks:
        print(f"{walk.name:<10}{walk.steps} steps, {walk.calls} calls of the denoiser")
    print(f"\n{out}")
    return 0


def _code(gaps: Sequence[str], story: "Story") -> int:
    """0, or that of a bug where both sides of an equation differ, which is said.

    Where the denoiser answered nan, checks tell nothing of the equations, and it is the code of such numbers.
    """
    from kakusan.errors import NumbersError

    if gaps and (times := story.unanswered):
        where = "every t" if len(times) == len(story.stops) else f"t = {', '.join(map(str, times[:5]))}"
        more = ", ..." if len(times) > 5 and len(times) < len(story.stops) else ""
        print(
            f"{story.who} answered nan or infinite numbers at {where}{more}, so there is nothing to check there\n"
            "  its weights, or its own code, are wrong: kakusan diagnose says where it breaks",
            file=sys.stderr,
        )
        return NumbersError.exit_code
    if gaps:
        print(
            f"{', '.join(gaps)}: these checks do not hold, so a function of this installation is wrong\n"
            "  where it is: kakusan doctor, and the functions named beside them",
            file=sys.stderr,
        )
    return 1 if gaps else 0


def _told(command: Explain) -> "Story":
    from kakusan.pages.explain.gather import tell
    from kakusan.pages.explain.subject import time_of
    from kakusan.terminal.display import bar, console

    subject = _subject(command)
    t = time_of(subject, command.t)
    with bar("explaining", 1.0, console()) as shown:
        return tell(subject, t, shown.at)


def _filmed(command: Explain) -> "Film":
    from kakusan.pages.plane.film import film
    from kakusan.terminal.display import bar, console

    subject = _subject(command)
    with bar("explaining", 1.0, console()) as shown:
        return film(subject, command.t, shown.at)


def _subject(command: Explain) -> "Subject":
    from kakusan.pages.explain import subject

    if command.run is None:
        return subject.bundled(
            command.data or (subject.DEFAULT_POINTS if command.plane else subject.DEFAULT_DATA),
            command.schedule or subject.DEFAULT_SCHEDULE,
            subject.DEFAULT_T if command.T is None else command.T,
            command.image,
        )
    given = [f"--{name}" for name in ("data", "schedule", "T") if getattr(command, name) is not None]
    if given:
        raise SettingsError(
            f"a run has its own data and schedule, so {given[0]} does not go with it",
            f"leave it out, or leave out {command.run}",
        )
    return subject.of_run(command.run, command.image)


def _check_place(out: Path) -> None:
    """Raise SettingsError for a folder, and for a file that is no page of kakusan."""
    if out.is_dir():
        raise SettingsError(f"{out} is a folder", f"name a file: --out {out / 'explain.html'}")
    if out.exists() and not _is_ours(out):
        raise SettingsError(
            f"{out} is there already and is no page of kakusan", "name another: --out PAGE.html"
        )


def _is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return OURS.encode() in file.read(4000)
    except OSError:
        return False


def _write(text: str, out: Path) -> None:
    from kakusan.storage import durable

    page = text.encode("utf-8", "backslashreplace")
    with durable.os_errors_as_run_errors(f"cannot write {out}", out.parent, needed=len(page)):
        durable.make_folders(out.parent)
        durable.atomic_write(out, page)


def _footer() -> str:
    from importlib import metadata

    return f"kakusan {metadata.version('kakusan')}."


def _commands(command: Explain, story: "Story") -> list[tuple[str, str]]:
    """Suggested next commands: (purpose, line to type)."""
    from kakusan.errors import quoted

    other = max(1, story.t // 2)
    where = _bundled(command) if command.run is None else quoted(command.run)
    plane = (
        [("The points on their way", _line("kakusan explain", where, "--plane"))] if story.is_points else []
    )
    if command.run is None:
        again = f"--t {other} --schedule {_other_schedule(command)}"
        return [
            *plane,
            (
                "Another t, another schedule",
                _line("kakusan explain", where, again),
            ),
            ("Train a network on these images", "kakusan demo"),
            ("And see the same equations with it", "kakusan explain runs/demo"),
        ]
    return [
        *plane,
        ("Another image, another t", f"kakusan explain {where} --image 1 --t {other}"),
        ("New images", f"kakusan sample {where} --count 64 --out new.png"),
        ("How many bits an image takes", f"kakusan evaluate {where}"),
        ("How good they look", f"kakusan report {where}"),
    ]


def _bundled(command: Explain) -> str:
    """The flags of the same bundled data in as many steps; "" where both are the defaults."""
    flags = {"--data": command.data, "--T": command.T}
    return " ".join(f"{flag} {value}" for flag, value in flags.items() if value is not None)


def _other_schedule(command: Explain) -> str:
    return "linear" if command.schedule == "cosine" else "cosine"


def _line(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _commands_of_points(command: Explain) -> list[tuple[str, str]]:
    """The same below the page of points."""
    from kakusan.errors import quoted

    if command.run is None:
        from kakusan.pages.explain.subject import DEFAULT_POINTS

        data = command.data or DEFAULT_POINTS
        other = "swiss-roll" if data == "two-moons" else "two-moons"
        schedule = _other_schedule(command)
        return [
            (
                "Other points, another schedule",
                f"kakusan explain --plane --data {other} --schedule {schedule}",
            ),
            ("The equations, in the numbers of one point", f"kakusan explain --data {data}"),
            ("Train a network on these points", f"kakusan train {data} --run runs/points"),
            ("And see the score that it has learned", "kakusan explain runs/points --plane"),
        ]
    run = quoted(command.run)
    return [
        ("The equations, in the numbers of one point", f"kakusan explain {run}"),
        ("New points", f"kakusan sample {run} --count 1000 --out new.png"),
        ("How good they are", f"kakusan report {run}"),
    ]
