"""The contract of methods: every entry of METHODS, on every path, in 1-D, 2-D and 3-D, and with exact values."""

from dataclasses import replace

import pytest
import torch

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.oracles import GaussianOracle, LinearOracle, MixtureOracle
from kakusan.diffusion.paths import EDM, FlowMatching, Path
from kakusan.diffusion.prediction import Prediction
from kakusan.diffusion.schedules import Cosine, Linear
from kakusan.errors import SettingsError
from kakusan.operators import Mask, Operator, function, stacked
from kakusan.operators.matrix import Matrix
from kakusan.posterior import (
    DAPS,
    DPS,
    METHODS,
    MMPS,
    SMC,
    DiffPIR,
    Exact,
    Gibbs,
    Measurement,
    Method,
    Restoration,
    restore,
    restored,
)
from kakusan.posterior.diffpir import Renoise
from kakusan.samplers import DDIM
from kakusan.shapes import Condition, Samples, Times

QUICK: dict[str, Method] = {
    "mmps": MMPS(sampler=DDIM(steps=5, eta=1.0)),
    "diffpir": DiffPIR(sampler=Renoise(steps=5)),
    "gibbs": Gibbs(particles=3, iterations=4, prior_steps=3),
    "smc": SMC(particles=3, steps=5),
    "daps": DAPS(levels=4, flow_steps=2, walk_steps=5),
    "dps": DPS(sampler=DDIM(steps=5, eta=1.0)),
    "exact": Exact(),
}
CALLS = {"mmps": 5, "diffpir": 5, "gibbs": 36, "smc": 15, "daps": 7, "dps": 5, "exact": 0}
SHAPES = ((2, 5), (1, 4, 3), (1, 2, 3, 2))


def masked(shape: tuple[int, ...], path: Path, sigma: float = 0.1) -> tuple[GaussianOracle, Measurement]:
    oracle = GaussianOracle(path, torch.zeros(shape), 0.8)
    known = torch.zeros(shape, dtype=torch.bool)
    known.view(-1)[::2] = True
    x = oracle.sample(2, seed=7)
    return oracle, Measurement(Mask(known), x, sigma, shape, scale=3.0, mean=1.0)


def test_every_method_is_tried() -> None:
    assert QUICK.keys() == METHODS.keys()
    assert all(isinstance(QUICK[name], kind) for name, kind in METHODS.items())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_samples_do_not_depend_on_the_batch_they_are_drawn_in(name: str, shape: tuple[int, ...]) -> None:
    """To rounding: products of matrices of another size are summed in another order."""
    oracle, measurement = masked(shape, Cosine())
    whole = restore(oracle, measurement, QUICK[name], Restoration(count=3, dtype=torch.float64))
    assert whole.shape == (2, 3, *shape)
    assert whole.isfinite().all()
    parts = Restoration(count=3, dtype=torch.float64, micro_batch=4)
    torch.testing.assert_close(restore(oracle, measurement, QUICK[name], parts), whole, rtol=0, atol=1e-8)
    second = Restoration(count=1, first=1, dtype=torch.float64)
    torch.testing.assert_close(
        restore(oracle, measurement, QUICK[name], second)[:, 0], whole[:, 1], rtol=0, atol=1e-8
    )
    other = restore(oracle, measurement, QUICK[name], Restoration(count=3, seed=1, dtype=torch.float64))
    assert not torch.allclose(other, whole)


