"""The parts of an operator's word, NAME:PART:PART: as many as it takes, and the edges of a blur."""

from pathlib import Path
from typing import Final, get_args

from kakusan.operators import Edges

MOST: Final = {
    "blur": 2,
    "gauss": 2,
    "down": 1,
    "fourier": 2,
    "matrix": 1,
    "radon": 1,
    "magnitude": 1,
    "clip": 2,
    "quantize": 1,
}
"""Parts after the name, at the most; those of the others are looked at one by one."""
OF_RANDOM: Final = 3
"""Of mask:random:SHARE:SEED."""
OF_FILES: Final = (".npy", ".npz")


def problem_of(name: str, options: str) -> str | None:
    """The reason why these options have a part too many, or a second one that is no edges; None where they do not.

    A file may have a colon in its name.
    """
    parts, edges = options.split(":"), get_args(Edges)
    most = _most(name, parts)
    file = options.rpartition(":")[0] if parts[-1] in edges else options
    if most is None or len(parts) < 2 or Path(file).expanduser().is_file():
        return None
    if len(parts) > most:
        takes = f"{most} part{'s' * (most > 1)} after the name"
        return f"it takes {takes}, and {':'.join(parts[most:])!r} is one too many"
    if name in ("blur", "gauss") and parts[-1] not in edges:
        return f"edges are {', '.join(edges)}, not {parts[-1]!r}"
    return None


def _most(name: str, parts: list[str]) -> int | None:
    if name == "mask":
        if parts[0] == "random":
            return OF_RANDOM
        return 1 if parts[0].startswith("hide-") or Path(parts[0]).suffix else None
    if name == "fourier" and Path(parts[0]).suffix.lower() in OF_FILES:
        return 1
    return MOST.get(name)
