"""What a network's word means."""

from dataclasses import replace

import pytest
import torch

import kakusan as kk
from kakusan.diffusion.likelihood import variational_bound
from kakusan.diffusion.prediction import Prediction
from kakusan.diffusion.variances import Analytic, FixedSmall
from kakusan.shapes import Condition
from kakusan.training.timesteps import UNIFORM_SHARE

X_T = torch.zeros(2, 1, 2, 2)
T_2 = torch.tensor([3.0, 7.0], dtype=torch.float64)

GUESS = Prediction(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
"""Of which only the rank is asked."""


def says(*words: float) -> kk.Model[kk.NetworkDenoiser]:
    """A network that always says these words, one a channel."""
    out = torch.tensor(words).view(1, -1, 1, 1)

    def network(x_t: torch.Tensor, *_: object) -> torch.Tensor:
        return out.expand(len(x_t), -1, 2, 2)

    variance = "learned" if len(words) > 1 else "fixed-large"
    return kk.Model(kk.NetworkDenoiser(network, kk.Linear(T=10), "x_0"), variance)


def test_the_second_word_goes_from_minus_1_the_smallest_to_1_the_largest_variance() -> None:
    """(v + 1) / 2, as Nichol & Dhariwal's code and files have it."""
    for v, fraction in ((-1.0, 0.0), (0.0, 0.5), (1.0, 1.0)):
        guess = says(0.3, v).predict(X_T, T_2)
        assert guess.fraction is not None
        assert set(guess.fraction.flatten().tolist()) == {fraction}
        assert torch.equal(guess.x_0, torch.full((2, 1, 2, 2), 0.3))


def test_a_denoiser_of_ones_own_needs_a_path_and_predict_alone() -> None:
    class Mine(kk.Denoiser):
        def __init__(self) -> None:
            self.path = kk.Linear(T=10)
            self.known = kk.oracles.GaussianOracle(self.path, mean=0.3, covariance=0.25)

        def predict(
            self, x_t: torch.Tensor, t: torch.Tensor, condition: Condition | None = None
        ) -> kk.Prediction:
            return self.known.predict(x_t, t, condition)

    mine = Mine()
    for sampler in (kk.Ancestral(), kk.DDIM(steps=5)):
        ours, known = (kk.sample(d, sampler, count=2, shape=(1, 2, 2)) for d in (mine, mine.known))
        assert ours.equal(known)
    x_0 = mine.known.sample(4)
    assert variational_bound(mine, x_0).total.equal(variational_bound(mine.known, x_0).total)


def test_a_network_for_other_channels_says_so() -> None:
    network = kk.PointMLP(channels=2)
    with pytest.raises(ValueError, match="for samples of 2 channels, and these have 1"):
        kk.NetworkDenoiser(network, kk.Linear(T=10)).predict(torch.zeros(2, 1, 1, 1), T_2)


def test_a_network_of_three_words_is_refused() -> None:
    with pytest.raises(ValueError, match="3 channels for 1"):
        says(0.1, 0.2, 0.3).predict(X_T, T_2)


def test_zero_terminal_snr_is_algorithm_1_of_lin_et_al() -> None:
    """sqrt(alpha_bar) shifted to end at 0, then scaled to begin as before."""
    plain = kk.Linear(T=5, beta_1=0.1, beta_T=0.5)
    root = plain.alpha_bar[1:].sqrt()
    expected = ((root - root[-1]) * root[0] / (root[0] - root[-1])).square()
    assert torch.allclose(kk.ZeroTerminalSNR(of=plain).alpha_bar[1:], expected, rtol=0, atol=1e-15)
    assert kk.ZeroTerminalSNR(of=plain).T == 5


def test_the_analytic_error_lies_between_those_of_whole_times() -> None:
    schedule = kk.Linear(T=3)
    between = Analytic(torch.tensor([0.0, 0.1, 0.2, 0.6], dtype=torch.float64))
    t, s = torch.tensor([2.25], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)
    flat = Analytic(torch.full((4,), 0.3, dtype=torch.float64))  # 0.2 + 0.25 x 0.4
    assert torch.allclose(
        between.of(schedule, t, s, "beta~_2", GUESS), flat.of(schedule, t, s, "beta~_2", GUESS)
    )


@pytest.mark.parametrize("levels", [None, 2, 3])
def test_the_bound_with_errors_of_0_is_a_number_or_infinite_never_nan(levels: int | None) -> None:
    sure = replace(says(0.0), variance=Analytic(torch.zeros(11, dtype=torch.float64)), levels=levels)
    x_0 = torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    bound = variational_bound(sure, x_0)
    assert not bound.total.isnan().any()
    assert (bound.total > (20 if levels == 2 else 1e3)).all()  # sure, and wrong
    right = variational_bound(sure, torch.zeros(2, 1, 2, 2)) if levels in (None, 3) else bound
    assert right.total.isfinite().all()


def test_a_long_last_step_has_the_variance_of_the_step_as_long_before_it() -> None:
    schedule, zero = kk.Linear(T=10), torch.zeros(1, dtype=torch.float64)
    t = torch.tensor([3.0], dtype=torch.float64)
    image = torch.zeros(1, 1, 1, 1)
    before = kk.q_posterior(schedule, image, image, 2 * t, t).variance
    assert torch.equal(FixedSmall().of(schedule, t, zero, "beta~_2", GUESS), before)


def test_one_draw_of_t_in_a_thousand_is_uniform() -> None:
    assert UNIFORM_SHARE == 0.001


def test_what_does_not_fit_the_images_is_refused_by_the_bound() -> None:
    denoiser, x_0 = says(0.1), torch.zeros(2, 1, 2, 2)
    with pytest.raises(ValueError, match="1 numbers do not fit 2 images"):
        variational_bound(denoiser, x_0, numbers=[0])
    with pytest.raises(ValueError, match="condition"):
        variational_bound(denoiser, x_0, condition=Condition(label=torch.zeros(3, dtype=torch.int64)))
    with pytest.raises(ValueError, match="floats"):
        variational_bound(denoiser, x_0.long())
    assert not variational_bound(denoiser, x_0.requires_grad_()).total.requires_grad


def test_no_beta_is_1_but_the_last() -> None:
    with pytest.raises(kk.SettingsError, match="at T alone"):
        kk.Linear(T=3, beta_1=1.0, beta_T=0.5)
