"""One image file to bytes, by rules that are stated here and nowhere else.

- The format is recognized by content, not by name: PNG, JPEG, WebP, BMP, TIFF, GIF. Of several frames, the first.
- Rotation noted by a camera (EXIF) is applied.
- Transparent images are laid over white. Palettes become colours; CMYK and other colour spaces become RGB.
- 16-bit grey becomes 8-bit by a division by 257, rounded; of 16-bit colour Pillow keeps the upper 8 bits.
  Black and white become 0 and 255. Floats and 32-bit integers are refused: they belong into a NumPy file.
- An image of another size is scaled (Lanczos, with antialias) until it covers the wanted size, and its middle
  is cut out; JPEG is decoded at a fraction of its size where that is still twice the wanted one. An image of
  the wanted size is taken as it is.
- Images of more than 64 megapixels are refused, before they are decoded.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
MOST_PIXELS = 64_000_000
FORMATS_IN_WORDS = "PNG, JPEG, WebP, BMP, TIFF or GIF"
IMAGE_NAMES = tuple(
    f".{suffix}"
    for suffix in (
        *("png", "apng", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "dib", "tif", "tiff", "gif"),
        *(
            "heic",
            "heif",
            "avif",
            "jp2",
            "jxl",
            "psd",
            "ico",
            "tga",
            "ppm",
            "pgm",
            "pbm",
            "exr",
            "hdr",
        ),
    )
)
"""Suffixes by which a file claims to be an image; one that is not is then bad, and not merely ignored."""
TOO_LARGE = f"it has more than {MOST_PIXELS:,} pixels: make it smaller first"
DEEP_GREY, OVER_WHITE, FIRST_FRAME = "16-bit grey to 8-bit", "laid over white", "only its first frame"
LOSSY = (DEEP_GREY, OVER_WHITE, FIRST_FRAME)
"""Conversions that keep less than there was."""
TURNED, QUARTER_TURNED = range(2, 9), range(5, 9)
WHITE = (255, 255, 255, 255)

for plugin in (
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
):
    assert plugin  # imported so that Pillow knows them, and need not load every plugin it has


class BadPictureError(Exception):
    """This file ought to be an image and cannot be read; the text says why."""


class NotAnImageError(Exception):
    """This file is no image and does not claim to be one."""


@dataclass(frozen=True)
class Header:
    """The properties of an image that its file states before it is decoded."""

    width: int
    height: int
    """Both after the rotation that the file asks for."""
    mode: str
    format: str
    is_grey: bool
    conversions: tuple[str, ...]
    """The conversions that its pixels will undergo, apart from their size."""


def read_header(path: Path) -> Header:
    """Raises BadPictureError or NotAnImageError."""
    try:
        with _open(path) as image:
            return _header_of(image)
    except (BadPictureError, NotAnImageError):
        raise
    except Exception as error:  # a damaged file can make a decoder raise anything
        raise BadPictureError(_reason(error)) from error


def read_pixels(
    path: Path, height: int, width: int, channels: int, *, by_area: bool = False
) -> NDArray[np.uint8]:
    """(height, width, channels) bytes. Raises BadPictureError or NotAnImageError.

    by_area: pixels are means of what they cover, as masks need them.
    """
    try:
        with _open(path) as image:
            enough = 2 * max(height, width)
            image.draft(None, (enough, enough))
            plain = _plain(image, "L" if channels == 1 else "RGB")
            if plain.size != (width, height):
                how = Image.Resampling.BOX if by_area else Image.Resampling.LANCZOS
                plain = ImageOps.fit(plain, (width, height), how)
            return np.asarray(plain, np.uint8).reshape(height, width, channels)
    except (BadPictureError, NotAnImageError):
        raise
    except Exception as error:  # a damaged file can make a decoder raise anything
        raise BadPictureError(_reason(error)) from error


def read_opacity(path: Path) -> NDArray[np.uint8] | None:
    """The alpha of a picture, upright, (height, width), 255 where it is opaque; None where it has none."""
    with _open(path) as image:
        image.load()
        of_16_bits = image.mode.startswith(
            "I"
        )  # of which one value may be transparent, and there is no alpha
        if of_16_bits or not image.has_transparency_data:
            return None
        if _orientation(image) in TURNED:
            ImageOps.exif_transpose(image, in_place=True)
        return np.asarray(image.convert("RGBA"))[..., 3]


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path, formats=FORMATS)
    except UnidentifiedImageError:
        if path.suffix.lower() not in IMAGE_NAMES:
            raise NotAnImageError from None
        empty = path.stat().st_size == 0
        raise BadPictureError(
            "it is empty" if empty else f"no {FORMATS_IN_WORDS} can be recognized in it"
        ) from None
    if image.width * image.height > MOST_PIXELS:
        image.close()
        raise BadPictureError(TOO_LARGE)
    return image


def _header_of(image: Image.Image) -> Header:
    # of a PNG, notes behind the pixels would cost a decoding: here they are left unread
    orientation = 1 if image.format == "PNG" and "exif" not in image.info else _orientation(image)
    turned = (
        orientation in QUARTER_TURNED and image.format != "TIFF"
    )  # Pillow has turned a TIFF's size already
    width, height = reversed(image.size) if turned else image.size
    return Header(
        width=width,
        height=height,
        mode=image.mode,
        format="JPEG" if image.format == "MPO" else image.format or "",
        is_grey=_is_grey(image),
        conversions=_conversions(image, orientation),
    )


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return TOO_LARGE
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged notes of a camera do not spoil its picture
        return 1


def _conversions(image: Image.Image, orientation: int) -> tuple[str, ...]:
    by_mode = {"1": "black and white to 0 and 255", "P": "palette to colours", "PA": "palette to colours"}
    by_mode |= {mode: f"{mode} to RGB" for mode in ("CMYK", "YCbCr", "LAB", "HSV")}
    by_mode |= dict.fromkeys(("I;16", "I;16B", "I;16L", "I;16N"), DEEP_GREY)
    found = [
        (orientation in TURNED, "rotated as its EXIF says"),
        (image.mode in by_mode, by_mode.get(image.mode, "")),
        (image.has_transparency_data, OVER_WHITE),
        (getattr(image, "is_animated", False), FIRST_FRAME),
    ]
    return tuple(name for applies, name in found if applies)


def _is_grey(image: Image.Image) -> bool:
    if image.mode in ("P", "PA"):
        return _palette_is_grey(image)
    return image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I;16")


def _palette_is_grey(image: Image.Image) -> bool:
    if image.palette is None:
        return False
    layout, colours = image.palette.getdata()
    values = np.frombuffer(bytes(colours), np.uint8)
    rows = values.reshape(3, -1).T if layout.endswith(";L") else _whole_rows(values, len(layout))
    return bool((rows[:, :1] == rows[:, :3]).all())


def _whole_rows(values: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    return values[: len(values) // width * width].reshape(-1, width)


def _plain(image: Image.Image, mode: str) -> Image.Image:
    """The image upright and without transparency, in mode L or RGB."""
    image.load()
    if _orientation(image) in TURNED:
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16"):
        image = _from_16_bits(image)
    elif image.mode == "F":
        raise BadPictureError("its values are floats: store them in a NumPy file")
    elif image.mode == "I":
        raise BadPictureError("its values are 32-bit integers: store them in a NumPy file")
    elif image.has_transparency_data:
        colours = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", colours.size, WHITE), colours)
    elif image.mode not in ("L", "RGB", "1"):
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def _from_16_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))
