"""Particles of samples: their weights, and the noise of each."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kakusan.samplers.walk import NoiseSource
from kakusan.shapes import Samples


@dataclass(frozen=True)
class ParticleNoise:
    """The noise of so many particles of each sample, one after the other. One alone has the noise of the sample."""

    of: NoiseSource
    particles: int

    def start(self) -> Samples:
        first = self.of.start()
        if self.particles == 1:
            return first
        others = [self.of.draw(particle) for particle in range(1, self.particles)]
        return torch.stack([first, *others], dim=1).flatten(0, 1)

    def draw(self, step: int, k: int = 0) -> Samples:
        begin = (step + 1) * self.particles  # those before are of the start
        draws = [self.of.draw(begin + particle, k) for particle in range(self.particles)]
        return torch.stack(draws, dim=1).flatten(0, 1)


class Weights:
    """Logarithms of the weights of particles, (samples, particles), and the smallest effective number so far."""

    def __init__(self, nats: Tensor) -> None:
        self.nats = nats
        self.smallest = self.effective

    @property
    def shares(self) -> Tensor:
        return self.nats.softmax(1)

    @property
    def effective(self) -> Tensor:
        """1 / sum of the squared shares (Kong, Liu & Wong 1994)."""
        return 1 / self.shares.square().sum(1)

    def gain(self, nats: Tensor) -> None:
        self.nats = self.nats + nats
        self.smallest = torch.minimum(self.smallest, self.effective)

    def resampled(self, luck: Tensor) -> Tensor:
        """Rows of the particles that go on: where fewer than half are effective, drawn anew, systematically."""
        n, K = self.nats.shape
        places = (torch.arange(K, device=luck.device) + luck[:, None]) / K
        edges = self.shares.cumsum(1)
        drawn = torch.searchsorted(edges / edges[:, -1:], places).clamp(max=K - 1)
        poor = self.effective < K / 2
        chosen = torch.where(poor[:, None], drawn, torch.arange(K, device=luck.device))
        self.nats = torch.where(poor[:, None], 0.0, self.nats)
        return (chosen + K * torch.arange(n, device=luck.device)[:, None]).flatten()

    def one(self, luck: Tensor) -> Tensor:
        """The row of one particle of each sample, drawn by weight."""
        n, K = self.nats.shape
        edges = self.shares.cumsum(1)
        drawn = torch.searchsorted(edges / edges[:, -1:], luck[:, None]).clamp(max=K - 1)
        return drawn[:, 0] + K * torch.arange(n, device=luck.device)
