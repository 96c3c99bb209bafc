"""Lines of metrics.jsonl: a step, and numbers by their names."""

import math
from collections.abc import Mapping
from typing import Any

BY_T = "loss_by_t"
"""The one figure that is a list."""


def is_figures(line: Any) -> bool:
    """Whether a line of metrics.jsonl holds a step, and under each other name a number, or numbers by t."""
    if not isinstance(line, dict) or type(line.get("step")) is not int or not _is_number(line["step"]):
        return False
    by_t = line.get(BY_T, [])
    numbers = (value for name, value in line.items() if name != BY_T)
    return isinstance(by_t, list) and all(map(_is_number, [*numbers, *by_t]))


def _is_number(value: Any) -> bool:
    """null stands for what is not finite."""
    return value is None or type(value) is float or (type(value) is int and abs(value) < 2**63)


def finite(value: Any) -> Any:
    """The value, with null for NaN and the infinities, at any depth."""
    if isinstance(value, Mapping):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