@pytest.mark.parametrize("path", [Cosine(), Linear(), EDM(), FlowMatching()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("name", METHODS)
def test_exact_values_are_kept_exactly_on_every_path(name: str, path: Path) -> None:
    oracle, measurement = masked((1, 4, 3), path, sigma=0.0)
    x = restore(oracle, measurement, QUICK[name], Restoration(count=2))
    known = measurement.known[:, None].expand(x.shape)
    data = (3 * x + 1)[known]
    torch.testing.assert_close(data, measurement.y[:, None].expand(x.shape)[known].float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_calls_are_counted(name: str) -> None:
    oracle, measurement = masked((1, 6), Cosine())
    found = restored(oracle, measurement, QUICK[name], Restoration(count=2))
    assert found.calls == CALLS[name]
    assert (found.backward > 0) == (name in ("mmps", "smc", "dps"))
    assert (found.effective is not None) == (name in ("smc", "gibbs"))


@pytest.mark.parametrize("name", METHODS)
def test_exact_values_that_contradict_each_other_are_refused(name: str) -> None:
    oracle = GaussianOracle(Cosine(), torch.zeros(1, 4), 1.0)
    row = torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64)
    twice = Measurement(stacked(Matrix(row), Matrix(row)), torch.tensor([[0.5, 1.5]]), 0.0, (1, 4))
    with pytest.raises(SettingsError, match="contradict"):
        restore(oracle, twice, QUICK[name], Restoration(count=1))


@pytest.mark.parametrize("name", [name for name in METHODS if name != "exact"])
def test_methods_follow_a_condition(name: str) -> None:
    """Two components far apart, and y says nothing of which: the label does."""
    means = torch.tensor([[[-1.0, 0.0, 0.0]], [[1.0, 0.0, 0.0]]])
    oracle = MixtureOracle(Cosine(), torch.ones(2), means, torch.full((2,), 0.01))
    measurement = Measurement(Mask(torch.tensor([[False, True, True]])), torch.zeros(2, 1, 3), 0.3, (1, 3))
    given = Condition(label=torch.tensor([0, 1]))
    slow = {"smc": SMC(particles=3, steps=20), "gibbs": Gibbs(particles=2, iterations=8, prior_steps=4)}
    x = restore(oracle, measurement, slow.get(name, QUICK[name]), Restoration(count=4, condition=given))
    assert (x[0, :, 0, 0] < 0).all()
    assert (x[1, :, 0, 0] > 0).all()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("T", [1, 7])
def test_methods_as_they_are_go_with_few_times(name: str, T: int) -> None:
    oracle, measurement = masked((1, 4), Cosine(T=T))
    found = restored(oracle, measurement, METHODS[name](), Restoration(count=2, dtype=torch.float64))
    assert found.samples.isfinite().all()


class Squared(Operator):
    """y = x^2: its sign is lost."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x.square()


@pytest.mark.parametrize("name", ["smc", "gibbs", "daps"])
def test_an_operator_that_is_not_linear_leaves_both_roots(name: str) -> None:
    """Of N(0, 1) and y = x^2 with little noise, each sign has a half: 80 samples, false alarm in one of 10,000."""
    oracle = GaussianOracle(Cosine(), torch.zeros(1, 1), 1.0)
    measurement = Measurement(Squared(), torch.ones(1, 1, 1), 0.1, (1, 1))
    methods = {
        "smc": SMC(particles=8, steps=30),
        "gibbs": Gibbs(iterations=40, narrowest=0.1),
        "daps": DAPS(levels=30),
    }
    x = restore(oracle, measurement, methods[name], Restoration(count=80, dtype=torch.float64))
    assert ((x.abs() - 1).abs() < 0.4).all()
    assert 23 <= int((x > 0).sum()) <= 57


class Unknown(Denoiser):
    """A denoiser of one's own."""

    path = Cosine()

    def predict(self, x_t: Samples, t: Times, condition: Condition | None = None) -> Prediction:
        raise NotImplementedError


def test_a_denoiser_of_ones_own_has_no_exact_posterior() -> None:
    with pytest.raises(SettingsError, match="oracle"):
        restore(Unknown(), masked((1, 4), Cosine())[1], Exact())


def test_values_that_were_not_measured_change_nothing() -> None:
    oracle, measurement = masked((1, 6), Cosine())
    hidden = replace(measurement, y=measurement.y.masked_fill(~measurement.known, torch.nan))
    for name in METHODS:
        torch.testing.assert_close(
            restore(oracle, hidden, QUICK[name], Restoration(count=2)),
            restore(oracle, measurement, QUICK[name], Restoration(count=2)),
        )


def test_linear_oracles_have_a_posterior_given_their_vector() -> None:
    oracle = LinearOracle(Cosine(), torch.ones(1, 3, 1), 0.0, 0.01)
    measurement = Measurement(Mask(torch.tensor([[True, False, False]])), torch.zeros(2, 1, 3), 5.0, (1, 3))
    given = Condition(vector=torch.tensor([[-1.0], [1.0]]))
    x = restore(oracle, measurement, Exact(), Restoration(count=50, condition=given))
    torch.testing.assert_close(x.mean((1, 2, 3)), torch.tensor([-1.0, 1.0]), rtol=0, atol=0.05)


@pytest.mark.parametrize("sigma", [0.1, 0.0])
@pytest.mark.parametrize("name", METHODS)
def test_a_single_number_may_be_what_was_measured(name: str, sigma: float) -> None:
    """The mean of x, as y of shape (n,), has the samples of y of shape (n, 1)."""
    oracle, known = GaussianOracle(Cosine(), torch.zeros(1, 2, 3), 0.8), torch.tensor([0.3, -0.2])
    found = [
        restored(
            oracle,
            Measurement(function(mean, linear=True), y, sigma, (1, 2, 3)),
            QUICK[name],
            Restoration(count=3, dtype=torch.float64),
        )
        for mean, y in (
            (lambda x: x.mean((1, 2, 3)), known),
            (lambda x: x.mean((1, 2, 3))[:, None], known[:, None]),
        )
    ]
    torch.testing.assert_close(
        found[0].samples, found[1].samples, rtol=0, atol=1e-12
    )  # sums of one more axis
    if sigma == 0:
        torch.testing.assert_close(found[0].samples.mean((2, 3, 4)), known.double()[:, None].expand(2, 3))
