"""A trained network beside the enumerated posterior: one that knows a few images by heart is their finite set."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import kakusan as kk
from kakusan.diffusion.oracles import FiniteSetOracle
from kakusan.networks import PointMLP
from kakusan.operators import Mask
from kakusan.posterior import SMC, Gibbs, Measurement, Method, Restoration, posterior, restore

SHAPE = (1, 5, 5)
PATTERNS = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (6, 5, 5, 1))
"""Six images of 25 pixels, black or white by chance."""
SIGMA, COUNT = 2.0, 400
MOST = 0.12
"""Total variation of the shares of 400 samples."""
SETTINGS: dict[str, Any] = {
    "data.held_out": 0,
    "process.schedule": "cosine",
    "process.T": 200,
    "process.predicts": "x_0",
    "training.loss": "velocity",
    "training.batch_size": 128,
    "training.learning_rate": 5e-3,
    "machine.threads": 1,
    "machine.device": "cpu",
    "samples.count": 2,
    "samples.steps": 2,
}


class Flat(nn.Module):
    """The network for points, with the values of an image as one point."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = PointMLP(channels=25)

    def forward(self, x_t: Tensor, time: Tensor, condition: kk.Condition | None = None) -> Tensor:  # noqa: ARG002
        out: Tensor = self.mlp(x_t.flatten(1), time).view_as(x_t)
        return out


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> kk.Run:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Flat()
    folder = tmp_path_factory.mktemp("memorized") / "run"
    many = np.tile(PATTERNS, (100, 1, 1, 1))  # an epoch of more than a batch
    return kk.train(many, network=network, steps=600, settings=SETTINGS, run=folder, progress=False)


@pytest.mark.parametrize(
    "method", [SMC(particles=16, steps=25), Gibbs(particles=8, iterations=20)], ids=["smc", "gibbs"]
)
def test_samples_of_a_network_fall_to_training_images_as_often_as_the_posterior_says(
    run: kk.Run, method: Method
) -> None:
    """Two of five rows, measured with much noise, leave six images with shares of 0.005 to 0.6. 400 exact draws from
    these are 0.035 off in the mean, and below 0.09 in 999 of 1,000 cases; the rest is the bias of few particles. Off by
    more: samples that know nothing of y (0.43), and `mmps` (0.16 to 0.2)."""
    images = torch.from_numpy(PATTERNS).double().permute(0, 3, 1, 2) / 127.5 - 1
    known = (torch.arange(25) < 10).view(SHAPE)
    noise = np.random.Generator(np.random.Philox(3)).standard_normal((1, *SHAPE))
    y = images[:1] + SIGMA * torch.from_numpy(noise)
    measurement = Measurement(Mask(known), y, SIGMA, SHAPE)
    model = run.model()
    weights = posterior(FiniteSetOracle(model.path, images), measurement).weights
    x = restore(model, measurement, method, Restoration(count=COUNT, micro_batch=4096))[0].double()
    away, nearest = torch.cdist(x.flatten(1), images.flatten(1)).min(1)
    assert away.mean() < 0.1  # two images are at least 5.6 apart
    shares = torch.bincount(nearest, minlength=len(images)) / COUNT
    assert (shares - weights).abs().sum() / 2 < MOST, (shares, weights)
