"""Kanji that never were, and the real ones nearest to them: python benchmarks/kanji_gallery.py RUN --out FILE.png.

The glyphs are the first of a seed, in their order: nothing is picked. Under each stands the nearest of the glyphs that
the run was trained on, the one that differs in the fewest of the 256 pixels (exact, over all of them). The same is
counted for more samples, and for the held-out glyphs, which the run has never seen either (拡 and 散 among them).
"""

import argparse
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from measuring import Figures, leave, prepared_as, report, table
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from kakusan.data.builtin import RESERVED_KANJI
from kakusan.evaluation.metrics import copy_rate, nearest
from kakusan.run import Run, usual_sampler
from kakusan.storage.durable import atomic_write

Glyphs: TypeAlias = NDArray[np.uint8]
"""(n, 16, 16) of 0 and 1; ink is 1."""

PAPER, INK, EDGE = (252, 249, 242, 255), (26, 24, 22, 255), (128, 128, 128, 90)
DIM = (128, 128, 128, 255)  # as far from white as from GitHub's dark ground
FINE = 4  # the rounded corners are drawn this much larger, then reduced


@dataclass(frozen=True)
class Layout:
    """Sizes in pixels: at scale 6, a picture shown at half its size is sharp on every screen."""

    scale: int = 6
    """A pixel of a new glyph."""
    columns: int = 12

    @property
    def small(self) -> int:
        """A pixel of a real glyph."""
        return max(1, 2 * self.scale // 3)

    @property
    def tile(self) -> int:
        return 20 * self.scale  # a margin of two glyph pixels around

    @property
    def pitch(self) -> tuple[int, int]:
        """From one cell to the next, right and down."""
        return 22 * self.scale, self.tile + 16 * self.small + 5 * self.scale

    def size(self, count: int) -> tuple[int, int]:
        """Of the whole picture."""
        columns, rows = min(self.columns, count), -(-count // self.columns)
        return columns * self.pitch[0] - 2 * self.scale, rows * self.pitch[1] - 4 * self.scale

    def corner(self, index: int) -> tuple[int, int]:
        """The upper left corner of a cell."""
        row, column = divmod(index, self.columns)
        return column * self.pitch[0], row * self.pitch[1]


@dataclass(frozen=True)
class Gallery:
    """Samples, and for each the nearest glyph of the training."""

    samples: Glyphs
    training: Glyphs
    held_out: Glyphs
    characters: tuple[str, ...]
    """Of the training glyphs."""
    nearest: NDArray[np.int64]
    """For each sample its place in the training glyphs."""
    differing: NDArray[np.int64]
    """For each sample the number of pixels in which it differs from that one."""


def gallery_of(run: Run, count: int, seed: int) -> Gallery:
    """The first samples of a seed: averaged weights, DDIM in 50 steps, ink where a pixel is nearer to ink."""
    prepared = prepared_as(run, "kanji")
    dataset, split = prepared.dataset, prepared.split
    drawn = run.sample(count, usual_sampler(run.settings), seed=seed)
    samples = dataset.units.decode(drawn)[..., 0].astype(np.uint8)
    training = dataset.gather(split.training)[..., 0]
    places, differing = nearest_glyphs(samples, training)
    characters = tuple(dataset.captions[i] for i in split.training)
    held_out = dataset.gather(split.held_out)[..., 0]
    return Gallery(samples, training, held_out, characters, places, differing)


def nearest_glyphs(glyphs: Glyphs, references: Glyphs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The place of the nearest reference and the pixels that differ: of bits, the Euclidean distance squared."""
    distances, places = nearest(torch.from_numpy(glyphs), torch.from_numpy(references), k=1)
    return places[:, 0].numpy(), distances[:, 0].square().round().long().numpy()


def measure(gallery: Gallery, shown: int) -> Figures:
    """All figures of this benchmark."""
    _, from_held_out = nearest_glyphs(gallery.samples, gallery.held_out)
    _, of_held_out = nearest_glyphs(gallery.held_out, gallery.training)
    training = torch.from_numpy(gallery.training)
    return {
        "samples": len(gallery.samples),
        "training_glyphs": len(gallery.training),
        "held_out_glyphs": len(gallery.held_out),
        "exact_copies": int((gallery.differing == 0).sum()),
        "exact_copies_of_held_out": int((from_held_out == 0).sum()),
        "copy_rate_samples": copy_rate(torch.from_numpy(gallery.samples), training).rate,
        "copy_rate_held_out": copy_rate(torch.from_numpy(gallery.held_out), training).rate,
        "median_differing_samples": float(np.median(gallery.differing)),
        "median_differing_held_out": float(np.median(of_held_out)),
        "ink_samples": float(gallery.samples.mean()),
        "ink_training": float(gallery.training.mean()),
        "shown": [
            {"nearest": gallery.characters[place], "differing": int(differing)}
            for place, differing in zip(gallery.nearest[:shown], gallery.differing[:shown], strict=True)
        ],
    }


def picture(gallery: Gallery, count: int, layout: Layout) -> Image.Image:
    """New glyphs as ink on paper, the nearest real ones below them in grey; all else is transparent."""
    canvas = Image.new("RGBA", layout.size(count))
    tile = paper(layout)
    for index in range(count):
        x, y = layout.corner(index)
        canvas.alpha_composite(tile, (x, y))
        margin = (layout.tile - 16 * layout.scale) // 2
        new = painted(gallery.samples[index], layout.scale, INK)
        canvas.alpha_composite(new, (x + margin, y + margin))
        real = painted(gallery.training[gallery.nearest[index]], layout.small, DIM)
        canvas.alpha_composite(real, (x + (layout.tile - real.width) // 2, y + layout.tile + layout.scale))
    return canvas


def paper(layout: Layout) -> Image.Image:
    """A rounded tile with a hairline around it."""
    side = layout.tile * FINE
    tile = Image.new("RGBA", (side, side), (*PAPER[:3], 0))
    line = max(1, layout.scale // 4)
    box = (0, 0, side - 1, side - 1)
    radius = 2 * layout.scale * FINE
    ImageDraw.Draw(tile).rounded_rectangle(box, radius, PAPER, EDGE, line * FINE)
    return tile.resize((layout.tile, layout.tile), Image.Resampling.BOX)


def painted(glyph: Glyphs, scale: int, colour: tuple[int, int, int, int]) -> Image.Image:
    """The ink of a glyph, each pixel a square of `scale`."""
    ink = glyph.repeat(scale, axis=0).repeat(scale, axis=1)[..., None]
    return Image.fromarray(np.asarray(ink * np.array(colour), dtype=np.uint8))


def save(image: Image.Image, out: Path) -> None:
    """As small as PNG can be: the picture has a handful of colours."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(out, buffer.getvalue())


def shown(run: Run, figures: Figures, columns: int) -> str:
    """The figures for people."""
    rows = [
        ("equal to a training glyph", figures["exact_copies"], "-"),
        ("equal to a held-out glyph", figures["exact_copies_of_held_out"], "-"),
        ("copy rate", f"{figures['copy_rate_samples']:.2%}", f"{figures['copy_rate_held_out']:.2%}"),
        (
            "pixels to the nearest, median",
            f"{figures['median_differing_samples']:.0f}",
            f"{figures['median_differing_held_out']:.0f}",
        ),
    ]
    header = ("", f"{figures['samples']} samples", f"{figures['held_out_glyphs']} held-out glyphs")
    return "\n".join(
        (
            f"{run.folder}: {figures['training_glyphs']:,} training glyphs; {RESERVED_KANJI} are not among them\n",
            table(header, [tuple(map(str, row)) for row in rows]),
            "\nthe nearest real characters, and the number of pixels that differ:",
            *in_rows(figures["shown"], columns),
        )
    )


def in_rows(found: Sequence[dict[str, Any]], columns: int) -> list[str]:
    """As they stand in the picture."""
    words = [f"{each['nearest']} {each['differing']:>3}" for each in found]
    return ["  " + "   ".join(words[i : i + columns]) for i in range(0, len(words), columns)]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run on the kanji")
    parser.add_argument("--out", type=Path, default=Path("docs/kanji.png"), help="default: %(default)s")
    parser.add_argument("--rows", type=int, default=3, help="of the picture (default: %(default)s)")
    parser.add_argument("--columns", type=int, default=12, help="of the picture (default: %(default)s)")
    parser.add_argument("--scale", type=int, default=6, help="pixels a glyph pixel (default: %(default)s)")
    parser.add_argument(
        "--count", type=int, default=240, help="samples that are counted (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the samples (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    pictured = asked.rows * asked.columns
    run = Run.open(asked.run)
    gallery = gallery_of(run, max(asked.count, pictured), asked.seed)
    save(picture(gallery, pictured, Layout(asked.scale, asked.columns)), asked.out)
    figures = {**measure(gallery, pictured), "picture": str(asked.out)}
    return report(figures, f"{shown(run, figures, asked.columns)}\n\n{asked.out}", as_json=asked.json)


if __name__ == "__main__":
    leave(main)
