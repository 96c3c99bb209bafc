"""The picture of a bound in the README, docs/bits.png, and the figures that docs/derivation.md reads off it.

    make demo
    .venv/bin/python benchmarks/bits_picture.py runs/demo

The bound of 180 training and 180 held-out images with the run's fixed-large variance, and of the held-out ones with
fixed-small: some minutes on two cores. The figures go to benchmarks/bits.json: of held-out images, those by t at a few
t alone.
"""

import json
import sys
from pathlib import Path
from typing import Any

import kakusan as kk
from kakusan.evaluation.bound import BoundReport, measure_bound
from kakusan.evaluation.options import BoundOptions
from kakusan.evaluation.plots import report_png

ROOT = Path(__file__).parents[1]
PICTURE, FIGURES = ROOT / "docs" / "bits.png", ROOT / "benchmarks" / "bits.json"
KEPT_TIMES = (1, 2, 3, 10, 30, 100, 150, 200, 300, 500, 700, 900, 1000)
ABOUT = ("data", "step", "schedule", "T", "variance", "sigma_1", "clip", "weights", "levels", "terms")
DIGITS = 5


def figures_of(report: BoundReport) -> dict[str, Any]:
    """The figures of held-out images that are kept."""
    held_out = report.as_json()["parts"]["held-out"]
    by_t = {
        name: {str(t): round(values[t - first], DIGITS) for t in KEPT_TIMES}
        for name, values, first in (
            ("bits_by_t", held_out["bits_by_t"], 1),
            ("rate", held_out["rate_from_t_0"], 0),
            ("distortion", held_out["distortion"], 1),
        )
    }
    totals = {name: round(held_out[name], DIGITS) for name in ("bits_per_dim", "standard_error")}
    return {**{name: report.about[name] for name in ABOUT}, "images": held_out["images"], **totals, **by_t}


def main(folder: str) -> None:
    """Measure, draw, write."""
    run = kk.Run.open(folder)
    large = measure_bound(run, BoundOptions(variance="fixed-large"))
    small = measure_bound(run, BoundOptions(variance="fixed-small", split="held-out", memorizer=False))
    PICTURE.write_bytes(report_png(large))
    found = {name: figures_of(report) for name, report in (("fixed-large", large), ("fixed-small", small))}
    FIGURES.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
