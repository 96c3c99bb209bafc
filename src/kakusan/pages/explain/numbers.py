"""Numbers as a person would write them: four digits, real minus signs, powers of ten where there is need."""

import math

RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
UNKNOWN = "—"
ENDLESS = "∞"


def shown(value: float | None) -> str:
    """0.01006, 1.2×10⁻⁷, 226.4; a dash where there is no number."""
    if value is None or math.isnan(value):
        return UNKNOWN
    if math.isinf(value):
        return ENDLESS if value > 0 else f"−{ENDLESS}"
    return _finite(value).replace("-", "−")


def _finite(value: float) -> str:
    size = abs(value)
    if value == 0 or (size < 1e6 and value == round(value)):
        return f"{value:.0f}"
    if 0.999 < size < 1.001 and float(f"{size:.4g}") == 1:  # "1" would be another number
        places = max(7, math.ceil(-math.log10(abs(size - 1))))  # so many that it differs from 1
        return f"{value:.{places}f}".rstrip("0")
    if 1e-3 <= size < 1e6:
        return f"{value:.4g}" if size < 1e4 else f"{value:.0f}"
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits.removesuffix('.0')}×10{str(int(power)).translate(RAISED)}"


def careful(value: float | None) -> str:
    """The same, in parentheses where it is negative: 3 − (−2)."""
    text = shown(value)
    return f"({text})" if text.startswith("−") else text


def is_told(text: str) -> bool:
    """Whether there is a finite number in this place."""
    return text != UNKNOWN and ENDLESS not in text
