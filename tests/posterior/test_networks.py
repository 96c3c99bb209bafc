"""Networks as operators: called in the type of their parameters, which get no gradient."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kakusan import Cosine
from kakusan.data.units import Real
from kakusan.diffusion.oracles import GaussianOracle
from kakusan.errors import SettingsError
from kakusan.evaluation.calibration.simulated import simulated
from kakusan.operators import Operator, function
from kakusan.posterior import (
    DAPS,
    DPS,
    MMPS,
    SMC,
    DiffPIR,
    Gaussian,
    Gibbs,
    Measurement,
    Method,
    Restoration,
    restore,
)
from kakusan.posterior.misfit import misfit
from kakusan.samplers import DDIM

SHAPE = (1, 4, 4)
METHODS: tuple[Method, ...] = (
    MMPS(sampler=DDIM(steps=4, eta=1.0)),
    DiffPIR(),
    SMC(particles=2, steps=4),
    Gibbs(particles=2, iterations=3, walk_steps=3),
    DAPS(levels=3, walk_steps=3),
    DPS(sampler=DDIM(steps=4, eta=1.0)),
)


def network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """(batch, 1, 4, 4) -> (batch, 3)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = (nn.Conv2d(1, 2, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(32, 3))
    return nn.Sequential(*parts).to(dtype)


class Learned(Operator):
    """An operator of one's own with parameters."""

    def __init__(self) -> None:
        self.network = network(torch.float64)

    def __call__(self, x: Tensor) -> Tensor:
        found: Tensor = self.network(x.double()).to(x)
        return found


INSIDE = network()
OPERATORS: dict[str, Operator] = {
    "float32": function(network()),
    "float64": function(network(torch.float64)),
    "in a function": function(lambda x: 2 * INSIDE(x), dtype=torch.float32),
    "linear": function(nn.Sequential(nn.Flatten(), nn.Linear(16, 3, bias=False)), linear=True),
    "an operator of one's own": Learned(),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_a_network_is_an_operator_of_every_method(name: str) -> None:
    oracle, operator = GaussianOracle(Cosine(), torch.zeros(SHAPE), 1.0), OPERATORS[name]
    x = oracle.sample(2, seed=3)
    measurement = Measurement(operator, operator(x) + 0.1, 0.3, SHAPE)
    for method in METHODS:
        samples = restore(oracle, measurement, method, Restoration(count=2))
        assert samples.isfinite().all()
        assert np.isfinite(misfit(measurement, samples).chi_square).all()
    assert misfit(measurement, x[:, None]).chi_square == pytest.approx(3 / 9, rel=1e-4)


@pytest.mark.parametrize("name", OPERATORS)
def test_a_network_is_measured_in_a_calibration(name: str) -> None:
    x = torch.zeros(2, *SHAPE)
    found = simulated(x, OPERATORS[name], Gaussian(0.0), Real((0.0,), (1.0,)), 0, np.arange(2))
    assert found.y.float().allclose(OPERATORS[name](x).detach(), atol=1e-6)


def test_y_of_a_network_has_the_type_of_the_samples_and_its_derivative_is_that_in_float64() -> None:
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    narrow, wide = function(network()), function(network(torch.float64))
    assert narrow(x).dtype == torch.float64
    assert narrow(x.float()).dtype == wide(x.float()).dtype == torch.float32
    assert not narrow(x).requires_grad
    assert narrow(x.clone().requires_grad_()).requires_grad
    torch.testing.assert_close(narrow(x), wide(x), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        narrow.derivative(x).apply(x), wide.derivative(x).apply(x), rtol=1e-4, atol=1e-5
    )


def test_a_function_of_another_type_is_told_how_to_say_so() -> None:
    operator = function(lambda x: INSIDE(x))
    with pytest.raises(SettingsError, match=r"dtype=torch.float32"):
        operator(torch.zeros(1, *SHAPE, dtype=torch.float64))
