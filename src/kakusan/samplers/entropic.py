"""Entropic times: each step removes as much uncertainty of x_0 as any other (Stancevic, Handke & Ambrogioni 2025).

H[x_0 | x_t] falls along a walk. By the I-MMSE relation (Guo, Shamai & Verdu 2005) its rate in lambda = log(a / b) is
e^(2 lambda) times the least mean square error of a prediction of x_0, which is what a denoiser is trained to: with its
own errors, as the bound measures them, the rate is known. Steps of equal entropy crowd where there is hardly any noise,
and serve nobody; those of the rescaled entropy, of which the rate is multiplied with sigma = b / a, do.
"""

from itertools import pairwise

import torch
from torch import Tensor

from kakusan.diffusion.paths import Path, ends_in_pure_noise
from kakusan.errors import SettingsError
from kakusan.shapes import Coefficients, Times

PLACES = 512
"""Of the grid on which the rate is summed."""


def entropic(path: Path, steps: int, t: Times, errors: Coefficients) -> tuple[float | int, ...]:
    """That many times, falling from T, between which, and t = 1, the rescaled entropy falls by equal shares.

    t: at which the errors, mean squares per value, were measured; falling. Times are whole where there is room, as
    networks are trained at. Raises SettingsError for more steps than T.
    """
    if steps > path.T:
        raise SettingsError(f"{steps} steps do not fit into T = {path.T} times")
    start = path.T - 1 if ends_in_pure_noise(path) else path.T
    if start <= 1 or not float(errors.max()) > 0:
        raise SettingsError(
            f"no entropy is left between t = {start} and t = 1 for {steps} steps to share",
            "take spacing trailing",
        )
    first, last = path.half_log_snr(torch.tensor([start, 1.0], dtype=torch.float64))
    places = torch.linspace(float(first), float(last), PLACES, dtype=torch.float64)
    rate = places.exp() * _interpolated(places, path.half_log_snr(t), errors)
    removed = torch.cumulative_trapezoid(rate, places).clamp(min=0)
    removed = torch.cat([torch.zeros(1, dtype=torch.float64), removed / removed[-1]])
    wanted = torch.arange(1, steps, dtype=torch.float64) / steps
    later = path.time_at(_interpolated(wanted, removed, places)).tolist()
    whole = (path.T, *map(round, later))
    return whole if all(s < t for t, s in pairwise((*whole, 0))) else (path.T, *later)


def _interpolated(x: Tensor, at: Tensor, values: Tensor) -> Tensor:
    """The values at x, on straight lines between those at rising places."""
    i = torch.searchsorted(at, x, right=True).clamp(1, len(at) - 1)
    share = ((x - at[i - 1]) / (at[i] - at[i - 1]).clamp(min=1e-300)).clamp(0, 1)
    return values[i - 1] + share * (values[i] - values[i - 1])
