"""Samplers: ways from noise to image. One paper a file; a new one is a class and a line in `SAMPLERS`."""

from kakusan.samplers.ancestral import Ancestral
from kakusan.samplers.base import SPACINGS, Sampler, State
from kakusan.samplers.ddim import DDIM
from kakusan.samplers.sampling import Drawn, Order, Origin, draw, sample
from kakusan.samplers.walk import NoiseSource, SeededNoise, Snapshot, visited, walk

SAMPLERS: dict[str, type[Sampler]] = {"ancestral": Ancestral, "ddim": DDIM}

__all__ = [
    "DDIM",
    "SAMPLERS",
    "SPACINGS",
    "Ancestral",
    "Drawn",
    "NoiseSource",
    "Order",
    "Origin",
    "Sampler",
    "SeededNoise",
    "Snapshot",
    "State",
    "draw",
    "sample",
    "visited",
    "walk",
]
