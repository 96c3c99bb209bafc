"""Pictures as text for a page: an image as a PNG in a data URI, a cloud of points as two paths of an SVG."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from kakusan.maths.units import Levels, Real, Units
from kakusan.pictures import encode_png
from kakusan.shapes import Images

SIDE = 32
"""Larger images are shown with every second, third, ... pixel only: noise stays noise, and the page small."""
NOISE = frozenset({"z", "eps", "eps_hat", "eps_error", "fresh"})
"""Pictures of noise, which needs a wider scale than an image."""
NOISE_SHOWN = 2.5
"""Half-width, in the network's units, of what a picture of noise shows from black to white."""
COLOUR_SHADES = 32
"""Colour noise hardly packs: so many shades a channel keep the page small, and nobody sees it."""
HALF = 100
"""Half the side of a cloud's picture, in its own units."""
CLOUD_SHOWN = 3.2


@dataclass(frozen=True)
class Painter:
    """Draws the pictures of one page, all in the same way."""

    units: Units
    is_points: bool

    def drawn(self, pictures: Mapping[str, Images]) -> dict[str, str]:
        """Each picture as the page holds it."""
        return {name: self.one(name, x) for name, x in pictures.items()}

    def one(self, name: str, x: Images) -> str:
        return cloud_paths(x) if self.is_points else png_uri(self.shades(name, x))

    def shades(self, name: str, x: Images) -> NDArray[np.uint8]:
        """(height, width, 1 or 3) bytes of the first image."""
        if name in NOISE:
            scale: Units = Real((0.0,), (1.0,), shown=NOISE_SHOWN)
        else:
            scale = Levels(256) if isinstance(self.units, Levels) else self.units
        step = -(-max(x.shape[2:]) // SIDE)
        bytes_ = scale.to_bytes(x[:1, :, ::step, ::step])[0]
        return bytes_ if bytes_.shape[2] in (1, 3) else bytes_[..., :1]


def png_uri(shades: NDArray[np.uint8]) -> str:
    """The picture within the page itself."""
    if shades.shape[2] == 3:
        top = COLOUR_SHADES - 1
        shades = np.rint(np.rint(shades * (top / 255)) * (255 / top)).astype(np.uint8)
    image = Image.fromarray(shades.squeeze(2) if shades.shape[2] == 1 else shades)
    return "data:image/png;base64," + base64.b64encode(encode_png(image)).decode("ascii")


def cloud_paths(x: Images) -> str:
    """The first point and the others, as two paths of dots (lines of no length) with a bar between them."""
    dots = [f"M{px} {py}h0" for px, py in _places(x)]
    return f"{dots[0]}|{''.join(dots[1:])}"


def _places(x: Images) -> Sequence[tuple[int, int]]:
    limit = 1.2 * HALF
    at = (x.flatten(1) * (HALF / CLOUD_SHOWN)).clamp(-limit, limit).round().int()
    return [(px, -py) for px, py in at.tolist()]


def pixels(
    painter: Painter, pictures: Mapping[str, Images], names: Sequence[str]
) -> dict[str, NDArray[np.uint8]]:
    """Some of the pictures as bytes, for a terminal."""
    return {name: painter.shades(name, pictures[name]) for name in names}
