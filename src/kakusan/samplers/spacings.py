"""Spacings: where the steps of a walk lie. A new one is a function (path, steps) -> times and a line in `SPACINGS`.

Each gives `steps` times, falling from where the noise is; the walk ends with a step to t = 0, which is added later. The
first three are whole numbers, at which networks are trained. The others lie between t = 1, the least noise that a
network has seen, and T, or T - 1 where nothing of the data is left at T: there log-SNR and sigma have no end.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TypeAlias

import torch

from kakusan.diffusion.paths import Path, ends_in_pure_noise
from kakusan.errors import SettingsError
from kakusan.shapes import Coefficients

Spacing: TypeAlias = Callable[[Path, int], list[int] | list[float]]

RHO = 7.0
"""Karras et al. 2022 found images best with it; 3 would spread the errors of the steps evenly (appendix D.1)."""


def trailing(path: Path, steps: int) -> list[int]:
    """Evenly spaced and rounded, from T on."""
    return [round(path.T * i / steps) for i in range(steps, 0, -1)]


def leading(path: Path, steps: int) -> list[int]:
    """Every (T // steps)-th time from 1 up. A walk starts below T, as if there were noise alone.

    Raises SettingsError for a single step, which would start at t = 1 and return the noise.
    """
    if steps == 1 < path.T:
        raise SettingsError(
            "one step with the leading spacing starts at t = 1, where noise is taken for an image",
            "take 2 steps or more, or the spacing trailing",
        )
    return [1 + path.T // steps * i for i in reversed(range(steps))]


def linspace(path: Path, steps: int) -> list[int]:
    """Evenly spaced and rounded, from T to 1, both included; a single step starts at T."""
    if steps == 1:
        return [path.T]
    return [1 + round((path.T - 1) / (steps - 1) * i) for i in reversed(range(steps))]


def quadratic(path: Path, steps: int) -> list[float]:
    """Even in the root of t, from T to 1: denser at little noise (Song, Meng & Ermon 2021, appendix D.2)."""
    if steps == 1:
        return [float(path.T)]
    roots = _even(math.sqrt(path.T), 1.0, steps)
    return [float(path.T), *(root**2 for root in roots[1:-1]), 1.0]


def log_snr(path: Path, steps: int) -> list[float]:
    """Even in the log-SNR, in which a step of an exponential integrator is as long as any other (Lu et al. 2022a)."""
    return _between_ends(path, steps, lambda level: level, lambda place: place)


def karras(path: Path, steps: int) -> list[float]:
    """Even in sigma^(1/7), sigma = b / a (Karras et al. 2022, Eq. 5)."""
    return _between_ends(
        path, steps, lambda level: (-level / RHO).exp(), lambda place: -RHO * torch.log(place)
    )


def _between_ends(
    path: Path,
    steps: int,
    scale: Callable[[Coefficients], Coefficients],
    level_of: Callable[[Coefficients], Coefficients],
) -> list[float]:
    """Even in a scale of log(a / b), from the first time at which this is finite to t = 1; both as they are.

    Raises SettingsError where two steps or more would have to lie at one time.
    """
    start = path.T - 1 if ends_in_pure_noise(path) and steps > 1 else path.T
    if steps == 1:
        return [float(start)]
    if start <= 1:
        raise SettingsError(
            f"{steps} steps do not fit between t = 1 and t = {start}, the last with a finite log-SNR",
            "take a whole-numbered spacing: trailing",
        )
    first, last = scale(path.half_log_snr(torch.tensor([start, 1], dtype=torch.float64))).tolist()
    inner = torch.tensor(_even(first, last, steps)[1:-1], dtype=torch.float64)
    return [float(start), *path.time_at(level_of(inner)).tolist(), 1.0]


def _even(first: float, last: float, count: int) -> list[float]:
    """That many numbers, 2 or more, from first to last, both included."""
    numbers: list[float] = torch.linspace(first, last, count, dtype=torch.float64).tolist()
    return numbers


WHOLE: dict[str, Spacing] = {"trailing": trailing, "leading": leading, "linspace": linspace}
"""The three of Lin et al. 2024, table 2, which a model's process may name: other programs know them too.

Only the first starts at T and takes its last step over a full gap.
"""
SPACINGS: dict[str, Spacing] = {**WHOLE, "quadratic": quadratic, "log-snr": log_snr, "karras": karras}

ENTROPIC, TUNED, BEST = "entropic", "tuned", "best"
OF_RUNS = (ENTROPIC, TUNED, BEST)
"""Names of times that were found for one model, and are given one by one."""


def checked(at: tuple[float | int, ...]) -> tuple[float | int, ...]:
    """Times that were given one by one. Raises SettingsError unless they fall, are finite and above 0."""
    if not at or not all(s < t for t, s in pairwise((*at, 0))) or not math.isfinite(at[0]):
        shown = ", ".join(map(str, at)) or "none"
        raise SettingsError(
            f"the times of a walk fall, from T at most to above 0, which these do not: {shown}",
            "such as 999, 700.5, 20; the last step, to t = 0, is added",
        )
    return at
