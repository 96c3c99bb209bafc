"""Exact denoisers with conditions: their laws, their guided samples, and the bound given a condition."""

import math

import pytest
import torch
from torch import Tensor

from kakusan.diffusion.forward import q_marginal
from kakusan.diffusion.guidance import Composed, Guided
from kakusan.diffusion.likelihood import BITS, variational_bound
from kakusan.diffusion.model import Model
from kakusan.diffusion.oracles import GaussianOracle, LinearOracle, MixtureOracle
from kakusan.diffusion.paths import EDM, FlowMatching, Path
from kakusan.diffusion.schedules import Cosine, Linear
from kakusan.diffusion.variances import Analytic
from kakusan.errors import SettingsError
from kakusan.samplers import DDIM, SeededNoise, walk
from kakusan.shapes import Condition, scaled, times_like

F = torch.float64
PATHS: tuple[Path, ...] = (Linear(T=1000), FlowMatching(1000), EDM(1000))
SLOPE = torch.tensor([[[0.5, -0.2], [0.0, 0.3], [-0.4, 0.1]]], dtype=F)  # (1, 3, 2): signals of length 3
MEAN = torch.tensor([[0.1, -0.3, 0.2]], dtype=F)
VARIANCE = torch.tensor([[0.2, 0.5, 0.1]], dtype=F)


def linear(path: Path) -> LinearOracle:
    return LinearOracle(path, SLOPE, MEAN, VARIANCE)


def mixture(path: Path) -> MixtureOracle:
    means = torch.tensor([-1.0, 0.2, 1.1], dtype=F).view(3, 1, 1).expand(3, 1, 3)
    return MixtureOracle(path, torch.tensor([0.5, 0.2, 0.3], dtype=F), means, torch.tensor([0.1, 0.3, 0.05]))


def noise(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, 1, 3, generator=torch.Generator().manual_seed(seed), dtype=F)


def vectors(n: int) -> Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(9), dtype=F)


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_the_guess_given_a_vector_is_the_regression_on_it(path: Path) -> None:
    """E[x_0 | x_t, v] = m + g (x_t - a m) with m = mean + slope v and g = a s / (a^2 s + b^2), value by value."""
    x, v, t = noise(5), vectors(5), times_like(300, noise(5))
    guess = linear(path).predict(x, t, Condition(vector=v))
    a, b = (float(part[0]) for part in path.at(t))
    mean = MEAN + torch.einsum("cdk,nk->ncd", SLOPE, v)
    gain = a * VARIANCE / (a**2 * VARIANCE + b**2)
    assert torch.allclose(guess.x_0, mean + gain * (x - a * mean), rtol=1e-12, atol=1e-14)
    assert torch.allclose(a * guess.x_0 + b * guess.eps, x, rtol=1e-12, atol=1e-13)


def test_dropped_rows_are_guessed_without_their_vector() -> None:
    of, x, t = linear(Linear()), noise(4), times_like(200, noise(4))
    dropped = torch.tensor([True, False, True, False])
    given = Condition(vector=vectors(4))
    some = of.predict(x, t, given.without(dropped)).x_0
    assert torch.equal(some[dropped], of.predict(x, t).x_0[dropped])
    assert torch.equal(some[~dropped], of.predict(x, t, given).x_0[~dropped])
    full = GaussianOracle(
        of.path, MEAN, torch.diag(VARIANCE[0]) + SLOPE[0] @ SLOPE[0].T
    )  # v ~ N(0, I) integrated out
    assert torch.allclose(of.predict(x, t).x_0, full.predict(x, t).x_0, rtol=1e-12, atol=1e-14)


