"""Exact denoisers of known data: what a perfect network would say. For tests of samplers, bounds and metrics."""

from dataclasses import dataclass

from kakusan.denoiser import Denoiser, Prediction
from kakusan.maths.parametrizations import amplitudes, eps_from_x_0
from kakusan.maths.schedules import NoiseSchedule
from kakusan.maths.variances import Variance
from kakusan.shapes import Images, Labels, Times


@dataclass(frozen=True)
class GaussianOracle(Denoiser):
    """Data whose pixel values are independent, N(mean, deviation^2): E[x_0 | x_t] in closed form."""

    schedule: NoiseSchedule
    mean: float = 0.0
    deviation: float = 1.0
    variance: Variance | str = "fixed-large"
    sigma_1: str = "beta~_2"

    def predict(self, x_t: Images, t: Times, condition: Labels | None = None) -> Prediction:  # noqa: ARG002
        a, b = amplitudes(self.schedule, t, x_t)
        gain = a * self.deviation**2 / (a.square() * self.deviation**2 + b.square())
        x_0 = self.mean + gain * (x_t - a * self.mean)
        return Prediction(x_0, eps_from_x_0(x_0, x_t, a, b))
