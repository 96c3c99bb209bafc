"""The numbers of a moment are those of the functions that are named beside them, and both sides of identities agree."""

import math

import numpy as np
import pytest
import torch

from kakusan.diffusion.forward import posterior_variance, q_marginal, q_step
from kakusan.diffusion.likelihood import BITS, pair_terms, variational_bound
from kakusan.diffusion.model import Model, p_step
from kakusan.diffusion.oracles import GaussianOracle
from kakusan.diffusion.schedules import Linear
from kakusan.diffusion.tables import SCHEDULES
from kakusan.pages.explain.gaussian_case import evidence_law, exact_bound, gaussian_case
from kakusan.pages.explain.moment import Moment
from kakusan.pages.explain.subject import Subject, bundled
from kakusan.samplers import Ancestral, State
from kakusan.shapes import times_like
from kakusan.training.losses import eps_weight

TIMES = (2, 17, 50)


@pytest.fixture(params=TIMES)
def moment(request: pytest.FixtureRequest, subject: Subject) -> Moment:
    return Moment(subject.model, subject.schedule, subject.x_0, request.param)


def there(moment: Moment) -> dict[str, float]:
    """The numbers that there are at this t."""
    return {name: value for name, value in moment.numbers().items() if value is not None}


def test_both_sides_of_each_identity_agree(moment: Moment) -> None:
    numbers = there(moment)
    assert numbers["jump_gap"] < 1e-13  # float64; (2) at t = 2 divides by 1 - alpha_bar
    assert numbers["mean_gap"] < 1e-12
    assert numbers["step_gap"] < 1e-12
    assert numbers["bayes_gap"] < 1e-8 * abs(numbers["log_posterior"])
    assert numbers["weight_gap"] < 1e-12 * max(1.0, numbers["term"])


def test_the_numbers_are_those_of_the_functions_named_beside_them(moment: Moment) -> None:
    numbers, schedule = there(moment), moment.schedule
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    t = times_like(moment.t, one)
    step, jump = q_step(schedule, one, t), q_marginal(schedule, one, t)
    assert numbers["root_alpha"] == float(step.mean)
    assert numbers["beta"] == float(step.variance) == float(schedule.beta[moment.t])
    assert numbers["root_alpha_bar"] == float(jump.mean)
    assert numbers["noise"] == float(jump.variance)
    assert numbers["old_noise"] + numbers["beta"] == pytest.approx(numbers["noise"], rel=1e-13)
    assert numbers["beta_tilde"] == float(posterior_variance(schedule, t, t - 1))
    variance = moment.model.variance_of(moment.guess, moment.at, moment.before)
    assert numbers["sigma2"] == float(variance)
    assert numbers["weight"] == float(eps_weight(schedule, variance, moment.at)) * BITS


def test_pictures_and_steps_are_those_of_the_denoiser_itself(moment: Moment) -> None:
    """The guess is asked once, in float32 as the images are, and then used in float64."""
    denoiser, x_t = moment.model, moment.x_t
    own = p_step(denoiser, x_t, moment.at, moment.before)
    assert torch.allclose(moment.pictures()["mean_hat"], own.mean, atol=1e-6)
    drawn = Ancestral().step(
        denoiser, State(x_t), moment.at, moment.before, lambda _=0: moment.pictures()["fresh"]
    )
    assert torch.allclose(moment.pictures()["stepped"], drawn.x, atol=1e-6)
    term, error = pair_terms(denoiser, moment.truth, moment.at, moment.eps)
    assert moment.numbers()["term"] == pytest.approx(float(term), rel=1e-4, abs=1e-12)
    assert moment.numbers()["guess_error"] == pytest.approx(math.sqrt(float(error)), rel=1e-4, abs=1e-7)


def test_the_last_step_has_no_fresh_noise_and_no_posterior_density(subject: Subject) -> None:
    moment = Moment(subject.model, subject.schedule, subject.x_0, 1)
    numbers = there(moment)
    assert moment.pictures()["x_prev"].equal(moment.truth)
    assert float(moment.pictures()["fresh"].abs().max()) == 0
    assert numbers["sigma_z"] == 0
    assert "log_posterior" not in numbers
    assert numbers["step_gap"] < 1e-12


def test_the_noise_is_the_same_at_every_t(subject: Subject) -> None:
    early, late = (Moment(subject.model, subject.schedule, subject.x_0, t).noise(2) for t in (5, 45))
    assert early.equal(late)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("T", [1, 2, 30])
def test_the_bound_is_above_the_evidence_and_the_evidence_above_the_entropy(name: str, T: int) -> None:
    x_0 = torch.tensor([-1.0, -1, 0.5, 1]).view(1, 1, 2, 2)
    case = gaussian_case(SCHEDULES[name](T=T), x_0, place=3)
    assert case.pixel == 1
    assert case.evidence <= case.bound
    assert case.entropy - 1e-12 <= case.cross_entropy <= case.mean_bound


def test_the_evidence_of_one_step_is_known() -> None:
    """T = 1: x_0 = slope x_1 + offset + sigma z with x_1 ~ N(0, 1)."""
    oracle = Model(GaussianOracle(Linear(T=1), 0.3, 0.25))
    one, t = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    at_0, at_1 = p_step(oracle, 0 * one, t, t - 1), p_step(oracle, one, t, t - 1)
    law = evidence_law(oracle)
    assert float(law.mean) == pytest.approx(float(at_0.mean))
    assert float(law.variance) == pytest.approx(float((at_1.mean - at_0.mean).square() + at_0.variance))


def test_many_steps_bring_the_model_to_the_law_of_the_data() -> None:
    law = evidence_law(Model(GaussianOracle(Linear(T=1000), 0.3, 0.25)))
    assert float(law.mean) == pytest.approx(0.3, abs=1e-3)
    assert float(law.variance) == pytest.approx(0.25, rel=0.01)


def test_two_points_stand_for_all_noise() -> None:
    """The exact bound is the mean of the sampled ones: 1,500 pixels of one value, within four standard errors."""
    oracle = Model(GaussianOracle(Linear(T=10), -0.2, 0.5))
    pixel = torch.full((1500, 1, 1, 1), 0.7, dtype=torch.float64)
    sampled = variational_bound(oracle, pixel)
    exact = exact_bound(oracle, torch.tensor([0.7], dtype=torch.float64))
    assert abs(exact - sampled.mean) < 4 * sampled.mean_standard_error


def test_with_small_steps_the_exact_denoiser_needs_hardly_more_bits_than_naming_the_image() -> None:
    """log2 1797 / 64 = 0.169 bits for each pixel; eight images with one draw a term leave an error of some percent."""
    exact = bundled("digits")
    assert exact.known is not None
    images = exact.known.x_0(np.arange(0, 1600, 200))
    naming = math.log2(len(exact.known)) / 64
    assert variational_bound(exact.model, images).mean == pytest.approx(naming, rel=0.2)
