"""Samples of x given y = A(x) + noise: measurements, their noise, and methods, one paper a file."""

from kakusan.posterior.base import Guiding, Method
from kakusan.posterior.daps import DAPS
from kakusan.posterior.diffpir import DiffPIR
from kakusan.posterior.dps import DPS
from kakusan.posterior.exact import Exact, posterior
from kakusan.posterior.fitting import FittedNoise, fitted_noise
from kakusan.posterior.gibbs import Gibbs
from kakusan.posterior.measurement import Measurement
from kakusan.posterior.mmps import MMPS
from kakusan.posterior.noise import Gaussian, Noise, Poisson, Student, Unknown
from kakusan.posterior.restoring import Restoration, Restored, restore, restored
from kakusan.posterior.smc import SMC

METHODS: dict[str, type[Method]] = {
    "mmps": MMPS,
    "diffpir": DiffPIR,
    "gibbs": Gibbs,
    "smc": SMC,
    "daps": DAPS,
    "dps": DPS,
    "exact": Exact,
}
"""Methods by name."""

__all__ = [
    "DAPS",
    "DPS",
    "METHODS",
    "MMPS",
    "SMC",
    "DiffPIR",
    "Exact",
    "FittedNoise",
    "Gaussian",
    "Gibbs",
    "Guiding",
    "Measurement",
    "Method",
    "Noise",
    "Poisson",
    "Restoration",
    "Restored",
    "Student",
    "Unknown",
    "fitted_noise",
    "posterior",
    "restore",
    "restored",
]
