"""Student's quantile against tabulated ones and the distribution it belongs to."""

import math

import pytest

from kakusan.statistics.student import QUANTILES, student_quantile


def share_within(x: float, degrees: float) -> float:
    """P(|t| <= x) by the trapezoid rule over the angle, where the density is smooth: t = sqrt(degrees) tan(angle)."""
    end, parts = math.atan(x / math.sqrt(degrees)), 20_000
    values = [math.cos(end * i / parts) ** (degrees - 1) for i in range(parts + 1)]
    area = end / parts * (sum(values) - (values[0] + values[-1]) / 2)
    return float(
        2 * area * math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(math.pi)
    )


@pytest.mark.parametrize("degrees", [1, 1.3, 1.5, 2, 2.7, 3, 4.5, 7, 9, 12, 20, 45, 100, 1000])
def test_ninety_five_per_cent_lie_within_the_quantile(degrees: float) -> None:
    # what is between the table's degrees is off by up to 3 % of the quantile, most between 1 and 2
    assert share_within(student_quantile(degrees), degrees) == pytest.approx(0.95, abs=2e-3)


def test_known_quantiles_come_back_and_few_degrees_count_as_one() -> None:
    assert [student_quantile(known) for known in QUANTILES] == pytest.approx(list(QUANTILES.values()))
    assert student_quantile(0.2) == student_quantile(1)
