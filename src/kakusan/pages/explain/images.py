"""Pictures as text for a page: an image as a PNG in a data URI, a cloud of points as two paths of an SVG."""

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kakusan.data.units import Levels, Real, Units
from kakusan.shapes import Samples

SIDE = 32
"""Larger images are shown with every second, third, ... pixel only: noise stays noise, and the page small."""
NOISE_SHOWN = 2.5
"""Half-width, in the network's units, of what a picture of pure noise shows from black to white."""
CLEAN = frozenset({"x_0", "guess", "walk_guess", "walk_end"})
NOISE = frozenset({"z", "eps", "eps_hat", "eps_error", "fresh", "walk_start", "ddim_z"})
COLOUR_SHADES = {"clean": 64, "noisy": 16}
"""Colour noise hardly packs: so many shades a channel keep the page small, and in noise it is not seen."""
HALF = 100
"""Half the side of a cloud's picture, in its own units."""
CLOUD_SHOWN = 3.2


@dataclass(frozen=True)
class Painter:
    """Draws the pictures of one page, all in the same way."""

    units: Units
    is_points: bool

    def drawn(self, pictures: Mapping[str, Samples], alpha_bar: float = 1.0) -> dict[str, str]:
        """Each picture as the page holds it; alpha_bar: the share of image in those that are on their way."""
        if self.is_points:
            return {name: cloud_paths(x) for name, x in pictures.items()}
        return {name: png_uri(self._packed(name, x, alpha_bar)) for name, x in pictures.items()}

    def shades(self, name: str, x: Samples, alpha_bar: float = 1.0) -> NDArray[np.uint8]:
        """(height, width, 1 or 3) bytes of the first image."""
        step = -(-max(x.shape[2:]) // SIDE)
        scale = Real((0.0,), (1.0,), shown=self._shown(name, alpha_bar))
        shades: NDArray[np.uint8] = scale.to_bytes(x[:1, :, ::step, ::step])[0]
        return shades if shades.shape[2] in (1, 3) else shades[..., :1]

    def _packed(self, name: str, x: Samples, alpha_bar: float) -> NDArray[np.uint8]:
        shades = self.shades(name, x, alpha_bar)
        if shades.shape[2] == 1:
            return shades
        top = COLOUR_SHADES["clean" if name in CLEAN else "noisy"] - 1
        fewer: NDArray[np.uint8] = np.rint(np.rint(shades * (top / 255)) * (255 / top)).astype(np.uint8)
        return fewer

    def _shown(self, name: str, alpha_bar: float) -> float:
        """From black to white it is twice this: stretched with the noise, as a photograph is exposed."""
        clean = 1.0 if isinstance(self.units, Levels) else self.units.shown
        share = 1.0 if name in CLEAN else 0.0 if name in NOISE else alpha_bar
        return float(np.hypot(np.sqrt(share) * clean, np.sqrt(1 - share) * NOISE_SHOWN))


def png_uri(shades: NDArray[np.uint8]) -> str:
    """The picture, (height, width, 1 or 3), within the page itself."""
    return "data:image/png;base64," + base64.b64encode(_png(shades)).decode("ascii")


def _png(shades: NDArray[np.uint8]) -> bytes:
    """A PNG file whose rows are not filtered: filters make photographs smaller, and noise larger by a third."""
    height, width, channels = shades.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in shades)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def cloud_paths(x: Samples) -> str:
    """The first point and the others, as two paths of dots (lines of no length) with a bar between them."""
    dots = [f"M{px} {py}h0" for px, py in _places(x)]
    return f"{dots[0]}|{''.join(dots[1:])}"


def _places(x: Samples) -> Sequence[tuple[int, int]]:
    limit = 1.2 * HALF
    at = (x.flatten(1) * (HALF / CLOUD_SHOWN)).clamp(-limit, limit).round().int()
    return [(px, -py) for px, py in at.tolist()]
