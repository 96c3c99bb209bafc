"""Samples of x given y = A(x) + noise: measurements, their noise, and methods, one paper a file."""

from kakusan.posterior.base import Guiding, Method
from kakusan.posterior.measurement import Measurement
from kakusan.posterior.mmps import MMPS
from kakusan.posterior.noise import Gaussian, Noise
from kakusan.posterior.restoring import Restoration, restore

METHODS: dict[str, type[Method]] = {"mmps": MMPS}
"""Methods by name."""

__all__ = [
    "METHODS",
    "MMPS",
    "Gaussian",
    "Guiding",
    "Measurement",
    "Method",
    "Noise",
    "Restoration",
    "restore",
]