def test_a_class_of_a_mixture_is_its_component() -> None:
    of, x, t = mixture(Linear()), noise(3), times_like(150, noise(3))
    each = of.predict(x, t, Condition(label=torch.arange(3)))
    for number, law in enumerate([(-1.0, 0.1), (0.2, 0.3), (1.1, 0.05)]):
        alone = GaussianOracle(of.path, *law).predict(x[number : number + 1], t[:1])
        assert torch.allclose(each.x_0[number], alone.x_0[0], rtol=1e-6)  # 0.1 is a float32 there
    null = of.predict(x, t, Condition(label=torch.arange(3)).null())
    assert torch.equal(null.x_0, of.predict(x, t).x_0)


def guided_ends(path: Path, weight: float, steps: int) -> Tensor:
    """Where DDIM leads under guidance, from noise that is the same on all paths."""
    model = Model(Guided(linear(path), weight))
    noises = SeededNoise(0, torch.arange(4), (1, 3))
    given = Condition(vector=vectors(4))

    class Doubles:
        def start(self) -> Tensor:
            return noises.start().double()

        def draw(self, step: int, k: int = 0) -> Tensor:
            return noises.draw(step, k).double()

    *_, end = walk(DDIM(steps=steps), model, Doubles(), given)
    return end.x


@pytest.mark.parametrize("weight", [0.0, 1.0, 1.5, 3.0])
def test_guided_samples_end_where_the_closed_form_of_the_ode_does(weight: float) -> None:
    """The guided score of Gaussians is linear: for one value, with x = a z and sigma = b / a, the flow is

    dz/dsigma = sigma [w (z - m) / (s + sigma^2) + (1 - w) (z - n) / (r + sigma^2)].

    Where both means are 0 the solution is z proportional to (s + sigma^2)^(w/2) (r + sigma^2)^((1 - w)/2).
    """
    path = Cosine(T=400)
    slope = torch.tensor([[[0.7]]], dtype=F)
    of = LinearOracle(path, slope, 0.0, 0.3)
    x_T = torch.linspace(-2, 2, 5, dtype=F).view(5, 1, 1)
    given = Condition(vector=torch.zeros(5, 1, dtype=F))

    class Start:
        def start(self) -> Tensor:
            return x_T

        def draw(self, step: int, k: int = 0) -> Tensor:  # noqa: ARG002
            return torch.zeros_like(x_T)

    *_, end = walk(DDIM(steps=400), Model(Guided(of, weight)), Start(), given)
    a, b = (float(part) for part in path.at(torch.tensor([400.0], dtype=F)))
    s, r, sigma = 0.3, 0.3 + 0.49, b / a

    def size(sigma: float) -> float:
        return math.exp(0.5 * (weight * math.log(s + sigma**2) + (1 - weight) * math.log(r + sigma**2)))

    expected = x_T / a * size(0.0) / size(sigma)
    # DDIM is Euler's method in sigma, of first order
    assert torch.allclose(end.x, expected, rtol=5e-2, atol=1e-6)


@pytest.mark.parametrize("weight", [1.0, 2.5])
def test_guided_maps_of_all_paths_agree_after_the_change_of_variables(weight: float) -> None:
    """The probability flow in (x / a, b / a) does not know its path: the guided guesses there are equal to rounding."""
    sigmas = torch.tensor([0.03, 0.3, 3.0], dtype=F)
    x_0, eps, v = noise(3, 1), noise(3, 2), vectors(3)
    found = []
    for path in (FlowMatching(1000), EDM(1000)):
        t = _time_of(path, sigmas)
        a, b = path.at(t)
        assert torch.allclose(b / a, sigmas, rtol=1e-12)
        x_t = q_marginal(path, x_0, t).reparametrize(eps)
        found.append(Guided(linear(path), weight).predict(x_t, t, Condition(vector=v)))
    assert torch.allclose(found[0].x_0, found[1].x_0, rtol=1e-9, atol=1e-11)
    assert torch.allclose(found[0].eps, found[1].eps, rtol=1e-8, atol=1e-8)


def _time_of(path: Path, sigmas: Tensor) -> Tensor:
    """The times at which b / a is sigma, by bisection."""
    low, high = torch.full_like(sigmas, 1e-6), torch.full_like(sigmas, path.T - 1e-6)
    for _ in range(200):
        middle = (low + high) / 2
        a, b = path.at(middle)
        below = b / a < sigmas
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


