"""Operators: what is measured of a sample, y = A(x), in the units of the data. One a file; they compose and stack."""

from kakusan.operators.base import Linear, LinearMap, Measured, Operator
from kakusan.operators.combined import composed, stacked
from kakusan.operators.mask import Mask

__all__ = ["Linear", "LinearMap", "Mask", "Measured", "Operator", "composed", "stacked"]
