"""Points, arrows and paths as the data of SVG paths, in whole units of a square of 1,000."""

from collections.abc import Iterable

import numpy as np

from kakusan.pages.plane.film import GRID, REACH, Floats

HALF = 500
SHOWN = 3.2
"""Half the side of the picture, in units of the data's deviation."""
LONGEST = 0.92
"""Of an arrow, in distances of the grid."""
THICK = 0.075
"""Half the width of an arrow at its tail, in the same."""
CELL = 2 * REACH / (GRID - 1) * HALF / SHOWN


def dots(x: Floats) -> str:
    """Each point as a line of no length, which a round cap makes a dot."""
    return "".join(f"M{at}h0" for at in _places(x))


def line(x: Floats) -> list[str]:
    """The vertices of a path in its order, as "x y"."""
    return list(_places(x))


def drawn(vertices: Iterable[str]) -> str:
    """Vertices joined."""
    return "M" + "L".join(vertices)


def arrows(grid: Floats, directions: Floats) -> str:
    """A needle from each place of the grid along its direction, at most as long as fits between two places."""
    length = np.linalg.norm(directions, axis=1, keepdims=True)
    unit = directions / np.maximum(length, 1e-9)
    reach = np.tanh(length) * LONGEST * CELL * SHOWN / HALF
    side = unit[:, ::-1] * np.array([-1, 1]) * THICK * CELL * SHOWN / HALF
    corners = (_places(grid + side), _places(grid + unit * reach), _places(grid - side))
    return "".join(
        f"M{a}L{tip}L{b}Z" for a, tip, b, far in zip(*corners, reach[:, 0] > 0.02, strict=True) if far
    )


def _places(x: Floats) -> list[str]:
    """Right and down, as in SVG; what is far outside stays at the edge of what is drawn."""
    at = np.clip(np.rint(x * (HALF / SHOWN)), -2 * HALF, 2 * HALF).astype(int)
    return [f"{px} {-py}" for px, py in at.tolist()]
