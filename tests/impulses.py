"""The law of a method's samples where they are an affine function of its noise, without sampling: as of Gaussians."""

from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.model import as_model
from kakusan.posterior import Measurement, Method


@dataclass
class Impulses:
    """Noise that is 0 in the first row, and in each other row 1 at one place of one draw."""

    rows: int
    shape: tuple[int, ...]
    given: dict[tuple[int, int], int] = field(default_factory=dict)

    def start(self) -> Tensor:
        return self.draw(-1)

    def draw(self, step: int, k: int = 0) -> Tensor:
        first = self.given.setdefault((step, k), 1 + len(self.given) * prod(self.shape))
        noise = torch.zeros(self.rows, prod(self.shape), dtype=torch.float64)
        noise[first : first + prod(self.shape)] = torch.eye(prod(self.shape), dtype=torch.float64)
        return noise.view(self.rows, *self.shape)


def law(denoiser: Denoiser, measurement: Measurement, method: Method, draws: int) -> tuple[Tensor, Tensor]:
    """Mean and covariance of its samples. draws: at least as many as it takes."""
    noise = Impulses(1 + draws * prod(measurement.shape), measurement.shape)
    every = measurement.rows(torch.zeros(noise.rows, dtype=torch.long))
    *_, last = method.trajectory(as_model(denoiser), every, noise)
    assert len(noise.given) <= draws
    mean, *others = last.x.flatten(1)
    ways = torch.stack(others) - mean
    return mean, ways.T @ ways
