"""The losses that a training logs on its way: alike for both splits, with an honest error."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import kakusan as kk
from kakusan.data import DATASETS, Dataset, Split, split
from kakusan.data.units import Real
from kakusan.diffusion.denoiser import NetworkDenoiser
from kakusan.diffusion.model import Model
from kakusan.diffusion.oracles import GaussianOracle
from kakusan.diffusion.schedules import Cosine, Linear
from kakusan.shapes import Condition, Samples, Times
from kakusan.training import validation
from kakusan.training.losses import Loss, NetworkModel, Simple
from kakusan.training.tables import LOSSES
from kakusan.training.validation import compared, stationary

pytestmark = pytest.mark.usefixtures("full_counts")
CPU = torch.device("cpu")
DIGITS = DATASETS["digits"].load()


def silent(x_t: Tensor, *_: object) -> Tensor:
    return torch.zeros_like(x_t)


def denoiser(predicts: str = "eps", variance: str = "fixed-large") -> NetworkModel:
    return Model(NetworkDenoiser(silent, Linear(T=200), predicts), variance)


class Recorded(Loss):
    """Notes what it is asked about; the loss is the image's brightness, doubled at late times."""

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def per_image(
        self,
        model: NetworkModel,
        x_0: Samples,
        t: Times,
        noise: Samples,
        condition: Condition | None = None,  # noqa: ARG002
    ) -> Tensor:
        self.seen.append((x_0, t, noise))
        return x_0.flatten(1).mean(1) * (1 + (t.float() > model.path.T / 2))


@pytest.mark.parametrize(("held_out", "count"), [(4, 4), (180, 180), (700, 512)])
def test_both_splits_are_measured_on_as_many_images_at_the_same_times_with_the_same_noise(
    held_out: int, count: int
) -> None:
    loss = Recorded()
    figures = compared(denoiser(), loss, DIGITS, split(len(DIGITS), held_out, 0), CPU).figures
    assert figures["compared_images"] == count
    calls = (
        len(loss.seen) // 3
    )  # the training images, the held-out ones, and the former again for the baseline
    x_0, t, noise = (torch.cat(column) for column in zip(*loss.seen[: 2 * calls], strict=True))
    half = len(t) // 2
    assert half == max(count, -(-128 // count) * count)
    assert torch.equal(t[:half], t[half:])
    assert torch.equal(noise[:half], noise[half:])
    assert not torch.equal(x_0[:half], x_0[half:])
    assert len(set(t.tolist())) > 60  # of 200: spread, however few the images


def test_the_error_of_the_gap_is_that_of_the_pairs() -> None:
    parts = split(len(DIGITS), 180, 0)
    loss = Recorded()
    figures = compared(denoiser(), loss, DIGITS, parts, CPU).figures
    times = torch.cat([t for _, t, _ in loss.seen])[:180]
    weight = 1 + (times > 100).double()
    shown = parts.training[np.linspace(0, len(parts.training) - 1, 180).astype(int)]
    brightness = [DIGITS.x_0(part).flatten(1).mean(1) * weight for part in (parts.held_out, shown)]
    gaps = brightness[0] - brightness[1]
    assert figures["held_out_loss"] - figures["training_loss"] == pytest.approx(float(gaps.mean()), rel=1e-5)
    assert figures["gap_standard_error"] == pytest.approx(float(gaps.std()) / 180**0.5, rel=1e-5)


def test_the_stated_error_is_that_of_chance() -> None:
    """Of many halves of digits that a network cannot tell apart: the gaps spread as the standard errors say."""
    network = denoiser("x_0")
    found = [
        compared(network, Simple(), DIGITS, Split(order[:150], order[150:300]), CPU).figures
        for order in (np.random.default_rng(seed).permutation(1797) for seed in range(60))
    ]
    gaps = np.array([each["held_out_loss"] - each["training_loss"] for each in found])
    stated = np.array([each["gap_standard_error"] for each in found])
    assert gaps.std() / stated.mean() == pytest.approx(1, abs=0.28)  # 3 deviations of a deviation from 60


def test_without_held_out_images_there_is_the_training_loss_alone_and_of_one_no_error() -> None:
    everything = compared(denoiser(), Simple(), DIGITS, split(len(DIGITS), 0, 0), CPU).figures
    assert set(everything) == {"training_loss", "baseline_loss", "compared_images"}
    one = compared(denoiser(), Simple(), DIGITS, split(len(DIGITS), 1, 0), CPU).figures
    assert "gap_standard_error" not in one
    assert one["compared_images"] == 1


@pytest.mark.parametrize("predicts", ["eps", "v", "x_0"])
@pytest.mark.parametrize("schedule", [Linear(T=50), Cosine(T=50)])
def test_the_baseline_is_the_exact_denoiser_of_a_stationary_gaussian(
    predicts: str, schedule: kk.NoiseSchedule
) -> None:
    rough = torch.randn(4000, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x_0 = 0.3 + rough + 0.8 * rough.roll(1, 2) + 0.5 * rough.roll(1, 3)  # neighbours on a torus
    known = stationary(Model(NetworkDenoiser(silent, schedule, predicts)), x_0.float())
    power = torch.fft.fft2(x_0 - x_0.mean(), norm="ortho").abs().square().mean(0)
    lags = torch.fft.ifft2(power).real[0]  # the covariance of two pixels, by their distance
    places = torch.arange(16)
    apart = [(places[:, None] // 4 - places // 4) % 4, (places[:, None] % 4 - places % 4) % 4]
    exact = GaussianOracle(schedule, float(x_0.mean()), lags[apart[0], apart[1]])
    t = torch.arange(1, 41, dtype=torch.float64)
    x_t = torch.randn(40, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(known.predict(x_t, t).x_0, exact.predict(x_t, t).x_0.float(), atol=2e-4)


def test_no_network_beats_the_baseline_on_white_noise_and_every_one_does_on_digits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On images of independent values it is the best there is; predicting 0 for eps costs 1."""
    white = np.random.default_rng(0).normal(size=(600, 6, 6, 1)).astype(np.float32)
    data = Dataset("white", white, Real((0.0,), (1.0,)), None, (), (), "here")
    monkeypatch.setattr(validation, "FEWEST_PAIRS", 2000)
    figures = compared(denoiser(), Simple(), data, split(600, 300, 0), CPU).figures
    assert figures["training_loss"] == pytest.approx(1, abs=0.02)
    expected = float((Linear(T=200).alpha_bar[1:]).mean())  # of unit variance: alpha_bar_t at each t
    assert figures["baseline_loss"] == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if loss.is_of_means])
def test_every_loss_has_a_baseline(name: str) -> None:
    variance = "learned" if name == "hybrid" else "fixed-large"

    def two_words(x_t: Tensor, *_: object) -> Tensor:
        return torch.zeros_like(torch.cat([x_t, x_t], 1))

    network = replace(denoiser("v"), variance=variance, levels=17)
    if variance == "learned":
        network = replace(network, denoiser=replace(network.denoiser, network=two_words))
    figures = compared(network, LOSSES[name], DIGITS, split(len(DIGITS), 20, 0), CPU).figures
    assert 0 < figures["baseline_loss"] < figures["training_loss"]
