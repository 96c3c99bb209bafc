"""The network for points: its size, and that it learns a law whose best answer is known."""

import math
from typing import Any

import pytest
import torch

from kakusan.errors import SettingsError
from kakusan.networks import PointMLP


def test_it_has_132_738_parameters() -> None:
    assert sum(parameter.numel() for parameter in PointMLP().parameters()) == 132_738


def test_it_learns_the_noise_in_two_points() -> None:
    """Of the data (1, 1) and (-1, -1), E[x_0 | x_t] is tanh(sqrt(a) sum(x_t) / (1 - a)) in both coordinates."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    network = PointMLP(width=64, depth=2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, fused=True)

    def draw(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        time = torch.randint(1000, (count,), generator=generator).float()
        a = torch.cos((time + 1) / 1002 * math.pi / 2)[:, None] ** 2
        x_0 = torch.sign(torch.randn(count, 1, generator=generator)).expand(count, 2)
        eps = torch.randn(count, 2, generator=generator)
        x_t = a.sqrt() * x_0 + (1 - a).sqrt() * eps
        best = (x_t - a.sqrt() * torch.tanh(a.sqrt() * x_t.sum(1, keepdim=True) / (1 - a))) / (1 - a).sqrt()
        return x_t[:, :, None, None], time, torch.stack((eps, best))

    for step in range(400):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1 - step / 400)
        x_t, time, (eps, _) = draw(512)
        optimizer.zero_grad()
        (network(x_t, time)[:, :, 0, 0] - eps).square().mean().backward()
        optimizer.step()
    x_t, time, (eps, best) = draw(4096)
    with torch.no_grad():
        error = (network(x_t, time)[:, :, 0, 0] - best).square().mean()
    assert error < 0.05 * best.square().mean()


@pytest.mark.parametrize("changes", [{"width": 3}, {"depth": 0}, {"channels": 0}, {"classes": -1}], ids=str)
def test_a_network_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        PointMLP(**changes)
