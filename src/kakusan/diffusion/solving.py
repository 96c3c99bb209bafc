"""An adaptive solver of ordinary differential equations: Dormand & Prince 1980, 5(4), each row at steps of its own.

A step of order 5 is compared with one of order 4 from the same six slopes, and their difference is held below a
tolerance. Rows do not wait for each other: an easy one is done in few steps, whatever stands beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from kakusan.errors import SettingsError

State = Float64[Tensor, "rows values"]
Position = Float64[Tensor, " rows"]
Slope = Callable[[Position, State, Int64[Tensor, " rows"]], State]
"""(position, state, numbers of the rows) -> derivative. Rows that are done are no longer asked for."""
Norm = Callable[[State, State], Position]
"""(difference of the two orders, state) -> its size for each row, to be held below the tolerance."""

PLACES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0)
STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
)
FIFTH = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
"""Weights of the six slopes in the step that is taken; its end is where the seventh slope is."""
DIFFERENCE = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
"""Fifth order minus fourth, of all seven."""
ORDER = 5
FIRST_STEP = 0.01
"""Share of the way that the first step tries."""
SAFETY, SLOWEST, FASTEST = 0.9, 0.2, 5.0
"""A new step is so much shorter than the error allows, and between these multiples of the last (Hairer et al. 1993)."""
MOST_STEPS = 5000
"""Steps of a row, taken or not: what needs more asks for a tolerance below the noise of its slopes."""


@dataclass(frozen=True)
class Solved:
    """States at the end of the way, and what it took."""

    state: State
    calls: Int64[Tensor, " rows"]
    """Slopes of each row."""


def solve(slope: Slope, state: State, start: Position, end: Position, tolerance: float, norm: Norm) -> Solved:
    """The states at the end, of rows that begin at the start with these, to a local error of `tolerance`.

    start, end: of each row, in either order. Raises SettingsError for a tolerance that is not above 0, and where a row
    needs more than 5,000 steps: slopes in float32 carry no tolerance below 1e-6 or so.
    """
    if not tolerance > 0:
        raise SettingsError(f"a tolerance is above 0, not {tolerance}", "such as 1e-4")
    state, position, steps = state.clone(), start.clone(), (end - start) * FIRST_STEP
    calls, rows = torch.ones(len(state), dtype=torch.int64), torch.arange(len(state))
    first = slope(position, state, rows)
    for _ in range(MOST_STEPS):
        if not len(rows := (position != end).nonzero()[:, 0]):
            return Solved(state, calls)
        left = end[rows] - position[rows]
        step = torch.where(steps[rows].abs() < left.abs(), steps[rows], left)
        new, last, difference = _tried(slope, first[rows], state[rows], position[rows], step, rows)
        error = norm(difference, new) / tolerance
        taken = error <= 1
        steps[rows] = step * _factor(error)
        calls[rows] += len(FIFTH)
        position[rows[taken]] = torch.where(step == left, end[rows], position[rows] + step)[taken]
        state[rows[taken]], first[rows[taken]] = new[taken], last[taken]
    raise SettingsError(
        f"the flow is not solved to a tolerance of {tolerance:g} in {MOST_STEPS:,} steps",
        "ask for less: a larger tolerance",
    )


def _tried(
    slope: Slope, first: State, state: State, position: Position, step: Position, rows: Int64[Tensor, " rows"]
) -> tuple[State, State, State]:
    """The state after a step, the slope there, and the difference of the two orders."""
    slopes, length = [first], step[:, None]
    for place, weights in zip(PLACES[1:], STAGES[1:], strict=True):
        slopes.append(slope(position + place * step, state + length * _sum(weights, slopes), rows))
    new = state + length * _sum(FIFTH, slopes)
    slopes.append(slope(position + step, new, rows))
    return new, slopes[-1], length * _sum(DIFFERENCE, slopes)


def _sum(weights: tuple[float, ...], slopes: list[State]) -> State:
    total = torch.zeros_like(slopes[0])
    for weight, each in zip(weights, slopes, strict=True):
        total += weight * each
    return total


def _factor(error: Position) -> Position:
    """How many times as long the next step may be; the shortest where the error is no number."""
    wanted = SAFETY * error.clamp(min=1e-12) ** (-1 / ORDER)
    return wanted.nan_to_num(SLOWEST).clamp(SLOWEST, FASTEST)
