"""Films and film strips of a sampling, with their times: pictures for the eye, and the files that hold them.

A film is lossless where its format is: in a .webp and an animated .png each pixel is that of the picture. A .gif holds
256 colours a picture. What is drawn on a transparent ground (signals, points) is laid over white.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, features

from kakusan.data.canvas import GAP, Series, followed
from kakusan.data.rendering import film_strip, view_of, walk_strip
from kakusan.data.space import POINTS, noun_of
from kakusan.data.units import Units
from kakusan.errors import SettingsError

ENDINGS = {".webp": "WEBP", ".gif": "GIF", ".png": "PNG"}
"""Films by the ending of their file."""
SECONDS = 5.0
"""Length of a film, as far as that leaves 40 to 400 milliseconds for each of its pictures."""
FASTEST, SLOWEST = 40, 400
LAST = 2000
"""Milliseconds for which the last picture stays."""
LEAST_WIDTH = 256
"""Shades are magnified until a picture of a film is about so wide."""
MOST_PIXELS = 400_000_000
"""In all pictures of a film: about a minute of compression."""
LETTERS, BAND = 13, 22
"""Height of the letters, and of the band that they stand in, in pixels."""
INK: dict[str, int | tuple[int, ...]] = {"L": 224, "RGB": (224, 224, 224), "RGBA": (128, 128, 128, 255)}
"""Letters on black, and on a transparent ground, below which there may be any."""


def check_film(path: Path) -> None:
    """Raises SettingsError for a file that is no film by its ending, or of a format that Pillow lacks here."""
    if path.suffix.lower() not in ENDINGS:
        ending = f"as {path.suffix}" if path.suffix else "without an ending"
        raise SettingsError(f"films are not written {ending}: {path}", "name a .webp, a .gif or a .png")
    if path.suffix.lower() == ".webp" and not features.check("webp"):
        raise SettingsError("Pillow was built without WebP here", "name a .gif or a .png")


def check_size(frames: int, size: tuple[int, int]) -> None:
    """Raises SettingsError for a film of more pixels than one should wait for. size: width and height."""
    width, height = size
    if frames * width * height > MOST_PIXELS:
        fitting = MOST_PIXELS // (width * height)
        raise SettingsError(
            f"{frames:,} frames of {width}x{height} pixels are too many for a film",
            f"take {max(2, fitting):,} or fewer: --frames {max(2, fitting)}",
        )


def encode_film(frames: Iterable[Image.Image], ending: str) -> bytes:
    """The bytes of a film that repeats forever; the same pictures give the same bytes. ending: in `ENDINGS`."""
    first, *others = (_over_white(frame) for frame in frames)
    each = int(
        min(SLOWEST, max(FASTEST, 1000 * SECONDS / (1 + len(others)))) // 10 * 10
    )  # a .gif counts in 10 ms
    buffer, form = io.BytesIO(), ENDINGS[ending.lower()]
    options = {"lossless": True, "method": 2} if form == "WEBP" else {}
    times = [each] * len(others) + [LAST]
    first.save(buffer, form, save_all=True, append_images=others, duration=times, loop=0, **options)
    return buffer.getvalue()


def _over_white(picture: Image.Image) -> Image.Image:
    if picture.mode != "RGBA":
        return picture
    ground = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    return Image.alpha_composite(ground, picture).convert("RGB")


def film_frames(rows: Series, units: Units, words: Sequence[Sequence[str]]) -> Iterator[Image.Image]:
    """One picture for each time, the series side by side. words: at each time, those above each of the series."""
    view = view_of(rows[0][0].shape[1:])
    for pictures, above in zip(view.film(rows, units), words, strict=True):
        yield _side_by_side([_below_words(_large(p), [w]) for p, w in zip(pictures, above, strict=True)])


def _large(picture: Image.Image) -> Image.Image:
    """Shades magnified with hard edges, where there are few; what is drawn as it is."""
    scale = max(1, round(LEAST_WIDTH / picture.width)) if picture.mode != "RGBA" else 1
    size = (scale * picture.width, scale * picture.height)
    return picture.resize(size, Image.Resampling.NEAREST) if scale > 1 else picture


def captioned_strip(rows: Series, units: Units, words: Sequence[str]) -> Image.Image:
    """A column for each time, its word above it; one below the other the series of each sample, of points of all.

    rows: series of batches, the same samples in each.
    """
    shape, count = rows[0][0].shape[1:], len(rows[0][0])
    if noun_of(shape) is POINTS:
        return _below_words(walk_strip(rows, units), words)
    each = [row for one in range(count) for row in followed(rows, one)]
    return _below_words(film_strip(each, units), words)


def _side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    first, gap = pictures[0], 2 * GAP
    width = sum(picture.width + gap for picture in pictures) - gap
    sheet = Image.new(first.mode, (width, first.height))
    left = 0
    for picture in pictures:
        sheet.paste(picture, (left, 0))
        left += picture.width + gap
    return sheet


def _below_words(picture: Image.Image, words: Sequence[str]) -> Image.Image:
    """The picture below a band with words, each in the middle of its share of the width."""
    sheet = Image.new(picture.mode, (picture.width, picture.height + BAND))  # black, or transparent
    sheet.paste(picture, (0, BAND))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(LETTERS)
    wide = (picture.width + GAP) / len(words)
    for i, word in enumerate(words):
        middle = (i * wide + (wide - GAP) / 2, BAND / 2)
        shown = word if font.getlength(word) <= wide else word.rpartition(" ")[2]
        draw.text(middle, shown, fill=INK[picture.mode], font=font, anchor="mm")
    return sheet
