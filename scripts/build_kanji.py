"""Rebuild the bundled kanji from the Shinonome font: python scripts/build_kanji.py [FONT] [--out FILE].

The font is `shnmk16.pcf.gz` of Debian's package xfonts-shinonome (public domain): 16x16 bitmaps encoded by
JIS X 0208 row and cell. Kept are the kanji, rows 16 to 84: 2,965 of level 1 and 3,390 of level 2.
The format is described in FreeType's and X.Org's sources, "Portable Compiled Format".
"""

import argparse
import gzip
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FONT = Path("/usr/share/fonts/X11/misc/shnmk16.pcf.gz")
OUT = Path(__file__).parents[1] / "src/kakusan/data/bundled/kanji.npz"

CELL = 16
KANJI_ROWS = range(16, 85)
ACCELERATORS, METRICS, BITMAPS, ENCODINGS = 1 << 1, 1 << 2, 1 << 3, 1 << 5
"""Types of the tables of a PCF file that are needed here."""


@dataclass(frozen=True)
class Table:
    """One table of a PCF file: its bytes after the format word, and what that word says."""

    body: bytes
    format: int

    @property
    def order(self) -> str:
        return ">" if self.format & 4 else "<"

    def unpack(self, layout: str, at: int) -> tuple[int, ...]:
        return struct.unpack_from(self.order + layout, self.body, at)


@dataclass(frozen=True)
class Metrics:
    """Of one glyph: how far its bitmap reaches from the origin, in pixels."""

    left: int
    right: int
    ascent: int
    descent: int


def tables_of(font: bytes) -> dict[int, Table]:
    if font[:4] != b"\x01fcp":
        raise SystemExit("this is not a PCF font")
    (count,) = struct.unpack_from("<I", font, 4)
    tables = {}
    for i in range(count):
        kind, layout, size, offset = struct.unpack_from("<4I", font, 8 + 16 * i)
        tables[kind] = Table(font[offset + 4 : offset + size], layout)
    return tables


def metrics_of(table: Table) -> list[Metrics]:
    if (
        table.format & 0x100
    ):  # compressed: bytes biased by 128, in the order left, right, width, ascent, descent
        (count,) = table.unpack("H", 0)
        rows = [[value - 128 for value in table.unpack("5B", 2 + 5 * i)] for i in range(count)]
    else:
        (count,) = table.unpack("I", 0)
        rows = [list(table.unpack("5h", 4 + 12 * i)) for i in range(count)]
    return [Metrics(left, right, ascent, descent) for left, right, _, ascent, descent in rows]


def glyph_numbers(table: Table) -> dict[tuple[int, int], int]:
    """(high byte, low byte) of the JIS code to the number of its glyph."""
    low_first, low_last, high_first, high_last, _ = table.unpack("5H", 0)
    width = low_last - low_first + 1
    numbers = {}
    for high in range(high_first, high_last + 1):
        for low in range(low_first, low_last + 1):
            (number,) = table.unpack("H", 10 + 2 * ((high - high_first) * width + low - low_first))
            if number != 0xFFFF:
                numbers[high, low] = number
    return numbers


def bitmap_of(table: Table, number: int, metrics: Metrics) -> NDArray[np.uint8]:
    """The glyph's own rectangle, 1 where there is ink."""
    if table.format & 0b001100 != 0b001100:
        raise SystemExit(
            f"bitmaps of format {table.format:#x}: only most significant byte and bit first is read"
        )
    (count,) = table.unpack("I", 0)
    (start,) = table.unpack("I", 4 + 4 * number)
    padding = 1 << (table.format & 3)  # each row fills whole units of 1, 2, 4 or 8 bytes
    width, height = metrics.right - metrics.left, metrics.ascent + metrics.descent
    stride = -(-width // (8 * padding)) * padding
    first = 4 + 4 * count + 16 + start
    rows = np.frombuffer(table.body, np.uint8, height * stride, first).reshape(height, stride)
    return np.unpackbits(rows, axis=1)[:, :width]


def in_cell(bitmap: NDArray[np.uint8], metrics: Metrics, top: int) -> NDArray[np.uint8]:
    """The glyph at its place in a cell of 16x16 whose first row lies `top` pixels above the base line."""
    cell = np.zeros((CELL, CELL), np.uint8)
    y, x = top - metrics.ascent, metrics.left
    cell[y : y + bitmap.shape[0], x : x + bitmap.shape[1]] = bitmap
    return cell


def kanji_of(font: bytes) -> tuple[NDArray[np.uint8], str]:
    """All kanji of JIS X 0208 in its order: bitmaps (6355, 16, 16) with ink 1, and their characters."""
    tables = tables_of(font)
    metrics, numbers = metrics_of(tables[METRICS]), glyph_numbers(tables[ENCODINGS])
    (top,) = tables[ACCELERATORS].unpack("i", 8)  # the font's ascent
    cells, characters = [], []
    for (high, low), number in sorted(numbers.items()):
        if high - 0x20 in KANJI_ROWS:
            bitmap = bitmap_of(tables[BITMAPS], number, metrics[number])
            cells.append(in_cell(bitmap, metrics[number], top))
            characters.append(bytes((high | 0x80, low | 0x80)).decode("euc_jp"))
    return np.stack(cells), "".join(characters)


def build(font: Path, out: Path) -> None:
    bitmaps, characters = kanji_of(gzip.decompress(font.read_bytes()))
    bits = np.packbits(bitmaps.reshape(len(bitmaps), -1), axis=1)
    np.savez_compressed(out, bits=bits, characters=np.array(list(characters)))
    print(f"{out}: {len(bitmaps)} kanji, {characters[:3]}...{characters[-3:]}, {out.stat().st_size} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("font", nargs="?", type=Path, default=FONT)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    if not arguments.font.exists():
        raise SystemExit(f"{arguments.font} is not here: apt-get install xfonts-shinonome, or name the font")
    build(arguments.font, arguments.out)


if __name__ == "__main__":
    main()
