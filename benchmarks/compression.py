"""Held-out images of runs as bytes: kakusan compress beside PNG, WebP, JPEG XL, and general compressors.

    python benchmarks/compression.py measure runs/digits runs/kanji > compression.jsonl
    python benchmarks/compression.py show compression.jsonl

A line for each run and coder: bytes, bits a value, seconds. PNG and the like get the images one by one and all on one
sheet, which is shorter, since small files are mostly headers; general compressors get the values, and of images in two
levels the bits. JPEG XL and JBIG2 where they are installed (imagecodecs; jbig2enc), Group 4 of two levels by Pillow.
What kakusan wrote is read again, and the images have to be the same.
"""

import argparse
import bz2
import io
import json
import lzma
import math
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import numpy as np
from measuring import Figures, table
from numpy.typing import NDArray
from PIL import Image

from kakusan.data.units import Levels
from kakusan.evaluation.coding.packing import compress, decompress
from kakusan.run import Run

Images: TypeAlias = NDArray[np.uint8]
"""(n, height, width), levels."""
Coder: TypeAlias = Callable[[Images], int]
OURS = "kakusan compress"
BITS_OF_TWO = 2


def measured(run: Run, most: int) -> Iterator[Figures]:
    """The lines of one run: its held-out images, in each form."""
    prepared = run.prepared()
    numbers = prepared.split.held_out[:most]
    dataset = replace(
        prepared.dataset, images=prepared.dataset.gather(numbers), captions=(), labels=None, class_names=()
    )
    assert isinstance(dataset.units, Levels)
    images, levels = np.asarray(dataset.images)[..., 0], dataset.units.levels
    about = {"run": run.folder.name, "images": len(images), "values": int(images.size), "levels": levels}
    made = compress(run, dataset)
    begun = time.perf_counter()
    again = decompress(run, made.packed)
    assert (np.moveaxis(again, 1, -1) == dataset.images).all()
    figures = made.as_json() | {"seconds_to_read": round(time.perf_counter() - begun, 2)}
    yield about | figures | {"coder": OURS}
    for name, coder in coders(levels).items():
        begun = time.perf_counter()
        size = coder(images)
        yield about | {"coder": name, "bytes": size, "seconds": round(time.perf_counter() - begun, 3)}


def coders(levels: int) -> dict[str, Coder]:
    """Bytes of images by the name of a coder, for those that are here."""
    found: dict[str, Coder] = {}
    for name, coder in pictures(levels).items():
        found[f"{name}, one by one"] = partial(_one_by_one, coder)
        found[f"{name}, one sheet"] = partial(_on_a_sheet, coder)
    general: dict[str, Callable[[bytes], bytes]] = {"zlib": _zlib, "bz2": bz2.compress, "lzma": _lzma}
    for name, compressor in general.items():
        found[name] = partial(_of_values, compressor)
        if levels == BITS_OF_TWO:
            found[f"{name} of bits"] = partial(_of_bits, compressor)
    return found


def _one_by_one(coder: Coder, images: Images) -> int:
    return sum(map(coder, images))


def _on_a_sheet(coder: Coder, images: Images) -> int:
    return coder(sheet(images))


def _of_values(compressor: Callable[[bytes], bytes], images: Images) -> int:
    return len(compressor(images.tobytes()))


def _of_bits(compressor: Callable[[bytes], bytes], images: Images) -> int:
    return len(compressor(np.packbits(images).tobytes()))


def _zlib(raw: bytes) -> bytes:
    return zlib.compress(raw, 9)


def pictures(levels: int) -> dict[str, Coder]:
    """Bytes of one picture."""
    two = levels == BITS_OF_TWO
    found: dict[str, Coder] = {
        "PNG": lambda image: _pillow(image, "PNG", two=two, optimize=True),
        "WebP": lambda image: _pillow(image, "WEBP", two=False, lossless=True, quality=100, method=6),
    }
    if two:
        found["Group 4"] = lambda image: _pillow(image, "TIFF", two=True, compression="group4")
        if shutil.which("jbig2"):
            found["JBIG2"] = _jbig2
    if find_spec("imagecodecs"):
        found["JPEG XL"] = _jpeg_xl
    return found


def sheet(images: Images) -> Images:
    """All images in rows, nearly a square; what is left is 0."""
    n, height, width = images.shape
    columns = math.ceil(math.sqrt(n))
    rows = -(-n // columns)
    whole = np.zeros((rows * columns, height, width), np.uint8)
    whole[:n] = images
    grid = whole.reshape(rows, columns, height, width).swapaxes(1, 2)
    return np.ascontiguousarray(grid.reshape(rows * height, columns * width))


def _pillow(image: Images, form: str, *, two: bool, **options: object) -> int:
    buffer = io.BytesIO()
    picture = Image.fromarray(image * 255).convert("1") if two else Image.fromarray(image)
    (picture if form != "WEBP" else picture.convert("RGB")).save(buffer, form, **options)
    return buffer.tell()


def _jpeg_xl(image: Images) -> int:
    imagecodecs = import_module("imagecodecs")
    return len(imagecodecs.jpegxl_encode(image, lossless=True, effort=9))


def _jbig2(image: Images) -> int:
    """Of jbig2enc's generic region coder."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.png"
        Image.fromarray(image * 255).convert("1").save(path)
        return len(subprocess.run(["jbig2", path], capture_output=True, check=True).stdout)


def _lzma(raw: bytes) -> bytes:
    """Without a container, as it is or for bytes without alignment: the shorter."""
    usual: dict[str, int] = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}
    ways = ([usual], [{**usual, "lc": 0, "lp": 0, "pb": 0}])
    return min((lzma.compress(raw, format=lzma.FORMAT_RAW, filters=way) for way in ways), key=len)


def shown(lines: Sequence[Figures]) -> str:
    """A table for each run, the shortest first."""
    parts = []
    for run in dict.fromkeys(line["run"] for line in lines):
        own = sorted((line for line in lines if line["run"] == run), key=lambda line: line["bytes"])
        first = next(line for line in own if line["coder"] == OURS)
        rows = [
            (line["coder"], f"{line['bytes']:,}", f"{8 * line['bytes'] / line['values']:.3f}") for line in own
        ]
        read = first["seconds_to_read"] / first["images"]
        parts.append(
            f"{run}: {first['images']} held-out images, {first['levels']} levels; net bound "
            f"{first['net_bound_bits_per_dim']:.3f}, the images without the file's head "
            f"{first['bits_per_dim_of_images']:.3f}; {first['steps']} steps, "
            f"{first['seconds_an_image']:.2f} s an image, {read:.2f} s to read one\n\n"
            + table(("coder", "bytes", "bits a value"), rows)
        )
    return "\n\n".join(parts)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("do", choices=("measure", "show"))
    parser.add_argument("names", nargs="+", type=Path, help="runs, or a file of lines")
    parser.add_argument("--most", type=int, default=1000, help="images of each run")
    options = parser.parse_args(arguments)
    if options.do == "show":
        print(shown([json.loads(line) for line in options.names[0].read_text("utf-8").splitlines()]))
        return 0
    for name in options.names:
        for line in measured(Run.open(name), options.most):
            print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
