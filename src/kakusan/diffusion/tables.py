"""Paths, schedules and parametrizations by their names.

A new one is a file beside this one and a line here, which makes it a choice of the settings, with its fields as
options, and an entry of the tests of its kind: docs/extending.md.
"""

from typing import Any

from kakusan.diffusion import parametrizations
from kakusan.diffusion.learned import Learned
from kakusan.diffusion.parametrizations import Parametrization
from kakusan.diffusion.paths import EDM, FlowMatching
from kakusan.diffusion.schedules import Cosine, Linear, NoiseSchedule, ScaledLinear, Sigmoid, SigmoidBetas

PATHS: dict[str, Any] = {"vp": NoiseSchedule, "flow": FlowMatching, "edm": EDM}
"""Classes of paths; `NoiseSchedule` stands for the schedule that is chosen."""

SCHEDULES: dict[str, type[NoiseSchedule]] = {
    "linear": Linear,
    "cosine": Cosine,
    "sigmoid": Sigmoid,
    "scaled-linear": ScaledLinear,
    "sigmoid-betas": SigmoidBetas,
    "learned": Learned,
}
"""Schedules that follow from T, or begin as such; `Given` and `ZeroTerminalSNR` need more."""

PARAMETRIZATIONS: dict[str, Parametrization] = {
    "eps": parametrizations.EPS,
    "x_0": parametrizations.X_0,
    "v": parametrizations.V,
    "flow": parametrizations.FLOW,
    "edm": parametrizations.EDM,
}
