"""Whether samples are what they were asked to be: python benchmarks/conditions.py [classes] [vectors] [pairs]

classes   the bundled digits with their classes. A classifier that has seen real training images alone says how many
          samples show the class that they were asked for, by the weight of guidance; and how far they are from real
          held-out images (Fréchet distance in its features).
vectors   the same digits with two numbers each, measured on the image: thickness, the mean level, and slant, by
          moments. 500 held-out vectors are asked for, and measured on the samples: their correlation.
pairs     10,000 garments of Fashion-MNIST, each given its own 7x7 area means. For 200 held-out ones: errors of one
          sample, of the mean of 16 and of bicubic interpolation; whether the 16 spread as far as they err; and how far
          a sample's area means are from what it was given.

Each writes its data file, then runs the real commands, `kakusan train` and `kakusan sample`. The same line again goes
on with the trainings. On two cores the three take about half an hour. --pictures FOLDER draws what was found.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import condition_pictures as pictures
import numpy as np
from automatic import run_command
from digits_quality import Classifier, trained_classifier
from garment_features import GARMENTS, TRAINING, read_idx
from measuring import Figures, in_words, leave, machine, report, table
from numpy.typing import NDArray
from PIL import Image
from torch import from_numpy

from kakusan.data.builtin import digits
from kakusan.errors import DataError
from kakusan.evaluation.metrics import copy_rate, frechet
from kakusan.run import Run
from kakusan.shapes import Samples

Array: TypeAlias = NDArray[np.float64]
WEIGHTS = (0.0, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
"""Of guidance, for classes: 0 knows nothing of the class, 1 is no guidance."""
FEW_WEIGHTS = (1.0, 1.5)
"""Of guidance, for vectors."""
SHOWN_WEIGHT = 1.5
NUMBERS = ("thickness", "slant")
GARMENTS_TAKEN, COARSER, MEMBERS = 10_000, 4, 16
DIGITS_HELD_OUT, GARMENTS_HELD_OUT = 500, 200


@dataclass(frozen=True)
class Plan:
    """Where a case works, and how long."""

    out: Path
    length: tuple[str, ...]
    """Flags of `kakusan train`."""
    count: int
    """Samples at each weight of guidance; held-out pairs."""
    calls: int
    """DDIM steps."""
    pictures: Path | None = None

    def trained(self, case: str, data: str | Path, *flags: str) -> Run:
        """`kakusan train`, or the run that came of the same line before."""
        folder = self.out / case
        run_command(["-m", "kakusan", "train", str(data), *flags, *self.length, "--run", str(folder)])
        return Run.open(folder)

    def sampled(self, run: Run, name: str, count: int, *flags: str) -> NDArray[np.uint8]:
        """`kakusan sample`: levels, (count, height, width)."""
        out = self.out / f"{name}.npz"
        own = ["--count", str(count), "--steps", str(self.calls), "--out", str(out), "--overwrite"]
        run_command(["-m", "kakusan", "sample", str(run.folder), *own, *flags])
        with np.load(out) as stored:
            images: NDArray[np.uint8] = stored["images"][..., 0]
        return images


def classes(plan: Plan) -> Figures:
    """The digits, asked for by their class."""
    run = plan.trained("classes", "digits", "--data.labels")
    prepared = run.prepared()
    dataset, split, units = prepared.dataset, prepared.split, prepared.dataset.units
    assert dataset.labels is not None
    training, held_out = dataset.x_0(split.training), dataset.x_0(split.held_out)
    judge = trained_classifier(training, from_numpy(dataset.labels[split.training]))
    asked = np.arange(plan.count) % len(dataset.class_names)
    rows = {
        "training images": seen(judge, training, dataset.labels[split.training], held_out),
        "held-out images": {
            "asked class": right(judge, held_out, dataset.labels[split.held_out]),
            "copies": copy_rate(held_out, training).rate,
        },
    }
    shown = np.empty((0, 8, 8), np.uint8)
    for weight in WEIGHTS:
        flags = ("--label", "each", "--guidance", str(weight))
        levels = plan.sampled(run, f"classes-{weight}", plan.count, *flags)
        x = units.encode(levels[..., None])
        copies = {"copies": copy_rate(x, training).rate}
        rows[f"guidance {weight:g}"] = seen(judge, x, asked, held_out) | copies
        shown = levels if weight == SHOWN_WEIGHT else shown
    if plan.pictures is not None:
        pictures.of_classes(plan.pictures / "classes.png", rows, WEIGHTS, shown[: 6 * 10], SHOWN_WEIGHT)
    return about(run, plan.count, rows)


def seen(judge: Classifier, x: Samples, asked: NDArray[np.int64], held_out: Samples) -> dict[str, float]:
    """What the classifier says of some images that are to show these classes."""
    distance = frechet(judge.features(x), judge.features(held_out))
    return {"asked class": right(judge, x, asked), "Fréchet distance": distance}


def right(judge: Classifier, x: Samples, asked: NDArray[np.int64]) -> float:
    """The share of the images in which the classifier sees the class that was asked for."""
    return float((judge.classes(x).numpy() == asked).mean())


def vectors(plan: Plan) -> Figures:
    """The digits, asked for by two numbers."""
    dataset = digits()
    path = plan.out / "digits-vectors.npz"
    numbers = measured(dataset.images[..., 0])
    np.savez(path, images=dataset.images, levels=17, vectors=numbers, vector_names=NUMBERS)
    run = plan.trained("vectors", path, "--data.vectors", "--data.held-out", str(DIGITS_HELD_OUT))
    asked = numbers[run.prepared().split.held_out][: plan.count]
    np.save(plan.out / "asked.npy", asked)
    found = {}
    for weight in FEW_WEIGHTS:
        flags = ("--vector", str(plan.out / "asked.npy"), "--guidance", str(weight))
        found[weight] = measured(plan.sampled(run, f"vectors-{weight}", len(asked), *flags))
    if plan.pictures is not None:
        of_numbers = [np.quantile(asked[:, k], np.linspace(0.05, 0.95, 8)) for k in range(2)]
        net = np.stack(np.meshgrid(*of_numbers), -1).reshape(-1, 2)
        np.save(plan.out / "net.npy", net)
        flags = ("--vector", str(plan.out / "net.npy"), "--guidance", str(SHOWN_WEIGHT))
        shown = plan.sampled(run, "net", len(net), *flags)
        pictures.of_vectors(plan.pictures / "vectors.png", NUMBERS, asked, found, shown)
    rows = {f"guidance {weight:g}": agreement(asked, values) for weight, values in found.items()}
    return about(run, len(asked), rows)


def measured(levels: NDArray[np.uint8]) -> Array:
    """(n, 2): thickness, the mean level, and slant, columns to the right for each row upwards, by second moments.

    An image without ink has no slant: 0.
    """
    ink = levels.astype(np.float64)
    rows, columns = np.indices(ink.shape[1:])
    total = np.maximum(ink.sum((1, 2)), 1)
    up = -(rows - ((ink * rows).sum((1, 2)) / total)[:, None, None])
    right_of = columns - ((ink * columns).sum((1, 2)) / total)[:, None, None]
    along = (ink * up * up).sum((1, 2))
    slant = (ink * right_of * up).sum((1, 2)) / np.where(along > 0, along, 1)
    return np.stack([ink.mean((1, 2)), slant], 1)


def agreement(asked: Array, found: Array) -> dict[str, float]:
    """Of what was asked for and what came, for each number: correlation, and the error as a share of the deviation."""
    figures = {}
    for k, name in enumerate(NUMBERS):
        figures[f"{name}: correlation"] = float(np.corrcoef(asked[:, k], found[:, k])[0, 1])
        error = np.sqrt(np.square(asked[:, k] - found[:, k]).mean())
        figures[f"{name}: RMSE / deviation"] = float(error / asked[:, k].std())
    return figures


def pairs(plan: Plan) -> Figures:
    """Garments, each given its area means."""
    full = garments()
    path = plan.out / "pairs.npz"
    np.savez(path, images=full[..., None], conditions=as_levels(coarse(full))[..., None])
    own = ("--data.pairs", "--data.held-out", str(GARMENTS_HELD_OUT), "--network.patch", "2")
    run = plan.trained("pairs", path, *own)  # in patches, a step takes a third of the time
    truth = full[run.prepared().split.held_out][: plan.count]
    given = as_levels(coarse(truth))
    np.save(plan.out / "given.npy", given[..., None])
    flags = ("--condition", str(plan.out / "given.npy"))
    drawn = plan.sampled(run, "pairs", MEMBERS * len(given), *flags)
    members = drawn.reshape(MEMBERS, *truth.shape).astype(np.float64)
    smooth = np.stack([bicubic(image) for image in given])
    if plan.pictures is not None:
        pictures.of_pairs(plan.pictures / "pairs.png", given, smooth, members, truth)
    return about(run, len(given), of_members(members, smooth, truth.astype(np.float64), given))


def garments() -> NDArray[np.uint8]:
    """The first garments of Fashion-MNIST, (n, 28, 28). Raises DataError where they are not here."""
    path = GARMENTS / TRAINING
    if not path.exists():
        raise DataError(f"there is no {path}", "apt install dataset-fashion-mnist")
    return read_idx(path)[:GARMENTS_TAKEN]


def coarse(images: NDArray[Any]) -> Array:
    """Means over squares, (..., h, w) to (..., h / 4, w / 4)."""
    *more, height, width = images.shape
    parts = images.reshape(*more, height // COARSER, COARSER, width // COARSER, COARSER)
    means: Array = parts.mean((-3, -1), dtype=np.float64)
    return means


def as_levels(values: Array) -> NDArray[np.uint8]:
    return np.rint(values).astype(np.uint8)


def bicubic(image: NDArray[np.uint8]) -> Array:
    """Scaled up by Pillow."""
    size = image.shape[1] * COARSER, image.shape[0] * COARSER
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC), np.float64)


def of_members(
    members: Array, smooth: Array, truth: Array, given: NDArray[np.uint8]
) -> dict[str, dict[str, float]]:
    """Errors in levels of 255, from the truth and, of the area means, from what was given.

    members: (M, n, h, w). Their spread is the root of the mean of their unbiased variance. Were the truth one more
    member, the squared error of the mean of M would be (1 + 1/M) times their variance: the ratio of the spread, times
    the root of that factor, and the error is then 1; below 1 the members are too much alike.
    """
    middle = members.mean(0)
    spread = float(np.sqrt(members.var(0, ddof=1).mean()))
    ratio = (1 + 1 / len(members)) ** 0.5 * spread / rmse(middle, truth)

    def errors(guess: Array) -> dict[str, float]:
        return {"RMSE": rmse(guess, truth), "RMSE of the area means": rmse(coarse(guess), given)}

    return {
        "one sample": errors(members),
        f"mean of {len(members)} samples": errors(middle) | {"spread": spread, "spread / error": ratio},
        "bicubic": errors(smooth),
    }


def rmse(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(np.sqrt(np.square(one - other.astype(np.float64)).mean()))


def about(run: Run, count: int, rows: dict[str, dict[str, float]]) -> Figures:
    """The figures, and what they rest on."""
    settings = run.settings
    return {
        "steps": settings.training.steps,
        "parameters": sum(p.numel() for p in run.load().network.parameters()),
        "count": count,
        "rows": rows,
    }


CASES: dict[str, tuple[Callable[[Plan], Figures], int, int]] = {
    "classes": (classes, 5000, 1000),
    "vectors": (vectors, 3000, 500),
    "pairs": (pairs, 2500, 200),
}
"""By name: the case, its steps, its count."""


def in_table(case: str, figures: Figures) -> str:
    """A line above, then a row for each thing measured."""
    rows = figures["rows"]
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    cells = [[name, *(f"{row[c]:.4g}" if c in row else "" for c in columns)] for name, row in rows.items()]
    title = f"{figures['steps']:,} steps, {figures['parameters']:,} parameters, n = {figures['count']:,}"
    return f"{case}: {title}\n\n{table(['', *columns], cells)}\n"


def main(arguments: Sequence[str]) -> int:
    """Run the cases."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(CASES)}; default: all")
    parser.add_argument("--out", type=Path, default=Path("runs/conditions"), help="default: %(default)s")
    parser.add_argument("--steps", type=int, help="of each training; default: 5000, 3000, 2500")
    parser.add_argument("--minutes", type=float, help="of each training, in place of steps")
    parser.add_argument("--count", type=int, help="samples at a weight, or pairs; default: 1000, 500, 200")
    parser.add_argument("--calls", type=int, default=50, help="DDIM steps; default: %(default)s")
    parser.add_argument("--threads", default="auto", help="of training; default: %(default)s")
    parser.add_argument("--pictures", type=Path, help="a folder for classes.png, vectors.png, pairs.png")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.cases) - set(CASES):
        parser.error(f"there is no case {min(unknown)!r}")
    for folder in filter(None, (asked.out, asked.pictures)):
        folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in asked.cases or CASES:
        case, steps, count = CASES[name]
        chosen = ("--minutes", asked.minutes) if asked.minutes else ("--steps", asked.steps or steps)
        length = (*map(str, chosen), "--machine.threads", asked.threads)
        found[name] = case(Plan(asked.out, length, asked.count or count, asked.calls, asked.pictures))
    of = machine()
    text = "\n".join([*(in_table(name, figures) for name, figures in found.items()), in_words(of)])
    return report({**found, "machine": of}, text, as_json=asked.json)


if __name__ == "__main__":
    leave(main)
