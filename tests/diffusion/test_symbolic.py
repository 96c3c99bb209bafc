"""The algebra of the derivation, done by a computer algebra system and held against the coefficients of the code.

Each test derives its expression from nothing but the densities, then evaluates it at the numbers of every schedule
and compares with what the library's functions return for unit inputs. All coefficients are for one pixel value, since
every covariance is a multiple of the identity.

alpha_bar_s is the signal at s, alpha that of the jump from s to t (alpha_t itself where s = t - 1), so that
alpha_bar_t = alpha * alpha_bar_s.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import pytest
import sympy as sp  # type: ignore[import-untyped,unused-ignore]
import torch
from mpmath import mp  # type: ignore[import-untyped,unused-ignore]
from numpy.typing import NDArray
from torch import Tensor

from kakusan.diffusion.forward import (
    posterior_mean_from_eps,
    posterior_variance,
    posterior_weights,
    q_marginal,
    q_posterior,
    q_step,
    step_variance,
)
from kakusan.diffusion.gaussians import Gaussian
from kakusan.diffusion.likelihood import prior_term, step_term
from kakusan.diffusion.model import Model, p_given
from kakusan.diffusion.oracles import GaussianOracle
from kakusan.diffusion.parametrizations import x_0_from_eps
from kakusan.diffusion.prediction import Prediction
from kakusan.diffusion.schedules import NoiseSchedule
from kakusan.diffusion.tables import SCHEDULES
from kakusan.diffusion.variances import Analytic
from kakusan.shapes import times_like
from kakusan.training.losses import eps_weight

Expr: TypeAlias = Any
"""sympy has no types."""
Array: TypeAlias = NDArray[np.float64]

EPS = float(np.finfo(np.float64).eps)

alpha, alpha_bar_s = sp.symbols("alpha alpha_bar_s", positive=True)
alpha_bar_t = alpha * alpha_bar_s
x_0, x_s, x_t, eps, eps_hat = sp.symbols("x_0 x_s x_t eps eps_hat", real=True)
sigma_2 = sp.Symbol("sigma_2", positive=True)


def log_normal(x: Expr, mean: Expr, variance: Expr) -> Expr:
    """log N(x; mean, variance)."""
    return -((x - mean) ** 2) / (2 * variance) - sp.log(2 * sp.pi * variance) / 2


@cache
def _moment(power: int) -> Expr:
    """E z^power for standard normal z, by integration."""
    z = sp.Symbol("z", real=True)
    return sp.integrate(z**power * sp.exp(-(z**2) / 2) / sp.sqrt(2 * sp.pi), (z, -sp.oo, sp.oo))


def vanishes(difference: Expr) -> bool:
    """Whether a difference of log-densities is 0: the factors in its logarithms cancel, and so does the quadratic."""
    roots = {
        a: sp.Symbol(f"root_{a}", positive=True) ** 2 for a in difference.free_symbols if "alpha" in str(a)
    }
    terms = sp.Add.make_args(sp.expand(difference.subs(roots), log=False, power_base=False))
    factors, quadratic = sp.Integer(1), sp.Integer(0)
    for term in terms:
        number, logarithm = term.as_coeff_Mul()
        if logarithm.func is sp.log:
            factors *= logarithm.args[0] ** (2 * number)
        else:
            quadratic += term
    points = [a for a in quadratic.free_symbols if "x_" in str(a) or "mu_" in str(a)]
    coefficients = sp.Poly(quadratic, *points).coeffs() if points else [quadratic]
    return bool(sp.cancel(factors) == 1 and all(sp.cancel(c) == 0 for c in coefficients))


def expectation(polynomial: Expr, x: Expr, mean: Expr, variance: Expr) -> Expr:
    """E over x ~ N(mean, variance): x = mean + sqrt(variance) z, and the integral over z power by power."""
    z = sp.Symbol("z", real=True)
    powers = sp.Poly(polynomial.subs(x, mean + sp.sqrt(variance) * z), z)
    return sum(coefficient * _moment(power) for (power,), coefficient in powers.terms())


def completed(log_density: Expr, x: Expr) -> tuple[Expr, Expr]:
    """Mean and variance of the Gaussian whose log-density has this quadratic in x."""
    _, linear, square = reversed(sp.Poly(sp.expand(log_density), x).all_coeffs())
    return sp.simplify(-linear / (2 * square)), sp.simplify(-1 / (2 * square))


@cache
def bayes() -> Expr:
    """The right-hand side of (6), as a log-density of x_s."""
    return (
        log_normal(x_t, sp.sqrt(alpha) * x_s, 1 - alpha)
        + log_normal(x_s, sp.sqrt(alpha_bar_s) * x_0, 1 - alpha_bar_s)
        - log_normal(x_t, sp.sqrt(alpha_bar_t) * x_0, 1 - alpha_bar_t)
    )


@cache
def posterior() -> tuple[Expr, Expr]:
    """mu~ and beta~, from (6) by completing the square."""
    return completed(bayes(), x_s)


@cache
def mean_from_eps() -> Expr:
    """mu~ with x_0 eliminated by (2)."""
    by_equation_2 = (x_t - sp.sqrt(1 - alpha_bar_t) * eps) / sp.sqrt(alpha_bar_t)
    return sp.simplify(posterior()[0].subs(x_0, by_equation_2))


@cache
def divergence() -> tuple[Expr, tuple[Expr, ...]]:
    """KL(N(m, v) || N(n, w)) by integration, and the symbols (m, v, n, w)."""
    m, n, x = sp.symbols("m n x", real=True)
    v, w = sp.symbols("v w", positive=True)
    return expectation(log_normal(x, m, v) - log_normal(x, n, w), x, m, v), (m, v, n, w)


def divergence_of(m: Expr, v: Expr, n: Expr, w: Expr) -> Expr:
    formula, symbols = divergence()
    return formula.subs(dict(zip(symbols, (m, v, n, w), strict=True)), simultaneous=True)


def evaluated(symbols: Sequence[Expr], expression: Expr, columns: Sequence[Sequence[float]]) -> Array:
    """An expression at many numbers, with 40 digits: only the last rounding, to float64, is left."""
    function = sp.lambdify(symbols, expression, "mpmath")
    with mp.workdps(40):
        rows = [function(*map(mp.mpf, row)) for row in zip(*columns, strict=True)]
    return np.array([float(row) for row in rows])


@dataclass(frozen=True)
class Steps:
    """Jumps from s to t of one schedule, and their numbers, with alpha as a product of the table of alpha_t."""

    schedule: NoiseSchedule
    t: Tensor
    s: Tensor

    @property
    def alpha(self) -> Array:
        table = self.schedule.alpha.numpy()
        return np.array([table[int(s) + 1 : int(t) + 1].prod() for t, s in zip(self.t, self.s, strict=True)])

    @property
    def alpha_bar_s(self) -> Array:
        return self.schedule.alpha_bar[self.s.long()].numpy()

    @property
    def tolerance(self) -> Array:
        """Relative. Coefficients hold 1 - x, as small as the least beta, for an x that is right to one EPS, and
        sqrt(alpha) from 1 minus such a difference: up to eight roundings, each of EPS before the cancellation.
        """
        return 8 * EPS / np.minimum(float(self.schedule.beta[1:].min()), self.alpha)

    def of(self, expression: Expr, **values: Array | float) -> Array:
        """An expression in alpha, alpha_bar_s and the named symbols, for each step: exact, whatever its form."""
        named = {"alpha": self.alpha, "alpha_bar_s": self.alpha_bar_s, **values}
        symbols = sorted(expression.free_symbols, key=str)
        columns = [np.broadcast_to(named[str(symbol)], self.alpha.shape).tolist() for symbol in symbols]
        return evaluated(symbols, expression, columns)

    def images(self, value: float) -> Tensor:
        return torch.full((len(self.t), 1, 1, 1), value, dtype=torch.float64)

    def agree(self, code: Tensor, exact: Array, absolute: float = 0.0) -> None:
        difference = np.abs(code.flatten().numpy() - exact)
        assert (difference <= self.tolerance * np.abs(exact) + absolute).all(), float(difference.max())


def _single_steps(schedule: NoiseSchedule, first: int) -> Steps:
    t = torch.arange(first, schedule.T + 1).double()
    return Steps(schedule, t, t - 1)


def _jumps(schedule: NoiseSchedule) -> Steps:
    """From every tenth of the way to every later tenth, and to the end."""
    T = schedule.T
    marks = sorted({0, 1, T, *(T * tenth // 10 for tenth in range(10))})
    pairs = [(t, s) for t in marks for s in marks if 0 < s < t - 1]
    columns = torch.tensor(pairs, dtype=torch.float64).reshape(-1, 2)
    return Steps(schedule, columns[:, 0], columns[:, 1])


def every(first: int, *, jumps: bool = True) -> Iterator[Steps]:
    """All steps t >= first of every schedule in four lengths, and jumps over many steps."""
    for make in SCHEDULES.values():
        for T in (1, 2, 50, 1000):
            schedule = make(T=T)
            steps = [_single_steps(schedule, first), *([_jumps(schedule)] if jumps else [])]
            yield from (part for part in steps if len(part.t))


def test_two_gaussians_merge_into_the_one_of_equation_2() -> None:
    """Noise of variance v_s, scaled by sqrt(alpha), and fresh noise: the integral over where x_s was."""
    v_s = sp.Symbol("v_s", positive=True)
    gained = sp.Symbol("beta", positive=True)
    joint = log_normal(x_t, sp.sqrt(alpha) * x_s, gained) + log_normal(x_s, sp.sqrt(alpha_bar_s) * x_0, v_s)
    merged = sp.integrate(sp.exp(sp.expand(joint)), (x_s, -sp.oo, sp.oo), conds="none")
    mean, variance = completed(sp.expand_log(sp.log(merged), force=True), x_t)
    assert sp.simplify(mean - sp.sqrt(alpha_bar_t) * x_0) == 0
    assert sp.simplify(variance - (alpha * v_s + gained)) == 0
    two_steps = sp.expand(variance.subs({v_s: 1 - alpha_bar_s, gained: 1 - alpha}))
    assert (
        two_steps == 1 - alpha_bar_t
    )  # (alpha_t - alpha_t alpha_{t-1}) + (1 - alpha_t), and by induction all of (2)

    for steps in every(1, jumps=False):
        before = q_marginal(steps.schedule, steps.images(1), steps.s)
        step = q_step(steps.schedule, before.mean, steps.t)
        after = q_marginal(steps.schedule, steps.images(1), steps.t)
        exact = steps.of(
            variance, v_s=before.variance.flatten().numpy(), beta=step.variance.flatten().numpy()
        )
        steps.agree(after.variance, exact)
        steps.agree(after.mean, steps.of(mean.subs(x_0, 1)))


def test_completing_the_square_of_bayes_rule_gives_the_posterior() -> None:
    mean, variance = posterior()
    assert vanishes(bayes() - log_normal(x_s, mean, variance))  # the constants too: both sides are densities

    for steps in every(1):
        of_x_t, of_x_0 = posterior_weights(steps.schedule, steps.t, steps.s)
        steps.agree(of_x_t, steps.of(sp.diff(mean, x_t)))
        steps.agree(of_x_0, steps.of(sp.diff(mean, x_0)))
        steps.agree(posterior_variance(steps.schedule, steps.t, steps.s), steps.of(variance))
        law = q_posterior(steps.schedule, steps.images(0.7), steps.images(0.2), steps.t, steps.s)
        steps.agree(law.mean, steps.of(mean, x_t=0.7, x_0=0.2))
        steps.agree(law.variance, steps.of(variance))


def test_eliminating_x_0_by_equation_2_gives_equation_8() -> None:
    mean = mean_from_eps()
    written = (x_t - (1 - alpha) / sp.sqrt(1 - alpha_bar_t) * eps) / sp.sqrt(alpha)
    assert sp.simplify(mean - written) == 0

    for steps in every(1):
        for a, b in ((1, 0), (0, 1)):  # the map is linear: unit inputs are its coefficients
            code = posterior_mean_from_eps(steps.schedule, steps.images(a), steps.images(b), steps.t, steps.s)
            steps.agree(code, steps.of(mean, x_t=a, eps=b))


def test_the_divergence_of_two_gaussians_is_its_integral() -> None:
    formula, symbols = divergence()
    m, v, n, w = symbols
    written = (v / w - 1 - sp.log(v / w) + (m - n) ** 2 / w) / 2
    assert sp.simplify(sp.expand_log(formula - written)) == 0

    for steps in every(2):
        law = q_posterior(steps.schedule, steps.images(0.7), steps.images(0.2), steps.t, steps.s)
        other = Gaussian(steps.images(0.4), step_variance(steps.schedule, steps.t, steps.s).view(-1, 1, 1, 1))
        numbers = [part.flatten().tolist() for part in (law.mean, law.variance, other.mean, other.variance)]
        exact = evaluated(
            symbols, formula, numbers
        )  # the code's ratio - 1 - log(ratio) cancels, to EPS of its parts
        assert np.allclose(law.kl(other).flatten().numpy(), exact, rtol=8 * EPS, atol=4 * EPS)


def test_the_first_and_the_middle_terms_of_equation_11_are_such_divergences() -> None:
    prior = divergence_of(sp.sqrt(alpha_bar_s) * x_0, 1 - alpha_bar_s, 0, 1)
    mean, variance = posterior()
    guess = sp.Symbol("guess", real=True)
    middle = divergence_of(mean, variance, mean.subs(x_0, guess), sigma_2)
    for steps in every(2, jumps=False):
        denoiser = Model(GaussianOracle(steps.schedule, 0.3, 0.2))
        last = Steps(steps.schedule, steps.t[-1:] + 0, steps.t[-1:])
        code = prior_term(steps.schedule, last.images(0.8))
        # v - 1 - log v cancels where hardly any signal is left, to EPS of its parts
        assert float(code) == pytest.approx(float(last.of(prior, x_0=0.8)[0]), rel=1e-12, abs=4 * EPS)

        x, image = steps.images(0.7), steps.images(0.2)
        prediction = denoiser.predict(x, steps.t)
        guesses = prediction.x_0.flatten().numpy()
        variances = denoiser.variance_of(prediction, steps.t, steps.s).flatten().numpy()
        exact = steps.of(middle, x_t=0.7, x_0=0.2, guess=guesses, sigma_2=variances)
        code = step_term(denoiser, prediction, x, image, steps.t)
        # the ratio of the variances is right to the tolerance, and cancels against 1 and its own logarithm
        steps.agree(code, exact, absolute=float(steps.tolerance.max()))


@pytest.mark.parametrize("T", [1, 2, 3, 4])
def test_the_regrouped_logarithms_are_the_log_ratio_of_the_paths(T: int) -> None:
    """log q(x_{1:T} | x_0) / p(x_{0:T}), regrouped as in (11), for any means and variances of p and at any point."""
    alphas = sp.symbols(f"alpha_1:{T + 1}", positive=True)
    xs = sp.symbols(f"x_0:{T + 1}", real=True)
    means = sp.symbols(f"mu_1:{T + 1}", real=True)
    variances = sp.symbols(f"sigma2_1:{T + 1}", positive=True)
    bars = [sp.prod(alphas[:t]) for t in range(T + 1)]
    steps = [
        log_normal(xs[t], sp.sqrt(alphas[t - 1]) * xs[t - 1], 1 - alphas[t - 1]) for t in range(1, T + 1)
    ]
    backs = [log_normal(xs[t - 1], means[t - 1], variances[t - 1]) for t in range(1, T + 1)]
    path = sum(steps) - log_normal(xs[T], 0, 1) - sum(backs)

    regrouped = log_normal(xs[T], sp.sqrt(bars[T]) * xs[0], 1 - bars[T]) - log_normal(xs[T], 0, 1) - backs[0]
    for t in range(2, T + 1):
        values = {alpha: alphas[t - 1], alpha_bar_s: bars[t - 1], x_t: xs[t], x_0: xs[0]}
        mean, variance = (part.subs(values, simultaneous=True) for part in posterior())
        regrouped += log_normal(xs[t - 1], mean, variance) - backs[t - 1]
    assert vanishes(path - regrouped)

    for make in SCHEDULES.values():
        schedule = make(T=T)
        points = [torch.full((1, 1, 1, 1), 0.9 - 0.35 * t, dtype=torch.float64) for t in range(T + 1)]
        times = [times_like(t, points[0]) for t in range(T + 1)]
        oracle = Model(GaussianOracle(schedule, 0.3, 0.2))
        laws = [
            p_given(oracle, oracle.predict(points[t], times[t]), points[t], times[t], times[t - 1])
            for t in range(1, T + 1)
        ]
        numbers = [
            *schedule.alpha[1:].tolist(),
            *(float(x) for x in points),
            *(float(law.mean) for law in laws),
            *(float(law.variance) for law in laws),
        ]
        symbols = [*alphas, *xs, *means, *variances]
        (exact,) = evaluated(symbols, path, [[number] for number in numbers])
        end, start = q_marginal(schedule, points[0], times[T]), torch.zeros_like(points[0])
        code = end.log_density(points[T]) - Gaussian(start, torch.ones_like(start)).log_density(points[T])
        for t in range(2, T + 1):
            law = q_posterior(schedule, points[t], points[0], times[t], times[t - 1])
            code = code + law.log_density(points[t - 1]) - laws[t - 1].log_density(points[t - 1])
        code = code - laws[0].log_density(points[0])
        assert float(code) == pytest.approx(exact, rel=1e-11)  # narrow laws: thousands of nats that cancel


def test_the_weight_of_equation_12_is_what_the_divergence_leaves() -> None:
    """KL(N(mu~, beta~) || N(mu_theta, sigma^2)) = weight (eps - eps_hat)^2 + C, with both means from (8)."""
    mean, beta_tilde = mean_from_eps(), posterior()[1]
    whole = divergence_of(mean, beta_tilde, mean.subs(eps, eps_hat), sigma_2)
    constant = sp.simplify(whole.subs(eps_hat, eps))
    weight = sp.simplify((whole - constant) / (eps - eps_hat) ** 2)
    assert not {eps, eps_hat, x_t} & (weight.free_symbols | constant.free_symbols)
    assert sp.simplify(weight - (1 - alpha) ** 2 / (2 * sigma_2 * alpha * (1 - alpha_bar_t))) == 0
    assert sp.simplify(constant.subs(sigma_2, beta_tilde)) == 0  # with fixed-small there is no C

    for steps in every(1, jumps=False):
        schedule, t, s = steps.schedule, steps.t, steps.s
        for variance in (step_variance(schedule, t, s), steps.images(0.01)):
            exact = steps.of(weight, sigma_2=variance.flatten().numpy())
            steps.agree(eps_weight(schedule, variance, t), exact)
    for steps in every(2, jumps=False):
        _compare_a_step_with(steps, weight, constant, "fixed-large")
        _compare_a_step_with(steps, weight, constant, "fixed-small")


def _compare_a_step_with(steps: Steps, weight: Expr, constant: Expr, variance: str) -> None:
    """L_{t-1} of the code for an eps that is wrong by 0.8 beside weight 0.8^2 + C."""
    schedule = steps.schedule
    denoiser = Model(GaussianOracle(schedule), variance=variance)
    image, noise = steps.images(0.4), steps.images(-0.5)
    x = q_marginal(schedule, image, steps.t).reparametrize(noise)
    wrong = noise + 0.8
    guess = Prediction(x_0_from_eps(wrong, x, *schedule.at(steps.t)), wrong)
    sigma = denoiser.variance_of(guess, steps.t, steps.s).flatten().numpy()
    exact = steps.of(weight, sigma_2=sigma) * 0.8**2 + steps.of(constant, sigma_2=sigma)
    steps.agree(step_term(denoiser, guess, x, image, steps.t), exact, absolute=float(steps.tolerance.max()))


def test_the_best_variance_is_where_the_derivative_vanishes() -> None:
    """beta~ + w^2 E|x_0 - x_0_hat|^2; for data of unit variance this is beta, and for a single point beta~."""
    mean, beta_tilde = posterior()
    guess, error = sp.Symbol("guess", real=True), sp.Symbol("error", positive=True)
    squared = sp.simplify((mean - mean.subs(x_0, guess)) ** 2 / (x_0 - guess) ** 2) * error  # averaged
    averaged = (beta_tilde / sigma_2 - 1 - sp.log(beta_tilde / sigma_2) + squared / sigma_2) / 2
    (best,) = sp.solve(sp.diff(averaged, sigma_2), sigma_2)
    assert sp.simplify(best.subs(error, 1 - alpha_bar_t) - (1 - alpha)) == 0
    assert sp.simplify(sp.limit(best, error, 0) - beta_tilde) == 0

    for steps in every(1):
        errors = 1 - steps.schedule.alpha_bar
        code = Analytic(errors).of(
            steps.schedule, steps.t, steps.s, "beta~_2", Prediction(steps.images(0), steps.images(0))
        )
        at_t = errors[steps.t.long()].numpy()
        steps.agree(code, steps.of(best, error=at_t))
        steps.agree(code, step_variance(steps.schedule, steps.t, steps.s).numpy())