@pytest.mark.parametrize("T", [5, 120])
def test_the_conditional_bound_is_the_exact_conditional_likelihood_but_for_the_gap_at_x_T(T: int) -> None:
    """With the best variance the reverse chain given v is exact; what is left is KL(q(x_T | v) || N(0, I))."""
    path, n = Linear(T=T), 1000
    variance = 0.3  # equal for all values: one sigma^2 is then the best for each
    of = LinearOracle(path, SLOPE, MEAN, variance)
    v = vectors(n)
    mean = MEAN + of.shift(v)
    x_0 = mean + math.sqrt(variance) * noise(n, 3)
    model = Model(of, variance=Analytic(GaussianOracle(path, 0.0, variance).errors()))
    bound = variational_bound(model, x_0, condition=Condition(vector=v)).total
    nats = 0.5 * ((x_0 - mean).square() / variance + math.log(2 * math.pi * variance)).flatten(1).mean(1)
    gap = bound - nats * BITS
    a, b = (float(part) for part in path.at(torch.tensor([float(T)], dtype=F)))
    spread = a**2 * variance + b**2
    expected = 0.5 * (spread - 1 - math.log(spread) + (a * mean).square()).flatten(1).mean(1) * BITS
    error = (gap - expected).std() / n**0.5
    assert abs(float((gap - expected).mean())) < 4 * float(error)
    if T > 100:  # q(x_T | v) is noise there
        assert float(expected.max()) < 0.5


def test_a_bound_given_the_wrong_condition_is_worse() -> None:
    path, n = Linear(T=100), 300
    of, v = linear(path), vectors(n)
    x_0 = MEAN + of.shift(v) + VARIANCE.sqrt() * noise(n, 3)
    right, none, wrong = (
        variational_bound(Model(of), x_0, condition=given).mean
        for given in (Condition(vector=v), None, Condition(vector=v.flip(0)))
    )
    assert right < none < wrong


def test_composed_classes_are_the_weighted_sum_of_their_scores() -> None:
    """With weights 1 and 1: log q(x | i) + log q(x | j) - log q(x), the product of experts of two classes."""
    of, x, t = mixture(Linear()), noise(2), times_like(250, noise(2))
    parts = ((0, 1.0), (2, 0.7))
    found = Composed(of, parts).predict(x, t)
    null = of.predict(x, t).eps
    expected = null.clone()
    for number, weight in parts:
        expected += weight * (of.predict(x, t, Condition(label=torch.full((2,), number))).eps - null)
    assert torch.allclose(found.eps, expected, rtol=1e-9, atol=1e-11)
    a, b = of.path.at(t)
    assert torch.allclose(scaled(a, found.x_0) + scaled(b, found.eps), x, rtol=1e-9, atol=1e-11)


def test_one_class_of_weight_w_is_guidance_of_weight_w() -> None:
    of, x, t = mixture(Linear()), noise(2), times_like(250, noise(2))
    one = Composed(of, ((1, 1.7),)).predict(x, t)
    guided = Guided(of, 1.7).predict(x, t, Condition(label=torch.ones(2, dtype=torch.int64)))
    assert torch.allclose(one.x_0, guided.x_0, rtol=1e-12, atol=1e-14)
    for wrong in ((), ((1, math.nan),)):
        with pytest.raises(SettingsError, match="finite weights"):
            Composed(of, wrong)


def test_guided_ends_of_a_vector_lie_beyond_those_without_guidance() -> None:
    """Guidance moves the mean of the samples away from that of all data, in the direction of the vector's own."""
    plain, more = guided_ends(Linear(T=1000), 1.0, 100), guided_ends(Linear(T=1000), 3.0, 100)
    direction = linear(Linear()).shift(vectors(4))
    assert float(((more - plain) * direction).sum()) > 0
