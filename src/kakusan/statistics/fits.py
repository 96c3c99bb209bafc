"""Straight lines through measured points, by least squares."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kakusan.statistics.student import student_quantile


@dataclass(frozen=True)
class StraightLine:
    """y = intercept + slope x, fitted to points."""

    slope: float
    intercept: float
    slope_error: float
    """Standard error of the slope, from how far the points lie off the line; nan with two points, which always fit."""
    points: int

    @property
    def reach(self) -> float:
        """Half the width of the slope's 95 % interval; nan with two points."""
        degrees = self.points - 2
        return student_quantile(degrees) * self.slope_error if degrees >= 1 else math.nan

    def at(self, x: float) -> float:
        """The line's y at x."""
        return self.intercept + self.slope * x


def straight_line(x: Sequence[float], y: Sequence[float]) -> StraightLine:
    """The line of least squares. Raises ValueError for fewer than two different x, or unequal lengths."""
    if len(x) != len(y) or len(set(x)) < 2:
        raise ValueError(f"no line goes through {len(x)} x, {len(set(x))} of them different, and {len(y)} y")
    at, values = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    away = at - at.mean()
    slope = float(away @ (values - values.mean()) / (away @ away))
    intercept = float(values.mean() - slope * at.mean())
    rest = values - (intercept + slope * at)
    spread = math.sqrt(float(rest @ rest) / (len(x) - 2)) if len(x) > 2 else math.nan
    return StraightLine(slope, intercept, spread / math.sqrt(float(away @ away)), len(x))
