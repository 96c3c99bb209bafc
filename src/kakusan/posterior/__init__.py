"""Samples of x given y = A(x) + noise: measurements, their noise, and methods, one paper a file."""

from kakusan.posterior.base import Guiding, Method
from kakusan.posterior.fitting import FittedNoise, fitted_noise
from kakusan.posterior.measurement import Measurement
from kakusan.posterior.mmps import MMPS
from kakusan.posterior.noise import Gaussian, Noise, Poisson, Student, Unknown
from kakusan.posterior.restoring import Restoration, restore

METHODS: dict[str, type[Method]] = {"mmps": MMPS}
"""Methods by name."""

__all__ = [
    "METHODS",
    "MMPS",
    "FittedNoise",
    "Gaussian",
    "Guiding",
    "Measurement",
    "Method",
    "Noise",
    "Poisson",
    "Restoration",
    "Student",
    "Unknown",
    "fitted_noise",
    "restore",
]
