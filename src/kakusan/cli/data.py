"""kakusan data DATA."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from kakusan.cli.arguments import parse
from kakusan.config.settings import DataSettings
from kakusan.errors import SettingsError, printable

if TYPE_CHECKING:
    from kakusan.data.survey import Files, Survey

EXAMPLES = (
    "kakusan data photos/                        counts, sizes, bad files, duplicates",
    "kakusan data photos/ --data.size 64 --sheet sheet.png",
    "kakusan data digits --json",
)
LISTED = 10
MOST_NUMBERS = 8
ON_SHEET = 100


@dataclass(frozen=True)
class Data:
    """Look at data before training on them. Nothing is changed."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """kanji, digits, two-moons, swiss-roll, a folder of images, a .npz or .npy array, IDX, CIFAR-10 binary."""
    sheet: Path | None = None
    """Write a contact sheet of up to 100 images to this PNG."""
    overwrite: bool = False
    """Replace what is at --sheet."""
    data: DataSettings = field(default_factory=DataSettings)
    json: bool = False
    """As JSON, on stdout."""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    command = parse(Data, arguments, "data", EXAMPLES)
    from kakusan.data.survey import survey
    from kakusan.terminal.display import console, reading

    if command.sheet is not None and command.sheet.exists() and not command.overwrite:
        raise SettingsError(f"{command.sheet} is there already", "name another --sheet, or say --overwrite")
    with reading(console()) as progress:
        options = replace(command.data, bad_share=1.0)  # look at it all
        found = survey(command.source, options, progress)
    if command.sheet is not None:
        write_sheet(found, command.sheet)
    if command.json:
        print(_for_a_terminal(json.dumps(found.to_dict(), indent=2, ensure_ascii=False)))
        return 0
    rows = list(lines(found, command.data.bad_share))
    if command.sheet is not None:
        rows.append(("sheet", str(command.sheet)))
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"{name:<{width}}  {printable(text)}")  # names of files and classes may be a stranger's
    return 0


def _for_a_terminal(text: str) -> str:
    """The same JSON with control characters beyond ASCII escaped too."""
    return "".join(c if c == "\n" or c.isprintable() else json.dumps(c)[1:-1] for c in text)


def write_sheet(found: "Survey", path: Path) -> None:
    """Up to 100 images, evenly spread over the data."""
    import numpy as np

    from kakusan.data.rendering import encode_png, grid
    from kakusan.storage import durable
    from kakusan.training.validation import spread

    dataset = found.dataset
    chosen = spread(np.arange(len(dataset)), 2000 if dataset.is_points else ON_SHEET)
    with durable.os_errors_as_run_errors(f"cannot write {path}", path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.atomic_write(path, encode_png(grid(dataset.with_gaps(chosen), dataset.units)))


def lines(found: "Survey", bad_share: float) -> Iterator[tuple[str, str]]:
    """Name and text of each finding, the weightier ones first; a training takes up to this share of bad files."""
    from kakusan.data.space import noun_of, size_in_words

    dataset = found.dataset
    yield "data", f"{dataset.name} ({dataset.source})"
    of = "" if dataset.is_points else f" of {size_in_words(dataset.shape)}"
    yield noun_of(dataset.shape).many, f"{len(dataset):,}{of}, {dataset.images.dtype}"
    low, high = found.value_range
    yield (
        "values",
        f"{low:.9g} to {high:.9g}; mean {_numbers(found.mean)}, deviation {_numbers(found.deviation)}",
    )
    if dataset.layout is not None:
        yield "layout", dataset.layout
    yield "network sees", _units(dataset.units.to_state())
    if found.files is not None:
        yield from _files(found.files)
    if found.classes:
        yield "classes", f"{len(found.classes)}: {_counts(Counter(found.classes))}"
    if dataset.vectors is not None:
        form = dataset.vectors.form
        each = zip(form.names, form.mean, form.scale, strict=True)
        yield "vectors", ", ".join(f"{name} {mean:.3g} +- {scale:.3g}" for name, mean, scale in each)
    if dataset.pairs is not None:
        yield "given", f"{dataset.pairs.name}: {size_in_words(dataset.pairs.form.shape)}"
    if dataset.reserved:
        yield "always held out", ", ".join(found.name_of(index) for index in dataset.reserved)
    copies = sum(len(group) - 1 for group in found.duplicates)
    yield "duplicates", f"{copies:,}" + (f" in {len(found.duplicates):,} groups" if copies else "")
    for group in found.duplicates[:LISTED]:
        yield "", " = ".join(found.name_of(index) for index in group[:LISTED])
    unread, all_files = len(dataset.bad_files), len(dataset) + len(dataset.bad_files)
    stops = unread > 1 and unread > bad_share * all_files
    verdict = "; a training would stop at so many: --data.bad-share lets more pass" if stops else ""
    yield "bad files", f"{unread:,}{verdict}"
    for bad in dataset.bad_files[:LISTED]:
        yield "", f"{bad.name}: {bad.reason}"
    for note in dataset.notes:
        yield "note", note


def _files(files: "Files") -> Iterator[tuple[str, str]]:
    from kakusan.data.space import in_pixels

    yield "formats", _counts(files.formats)
    yield "modes", _counts(files.modes)
    yield "sizes", _counts(Counter({in_pixels(*size): n for size, n in files.sizes.items()}))
    if files.conversions:
        yield "conversions", _counts(files.conversions)
    if files.ignored:
        are = "file that is not an image" if files.ignored == 1 else "files that are not images"
        yield "ignored", f"{files.ignored:,} {are}"


def _counts(counter: Counter[str]) -> str:
    shown = ", ".join(f"{name} ({count:,})" for name, count in counter.most_common(LISTED))
    return shown + (f", and {len(counter) - LISTED} more" if len(counter) > LISTED else "")


def _numbers(values: tuple[float, ...]) -> str:
    """All numbers, or of many channels the range."""
    if len(values) > MOST_NUMBERS:
        return f"{min(values):.4g} to {max(values):.4g} over the channels"
    return ", ".join(f"{value:.6g}" for value in values)


def _units(state: dict[str, Any]) -> str:
    if state["kind"] == "levels":
        return f"levels 0 to {state['levels'] - 1} as -1 to 1"
    mean, scale = (_numbers(tuple(state[name])) for name in ("mean", "scale"))
    return f"(value - mean) / scale, with mean {mean} and scale {scale}"
