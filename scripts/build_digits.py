"""Rebuild the bundled digits from their source: python scripts/build_digits.py SOURCE [--out FILE].

SOURCE is `digits.csv.gz` of a scikit-learn installation (sklearn/datasets/data/), or `optdigits.tes` of the
UCI repository (DOI 10.24432/C50P49): the same 1,797 lines of 64 grey levels 0..16 and a digit. Without
SOURCE, an installed scikit-learn is looked for.
"""

import argparse
import gzip
import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

OUT = Path(__file__).parents[1] / "src/kakusan/data/bundled/digits.npz"
LINES, SIDE, LEVELS = 1797, 8, 17


def digits_of(text: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (1797, 8, 8) of levels 0..16, and the digit that each shows."""
    table = np.array([[int(float(value)) for value in line.split(",")] for line in text.split()])
    if table.shape != (LINES, SIDE * SIDE + 1) or table.min() < 0 or table.max() >= LEVELS:
        raise SystemExit(f"{LINES} lines of 64 levels 0..16 and a digit were expected, not {table.shape}")
    return table[:, :-1].astype(np.uint8).reshape(-1, SIDE, SIDE), table[:, -1].astype(np.uint8)


def build(source: Path, out: Path) -> None:
    content = source.read_bytes()
    text = (gzip.decompress(content) if source.suffix == ".gz" else content).decode("ascii")
    images, labels = digits_of(text)
    np.savez_compressed(out, images=images, labels=labels, levels=np.uint16(LEVELS))
    print(f"{out}: {len(images)} digits, {np.bincount(labels)} of each, {out.stat().st_size} bytes")


def installed_source() -> Path | None:
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "datasets/data/digits.csv.gz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", nargs="?", type=Path, default=installed_source())
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    if arguments.source is None or not arguments.source.exists():
        raise SystemExit("name digits.csv.gz of scikit-learn, or optdigits.tes of the UCI repository")
    build(arguments.source, arguments.out)


if __name__ == "__main__":
    main()
