"""The sampler that is taken where none is named: the best of a measured table.

A run lays better times over it where it knows some: entropic ones, or those that were tuned (`Run.sampler`).
benchmarks/few_calls.py measures it, docs/samplers.md shows it: networks for images on the cosine schedule, at 3 to 50
calls. Elsewhere, as on other schedules and for points, it is as good a guess as any.
"""

from kakusan.config.section import AUTO
from kakusan.samplers.base import Sampler
from kakusan.samplers.sa_solver import SASolver

BEST, BEST_NAME, BEST_SPACING = SASolver, "sa-solver", "trailing"
CALLS = 10
"""Network calls for a sample where no number is given."""
NOISY_FROM = 8
"""Calls from which fresh noise mends errors of the network; in fewer, longer steps it only blurs where they lead."""
NOISE = 0.5
"""eta from there on."""


def auto(T: int, steps: int | None = None, spacing: str | None = None) -> Sampler:
    """The best sampler in so many steps, 10 where none are given, or in T where there are fewer."""
    calls = min(CALLS, T) if steps is None else steps
    return BEST(steps=calls, spacing=spacing or BEST_SPACING, eta=NOISE if calls >= NOISY_FROM else 0.0)


__all__ = ["AUTO", "BEST", "BEST_NAME", "BEST_SPACING", "CALLS", "auto"]
