"""Tables of numbers beside images: a CSV file whose first column names the image and whose others describe it."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kakusan.data.conditions import VectorColumn, vector_column
from kakusan.errors import DataError, printable

NAMED = 3
DELIMITERS = ";\t,"


def table_beside(folder: Path) -> Path | None:
    """The CSV file in a folder of images, or the one beside it of its name. DataError where there are several."""
    inside = sorted(folder.glob("*.csv"))
    if len(inside) > 1:
        some = ", ".join(printable(path.name) for path in inside[:NAMED])
        raise DataError(f"{folder} holds {len(inside)} CSV files ({some})", "leave the one with the numbers")
    beside = folder.resolve().with_name(folder.resolve().name + ".csv")
    return inside[0] if inside else beside if beside.is_file() else None


def read_table(path: Path, files: Sequence[str]) -> VectorColumn:
    """The numbers of these files, in their order: rows of (file name, number, ...), with a line of names or without.

    A file is named by its path relative to the folder, or by its last part where that is its own alone.
    Raises DataError for a file without a row, rows of different lengths, and what is not a number.
    """
    lines = _lines(path)
    names = None if _are_numbers(lines[0][1:]) else lines.pop(0)[1:]
    rows: dict[str, list[str]] = {}
    for number, (name, *values) in enumerate(lines, 1 + (names is not None)):
        if len(values) != len(lines[0]) - 1 or not _are_numbers(values):
            raise DataError(
                f"line {number} of {path} has {len(values)} values, some of which may be no numbers:"
                f" {printable(', '.join(values)[:60])}",
                f"{len(lines[0]) - 1} numbers are needed behind the file name {printable(name)}",
            )
        if rows.get(name, values) != values:
            raise DataError(
                f"line {number} of {path} gives {printable(name)} other numbers than a line before",
                "leave one of the two",
            )
        rows[name] = values
    last = Counter(_last_part(name) for name in files)
    found = [
        rows.get(name) or (rows.get(_last_part(name)) if last[_last_part(name)] == 1 else None)
        for name in files
    ]
    if lacking := [name for name, row in zip(files, found, strict=True) if row is None]:
        some = ", ".join(map(printable, lacking[:NAMED])) + (", ..." if len(lacking) > NAMED else "")
        raise DataError(
            f"{path} has no row for {len(lacking):,} of {len(files):,} images: {some}",
            "each image needs a line: its file name, then its numbers",
        )
    numbers = np.array([row for row in found if row is not None], dtype=np.float64)
    return vector_column(numbers, len(files), path.name, names)


def _lines(path: Path) -> list[list[str]]:
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    first = text.partition("\n")[0]
    delimiter = next((mark for mark in DELIMITERS if mark in first), ",")
    reader = csv.reader(text.splitlines(), delimiter=delimiter, skipinitialspace=True)
    lines = [[field.strip() for field in line] for line in reader if any(map(str.strip, line))]
    if len(lines) < 2 or len(lines[0]) < 2:
        raise DataError(
            f"{path} is no table of numbers", "each line is a file name and its numbers, with commas between"
        )
    return lines


def _are_numbers(values: Sequence[str]) -> bool:
    try:
        return len([float(value) for value in values]) > 0
    except ValueError:
        return False


def _last_part(name: str) -> str:
    """The name of a file without its folders."""
    return name.rpartition("/")[2]
