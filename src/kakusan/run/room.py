"""The memory that samples take, before they are drawn."""

import math

from kakusan.config.machine import memory_of_the_machine
from kakusan.errors import SettingsError

BYTES = 28
"""Of a value of the samples: itself, gathered once more, in float64 for the mean, sorted with places for quantiles."""


def require_room(samples: int, shape: tuple[int, ...]) -> None:
    """Raises SettingsError for more samples of this shape than fit in the memory of the machine."""
    needed, there = BYTES * samples * math.prod(shape), memory_of_the_machine()
    if there is not None and needed > there:
        raise SettingsError(
            f"{samples:,} samples take {needed / 1e9:,.0f} GB of memory, and this machine has {there / 1e9:,.0f} GB",
            "draw them in parts: --count with --first, which goes on in the series of the seed",
        )
