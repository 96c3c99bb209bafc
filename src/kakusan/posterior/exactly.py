"""What was measured without noise is kept: the nearest x with A x = y."""

import torch
from torch import Tensor

from kakusan.errors import SettingsError
from kakusan.posterior.measurement import Measurement
from kakusan.posterior.solving import conjugate_gradients
from kakusan.shapes import Samples, by_row

MOST_STEPS = 200
"""Of conjugate gradients."""
FAR = 1e6
"""In the network's units: no sample, but what becomes of one where values contradict each other."""
SLACK = 1e-3
"""Of y - A x against y - A(mean), beyond which exact values contradict each other."""


def kept_exactly(x: Samples, measurement: Measurement) -> Samples:
    """The samples moved the least so that A x = y where the noise of a linear operator is 0; as they are elsewhere.

    Raises SettingsError where no x has such a y.
    """
    if not measurement.is_linear:
        return x
    wide = x.double().clamp(-FAR, FAR)
    exact = (measurement.variance(wide) == 0) & measurement.known.to(wide.device)
    if not exact.any():
        return x
    along = measurement.derivative(wide)
    away = measurement.residual(wide) * exact

    def product(v: Tensor) -> Tensor:
        return along.apply(along.adjoint(v * exact)) * exact

    v = conjugate_gradients(product, away, MOST_STEPS, tolerance=1e-9)
    left = by_row(away - product(v)).norm(dim=1)
    size = measurement.residual(torch.zeros_like(wide)).abs() + measurement.norms.to(
        wide
    )  # of what x is to make up
    if not (left <= SLACK * by_row(size * exact).norm(dim=1)).all():
        raise SettingsError(
            "no sample has exactly these values: with a noise of 0 they contradict each other",
            "say how large the noise is, such as --noise 0.01",
        )
    return (wide + along.adjoint(v * exact)).to(x)
