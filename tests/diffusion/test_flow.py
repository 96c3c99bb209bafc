"""The exact likelihood of the probability flow: against the densities of Gaussians and mixtures, and of one another."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.flow import (
    LAST_STEPS,
    FlowOptions,
    exact_likelihood,
    flow_density,
)
from kakusan.diffusion.forward import q_marginal
from kakusan.diffusion.likelihood import BITS, pair_terms, prior_term, variational_bound
from kakusan.diffusion.model import Model
from kakusan.diffusion.oracles import GaussianOracle, LinearOracle, MixtureOracle, Oracle
from kakusan.diffusion.parametrizations import eps_from_x_0
from kakusan.diffusion.paths import EDM, FlowMatching, Path
from kakusan.diffusion.prediction import Prediction
from kakusan.diffusion.schedules import Cosine, Linear, twin
from kakusan.diffusion.solving import _tried, solve
from kakusan.diffusion.variances import Analytic
from kakusan.errors import DataError, SettingsError
from kakusan.shapes import Condition, Samples, Times, times_like

F = torch.float64
PATHS = (Linear(T=100), Cosine(T=50), EDM(T=40), FlowMatching(T=30))
TIGHT = FlowOptions(tolerance=1e-9, probes=0)


def gaussian(path: Path) -> GaussianOracle:
    root = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=F)
    return GaussianOracle(path, torch.tensor([0.3, -0.2, 0.1, 0.6], dtype=F).view(4, 1, 1), root @ root.T / 4)


def mixture(path: Path) -> MixtureOracle:
    means = torch.randn(2, 4, 1, 1, generator=torch.Generator().manual_seed(1), dtype=F)
    return MixtureOracle(path, torch.tensor([0.3, 0.7]), means, torch.tensor([0.05, 0.3], dtype=F))


def at_time(oracle: Oracle, t: float, count: int) -> Tensor:
    """Draws of x_t."""
    x_0 = oracle.sample(count, seed=1)
    noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(2), dtype=F)
    return q_marginal(oracle.path, x_0, times_like(t, x_0)).reparametrize(noise)


def exact_end(oracle: Oracle) -> Callable[[Samples], Tensor]:
    return lambda x_T: oracle.log_density(x_T, times_like(oracle.path.T, x_T))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
@pytest.mark.parametrize("kind", [gaussian, mixture])
@pytest.mark.parametrize("t_min", [1.0, 0.3])
def test_the_flow_has_the_density_of_the_marginal_to_a_ten_thousandth_of_a_bit(
    path: Path, kind: Callable[[Path], Oracle], t_min: float
) -> None:
    """Exact trace, exact law at both ends. A thousand times closer than that, at a tolerance of 1e-9."""
    oracle = kind(path)
    x_t = at_time(oracle, t_min, 5)
    found = flow_density(
        oracle, x_t, FlowOptions(tolerance=1e-9, probes=0, t_min=t_min), end=exact_end(oracle)
    )
    exact = oracle.log_density(x_t, times_like(t_min, x_t))
    assert float(((found.nats - exact) * BITS).abs().max()) < 1e-7
    assert (found.calls < 500).all()


def test_an_error_falls_with_the_tolerance() -> None:
    oracle = mixture(Linear(T=100))
    x_t, exact = at_time(oracle, 1, 5), None
    exact = oracle.log_density(x_t, times_like(1, x_t))
    errors, calls = [], []
    for tolerance in (1e-3, 1e-5, 1e-7):
        found = flow_density(oracle, x_t, FlowOptions(tolerance=tolerance, probes=0), end=exact_end(oracle))
        errors.append(float((found.nats - exact).abs().max()))
        calls.append(int(found.calls.sum()))
    assert errors[0] > 10 * errors[1] > 100 * errors[2] > 0
    assert calls[0] < calls[1] < calls[2]


def test_paths_with_the_same_noise_levels_have_one_likelihood() -> None:
    """Variance-preserving and exploding: one process in two scales, from t = 1 to the same sigma at T."""
    exploding = EDM(T=40, sigma_min=0.02, sigma_max=50)
    x_0 = mixture(exploding).sample(3, seed=3)
    bits = [
        exact_likelihood(mixture(path), x_0, FlowOptions(tolerance=1e-8, probes=0))
        for path in (exploding, twin(exploding))
    ]
    assert bits[0].total.tolist() == pytest.approx(bits[1].total.tolist(), abs=1e-7)


@pytest.mark.parametrize("kind", [gaussian, mixture])
def test_the_trace_by_probes_is_right_within_its_standard_error(kind: Callable[[Path], Oracle]) -> None:
    """64 probes a sample: the errors in units of their standard error have mean square about 1."""
    oracle = kind(Linear(T=100))
    x_t = at_time(oracle, 1, 24)
    exact = flow_density(oracle, x_t, FlowOptions(probes=0)).nats
    found = flow_density(oracle, x_t, FlowOptions(probes=64))
    score = (found.nats - exact) / found.standard_error
    assert 0.4 < float(score.square().mean()) < 2  # 24 squares of Student's t: 1 +- 0.3
    assert abs(float(score.mean())) < 4 / math.sqrt(24)


def test_probes_find_the_exact_trace_where_values_are_independent() -> None:
    """Signs squared are 1: of a diagonal Jacobian a single probe knows the trace."""
    oracle = GaussianOracle(Linear(T=50), 0.1, torch.tensor([0.2, 0.5, 1.0], dtype=F).view(3, 1, 1))
    x_t = at_time(oracle, 1, 3)
    one, all_of_it = (flow_density(oracle, x_t, FlowOptions(probes=n, tolerance=1e-8)) for n in (1, 0))
    assert one.nats.tolist() == pytest.approx(all_of_it.nats.tolist(), abs=1e-6)
    assert one.standard_error.isnan().all()


def test_a_sample_has_the_same_likelihood_in_any_company() -> None:
    oracle, x_0 = mixture(Linear(T=60)), mixture(Linear(T=60)).sample(7, seed=5)
    options = FlowOptions(probes=3)
    whole = exact_likelihood(oracle, x_0, options, seed=2)
    alone = exact_likelihood(oracle, x_0[[4, 2]], options, seed=2, numbers=[4, 2])
    assert alone.total.tolist() == pytest.approx(whole.total[[4, 2]].tolist(), rel=1e-12)
    assert alone.calls.tolist() == whole.calls[[4, 2]].tolist()


def expected_bound(model: Model[GaussianOracle]) -> float:
    """E[bound] in bits/dim of N(0, 1/4), exactly: quadratic in x_0 and eps, so the mean over +-1 deviation of each."""
    T = model.path.T
    x_0 = torch.tensor([0.5, 0.5, -0.5, -0.5], dtype=F).repeat(T).view(-1, 1, 1, 1)
    eps = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=F).repeat(T).view(-1, 1, 1, 1)
    bits, _ = pair_terms(model, x_0, torch.arange(1, T + 1, dtype=F).repeat_interleave(4), eps)
    return float(bits.sum() / 4 + prior_term(model.path, x_0[:4]).mean() * BITS)


def test_the_bound_is_no_less_than_the_exact_likelihood_and_the_gap_falls_as_T_grows() -> None:
    """The variance of a reverse step is that of beta_t: what a step of the usual variance costs falls as 1 / T."""
    oracle = GaussianOracle(Linear(T=100), 0, 0.25)
    bits = [
        exact_likelihood(Model(oracle, Analytic(oracle.errors())), column, TIGHT)
        for column in (at_half(), -at_half())
    ]
    exact = float(
        torch.cat([each.total for each in bits]).mean()
    )  # quadratic in x_0: two points have the mean
    gaps = []
    for T in (5, 20, 100):
        model = Model(GaussianOracle(Linear(T=T), 0, 0.25), "fixed-large", sigma_1="beta_1")
        gaps.append(expected_bound(model) - exact)
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2] > 0


def at_half() -> Tensor:
    return torch.full((1, 1, 1, 1), 0.5, dtype=F)


def test_the_whole_likelihood_of_a_gaussian_is_its_density() -> None:
    """The decoder is exact where its variance is that of x_0 given x_1: the sum is -log2 q(x_0), without a bound."""
    oracle = GaussianOracle(Linear(T=200), torch.zeros(2, 1, 1, dtype=F), 0.25)
    model = Model(oracle, Analytic(oracle.errors()))
    x_0 = oracle.sample(6, seed=7)
    found = exact_likelihood(model, x_0, TIGHT)
    exact = -oracle.log_density(x_0) * BITS / 2
    # x_T is taken for N(0, 1), and its variance is 0.75 alpha_bar_T = 2e-5 away from it
    assert found.total.tolist() == pytest.approx(exact.tolist(), abs=1e-4)
    assert (found.probes_error == 0).all()


# Data of levels


@dataclass(frozen=True)
class LevelOracle(Denoiser):
    """Data that are one of 3 levels in each value, with these probabilities."""

    path: Path
    shares: tuple[float, ...] = (0.2, 0.5, 0.3)

    def predict(self, x_t: Samples, t: Times, condition: Condition | None = None) -> Prediction:  # noqa: ARG002
        a, b = (v.view(-1, 1, 1, 1) for v in self.path.at(t))
        levels = torch.tensor([-1.0, 0, 1], dtype=F)
        log_q = (
            torch.tensor(self.shares, dtype=F).log()
            - 0.5 * ((x_t[..., None] - a[..., None] * levels) / b[..., None]).square()
        )
        x_0 = (log_q.softmax(-1) * levels).sum(-1)
        return Prediction(x_0, eps_from_x_0(x_0, x_t, *self.path.at(t)))

    def entropy(self) -> float:
        return -sum(p * math.log2(p) for p in self.shares)


def test_levels_have_their_entropy() -> None:
    """Exact denoiser of levels: with the decoder the likelihood is the entropy, since x_1 shows the level."""
    model = Model(LevelOracle(Linear(T=400)), levels=3)
    counts = (10, 25, 15)  # as often as they are likely: the mean of -log2 p is the entropy
    x_0 = torch.cat([torch.full((n,), v) for n, v in zip(counts, (-1.0, 0.0, 1.0), strict=True)]).double()
    found = exact_likelihood(model, x_0.view(-1, 1, 1, 1), FlowOptions(tolerance=1e-4))
    entropy = LevelOracle(Linear(T=400)).entropy()
    bound = variational_bound(model, x_0.view(-1, 1, 1, 1))
    assert found.mean == pytest.approx(entropy, abs=4 * found.mean_standard_error + 1e-3)
    assert bound.mean > found.mean
    # cut off at the edges of a bin, far outside of the noise at t = 1, the noise is that of q(x_1 | x_0)
    cut = exact_likelihood(model, x_0.view(-1, 1, 1, 1), FlowOptions(last_step="truncated"))
    assert cut.mean == pytest.approx(entropy, abs=4 * cut.mean_standard_error + 1e-3)


def test_uniform_and_truncated_dequantization_bound_the_mass_of_a_bin() -> None:
    """A Gaussian that is smooth on the scale of a bin: density times width, and what the law in the bin is not flat.

    What a law q over the bin costs is its divergence from the flat one: log of the width minus the entropy of q.
    """
    path, levels = Linear(T=200, beta_1=1e-5), 256
    oracle, half = GaussianOracle(path, 0, 0.2), 1 / (levels - 1)
    x_0 = torch.full((200, 1, 1, 1), 120 / 127.5 - 1, dtype=F)
    mass = -(float(oracle.log_density(x_0[:1])) + math.log(2 * half)) * BITS
    a, b = path.at(torch.ones(1, dtype=F))
    places = torch.linspace(-half, half, 20_001, dtype=F)
    q = torch.exp(-0.5 * (places * a / b).square())
    q = q / torch.trapezoid(q, places)
    cost = float(torch.trapezoid(q * (q * 2 * half).log(), places)) * BITS
    for last, extra in (("uniform", 0.0), ("truncated", cost)):
        found = exact_likelihood(
            Model(oracle, levels=levels), x_0, FlowOptions(tolerance=1e-5, last_step=last)
        )
        within = 4 * found.mean_standard_error + 1e-3  # drawn, and the variance of q against that of the data
        assert found.mean == pytest.approx(mass + extra, abs=within), last
    assert 0.02 < cost < 0.2


def refusals() -> Iterator[tuple[str, Callable[[], object]]]:
    oracle = gaussian(Linear(T=10))
    x_0 = oracle.sample(2)
    yield "unknown last step", lambda: FlowOptions(last_step="none")
    yield "0 probes", lambda: FlowOptions(probes=-1)
    yield "begins above 0", lambda: flow_density(oracle, x_0, FlowOptions(t_min=0.0))
    yield "T of 2 or more", lambda: exact_likelihood(gaussian(Linear(T=1)), x_0)
    yield "a tolerance is above 0", lambda: exact_likelihood(oracle, x_0, FlowOptions(tolerance=0.0))
    yield "that of t = 1", lambda: exact_likelihood(oracle, x_0, FlowOptions(t_min=0.5))
    yield "no levels to dequantize", lambda: exact_likelihood(oracle, x_0, FlowOptions(last_step="uniform"))


@pytest.mark.parametrize(("words", "asked"), [pytest.param(*each, id=each[0]) for each in refusals()])
def test_what_has_no_likelihood_is_refused(words: str, asked: Callable[[], object]) -> None:
    with pytest.raises(SettingsError) as caught:
        asked()
    assert words in str(caught.value)


def test_levels_that_are_none_and_masks_are_refused() -> None:
    oracle = gaussian(Linear(T=10))
    with pytest.raises(DataError, match="none of the 3 levels"):
        exact_likelihood(Model(oracle, levels=3), torch.full((1, 4, 1, 1), 0.3))
    with pytest.raises(ValueError, match="values are missing"):
        exact_likelihood(oracle, oracle.sample(2), condition=Condition(mask=torch.ones(2, 4, 1, 1)))


def test_each_sample_is_seen_with_its_own_condition() -> None:
    slope = torch.tensor([[0.5], [1.0]], dtype=F).view(2, 1, 1, 1)
    oracle = LinearOracle(Linear(T=200), slope, 0.1, 0.25)
    vector = torch.tensor([[0.0], [2.0], [-1.0]], dtype=F)
    x_0 = oracle.given.law.mean.view(1, -1, 1, 1) + oracle.shift(vector)
    model = Model(oracle, Analytic(oracle.given.errors()))
    found = exact_likelihood(model, x_0.expand(3, 2, 1, 1), TIGHT, condition=Condition(vector=vector))
    density = GaussianOracle(Linear(T=200), torch.full((2, 1, 1), 0.1, dtype=F), 0.25)
    exact = -density.log_density(torch.full((1, 2, 1, 1), 0.1, dtype=F)) * BITS / 2
    assert found.total.tolist() == pytest.approx([float(exact)] * 3, abs=2e-3)


def test_every_last_step_says_where_it_is_from() -> None:
    assert set(LAST_STEPS) == {"decoder", "uniform", "truncated"}


# The solver


def largest(difference: Tensor, _: Tensor) -> Tensor:
    return difference.abs().amax(1)


def test_the_solver_turns_each_row_at_steps_of_its_own() -> None:
    """A rotation, back and forth: errors at the end fall with the tolerance."""

    def turned(_: Tensor, state: Tensor, __: Tensor) -> Tensor:
        return torch.stack([state[:, 1], -state[:, 0]], 1)

    start, ends = torch.tensor([[0.0, 1], [0, 1]], dtype=F), torch.tensor([2.0, -9.0], dtype=F)
    exact, errors = torch.stack([ends.sin(), ends.cos()], 1), []
    for tolerance in (1e-4, 1e-7, 1e-10):
        found = solve(turned, start, torch.zeros(2, dtype=F), ends, tolerance, largest)
        errors.append(float((found.state - exact).abs().max()))
        assert found.calls[0] < found.calls[1]
    assert errors[0] > 100 * errors[1] > 10_000 * errors[2]
    assert errors[2] < 1e-8


def test_one_step_is_of_order_five() -> None:
    """y' = y over h: the series of e^h to h^5, and the last term of its stages h^6 / 600."""
    one = torch.ones(1, 1, dtype=F)
    for h in (0.1, 0.2):
        length = torch.tensor([h], dtype=F)
        new, _, difference = _tried(
            lambda _, y, __: y, one, one, torch.zeros(1, dtype=F), length, torch.arange(1)
        )
        series = sum(h**k / math.factorial(k) for k in range(6)) + h**6 / 600
        assert float(new) == pytest.approx(series, rel=1e-14)
        assert 0 < abs(float(difference)) < h**5


def test_a_slope_that_is_no_number_ends_in_words() -> None:
    bad, zero = torch.full((1, 1), math.nan, dtype=F), torch.zeros(1, dtype=F)
    with pytest.raises(SettingsError, match="not solved to a tolerance"):
        solve(lambda *_: bad, zero[:, None], zero, zero + 1, 1e-3, largest)
